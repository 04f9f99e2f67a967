"""Dead letters on their way back: which can go, where to, and what will become of them.

Pure planning: reading them and producing them is the command's part.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from schemas.inbound import MAX_RECORD_BYTES
from schemas.outbound import DeadLetter
from schemas.registry import INBOUND, OUTBOUND

WILL_RETURN = {
    "late": "late again: its time has passed; a replay of the log with a higher window.lateness_s takes it in",
    "early": "early again, unless its ts has come by now",
}
"""Reasons that putting back does not mend."""


class _Typed(msgspec.Struct):
    """What is read of a payload to find its topic."""

    type: str = ""


@dataclass(frozen=True, slots=True)
class Return:
    """A dead letter that can be put back: its ``payload`` goes to ``topic`` under ``key``."""

    letter: DeadLetter
    topic: str
    key: bytes | None
    payload: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """A dead letter that cannot be put back, and why."""

    letter: DeadLetter
    why: str


def wanted(
    letters: Iterable[DeadLetter], reasons: frozenset[str], topics: frozenset[str], ids: frozenset[str]
) -> Iterator[DeadLetter]:
    """Yield the letters of these reasons, source topics and ids, each id once; an empty set takes all."""
    seen: set[str] = set()
    for letter in letters:
        if letter.id in seen or (reasons and letter.reason not in reasons):
            continue
        if (topics and letter.topic not in topics) or (ids and letter.id not in ids):
            continue
        seen.add(letter.id)
        yield letter


def plan(letter: DeadLetter, names: dict[str, str], to: str | None = None) -> Return | Refusal:
    """Decide what to do with a letter.

    ``names`` maps default topics to the ones in use. A replay's letter names a file, not a topic: it goes where its
    type belongs, or to ``to``.
    """
    try:
        payload = _payload(letter)
    except (binascii.Error, ValueError):
        return Refusal(letter, "its payload is not the base64 that it says it is")
    if letter.reason == "too_large" or _is_cut(payload):
        return Refusal(letter, "only the beginning of its payload was kept")
    if not payload:
        return Refusal(letter, "it has no payload: put back it would be empty again")
    topic = to or _topic(letter, payload, names)
    if topic is None:
        return Refusal(letter, f'"{letter.topic}" is no topic of ours and its type is unknown: name one with --to')
    key = f"{letter.tenant_id}/{letter.session_id}".encode() if letter.session_id else None
    return Return(letter, topic, key, payload)


def _payload(letter: DeadLetter) -> bytes:
    if letter.encoding == "base64":
        return base64.b64decode(letter.payload, validate=True)
    return letter.payload.encode()


def _is_cut(payload: bytes) -> bool:
    """Tell whether this is only the beginning of a longer payload: as long as a letter keeps, and no JSON."""
    # A character that the cut went through (4 bytes at most) was dropped whole.
    if len(payload) < MAX_RECORD_BYTES - 3:
        return False
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return True
    return False


def _topic(letter: DeadLetter, payload: bytes, names: dict[str, str]) -> str | None:
    home = {name: entry.topic for name, entry in INBOUND.items()}
    home |= {name: entry.topic for name, entry in OUTBOUND.items()}
    home = {name: names.get(topic, topic) for name, topic in home.items()}
    if letter.topic in home.values():
        return letter.topic
    try:
        return home.get(msgspec.json.decode(payload, type=_Typed).type)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
