"""Accepted events whose tick is not closed yet, in blocks as they came; and how they are put in order once it is."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.columns import Column, Flags, Int64s, first_of_runs, group_by, ranges, sort_by
from operators.config import NEVER, PANE_MS
from operators.kinds import IS_ACT, ORDER_MATTERS
from operators.presence import LONG_AGO
from operators.texts import TextColumn, Texts

_MANY = 8
"""Blocks beyond which they are joined into one before a closing."""
_PART = 1 << 15
"""Events, and a row's more, that are sorted at one call: what comes meanwhile waits for no more."""
_SEVERAL = 8
"""Closings after which it is looked whose ids can go: that costs as much for one as for several."""


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
        self._dropped: list[Int64s] = []

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
        if len(numbers):
            self._dropped.append(numbers)
        if len(self._dropped) >= _SEVERAL:
            self.let_go()

    def let_go(self) -> None:
        """Let go of the columns of which no id is needed."""
        if not self._dropped:
            return
        numbers = np.concatenate(self._dropped)
        self._dropped = []
        which = np.searchsorted(self._bases, numbers, side="right") - 1
        left = (np.array(self._needed) - np.bincount(which, minlength=len(self._needed))).tolist()
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


@dataclass(frozen=True, slots=True)
class Due:
    """Events that were closed, in order of row, time and event id, and how many repeats were dropped with them.

    ``outdone`` are acts of which the next thing that their user does is another, in the same pane (None: not known).
    """

    events: Events
    outdone: Flags | None
    repeats: int


class _Sorted:
    """Events in order, one at least, all before a moment (ms), of which rows are taken out by and by."""

    def __init__(self, events: Events, until: int) -> None:
        self._events, self.until = events, until
        self._outdone = _outdone(events)
        self._first = int(events.row[0])
        self._count = np.bincount(events.row - self._first)
        self._at = np.cumsum(self._count) - self._count
        self._left = len(events)

    def __len__(self) -> int:
        return self._left

    def take(self, rows: Int64s, horizon: Int64s) -> tuple[Events, Flags]:
        """Take the events of rows (ascending) before their horizons (ms); return them in order, and which are outdone.

        As long as a row has events here its number must not be given to another session.
        """
        begin, end = rows.searchsorted([self._first, self._first + len(self._count)]).tolist()
        rows, horizon = rows[begin:end] - self._first, horizon[begin:end]
        counts = self._count[rows]
        taken = ranges(self._at[rows], counts)
        if len(taken) and horizon.min() < self.until:
            row = np.repeat(np.arange(len(rows)), counts)
            due = self._events.ts[taken] < horizon[row]
            taken, counts = taken[due], np.bincount(row[due], minlength=len(rows))
        self._at[rows] += counts
        self._count[rows] -= counts
        self._left -= len(taken)
        return self._events.take(taken), self._outdone[taken]

    def rest(self) -> Events:
        """Return what was not taken out, in order."""
        return self._events.take(ranges(self._at, self._count))


def _parts(events: Events) -> Iterator[Events]:
    """Cut events in the order of their rows into parts of rows each."""
    begin = 0
    while begin < len(events):
        end = len(events)
        if end > begin + _PART:
            end = int(events.row.searchsorted(events.row[begin + _PART], "right"))
        yield Events(*[getattr(events, name)[begin:end] for name in _FIELDS])
        begin = end


def _outdone(events: Events) -> Flags:
    order, row, user = group_by(events.row, events.user)
    act = IS_ACT[events.kind[order]]
    goes_on = ~first_of_runs(row, user, events.ts[order] // PANE_MS) & act
    out = np.zeros(len(order), np.bool_)
    out[order[:-1]] = goes_on[1:] & act[:-1]
    return out


class Waiting:
    """The accepted events of a shard that wait for their tick; a row's are counted in the caller's column.

    They lie in blocks as they came until most of those before a tick are there; then these are sorted. Once the tick
    can be closed, one row soon follows the other, while new events wait for all of them: sorting is done by then.
    """

    def __init__(self) -> None:
        self._blocks: list[tuple[int, Events]] = []
        self._unsorted: list[Events] = []
        """What is sorted next, by row and time already: parts of rows each, the first rows last."""
        self._sorted: list[_Sorted] = []
        self._sorted_until = LONG_AGO
        self._names = Names()

    def add(self, events: Events, ids: TextColumn) -> None:
        """Take accepted events in; their ``name`` is the place of their id in ``ids``."""
        base = self._names.add(ids, len(events))
        self._add(replace(events, name=events.name + base))

    def _add(self, events: Events) -> None:
        self._blocks.append((int(events.ts.min()), events))

    def _all(self) -> list[Events]:
        return [*(block for _, block in self._blocks), *self._unsorted, *(block.rest() for block in self._sorted)]

    def packed(self) -> tuple[Events, Texts]:
        """Return what a snapshot keeps: everything that waits, as one block, and the event ids."""
        self._names.let_go()
        events = join(self._all())
        if not len(events):
            return events, Texts()
        places, ids = self._names.packed(events.name)
        return replace(events, name=places), ids

    def earliest(self, rows: Int64s, capacity: int) -> Int64s:
        """Return the time of each row's earliest event; ``NEVER`` where none waits."""
        first = np.full(capacity, NEVER)
        for block in self._all():
            np.minimum.at(first, block.row, block.ts)
        return first[rows]

    def sort(self, until: int, count_by_row: Int64s) -> int:
        """Sort what is before a tick (ms), once for each, a part at each call; return how many repeats were dropped."""
        repeats = 0
        if until > self._sorted_until:
            repeats = self._sort_rest(count_by_row)
            self._sorted_until = until
            events = join(self._older(until, lambda block: block.ts < until))
            self._unsorted = list(_parts(events.take(sort_by(events.row, events.ts))))[::-1] if len(events) else []
        elif self._unsorted:
            repeats = self._sort_part(count_by_row)
        return repeats

    def _sort_part(self, count_by_row: Int64s) -> int:
        events, repeats = self._in_order(self._unsorted.pop(), count_by_row)
        self._sorted.append(_Sorted(events, self._sorted_until))
        return repeats

    def _sort_rest(self, count_by_row: Int64s) -> int:
        repeats = 0
        while self._unsorted:
            repeats += self._sort_part(count_by_row)
        return repeats

    def close(self, rows: Int64s, horizon: Int64s, count_by_row: Int64s) -> Due:
        """Remove the events of rows (ascending) before their horizons (ms), and return each once."""
        latest = int(horizon.max())
        repeats = self._sort_rest(count_by_row)
        ready = [(block.until, *found) for block in self._sorted if len((found := block.take(rows, horizon))[0])]
        self._sorted = [block for block in self._sorted if len(block)]
        closed = [events for _, events, _ in ready]
        if any(begin < latest for begin, _ in self._blocks):
            horizon_by_row = np.full(len(count_by_row), LONG_AGO)
            horizon_by_row[rows] = horizon
            closed += self._older(latest, lambda block: block.ts < horizon_by_row[block.row])
        if len(closed) == len(ready) > 0 and len({until for until, _, _ in ready}) == 1:
            # What was sorted for one tick lies there in the order of rows.
            due = Due(join(closed), np.concatenate([outdone for _, _, outdone in ready]), repeats)
        else:
            events = join(closed)
            events, again = self._in_order(events.take(sort_by(events.row, events.ts)), count_by_row)
            due = Due(events, None, repeats + again)
        np.subtract.at(count_by_row, due.events.row, 1)
        self._names.drop(due.events.name)
        return due

    def _older(self, latest: int, is_due: Callable[[Events], Flags]) -> list[Events]:
        """Remove the events that are due from the blocks, and return them; all that is due is before ``latest``."""
        kept = [(earliest, block) for earliest, block in self._blocks if earliest >= latest]
        some = [block for earliest, block in self._blocks if earliest < latest]
        if len(some) > _MANY:
            some = [join(some)]
        older: list[Events] = []
        for block in some:
            due = is_due(block)
            if due.all():
                older.append(block)
                continue
            older.append(block.take(due.nonzero()[0]))
            # Apart, so that the next rows to reach this horizon are not looked for among what is beyond it.
            newer = block.ts >= latest
            rests = block.take((~due & ~newer).nonzero()[0]), block.take(newer.nonzero()[0])
            kept += [(int(rest.ts.min()), rest) for rest in rests if len(rest)]
        self._blocks = kept
        return older

    def _in_order(self, events: Events, count_by_row: Int64s) -> tuple[Events, int]:
        """Put events of equal row and time in the order of their ids; repeats are taken off their rows' counts.

        Times of one row are seldom equal, so ids are compared only where they are, and only where order changes
        anything (a join and a leave of the same millisecond, not two messages).
        """
        first = first_of_runs(events.row, events.ts)
        if first.all():
            return events, 0
        again = ~first
        again[:-1] |= again[1:]
        tied = np.flatnonzero(again)
        group = np.cumsum(first[tied]) - 1
        named = list(zip(group.tolist(), self._names.get(events.name[tied]), strict=True))
        has_repeats = len(set(named)) < len(named)
        if not has_repeats:
            meant = (np.bincount(group, ORDER_MATTERS[events.kind[tied]]) > 0)[group]
            tied, named = tied[meant], [pair for pair, yes in zip(named, meant.tolist(), strict=True) if yes]
        if not len(tied):
            return events, 0
        # Repeats with different content are a fault of the sender; content decides which counts, not arrival.
        contents = (column[tied].tolist() for column in (events.kind, events.user, events.poll))
        content = zip(named, *contents, strict=True)
        ranked = sorted(range(len(tied)), key=list(content).__getitem__)
        order = np.arange(len(events))
        order[tied] = tied[np.array(ranked, np.int64)]
        repeated = tied[1:][[named[i] == named[before] for before, i in itertools.pairwise(ranked)]]
        dropped = events.take(order[repeated])
        np.subtract.at(count_by_row, dropped.row, 1)
        self._names.drop(dropped.name)
        return events.take(np.delete(order, repeated)), len(repeated)
