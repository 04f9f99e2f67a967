"""Judges events one by one and makes them records: what is accepted here, the flow can read."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.diagnosis import diagnose, read, shown
from schemas.inbound import MAX_TS, EmotionObserved, Event
from schemas.outbound import Detail, Reason
from schemas.registry import type_of
from sources.collector.messages import Batch, Observation, Verdict, is_text
from sources.collector.stamps import Stamps

TICK_MS: Final = 5_000
"""A tick counts events when it is emitted: what lies before it is late from then on."""

_DEVICE_TIME: Final = "a time of the device's clock, in milliseconds since 1970 UTC"
_WRITABLE: Final = "whole characters (no half surrogate pairs) and numbers within a double's range"


@dataclass(frozen=True, slots=True)
class Place:
    """Whose events they are, as the key and the request say; an event's own word on it does not count."""

    tenant_id: str
    session_id: str
    user_id: str

    @property
    def kafka_key(self) -> bytes:
        """The Kafka key."""
        return f"{self.tenant_id}/{self.session_id}".encode()


@dataclass(frozen=True, slots=True)
class Clock:
    """When it is, when the device says it sent the batch, and what lies between; all in milliseconds."""

    now: int
    sent_at: int
    offset: int
    late_after: int
    stamps: Stamps

    def ts(self, place: Place, event_id: str, at: int) -> int:
        """Return our time of the device's, the same for a repeat; nothing happened after it was sent."""
        ts = min(at, self.sent_at) + self.offset
        return self.stamps.first((place.tenant_id, place.session_id, place.user_id, event_id), ts, self.now)

    def is_late(self, ts: int) -> bool:
        """Return whether the tick that would count this moment is certain to be over.

        >>> clock = Clock(now=20_000, sent_at=0, offset=0, late_after=7_000, stamps=Stamps())
        >>> clock.is_late(9_999), clock.is_late(10_000)
        (True, False)
        """
        return (ts // TICK_MS + 1) * TICK_MS <= self.now - self.late_after


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, and the record of what was accepted: its type and its bytes."""

    verdict: Verdict
    type: str = ""
    record: bytes | None = None


def judge(event: Any, place: Place, clock: Clock, topics: Mapping[str, str]) -> Judged:
    """Judge one event of a batch, as JSON gave it; ``topics`` has the types that are taken."""
    if not isinstance(event, dict):
        return _rejected("", "not_an_object", Detail("", "a JSON object", shown(event)))
    event_id = _text(event.get("event_id"))
    if fault := _fault(event, topics):
        return _rejected(event_id, *fault)
    at = event["at"]
    ts = clock.ts(place, event_id, at)
    if ts < 0 or clock.is_late(ts):
        bound = f"{clock.late_after / 1000:g} s before it came, or later"
        return _rejected(event_id, "late", Detail("at", bound, f"{(clock.now - ts) / 1000:.1f} s before it came"))
    whose = {"tenant_id": place.tenant_id, "session_id": place.session_id, "user_id": place.user_id}
    stamped = event | whose | {"ts": ts}
    try:
        payload = json.dumps(stamped, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return _rejected(event_id, "malformed_json", Detail("", _WRITABLE, "something else"))
    found = read(payload)
    if isinstance(found, Event):
        return _accepted(found, at)
    reason, detail, _, _ = diagnose(payload, found)
    return _rejected(event_id, reason, detail)


def _fault(event: dict[str, Any], topics: Mapping[str, str]) -> tuple[Reason, Detail] | None:
    """Return what is wrong with an event before it is stamped: it is none of ours, or has no time that counts."""
    kind, at = event.get("type"), event.get("at")
    if not isinstance(kind, str) or not kind.startswith("telemetry.") or kind not in topics:
        return "unknown_type", Detail("type", "a type of telemetry", shown(kind))
    if type(at) is not int or not 0 <= at <= MAX_TS:
        return "invalid_field", Detail("at", _DEVICE_TIME, shown(at))
    if not _text(event.get("event_id")):
        return "invalid_field", Detail("event_id", "1 to 128 characters", shown(event.get("event_id")))
    return None


def observed(observation: Observation, place: Place, ts: int) -> Judged:
    """Make an observed emotion a record. A confidence above 1 is in per cent.

    >>> said = Observation("s", "u", "e1", "frustration", 85)
    >>> b'"confidence":0.85' in observed(said, Place("t", "s", "u"), 1).record
    True
    """
    share = observation.confidence / 100 if observation.confidence > 1 else observation.confidence
    event = EmotionObserved(
        observation.event_id, place.tenant_id, place.session_id, place.user_id, ts, observation.emotion, share
    )
    return Judged(Verdict(event.event_id, "accepted"), type_of(EmotionObserved), msgspec.json.encode(event))


def place_of(tenant: str, message: Batch | Observation) -> Place:
    """Return where a request's events belong: the tenant comes from the key, never from the request."""
    return Place(tenant, message.session_id, message.user_id)


def _accepted(event: Event, client_ts: int) -> Judged:
    """Write the event anew: what the type does not know, a stranger's bytes, stays behind."""
    record = msgspec.json.encode(event)[:-1] + b',"client_ts":%d}' % client_ts
    return Judged(Verdict(event.event_id, "accepted"), type_of(type(event)), record)


def _rejected(event_id: str, reason: Reason, detail: Detail) -> Judged:
    return Judged(Verdict(event_id, "rejected", reason, detail.field, detail.expected, detail.got))


def _text(value: Any) -> str:
    """Return a text that can be an event's id, else an empty one."""
    return value if isinstance(value, str) and len(value) <= 128 and is_text(value) else ""
