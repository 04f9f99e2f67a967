"""Attune's detector set up for one raw series: half-space trees and z, weighed alike, between a scaling and a memory.

What is Attune's: the trees (``operators.half_space_trees``), their score set against the series' own recent ones, a
deviation from the series' own past as z, 0.7 and 0.3 as their weights, the whole weight with z while the trees are
cold. What is configuration for a series that isn't an audience: what the trees see, that a rise counts as a fall does,
and which of the scores are worth an alert. A row's score depends on this row and those before it, on nothing else.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime

from bench.nab_past import Heights, Ordered, Patterns, TimeOfDay
from operators.half_space_trees import Forest, HalfSpaceTrees

FEATURES = ("level", "change", "unusual", "unusual_lately")
PRECISION = 1e-9
"""Differences under this share of the largest value seen are the arithmetic's, not the series'."""


@dataclass(frozen=True, slots=True)
class SeriesConfig:
    """One configuration for every series.

    Scaling: a feature is measured from its median among the newest ``history`` rows, at least ``baseline``, in widths
    of their range without the share ``tail`` at either end; ``reach`` widths are the edge of the trees' space, and z is
    1 there. Time of day: the newest ``kept`` values of each slot of ``slot_s``; ``lately`` rows make the smoothed
    feature.

    Trees: ``n_trees`` of ``height``, a window of ``window`` rows, grown from ``seed``; their score is taken over the
    median of the newest ``own_scores`` ones, from ``least_scores`` of them on with the weight ``trees_weight``.

    Alerts: a row is a candidate from the combined score ``candidate``. It counts by its novelty, in full from
    ``tolerance``, against the newest ``patterns`` candidates that are at least ``lag`` rows old; and only if it then
    beats the newest rows, the share ``span`` of all so far.
    """

    history: int = 10_000
    baseline: int = 30
    tail: float = 0.01
    reach: float = 4.0
    slot_s: int = 900
    kept: int = 14
    lately: int = 10
    n_trees: int = 50
    height: int = 8
    window: int = 250
    seed: int = 42
    own_scores: int = 1_000
    least_scores: int = 5
    trees_weight: float = 0.7
    candidate: float = 0.3
    tolerance: float = 0.3
    patterns: int = 1_000
    lag: int = 50
    span: float = 0.1


class Scale:
    """A quantity measured by its own past: 0 at the median, -1 and 1 at ``reach`` widths of its usual range.

    0 as well before there is a baseline.
    """

    def __init__(self, config: SeriesConfig) -> None:
        self._past = Ordered(config.history)
        self._tail = config.tail
        self._reach = config.reach
        self._baseline = config.baseline

    def scaled(self, x: float, least: float) -> float:
        """Return where ``x`` lies, -1..1; ``least`` is the smallest width that isn't noise. Then take it in."""
        place = 0.0
        if len(self._past) >= self._baseline:
            off = x - self._past.quantile(0.5)
            width = self._past.quantile(1.0 - self._tail) - self._past.quantile(self._tail)
            if off:
                place = max(-1.0, min(1.0, off / max(self._reach * width, least)))
        self._past.add(x)
        return place


class Features:
    """A raw series as the trees see it, row by row; each feature in -1..1, 0 being what is usual.

    ``level``: the value. ``change``: since the row before. ``unusual``: the value less what this time of day has shown
    before, 0 while that is unknown. ``unusual_lately``: the same of the mean of the newest rows.
    """

    def __init__(self, config: SeriesConfig) -> None:
        self._scales = [Scale(config) for _ in FEATURES]
        self._usual = [TimeOfDay(config.slot_s, config.kept) for _ in range(2)]
        self._newest: deque[float] = deque(maxlen=config.lately)
        self._largest = 0.0

    def step(self, at: datetime, value: float) -> list[float]:
        """Return the features of the next row."""
        change = value - self._newest[-1] if self._newest else 0.0
        self._newest.append(value)
        self._largest = max(self._largest, abs(value))
        second = at.hour * 3_600 + at.minute * 60 + at.second
        quantities = [value, change]
        for usual, x in zip(self._usual, (value, sum(self._newest) / len(self._newest)), strict=True):
            expected = usual.expected(second)
            usual.learn(second, x)
            quantities.append(0.0 if expected is None else x - expected)
        least = PRECISION * self._largest or 1.0
        return [scale.scaled(x, least) for scale, x in zip(self._scales, quantities, strict=True)]


class Hybrid:
    """Attune's combined score of a row: trees and z, 0..1."""

    def __init__(self, config: SeriesConfig) -> None:
        forest = Forest.grow(
            FEATURES, n_trees=config.n_trees, height=config.height, window_size=config.window, seed=config.seed
        )
        self._trees = HalfSpaceTrees(forest)
        self._own = Ordered(config.own_scores)
        self._config = config
        self._rows = 0

    def score(self, features: list[float]) -> float:
        """Return the combined score of the next row, and learn it."""
        z = abs(features[0])
        point = {name: 0.5 + 0.5 * x for name, x in zip(FEATURES, features, strict=True)}
        weight = trees = 0.0
        if self._rows >= self._config.window:
            raw = self._trees.score_one(point)
            if len(self._own) >= self._config.least_scores:
                usual = self._own.quantile(0.5)
                trees = max(0.0, raw - usual) / max(1.0 - usual, 0.05)  # near 1 nothing is left to rise to
                weight = self._config.trees_weight
            self._own.add(raw)
        self._trees.learn_one(point)
        self._rows += 1
        return weight * trees + (1.0 - weight) * z


class SeriesDetector:
    """Scores a series row by row.

    >>> from datetime import timedelta
    >>> detector, midnight = SeriesDetector(SeriesConfig(n_trees=5, window=30)), datetime(2026, 1, 1)
    >>> quiet = [detector.score_one(midnight + timedelta(minutes=i), 5.0 + i % 3) for i in range(100)]
    >>> max(quiet), round(detector.score_one(midnight + timedelta(minutes=100), 50.0), 1)
    (0.0, 1.0)
    """

    def __init__(self, config: SeriesConfig) -> None:
        self._config = config
        self._features = Features(config)
        self._hybrid = Hybrid(config)
        self._patterns = Patterns(2, config.patterns, config.lag)
        self._heights = Heights(config.span)
        self._row = 0

    def score_one(self, at: datetime, value: float) -> float:
        """Return how much the next row is worth an alert, 0..1: 0 for all but a few."""
        features = self._features.step(at, value)
        combined = self._hybrid.score(features)
        score = 0.0
        if combined >= self._config.candidate:
            pattern = features[:2]
            score = combined * min(1.0, self._patterns.novelty(self._row, pattern) / self._config.tolerance)
            self._patterns.learn(self._row, pattern)
        self._row += 1
        return score if self._heights.beaten_by(score) else 0.0
