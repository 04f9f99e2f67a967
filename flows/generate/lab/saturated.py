"""The chat and reaction terms under a Poisson count: moments and slope, from the distribution itself."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from flows.generate.lab.rhythm import Floats

_STEP = 0.02
_BEYOND = 40.0
"""Expected counts over the ceiling from which the term is full for certain: 20 + 40 leaves 3e-9 below it."""


@dataclass(frozen=True, eq=False)
class Term:
    """``min(1, ln(1 + N) / ln(1 + ceiling))`` for N of a Poisson law, tabulated over its mean."""

    means: Floats
    mean: Floats
    variance: Floats
    third: Floats
    """The third central moment: below 0, for a logarithm falls further than it rises."""
    slope: Floats

    def at(self, expected: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return mean, variance, third moment and the mean's derivative at expected counts of any shape."""
        columns = (self.mean, self.variance, self.third, self.slope)
        mean, variance, third, slope = (np.interp(expected, self.means, column) for column in columns)
        return mean, variance, third, slope


@lru_cache(maxsize=8)
def term(ceiling: int) -> Term:
    """Return the term with a ceiling (contract, section 3: 20 messages, 10 reactions).

    The slope of a Poisson mean E f(N) is E[f(N + 1) - f(N)].

    >>> chat = term(20)
    >>> mean, variance, third, slope = chat.at(np.array([0.0, 5.0, 1000.0]))
    >>> [round(float(value), 3) for value in mean], [round(float(value), 4) for value in variance]
    ([0.0, 0.563, 1.0], [0.0, 0.0186, 0.0])
    """
    counts = np.arange(ceiling + 2)
    value = np.minimum(1.0, np.log1p(counts) / math.log(1 + ceiling))
    means = np.arange(0.0, ceiling + _BEYOND + _STEP, _STEP)
    log_factorial = np.array([math.lgamma(n + 1) for n in counts])
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = counts * np.log(means)[:, None] - means[:, None] - log_factorial
    logs[0] = np.where(counts == 0, 0.0, -np.inf)
    chance = np.exp(logs[:, : ceiling + 1])
    shortfall = 1.0 - value[: ceiling + 1]
    mean = 1.0 - chance @ shortfall
    first, second, cube = (chance @ shortfall**power for power in (1, 2, 3))
    variance = np.maximum(0.0, second - first**2)
    third = -(cube - 3 * first * second + 2 * first**3)
    return Term(means, mean, variance, third, chance @ (value[1:] - value[: ceiling + 1]))
