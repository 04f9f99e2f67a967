"""The sink against a real broker: what arrives, what waits, what stops the flow."""

import time
from threading import Thread
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from flows.local.kafka import mock_kafka
from schemas.batches import Records
from schemas.errors import ConfigError, TerminalError, TransientError
from schemas.registry import OUTBOUND
from sinks.kafka import KafkaSink, KafkaSinkConfig, KafkaSinkPart, produce_raw
from tests.fix_kafka import Broker, make_topics, wait_until
from tests.murmur2 import murmur2


def records(sessions: list[str], payloads: list[bytes], kind: str = "engagement") -> Records:
    n = len(payloads)
    return Records(kind, [f"id{i}" for i in range(n)], ["acme"] * n, sessions, [0] * n, payloads)


def part(address: str, topic: str, clock: float = 1_700_000_000.5, **options: str) -> KafkaSinkPart:
    config = KafkaSinkConfig(bootstrap_servers=address, options={k.replace("_", "."): v for k, v in options.items()})
    sink = KafkaSink(config, 2, {"engagement": topic}, clock=lambda: clock)
    assert sink.list_parts()[:2] == ["00000", "00001"]
    return sink.build_part("out", "00000", None)


def read(address: str, topic: str, partitions: int = 1) -> list[Message]:
    """Return all that a topic holds, partition by partition."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "r", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, i, 0) for i in range(partitions)])
    found: dict[int, list[Message]] = {i: [] for i in range(partitions)}
    open_ends = set(found)
    end = time.monotonic() + 30
    while open_ends and time.monotonic() < end:
        for message in consumer.consume(10_000, timeout=0.2):
            error, number = message.error(), message.partition()
            assert number is not None
            if error is None:
                found[number].append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                open_ends.discard(number)
    consumer.close()
    assert not open_ends
    return [message for i in range(partitions) for message in found[i]]


def test_records_arrive_with_key_header_and_time(kafka: str, topic: str) -> None:
    make_topics(kafka, topic, partitions=3, stamp="CreateTime")
    sink = part(kafka, topic)
    sessions = [f"s{i % 7}" for i in range(70)]
    sink.write_batch([records(sessions[:30], [b"%d" % i for i in range(30)])])
    sink.write_batch([records(sessions[30:], [b"%d" % i for i in range(30, 70)])])
    sink.snapshot()
    got = read(kafka, topic, 3)
    assert sorted(int(m.value() or b"") for m in got) == list(range(70))
    home: dict[bytes | None, int | None] = {}
    last: dict[bytes | None, int] = {}
    for message in got:
        number = int(message.value() or b"")
        key = message.key()
        assert key == b"acme/s%d" % (number % 7)
        assert message.headers() == [("processed_ts", b"1700000000500")]
        assert message.timestamp()[1] == 1_700_000_000_500
        assert home.setdefault(key, message.partition()) == message.partition()
        assert last.get(key, -1) < number
        last[key] = number
    # Java's default partitioner: murmur2 of the key, its sign bit off, modulo the partitions.
    assert all(partition == (murmur2(key or b"") & 0x7FFFFFFF) % 3 for key, partition in home.items())


def test_topics_come_from_the_registry() -> None:
    topic = OUTBOUND["anomaly"].topic
    with mock_kafka([topic], 1) as address:
        sink = KafkaSink(KafkaSinkConfig(bootstrap_servers=address), 1).build_part("out", "00000", None)
        sink.write_batch([records(["s"], [b"{}"], "anomaly")])
        sink.snapshot()
        sink.close()
        assert [m.value() for m in read(address, topic)] == [b"{}"]


def test_a_full_queue_waits_and_keeps_the_order(kafka: str, topic: str) -> None:
    make_topics(kafka, topic)
    sink = part(kafka, topic, queue_buffering_max_messages="20")
    sink.write_batch([records(["s"] * 500, [b"%d" % i for i in range(500)])])
    sink.snapshot()
    assert [m.value() for m in read(kafka, topic)] == [b"%d" % i for i in range(500)]


def test_a_large_dead_letter_fits(kafka: str, topic: str) -> None:
    make_topics(kafka, topic)
    sink = part(kafka, topic)
    payload = b'"' + b"\\u0000" * 64 * 1024 + b'"'
    sink.write_batch([records(["s"], [payload])])
    sink.snapshot()
    assert read(kafka, topic)[0].value() == payload


def test_what_the_broker_refuses_stops_the_flow_at_the_snapshot(kafka: str, topic: str) -> None:
    make_topics(kafka, topic)
    admin = AdminClient({"bootstrap.servers": kafka})
    entry = ConfigEntry("max.message.bytes", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result()
    sink = part(kafka, topic, compression_type="none")
    sink.write_batch([records(["s", "s"], [b"small", b"x" * 5000])])
    for _ in range(2):  # For good: a second look confirms nothing either.
        with pytest.raises(TerminalError, match=rf"{topic}.*MSG_SIZE_TOO_LARGE.*max\.message\.bytes"):
            sink.snapshot()


def test_what_no_broker_would_take_stops_the_flow_at_once(kafka: str, topic: str) -> None:
    make_topics(kafka, topic)
    with pytest.raises(TerminalError, match=rf"{topic}.*MSG_SIZE_TOO_LARGE"):
        part(kafka, topic).write_batch([records(["s"], [b"x" * 2_000_000])])


def test_an_unknown_topic_stops_the_flow(kafka: str, topic: str) -> None:
    sink = part(kafka, topic, topic_metadata_propagation_max_ms="200")
    sink.write_batch([records(["s"], [b"x"])])
    with pytest.raises(TerminalError, match=rf"{topic}.*attune topics create"):
        sink.snapshot()


def test_a_broker_that_is_away_is_waited_for(kafka_broker: Broker) -> None:
    make_topics(kafka_broker.address, "t")
    sink = part(kafka_broker.address, "t")
    sink.write_batch([records(["s"] * 100, [b"%d" % i for i in range(100)])])
    kafka_broker.kill()
    sink.write_batch([records(["s"] * 100, [b"%d" % i for i in range(100, 200)])])
    waiting = Thread(target=sink.snapshot)
    waiting.start()
    waiting.join(2.0)
    assert waiting.is_alive()  # Nothing is confirmed that no broker has.
    kafka_broker.start()
    wait_until(lambda: not waiting.is_alive(), "the snapshot")
    assert [m.value() for m in read(kafka_broker.address, "t")] == [b"%d" % i for i in range(200)]


def test_a_limit_on_waiting_is_an_error_that_may_pass(topic: str) -> None:
    config = KafkaSinkConfig(bootstrap_servers="127.0.0.1:1", delivery_timeout_s=1.0)
    sink = KafkaSink(config, 1).build_part("out", "00000", None)
    sink.write_batch([records(["s"], [b"x"])])
    with pytest.raises(TransientError, match="_MSG_TIMED_OUT"):
        sink.snapshot()


def test_raw_messages_are_put_back_where_they_belong(kafka: str, topic: str) -> None:
    make_topics(kafka, topic, partitions=4)
    messages: list[Any] = [
        (topic, 2, b"k", b"a"),
        (topic, None, b"k", b"b"),
        (topic, 2, None, b"c"),
        (topic, 3, b"", None),
    ]
    assert produce_raw(KafkaSinkConfig(bootstrap_servers=kafka), messages) == 4
    got = read(kafka, topic, 4)
    assert {(m.key(), m.value()) for m in got} == {(b"k", b"a"), (b"k", b"b"), (None, b"c"), (b"", None)}
    assert [m.value() for m in got if m.partition() == 2 and m.value() != b"b"] == [b"a", b"c"]


@pytest.mark.parametrize("key", ["acks", "enable.idempotence", "partitioner", "bootstrap.servers"])
def test_settings_that_are_ours_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        KafkaSinkConfig(bootstrap_servers="localhost:9092", options={key: "1"})
