"""Accepted events whose tick is not closed yet, in blocks as they came; and how they are put in order once it is."""

import itertools
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.columns import Column, Flags, Int64s, first_of_runs, sort_by
from operators.config import NEVER
from operators.kinds import ORDER_MATTERS
from operators.texts import TextColumn, Texts

_MANY = 8
"""Blocks beyond which they are joined into one before a closing."""


@dataclass(frozen=True, slots=True)
class Events:
    """Events as columns of shape (n,): session row, digests of user and poll, kind, time in ms, number of the id."""

    row: Int64s
    user: npt.NDArray[np.uint64]
    poll: npt.NDArray[np.uint64]
    kind: npt.NDArray[np.uint8]
    ts: Int64s
    name: Int64s

    def __len__(self) -> int:
        return len(self.row)

    def take(self, which: Int64s | Flags) -> "Events":
        """Return the events at these places, or where the flag is set."""
        return Events(*[getattr(self, name)[which] for name in _FIELDS])


def as_columns(events: Events) -> dict[str, Column]:
    """Return the columns by name."""
    return {name: getattr(events, name) for name in _FIELDS}


def join(blocks: list[Events]) -> Events:
    """Put blocks one after another."""
    if len(blocks) == 1:
        return blocks[0]
    return Events(*[np.concatenate([getattr(b, name) for b in blocks] or [_EMPTY[name]]) for name in _FIELDS])


_FIELDS = tuple(field.name for field in fields(Events))
_EMPTY: dict[str, npt.NDArray[Any]] = {
    "row": np.zeros(0, np.int64),
    "user": np.zeros(0, np.uint64),
    "poll": np.zeros(0, np.uint64),
    "kind": np.zeros(0, np.uint8),
    "ts": np.zeros(0, np.int64),
    "name": np.zeros(0, np.int64),
}


class Names:
    """The event ids of what waits, by number: columns as they came with their batches, kept while one is needed.

    Ids are looked at only where times are equal, so a column of numbers goes through the sorting in their place.
    """

    def __init__(self) -> None:
        self._bases: list[int] = []
        self._columns: list[TextColumn] = []
        self._needed: list[int] = []
        self._next = 0

    def add(self, ids: TextColumn, needed: int) -> int:
        """Keep a column of which ``needed`` ids are; return the number of its first."""
        base = self._next
        self._next += max(1, len(ids))
        self._bases.append(base)
        self._columns.append(ids)
        self._needed.append(needed)
        return base

    def get(self, numbers: Int64s) -> list[str]:
        """Return the ids with these numbers."""
        order = numbers.argsort(kind="stable")
        ascending = numbers[order]
        bases = [*self._bases, self._next]
        ends = np.searchsorted(ascending, bases).tolist()
        out = [""] * len(numbers)
        for ids, base, begin, end in zip(self._columns, bases, ends, ends[1:], strict=False):
            if begin < end:
                found = ids.at((ascending[begin:end] - base).tolist())
                for at, text in zip(order[begin:end].tolist(), found, strict=True):
                    out[at] = text
        return out

    def drop(self, numbers: Int64s) -> None:
        """Say that these are needed no more."""
        if not len(numbers):
            return
        if (numbers[1:] < numbers[:-1]).any():
            numbers = np.sort(numbers)
        ends = np.append(np.searchsorted(numbers, self._bases), len(numbers))
        left = (np.array(self._needed) - np.diff(ends)).tolist()
        stay = [i for i, needed in enumerate(left) if needed]
        self._bases = [self._bases[i] for i in stay]
        self._columns = [self._columns[i] for i in stay]
        self._needed = [left[i] for i in stay]

    def packed(self, numbers: Int64s) -> tuple[Int64s, Texts]:
        """Return the places of numbers, all that are needed, among ids, and those; of columns hardly used only they."""
        bases, needed = np.array(self._bases), np.array(self._needed)
        which = np.searchsorted(bases, numbers, side="right") - 1
        places = numbers - bases[which]
        few = needed * 2 < [len(ids) for ids in self._columns]
        used = np.sort(numbers[few[which]])
        begins = np.searchsorted(used, bases)
        if len(used):
            mine = few[which].nonzero()[0]
            places[mine] = np.searchsorted(used, numbers[mine]) - begins[which[mine]]
        parts = [
            Texts.of(ids.at((used[begin : begin + count] - base).tolist())) if is_few else ids.packed()
            for ids, base, begin, count, is_few in zip(
                self._columns, self._bases, begins.tolist(), self._needed, few.tolist(), strict=True
            )
        ]
        counts = np.array([part.number for part in parts])
        return places + (np.cumsum(counts) - counts)[which], Texts.joined(parts)


class Waiting:
    """The accepted events of a shard that wait for their tick."""

    def __init__(self) -> None:
        self._blocks: list[tuple[int, Events]] = []
        self._names = Names()

    def add(self, events: Events, ids: TextColumn) -> None:
        """Take accepted events in; their ``name`` is the place of their id in ``ids``."""
        base = self._names.add(ids, len(events))
        self._add(replace(events, name=events.name + base))

    def _add(self, events: Events) -> None:
        self._blocks.append((int(events.ts.min()), events))

    def packed(self) -> tuple[Events, Texts]:
        """Return what a snapshot keeps: everything that waits, as one block, and the event ids."""
        events = join([block for _, block in self._blocks])
        if not len(events):
            return events, Texts()
        self._blocks = []
        self._add(events)
        places, ids = self._names.packed(events.name)
        return replace(events, name=places), ids

    def earliest(self, rows: Int64s, capacity: int) -> Int64s:
        """Return the time of each row's earliest event; ``NEVER`` where none waits."""
        first = np.full(capacity, NEVER)
        for _, block in self._blocks:
            np.minimum.at(first, block.row, block.ts)
        return first[rows]

    def close(self, horizon_by_row: Int64s, count_by_row: Int64s) -> tuple[Events, int]:
        """Remove the events before their row's horizon (ms; rows that are not meant: far in the past).

        Take them off the rows' counts. Return them in order of row, time and event id, each repeat once, and the number
        of repeats dropped.
        """
        latest = int(horizon_by_row.max())
        kept = [(earliest, block) for earliest, block in self._blocks if earliest >= latest]
        some = [block for earliest, block in self._blocks if earliest < latest]
        if len(some) > _MANY:
            some = [join(some)]
        closed: list[Events] = []
        for block in some:
            due = block.ts < horizon_by_row[block.row]
            if due.all():
                closed.append(block)
                continue
            closed.append(block.take(due.nonzero()[0]))
            # Apart, so that the next rows to reach this horizon are not looked for among what is beyond it.
            newer = block.ts >= latest
            rests = block.take((~due & ~newer).nonzero()[0]), block.take(newer.nonzero()[0])
            kept += [(int(rest.ts.min()), rest) for rest in rests if len(rest)]
        self._blocks = kept
        events = join(closed)
        np.subtract.at(count_by_row, events.row, 1)
        result = self._in_order(events)
        self._names.drop(events.name)
        return result

    def _in_order(self, events: Events) -> tuple[Events, int]:
        """Sort events by row, time and event id, and count each repeat once.

        Times of one row are seldom equal, so ids are compared only where they are, and only where order changes
        anything (a join and a leave of the same millisecond, not two messages).
        """
        order = sort_by(events.row, events.ts)
        row, ts = events.row[order], events.ts[order]
        first = first_of_runs(row, ts)
        if first.all():
            return events.take(order), 0
        again = ~first
        again[:-1] |= again[1:]
        tied = np.flatnonzero(again)
        group = np.cumsum(first[tied]) - 1
        named = list(zip(group.tolist(), self._names.get(events.name[order[tied]]), strict=True))
        has_repeats = len(set(named)) < len(named)
        if not has_repeats:
            meant = (np.bincount(group, ORDER_MATTERS[events.kind[order[tied]]]) > 0)[group]
            tied, named = tied[meant], [pair for pair, yes in zip(named, meant.tolist(), strict=True) if yes]
        if not len(tied):
            return events.take(order), 0
        # Repeats with different content are a fault of the sender; content decides which counts, not arrival.
        contents = (column[order[tied]].tolist() for column in (events.kind, events.user, events.poll))
        content = zip(named, *contents, strict=True)
        ranked = sorted(range(len(tied)), key=list(content).__getitem__)
        order[tied] = order[tied[np.array(ranked, np.int64)]]
        keep = np.ones(len(order), np.bool_)
        names = [named[i] for i in ranked]
        keep[tied[1:]] = [a != b for a, b in itertools.pairwise(names)]
        return events.take(order[keep]), len(order) - int(keep.sum())
