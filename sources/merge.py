"""Merge ordered logs (topics of a partition, files of a replay) into one, by (record timestamp, topic, offset).

The rule is that of a Kafka Streams task: the head with the lowest timestamp goes first, and nobody moves on while a
topic that could still bring something earlier has not spoken. What a topic may still bring is known from two kinds of
claim, and neither is ever taken back:

- its log is ordered: nothing to come is earlier than what came (its *floor*);
- a *proof* of its end: at a moment on our own clock it held nothing that we had not been given, so whatever it still
  brings was appended after that moment, and after everything that had reached us by then.

Since a claim names its moment, a broker that goes silent needs no special case: claims stop, and so does the merge.

Records within a topic keep their order even where timestamps fall: the merge compares the highest timestamp so far
of each topic (its *key*), which gives the order that picking the lowest head gives. Key and topic make one number, the
*rank*; what is held lies in blocks that are sorted by it, each of all topics. Everything is done on whole arrays; no
record is touched alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.batches import Int64s
from schemas.inbound import MAX_TS

LOWEST = -1
"""Below every record timestamp."""
_SPAN = MAX_TS + 1
"""Above every record timestamp."""
_ABOVE_ALL = 1 << 62
"""Above every rank."""
Float64s = npt.NDArray[np.float64]
Values = npt.NDArray[np.object_]
"""Payloads: bytes, or None for a record without one."""


class Share(NamedTuple):
    """How many of some records, one at least, are a lane's; ``nbytes`` is the size of their payloads."""

    lane: int
    records: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Merged:
    """Records in merged order; ``lane`` tells whose each one is, ``counts`` how many are each lane's."""

    values: list[bytes | None]
    record_ts: Int64s
    lane: npt.NDArray[np.intp]
    offset: Int64s
    counts: list[int]

    def __len__(self) -> int:
        return len(self.values)


class _Block(NamedTuple):
    """Records in the order of their ranks, of equal ones the older first: a column each."""

    rank: Int64s
    record_ts: Int64s
    offset: Int64s
    arrived: Float64s
    values: Values

    def part(self, which: Any) -> "_Block":
        """Return some of the records, by a slice or by their places."""
        return _Block(*[column[which] for column in self])


def _joined(blocks: Sequence[_Block]) -> tuple[_Block, npt.NDArray[np.intp]]:
    """Return one block of several, the older first, and where its records stood in all of them."""
    whole = _Block(*map(np.concatenate, zip(*blocks, strict=True)))
    order = whole.rank.argsort(kind="stable")
    return whole.part(order), order


@dataclass(slots=True)
class _Lane:
    """How much is held of a topic, and what is known of what is to come."""

    number: int
    count: int = 0
    nbytes: int = 0
    top: int = LOWEST
    until: int = LOWEST
    proved: float = float("-inf")

    def drop(self, n: int) -> None:
        """Count ``n`` records as gone."""
        # Bytes are taken as spread evenly: exact when the lane is empty, and a bound on memory needs no more.
        self.nbytes -= self.nbytes * n // self.count
        self.count -= n


class Merger:
    """Hold back the records of several topics (lanes 0 to n - 1, in their order) until their turn is certain.

    Ranks are 64-bit numbers: there can be up to 36,000 lanes.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = [_Lane(number) for number in range(lanes)]
        self._blocks: list[_Block] = []
        self._news = False

    def __len__(self) -> int:
        return sum(len(block.rank) for block in self._blocks)

    def held(self, lane: int) -> tuple[int, int]:
        """Return how many records a lane holds and about how many bytes."""
        return self._lanes[lane].count, self._lanes[lane].nbytes

    def push(
        self,
        shares: Sequence[Share],
        values: Values,
        record_ts: Int64s,
        offset: Int64s,
        arrived: float,
    ) -> None:
        """Add the next records of some lanes, which had reached us at the moment ``arrived``.

        They stand lane by lane, in the order of ``shares``, which is that of the lanes; a lane's are in the order of
        its log. ``record_ts`` are within 0..MAX_TS.
        """
        if not shares:
            return
        counts = [share.records for share in shares]
        lane = np.array([share.lane for share in shares]).repeat(counts)
        top = np.array([self._lanes[share.lane].top for share in shares]).repeat(counts)
        # The lanes are moved apart by more than their times differ, so that one running maximum serves them all.
        apart = lane * _SPAN
        key = np.maximum.accumulate(np.maximum(record_ts, top) + apart) - apart
        rank = key * len(self._lanes) + lane
        block = _Block(rank, record_ts, offset, np.full(len(values), arrived), values)
        end = 0
        for share in shares:
            end += share.records
            held = self._lanes[share.lane]
            held.top = int(key[end - 1])
            held.count += share.records
            held.nbytes += share.nbytes
        self._add(block.part(rank.argsort(kind="stable")))
        self._news = True

    def prove(self, lane: int, at: float, until: int) -> None:
        """Take it as proven that all of a lane that existed at the moment ``at`` has been pushed.

        ``at`` is on the clock of `push`; ``until`` (milliseconds) is below the timestamp of all that comes later.
        """
        held, until = self._lanes[lane], min(until, _SPAN)
        if at > held.proved or until > held.until:
            held.proved = max(held.proved, at)
            held.until = max(held.until, until)
            self._news = True

    def idle_until(self) -> int | None:
        """Return the time up to which nothing can come any more, once nothing is held; None while that is open."""
        if self._blocks:
            return None
        until = min(lane.until for lane in self._lanes)
        return until if until > LOWEST else None

    def pop(self, limit: int) -> Merged | None:
        """Take up to ``limit`` records whose turn is certain; None if there are none."""
        if not self._news:
            return None
        counts = self._certain(limit)
        ready = [i for i, count in enumerate(counts) if count]
        if not ready:
            self._news = False
            return None
        if len(ready) == 1:
            block = self._blocks[ready[0]].part(slice(counts[ready[0]]))
        else:
            block, order = _joined([self._blocks[i].part(slice(counts[i])) for i in ready])
            block, order = block.part(slice(limit)), order[:limit]
            whose = np.repeat(ready, [counts[i] for i in ready])
            counts = np.bincount(whose[order], minlength=len(counts)).tolist()
        return self._taken(block, counts)

    def _add(self, block: _Block) -> None:
        """Hold a block more."""
        # The newest is left alone, since mostly it soon goes as it is; of the others each is larger than the next, so
        # that they are few, and what is held for long is seldom sorted again.
        while len(self._blocks) > 1 and len(self._blocks[-2].rank) <= len(self._blocks[-1].rank):
            self._blocks[-2:] = [_joined(self._blocks[-2:])[0]]
        self._blocks.append(block)

    def _certain(self, limit: int) -> list[int]:
        """Return for every block how many of its first ``limit`` records come before the first one that must wait."""
        # A record is certain if each lane either had nothing more when it arrived, or brings nothing of a lower rank:
        # so it must not be above the lowest rank of what may come from those that were last proven before that.
        lowest: dict[float, int] = {}
        for lane in self._lanes:
            rank = max(lane.top, lane.until) * len(self._lanes) + lane.number
            if rank < lowest.get(lane.proved, _ABOVE_ALL):
                lowest[lane.proved] = rank
        moments = sorted(lowest)
        bounds = np.array([*accumulate(map(lowest.__getitem__, moments), min, initial=_ABOVE_ALL)])
        proved = np.array(moments)
        counts, waiting = [], []
        for i, block in enumerate(self._blocks):
            ranks = block.rank[:limit]
            waits = ranks > bounds[proved.searchsorted(block.arrived[:limit])]
            count = int(waits.argmax())
            if waits[count]:
                waiting.append((int(ranks[count]), i))
            else:
                count = len(ranks)
            counts.append(count)
        if waiting and len(counts) > 1:
            rank, first = min(waiting)
            for i, block in enumerate(self._blocks):
                below = block.rank.searchsorted(rank, "right" if i <= first else "left")
                counts[i] = min(counts[i], int(below))
        return counts

    def _taken(self, block: _Block, counts: list[int]) -> Merged:
        """Hand on a block, which holds the first ``counts`` records of each one that is held."""
        self._blocks = [
            left.part(slice(count, None)) if count else left
            for left, count in zip(self._blocks, counts, strict=True)
            if count < len(left.rank)
        ]
        lane = block.rank % len(self._lanes)
        of_each = np.bincount(lane, minlength=len(self._lanes)).tolist()
        for held, count in zip(self._lanes, of_each, strict=True):
            if count:
                held.drop(count)
        return Merged(block.values.tolist(), block.record_ts, lane, block.offset, of_each)
