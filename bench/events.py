"""Seeded events for the benchmarks: made once, outside of what is timed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random
from typing import Any

import msgspec
import numpy as np

from schemas.batches import END_OF_TIME, RawBatch
from schemas.inbound import (
    Cart,
    ChatMessage,
    Checkout,
    Click,
    Event,
    ExitIntent,
    Field,
    Hover,
    Page,
    PageView,
    Pointer,
    PresenceJoin,
    Reaction,
    Scroll,
    Search,
)

START = 1_767_225_600_000
TEXT = "a short message"


@dataclass(frozen=True, slots=True)
class Load:
    """Who sends how much: ``per_second`` events of each session, from ``start`` (milliseconds) on.

    Two loads of different ``prefix`` have no session and no event id in common. ``telemetry`` is the share of events
    that visitors' pages send, the rest is chat, reactions and joins.
    """

    sessions: int
    users_each: int
    per_second: float
    prefix: str = ""
    seed: int = 1
    start: int = START
    telemetry: float = 0.0


def stream(load: Load, count: int) -> Iterator[tuple[bytes, int]]:
    """Yield events of about 200 bytes in order of time, each with its time."""
    rng = Random(load.seed)
    step = 1000 / load.per_second / load.sessions
    for i in range(count):
        session, ts = rng.randrange(load.sessions), load.start + int(i * step)
        user = f"u{session:05d}-{rng.randrange(load.users_each):06d}"
        event_id = f"{load.prefix}{i:08x}{rng.getrandbits(32):08x}"
        about = (event_id, "tenant-1", f"{load.prefix}session-{session:06d}", user, ts)
        if load.telemetry and rng.random() < load.telemetry:
            yield msgspec.json.encode(visit(rng, dict(zip(ABOUT, about, strict=True)))), ts
        else:
            yield msgspec.json.encode(event(rng, about)), ts


def event(rng: Random, about: tuple[str, str, str, str, int]) -> Event:
    """Return one event of the mix: 70 % are messages, 25 % reactions and 5 % joins."""
    kind = rng.random()
    if kind < 0.7:
        return ChatMessage(*about, TEXT)
    return Reaction(*about, "thumbs-up") if kind < 0.95 else PresenceJoin(*about)


PAGES: tuple[tuple[Page, float], ...] = (
    ("home", 0.2), ("search", 0.15), ("product", 0.35), ("pricing", 0.1), ("cart", 0.08), ("checkout", 0.05),
    ("help", 0.03), ("other", 0.04),
)  # fmt: skip
_NAMES, _SHARES = zip(*PAGES, strict=True)
_ELEMENTS = ("menu", "buy-button", "image-3", "price-tag", "reviews", "newsletter", "link-17", "size-9")


def visit(rng: Random, about: dict[str, Any]) -> Event:
    """Return what a visitor's page sends: pointer and scrolling most of all, then clicks, hovers and views."""
    page: Page = rng.choices(_NAMES, _SHARES)[0]
    where = {**about, "page": page}
    made: Event
    match rng.choices(_KINDS, _OFTEN)[0]:
        case "pointer":
            made = Pointer(**where, velocity=rng.expovariate(1 / 500), deceleration=rng.expovariate(1 / 600))
        case "scroll":
            direction: Any = "down" if rng.random() < 0.8 else "up"
            made = Scroll(**where, depth=rng.random(), velocity=rng.expovariate(1 / 600), direction=direction)
        case "click":
            x, y, effect = rng.random() * 1200, rng.random() * 700, rng.random() < 0.97
            made = Click(**where, element=rng.choice(_ELEMENTS), x=x, y=y, effect=effect)
        case "hover":
            made = Hover(**where, element=rng.choice(_ELEMENTS), duration_ms=int(rng.expovariate(1 / 700)))
        case "view":
            made = PageView(**where, url=f"https://shop.example/{page}/{rng.randrange(50)}")
        case "field":
            field = rng.choice(("email", "street", "card-number"))
            made = Field(**where, field=field, duration_ms=rng.randrange(9_000), filled=True)
        case "cart":
            made = Cart(**about, action=rng.choice(("add", "view", "remove")))
        case "search":
            made = Search(**about, query="lamp", results=rng.randrange(40))
        case "checkout":
            made = Checkout(**about, step=rng.choice(("start", "payment", "complete")))
        case _:
            made = ExitIntent(**where, edge=rng.choice(("top", "side", "back")))
    return made


_KINDS = ("pointer", "scroll", "click", "hover", "view", "field", "cart", "search", "checkout", "exit")
_OFTEN = (0.30, 0.25, 0.17, 0.12, 0.11, 0.02, 0.015, 0.005, 0.005, 0.005)
ABOUT = ("event_id", "tenant_id", "session_id", "user_id", "ts")


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
