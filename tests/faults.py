"""Ways to spoil a valid event so that nothing can use it, and odd ways to write one that stay valid."""

import json
from collections.abc import Callable
from typing import Any

from schemas.inbound import MAX_RECORD_BYTES, MAX_TS
from tests.events import event

Spoiler = Callable[[bytes], bytes]


def _without(name: str) -> Spoiler:
    return lambda raw: json.dumps({key: value for key, value in json.loads(raw).items() if key != name}).encode()


def _changed(name: str, value: Any) -> Spoiler:
    return lambda raw: json.dumps({**json.loads(raw), name: value}).encode()


UNUSABLE: tuple[bytes | None, ...] = (
    None,
    b"",
    b" \r\n\t ",
    b"{",
    b"[]",
    b"null",
    b"17",
    b'"' + b"x" * 40 + b'"',
    b'{"type": "nonsense", "user_id": ',  # malformed beyond an unknown type
    event("telemetry.click", 0, x=8888).replace(b"8888", b"1e999"),
    event("telemetry.scroll", 0, depth=1.01),
    event("telemetry.page_view", 0, page="nowhere"),
    event("chat.message", 0, text="x" * 4_001),
    event("poll.vote", 0, poll_id=""),
)
"""Payloads that are no event."""

SPOILERS: tuple[Spoiler, ...] = (
    lambda raw: b"[" + raw + b"]",
    lambda raw: raw[:-1],
    lambda raw: raw + raw,
    lambda raw: raw + b"\n" + raw,  # two lines in one record
    lambda raw: raw + b"," + raw,
    lambda raw: raw.split(b", ", 1)[0],  # this and the next, joined by a comma, would be an event
    lambda raw: raw.split(b", ", 1)[1],
    lambda raw: raw + b"\0",
    lambda raw: raw.replace(b'"user_id": "', b'"user_id": "\xff'),
    lambda raw: raw.replace(b'"user_id": "', b'"user_id": "\x01'),
    lambda raw: raw.replace(b'"user_id": "', b'"user_id": "\\ud800'),
    lambda raw: raw.replace(b'"ts": ', b'"ts": NaN, "was": '),
    lambda raw: raw.replace(b'"ts": ', b'"ts": -1'),
    lambda raw: raw.replace(b'"ts": ', b'"ts": 0'),  # a leading zero
    lambda raw: raw.replace(b'"ts": ', b'"ts": "", "was": ')[:-1],  # malformed beyond an invalid field
    lambda raw: b"\xef\xbb\xbf" + raw,
    lambda raw: raw.decode().encode("utf-16"),
    lambda raw: raw[:-1] + b', "more": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    lambda raw: raw + b" " * (MAX_RECORD_BYTES + 1 - len(raw)),
    _without("type"),
    _without("event_id"),
    _without("user_id"),
    _without("ts"),
    _changed("type", "nonsense"),
    _changed("type", ""),
    _changed("type", None),
    _changed("type", 7),
    _changed("type", ["reaction"]),
    _changed("event_id", ""),
    _changed("event_id", "x" * 129),
    _changed("user_id", "é" * 129),
    _changed("user_id", 5),
    _changed("user_id", None),
    _changed("tenant_id", "a\u0000"),
    _changed("tenant_id", "\u001f"),
    _changed("session_id", "a\u007fb"),
    _changed("user_id", "a\u0085b"),
    _changed("ts", "1700000000000"),
    _changed("ts", 1.5),
    _changed("ts", 1_700_000_000_000.0),
    _changed("ts", True),
    _changed("ts", -1),
    _changed("ts", MAX_TS + 1),
    _changed("ts", 2**63),
    _changed("ts", 10**400),
)
"""What turns an event into something unusable."""

DISPUTED: dict[str, bytes] = {
    "invalid UTF-8 in an unknown field": event("reaction", 0)[:-1] + b', "more": "\xff"}',
    "control character in the event id": event("reaction", 0, event_id="a\u0000"),
    "nested as deep as only some stacks take": event("reaction", 0, more=0)[:-2] + b"[" * 950 + b"]" * 950 + b"}",
    "a field twice, first wrong": b'{"ts": "x", ' + event("reaction", 0)[1:],
}
"""What JSON parsers, or readers of the contract, judge differently; no generated log holds such a thing."""


def spoiled(raw: bytes, pick: int) -> bytes | None:
    """Return something unusable, made from this event or in its place."""
    pick %= len(UNUSABLE) + len(SPOILERS)
    return UNUSABLE[pick] if pick < len(UNUSABLE) else SPOILERS[pick - len(UNUSABLE)](raw)


def dressed(raw: bytes, pick: int) -> bytes:
    """Return the same event written otherwise: on several lines, escaped, padded, with fields nobody knows."""
    body = json.loads(raw)
    shapes: dict[int, Callable[[], bytes]] = {
        0: lambda: json.dumps(body, indent=1).encode(),
        1: lambda: json.dumps(dict(reversed(body.items())), separators=(",", ":")).encode(),
        2: lambda: json.dumps({**body, "more": {"type": "x", "ts": [None, "}\n{", 1e300]}}).encode(),
        3: lambda: b"\r\n " + raw + b"\n",
        4: lambda: raw + b" " * (MAX_RECORD_BYTES - len(raw)),
    }
    return shapes[pick]() if pick in shapes else raw
