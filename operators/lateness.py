"""Which events are in time: the contract's rules of late and early, for a chunk at once."""

import numpy as np

from operators.chunk import Chunk
from operators.columns import Flags, Int64s
from operators.config import PANE_MS, WindowConfig
from operators.presence import LONG_AGO


def next_tick(ts: Int64s) -> Int64s:
    """Return the first tick beyond each time: the one that would count it first.

    >>> next_tick(np.array([0, 4999, 5000])).tolist()
    [5000, 5000, 10000]
    """
    return (ts // PANE_MS + 1) * PANE_MS


def in_time(chunk: Chunk, watermark: Int64s, clock: int, config: WindowConfig) -> tuple[Flags, Flags]:
    """Return which events are early and which are late, each of shape (n,); the rest is accepted.

    ``watermark`` holds each of the chunk's sessions' watermark so far, ``clock`` is the partition's stream time as the
    shard knows it (it may be ahead of the records', when the wall clock stood in for it).

    An event is early if it is more than ``early_ms`` ahead of its record, late if its tick is at or behind its
    session's watermark or stream time less ``stream_delay_ms``. A watermark is moved only by accepted events; those
    that are late are behind it anyway, so it follows the running maximum of all that are neither early nor late by
    stream time.
    """
    tick = next_tick(chunk.ts)
    early = chunk.ts > chunk.record_ts + config.early_ms
    late = ~early & (tick <= np.maximum(chunk.stream_time, clock) - config.stream_delay_ms)
    moves = ~(early | late)
    # No watermark of any session is beyond this one; in a log that is nearly in order nothing gets past this line.
    before = watermark[chunk.session]
    moved = np.where(moves, chunk.ts - config.lateness_ms, LONG_AGO)
    doubtful = moves & (tick <= np.maximum(np.maximum.accumulate(moved), before))
    if doubtful.any():
        sessions = np.zeros(len(watermark), np.bool_)
        sessions[chunk.session[doubtful]] = True
        some = np.flatnonzero(moves & sessions[chunk.session])
        late[some] |= tick[some] <= np.maximum(running_maximum(chunk.session[some], moved[some]), before[some])
    return early, late


def running_maximum(group: np.ndarray[tuple[int], np.dtype[np.int32]], values: Int64s) -> Int64s:
    """Return the running maximum of values within each group, in the given order."""
    n = len(values)
    order = np.argsort(group, kind="stable")
    distinct, rank = np.unique(values, return_inverse=True)
    # Ranks are small, so that each group can be lifted above all the groups before it.
    lifted = rank[order] + group[order].astype(np.int64) * n
    out = np.empty(n, np.int64)
    out[order] = distinct[np.maximum.accumulate(lifted) - group[order].astype(np.int64) * n]
    return out
