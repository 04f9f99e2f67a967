"""A collector on a free port before a real Kafka, and what it wrote there."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from sinks.kafka import KafkaSinkConfig
from sources.collector import Collector, CollectorConfig, Key
from sources.collector.config import TOPICS
from tests.events import FIELDS
from tests.fix_kafka import make_topics, wait_until

KEY = "pk-of-the-tests"
SHOP = "https://shop.example.org"
STREAM = "/api/telemetry/stream"
EMOTION = "/api/emotional/event"
PARTITIONS = 3
DEADLINE_S = 20.0


def device(kind: str = "telemetry.click", at: int | None = None, **fields: Any) -> dict[str, Any]:
    """Return an event as a device sends it; ``fields`` add to or replace any of its fields."""
    at = int(time.time() * 1000) if at is None else at
    return {"type": kind, "event_id": uuid.uuid4().hex, "at": at, **FIELDS.get(kind, {}), **fields}


def batch(*events: Any, **fields: Any) -> dict[str, Any]:
    """Return a batch of these events, sent now."""
    return {"session_id": "s", "user_id": "u", "sent_at": int(time.time() * 1000), "events": list(events)} | fields


class Collecting:
    """A collector that runs, a client of it, and its topics."""

    def __init__(self, collector: Collector, topics: list[str], kafka: str) -> None:
        self.collector = collector
        self.topics = topics
        self.kafka = kafka
        self.http = httpx.Client(
            base_url=collector.url, headers={"X-Attune-Key": KEY}, timeout=DEADLINE_S, trust_env=False
        )

    def send(self, *events: Any, **fields: Any) -> httpx.Response:
        """Send a batch."""
        return self.http.post(STREAM, json=batch(*events, **fields))

    def messages(self, enough: int = 0) -> list[Message]:
        """Return all that lies in the topics, once it is ``enough``."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": "test", "enable.auto.commit": False})
        parts = [TopicPartition(topic, number) for topic in self.topics for number in range(PARTITIONS)]

        def there() -> int:
            return sum(consumer.get_watermark_offsets(part, timeout=DEADLINE_S)[1] for part in parts)

        found: list[Message] = []
        try:
            wait_until(lambda: there() >= enough, f"{enough} records in {self.topics}", DEADLINE_S)
            end = there()
            consumer.assign([TopicPartition(part.topic, part.partition, OFFSET_BEGINNING) for part in parts])
            while len(found) < end:
                found += [message for message in consumer.consume(1_000, timeout=0.05) if message.error() is None]
        finally:
            consumer.close()
        return found

    def records(self, enough: int = 0) -> list[dict[str, Any]]:
        """Return the records in the topics."""
        return [json.loads(message.value() or b"") for message in self.messages(enough)]

    def stop(self) -> None:
        """End both."""
        self.http.close()
        self.collector.stop()


StartCollector = Callable[..., Collecting]


@pytest.fixture
def start_collector_at() -> Iterator[Callable[..., Collecting]]:
    """Start collectors before a Kafka of choice, with settings of choice; they end with the test."""
    started: list[Collecting] = []

    def start(kafka: str, topics: list[str] | None = None, **settings: Any) -> Collecting:
        if topics is None:
            run = uuid.uuid4().hex[:8]
            topics = [f"telemetry.{run}", f"emotion.{run}"]
            make_topics(kafka, *topics, partitions=PARTITIONS)
        defaults: dict[str, Any] = {
            "port": 0,
            "keys": {KEY: Key("acme", frozenset({SHOP}), events_per_s=100_000, burst=100_000)},
            "topics": {kind: topics[0] if kind.startswith("telemetry.") else topics[1] for kind in TOPICS},
            "client_events_per_s": 100_000.0,
            "client_burst": 100_000,
        }
        config = CollectorConfig(**(defaults | settings))
        collector = Collector(config, KafkaSinkConfig(bootstrap_servers=kafka).producer())
        collector.start()
        started.append(Collecting(collector, topics, kafka))
        return started[-1]

    yield start
    for collecting in started:
        collecting.stop()


@pytest.fixture
def start_collector(start_collector_at: Callable[..., Collecting], kafka: str) -> StartCollector:
    """Start collectors before the Kafka that all tests share."""
    return lambda **settings: start_collector_at(kafka, **settings)


@pytest.fixture
def collecting(start_collector: StartCollector) -> Collecting:
    """Start a collector with settings that are in no test's way."""
    return start_collector()
