"""What the tests of the Kafka source share: write records, drive a part by hand, gather what it hands on."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.batches import RawBatch
from sources.kafka import KafkaSource, SourceConfig, Status
from sources.kafka.part import KafkaPart, Position
from tests.fix_kafka import wait_until


def config(address: str, *topics: str, **changes: Any) -> SourceConfig:
    """Return quick settings for a test."""
    settings: dict[str, Any] = {"group_id": f"g-{topics[0]}", "clock_every_s": 0.05, "poll_s": 0.005}
    return SourceConfig(bootstrap_servers=address, topics=topics, **(settings | changes))


def write(
    address: str,
    topic: str,
    values: Sequence[bytes],
    partition: int = 0,
    stamps: Sequence[int] = (),
    once: bool = False,
) -> None:
    """Write records, with the record timestamps ``stamps`` where given; return when all are confirmed.

    ``once`` keeps a retry from writing a record twice, and takes half a second more to start.
    """
    failed: list[Any] = []
    producer = Producer({"bootstrap.servers": address, "linger.ms": 1, "log_level": 2, "enable.idempotence": once})
    for i, value in enumerate(values):
        stamp = stamps[i] if stamps else 0
        producer.produce(
            topic, value, partition=partition, timestamp=stamp, on_delivery=lambda e, _: failed.append(e) if e else None
        )
    assert producer.flush(60) == 0, "no broker took them"
    assert not failed


def committed(address: str, group: str, topic: str, partition: int = 0) -> int:
    """Return what a group has committed; negative where nothing."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": group})
    offset = consumer.committed([TopicPartition(topic, partition)], timeout=10)[0].offset
    consumer.close()
    return int(offset)


@dataclass
class Got:
    """All that a part handed on: payloads, their timestamps and places, and the times it told."""

    values: list[bytes | None] = field(default_factory=list)
    places: list[tuple[int, str, int]] = field(default_factory=list)
    clocks: list[int] = field(default_factory=list)
    batches: list[RawBatch] = field(default_factory=list)

    def take(self, batch: RawBatch) -> None:
        """Add a batch."""
        self.batches.append(batch)
        self.values.extend(batch.values)
        topics = [batch.topics[i] for i in batch.topic]
        self.places.extend(zip(batch.record_ts.tolist(), topics, batch.offset.tolist(), strict=True))
        if batch.clock is not None:
            self.clocks.append(batch.clock)


class Driver:
    """A part and what it has handed on so far."""

    def __init__(
        self,
        settings: SourceConfig,
        partition: int = 0,
        resume: Position | None = None,
        clock: Callable[[], float] = time.time,
        status: Status | None = None,
    ) -> None:
        source = KafkaSource(settings, status, clock)
        self.parts = source.list_parts()
        self.part: KafkaPart = source.build_part("in", self.parts[partition], resume)
        self.got = Got()

    def step(self) -> None:
        """Ask once."""
        for batch in self.part.next_batch():
            self.got.take(batch)

    def until(self, holds: Callable[[Got], bool], what: str) -> Got:
        """Ask until a condition holds."""

        def step() -> bool:
            self.step()
            return holds(self.got)

        wait_until(step, what)
        return self.got

    def records(self, count: int) -> Got:
        """Ask until at least so many records have come."""
        return self.until(lambda got: len(got.values) >= count, f"{count} records")

    def during(self, seconds: float) -> Got:
        """Ask for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()
            time.sleep(0.005)
        return self.got
