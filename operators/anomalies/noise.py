"""What counting noise explains: how much less probable counts are if nothing has changed.

Whoever counts n independent events sees a standard deviation of sqrt(n) although nothing changes. Windows of 60 s that
close every 5 s share eleven twelfths of their events, so their ticks are no independent samples, and the spread of
thirty of them says little about this noise. Hence two ways:

- a floor under the deviation that z is measured in, from the counts' own distributions through the score's terms
  (delta method);
- evidence: a likelihood ratio of counts in spans that share nothing, in nats. For counts K and B over exposures e and f
  with one and the same rate, K given K + B is binomial, and by Chernoff's bound a K as far below its mean has a
  probability of at most exp(-evidence). Evidence of independent counts adds up.

Independence is assumed of messages and of reactions (Poisson), and of people in whether they act (binomial: people who
differ vary less, so the floor errs upwards). Messages and acting people are not taken as independent: who writes is
active, so their deviations add, and of their evidence the greater counts.
"""

import math

import numpy as np

from operators.config import ScoreConfig
from operators.engagement import Floats


def counting_deviation(
    chats: Floats, reactions: Floats, ratio: Floats, people: Floats, churn: Floats, config: ScoreConfig
) -> Floats:
    """Return the standard deviation of the score (without poll) that counting alone gives, of shape (n,).

    ``chats``, ``reactions``, ``churn``: expected in 60 s; ``ratio``: share of ``people`` who are active, in 0..1.
    By the delta method ln(1 + n) / ln(1 + ceiling) has deviation sqrt(n) / ((1 + n) ln(1 + ceiling)); saturation only
    lowers it, and is left out. A ratio has sqrt(p (1 - p) / people).

    >>> room = [np.array([value]) for value in (5.0, 0.0, 0.4, 10.0, 0.0)]
    >>> counting_deviation(*room, ScoreConfig()).round(4).tolist()
    [0.0755]
    """
    weights = config.weights
    chat = weights.chat / math.log(1 + config.chat_ceiling) * np.sqrt(chats) / (1 + chats)
    reaction = weights.reactions / math.log(1 + config.reactions_ceiling) * np.sqrt(reactions) / (1 + reactions)
    people = np.maximum(people, 1.0)
    active = weights.active * np.sqrt(ratio * (1 - ratio) / people)
    leaves = weights.leaves * np.sqrt(churn) / people
    deviation: Floats = np.sqrt(chat * chat + reaction * reaction + leaves * leaves) + active
    return deviation


def fewer(count: Floats, exposure: Floats, earlier: Floats, earlier_exposure: Floats) -> Floats:
    """Return the evidence, in nats, that a rate fell; 0 where the count is not below what is expected. Shape (n,).

    The log-likelihood ratio of two Poisson counts against one common rate.

    >>> fewer(*(np.array([value]) for value in (0.0, 1.0, 30.0, 3.0))).round(2).tolist()
    [8.63]
    """
    share = exposure / (exposure + earlier_exposure)
    expected = (count + earlier) * share
    ratio = _plogp(count, expected) + _plogp(earlier, (count + earlier) * (1 - share))
    return np.where(count < expected, np.maximum(ratio, 0.0), 0.0)


def smaller_share(part: Floats, whole: Floats, earlier: Floats, earlier_whole: Floats) -> Floats:
    """Return the evidence, in nats, that a share fell; 0 where it did not. Shape (n,).

    The log-likelihood ratio of two binomial counts against one common share.

    >>> smaller_share(*(np.array([value]) for value in (0.0, 20.0, 30.0, 60.0))).round(2).tolist()
    [11.34]
    """
    share = (part + earlier) / np.maximum(whole + earlier_whole, 1.0)
    expected = whole * share
    others = (whole - part, whole * (1 - share)), (earlier_whole - earlier, earlier_whole * (1 - share))
    ratio = _plogp(part, expected) + _plogp(earlier, earlier_whole * share)
    for count, mean in others:
        ratio = ratio + _plogp(count, mean)
    return np.where(part < expected, np.maximum(ratio, 0.0), 0.0)


def _plogp(count: Floats, expected: Floats) -> Floats:
    """Return ``count * ln(count / expected)``, 0 for a count of 0 (or below, which rounding may make of it)."""
    some = (count > 0) & (expected > 0)
    return np.where(some, count * np.log(np.where(some, count, 1.0) / np.where(some, expected, 1.0)), 0.0)
