"""Sessions as the detector sees them: people who write, react, come and leave by chance, counted tick by tick."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random

import numpy as np

from operators.anomalies.config import AnomalyConfig
from operators.anomalies.detector import Detector, Reports
from operators.anomalies.rules import Measures
from operators.anomalies.state import TYPES, Baselines, Spells, Ticks
from operators.columns import pack, unpack
from operators.config import ScoreConfig
from operators.engagement import Scorer, SignalColumns, ratio
from tests.model_anomaly import Report, Tick

START = 1_700_000_000_000
FIRST = 12
"""Ticks that a room is played before it is looked at: its first window is full."""


@dataclass(frozen=True)
class Room:
    """A room: messages and reactions a minute of all together, comings and goings as shares a minute.

    ``energy`` multiplies both by the minute since the first tick; at each of ``exits`` (minutes) a share leaves within
    5 s; ``arrivals`` come at once; ``polls`` (minutes) run for a minute, and ``voters`` of the people vote. The
    session is ``age`` ticks old at the first.
    """

    people: int
    chats: float
    reactions: float = 0.0
    minutes: float = 10.0
    churn: float = 0.0
    energy: Callable[[float], float] = lambda _: 1.0
    exits: dict[float, float] = field(default_factory=dict)
    arrivals: dict[float, int] = field(default_factory=dict)
    polls: tuple[float, ...] = ()
    voters: float = 0.7
    age: int = 0


def play(room: Room, seed: int) -> list[Tick]:
    """Return the ticks of a room, drawn from a seed."""
    rng = np.random.default_rng(seed)
    most = room.people + sum(room.arrivals.values())
    talk = rng.gamma(2.0, 0.5, most)
    here = np.arange(most) < room.people
    acted, left, seen = np.full((3, most), -10_000)
    chats: list[int] = []
    reactions: list[int] = []
    ticks = []
    leaves = 0
    for k in range(-FIRST, round(room.minutes * 12)):
        minute = k / 12
        seen = np.where(here, k, seen)
        for at, share in room.exits.items():
            if round(at * 12) == k:
                away = here & (rng.random(most) < share)
                leaves += int(away.sum())
                here, left = here & ~away, np.where(away, k, left)
        for at, number in room.arrivals.items():
            if round(at * 12) == k:
                here[np.flatnonzero(~here & (seen < 0))[:number]] = True
        away = here & (rng.random(most) < room.churn / 12)
        leaves += int(away.sum())
        back = ~here & (left > 0) & (rng.random(most) < room.churn / 12)
        here, left = (here & ~away) | back, np.where(away, k, left)
        weight = np.where(here, talk, 0.0)
        alive = max(room.energy(minute), 0.0) * weight.sum() / talk[: room.people].sum() / 12
        chats.append(int(rng.poisson(room.chats * alive)))
        reactions.append(int(rng.poisson(room.reactions * alive)))
        if weight.sum() > 0:
            acted[rng.choice(most, chats[-1] + reactions[-1], p=weight / weight.sum())] = k
        poll = 0.0
        for at in room.polls:
            if at <= minute < at + 1:
                acted[here & (rng.random(most) < room.voters / 12)] = k
                poll = min(1.0, room.voters * (minute - at + 0.1))
        active = acted > k - 12
        if k >= 0:
            ticks.append(
                Tick(
                    START + k * 5_000,
                    True,
                    chats[-1],
                    reactions[-1],
                    sum(chats[-12:]),
                    sum(reactions[-12:]),
                    int(here.sum()),
                    int(active.sum()),
                    int((here | active).sum()),
                    int((here | (seen > k - 12)).sum()),
                    int(((left > k - 12) & ~here).sum()),
                    int((here | (seen > k - 60)).sum()),
                    poll,
                    room.age + k,
                    leaves,
                )
            )
    return ticks


def columns(sessions: Sequence[Sequence[Tick]]) -> Ticks:
    """Return the ticks of some sessions as a closing's columns."""
    flat = [tick for session in sessions for tick in session]
    raw = np.array([(*tick[:12], tick.age, tick.leaves) for tick in flat], np.int64).reshape(len(flat), 14)
    ts, alive, chats, reactions, chat_per_min, reactions_per_min, connected, active, *rest = raw.T
    there, inside, left, audience, age, leaves = rest
    signals = SignalColumns(
        chat_per_min,
        reactions_per_min,
        connected,
        active,
        ratio(active, there),
        np.array([tick.poll for tick in flat], np.float64),
        ratio(left, inside),
    )
    session = np.repeat(np.arange(len(sessions)), [len(ticks) for ticks in sessions])
    scores = Scorer(ScoreConfig()).score(signals)
    return Ticks(session, ts, alive > 0, signals, scores, chats, reactions, there, inside, left, audience, age, leaves)


def told(reports: Reports, i: int) -> Report:
    """Return one report as the reference tells it."""
    return Report(
        int(reports.ts[i]),
        TYPES[reports.kind[i]],
        "CRITICAL" if reports.critical[i] else "WARNING",
        "raised" if reports.raised[i] else "resolved",
        float(reports.combined[i]),
        float(reports.current[i]),
        float(reports.expected[i]),
        float(reports.trees[i]),
        float(reports.z[i]),
        float(reports.trees_weight[i]),
    )


def snapshot(table: Baselines) -> Baselines:
    """Return the table as it comes back from bytes."""
    _, back = unpack(pack(None, table.columns(slice(None))))
    restored = Baselines(AnomalyConfig(), table.capacity)
    for name, column in back.items():
        getattr(restored, name)[:] = column
    return restored


def detect(
    sessions: Sequence[Sequence[Tick]],
    config: AnomalyConfig | None = None,
    *,
    cuts: Iterable[int] = (),
    ends: bool = False,
    restarts: Iterable[int] = (),
    rows: Sequence[int] | None = None,
) -> list[list[Report]]:
    """Return what is told of each session.

    ``cuts``: before which tick (of each session) a closing is cut; ``restarts``: which closings begin from bytes;
    ``ends``: each session ends 1 s after its last tick; ``rows``: where each one's state is kept.
    """
    detector = Detector(config or AnomalyConfig(), ScoreConfig())
    n = len(sessions)
    longest = max((len(session) for session in sessions), default=0)
    row = np.arange(n) if rows is None else np.array(rows, np.int64)
    table = detector.baselines(int(row.max(initial=0)) + 1)
    out: list[list[Report]] = [[] for _ in sessions]
    edges = sorted({0, longest, *(cut for cut in cuts if 0 < cut < longest)})
    for number, (begin, stop) in enumerate(pairwise(edges)):
        if number in set(restarts):
            table = snapshot(table)
        last = stop == longest
        spells = Spells(
            row,
            np.full(n, number > 0),
            np.full(n, ends and last),
            np.array([session[-1].ts + 1_000 if session else 0 for session in sessions], np.int64),
        )
        reports = detector.detect(table, spells, columns([session[begin:stop] for session in sessions]))
        for i in range(len(reports)):
            out[int(reports.session[i])].append(told(reports, i))
    return out


EAGER = replace(
    AnomalyConfig(),
    evidence=1.0,
    sudden_margin=0.0,
    low_margin=0.0,
    decline_margin=0.0,
    exit_evidence=1.0,
    exit_most_evidence=0.5,
    exit_unknown_evidence=2.0,
    exit_rate=0.03,
)
"""Tells much more: for tests that need reports, not good ones."""


def random_room(seed: int) -> list[Tick]:
    """Return a session in which much happens: audiences that come and go, polls, falls, exits, gaps."""
    rng = Random(seed)
    people = rng.choice([1, 4, 5, 6, 10, 30, 100, 400])
    low, at = rng.choice([0.0, 0.1, 0.5, 1.0]), rng.uniform(1, 8)
    slow = rng.random() < 0.5
    room = Room(
        people,
        chats=rng.choice([0.0, 2.0, 5.0, 15.0, 60.0]),
        reactions=rng.choice([0.0, 3.0, 15.0]),
        minutes=rng.choice([0.5, 3.0, 12.0]),
        churn=rng.choice([0.0, 0.02, 0.2]),
        energy=lambda m: max(low, 1 - (m - at) / 4) if slow and m > at else low if at < m < at + 3 else 1.0,
        exits={rng.uniform(0, 9): rng.random()} if rng.random() < 0.6 else {},
        arrivals={rng.uniform(0, 9): people} if rng.random() < 0.3 else {},
        polls=(rng.uniform(0, 6),) if rng.random() < 0.4 else (),
        age=rng.choice([0, 0, 30, 59, 300]),
    )
    ticks = play(room, seed)
    if rng.random() < 0.3:
        gap = rng.randrange(len(ticks))
        ticks[gap : gap + 3] = [tick._replace(alive=False) for tick in ticks[gap : gap + 3]]
    if rng.random() < 0.3:
        del ticks[rng.randrange(len(ticks)) : rng.randrange(len(ticks))]
    return ticks


def even(k: int, *, people: int, active: int, chats: int, reactions: int) -> Tick:
    """Return a tick of a room in which every 5 s is like the others."""
    return Tick(
        START + k * 5_000,
        True,
        chats,
        reactions,
        chats * 12,
        reactions * 12,
        people,
        active,
        people,
        people,
        0,
        people,
        0.0,
        k,
        0,
    )


def trace(session: Sequence[Tick], config: AnomalyConfig | None = None) -> Measures:
    detector = Detector(config or AnomalyConfig(), ScoreConfig())
    none = np.zeros(1, np.bool_)
    spells = Spells(np.zeros(1, np.int64), none, none, np.zeros(1, np.int64))
    return detector.trace(detector.baselines(1), spells, columns([session]))


def raised(reports: Sequence[Report]) -> list[tuple[str, int]]:
    """Return the types raised, and at which tick."""
    return [(r.anomaly_type, (r.ts - START) // 5_000) for r in reports if r.state == "raised"]
