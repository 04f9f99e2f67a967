"""The truth about a lab's sessions: episodes with their types, and the noise-free course beside them."""

from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from flows.generate.lab.acts import Names
from flows.generate.lab.expectation import TICK_MS, Course, course
from flows.generate.lab.falls import LabelRules
from flows.generate.lab.labels import (
    GRADUAL_DECLINE,
    LOW_ENGAGEMENT,
    MASS_EXIT,
    SUDDEN_DROP,
    TYPES,
    hold,
    until_ms,
)
from flows.generate.lab.rhythm import Flags
from flows.generate.lab.room import Room

TypeName = Literal["MASS_EXIT", "LOW_ENGAGEMENT", "SUDDEN_DROP", "GRADUAL_DECLINE"]
Cause = Literal["weak", "newcomers", "poll", "end"]

JOINED_TICKS = 6
"""Runs of open ticks with fewer closed ones between them are one episode."""
SURE_TICKS = 3
"""Ticks running that a rule must be sure for its type to be wanted; MASS_EXIT comes on the first one."""
RECENT_MS = 600_000
"""How long after a change what follows is still put down to it."""


class TypeTruth(msgspec.Struct, frozen=True):
    """A type in an episode: the ticks ``[first, last]`` at which it is open; ``onset_ts``: since when it is wanted."""

    anomaly_type: TypeName
    spans: list[tuple[int, int]]
    onset_ts: int | None


class Episode(msgspec.Struct, frozen=True):
    """An episode from ``start_ts`` (the process changed) over ``[first_ts, last_ts]`` (ticks at which a type is open).

    ``ambiguous`` is null if a type is wanted in it, else why none is.
    """

    start_ts: int
    first_ts: int
    last_ts: int
    ambiguous: Cause | None
    types: list[TypeTruth]


class ChangeTruth(msgspec.Struct, frozen=True):
    """A change of the process: what, from when, and when it was undone (null: never)."""

    what: str
    start_ts: int
    end_ts: int | None


class LabSession(msgspec.Struct, frozen=True):
    """A session. ``over_ts`` is the programme's end, ``end_ts`` when ``session.ended`` is sent (null: it is not).

    ``healthy``: no trouble is meant to happen in it, and no anomaly is wanted.
    ``audience_ticks`` is at how many ticks an audience is expected. ``expected`` and ``sd`` are, tick by tick from
    ``first_tick`` on, the expected score without its poll term and its standard deviation by counting noise.
    """

    tenant_id: str
    session_id: str
    kind: str
    people: int
    by_acts_alone: bool
    start_ts: int
    over_ts: int
    end_ts: int | None
    healthy: bool
    audience_ticks: int
    changes: list[ChangeTruth]
    episodes: list[Episode]
    first_tick: int
    expected: list[float]
    sd: list[float]


class LabTruth(msgspec.Struct, frozen=True):
    """What is true of all the sessions of a lab."""

    scenario: str
    seed: int
    start_ts: int
    sessions: list[LabSession]


def runs(flags: Flags) -> list[tuple[int, int]]:
    """Return first and last index of each run of true flags.

    >>> runs(np.array([False, True, True, False, True]))
    [(1, 2), (4, 4)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@dataclass(frozen=True, eq=False)
class Reading:
    """What the labels say of a room's ticks, by type, shape (ticks,) each.

    ``opened``: where a report is not wrong. ``asked``: where one can be asked for. ``taken``: where a type ahead in the
    order has the place. ``calmly``: where a report would not be wrong had there been no polls.
    """

    opened: dict[str, Flags]
    asked: dict[str, Flags]
    taken: dict[str, Flags]
    calmly: dict[str, Flags]


def read(room: Room, seen: Course, rules: LabelRules) -> Reading:
    """Apply the labels to a room whose course is ``seen``."""
    held = hold(seen, room, rules)
    calm = hold(course(room.calm(), seen.start_ts, until_ms(room)), room, rules) if room.polls else held
    before_end = seen.ts <= seen.start_ts + room.over
    # A poll is no drop: what its votes do to the active ratio is open only where the rule holds to the letter.
    opened = {name: calm.open[name] | held.plain[name] | held.sure[name] for name in TYPES}
    low, drop = LOW_ENGAGEMENT, SUDDEN_DROP
    return Reading(
        opened=opened,
        asked={name: held.sure[name] & calm.sure[name] & before_end for name in TYPES},
        taken={
            MASS_EXIT: np.zeros(len(seen.ts), np.bool_),
            low: opened[MASS_EXIT],
            drop: opened[MASS_EXIT] | held.sure[low],
            GRADUAL_DECLINE: opened[MASS_EXIT] | held.plain[low] | held.plain[drop],
        },
        calmly=calm.open,
    )


def tell(room: Room, names: Names, rules: LabelRules) -> LabSession:
    """Return the truth about a room."""
    start = names.start_ts
    seen = course(room, start, until_ms(room))
    reading = read(room, seen, rules)
    writer = _Writer(room, start, seen.ts.tolist(), reading)
    episodes = [writer.episode(*span) for span in _spans(reading)]
    return LabSession(
        tenant_id=names.tenant_id,
        session_id=names.session_id,
        kind=room.kind,
        people=room.people,
        by_acts_alone=not bool(room.joins.any()),
        start_ts=start,
        over_ts=start + room.over,
        end_ts=None if room.ended is None else start + room.ended,
        healthy=not room.troubled and all(episode.ambiguous for episode in episodes),
        audience_ticks=int((seen.audience >= 5 - 1e-9).sum()),
        changes=[ChangeTruth(c.what, start + c.start, None if c.end is None else start + c.end) for c in room.changes],
        episodes=episodes,
        first_tick=int(seen.ts[0]) if len(seen.ts) else start,
        expected=[round(x, 4) for x in seen.score.tolist()],
        sd=[round(x, 4) for x in seen.sd.tolist()],
    )


def _spans(reading: Reading) -> list[tuple[int, int]]:
    """Return the runs of ticks at which any type is open, near ones joined."""
    found: list[tuple[int, int]] = []
    for first, last in runs(np.any(list(reading.opened.values()), axis=0)):
        if found and first - found[-1][1] <= JOINED_TICKS:
            found[-1] = found[-1][0], last
        else:
            found.append((first, last))
    return found


class _Writer:
    def __init__(self, room: Room, start: int, ts: list[int], reading: Reading) -> None:
        self._room, self._start, self._ts, self._reading = room, start, ts, reading

    def episode(self, first: int, last: int) -> Episode:
        """Return the episode of the ticks ``first`` to ``last``."""
        types: list[TypeTruth] = []
        for name in TYPES:
            spans = [(a + first, b + first) for a, b in runs(self._reading.opened[name][first : last + 1])]
            if not spans:
                continue
            onset = self._onset(name, first, last + 1)
            stretches = [(self._ts[a], self._ts[b]) for a, b in spans]
            types.append(TypeTruth(name, stretches, None if onset is None else self._ts[onset]))  # type: ignore[arg-type]  # a name of TYPES
        wanted = [truth.onset_ts for truth in types if truth.onset_ts is not None]
        return Episode(
            start_ts=self._began(min(wanted, default=self._ts[first])),
            first_ts=self._ts[first],
            last_ts=self._ts[last],
            ambiguous=None if wanted else self._cause(first, last),
            types=types,
        )

    def _onset(self, name: str, first: int, stop: int) -> int | None:
        """Return the tick since when a type is wanted: enough sure ones running before a type ahead takes its place."""
        least = 1 if name == MASS_EXIT else SURE_TICKS
        taken = np.flatnonzero(self._reading.taken[name][first:stop])
        stop = first + int(taken[0]) if len(taken) else stop
        for a, b in runs(self._reading.asked[name][first:stop]):
            if b - a + 1 >= least:
                return a + first
        return None

    def _began(self, ts: int) -> int:
        """Return when the process changed: at the last change before, if that is not long ago, else at the tick."""
        moments = [m for c in self._room.changes for m in (c.start, c.end) if m is not None]
        recent = [self._start + m for m in moments if 0 <= ts - self._start - m <= RECENT_MS]
        return max(recent, default=ts - TICK_MS)

    def _cause(self, first: int, last: int) -> Cause:
        within = slice(first, last + 1)
        if self._ts[last] > self._start + self._room.over:
            return "end"
        if not any(self._reading.calmly[name][within].any() for name in TYPES):
            return "poll"
        lately = [c for c in self._room.changes if c.what == "rush"]
        if any(0 <= self._ts[first] - self._start - c.start <= RECENT_MS for c in lately):
            return "newcomers"
        return "weak"
