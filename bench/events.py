"""Seeded events for the benchmarks: made once, outside of what is timed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

import msgspec
import numpy as np

from schemas.batches import END_OF_TIME, RawBatch
from schemas.inbound import ChatMessage, Event, PresenceJoin, Reaction

START = 1_767_225_600_000
TEXT = "a short message"


@dataclass(frozen=True, slots=True)
class Load:
    """Who sends how much: ``per_second`` events of each session, from ``start`` (milliseconds) on.

    Two loads of different ``prefix`` have no session and no event id in common.
    """

    sessions: int
    users_each: int
    per_second: float
    prefix: str = ""
    seed: int = 1
    start: int = START


def stream(load: Load, count: int) -> Iterator[tuple[bytes, int]]:
    """Yield events of about 200 bytes in order of time, each with its time."""
    rng = Random(load.seed)
    step = 1000 / load.per_second / load.sessions
    for i in range(count):
        session, ts = rng.randrange(load.sessions), load.start + int(i * step)
        user = f"u{session:05d}-{rng.randrange(load.users_each):06d}"
        event_id = f"{load.prefix}{i:08x}{rng.getrandbits(32):08x}"
        yield msgspec.json.encode(event(rng, event_id, f"{load.prefix}session-{session:06d}", user, ts)), ts


def event(rng: Random, event_id: str, session: str, user: str, ts: int) -> Event:
    """Return one event of the mix: 70 % are messages, 25 % reactions and 5 % joins."""
    about = (event_id, "tenant-1", session, user, ts)
    kind = rng.random()
    if kind < 0.7:
        return ChatMessage(*about, TEXT)
    return Reaction(*about, "thumbs-up") if kind < 0.95 else PresenceJoin(*about)


def payloads(load: Load, count: int) -> tuple[list[bytes], list[int]]:
    """Return the events of ``stream`` as a list, and their times."""
    lines, times = [], []
    for line, ts in stream(load, count):
        lines.append(line)
        times.append(ts)
    return lines, times


def batches(
    lines: list[bytes], times: list[int], size: int = 16_384, partition: int = 0, *, ends: bool = True
) -> list[RawBatch]:
    """Return the events as a source hands them over."""
    out = list(batched(zip(lines, times, strict=True), size, partition))
    if ends:
        out.append(tidings(END_OF_TIME, partition))
    return out


def batched(events: Iterator[tuple[bytes, int]], size: int, partition: int = 0) -> Iterator[RawBatch]:
    """Yield events as a source hands them over, without holding more than one batch of them."""
    at, stream_time = 0, 0
    while part := list(islice(events, size)):
        n = len(part)
        values: list[bytes | None] = [line for line, _ in part]
        stamps = np.array([ts for _, ts in part], np.int64)
        yield RawBatch(
            partition, ("events",), values, stamps, np.zeros(n, np.uint16), np.arange(at, at + n), stream_time
        )
        at += n
        stream_time = int(stamps.max())


def tidings(stream_time: int, partition: int = 0) -> RawBatch:
    """Return a batch without events that says how far stream time is."""
    none = np.zeros(0, np.int64)
    return RawBatch(partition, ("events",), [], none, none.astype(np.uint16), none, stream_time)
