"""From the first tick at which a type holds to the one that resolves it: when to tell, and when it is over."""

from dataclasses import dataclass, field

from operators.anomalies.config import AnomalyConfig
from operators.anomalies.rules import LOW_ENGAGEMENT
from operators.anomalies.state import TYPES


@dataclass(slots=True)
class Episodes:
    """The types of one session: which are open, what was expected when raised, when told last, for how long back."""

    open: list[bool]
    expected: list[float]
    told: list[int]
    back: list[int]


@dataclass(slots=True)
class Told:
    """What is to be told, in order; ``place`` is the tick's among the closing's, -1 for the end of a session."""

    session: list[int] = field(default_factory=list)
    place: list[int] = field(default_factory=list)
    ts: list[int] = field(default_factory=list)
    kind: list[int] = field(default_factory=list)
    raised: list[bool] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)

    def add(self, session: int, place: int, ts: int, kind: int, raised: bool, expected: float) -> None:
        """Append one; the arguments are the columns."""
        for column, value in zip(
            (self.session, self.place, self.ts, self.kind, self.raised, self.expected),
            (session, place, ts, kind, raised, expected),
            strict=True,
        ):
            column.append(value)  # type: ignore[attr-defined] # each column takes its own type


def back_level(kind: int, expected: float, config: AnomalyConfig) -> float:
    """Return the score from which an anomaly of a type counts as over.

    >>> back_level(2, 0.5, AnomalyConfig()), back_level(LOW_ENGAGEMENT, 0.5, AnomalyConfig())
    (0.45, 0.25)
    """
    return config.low_resolved if kind == LOW_ENGAGEMENT else config.resolved_share * expected


def step(
    episodes: Episodes, score: float, kind: int, ts: int, expected: float, config: AnomalyConfig
) -> tuple[list[int], bool]:
    """Take one tick in; return the types that it resolves, and whether ``kind`` (-1: none) is raised.

    A type that still holds is told again after ``repeat_ms``, and is over when the level of the first time is reached.
    """
    over = []
    for open_kind in range(len(TYPES)):
        if not episodes.open[open_kind]:
            continue
        if score >= back_level(open_kind, episodes.expected[open_kind], config) and open_kind != kind:
            episodes.back[open_kind] += 1
            if episodes.back[open_kind] >= config.resolved_ticks:
                episodes.open[open_kind] = False
                over.append(open_kind)
        else:
            episodes.back[open_kind] = 0
    if kind < 0 or ts - episodes.told[kind] < config.repeat_ms:
        return over, False
    if not episodes.open[kind]:
        episodes.open[kind], episodes.expected[kind], episodes.back[kind] = True, expected, 0
    episodes.told[kind] = ts
    return over, True
