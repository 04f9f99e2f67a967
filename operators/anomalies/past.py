"""What a tick is compared with: its session's own past, many ticks at once."""

import math
from functools import cached_property

import numpy as np

from operators.anomalies.config import HISTORY, WINDOW_TICKS, AnomalyConfig
from operators.anomalies.history import History
from operators.anomalies.noise import counting_deviation, fewer, smaller_share
from operators.anomalies.state import UNITS, Baselines, Runs, Ticks
from operators.anomalies.trees import Features
from operators.columns import Flags, Int64s
from operators.config import ScoreConfig
from operators.engagement import Floats
from operators.half_space_trees import Forest

NOT_THERE = 1 << 31
"""Stands for the audience before a run's first tick: more than any."""

_LEAST = 1e-9


class Past(History):
    """What ticks are compared with. Methods take ticks (places among those with an audience) and return (n,)."""

    def __init__(
        self,
        runs: Runs,
        table: Baselines,
        ticks: Ticks,
        forest: Forest,
        features: Features,
        config: AnomalyConfig,
        score: ScoreConfig,
    ) -> None:
        super().__init__(runs, table, ticks, forest, features, config)
        self._score_config = score

    @cached_property
    def audience_column(self) -> Int64s:
        """The audience, over all slots."""
        audience = self._people[:, 0].astype(np.int64)
        return np.where(audience == 0, NOT_THERE, audience)

    def before(self, which: Int64s) -> Floats:
        """Return the mean of the window before the last ticks, 0 where there is none."""
        recent, window = self._config.sudden_recent, self._config.window
        count = np.minimum(self.ordinal[which] - recent + 1, window)
        mean: Floats = self._scores.at(which)(recent, recent + window - 1) / np.maximum(count, 1) / UNITS
        return mean

    def above_lately(self, which: Int64s) -> Flags:
        """Tell whether the score was above ``low_from`` within the window of earlier ticks."""
        slot = self.runs.slot[which]
        lately: Flags = self._high[slot - 1] >= slot - self._config.window
        return lately

    def mean_and_spread(self, which: Int64s) -> tuple[Floats, Floats]:
        """Return mean and standard deviation of the scores of the window of earlier ticks."""
        window = self._config.window
        known = self._known(which)
        total = self._scores.at(which)(1, window)
        variance = (self._squares.at(which)(1, window) * known - total * total) / (known * known)
        return total / known / UNITS, np.sqrt(variance) / UNITS

    def _known(self, which: Int64s) -> Int64s:
        """Return how many earlier ticks are in the window, at least 1."""
        known: Int64s = np.clip(self.ordinal[which], 1, self._config.window)
        return known

    def line_start(self, which: Int64s) -> Floats:
        """Return where the line of a decline begins, for the longest span that shows one; NaN where none does."""
        config, started = self._config, np.full(len(which), np.nan)
        spans = np.array(config.decline_spans)[:, None]
        first = self._scores.at(which)(spans - spans // 3 + 1, spans)
        # The line begins at most at the mean of its first third, and must have fallen far enough from there: few have.
        low = self.score_now[which] <= (1 - config.decline_fall) * (first / (spans // 3))
        possible = low & (self.ordinal[which] >= spans)
        for i in np.flatnonzero(possible.any(axis=1)).tolist():
            some = np.flatnonzero(possible[i])
            start, holds = self._line(which[some], config.decline_spans[i], first[i, some])
            started[some[holds]] = start[holds] / UNITS
        return started

    def _line(self, which: Int64s, span: int, first: Int64s) -> tuple[Floats, Flags]:
        """Return where the line over a span begins, in units, and whether it is a decline; ``first``: of its third."""
        config, score, scores = self._config, self.score_now[which], self._scores.at(which)
        n, third = span + 1, span // 3
        total = scores(0, span)
        # Sum of (x - mean of x) * score, twice, with x the tick's number within its run: whole numbers throughout.
        position = self.runs.place[which] + HISTORY
        tilt = 2 * self._moments.at(which)(0, span) - (2 * position - span) * total
        slope = tilt * 6 / (n * (n * n - 1))
        last = scores(0, third - 1)
        # Where it was level first, the line begins above anything that was there.
        start = np.minimum(total / n - slope * span / 2, first / third)
        middle = scores((span - third) // 2 + 1, (span - third) // 2 + third)
        whole = first - last
        holds = (slope < 0) & (-slope * span >= config.decline_fall * start)
        holds &= score <= (1 - config.decline_fall) * start
        holds &= first - middle >= config.decline_balance * whole
        holds &= middle - last >= config.decline_balance * whole
        return start, holds

    def counting(self, which: Int64s) -> Floats:
        """Return the deviation by counting alone at the rates of the window of earlier ticks."""
        window, ordinal, known = self._config.window, self.ordinal[which], self._known(which)
        exposure = (known + np.where(ordinal <= window, WINDOW_TICKS - 1, 0)) / WINDOW_TICKS
        there, active = self._there.at(which)(1, window), self._actives.at(which)(1, window)
        return counting_deviation(
            self._chats.at(which)(1, window) / exposure,
            self._reactions.at(which)(1, window) / exposure,
            (active + 1) / (there + 2),
            there / known,
            self.churn[which],
            self._score_config,
        )

    def blur(self, which: Int64s) -> Floats:
        """Return the deviation by counting alone at the rates of the tick's own window.

        Half an event is added: a window without any says little about how few there could have been.
        """
        at, signals = self.runs.at[which], self.ticks.signals
        there = self.ticks.present_or_active[at].astype(np.float64)
        return counting_deviation(
            signals.chat_per_min[at].astype(np.float64) + 0.5,
            signals.reactions_per_min[at].astype(np.float64) + 0.5,
            (signals.active_users[at] + 1) / (there + 2),
            there,
            self.churn[which],
            self._score_config,
        )

    def trees(self, which: Int64s) -> tuple[Floats, Floats, Floats]:
        """Return the trees' score, the share of recent ones that it exceeds, and the weight that this has."""
        config = self._config
        ordinal = self.ordinal[which]
        mass, recent = self._masses.around(which)
        warm = ordinal >= config.window
        seen = np.clip(ordinal - config.window, 0, config.window)
        known = np.arange(1, config.window + 1) <= seen[:, None]
        # More mass around is a lower score. Equal ones count by half: in a room that never changes all are equal.
        exceeded = ((recent > mass[:, None]) & known).sum(axis=1) + 0.5 * ((recent == mass[:, None]) & known).sum(
            axis=1
        )
        trees = np.where(seen > 0, exceeded / np.maximum(seen, 1), 0.0)
        weight = np.where(seen >= config.least_tree_scores, config.trees_weight, 0.0)
        return np.where(warm, 1.0 - mass / self._forest.full_mass, 0.0), trees, weight

    def least_audience(self, slot: Int64s) -> Int64s:
        """Return the smallest audience of the ticks in front of these slots within ``growth_ticks``."""
        back = np.arange(1, self._config.growth_ticks + 1)
        least: Int64s = self.audience_column[slot[:, None] - back].min(axis=1)
        return least

    def evidence(self, which: Int64s) -> tuple[Floats, Floats, Floats]:
        """Return the greatest evidence over all recent spans: less is written, less is done, fewer are active."""
        ordinal, slot = self.ordinal[which], self.runs.slot[which]
        chats, reactions = self._chats.at(which), self._reactions.at(which)
        spans = np.array(self._config.recent_spans)[:, None]
        farthest = np.minimum(ordinal, HISTORY - 1)
        exposure = spans.astype(np.float64)
        earlier = farthest + 1 + np.where(ordinal < HISTORY, WINDOW_TICKS - 1, 0) - exposure
        now = np.array([c(0, spans - 1) for c in (chats, reactions)], np.float64)
        then = np.array([c(spans, farthest) for c in (chats, reactions)], np.float64)
        both = np.where(ordinal >= exposure, fewer(now, exposure, then, earlier), 0.0)
        chat, acts = both[0].max(axis=0), (both[0] + both[1]).max(axis=0)

        back = np.arange(0, HISTORY, WINDOW_TICKS)[:, None]
        shares = np.where(
            ordinal >= back, np.array([c[slot - back] for c in (self.active_column, self.there_column)]), 0
        )
        most = max(1, self._config.recent_spans[-1] // WINDOW_TICKS)
        newest = shares.cumsum(axis=1)
        older = newest[:, -1:] - newest
        # A run that is younger than a window is measured by the one that its first tick closed.
        oldest = slot - np.minimum(ordinal, WINDOW_TICKS)
        first = np.array([self.active_column[oldest], self.there_column[oldest]])
        older[:, 0] = np.where(ordinal < WINDOW_TICKS, first, older[:, 0])
        now, then = newest[:, :most].astype(np.float64), older[:, :most].astype(np.float64)
        return chat, acts, smaller_share(*now, *then).max(axis=0, initial=0.0)

    def exits(self, which: Int64s) -> tuple[Int64s, Floats, Floats, Floats]:
        """Return how many are gone, the evidence against usual churn, what is needed of it, and how many times it is.

        Whoever was never seen in a young session cannot leave it: a straggler's leave after the end opens one, too.
        """
        config, at = self._config, self.runs.at[which]
        slot = self.runs.slot[which]
        seen = np.zeros(len(which), np.int64)
        for back in range(1, WINDOW_TICKS + 1):
            np.maximum(seen, self.connected_column[slot - back], out=seen)
        left = self.ticks.left[at]
        gone = np.where(self.ticks.age[at] >= config.exit_age, left, np.minimum(left, seen))
        inside = np.maximum(self.ticks.present_in_window[at], gone)
        windows = np.minimum(np.maximum(self.known[which], WINDOW_TICKS), config.exit_memory) / WINDOW_TICKS
        churn, crowd = self.churn[which], np.maximum(self.crowd[which], self.churn[which])
        count = gone.astype(np.float64)
        one = np.ones(len(which))
        by_count = fewer(churn * windows, windows, count, one)
        by_rate = smaller_share(churn * windows, crowd * windows, count, inside.astype(np.float64))
        times = np.minimum(
            count / np.maximum(churn, _LEAST), _share(count, inside) / np.maximum(_share(churn, crowd), _LEAST)
        )
        # The most that a session without any churn can prove of n people is n times this.
        provable = np.log1p(windows) / math.log1p(config.exit_memory / WINDOW_TICKS)
        most = gone >= config.exit_most * inside
        needed = np.where(most, config.exit_most_evidence * provable, config.exit_evidence)
        needed = np.where(self.crowd[which] >= config.exit_known * inside, needed, config.exit_unknown_evidence)
        return gone, np.minimum(by_count, by_rate), needed, times


def _share(part: Floats, whole: Floats | Int64s) -> Floats:
    share: Floats = part / np.maximum(whole, 1.0)
    return share
