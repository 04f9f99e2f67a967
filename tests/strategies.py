"""Logs that reach into every corner of the contract's sections 1 to 3: for hypothesis, and seeded.

A log is assembled from steps. A step takes each of its values from a small pool, so that ties, exact boundaries (5 s,
60 s, 5 min, 10 min, 30 min) and collisions of ids are frequent; hypothesis draws the steps, or a seed does.
"""

import heapq
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, NamedTuple

from hypothesis import strategies as st

from schemas.registry import INBOUND, INBOUND_TOPICS
from tests.events import FIELDS, event, numbered, record, topic_of
from tests.faults import dressed, spoiled
from tests.model import MINUTE, SECOND, Defaults, LogRecord
from tests.model_input import Event, judge

HOUR = 60 * MINUTE
REPEAT, FAULT = "repeat", "fault"
STARTS = (1_700_000_000_000, 1_700_000_003_217, 0)
STAMPS = ("arrival", "ts", "ragged")
"""Record timestamps: of the broker (``LogAppendTime``), the event's own (a replay), or the sender's, nearly sorted."""

SESSIONS = (*(("t", "s"),) * 9, ("t", "s/2"), ("t/s", "2"), ("t%2Fs", "2"))
USERS = ("u1", "u2", "u3", "u4", "ü")
POLLS = ("p1", "p2", "p3")
ID_PREFIXES = ("e", "e", "B", "é", "\uff5e", "😀", "same")
"""Ordered differently by code points, by UTF-16 units and by any locale; ``same`` is one id at several times."""

KINDS = (
    *("chat.message", "presence.join", "presence.leave", "reaction", "poll.vote", "poll.opened") * 3,
    *("chat.message", "presence.join", "poll.vote", "poll.closed", "session.ended", "emotion.observed"),
    *("telemetry.click", "telemetry.page_view", "telemetry.scroll", "telemetry.cart", REPEAT, REPEAT, FAULT),
    *("chat.answer", "intervention.outcome", "intervention.approval", "handoff.resolved"),
)
STEPS_MS = (
    *(0, SECOND, 5 * SECOND, 2 * SECOND, 10 * SECOND, 30 * SECOND) * 8,
    *(1, 500, 2_500, 4_999, 5_001, 7 * SECOND, 55 * SECOND, 59_999, MINUTE, 60_001, 4 * MINUTE),
    *(299_999, 5 * MINUTE, 300_001, 599_999, 10 * MINUTE, 600_001, 20 * MINUTE),
    *(1_799_999, 30 * MINUTE, 1_800_001, 3 * HOUR),
)
"""How far the clock moves before the event."""
BEHIND_MS = (
    *(0,) * 30,
    *(1, 500, 1_000, 1_999, 2_000, 2_001, 3_000, 5_000, 6_999, 7_000, 7_001, 12_000, MINUTE, 2 * HOUR),
    *(-1, -2_000, -4_999, -5_000, -5_001, -MINUTE),
)
"""How far the event's time lies behind the clock; below 0 it lies ahead."""
DELAYS_MS = (0, 0, 0, 0, 3, 800, 4_000, -1_500)
"""How far a ragged record timestamp lies from the clock."""


class Step(NamedTuple):
    """What to add to a log. ``pick`` says which earlier event is repeated, which fault, which odd shape."""

    kind: str
    ms: int
    behind_ms: int
    delay_ms: int
    session: tuple[str, str]
    user: str
    poll: str
    prefix: str
    pick: int


POOLS: tuple[tuple[Any, ...], ...] = (
    KINDS,
    STEPS_MS,
    BEHIND_MS,
    DELAYS_MS,
    SESSIONS,
    USERS,
    POLLS,
    ID_PREFIXES,
    tuple(range(120)),
)
"""The pool of each field of ``Step``."""


def assemble(steps: Iterable[Step], start: int = STARTS[0], stamps: str = STAMPS[0]) -> list[LogRecord]:
    """Return the log that the steps make, as a source reads it: merged over topics by record timestamp.

    No two payloads of one session share ``event_id`` and ``ts`` unless they are equal.
    """
    clock = highest = start
    sent: list[bytes] = []
    contents: dict[tuple[object, ...], bytes] = {}
    by_topic: dict[str, list[LogRecord]] = {}
    for number, step in enumerate(steps):
        clock += step.ms
        ts = max(0, clock - step.behind_ms)
        kind = step.kind if step.kind in INBOUND else "reaction"
        ids = {"tenant_id": step.session[0], "session": step.session[1]}
        own = {"poll_id": step.poll} if "poll_id" in FIELDS[kind] else {}
        event_id = step.prefix if step.prefix == "same" else f"{step.prefix}{number}"
        plain = event(kind, ts, step.user, event_id=event_id, **ids, **own)
        if contents.setdefault((step.session, event_id, ts), plain) != plain:
            plain = event(kind, ts, step.user, event_id=f"{event_id}{number}", **ids, **own)
        raw: bytes | None = dressed(plain, step.pick)
        if step.kind == FAULT:
            raw = spoiled(plain, step.pick)
        elif step.kind == REPEAT and sent:
            raw = sent[-1 - step.pick % min(len(sent), 6)]
        elif raw is not None:
            sent.append(raw)
        known = judge(raw)
        highest = max(highest, known.ts) if isinstance(known, Event) else highest
        stamp = {
            "arrival": clock,
            "ts": known.ts if isinstance(known, Event) else highest,
            "ragged": max(0, clock + step.delay_ms),
        }[stamps]
        topic = INBOUND_TOPICS[number % len(INBOUND_TOPICS)] if step.pick > 110 else topic_of(raw)
        by_topic.setdefault(topic, []).append(record(raw, stamp, topic))
    return interleave(*(numbered(records) for records in by_topic.values()))


def steps(*, orderly: bool = False) -> st.SearchStrategy[Step]:
    """Return a strategy for one step; with ``orderly`` no event is behind or ahead of the clock."""
    pools = [(0,) if orderly and pool is BEHIND_MS else pool for pool in POOLS]
    return st.builds(Step, *(st.sampled_from(pool) for pool in pools))


@st.composite
def logs(draw: st.DrawFn, *, max_size: int = 40, orderly: bool = False) -> list[LogRecord]:
    """Draw a log of up to ``max_size`` records; with ``orderly`` sorted by ``ts``, which is also the record's."""
    drawn = draw(st.lists(steps(orderly=orderly), max_size=max_size))
    start = draw(st.sampled_from(STARTS))
    return _sorted(assemble(drawn, start, "ts")) if orderly else assemble(drawn, start, draw(st.sampled_from(STAMPS)))


def configs() -> st.SearchStrategy[Defaults]:
    """Return a strategy for settings: the defaults, and time-outs for lost leaves, never below presence's own."""
    timeouts = st.sampled_from((None, 5 * MINUTE, 10 * MINUTE, HOUR))
    return st.builds(Defaults, join_timeout_ms=timeouts)


def random_log(seed: int, size: int, *, orderly: bool = False) -> list[LogRecord]:
    """Return a log like those of ``logs``, of ``size`` records, the same for the same seed."""
    rng = Random(seed)
    drawn = [Step(*(rng.choice(pool) for pool in POOLS)) for _ in range(size)]
    if orderly:
        return _sorted(assemble((step._replace(behind_ms=0) for step in drawn), rng.choice(STARTS), "ts"))
    return assemble(drawn, rng.choice(STARTS), rng.choice(STAMPS))


ACTS = ("chat.message", "reaction", "telemetry.click", "poll.vote")
CROWD = (
    *ACTS * 6,
    *("presence.join", "presence.leave", "poll.opened", REPEAT) * 2,
    *("poll.closed", "session.ended", "emotion.observed"),
)
"""What a few people do close together: mostly acts."""
CLOSE_MS = (
    *(0, 1, 40, 90, 200, 300, 700, 1_200) * 4,
    *(4 * SECOND, 6_500) * 2,
    *(25 * SECOND, 170 * SECOND, 298_500),
)
"""How soon something follows; now and then only when presence is about to run out."""


def crowded_log(rng: Random, size: int, tenant: str = "t") -> list[LogRecord]:
    """Return a log of three people in two sessions, who act again and again before a tick is due."""
    drawn = [
        Step(
            rng.choice(CROWD),
            rng.choice(CLOSE_MS),
            rng.choice((*(0,) * 12, 400, 1_500)),
            0,
            (tenant, rng.choice(("s", "s/2"))),
            rng.choice(USERS[:3]),
            "p1",
            "e",
            rng.randrange(100),
        )
        for _ in range(size)
    ]
    return assemble(drawn, STARTS[1], "arrival")


def _sorted(log: list[LogRecord]) -> list[LogRecord]:
    return numbered(sorted(log, key=lambda entry: entry.record_ts))


def interleave(*logs: Iterable[LogRecord]) -> list[LogRecord]:
    """Return several logs as one partition stream, offsets counted anew.

    The head with the smallest (record timestamp, topic, offset) goes next; each log keeps its own order.
    """
    result: list[LogRecord] = []
    heads: list[tuple[int, str, int, int, LogRecord, Iterator[LogRecord]]] = []

    def push(number: int, rest: Iterator[LogRecord]) -> None:
        head = next(rest, None)
        if head is not None:
            heapq.heappush(heads, (head.record_ts, head.topic, head.offset, number, head, rest))

    for number, each in enumerate(logs):
        push(number, iter(each))
    while heads:
        *_, number, head, rest = heapq.heappop(heads)
        result.append(head)
        push(number, rest)
    return numbered(result)


def shuffle_within_lateness(log: Iterable[LogRecord], rng: Random, lateness_ms: int = 2 * SECOND) -> list[LogRecord]:
    """Return a random order of the log in which no event comes after one whose ``ts`` is more than 2 s greater.

    The record timestamps stay as a set and are handed out in order, as a broker's would be: none of the events
    becomes late or early by it, if none was more than 5 s behind its record. Unusable records move with theirs.
    """
    waiting = sorted(((_ts(entry), number, entry) for number, entry in enumerate(log)), key=lambda item: item[:2])
    stamps = sorted(entry.record_ts for *_, entry in waiting)
    result: list[LogRecord] = []
    for stamp in stamps:
        may_come = sum(1 for _ in _prefix(waiting, waiting[0][0] + lateness_ms))
        *_, entry = waiting.pop(rng.randrange(may_come))
        result.append(entry._replace(record_ts=stamp))
    return numbered(result)


def _prefix(waiting: list[tuple[int, int, LogRecord]], until: int) -> Iterator[LogRecord]:
    for ts, _, entry in waiting:
        if ts > until:
            return
        yield entry


def _ts(entry: LogRecord) -> int:
    known = judge(entry.raw)
    return known.ts if isinstance(known, Event) else entry.record_ts
