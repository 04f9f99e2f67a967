"""What can't be used becomes a record of its own: why, which field, where it stood, and what it said."""

import base64
import codecs
import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

import msgspec
from prometheus_client import Counter

from schemas import inbound, outbound
from schemas.batches import Records
from schemas.registry import INBOUND

MAX_PAYLOAD = 64 * 1024
"""Bytes of a payload that a dead letter keeps."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Control characters: Unicode's category Cc. No id of a tenant, session or user holds one."""

_SET_ASIDE = Counter("attune_dead_letters_total", "Inbound records set aside, by reason", ["reason"])
_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)
_SHOWN = 120


@dataclass(slots=True)
class DeadLetters:
    """Collects dead letters of one step and hands them over as one batch of encoded records."""

    records: Records = field(default_factory=lambda: Records("dead_letter", [], [], [], [], []))

    def add(
        self,
        reason: outbound.Reason,
        detail: outbound.Detail,
        position: tuple[str, int, int],
        payload: bytes,
        ids: tuple[str, str],
        ts: int,
    ) -> None:
        """Set one record aside; the arguments are those of `dead_letter`."""
        letter = dead_letter(reason, detail, position, payload, ids, ts)
        out = self.records
        out.ids.append(letter.id)
        out.tenants.append(ids[0])
        out.sessions.append(ids[1])
        out.ts.append(ts)
        out.payloads.append(msgspec.json.encode(letter))


def dead_letter(
    reason: outbound.Reason,
    detail: outbound.Detail,
    position: tuple[str, int, int],
    payload: bytes,
    ids: tuple[str, str],
    ts: int,
) -> outbound.DeadLetter:
    """Return the dead letter of one record, and count it.

    ``position`` is topic, partition and offset (a replay: file, 0 and line); ``ids`` are tenant and session, empty
    where they could not be read.
    """
    _SET_ASIDE.labels(reason).inc()
    topic, partition, offset = position
    text, encoding = as_text(payload)
    return outbound.DeadLetter(
        id=f"dead_letter/{topic}/{partition}/{offset}",
        tenant_id=ids[0],
        session_id=ids[1],
        ts=ts,
        reason=reason,
        detail=detail,
        topic=topic,
        partition=partition,
        offset=offset,
        payload=text,
        encoding=encoding,
    )


def as_text(payload: bytes) -> tuple[str, Any]:
    """Return the first 64 KiB of a payload as text, or as base64 with the encoding's name if it isn't UTF-8.

    >>> as_text(b"plain")
    ('plain', None)
    >>> as_text(bytes([0xff]))
    ('/w==', 'base64')
    """
    head = payload[:MAX_PAYLOAD]
    try:
        # Not final when cut: a character that the cut went through is dropped, not taken for an error.
        return codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) == len(payload)), None
    except UnicodeDecodeError:
        return base64.b64encode(head).decode("ascii"), "base64"


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
        # Not msgspec: untyped, it takes a number beyond a double for malformed JSON.
        found = json.loads(payload.decode(), parse_constant=_no_constant, parse_int=_int)
    except (ValueError, RecursionError) as fault_in_json:
        return "malformed_json", outbound.Detail("", "JSON in UTF-8", _short(str(fault_in_json))), none, None
    if not isinstance(found, dict):
        return "not_an_object", outbound.Detail("", "a JSON object", type(found).__name__), none, None
    ids = _readable(found.get("tenant_id")), _readable(found.get("session_id"))
    ts = found.get("ts")
    when = ts if type(ts) is int and 0 <= ts <= inbound.MAX_TS else None
    kind = found.get("type")
    if not isinstance(kind, str) or kind not in INBOUND:
        return "unknown_type", outbound.Detail("type", "a type of the contract", _short(_show(kind))), ids, when
    what, path = _fault(fault)
    return "invalid_field", outbound.Detail(path, _short(what), _short(_show(_follow(found, path)))), ids, when


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


def _show(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return type(value).__name__


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _readable(value: Any) -> str:
    """Return a value if it can serve as an id, else an empty string. A lone surrogate can't be written again."""
    if not isinstance(value, str) or not 0 < len(value) <= 128 or CONTROL.search(value):
        return ""
    return "" if any("\ud800" <= character <= "\udfff" for character in value) else value
