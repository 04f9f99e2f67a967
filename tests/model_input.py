"""Judge one inbound record by the contract's words, with Python's own json: the reference's first half.

Slow on purpose, and nothing of it is shared with the decoder under test but the structs, which know the limits of each
field.
"""

import json
import unicodedata
from typing import Any, NamedTuple, NoReturn

import msgspec

from schemas.inbound import MAX_RECORD_BYTES
from schemas.registry import INBOUND

JSON_SPACE = b" \t\n\r"
NO_CONTROLS = ("tenant_id", "session_id", "user_id")
LONGEST_NUMBER = 300
"""Digits of an integer that a double still holds; a longer one is a valid JSON number that fits no field."""


class Event(NamedTuple):
    """What windows and scores need of an accepted event. ``poll_id`` is empty where the type has none."""

    ts: int
    event_id: str
    kind: str
    tenant_id: str
    session_id: str
    user_id: str
    poll_id: str = ""

    @property
    def windowed(self) -> bool:
        """Whether the event opens and extends a session."""
        return self.kind not in ("chat.answer", "handoff.resolved") and not self.kind.startswith("intervention.")

    @property
    def is_act(self) -> bool:
        """Whether the event is one of a user's acts."""
        return self.kind in ("chat.message", "poll.vote", "reaction") or self.kind.startswith("telemetry.")


class Unusable(NamedTuple):
    """Why a record can't be used, and the field at fault (empty: the whole record).

    ``either_way`` marks what JSON parsers do not agree on (lone surrogates, nesting beyond the parser's stack): the
    record is dead, but it may be called malformed as well as invalid.
    """

    reason: str
    field: str = ""
    either_way: bool = False


class _Number:
    """A JSON number beyond every Python type's range: no field takes it, an unknown field may hold it."""


def judge(raw: bytes | None) -> Event | Unusable:
    """Return the record's event, or why it is unusable: the first reason that holds, in the contract's order.

    >>> judge(b'{"type": "nonsense"}')
    Unusable(reason='unknown_type', field='type', either_way=False)
    """
    if raw is None or not raw.strip(JSON_SPACE):
        return Unusable("empty")
    if len(raw) > MAX_RECORD_BYTES:
        return Unusable("too_large")
    try:
        value = _parse(raw.decode("utf-8"))
        lone_surrogate = _has_lone_surrogate(value)
    except RecursionError:
        return Unusable("malformed_json", either_way=True)
    except ValueError:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        return Unusable("malformed_json")
    if not isinstance(value, dict):
        return Unusable("not_an_object")
    return Unusable("malformed_json", either_way=True) if lone_surrogate else _judge_object(value)


def _judge_object(value: dict[str, Any]) -> Event | Unusable:
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in INBOUND:
        return Unusable("unknown_type", "type")
    try:
        msgspec.convert(value, INBOUND[kind].struct)
    except msgspec.ValidationError as error:
        return Unusable("invalid_field", _field_of(str(error)))
    for name in NO_CONTROLS:
        if any(unicodedata.category(character) == "Cc" for character in value[name]):
            return Unusable("invalid_field", name)
    return Event(
        value["ts"],
        value["event_id"],
        kind,
        value["tenant_id"],
        value["session_id"],
        value["user_id"],
        value["poll_id"] if kind.startswith("poll.") else "",
    )


def _parse(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse, parse_float=_float, parse_int=_int)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _float(text: str) -> float | _Number:
    number = float(text)
    return _Number() if abs(number) == float("inf") else number


def _int(text: str) -> int | _Number:
    return int(text) if len(text) <= LONGEST_NUMBER else _Number()


def _has_lone_surrogate(value: Any) -> bool:
    if isinstance(value, str):
        return any(0xD800 <= ord(character) <= 0xDFFF for character in value)
    if isinstance(value, dict):
        return any(_has_lone_surrogate(key) or _has_lone_surrogate(entry) for key, entry in value.items())
    return isinstance(value, list) and any(map(_has_lone_surrogate, value))


def _field_of(message: str) -> str:
    """Return the field that msgspec's message names.

    >>> _field_of("Expected `int`, got `str` - at `$.ts`"), _field_of("Object missing required field `user_id`")
    ('ts', 'user_id')
    """
    if " - at `$." in message:
        path = message.split(" - at `$.")[1].rstrip("`")
        if not message.startswith("Object missing required field"):
            return path
        return path + "." + message.split("`")[1]
    return message.split("`")[1] if message.startswith("Object missing required field") else ""
