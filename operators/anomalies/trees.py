"""The trees of a closing's runs: every tick's leaves at once, masses only at those ticks that are asked about.

What the trees say of a tick is the rank of its mass among those of the window before, and few ticks are asked about. So
a mass is taken when it is needed first, and kept for the ticks that come after.
"""

import numpy as np

from operators.anomalies.state import LEAVES, RANKED, UNITS, Baselines, Runs, Ticks, unrolled
from operators.columns import Flags, Int64s, offsets, ranges
from operators.config import ScoreConfig
from operators.engagement import Floats, saturation
from operators.half_space_trees import Forest, Leaves

FEATURES = ("active", "chat", "leaves", "reactions", "score")
"""What the trees see, all in 0..1, in the forest's order."""

UNKNOWN = -1
"""A mass that nobody has asked about."""

_PORTION = 4_096
"""Ticks whose masses are taken together: bounds memory."""


class Features:
    """What the trees see of ticks."""

    def __init__(self, config: ScoreConfig) -> None:
        self._config = config
        self._chat = np.array([saturation(n, config.chat_ceiling) for n in range(config.chat_ceiling + 1)])
        self._reactions = np.array(
            [saturation(n, config.reactions_ceiling) for n in range(config.reactions_ceiling + 1)]
        )

    def __call__(self, ticks: Ticks, at: Int64s, score: Int64s) -> Floats:
        """Return the features of some ticks, of shape (n, features)."""
        signals, config = ticks.signals, self._config
        out = np.empty((len(at), len(FEATURES)))
        out[:, 0] = signals.active_ratio[at]
        out[:, 1] = self._chat[np.minimum(signals.chat_per_min[at], config.chat_ceiling)]
        out[:, 2] = signals.leave_rate[at]
        out[:, 3] = self._reactions[np.minimum(signals.reactions_per_min[at], config.reactions_ceiling)]
        out[:, 4] = score / UNITS
        return out


class Masses:
    """How many points of its reference window lay near each tick; the more, the more usual it is."""

    def __init__(self, runs: Runs, table: Baselines, forest: Forest, leaves: Leaves) -> None:
        """``leaves`` has shape (ticks with an audience, trees)."""
        self._runs, self._table, self._forest, self._leaves = runs, table, forest, leaves
        self._window = forest.window_size
        self._column: Int64s | None = None
        self._at = offsets(runs.count + RANKED)

    def around(self, which: Int64s) -> tuple[Int64s, Int64s]:
        """Return the masses at some ticks, (n,), and at the ticks of the window before, newest first, (n, window).

        They are 0 before a run's first window has been learned.
        """
        runs, window = self._runs, self._window
        if self._column is None:
            self._column = self._lay()
        back = np.arange(window + 1)
        slots = (self._at[runs.run[which]] + RANKED + runs.place[which])[:, None] - back
        warm = runs.ordinal[which][:, None] - back >= window
        masses = self._column[slots]
        asked = np.zeros(len(self._column), np.bool_)
        asked[slots[warm & (masses == UNKNOWN)]] = True
        todo = np.flatnonzero(asked)
        if len(todo):
            self._take(todo, self._column)
            masses = self._column[slots]
        masses = np.where(warm, masses, 0)
        return masses[:, 0], masses[:, 1:]

    def _lay(self) -> Int64s:
        """Return the masses of each run's last earlier ticks and of its own ticks, where they are known."""
        runs = self._runs
        column = np.full(int(self._at[-1]), UNKNOWN, np.int64)
        carry = np.flatnonzero(runs.goes_on)
        at = unrolled(runs.row[carry], runs.seen[carry], RANKED)
        column[self._at[carry][:, None] + np.arange(RANKED)] = self._table.masses.ravel()[at]
        return column

    def _take(self, slots: Int64s, column: Int64s) -> None:
        """Fill in the masses at some slots, in the forest of their runs."""
        runs, window = self._runs, self._window
        run = np.searchsorted(self._at, slots, side="right") - 1
        place = slots - self._at[run] - RANKED
        mine, of = np.unique(run, return_inverse=True)
        begins, leaves = self._lay_leaves(mine)
        here = begins[of] + place
        reference = here - (runs.seen[run] + place) % window - window
        for at in range(0, len(slots), _PORTION):
            some = slice(at, at + _PORTION)
            near = leaves[reference[some] + np.arange(window)[:, None]].transpose(1, 2, 0)
            column[slots[some]] = self._forest.masses(near, leaves[here[some]])

    def _lay_leaves(self, which: Int64s) -> tuple[Int64s, Leaves]:
        """Return some runs' leaves, those of earlier closings in front, and where the ticks of this one begin."""
        runs, count = self._runs, self._runs.count[which]
        at = offsets(count + LEAVES)
        leaves = np.zeros((int(at[-1]), self._leaves.shape[1]), self._leaves.dtype)
        begins = at[:-1] + LEAVES
        leaves[ranges(begins, count)] = self._leaves[ranges(runs.tick_at[which], count)]
        on = np.flatnonzero(runs.goes_on[which])
        carry = which[on]
        kept = self._table.leaves.reshape(-1, leaves.shape[1])
        leaves[at[on][:, None] + np.arange(LEAVES)] = kept[unrolled(runs.row[carry], runs.seen[carry], LEAVES)]
        return begins, leaves

    def keep(self, which: Flags) -> None:
        """Write what some runs' next ticks need to their rows."""
        runs, table = self._runs, self._table
        runs.keep("leaves", self._leaves, which)
        if self._column is None:
            runs.keep("masses", np.full(len(runs.at), UNKNOWN), which)
            return
        last = np.flatnonzero(which)
        back = np.arange(-RANKED, 0)
        ticks = (runs.seen + runs.count)[last][:, None] + back
        table.masses[runs.row[last][:, None], ticks % RANKED] = self._column[self._at[last + 1][:, None] + back]
