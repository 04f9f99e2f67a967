"""Accepted events whose tick is not closed yet, in blocks as they came; and how they are put in order once it is."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.columns import Column, Flags, Int64s, first_of_runs, sort_by
from operators.kinds import ORDER_MATTERS

_MANY = 64
"""Blocks beyond which the left-overs are joined into one."""


@dataclass(frozen=True, slots=True)
class Events:
    """Events as columns of shape (n,): session row, digests of user and poll, kind, time in ms, and event id."""

    row: Int64s
    user: npt.NDArray[np.uint64]
    poll: npt.NDArray[np.uint64]
    kind: npt.NDArray[np.uint8]
    ts: Int64s
    event_id: npt.NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: Int64s | Flags) -> "Events":
        """Return the events at these places, or where the flag is set."""
        return Events(*(getattr(self, f.name)[which] for f in fields(self)))

    def columns(self) -> dict[str, Column]:
        """Return the plain columns by name (all but the event ids)."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "event_id"}


def join(blocks: list[Events]) -> Events:
    """Put blocks one after another."""
    if len(blocks) == 1:
        return blocks[0]
    return Events(*(np.concatenate([getattr(b, f.name) for b in blocks] or [_EMPTY[f.name]]) for f in fields(Events)))


_EMPTY: dict[str, npt.NDArray[Any]] = {
    "row": np.zeros(0, np.int64),
    "user": np.zeros(0, np.uint64),
    "poll": np.zeros(0, np.uint64),
    "kind": np.zeros(0, np.uint8),
    "ts": np.zeros(0, np.int64),
    "event_id": np.zeros(0, np.object_),
}


class Waiting:
    """The accepted events of a shard that wait for their tick."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, Events]] = []

    def add(self, events: Events) -> None:
        """Take accepted events in."""
        self._blocks.append((int(events.ts.min()), events))

    def all(self) -> Events:
        """Return everything that waits, as one block."""
        events = join([block for _, block in self._blocks])
        self._blocks = [(int(events.ts.min()), events)] if len(events) else []
        return events

    def close(self, horizon_by_row: Int64s) -> Events:
        """Remove and return the events before their row's horizon (ms; rows that are not meant: far in the past)."""
        latest = int(horizon_by_row.max())
        closed: list[Events] = []
        kept: list[tuple[int, Events]] = []
        for earliest, block in self._blocks:
            if earliest >= latest:
                kept.append((earliest, block))
                continue
            over = block.ts < horizon_by_row[block.row]
            if over.all():
                closed.append(block)
            elif not over.any():
                kept.append((earliest, block))
            else:
                closed.append(block.take(over))
                rest = block.take(~over)
                kept.append((int(rest.ts.min()), rest))
        self._blocks = kept
        if len(kept) > _MANY:
            self.all()
        return join(closed)


def in_order(events: Events) -> tuple[Events, int]:
    """Sort events by row, time and event id, count each repeat once; return them and the number of repeats dropped.

    Times of one row are seldom equal, so ids are compared only where they are, and only where order changes anything
    (a join and a leave of the same millisecond, not two messages).
    """
    order = sort_by(events.row, events.ts)
    row, ts = events.row[order], events.ts[order]
    first = first_of_runs(row, ts)
    if first.all():
        return events.take(order), 0
    group = np.cumsum(first) - 1
    size = np.bincount(group)
    tied = np.flatnonzero(size[group] > 1)
    ids = events.event_id[order[tied]].tolist()
    named = list(zip(group[tied].tolist(), ids, strict=True))
    keep = np.ones(len(order), np.bool_)
    matters = np.zeros(len(size), np.bool_)
    np.logical_or.at(matters, group, ORDER_MATTERS[events.kind[order]])
    has_repeats = len(set(named)) < len(named)
    if has_repeats or matters.any():
        chosen = tied if has_repeats else tied[matters[group[tied]]]
        if not has_repeats:
            named = [pair for pair, meant in zip(named, matters[group[tied]].tolist(), strict=True) if meant]
        # Repeats with different content are a fault of the sender; content decides which counts, not arrival.
        content = zip(named, events.kind[order[chosen]].tolist(), events.user[order[chosen]].tolist(), strict=True)
        ranked = sorted(range(len(chosen)), key=list(content).__getitem__)
        order[chosen] = order[chosen[np.array(ranked, np.int64)]]
        if has_repeats:
            names = [named[i] for i in ranked]
            keep[chosen[1:]] = [a != b for a, b in zip(names, names[1:], strict=False)]
    return events.take(order[keep]), len(order) - int(keep.sum())
