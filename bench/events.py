"""Seeded events for the benchmarks: made once, outside of what is timed."""

from random import Random

import msgspec
import numpy as np

from schemas.batches import END_OF_TIME, RawBatch
from schemas.inbound import ChatMessage, PresenceJoin, Reaction

START = 1_767_225_600_000
TEXT = "a short message"


def payloads(
    count: int, sessions: int, users_each: int, per_second: float, seed: int = 1, prefix: str = ""
) -> tuple[list[bytes], list[int]]:
    """Return events of about 200 bytes in order of time, and their times.

    ``per_second`` is the rate of each session; 70 % are messages, 25 % reactions and 5 % joins.
    """
    rng = Random(seed)
    step = 1000 / per_second / sessions
    lines, times = [], []
    for i in range(count):
        session, ts = rng.randrange(sessions), START + int(i * step)
        user = f"u{session:05d}-{rng.randrange(users_each):06d}"
        about = (f"{prefix}{i:08x}{rng.getrandbits(32):08x}", "tenant-1", f"{prefix}session-{session:06d}", user, ts)
        kind = rng.random()
        event = ChatMessage(*about, TEXT) if kind < 0.7 else Reaction(*about, "thumbs-up") if kind < 0.95 else PresenceJoin(*about)
        lines.append(msgspec.json.encode(event))
        times.append(ts)
    return lines, times


def batches(
    lines: list[bytes], times: list[int], size: int = 16_384, partition: int = 0, *, ends: bool = True
) -> list[RawBatch]:
    """Return the events as a source hands them over."""
    stamps = np.array(times, np.int64)
    out, stream_time = [], 0
    for start in range(0, len(lines), size):
        part = stamps[start : start + size]
        n = len(part)
        offsets = np.arange(start, start + n)
        values: list[bytes | None] = [*lines[start : start + size]]
        out.append(RawBatch(partition, ("events",), values, part, np.zeros(n, np.uint16), offsets, stream_time))
        stream_time = int(part.max())
    if ends:
        out.append(tidings(END_OF_TIME, partition))
    return out


def tidings(stream_time: int, partition: int = 0) -> RawBatch:
    """Return a batch without events that says how far stream time is."""
    none = np.zeros(0, np.int64)
    return RawBatch(partition, ("events",), [], none, none.astype(np.uint16), none, stream_time)
