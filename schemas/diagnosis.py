"""Reads one inbound record, or tells why it can't be used: the same words for whoever asks, flow or collector."""

import json
import math
import re
from typing import Any

import msgspec

from schemas import inbound, outbound
from schemas.registry import INBOUND

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Control characters: Unicode's category Cc. No id of a tenant, session or user holds one."""

NO_CONTROLS = ("tenant_id", "session_id", "user_id")
"""The fields that must hold none."""

_DECODER = msgspec.json.Decoder(inbound.AnyEvent)
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_SHOWN = 120


def read(payload: bytes | None) -> inbound.Event | str:
    """Return a record's event, or what is wrong with it in the decoder's words (empty: too large, or nothing).

    >>> read(b'{"type":"reaction","event_id":"1","tenant_id":"t","session_id":"s","user_id":"u","ts":1}')
    'Object missing required field `emoji`'
    """
    if payload is None or len(payload) > inbound.MAX_RECORD_BYTES:
        return ""
    try:
        event: inbound.Event = _DECODER.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)
    unclean = next((name for name in NO_CONTROLS if CONTROL.search(getattr(event, name))), None)
    return event if unclean is None else f"Expected `str` without control characters - at `$.{unclean}`"


def diagnose(payload: bytes | None, fault: str) -> tuple[outbound.Reason, outbound.Detail, tuple[str, str], int | None]:
    """Tell why a payload can't be used: reason, detail, the tenant and session if readable, and ``ts`` if readable.

    ``fault`` is what the typed decoder said of it.

    >>> diagnose(b'[1]', "")[0]
    'not_an_object'
    """
    none = ("", "")
    if payload is None or not payload.strip(b" \t\r\n"):
        return "empty", outbound.Detail("", "a JSON object", "nothing"), none, None
    if len(payload) > inbound.MAX_RECORD_BYTES:
        detail = outbound.Detail("", f"at most {inbound.MAX_RECORD_BYTES} bytes", f"{len(payload)} bytes")
        return "too_large", detail, none, None
    try:
        found = parse(payload)
    except (ValueError, RecursionError) as fault_in_json:
        return "malformed_json", outbound.Detail("", "JSON in UTF-8", _short(str(fault_in_json))), none, None
    if not isinstance(found, dict):
        return "not_an_object", outbound.Detail("", "a JSON object", type(found).__name__), none, None
    ids = _readable(found.get("tenant_id")), _readable(found.get("session_id"))
    ts = found.get("ts")
    when = ts if type(ts) is int and 0 <= ts <= inbound.MAX_TS else None
    kind = found.get("type")
    if not isinstance(kind, str) or kind not in INBOUND:
        return "unknown_type", outbound.Detail("type", "a type of the contract", shown(kind)), ids, when
    return "invalid_field", locate(found, fault), ids, when


def parse(payload: bytes) -> Any:
    """Return what a text of JSON says, whatever it is.

    Raises:
        ValueError, RecursionError: it is none, no UTF-8, or too deep.
    """
    # Not msgspec: untyped, it takes a number beyond a double for malformed JSON.
    return json.loads(payload.decode(), parse_constant=_no_constant, parse_int=_int)


def locate(found: Any, fault: str) -> outbound.Detail:
    """Return the field that the typed decoder's words are about, what was expected there and what ``found`` has.

    >>> locate({"a": {"b": 1}}, "Expected `str`, got `int` - at `$.a.b`")
    Detail(field='a.b', expected='Expected `str`, got `int`', got='1')
    """
    what, path = _fault(fault)
    return outbound.Detail(path, _short(what), shown(_follow(found, path)))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _int(digits: str) -> int | float:
    """Read an integer; Python refuses those of thousands of digits, whose reading takes more than linear time."""
    return int(digits) if len(digits) < 400 else math.inf


def _fault(fault: str) -> tuple[str, str]:
    """Split a message of msgspec into what was expected and the path of the field."""
    match = _PATH.match(fault)
    what, path = (match["what"], match["path"] or "") if match else (fault, "")
    missing = re.search(r"missing required field `([^`]*)`", what)
    if missing:
        path = f"{path}.{missing[1]}" if path else missing[1]
    return what, path


def _follow(found: Any, path: str) -> Any:
    """Return what stands at a path such as ``retrieval[...]`` or ``canonical.id``; None where nothing does."""
    for step in path.split("."):
        if not isinstance(found, dict):
            return found
        found = found.get(step.split("[")[0])
    return found


def shown(value: Any) -> str:
    """Return what was got, short enough for a message."""
    try:
        return _short(msgspec.json.encode(value).decode())
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return type(value).__name__


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _readable(value: Any) -> str:
    """Return a value if it can serve as an id, else an empty string. A lone surrogate can't be written again."""
    if not isinstance(value, str) or not 0 < len(value) <= 128 or CONTROL.search(value):
        return ""
    return "" if any("\ud800" <= character <= "\udfff" for character in value) else value
