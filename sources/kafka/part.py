"""One part of the source: partition i of every topic, read as one stream."""

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic, time
from typing import NamedTuple

import numpy as np
from bytewax.inputs import StatefulSourcePartition
from prometheus_client import Counter, Gauge

from schemas.batches import RawBatch
from sources.kafka.ends import End, Ends
from sources.kafka.reader import Reader
from sources.kafka.settings import SourceConfig
from sources.kafka.status import Status
from sources.merge import Merged, Merger

RECORDS = Counter("attune_kafka_records", "Records read and handed on", ["topic"])
LAG = Gauge("attune_kafka_lag", "Records between the last one handed on and the end", ["topic", "partition"])
STALLED = Gauge("attune_kafka_stalled", "1 while a partition answers nothing", ["topic", "partition"])

URGENT_S = 0.01
"""Ends are asked for this often at most while records wait for them."""
PATIENCE_S = 0.002
"""How long the answer about ends is waited for at once; brokers that are well take half a millisecond."""
ANSWER_S = 0.004
"""An answer that takes longer is looked for this often."""
CENSUS_S = 1.0
"""Lag and silence are looked at this often."""


class Position(NamedTuple):
    """What a snapshot holds: the next offset to read of every topic, and the highest record timestamp so far."""

    stream_time: int
    offsets: tuple[tuple[str, int], ...]


class KafkaPart(StatefulSourcePartition[RawBatch, Position]):
    """Read, merge, hand on. ``lanes`` are the topics that have this partition, sorted."""

    def __init__(
        self,
        config: SourceConfig,
        partition: int,
        reader: Reader,
        ends: Ends,
        status: Status,
        clock: Callable[[], float],
        start: Position,
    ) -> None:
        self._config = config
        self._partition = partition
        self._reader = reader
        self._ends = ends
        self._status = status
        self._clock = clock
        offsets = dict(sorted(start.offsets))
        self._lanes = list(offsets)
        self._next = np.array(list(offsets.values()), np.int64)
        self._index = np.array([config.topics.index(topic) for topic in self._lanes], np.uint16)
        self._records = [RECORDS.labels(topic) for topic in self._lanes]
        self._places = [(topic, partition) for topic in self._lanes]
        self._merger = Merger(len(self._lanes))
        self._proved: list[End | None] = [None] * len(self._lanes)
        self._margin_ms = int(config.clock_margin_s * 1000)
        self._stream_time = start.stream_time
        self._told: int | None = None
        self._told_at = float("-inf")
        self._awake: datetime | None = None
        # An epoch's snapshot is durable when the next one is taken: measured with bytewax 0.21.1 by reading the
        # recovery store from inside snapshot(), with one worker and with two, with sinks that sleep: at call n + 1 the
        # store always held call n, and its frontier stood at n + 1. What call n held is committed at call n + 2, one
        # epoch later than that, so that the group never runs ahead of the store.
        self._snapshots: deque[Position] = deque(maxlen=3)
        now = monotonic()
        self._heard = dict.fromkeys(self._lanes, now)
        self._called = self._counted = now
        self._many = config.batch_size // 4
        bound = config.buffer_mib * 1024 * 1024 // len(self._lanes)
        self._high, self._low = (8 * config.batch_size, bound), (2 * config.batch_size, bound // 4)
        ends.watch(self._places)
        reader.start(offsets)

    def next_batch(self) -> list[RawBatch]:
        """Return at most one batch: records whose turn is certain, or none and the time that has certainly passed."""
        reads, heard, count = self._reader.read(self._config.batch_size)
        now = monotonic()
        for read in reads:
            self._merger.push(read.shares, read.values, read.record_ts, read.offset, now)
        self._listen(heard, now)
        self._prove()
        merged = self._merger.pop(self._config.batch_size)
        if not len(self._merger):
            self._ends.ask(self._config.clock_every_s)
        elif merged is not None or count >= self._many:
            self._ends.ask(URGENT_S)
        else:
            self._ends.ask(URGENT_S, PATIENCE_S)
            self._prove()
            merged = self._merger.pop(self._config.batch_size)
        self._hold()
        if now - self._counted >= CENSUS_S:
            self._counted = now
            self._census(now)
        self._pace(count, merged, waiting=len(self._merger) > 0)
        if merged is not None:
            return [self._batch(merged)]
        return self._idle(now)

    def next_awake(self) -> datetime | None:
        """Return when to ask again: at once after much, soon when an answer is due, else after ``poll_s``."""
        return self._awake

    def snapshot(self) -> Position:
        """Return where to go on, and commit to the group what is durable by now."""
        position = Position(self._stream_time, tuple(zip(self._lanes, self._next.tolist(), strict=True)))
        self._snapshots.append(position)
        if len(self._snapshots) == 3:
            self._reader.commit(dict(self._snapshots[0].offsets))
        return position

    def close(self) -> None:
        """Let go of the consumer."""
        self._ends.unwatch(self._places)
        self._status.forget(str(self._partition))
        self._reader.close()

    def _batch(self, merged: Merged) -> RawBatch:
        batch = RawBatch(
            partition=self._partition,
            topics=self._config.topics,
            values=merged.values,
            record_ts=merged.record_ts,
            topic=self._index[merged.lane],
            offset=merged.offset,
            stream_time=self._stream_time,
        )
        self._next[merged.lane] = merged.offset + 1  # Of several that a lane has, the last one stays.
        for records, count in zip(self._records, merged.counts, strict=True):
            if count:
                records.inc(count)
        self._stream_time = max(self._stream_time, int(merged.record_ts.max()))
        return batch

    def _idle(self, now: float) -> list[RawBatch]:
        """Return a batch that only tells the time, if all topics are proven to be at their end."""
        until = self._merger.idle_until()
        if (
            until is None
            or now - self._told_at < self._config.clock_every_s
            or until <= max(self._stream_time, self._told or 0)
        ):
            return []
        self._told, self._told_at = until, now
        nothing = np.empty(0, np.int64)
        return [
            RawBatch(
                partition=self._partition,
                topics=self._config.topics,
                values=[],
                record_ts=nothing,
                topic=np.empty(0, np.uint16),
                offset=nothing,
                stream_time=self._stream_time,
                clock=until,
            )
        ]

    def _prove(self) -> None:
        """Turn answers about ends into proofs, where all that they cover has been read."""
        for lane, topic in enumerate(self._lanes):
            end = self._ends.known(self._places[lane])
            if end is None or end is self._proved[lane]:
                continue
            if self._reader.reached(topic) >= end.offset:
                # The margin covers what may lie between the broker's stamp and the record being visible: replication
                # to the followers, a fetch in flight, and the difference between the broker's clock and ours.
                self._merger.prove(lane, end.asked, end.wall_ms - self._margin_ms)
                self._proved[lane] = end
            elif not self._reader.paused(topic):
                continue
            self._heard[topic] = max(self._heard[topic], end.asked)

    def _listen(self, heard: set[str], now: float) -> None:
        # While this part was not called (a sink that waits), nobody could be heard: that is no one's silence.
        away = now - self._called - self._config.poll_s
        self._called = now
        for topic in self._lanes:
            if topic in heard:
                self._heard[topic] = now
            elif away > CENSUS_S:
                self._heard[topic] += away

    def _hold(self) -> None:
        """Stop reading topics that are far ahead of the others; go on when most of it has been handed on."""
        for lane, topic in enumerate(self._lanes):
            count, nbytes = self._merger.held(lane)
            if count >= self._high[0] or nbytes >= self._high[1]:
                self._reader.hold(topic, True)
            elif count <= self._low[0] and nbytes <= self._low[1]:
                self._reader.hold(topic, False)

    def _census(self, now: float) -> None:
        """Report lag, silence and progress."""
        stalled = set()
        before_it = 0
        for topic, place, position in zip(self._lanes, self._places, self._next.tolist(), strict=True):
            end = self._ends.known(place)
            highs = [self._reader.high(topic) or 0, end.offset if end else 0]
            lag = max(0, max(highs) - position)
            before_it += lag
            LAG.labels(topic, str(self._partition)).set(lag)
            silent = now - self._heard[topic] >= self._config.stall_after_s
            STALLED.labels(topic, str(self._partition)).set(silent)
            if silent:
                stalled.add(f"{topic}[{self._partition}]")
        self._status.report(str(self._partition), frozenset(stalled), lag=before_it, position=int(self._next.sum()))

    def _pace(self, count: int, merged: Merged | None, *, waiting: bool) -> None:
        if count >= self._many or (merged is not None and len(merged) >= self._many):
            self._awake = None
        else:
            # The parts of a process are called at the same moments, so that one question about ends serves all of them.
            due = ANSWER_S if waiting and self._ends.asking() else self._config.poll_s - time() % self._config.poll_s
            self._awake = datetime.now(UTC) + timedelta(seconds=due)
