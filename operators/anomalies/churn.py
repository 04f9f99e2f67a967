"""The session's own churn: how many people leave, and how many are there, in a minute as usual."""

import math

import numpy as np

from operators.anomalies.config import WINDOW_TICKS
from operators.anomalies.state import Runs
from operators.columns import Int64s, offsets
from operators.engagement import Floats

_FEW = 16
"""Runs from which on a step for all of them together is quicker than one after another."""


def usual(
    runs: Runs, start: Floats, begin: Floats, known: Int64s, left_before: Int64s, inside: Int64s, memory: int
) -> tuple[Floats, Floats]:
    """Return churn and crowd as known before each tick, (2, t), and after each run's last, (2, runs).

    ``start`` is what is kept of the runs, (2, runs), and ``begin`` what a run that begins takes for its churn, (runs,).
    ``known``: of how many ticks it is the mean, with the tick itself; ``inside``: who was there in each tick's own
    window; ``left_before``: who had left in the one in front of it; these three (t,). Exponentially weighted means over
    ``memory`` ticks, even ones over the first. Churn follows a window behind, so that those who leave now are not in
    it, and a single exit enters it only as three deviations of what was usual.
    """
    new = runs.seen == 0
    after = np.where(new, np.stack([begin, inside[runs.tick_at[:-1]]]), start)
    share = 1 / np.minimum(known, memory)
    churn_share = np.where(runs.ordinal >= WINDOW_TICKS, share, 0.0)
    columns = np.stack([left_before, churn_share, inside, share])
    longest = int(runs.count.max(initial=0))
    follow = _one_by_one if len(runs.at) < _FEW * longest else _together
    return follow(runs, columns, after), after


def _together(runs: Runs, columns: Floats, after: Floats) -> Floats:
    """Take the k-th tick of all runs in one step, k after k; ``after`` is moved on."""
    order = np.argsort(-runs.count, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    steps = np.bincount(runs.place)
    step_at = offsets(steps)
    at = step_at[runs.place] + rank[runs.run]
    by_step = np.empty_like(columns)
    by_step[:, at] = columns
    before = np.empty((2, len(at)))
    churn, crowd = now = after[:, order]
    for begin, end in zip(step_at[:-1].tolist(), step_at[1:].tolist(), strict=True):
        n = end - begin
        past, churn_share, inside, share = by_step[:, begin:end]
        before[:, begin:end] = now[:, :n]
        some, most = churn[:n], np.minimum(past, churn[:n] + 3 * np.sqrt(churn[:n] + 1) + 1)
        some += (most - some) * churn_share
        crowd[:n] += (inside - crowd[:n]) * share
    after[:, order] = now
    return before[:, at]


def _one_by_one(runs: Runs, columns: Floats, after: Floats) -> Floats:
    """Take one run after another: the same numbers in the same order."""
    before: list[tuple[float, float]] = []
    for run, (begin, end) in enumerate(zip(runs.tick_at[:-1].tolist(), runs.tick_at[1:].tolist(), strict=True)):
        churn, crowd = after[:, run].tolist()
        for past, churn_share, inside, share in columns[:, begin:end].T.tolist():
            before.append((churn, crowd))
            churn += (min(past, churn + 3 * math.sqrt(churn + 1) + 1) - churn) * churn_share
            crowd += (inside - crowd) * share
        after[:, run] = churn, crowd
    return np.array(before).reshape(len(before), 2).T
