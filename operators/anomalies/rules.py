"""Which rules hold at which tick: the contract's section 4, for many ticks at once."""

from dataclasses import dataclass, replace

import numpy as np

from operators.anomalies.config import HISTORY, AnomalyConfig
from operators.anomalies.past import NOT_THERE, Past
from operators.anomalies.state import UNITS
from operators.columns import Flags, Int64s
from operators.engagement import Floats

NONE, MASS_EXIT, LOW_ENGAGEMENT, SUDDEN_DROP, GRADUAL_DECLINE = range(-1, 4)
"""Indices of ``TYPES``."""


@dataclass(frozen=True, slots=True)
class Measures:
    """All that decides at some ticks with an audience; every column has shape (n,), ``tick`` is the closing's.

    ``ordinal``: how many ticks the audience had before. ``score``: without its poll term. ``mean``, ``spread``: of the
    window of earlier ticks. ``counting``, ``blur``: the deviation that counting alone gives, at the rates of those and
    at the tick's own. ``trees_raw``: the trees' score; ``trees``: the share of the session's own recent ones that it
    exceeds. ``before``: the mean that a sudden drop is measured against. ``line_start``: where the line of a decline
    began, NaN where there is none. ``grown``: the session is old enough to know its churn without an audience.
    ``evidence``, ``exit_evidence`` and what is needed of it, ``exit_needed``: in nats. ``gone_before``: the least
    people gone at the two ticks before. ``kind``: index of the type that holds, ``NONE`` for none.
    """

    tick: Int64s
    ordinal: Int64s
    audience: Int64s
    least_audience: Int64s
    score: Floats
    mean: Floats
    spread: Floats
    counting: Floats
    blur: Floats
    z: Floats
    trees_raw: Floats
    trees: Floats
    trees_weight: Floats
    combined: Floats
    before: Floats
    line_start: Floats
    above_lately: Flags
    grew: Flags
    polled: Flags
    after_drop: Flags
    evidence: Floats
    gone: Int64s
    gone_before: Int64s
    exit_rate: Floats
    churn: Floats
    grown: Flags
    exit_evidence: Floats
    exit_needed: Floats
    exit_times: Floats
    mass_exit: Flags
    low: Flags
    sudden: Flags
    decline: Flags
    kind: Int64s


def candidates(past: Past, config: AnomalyConfig) -> Int64s:
    """Return the ticks at which a rule may hold; everything costly is looked at there alone.

    Every condition here is one of those of ``measure``, or follows from one.
    """
    ready = past.ordinal >= config.min_baseline
    at, slot = past.runs.at, past.runs.slot
    score, before = past.score_now / UNITS, past.before(np.arange(len(ready)))
    falls = ready & (score <= (1 - config.sudden_fall) * before) & (before - score >= config.least_fall)
    low = np.flatnonzero(ready & (score < config.low))
    if len(low):
        falls[low] |= past.above_lately(low)
    rest = np.flatnonzero(ready & ~falls)
    falls[rest] = ~np.isnan(past.line_start(rest))
    fallen = np.flatnonzero(falls)
    if len(fallen):
        falls[fallen] = np.max(past.evidence(fallen), axis=0) >= config.evidence
    left = past.ticks.left[at]
    exits = (ready | past.grown) & (left >= config.exit_people)
    exits &= left > np.minimum(past.left_column[slot - 1], past.left_column[slot - 2])
    exits &= left / np.maximum(np.maximum(past.ticks.present_in_window[at], left), 1) >= config.exit_rate
    return np.flatnonzero(falls | exits)


def judge(past: Past, which: Int64s, config: AnomalyConfig) -> Measures:
    """Return all that decides at some ticks, and which type holds; ``which`` has all candidates in it."""
    found = measure(past, which, config)
    past.remember_drops(which[found.low | found.sudden])
    after_drop = past.runs.slot[which] - past.drop_slot[which] <= HISTORY
    # The line over five minutes in which there was a drop shows nothing but the drop once more.
    decline = found.decline & ~after_drop
    held = [found.mass_exit, found.low, found.sudden, decline]
    kind = np.select(held, [MASS_EXIT, LOW_ENGAGEMENT, SUDDEN_DROP, GRADUAL_DECLINE], NONE)
    return replace(found, after_drop=after_drop, decline=decline, kind=kind)


def measure(past: Past, which: Int64s, config: AnomalyConfig) -> Measures:
    """Return all that decides at some ticks; which type holds is left open, for it depends on the ticks before."""
    at, slot, ordinal = past.runs.at[which], past.runs.slot[which], past.ordinal[which]
    score = past.score_now[which] / UNITS
    mean, spread = past.mean_and_spread(which)
    counting, blur = past.counting(which), past.blur(which)
    z = depth(mean - score, np.maximum(spread, counting), config.z_full)
    trees_raw, trees, weight = past.trees(which)
    combined = weight * trees + (1 - weight) * z
    before, start = past.before(which), past.line_start(which)
    least, audience = past.least_audience(slot), past.ticks.audience[at]
    grew = (least < NOT_THERE) & (audience >= (1 + config.growth) * least) & (audience > least)
    polled = slot - past.poll_slot[which] < HISTORY
    above_lately = past.above_lately(which)
    written, done, active = past.evidence(which)
    evidence = np.where(polled, written, np.maximum(done, active))
    gone, exit_evidence, exit_needed, exit_times = past.exits(which)
    gone_before = np.minimum(past.left_column[slot - 1], past.left_column[slot - 2])
    exit_rate = gone / np.maximum(np.maximum(past.ticks.present_in_window[at], gone), 1)

    ready = ordinal >= config.min_baseline
    mass_exit = (ready | past.grown[which]) & (gone >= config.exit_people) & (gone > gone_before)
    mass_exit &= exit_rate >= config.exit_rate
    mass_exit &= (exit_evidence >= exit_needed) & (exit_times >= config.exit_times)
    may_fall = ready & (combined >= config.warning) & ~grew & (evidence >= config.evidence)
    low = may_fall & above_lately & (score < config.low - config.low_margin * blur)
    sudden = may_fall & (before - score >= config.least_fall)
    sudden &= score <= (1 - config.sudden_fall) * before - config.sudden_margin * blur
    decline = may_fall & (start - score >= config.least_fall)
    decline &= score <= (1 - config.decline_fall) * start - config.decline_margin * blur
    return Measures(
        tick=at, ordinal=ordinal, audience=audience, least_audience=least, score=score, mean=mean, spread=spread,
        counting=counting, blur=blur, z=z, trees_raw=trees_raw, trees=trees, trees_weight=weight, combined=combined,
        before=before, line_start=start, above_lately=above_lately, grew=grew, polled=polled,
        after_drop=np.zeros(len(which), np.bool_), evidence=evidence, gone=gone, gone_before=gone_before,
        exit_rate=exit_rate, churn=past.churn[which], grown=past.grown[which], exit_evidence=exit_evidence,
        exit_needed=exit_needed, exit_times=exit_times,
        mass_exit=mass_exit, low=low, sudden=sudden, decline=decline, kind=np.full(len(which), NONE),
    )  # fmt: skip


def depth(below: Floats, deviation: Floats, full: float) -> Floats:
    """Return z, 0..1: how many deviations a score is below its mean, ``full`` and more being 1.

    >>> depth(np.array([0.3, 0.1, -0.1, 0.1]), np.array([0.05, 0.05, 0.05, 0.0]), 3.0).round(3).tolist()
    [1.0, 0.667, 0.0, 1.0]
    """
    some = deviation > 0
    z: Floats = np.clip(np.where(some, below / (full * np.where(some, deviation, 1.0)), below > 0), 0.0, 1.0)
    return z
