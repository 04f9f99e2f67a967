"""Merge ordered logs (topics of a partition, files of a replay) into one, by (record timestamp, topic, offset).

The rule is that of a Kafka Streams task: the head with the lowest timestamp goes first, and nobody moves on while a
topic that could still bring something earlier has not spoken. What a topic may still bring is known from two kinds of
claim, and neither is ever taken back:

- its log is ordered: nothing to come is earlier than what came (its *floor*);
- a *proof* of its end: at a moment on our own clock it held nothing that we had not been given, so whatever it still
  brings was appended after that moment, and after everything that had reached us by then.

Since a claim names its moment, a broker that goes silent needs no special case: claims stop, and so does the merge.

Records within a topic keep their order even where timestamps fall: the merge compares the highest timestamp so far
of each topic (its *key*), which gives the order that picking the lowest head gives. Everything is done on whole
arrays; no record is touched alone.
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from schemas.batches import Int64s

LOWEST = -(1 << 62)
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Merged:
    """Records in merged order; ``lane`` tells whose each one is. All have the shape (n,)."""

    values: list[bytes | None]
    record_ts: Int64s
    lane: npt.NDArray[np.intp]
    offset: Int64s

    def __len__(self) -> int:
        return len(self.values)


@dataclass(slots=True)
class _Run:
    """Consecutive records of one topic: a column each."""

    values: list[bytes | None]
    record_ts: Int64s
    offset: Int64s
    key: Int64s
    arrived: Float64s


def _no_run() -> _Run:
    none = np.empty(0, np.int64)
    return _Run([], none, none, none, np.empty(0, np.float64))


@dataclass(slots=True)
class _Lane:
    """What is held of one topic: ``run`` from ``head`` on, then ``more``; and what is known of what is to come."""

    run: _Run = field(default_factory=_no_run)
    head: int = 0
    more: list[_Run] = field(default_factory=list)
    count: int = 0
    nbytes: int = 0
    top: int = LOWEST
    until: int = LOWEST
    proved: float = float("-inf")

    @property
    def floor(self) -> int:
        """Nothing that is still to come has a key below this."""
        return max(self.top, self.until)

    def pack(self) -> None:
        """Bring what is held into one run that starts at its head."""
        if not self.more:
            return
        runs = self.more
        if self.head < len(self.run.values):
            h, r = self.head, self.run
            runs = [_Run(r.values[h:], r.record_ts[h:], r.offset[h:], r.key[h:], r.arrived[h:]), *runs]
        if len(runs) == 1:
            self.run = runs[0]
        else:
            self.run = _Run(
                [value for run in runs for value in run.values],
                np.concatenate([run.record_ts for run in runs]),
                np.concatenate([run.offset for run in runs]),
                np.concatenate([run.key for run in runs]),
                np.concatenate([run.arrived for run in runs]),
            )
        self.head, self.more = 0, []

    def drop(self, n: int) -> None:
        """Forget the first ``n`` records."""
        # Bytes are taken as spread evenly: exact when the lane is empty, and a bound on memory needs no more.
        self.nbytes -= self.nbytes * n // self.count if self.count else 0
        self.head += n
        self.count -= n
        if not self.count:
            self.run, self.head = _no_run(), 0


class Merger:
    """Hold back the records of several topics (lanes 0 to n - 1, in their order) until their turn is certain."""

    def __init__(self, lanes: int) -> None:
        self._lanes = [_Lane() for _ in range(lanes)]
        self._behind: set[int] = set()
        self._news = False

    def __len__(self) -> int:
        return sum(lane.count for lane in self._lanes)

    def held(self, lane: int) -> tuple[int, int]:
        """Return how many records a lane holds and about how many bytes."""
        return self._lanes[lane].count, self._lanes[lane].nbytes

    @property
    def behind(self) -> frozenset[int]:
        """The lanes that others were waiting for at the last `pop`."""
        return frozenset(self._behind)

    def push(
        self, lane: int, values: list[bytes | None], record_ts: Int64s, offset: Int64s, arrived: float, nbytes: int
    ) -> None:
        """Add the next records of a lane, which had reached us at the moment ``arrived``."""
        if not values:
            return
        held = self._lanes[lane]
        key = np.maximum.accumulate(np.maximum(record_ts, held.top))
        held.more.append(_Run(values, record_ts, offset, key, np.full(len(values), arrived)))
        held.top = int(key[-1])
        held.count += len(values)
        held.nbytes += nbytes
        self._news = True

    def prove(self, lane: int, at: float, until: int) -> None:
        """Take it as proven that all of a lane that existed at the moment ``at`` has been pushed.

        ``at`` is on the clock of `push`; ``until`` (milliseconds) is below the timestamp of all that comes later.
        """
        held = self._lanes[lane]
        if at > held.proved or until > held.until:
            held.proved = max(held.proved, at)
            held.until = max(held.until, until)
            self._news = True

    def idle_until(self) -> int | None:
        """Return the time up to which nothing can come any more, once nothing is held; None while that is open."""
        if len(self):
            return None
        until = min(lane.until for lane in self._lanes)
        return until if until > LOWEST else None

    def pop(self, limit: int) -> Merged | None:
        """Take up to ``limit`` records whose turn is certain; None if there are none."""
        if not self._news:
            return None
        self._behind.clear()
        filled = [i for i, lane in enumerate(self._lanes) if lane.count]
        for i in filled:
            self._lanes[i].pack()
        counts = self._certain(filled)
        ready = [i for i in filled if counts[i]]
        if not ready:
            self._news = False
            return None
        if len(ready) == 1:
            return self._single(ready[0], min(counts[ready[0]], limit))
        return self._several(ready, [min(counts[i], limit) for i in ready], limit)

    def _certain(self, filled: list[int]) -> dict[int, int]:
        """Return for every filled lane how many of its records come before the first one that must wait."""
        floors = np.array([lane.floor for lane in self._lanes], np.int64)
        proved = np.array([lane.proved for lane in self._lanes], np.float64)
        own = {i: self._unopposed(i, floors, proved) for i in filled}
        waiting = [
            (int(lane.run.key[lane.head + own[i]]), i) for i in filled if own[i] < (lane := self._lanes[i]).count
        ]
        if not waiting:
            return own
        key, first = min(waiting)
        counts = {}
        for i in filled:
            lane = self._lanes[i]
            below = lane.run.key[lane.head :].searchsorted(key, "right" if i <= first else "left")
            counts[i] = min(own[i], int(below))
        return counts

    def _unopposed(self, i: int, floors: Int64s, proved: Float64s) -> int:
        """Return how many records of lane ``i`` no other lane can still bring anything before."""
        lane = self._lanes[i]
        keys, arrived = lane.run.key[lane.head :], lane.run.arrived[lane.head :]
        before, behind = keys.searchsorted(floors[:i], "left"), keys.searchsorted(floors[i + 1 :], "right")
        ordered = np.concatenate([before, [lane.count], behind])
        certain = np.maximum(ordered, arrived.searchsorted(proved, "right"))
        certain[i] = lane.count
        self._behind.update(np.flatnonzero(certain < lane.count).tolist())
        return int(certain.min())

    def _single(self, i: int, n: int) -> Merged:
        lane = self._lanes[i]
        part, run = slice(lane.head, lane.head + n), lane.run
        merged = Merged(run.values[part], run.record_ts[part], np.full(n, i, np.intp), run.offset[part])
        lane.drop(n)
        return merged

    def _several(self, ready: list[int], counts: list[int], limit: int) -> Merged:
        parts = [slice(self._lanes[i].head, self._lanes[i].head + n) for i, n in zip(ready, counts, strict=True)]
        runs = [self._lanes[i].run for i in ready]
        key = np.concatenate([run.key[part] for run, part in zip(runs, parts, strict=True)])
        # Lanes stand in their order and a stable sort keeps it: equal keys come out by topic, then by offset.
        order = np.argsort(key, kind="stable")[:limit]
        lane = np.repeat(np.array(ready, np.intp), counts)[order]
        taken = np.bincount(lane, minlength=len(self._lanes))
        values = np.array([v for run, part in zip(runs, parts, strict=True) for v in run.values[part]], dtype=object)
        merged = Merged(
            values[order].tolist(),
            np.concatenate([run.record_ts[part] for run, part in zip(runs, parts, strict=True)])[order],
            lane,
            np.concatenate([run.offset[part] for run, part in zip(runs, parts, strict=True)])[order],
        )
        for i in ready:
            self._lanes[i].drop(int(taken[i]))
        return merged
