"""The columns of a closing's runs: what earlier closings kept of them, then its own ticks, and what is kept in turn."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from operators.anomalies.churn import usual
from operators.anomalies.config import WINDOW_TICKS, AnomalyConfig
from operators.anomalies.state import MOST, UNITS, Baselines, Runs, Spans, Ticks
from operators.anomalies.trees import Features, Masses
from operators.columns import Flags, Int64s
from operators.engagement import Floats
from operators.half_space_trees import Forest
from operators.presence import LONG_AGO


class History:
    """The columns of a closing's runs over all slots, and sums of them.

    What only few closings ask for is made when it is asked for.
    """

    def __init__(
        self,
        runs: Runs,
        table: Baselines,
        ticks: Ticks,
        forest: Forest,
        features: Features,
        config: AnomalyConfig,
    ) -> None:
        self.runs, self.ticks = runs, ticks
        self._table, self._config, self._forest = table, config, forest
        at = runs.at
        self.score_now = compared(ticks, at)
        self.ordinal = runs.ordinal
        self._acts_now, self._people_now = self._rings()
        self._acts, self._people = runs.lay("acts", self._acts_now), runs.lay("people", self._people_now)
        self.score_column = self._acts[:, 0].astype(np.int64)
        self._scores = Spans(self.score_column, runs.slot)
        self.left_column = self._people[:, 2].astype(np.int64)
        self._masses = Masses(runs, table, forest, forest.leaves(features(ticks, at, self.score_now)))
        self.grown = ticks.age[at] - self.ordinal >= config.exit_age
        """Whether the session was so old when its audience came that its churn was known."""
        self.known = np.where(self.grown, ticks.age[at], self.ordinal) + 1
        """How many ticks are behind what is known of churn, each one's own included."""
        (self.churn, self.crowd), self._usual_after = usual(
            runs,
            np.stack([table.churn[runs.row], table.crowd[runs.row]]),
            self._first_churn(),
            self.known,
            self.left_column[runs.slot - WINDOW_TICKS],
            ticks.present_in_window[at],
            config.exit_memory,
        )
        self._poll_tick, self._polls = self._last(ticks.signals.poll_participation[at] > 0, "poll_tick")
        self.remember_drops(np.zeros(0, np.int64))

    def _first_churn(self) -> Floats:
        """Return what each run that begins takes for its churn, (runs,): all leaves before, spread over the time."""
        first = self.runs.tick_at[:-1]
        at, ticks = self.runs.at[first], self.ticks
        earlier = np.maximum(ticks.leaves[at] - ticks.left[at], 0) * WINDOW_TICKS / np.maximum(ticks.age[at], 1)
        return np.where(self.grown[first], earlier, ticks.left[at])

    def _rings(self) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
        """Return what the rings ``acts`` and ``people`` hold of each tick."""
        at, ticks, signals = self.runs.at, self.ticks, self.ticks.signals
        acts, people = np.empty((len(at), 4), np.uint32), np.empty((len(at), 3), np.uint32)
        acts[:, 0] = self.score_now
        acts[:, 1] = signals.active_users[at]
        acts[:, 2] = ticks.present_or_active[at]
        starts = self.ordinal == 0
        chats = np.where(starts, signals.chat_per_min[at], ticks.chats[at])
        reactions = np.where(starts, signals.reactions_per_min[at], ticks.reactions[at])
        acts[:, 3] = np.minimum(chats, MOST) | np.minimum(reactions, MOST) << 16
        people[:, 0] = ticks.audience[at]
        people[:, 1] = signals.connected_users[at]
        people[:, 2] = ticks.left[at]
        return acts, people

    @cached_property
    def active_column(self) -> Int64s:
        """Users who are active, over all slots."""
        column: Int64s = self._acts[:, 1].astype(np.int64)
        return column

    @cached_property
    def there_column(self) -> Int64s:
        """Users who are present or active, over all slots."""
        column: Int64s = self._acts[:, 2].astype(np.int64)
        return column

    @cached_property
    def connected_column(self) -> Int64s:
        """Users who are present, over all slots."""
        column: Int64s = self._people[:, 1].astype(np.int64)
        return column

    @cached_property
    def _chats(self) -> Spans:
        return Spans(self._acts[:, 3].astype(np.int64) & MOST, self.runs.slot)

    @cached_property
    def _reactions(self) -> Spans:
        return Spans(self._acts[:, 3].astype(np.int64) >> 16, self.runs.slot)

    @cached_property
    def _actives(self) -> Spans:
        return Spans(self.active_column, self.runs.slot)

    @cached_property
    def _there(self) -> Spans:
        return Spans(self.there_column, self.runs.slot)

    @cached_property
    def _squares(self) -> Spans:
        return Spans(self.score_column * self.score_column, self.runs.slot)

    @cached_property
    def _moments(self) -> Spans:
        """Sums of the scores by their place among their run's slots."""
        place = np.arange(self.runs.size) - np.repeat(self.runs.slots_at[:-1], np.diff(self.runs.slots_at))
        return Spans(self.score_column * place, self.runs.slot)

    @cached_property
    def _high(self) -> Int64s:
        """The last slot up to each one at which the score was above ``low_from``, -1 if none."""
        high = np.where(self.score_column > self._config.low_from * UNITS, np.arange(self.runs.size), -1)
        last: Int64s = np.maximum.accumulate(high)
        return last

    def _last(self, flags: Flags, name: str) -> tuple[Int64s, Int64s]:
        """Return the number of the last flagged tick in each run, kept ones included, and up to each tick.

        Long ago if there is none.
        """
        runs = self.runs
        before = np.where(runs.goes_on, getattr(self._table, name)[runs.row], LONG_AGO)
        which = np.flatnonzero(flags)
        if not len(which):
            return before, before[runs.run]
        after = before.copy()
        after[runs.run[which]] = runs.ordinal[which]  # the last one assigned stays
        at = np.maximum.accumulate(np.where(flags, np.arange(len(flags)), -1))
        return after, np.where(at >= runs.tick_at[runs.run], runs.ordinal[at], before[runs.run])

    @property
    def poll_slot(self) -> Int64s:
        """The slot of the last tick, up to each one, at which a poll ran; far off if none."""
        slot: Int64s = self.runs.slot - self.ordinal + self._polls
        return slot

    @property
    def drop_slot(self) -> Int64s:
        """The slot of the last tick, up to each one, at which a drop held; far off if none."""
        slot: Int64s = self.runs.slot - self.ordinal + self._drops
        return slot

    def remember_drops(self, which: Int64s) -> None:
        """Take in at which ticks a drop held."""
        drops = np.zeros(len(self.runs.at), np.bool_)
        drops[which] = True
        self._drop_tick, self._drops = self._last(drops, "drop_tick")

    def keep(self, which: Int64s) -> None:
        """Write what the next ticks of some runs need to their rows."""
        runs, table = self.runs, self._table
        row = runs.row[which]
        table.begin(row[~runs.goes_on[which]])
        table.ticks[row] = runs.seen[which] + runs.count[which]
        flags = np.zeros(len(runs.count), np.bool_)
        flags[which] = True
        runs.keep("acts", self._acts_now, flags)
        runs.keep("people", self._people_now, flags)
        self._masses.keep(flags)
        table.churn[row], table.crowd[row] = self._usual_after[:, which]
        table.poll_tick[row], table.drop_tick[row] = self._poll_tick[which], self._drop_tick[which]


def compared(ticks: Ticks, at: Int64s) -> Int64s:
    """Return the score without its poll term, in whole millionths: ``clamp(chat + active + reactions - leaves)``.

    It is not scaled up to what the poll would have added: while no poll runs it is the score.
    """
    scores = ticks.scores
    value = np.clip(scores.chat[at] + scores.active[at] + scores.reactions[at] + scores.leaves[at], 0.0, 1.0)
    out: Int64s = np.rint(value * UNITS).astype(np.int64)
    return out
