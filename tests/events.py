"""Inbound events as bytes, and records of a log, with every field filled in that a test does not care about."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from schemas.batches import END_OF_TIME, RawBatch
from schemas.registry import INBOUND
from tests.model import LogRecord
from tests.model_input import Event, judge

FIELDS: dict[str, dict[str, Any]] = {
    "chat.message": {"text": "hello"},
    "chat.answer": {"conversation_id": "c1", "agent_id": "a1", "question": "Why?", "answer": "Because."},
    "poll.opened": {"poll_id": "p1"},
    "poll.vote": {"poll_id": "p1", "option_id": "o1"},
    "poll.closed": {"poll_id": "p1"},
    "presence.join": {},
    "presence.leave": {},
    "session.ended": {},
    "reaction": {"emoji": "👏"},
    "telemetry.page_view": {"url": "https://shop.example/", "page": "home"},
    "telemetry.click": {"element": "buy", "x": 10, "y": 20.5, "page": "product", "effect": True},
    "telemetry.hover": {"element": "price", "duration_ms": 700, "page": "pricing"},
    "telemetry.scroll": {"depth": 0.5, "velocity": 800, "direction": "down", "page": "product"},
    "telemetry.pointer": {"velocity": 100, "deceleration": 10, "page": "product"},
    "telemetry.exit_intent": {"edge": "top", "page": "product"},
    "telemetry.field": {"field": "email", "duration_ms": 900, "filled": True, "page": "checkout"},
    "telemetry.cart": {"action": "add", "product_id": "x1", "price": 9.5},
    "telemetry.checkout": {"step": "start"},
    "telemetry.search": {"query": "lamp", "results": 3},
    "emotion.observed": {"emotion": "confusion", "confidence": 0.7},
    "intervention.outcome": {"intervention_id": "i1", "outcome": "shown"},
    "intervention.approval": {"intervention_id": "i1", "approved": True, "by": "boss"},
    "handoff.resolved": {"conversation_id": "c1", "needed": True},
}
"""For each inbound type, fields of its own that make it valid."""


def event(kind: str, ts: int, user: str = "u1", *, event_id: str = "", session: str = "s", **fields: Any) -> bytes:
    """Return an event of tenant ``t`` as JSON; ``fields`` add to or replace any of its fields.

    Without an ``event_id`` it is named after type, user and time.
    """
    body = {
        "type": kind,
        "event_id": event_id or f"{kind} {user} {ts}",
        "tenant_id": "t",
        "session_id": session,
        "user_id": user,
        "ts": ts,
    }
    return json.dumps({**body, **FIELDS.get(kind, {}), **fields}, ensure_ascii=False).encode()


def record(raw: bytes | None, record_ts: int, topic: str = "", offset: int = 0) -> LogRecord:
    """Return the record of partition 0 that holds this payload, on its type's topic unless another is given."""
    return LogRecord(record_ts, topic or topic_of(raw), 0, offset, raw)


def topic_of(raw: bytes | None) -> str:
    """Return the default topic of a payload's type; what is no event goes where chat goes."""
    known = judge(raw)
    return INBOUND[known.kind if isinstance(known, Event) else "chat.message"].topic


def log(payloads: Iterable[bytes]) -> list[LogRecord]:
    """Return events as a log in the order given, each with its own ``ts`` as its record timestamp (a replay's)."""
    return numbered([record(raw, json.loads(raw)["ts"]) for raw in payloads])


def numbered(records: Iterable[LogRecord]) -> list[LogRecord]:
    """Return the records with offsets counted from 0 in each topic, in the order given."""
    offsets: dict[tuple[str, int], int] = {}
    result = []
    for entry in records:
        place = (entry.topic, entry.partition)
        result.append(entry._replace(offset=offsets.get(place, 0)))
        offsets[place] = offsets.get(place, 0) + 1
    return result


def batches(records: Sequence[LogRecord], sizes: Sequence[int], *, ends: bool = True) -> list[RawBatch]:
    """Return a log of one partition cut into batches of these sizes, again and again; a size may be 0.

    With ``ends`` a last, empty batch carries the end of time.
    """
    if records and not any(sizes):
        raise ValueError("sizes without one above 0 never get through the log")
    topics = tuple(sorted({entry.topic for entry in records}))
    partition = records[0].partition if records else 0
    result: list[RawBatch] = []
    stream_time = done = 0
    while done < len(records):
        part = records[done : done + sizes[len(result) % len(sizes)]]
        result.append(_batch(part, partition, topics, stream_time, None))
        stream_time = max([stream_time, *(entry.record_ts for entry in part)])
        done += len(part)
    if ends:
        result.append(_batch([], partition, topics, stream_time, END_OF_TIME))
    return result


def _batch(
    part: Sequence[LogRecord], partition: int, topics: tuple[str, ...], stream_time: int, clock: int | None
) -> RawBatch:
    return RawBatch(
        partition,
        topics,
        [entry.raw for entry in part],
        np.array([entry.record_ts for entry in part], dtype=np.int64),
        np.array([topics.index(entry.topic) for entry in part], dtype=np.uint16),
        np.array([entry.offset for entry in part], dtype=np.int64),
        stream_time,
        clock,
    )
