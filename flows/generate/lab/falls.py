"""A fall of the expected score against what was before, and when it is beyond what counting noise explains."""

from dataclasses import dataclass

import numpy as np

from flows.generate.lab.rhythm import Flags, Floats

MINUTE = 12
"""Ticks in 60 s."""
TINY = 1e-12


@dataclass(frozen=True)
class LabelRules:
    """The numbers of the labels.

    ``far_sds``: what counting noise alone passes too seldom to matter. A healthy session may raise 0.05 reports an
    hour; with some three independent looks a minute that is one in 3,600, or 3.5 standard deviations of healthy noise.
    ``edge_sds``: a sure change passes a threshold by so many deviations of the noise that it has itself, so that 97 of
    100 are beyond it on the first tick; an open one may miss it by as many.
    ``stretch``: a sure fall is so many times the rule's fall. An open one is at least ``slack`` times the rule's fall;
    or it is ``faint`` times that, and noise can do the rest.
    """

    fall: float = 0.25
    low: float = 0.20
    decline: float = 0.20
    far_sds: float = 3.5
    edge_sds: float = 2.0
    stretch: float = 1.2
    slack: float = 0.8
    faint: float = 0.6
    gone: int = 3
    exit_rate: tuple[float, float] = (0.02, 0.10)
    """Leave rates from which an exit is open and sure."""
    exit_times_churn: tuple[float, float] = (2.5, 4.0)
    """Open and sure: so many times what leaves by itself, in count and rate."""
    exit_sds: tuple[float, float] = (3.5, 5.0)
    exit_more: tuple[float, float] = (1.0, 2.0)
    """Open and sure: by so many deviations, and people, above what leaves by itself: a Poisson tail is long."""
    growth: tuple[float, float] = (1.15, 1.35)
    """Growth of the audience within 60 s up to which a fall can be sure, and up to which it can be open."""


@dataclass(frozen=True, eq=False)
class Fall:
    """A fall against what was before, shape (ticks,) each: ``base`` was expected then.

    ``base_sd`` was one tick's noise then, ``base_third`` its third central moment; ``share`` is the variance of
    ``base`` as a share of one tick's, ``sd`` the noise of one tick now.
    """

    base: Floats
    now: Floats
    base_sd: Floats
    base_third: Floats
    share: Floats
    sd: Floats

    @property
    def depth(self) -> Floats:
        """How far the score is below what was before."""
        return self.base - self.now

    @property
    def noise(self) -> Floats:
        """The standard deviation of the depth as it is."""
        return np.sqrt(self.sd**2 + self.share * self.base_sd**2)

    @property
    def healthy_noise(self) -> Floats:
        """The standard deviation of the depth had nothing changed."""
        return self.base_sd * np.sqrt(1.0 + self.share)

    def far(self, rules: LabelRules) -> Flags:
        """Tell where healthy noise explains nothing of it, for whoever sees it on the first tick.

        The logarithm of a small count falls far more than it rises, so a normal law's quantile z is moved by the first
        term of Cornish and Fisher's expansion, (z^2 - 1) / 6 times the skewness.
        """
        z, healthy = rules.far_sds, self.healthy_noise
        cube = healthy**3
        skewness = np.divide(self.base_third, cube, out=np.zeros(len(cube)), where=cube > TINY)
        quantile = z + (z**2 - 1) / 6 * np.clip(-skewness, 0.0, 2.0)
        return self.depth >= quantile * healthy + rules.edge_sds * self.noise

    def sure(self, least: float, rules: LabelRules) -> Flags:
        """Tell where the fall is sure, ``least`` being the rule's share of the base."""
        stretched = self.depth >= rules.stretch * least * self.base
        return stretched & (self.depth >= least * self.base + rules.edge_sds * self.noise) & self.far(rules)

    def plain(self, least: float) -> Flags:
        """Tell where the expected score itself falls as the rule says, noise or not."""
        return (self.depth >= least * self.base) & (self.depth > 0)

    def open(self, least: float, rules: LabelRules) -> Flags:
        """Tell where the fall is open: nearly as the rule says, or too weak by itself but within reach of noise."""
        reached = self.depth + rules.edge_sds * self.noise >= least * self.base
        near = self.depth >= rules.slack * least * self.base
        return (near | (reached & (self.depth >= rules.faint * least * self.base))) & (self.depth > 0)


def noise_of_mean(ticks: Floats) -> Floats:
    """Return the variance of a mean over so many consecutive ticks, as a share of one tick's variance.

    Neighbouring windows of W = 60 s overlap, so their correlation falls along a straight line to 0 at a distance of W.
    The mean over a stretch s of such a process has the variance 1 - s/3W for s <= W, else (W/s)(1 - W/3s).

    >>> noise_of_mean(np.array([12.0, 30.0])).round(4).tolist()
    [0.6667, 0.3467]
    """
    stretch = np.maximum(ticks, 1.0) / MINUTE
    return np.where(stretch <= 1, 1 - stretch / 3, (1 - 1 / (3 * stretch)) / stretch)
