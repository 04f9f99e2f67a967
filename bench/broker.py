"""A real Kafka for the benchmarks: the tests' own broker on this machine, or one that runs already; and its topics."""

import argparse
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from bench.measure import console
from schemas.registry import INBOUND, INBOUND_TOPICS, OUTBOUND_TOPICS
from sources.kafka import Connection, create_topics
from tests import fix_kafka

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made there
_ROOM_BYTES = 6 << 30
REPLICAS_OF_THE_BROKER = -1
WRITE_S = 120.0


def add_option(options: argparse.ArgumentParser) -> None:
    """Let a broker be named that runs already."""
    options.add_argument(
        "--kafka",
        metavar="HOST:PORT",
        help="a broker that runs already; the topics of a run have names of their own and are deleted after it "
        "(default: one is started on this machine, which needs Java and Maven)",
    )


@contextmanager
def running(address: str | None) -> Iterator[str | None]:
    """Give the address of a broker: the one named, else one that is started and ends with the context.

    None, and told, where there are no means to start one.
    """
    if address:
        yield address
        return
    try:
        fix_kafka.require()
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        console.print(f"Not measured: {missing}; or name a broker with --kafka.", highlight=False)
        yield None
        return
    with tempfile.TemporaryDirectory(dir=_fastest()) as folder:
        broker = fix_kafka.Broker(Path(folder), lasting=True)
        broker.start()
        try:
            yield broker.address
        finally:
            broker.kill()


def _fastest() -> Path | None:
    """Return where the broker's log lies: in memory if there is much room, else (None) where temporary files do.

    Disks of small machines stand still at times: a broker was seen that did not answer for three seconds.
    """
    return _MEMORY if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES else None


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one run: those of the contract under names of their own, with ``partitions`` each."""

    address: str
    partitions: int
    prefix: str

    def name(self, topic: str) -> str:
        """Return what a topic of the contract is called in this run."""
        return f"{self.prefix}{topic}"

    @property
    def inbound(self) -> tuple[str, ...]:
        """The inbound topics."""
        return tuple(map(self.name, INBOUND_TOPICS))

    @property
    def outbound(self) -> tuple[str, ...]:
        """The outbound topics."""
        return tuple(map(self.name, OUTBOUND_TOPICS))

    def count(self, topics: tuple[str, ...]) -> int:
        """Return how many records were ever written to some of them."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": self.prefix, "log_level": 2})
        places = [TopicPartition(topic, part) for topic in topics for part in range(self.partitions)]
        total = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        consumer.close()
        return total

    def read(self, topic: str) -> Iterator[Message]:
        """Yield all records of a topic of this run, partition by partition."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": self.prefix, "log_level": 2})
        for part in range(self.partitions):
            place = TopicPartition(topic, part, OFFSET_BEGINNING)
            end = consumer.get_watermark_offsets(place, timeout=10)[1]
            consumer.assign([place])
            reached = 0
            while reached < end:
                messages = consumer.consume(10_000, timeout=10)
                assert messages, f"{topic}: read up to {reached} of {end}, then nothing for 10 s"
                for message in messages:
                    assert message.error() is None, message.error()
                    reached = (message.offset() or 0) + 1
                    yield message
        consumer.close()


@contextmanager
def topics(address: str, partitions: int, *, recorded: bool = False) -> Iterator[Topics]:
    """Make the topics of a run and delete them after it.

    The broker stamps inbound records, or with ``recorded`` their writer, which is for a log that is loaded.
    """
    made = Topics(address, partitions, f"bench-{uuid.uuid4().hex[:12]}-")
    create_topics(
        Connection(bootstrap_servers=address),
        partitions,
        REPLICAS_OF_THE_BROKER,
        create_time=recorded,
        inbound=made.inbound,
        outbound=made.outbound,
    )
    try:
        yield made
    finally:
        admin = AdminClient({"bootstrap.servers": address, "log_level": 2})
        for answer in admin.delete_topics([*made.inbound, *made.outbound], request_timeout=20).values():
            answer.result()


class _Where(msgspec.Struct):
    """What tells where an event goes."""

    type: str
    tenant_id: str
    session_id: str


def write(topics: Topics, lines: list[bytes], times: list[int]) -> None:
    """Write events to their types' topics, each stamped with its own time."""
    faults: list[KafkaError] = []

    def delivered(fault: KafkaError | None, _: Message) -> None:
        if fault is not None:
            faults.append(fault)

    producer = Producer(
        {
            "bootstrap.servers": topics.address,
            "partitioner": "murmur2_random",
            "log_level": 2,
            "enable.idempotence": True,
            "linger.ms": 50,
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
            "on_delivery": delivered,
        }
    )
    decoder = msgspec.json.Decoder(_Where)
    names = {kind: topics.name(entry.topic) for kind, entry in INBOUND.items()}
    for number, (line, ts) in enumerate(zip(lines, times, strict=True)):
        where = decoder.decode(line)
        producer.produce(names[where.type], line, key=f"{where.tenant_id}/{where.session_id}", timestamp=ts)
        if number % 10_000 == 0:
            producer.poll(0)
            while len(producer) > 500_000:
                producer.poll(0.1)
    assert producer.flush(WRITE_S) == 0, "the broker did not take all events in time"
    assert not faults, faults[0]
