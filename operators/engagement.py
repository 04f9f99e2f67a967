"""The score of a window: five weighted terms, a category, and the explanation of both."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.columns import Int64s
from operators.config import ScoreConfig
from schemas.outbound import Category, Contributions, Signals

Floats = npt.NDArray[np.float64]

CATEGORIES: tuple[Category, ...] = ("VERY_HIGH", "HIGH", "MODERATE", "LOW", "VERY_LOW")
_CATEGORIES = np.array(CATEGORIES, np.object_)


def saturation(count: int, ceiling: int) -> float:
    """Return ``min(1, ln(1 + count) / ln(1 + ceiling))``: full at the ceiling, quick at first. Contract, section 3.

    >>> saturation(0, 20), saturation(20, 20), round(saturation(3, 20), 4)
    (0.0, 1.0, 0.4553)
    """
    return min(1.0, math.log(1 + count) / math.log(1 + ceiling))


def ratio(part: Int64s, whole: Int64s) -> Floats:
    """Return ``part / whole`` of shape (n,), at most 1; 0 where the whole is 0.

    >>> ratio(np.array([3, 0]), np.array([12, 0])).tolist()
    [0.25, 0.0]
    """
    return np.minimum(1.0, part / np.maximum(whole, 1))


@dataclass(frozen=True, slots=True)
class SignalColumns:
    """The seven signals of many ticks, each of shape (n,)."""

    chat_per_min: Int64s
    reactions_per_min: Int64s
    connected_users: Int64s
    active_users: Int64s
    active_ratio: Floats
    poll_participation: Floats
    leave_rate: Floats


@dataclass(frozen=True, slots=True)
class ScoreColumns:
    """Scores and the five weighted terms of many ticks, each of shape (n,)."""

    score: Floats
    chat: Floats
    poll: Floats
    active: Floats
    reactions: Floats
    leaves: Floats


class Scorer:
    """Scores many windows at once, to the last bit as ``explain`` scores one."""

    def __init__(self, config: ScoreConfig) -> None:
        self.config = config
        # The same logarithm as in explain(): numpy's differs from math's in the last bit on some machines.
        self._chat = np.array([saturation(n, config.chat_ceiling) for n in range(config.chat_ceiling + 1)])
        ceiling = config.reactions_ceiling
        self._reactions = np.array([saturation(n, ceiling) for n in range(ceiling + 1)])

    def score(self, signals: SignalColumns) -> ScoreColumns:
        """Return scores and contributions of shape (n,)."""
        weights = self.config.weights
        chat = weights.chat * self._chat[np.minimum(signals.chat_per_min, self.config.chat_ceiling)]
        poll = weights.poll * signals.poll_participation
        active = weights.active * signals.active_ratio
        reactions = (
            weights.reactions * self._reactions[np.minimum(signals.reactions_per_min, self.config.reactions_ceiling)]
        )
        leaves = 0.0 - weights.leaves * signals.leave_rate
        score = np.clip(chat + poll + active + reactions + leaves, 0.0, 1.0)
        return ScoreColumns(score, chat, poll, active, reactions, leaves)

    def categories(self, score: Floats) -> list[Category]:
        """Return the category of each score."""
        rank = np.searchsorted(-np.array(self.config.boundaries), -score, side="left")
        categories: list[Category] = _CATEGORIES[rank].tolist()
        return categories


def category(score: float, config: ScoreConfig) -> Category:
    """Return the category of a score: VERY_HIGH from 0.8, HIGH from 0.6, MODERATE from 0.4, LOW from 0.2.

    >>> category(0.6, ScoreConfig()), category(0.1999, ScoreConfig())
    ('HIGH', 'VERY_LOW')
    """
    for name, least in zip(CATEGORIES, config.boundaries, strict=False):
        if score >= least:
            return name
    return CATEGORIES[-1]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a window has its score: the normalised terms (0..1), what each contributed, their sum, and the outcome."""

    terms: Contributions
    contributions: Contributions
    unclamped: float
    score: float
    category: Category


def explain(signals: Signals, config: ScoreConfig) -> Explanation:
    """Return the breakdown of one window's score.

    >>> room = Signals(20, 10, 4, 4, 1.0, 1.0, 0.0)
    >>> explain(room, ScoreConfig()).score
    0.9
    """
    terms = Contributions(
        chat=saturation(signals.chat_per_min, config.chat_ceiling),
        poll=signals.poll_participation,
        active=signals.active_ratio,
        reactions=saturation(signals.reactions_per_min, config.reactions_ceiling),
        leaves=signals.leave_rate,
    )
    weights = config.weights
    parts = Contributions(
        chat=weights.chat * terms.chat,
        poll=weights.poll * terms.poll,
        active=weights.active * terms.active,
        reactions=weights.reactions * terms.reactions,
        leaves=0.0 - weights.leaves * terms.leaves,
    )
    unclamped = parts.chat + parts.poll + parts.active + parts.reactions + parts.leaves
    score = min(1.0, max(0.0, unclamped))
    return Explanation(terms, parts, unclamped, score, category(score, config))
