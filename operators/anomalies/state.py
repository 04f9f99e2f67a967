"""What anomaly detection is fed, what it keeps of a session, and how both are laid out as one axis of runs.

A run is an audience: ticks on end, 5 s apart, at each of which there are enough people. Its baseline begins with it and
is forgotten with it. In a closing every run gets ``HISTORY`` slots for what earlier closings saw of it and one slot for
each tick, so whatever lies up to five minutes back is a fixed number of slots away, and a sum over a span of ticks is
the difference of two running sums. All of it are whole numbers (scores in millionths), so that no sum depends on how
the ticks were cut into closings or on who shares one.

What is kept of a run's ticks lies in rings: the run's tick number k is at k modulo the ring's length, so that a closing
writes nothing but its new ticks.
"""

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from operators.anomalies.config import HISTORY, WINDOW_TICKS, AnomalyConfig
from operators.columns import Column, Flags, Int64s, first_of_runs, offsets
from operators.config import PANE_MS
from operators.engagement import Floats, ScoreColumns, SignalColumns
from operators.presence import LONG_AGO
from operators.rows import Columns
from schemas.outbound import AnomalyType

TYPES: tuple[AnomalyType, ...] = ("MASS_EXIT", "LOW_ENGAGEMENT", "SUDDEN_DROP", "GRADUAL_DECLINE")
"""In the order in which they are looked for: the first that holds is told."""

NEWEST = 12
"""Numbers kept of the newest tick: combined, trees, z, weight of the trees, score, and the seven signals."""

UNITS = 1_000_000
"""The score that is compared is counted in whole millionths: sums of floats would depend on where closings are cut."""

MOST = np.iinfo(np.uint16).max
"""Events in 5 s are counted up to here: far beyond, nothing about noise is in doubt."""

RANKED = HISTORY // 2
"""Ticks among whose masses one is ranked, at most: the longest window."""

LEAVES = 3 * RANKED
"""Ticks whose leaves are kept: the oldest mass was taken in the last full window in front of its tick."""


@dataclass(frozen=True, slots=True)
class Spells:
    """The sessions of a closing, each of shape (n,).

    ``row``: where its state is kept; ``kept``: it was there before this closing; ``finished``: it ends within, at
    ``end`` (ms).
    """

    row: Int64s
    kept: Flags
    finished: Flags
    end: Int64s

    def take(self, which: slice) -> "Spells":
        """Return some of the sessions."""
        return Spells(self.row[which], self.kept[which], self.finished[which], self.end[which])


@dataclass(frozen=True, slots=True)
class Ticks:
    """The ticks of a closing, session after session, each session's in order of time; each of shape (t,).

    ``session`` indexes the closing's sessions. ``alive`` is False for ticks that are not told (nobody is there, and
    nobody was at the one before); they count as no ticks. ``chats`` and ``reactions`` are those of the last 5 s alone.
    ``audience``: users present within the last 5 minutes. ``left``, ``present_in_window``, ``present_or_active``: the
    distinct users behind the leave rate and the active ratio. ``age``: ticks since the session began; ``leaves``: all
    that it has had before the tick.
    """

    session: Int64s
    ts: Int64s
    alive: Flags
    signals: SignalColumns
    scores: ScoreColumns
    chats: Int64s
    reactions: Int64s
    present_or_active: Int64s
    present_in_window: Int64s
    left: Int64s
    audience: Int64s
    age: Int64s
    leaves: Int64s

    def take(self, which: slice, first: int) -> "Ticks":
        """Return the ticks of some sessions on end, of which ``first`` is the first."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        signals, scores = columns.pop("signals"), columns.pop("scores")
        parts = {name: column[which] for name, column in columns.items()}
        return Ticks(
            **parts | {"session": parts["session"] - first},
            signals=SignalColumns(*(getattr(signals, field.name)[which] for field in fields(signals))),
            scores=ScoreColumns(*(getattr(scores, field.name)[which] for field in fields(scores))),
        )


class Baselines(Columns):
    """What is kept of each session, one row each.

    ``used``: the row holds anything. Of the running audience: ``ticks`` so far (0: none), the newest one's time, rings
    of its last ticks, ``churn`` and ``crowd`` (people who leave, and who are there, in 60 s), and the ticks at which a
    poll ran and a drop held last. Of each type: whether it is ``open``, what was ``expected`` when it was raised, when
    it was ``told`` last, and how many ticks it has been ``back``.

    The rings: ``acts`` has the score, active users, users present or active, and the messages and reactions of 5 s (of
    the run's first tick: of 60 s) in the lower and the higher half of one number. ``people`` has audience, connected
    users and who left; what is 0 before the run's first tick is so here, too. ``leaves``: those of the forest that the
    ticks fell into; ``masses``: the mass there, -1 while nobody asked for it.
    """

    LAYOUT: ClassVar[dict[str, tuple[Any, tuple[int, ...], Any]]] = {
        "used": (np.bool_, (), False),
        "ticks": (np.int64, (), 0),
        "newest_ts": (np.int64, (), LONG_AGO),
        "acts": (np.uint32, (HISTORY, 4), 0),
        "people": (np.uint32, (WINDOW_TICKS, 3), 0),
        "churn": (np.float64, (), 0.0),
        "crowd": (np.float64, (), 0.0),
        "poll_tick": (np.int64, (), LONG_AGO),
        "drop_tick": (np.int64, (), LONG_AGO),
        "newest": (np.float64, (NEWEST,), 0.0),
        "open": (np.bool_, (len(TYPES),), False),
        "expected": (np.float64, (len(TYPES),), 0.0),
        "told": (np.int64, (len(TYPES),), LONG_AGO),
        "back": (np.uint8, (len(TYPES),), 0),
    }
    used: Flags
    ticks: Int64s
    newest_ts: Int64s
    acts: npt.NDArray[np.uint32]
    people: npt.NDArray[np.uint32]
    masses: npt.NDArray[np.signedinteger[Any]]
    leaves: Column
    churn: Floats
    crowd: Floats
    poll_tick: Int64s
    drop_tick: Int64s
    newest: Floats
    open: Flags
    expected: Floats
    told: Int64s
    back: npt.NDArray[np.uint8]

    def __init__(self, config: AnomalyConfig, capacity: int = 16) -> None:
        leaf = np.uint8 if config.tree_height <= 8 else np.uint16
        most = config.n_trees * config.window * ((2 << config.tree_height) - 1)
        self.LAYOUT = type(self).LAYOUT | {  # type: ignore[misc] # by config
            "leaves": (leaf, (LEAVES, config.n_trees), 0),
            "masses": (np.min_scalar_type(-most), (RANKED,), -1),
        }
        super().__init__(capacity)

    def reach(self, capacity: int) -> None:
        """Make room for that many rows."""
        if capacity > self.capacity:
            self._grow(capacity)

    def begin(self, rows: Int64s) -> None:
        """Forget the ticks of the audience before, for a new one begins."""
        self.acts[rows], self.people[rows] = 0, 0

    def reset(self, rows: Int64s) -> None:
        """Forget what the rows hold."""
        rows = rows[self.used[rows]]
        if len(rows):
            for name, (_, _, fresh) in self.LAYOUT.items():
                getattr(self, name)[rows] = fresh


class Runs:
    """The ticks with an audience, and the runs that they form, on one axis of slots."""

    def __init__(self, table: Baselines, spells: Spells, ticks: Ticks, at: Int64s, config: AnomalyConfig) -> None:
        """``at`` are the places of the ticks of all sessions that matter, ascending."""
        session, ts = ticks.session[at], ticks.ts[at]
        audience = ticks.audience[at] >= config.min_audience
        follows = np.zeros(len(at), np.bool_)
        follows[1:] = (session[1:] == session[:-1]) & (ts[1:] == ts[:-1] + PANE_MS) & audience[:-1]
        begins = audience & ~follows
        self.at = at[audience]
        """The place of each tick among the closing's; this and all below of shape (ticks with an audience,)."""
        heads = np.flatnonzero(begins)
        self.session = session[heads]
        self.row = spells.row[self.session]
        self.run = np.cumsum(begins[audience]) - 1
        n = len(heads)
        self.count = np.bincount(self.run, minlength=n)
        first = first_of_runs(session)[heads] if n else np.zeros(0, np.bool_)
        kept = first & spells.kept[self.session]
        self.seen = np.where(kept & (ts[heads] == table.newest_ts[self.row] + PANE_MS), table.ticks[self.row], 0)
        """Ticks of each run before this closing."""
        self.goes_on = self.seen > 0
        self.tick_at = offsets(self.count)
        """Where each run's ticks begin, with the total at the end."""
        place = np.arange(len(self.at)) - self.tick_at[self.run]
        self.place = place
        self.ordinal = self.seen[self.run] + place
        """How many ticks its audience had before each tick."""
        self.slots_at = offsets(self.count + HISTORY)
        self.slot = (self.slots_at[:-1] + HISTORY)[self.run] + place
        self.size = int(self.slots_at[-1])
        self._table = table

    def where(self, places: Int64s) -> Int64s:
        """Return the ticks at those of some places of the closing that have an audience."""
        return np.flatnonzero(np.isin(self.at, places))

    def lay(self, name: str, values: Column) -> Column:
        """Return a ring over all slots: what is kept of each run, in order of time, then its ticks' ``values``.

        It is 0 where there was no tick.
        """
        ring = getattr(self._table, name)
        length = ring.shape[1]
        out = np.zeros((self.size, *ring.shape[2:]), ring.dtype)
        rows = _as_numbers(out)
        carry = np.flatnonzero(self.goes_on)
        if len(carry):
            at = (self.slots_at[carry] + HISTORY - length)[:, None] + np.arange(length)
            rows[at] = _as_numbers(ring.reshape(-1, *ring.shape[2:]))[
                unrolled(self.row[carry], self.seen[carry], length)
            ]
        rows[self.slot] = _as_numbers(values)
        return out

    def keep(self, name: str, values: Column, which: Flags) -> None:
        """Write the last ticks' ``values`` of some runs to a ring."""
        ring = getattr(self._table, name)
        length = ring.shape[1]
        first = np.where(which, self.count - length, self.count)
        tick = np.flatnonzero(self.place >= first[self.run])
        at = (self.row * length)[self.run[tick]] + self.ordinal[tick] % length
        _as_numbers(ring.reshape(-1, *ring.shape[2:]))[at] = _as_numbers(values)[tick]


def unrolled(rows: Int64s, ticks: Int64s, length: int) -> Int64s:
    """Return where the rings of some rows hold what they hold, in order of time, the newest last; (n, length).

    ``ticks`` says how many have been written to each, ring after ring being counted through.

    >>> unrolled(np.array([2]), np.array([5]), 3).tolist()
    [[8, 6, 7]]
    """
    places: Int64s = _turns(length)[ticks % length] + (rows * length)[:, None]
    return places


def _as_numbers(column: Column) -> Column:
    """Return a view of a column with rows of 16 bytes as one of numbers: those are moved eight times as fast."""
    if column.ndim == 1 or column.shape[1] * column.itemsize != 16:
        return column
    numbers: Column = column.view(np.complex128)[:, 0]
    return numbers


@lru_cache(maxsize=16)
def _turns(length: int) -> Int64s:
    """Return ``(i + k) % length`` for each i and k."""
    place = np.arange(length)
    turns: Int64s = (place[:, None] + place) % length
    return turns


class Spans:
    """Sums of a column over spans of ticks, by how far they lie back."""

    def __init__(self, column: Column, slot: Int64s) -> None:
        self._sums, self._slot = offsets(column), slot

    def __call__(self, nearest: int | Int64s, farthest: int | Int64s) -> Int64s:
        """Return the sum over the ticks from ``nearest`` to ``farthest`` ticks back, both included; (t,).

        Of spans of shape (n, 1), sums of shape (n, t).
        """
        total: Int64s = self._sums[self._slot - (nearest - 1)] - self._sums[self._slot - farthest]
        return total

    def at(self, which: Int64s) -> "Spans":
        """Return the same for some of the ticks."""
        part = object.__new__(Spans)
        part._sums, part._slot = self._sums, self._slot[which]
        return part
