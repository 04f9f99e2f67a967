"""What a tick is compared with: its session's own past, many ticks at once."""

import numpy as np

from operators.anomaly_config import HISTORY, WINDOW_TICKS, AnomalyConfig
from operators.anomaly_noise import counting_deviation, fewer, smaller_share
from operators.anomaly_state import MOST, UNITS, Baselines, Runs, Spans, Ticks
from operators.columns import Flags, Int64s, offsets
from operators.config import ScoreConfig
from operators.engagement import Floats, saturation
from operators.half_space_trees import Forest

FEATURES = ("active", "chat", "leaves", "reactions", "score")
"""What the trees see, all in 0..1, in the forest's order."""

NOT_THERE = 1 << 31
"""Stands for the audience before a run's first tick: more than any."""

_PORTION = 4_096
"""Ticks whose trees are scored together: bounds memory."""
_LEAST = 1e-9


class Past:
    """The columns of a closing's runs. Methods take ticks (places among those with an audience) and return (n,)."""

    def __init__(
        self, runs: Runs, table: Baselines, ticks: Ticks, forest: Forest, config: AnomalyConfig, score: ScoreConfig
    ) -> None:
        self.runs, self.ticks = runs, ticks
        self._table, self._config, self._score_config, self._forest = table, config, score, forest
        at, slot = runs.at, runs.slot
        signals = ticks.signals
        self.score_now = compared(ticks, at)
        self.score_column = runs.lay("score", self.score_now)
        self._scores = Spans(self.score_column, slot)
        self._squares = Spans(self.score_column * self.score_column, slot)
        self.ordinal = runs.ordinal
        starts = self.ordinal == 0
        chats = np.where(starts, signals.chat_per_min[at], ticks.chats[at])
        reactions = np.where(starts, signals.reactions_per_min[at], ticks.reactions[at])
        self.chat_column = runs.lay("chats", np.minimum(chats, MOST))
        self.reaction_column = runs.lay("reactions", np.minimum(reactions, MOST))
        self._chats, self._reactions = Spans(self.chat_column, slot), Spans(self.reaction_column, slot)
        self.active_column = runs.lay("active", signals.active_users[at])
        self.there_column = runs.lay("there", ticks.present_or_active[at])
        self._actives, self._there = Spans(self.active_column, slot), Spans(self.there_column, slot)
        self.audience_column = runs.lay("audience", ticks.audience[at], WINDOW_TICKS, empty=NOT_THERE)
        self.connected_column = runs.lay("connected", signals.connected_users[at], WINDOW_TICKS)
        self.left_column = runs.lay("left", ticks.left[at], WINDOW_TICKS)
        self.leaf_column = runs.lay("leaves", forest.leaves(self._features()), dtype=forest.dtype)
        self.mass_column = runs.lay("masses", self._masses(), HISTORY // 2)
        self.churn, self.crowd, self.churn_after, self.crowd_after = self._churn()
        self.poll_slot = self.last(signals.poll_participation[at] > 0, "poll_tick")
        self.remember_drops(np.zeros(0, np.int64))

    def _features(self) -> Floats:
        at, signals, config = self.runs.at, self.ticks.signals, self._score_config
        chat = np.array([saturation(n, config.chat_ceiling) for n in range(config.chat_ceiling + 1)])
        reaction = np.array([saturation(n, config.reactions_ceiling) for n in range(config.reactions_ceiling + 1)])
        return np.column_stack(
            [
                signals.active_ratio[at],
                chat[np.minimum(signals.chat_per_min[at], config.chat_ceiling)],
                signals.leave_rate[at],
                reaction[np.minimum(signals.reactions_per_min[at], config.reactions_ceiling)],
                self.score_now / UNITS,
            ]
        )

    def _masses(self) -> Int64s:
        """Return the mass around each tick in the forest of its run, 0 until a window has been learned."""
        runs, window = self.runs, self._config.window
        out = np.zeros(len(runs.at), np.int64)
        warm = np.flatnonzero(self.ordinal >= window)
        for at in range(0, len(warm), _PORTION):
            some = warm[at : at + _PORTION]
            begins = runs.slot[some] - self.ordinal[some] % window - window
            reference = self.leaf_column[begins[:, None] + np.arange(window)].transpose(0, 2, 1)
            out[some] = self._forest.masses(reference, self.leaf_column[runs.slot[some]])
        return out

    def last(self, flags: Flags, name: str) -> Int64s:
        """Return the slot of the last flagged tick up to each tick, with what earlier closings saw; far off if none."""
        runs = self.runs
        marks = np.zeros(runs.size, np.bool_)
        marks[runs.slot[flags]] = True
        carry = np.flatnonzero(runs.goes_on)
        back = runs.seen[carry] - getattr(self._table, name)[runs.row[carry]]
        near = back <= HISTORY
        marks[runs.slots_at[carry[near]] + HISTORY - back[near]] = True
        last = self._last_slot(marks)[runs.slot]
        return np.where(runs.slot - last <= HISTORY + runs.place, last, -HISTORY)

    def _last_slot(self, flags: Flags) -> Int64s:
        """Return for each slot the last one up to it that is flagged, -1 where none is."""
        last: Int64s = np.maximum.accumulate(np.where(flags, np.arange(self.runs.size), -1))
        return last

    def _churn(self) -> tuple[Floats, Floats, Floats, Floats]:
        """Return the people who leave and who are there in 60 s, on average, as known before and after each tick.

        An exponentially weighted mean over ``exit_memory`` ticks, an even one over the first. It follows a window
        behind, so that those who leave now are not in it, and a single exit enters it only as three deviations of what
        was usual.
        """
        runs, config = self.runs, self._config
        left = self.ticks.left[runs.at].astype(np.float64)
        inside = self.ticks.present_in_window[runs.at].astype(np.float64)
        churn = np.where(runs.goes_on, self._table.churn[runs.row], 0.0)
        crowd = np.where(runs.goes_on, self._table.crowd[runs.row], 0.0)
        before = np.zeros((4, len(runs.at)))
        tick_at = offsets(runs.count)
        for k in range(int(runs.count.max(initial=0))):
            which = np.flatnonzero(runs.count > k)
            tick = tick_at[:-1][which] + k
            ordinal = self.ordinal[tick]
            new = ordinal == 0
            churn[which] = np.where(new, left[tick], churn[which])
            crowd[which] = np.where(new, inside[tick], crowd[which])
            before[0, tick], before[1, tick] = churn[which], crowd[which]
            old = ordinal >= WINDOW_TICKS
            usual = churn[which]
            past = np.minimum(self.left_column[runs.slot[tick] - WINDOW_TICKS], usual + 3 * np.sqrt(usual + 1) + 1)
            share = 1 / np.minimum(ordinal + 1, config.exit_memory)
            churn[which] = np.where(old, usual + (past - usual) * share, usual)
            crowd[which] += (inside[tick] - crowd[which]) * share
            before[2, tick], before[3, tick] = churn[which], crowd[which]
        return before[0], before[1], before[2], before[3]

    def remember_drops(self, which: Int64s) -> None:
        """Take in at which ticks a drop held."""
        drops = np.zeros(len(self.runs.at), np.bool_)
        drops[which] = True
        self.drop_slot = self.last(drops, "drop_tick")

    def last_ticks(self) -> tuple[Int64s, Int64s]:
        """Return the number of each run's last tick at which a poll ran, and at which a drop held; long ago if none."""
        ends = np.cumsum(self.runs.count) - 1
        now, number = self.runs.slot[ends], self.ordinal[ends]
        return number - (now - self.poll_slot[ends]), number - (now - self.drop_slot[ends])

    def before(self, which: Int64s) -> Floats:
        """Return the mean of the window before the last ticks, 0 where there is none."""
        recent, window = self._config.sudden_recent, self._config.window
        count = np.minimum(self.ordinal[which] - recent + 1, window)
        mean: Floats = self._scores.at(which)(recent, recent + window - 1) / np.maximum(count, 1) / UNITS
        return mean

    def above_lately(self, which: Int64s) -> Flags:
        """Tell whether the score was above the limit of LOW_ENGAGEMENT within the window of earlier ticks."""
        slot = self.runs.slot[which]
        high = self._last_slot(self.score_column > self._config.low * UNITS)
        lately: Flags = high[slot - 1] >= slot - self._config.window
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
        config, ordinal = self._config, self.ordinal[which]
        score = self.score_now[which]
        started = np.full(len(which), np.nan)
        slot = self.runs.slot[which]
        position = np.arange(self.runs.size) - np.repeat(self.runs.slots_at[:-1], np.diff(self.runs.slots_at))
        moments = Spans(self.score_column * position, slot)
        scores = self._scores.at(which)
        for span in config.decline_spans:
            n = span + 1
            total = scores(0, span)
            # Sum of (x - mean of x) * score, twice, with x the tick's number within its run: whole numbers throughout.
            tilt = 2 * moments(0, span) - (2 * position[slot] - span) * total
            slope = tilt * 6 / (n * (n * n - 1))
            third = span // 3
            first, last = scores(span - third + 1, span), scores(0, third - 1)
            # Where it was level first, the line begins above anything that was there.
            start = np.minimum(total / n - slope * span / 2, first / third)
            middle = scores((span - third) // 2 + 1, (span - third) // 2 + third)
            whole = first - last
            holds = (ordinal >= span) & (slope < 0)
            holds &= -slope * span >= config.decline_fall * start
            holds &= score <= (1 - config.decline_fall) * start
            holds &= first - middle >= config.decline_balance * whole
            holds &= middle - last >= config.decline_balance * whole
            started = np.where(holds, start / UNITS, started)
        return started

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
        slot, ordinal = self.runs.slot[which], self.ordinal[which]
        mass = self.mass_column[slot]
        warm = ordinal >= config.window
        seen = np.clip(ordinal - config.window, 0, config.window)
        recent = self.mass_column[slot[:, None] - np.arange(1, config.window + 1)]
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
        least = np.full(len(slot), NOT_THERE, np.int64)
        for back in range(1, self._config.growth_ticks + 1):
            np.minimum(least, self.audience_column[slot - back], out=least)
        return least

    def evidence(self, which: Int64s) -> tuple[Floats, Floats, Floats]:
        """Return the greatest evidence over all recent spans: less is written, less is done, fewer are active."""
        ordinal, slot = self.ordinal[which], self.runs.slot[which]
        chats, reactions = self._chats.at(which), self._reactions.at(which)
        chat, acts, active = np.zeros((3, len(which)))
        farthest = np.minimum(ordinal, HISTORY - 1)
        for span in self._config.recent_spans:
            earlier = (farthest - span + 1 + np.where(ordinal < HISTORY, WINDOW_TICKS - 1, 0)).astype(np.float64)
            exposure = np.full(len(which), float(span))
            both = [
                fewer(c(0, span - 1).astype(np.float64), exposure, c(span, farthest).astype(np.float64), earlier)
                for c in (chats, reactions)
            ]
            chat = np.where(ordinal >= span, np.maximum(chat, both[0]), chat)
            acts = np.where(ordinal >= span, np.maximum(acts, both[0] + both[1]), acts)
        for windows in range(1, max(1, self._config.recent_spans[-1] // WINDOW_TICKS) + 1):
            sums = np.zeros((4, len(which)))
            for back in range(0, HISTORY, WINDOW_TICKS):
                mine = ordinal >= back
                here = 0 if back < windows * WINDOW_TICKS else 2
                sums[here] += np.where(mine, self.active_column[slot - back], 0)
                sums[here + 1] += np.where(mine, self.there_column[slot - back], 0)
            if windows == 1:
                young = ordinal < WINDOW_TICKS
                oldest = slot - np.minimum(ordinal, WINDOW_TICKS)
                sums[2] = np.where(young, self.active_column[oldest], sums[2])
                sums[3] = np.where(young, self.there_column[oldest], sums[3])
            active = np.maximum(active, smaller_share(*sums))
        return chat, acts, active

    def exits(self, which: Int64s) -> tuple[Int64s, Floats, Floats]:
        """Return how many of those seen here are gone, the evidence against usual churn, and how many times that it is.

        Whoever was never counted as present here cannot leave: a straggler's leave after the end opens a session too.
        """
        config, at = self._config, self.runs.at[which]
        slot, ordinal = self.runs.slot[which], self.ordinal[which]
        seen = np.zeros(len(which), np.int64)
        for back in range(1, WINDOW_TICKS + 1):
            np.maximum(seen, self.connected_column[slot - back], out=seen)
        gone = np.minimum(self.ticks.left[at], seen)
        inside = np.maximum(self.ticks.present_in_window[at], gone)
        windows = np.minimum(np.maximum(ordinal + 1, WINDOW_TICKS), config.exit_memory) / WINDOW_TICKS
        churn, crowd = self.churn[which], np.maximum(self.crowd[which], self.churn[which])
        count = gone.astype(np.float64)
        one = np.ones(len(which))
        by_count = fewer(churn * windows, windows, count, one)
        by_rate = smaller_share(churn * windows, crowd * windows, count, inside.astype(np.float64))
        times = np.minimum(
            count / np.maximum(churn, _LEAST), _share(count, inside) / np.maximum(_share(churn, crowd), _LEAST)
        )
        return gone, np.minimum(by_count, by_rate), times


def _share(part: Floats, whole: Floats | Int64s) -> Floats:
    share: Floats = part / np.maximum(whole, 1.0)
    return share


def compared(ticks: Ticks, at: Int64s) -> Int64s:
    """Return the score without its poll term, in whole millionths: ``clamp(chat + active + reactions - leaves)``.

    It is not scaled up to what the poll would have added: while no poll runs it is the score.
    """
    scores = ticks.scores
    value = np.clip(scores.chat[at] + scores.active[at] + scores.reactions[at] + scores.leaves[at], 0.0, 1.0)
    out: Int64s = np.rint(value * UNITS).astype(np.int64)
    return out
