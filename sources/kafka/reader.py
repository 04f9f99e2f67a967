"""Read one partition of several topics with one librdkafka consumer, and hand its records on as columns."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

import numpy as np
import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from prometheus_client import Counter

from schemas.batches import Int64s
from schemas.errors import TerminalError
from schemas.inbound import MAX_TS
from sources.kafka.faults import Faults
from sources.kafka.settings import SourceConfig
from sources.merge import Share, Values

LOST = Counter("attune_kafka_lost_records", "Records that were gone before they were read", ["topic", "partition"])
COMMIT_FAILURES = Counter("attune_kafka_commit_failures", "Offsets that could not be committed to the group")


class Read(NamedTuple):
    """Consecutive records of some topics, topic by topic, each topic's in the order of their offsets.

    The lanes of ``shares`` are the topics in the order in which they were given to `Reader.start`.
    """

    shares: list[Share]
    values: Values
    record_ts: Int64s
    offset: Int64s


@dataclass(slots=True)
class _Topic:
    """Where reading a topic stands. ``reached``: all below this offset was handed on or never was a record."""

    reached: int
    paused: bool = False


class Reader:
    """The consumer of one part. Nothing blocks but the constructor and the search for a lost offset."""

    def __init__(self, config: SourceConfig, partition: int) -> None:
        self._config = config
        self._partition = partition
        self._faults = Faults()
        self._heard: list[KafkaError] = []
        self._topics: dict[str, _Topic] = {}
        self._lanes: list[str] = []
        self._committing: dict[str, int] | None = None
        self._committed: dict[str, int] = {}
        self._log = structlog.get_logger(__name__)
        # Errors are only noted in the callback, and dealt with on the way out of `read`: an exception that leaves a
        # callback would take the messages of that call with it.
        self.consumer = Consumer({**config.consumer(), "error_cb": self._heard.append, "on_commit": self._on_commit})

    def start(self, offsets: dict[str, int]) -> None:
        """Begin to read each topic at its offset."""
        self._topics = {topic: _Topic(offset) for topic, offset in offsets.items()}
        self._lanes = list(offsets)
        self.consumer.incremental_assign([self._place(topic, offset) for topic, offset in offsets.items()])

    def reached(self, topic: str) -> int:
        """Return the offset below which all of a topic has been handed on."""
        return self._topics[topic].reached

    def paused(self, topic: str) -> bool:
        """Return whether a topic is not being read because enough of it is held."""
        return self._topics[topic].paused

    def hold(self, topic: str, paused: bool) -> None:
        """Stop reading a topic, or go on."""
        state = self._topics[topic]
        if state.paused != paused:
            (self.consumer.pause if paused else self.consumer.resume)([self._place(topic)])
            state.paused = paused

    def read(self, limit: int) -> tuple[list[Read], set[str], int]:
        """Return what has arrived, the topics that were heard of, and the number of messages.

        Raises:
            TerminalError: an error that waiting can't mend, or records that are gone (``on_data_loss = "stop"``).
        """
        messages = self.consumer.consume(limit, timeout=0)
        reads: list[Read] = []
        heard: set[str] = set()
        for runs, events in self._parts(messages):
            read = self._columns(runs)
            if read.shares:
                reads.append(read)
                heard.update(self._lanes[share.lane] for share in read.shares)
            heard.update(event.topic() or "" for event in events if self._event(event))
        if self._heard:
            noted, self._heard[:] = list(self._heard), []
            for error in noted:
                self._faults.take(error, f"reading partition {self._partition}")
        return reads, heard, len(messages)

    def commit(self, offsets: dict[str, int]) -> None:
        """Commit offsets to the consumer group in the background, unless a commit is under way or they stand there."""
        if self._committing is not None or offsets == self._committed:
            return
        places = [self._place(topic, offset) for topic, offset in offsets.items()]
        self._committing = offsets
        try:
            self.consumer.commit(offsets=places, asynchronous=True)
        except KafkaException:
            self._committing = None
            COMMIT_FAILURES.inc()

    def high(self, topic: str) -> int | None:
        """Return the end of a topic as the last answer to a fetch told it, without asking."""
        try:
            marks = self.consumer.get_watermark_offsets(self._place(topic), cached=True)
        except KafkaException:
            return None
        return marks[1] if marks[1] >= 0 else None

    def close(self) -> None:
        """Let go of the connections."""
        self.consumer.close()

    def _place(self, topic: str, offset: int | None = None) -> TopicPartition:
        return (
            TopicPartition(topic, self._partition) if offset is None else TopicPartition(topic, self._partition, offset)
        )

    def _parts(self, messages: list[Message]) -> Iterator[tuple[dict[str, list[Message]], list[Message]]]:
        """Yield the records of each topic and the events behind them."""
        runs, events = self._sorted(messages)
        if all(map(_is_end, events)):
            # There is an end for each answer that had a topic's last record; behind all records it counts as well.
            yield runs, events
            return
        # In their order: an end or a loss that counted before the records in front of it would drop them.
        for _, part in groupby(messages, _is_event):
            yield self._sorted(part)

    def _sorted(self, messages: Iterable[Message]) -> tuple[dict[str, list[Message]], list[Message]]:
        # In one go: a read may hold few messages of many topics, in short runs by turns.
        runs: dict[str, list[Message]] = {topic: [] for topic in self._topics}
        events: list[Message] = []
        for message in messages:
            (runs[message.topic() or ""] if message.error() is None else events).append(message)
        return runs, events

    def _columns(self, runs: dict[str, list[Message]]) -> Read:
        shares: list[Share] = []
        begins: list[tuple[int, _Topic]] = []
        records: list[Message] = []
        for lane, (topic, run) in enumerate(runs.items()):
            if run:
                shares.append(Share(lane, len(run), sum(map(len, run))))
                begins.append((len(records), self._topics[topic]))
                records += run
        n = len(records)
        offset = np.fromiter(map(Message.offset, records), np.int64, n)
        before = np.empty_like(offset)
        before[1:] = offset[:-1]
        for begin, state in begins:
            before[begin] = state.reached - 1
        if not (offset > before).all():
            # A resumed partition may be read again from where librdkafka thinks that we are.
            return self._columns({name: list(_unread(run, self._topics[name].reached)) for name, run in runs.items()})
        for share, (begin, state) in zip(shares, begins, strict=True):
            state.reached = int(offset[begin + share.records - 1]) + 1
        # A record without a timestamp has -1; a sender's own may be anything.
        record_ts = np.fromiter([ts for _, ts in map(Message.timestamp, records)], np.int64, n)
        record_ts = np.minimum(np.maximum(record_ts, 0), MAX_TS)
        return Read(shares, np.fromiter(map(Message.value, records), object, n), record_ts, offset)

    def _event(self, event: Message) -> bool:
        """Deal with what came in a record's place; return whether it is an answer of the partition."""
        topic, error = event.topic(), event.error()
        if error is None or topic not in self._topics:
            if error is not None:
                self._faults.take(error, f"reading partition {self._partition}")
            return False
        if error.code() == KafkaError._PARTITION_EOF:
            self._topics[topic].reached = max(self._topics[topic].reached, event.offset() or 0)
            return True
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            self._lost(topic)
        else:
            self._faults.take(error, f"reading {topic}[{self._partition}]")
        return False

    def _lost(self, topic: str) -> None:
        """Deal with an offset that the broker does not have: stop, or go on from the oldest record."""
        state = self._topics[topic]
        wanted = state.reached
        try:
            low, high = self.consumer.get_watermark_offsets(self._place(topic), timeout=self._config.timeout_s)
        except KafkaException as failure:
            self._faults.take(failure.args[0], f"looking up the range of {topic}[{self._partition}]")
            low, high = wanted, wanted
        if not low <= wanted <= high:
            where = f"{topic}[{self._partition}]"
            if self._config.on_data_loss == "stop":
                raise TerminalError(
                    f"Kafka: {where} is to be read from offset {wanted}, but the broker has {low} to {high}: records "
                    'are lost. Set on_data_loss = "oldest" to go on from the oldest and have the lost ones counted'
                )
            lost = max(0, low - wanted)
            LOST.labels(topic, str(self._partition)).inc(lost)
            self._log.error("kafka_records_lost", partition=where, wanted=wanted, low=low, high=high, lost=lost)
            wanted = low
        # Assigned anew, since a partition without a valid offset can't be moved by seek.
        state.reached, state.paused = wanted, False
        self.consumer.incremental_unassign([self._place(topic)])
        self.consumer.incremental_assign([self._place(topic, wanted)])

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        if error is not None or any(place.error for place in partitions):
            COMMIT_FAILURES.inc()
        else:
            self._committed = self._committing or {}
        self._committing = None


def _unread(run: list[Message], reached: int) -> Iterator[Message]:
    """Yield the records of a topic that were not read before, neither below ``reached`` nor further up."""
    for message in run:
        if (offset := message.offset() or 0) >= reached:
            reached = offset + 1
            yield message


def _is_event(message: Message) -> bool:
    return message.error() is not None


def _is_end(message: Message) -> bool:
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF
