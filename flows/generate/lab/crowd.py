"""Draws who comes and goes: sizes, arrivals, churn, differences between people, and how a session ends."""

from dataclasses import dataclass

import numpy as np

from flows.generate.lab.rhythm import Flags, Floats, Ints
from flows.generate.lab.room import Stays

SIZES = (5, 5_000)
"""Least and greatest audience; sizes are log-uniform between them."""
LENGTH_MIN = (10.0, 60.0)
CHURN = (0.001, 0.02)
"""Shares of the people that leave in a minute of their own accord, log-uniform."""
REPLACED = 0.8
"""Newcomers for each who leaves."""
TALK_SIGMA = 0.8
"""Differences between people: the standard deviation of the logarithm of how much they say."""
LEAVE_LOST = 0.03
"""Share of leaves that never arrive: the person counts as present until the end."""
BY_ACTS_ALONE = 0.15
"""Share of sessions without any joins and leaves: presence is seen by acts."""
WITHOUT_JOIN = 0.08
"""Share of the people without a join in other sessions."""


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


@dataclass(frozen=True, eq=False)
class Crowd:
    """People, how they show, when they stay up to ``over`` (ms), and at which rate they leave by themselves."""

    talk: Floats
    joins: Flags
    stays: Stays
    churn: float
    over: int

    def inside(self, moment: int) -> Flags:
        """Tell which stays hold at a moment."""
        return (self.stays.come < moment) & (self.stays.go > moment)

    def at(self, moment: int) -> Ints:
        """Return the people who are there at a moment."""
        return self.stays.person[self.inside(moment)]

    def with_stays(self, stays: Stays) -> "Crowd":
        """Return the same people with other stays."""
        return Crowd(self.talk, self.joins, stays.sorted(), self.churn, self.over)

    def with_newcomers(self, rng: np.random.Generator, come: Ints) -> "Crowd":
        """Return the crowd and others who come at given times; they leave as all do."""
        number = len(come)
        go, told = leaving(rng, come, self.churn, self.over)
        who = np.arange(len(self.talk), len(self.talk) + number)
        share = self.joins.mean()
        return Crowd(
            np.concatenate((self.talk, talkativeness(rng, number))),
            np.concatenate((self.joins, rng.random(number) < share)),
            self.stays.plus(who, come, go, told),
            self.churn,
            self.over,
        )


def talkativeness(rng: np.random.Generator, people: int) -> Floats:
    """Draw how much each says, log-normal with mean 1."""
    return rng.lognormal(-(TALK_SIGMA**2) / 2, TALK_SIGMA, people)


def leaving(rng: np.random.Generator, come: Ints, churn: float, over: int) -> tuple[Ints, Flags]:
    """Draw when people go who came at given times, and whether a leave tells it; who stays, stays until ``over``."""
    go = come + 1_000 + rng.exponential(60_000 / churn, len(come)) if churn > 0 else np.full(len(come), float(over))
    told = (go < over) & (rng.random(len(come)) >= LEAVE_LOST)
    return np.minimum(go, over).astype(np.int64), told


def draw_crowd(rng: np.random.Generator, people: int, over: int, by_acts_alone: bool) -> Crowd:
    """Draw an audience of about ``people``: most come within the first minute, newcomers replace most who leave."""
    churn = log_uniform(rng, *CHURN)
    late = rng.random(people) < 0.05
    first = np.minimum(rng.exponential(log_uniform(rng, 3_000, 20_000), people), 60_000)
    come = np.where(late, rng.uniform(0, 0.5 * over, people), first).astype(np.int64)
    come[0] = 0
    newcomers = rng.poisson(REPLACED * churn * people * over / 60_000)
    come = np.concatenate((come, rng.uniform(60_000, max(over, 61_000), newcomers).astype(np.int64)))
    come = come[come < over]
    go, told = leaving(rng, come, churn, over)
    joins = np.zeros(len(come), np.bool_) if by_acts_alone else rng.random(len(come)) >= WITHOUT_JOIN
    stays = Stays(np.arange(len(come)), come, go, told).sorted()
    return Crowd(talkativeness(rng, len(come)), joins, stays, churn, over)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a session ends: people ``trickle`` out, ``session.ended`` is ``told``, clients send leaves ``after`` it."""

    trickle: bool
    told: bool
    after: bool


ENDINGS = (Ending(False, True, False), Ending(False, True, True), Ending(True, True, False), Ending(True, False, False))
ENDING_CHANCES = (0.5, 0.2, 0.15, 0.15)
TRICKLE_MS = 90_000.0
TRICKLE_LASTS_MS = 420_000


def trickle(rng: np.random.Generator, crowd: Crowd) -> Crowd:
    """Let the people who are there at the end leave one by one, half of them within a minute."""
    stays = crowd.stays
    staying = (stays.go >= crowd.over) & ~stays.told
    away = crowd.over + np.minimum(rng.exponential(TRICKLE_MS, len(staying)), TRICKLE_LASTS_MS).astype(np.int64)
    told = stays.told | (staying & (rng.random(len(staying)) >= LEAVE_LOST))
    return crowd.with_stays(Stays(stays.person, stays.come, np.where(staying, away, stays.go), told))
