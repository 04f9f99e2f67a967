"""The numbers of anomaly detection, with the contract's defaults. Spans are in ticks of 5 s."""

from dataclasses import dataclass

HISTORY = 60
"""Earlier ticks that are kept of a session's audience: 5 minutes, the longest decline that is looked for."""

WINDOW_TICKS = 12
"""Ticks after which two windows of 60 s share nothing."""


@dataclass(frozen=True)
class AnomalyConfig:
    """When a session departs from its own baseline, and how sure that must be.

    Audience and baseline: ``min_audience`` people within the last 5 minutes; ``min_baseline`` earlier ticks before
    anything is told; ``window`` is the baseline of z and the window of the trees.

    Combined score: ``trees_weight`` of the trees (``n_trees`` of ``tree_height``, grown from ``seed``), once
    ``least_tree_scores`` of the session's own have been seen, the rest z; z is full at ``z_full`` deviations;
    ``warning`` and ``critical`` are the least combined scores of the severities.

    Rules: LOW_ENGAGEMENT below ``low`` having been above ``low_from`` lately, over again from ``low_resolved``.
    SUDDEN_DROP from a fall by the share ``sudden_fall`` below the mean of the window before the last ``sudden_recent``
    ticks. GRADUAL_DECLINE from a fall by the share ``decline_fall`` along the line fitted over one of
    ``decline_spans``, of which each of the two steps between its thirds bears at least the share ``decline_balance``
    (what fell at once has done so in one of them). None of these while the audience grew by the share ``growth`` within
    ``growth_ticks``.

    Counting noise: evidence is measured in nats, the exponent by which the counts are less probable if nothing has
    changed. ``evidence`` is what a rule needs; the ticks last counted are one of ``recent_spans``. A threshold counts
    as passed when it is by ``sudden_margin``, ``low_margin`` or ``decline_margin`` of the deviations that the newest
    window has by counting alone, and nothing that fell by less than ``least_fall`` is told.

    MASS_EXIT: ``exit_people`` gone in the window, a share ``exit_rate`` of those who were there, with ``exit_evidence``
    nats and ``exit_times`` as many as the session's own churn of the last ``exit_memory`` ticks says, both in people
    and as a share. Leaves come in groups, so their likelihood ratio overstates what they prove, the less so the more
    of a room is gone: from a share of ``exit_most`` on ``exit_most_evidence`` is enough, less while the session can't
    have proven so much yet. Where fewer than the share ``exit_known`` of those who were there had been there before
    (most leavers were never seen until they left), it takes ``exit_unknown_evidence``. Once the session is ``exit_age``
    ticks old, its churn is known though nobody was seen before, and whoever leaves was there. CRITICAL from the leave
    rate ``exit_critical``.

    Reports: one of a type in ``repeat_ms`` (ms); resolved after ``resolved_ticks`` ticks at the share
    ``resolved_share`` of what was expected.
    """

    min_audience: int = 5
    min_baseline: int = 5
    window: int = 30
    trees_weight: float = 0.7
    n_trees: int = 10
    tree_height: int = 8
    seed: int = 42
    least_tree_scores: int = 5
    z_full: float = 3.0
    warning: float = 0.6
    critical: float = 0.8
    low: float = 0.20
    low_from: float = 0.25
    low_resolved: float = 0.25
    sudden_fall: float = 0.25
    sudden_recent: int = 2
    sudden_margin: float = 1.5
    low_margin: float = 1.0
    decline_margin: float = 0.5
    least_fall: float = 0.05
    decline_fall: float = 0.20
    decline_spans: tuple[int, ...] = (24, 36, 48, 60)
    decline_balance: float = 0.25
    growth: float = 0.25
    growth_ticks: int = 12
    evidence: float = 10.0
    recent_spans: tuple[int, ...] = (5, 12, 24, 36)
    exit_people: int = 3
    exit_evidence: float = 11.0
    exit_most: float = 1 / 3
    exit_most_evidence: float = 7.5
    exit_known: float = 0.9
    exit_unknown_evidence: float = 16.0
    exit_times: float = 3.0
    exit_rate: float = 0.10
    exit_age: int = 60
    exit_memory: int = 360
    exit_critical: float = 0.3
    repeat_ms: int = 30_000
    resolved_share: float = 0.9
    resolved_ticks: int = 2

    def __post_init__(self) -> None:
        """Raise ValueError that names the first number outside its range."""
        for name, low, high in (
            ("min_audience", 2, 1 << 31),
            ("min_baseline", 5, HISTORY // 2),
            ("window", 5, HISTORY // 2),
            ("trees_weight", 0, 1),
            ("n_trees", 1, 1_000),
            ("tree_height", 1, 16),
            ("least_tree_scores", 1, HISTORY // 2),
            ("z_full", 1e-9, 1e9),
            ("warning", 0, 1),
            ("critical", self.warning, 1),
            ("low", 0, 1),
            ("low_from", self.low, 1),
            ("low_resolved", self.low, 1),
            ("sudden_fall", 0, 1),
            ("sudden_recent", 1, 5),
            ("sudden_margin", 0, 1e9),
            ("low_margin", 0, 1e9),
            ("decline_margin", 0, 1e9),
            ("least_fall", 0, 1),
            ("decline_fall", 0, 1),
            ("decline_balance", 0, 0.5),
            ("growth", 0, 1e9),
            ("growth_ticks", 1, WINDOW_TICKS),
            ("evidence", 0, 1e9),
            ("exit_people", 1, 1 << 31),
            ("exit_evidence", 0, 1e9),
            ("exit_most", 0, 1),
            ("exit_most_evidence", 0, 1e9),
            ("exit_known", 0, 1),
            ("exit_unknown_evidence", 0, 1e9),
            ("exit_times", 1, 1e9),
            ("exit_rate", 0, 1),
            ("exit_age", 1, 1 << 20),
            ("exit_memory", WINDOW_TICKS, 1 << 20),
            ("exit_critical", 0, 1),
            ("repeat_ms", 0, 1 << 40),
            ("resolved_share", 0, 1),
            ("resolved_ticks", 1, 100),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}: expected {low}..{high}, got {value}")
        for name, low, high in (("decline_spans", 6, HISTORY), ("recent_spans", 1, HISTORY - WINDOW_TICKS)):
            spans = getattr(self, name)
            if not spans or not all(low <= span <= high for span in spans) or list(spans) != sorted(set(spans)):
                raise ValueError(f"{name}: expected ascending numbers in {low}..{high}, got {spans}")
        if self.recent_spans[0] > self.min_baseline:
            raise ValueError(
                f"recent_spans: expected the first to be at most min_baseline = {self.min_baseline}, "
                f"got {self.recent_spans[0]}"
            )
