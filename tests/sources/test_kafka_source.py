"""The source against a real broker: order, resumption, where it starts, what it says of the time."""

import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from prometheus_client import REGISTRY

from schemas.errors import ConfigError, TerminalError
from sources.kafka import Position, SourceConfig
from tests.fix_kafka import make_topics, wait_until
from tests.sources.kafka_parts import Driver, committed, config, write


def trim(address: str, topic: str, before: int) -> None:
    """Delete the records of partition 0 below an offset."""
    admin = AdminClient({"bootstrap.servers": address})
    for answer in admin.delete_records([TopicPartition(topic, 0, before)]).values():
        answer.result()


def commit(address: str, group: str, topic: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": address, "group.id": group})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def test_topics_filled_unevenly_while_stopped_come_out_merged(kafka: str, topic: str) -> None:
    a, b, c = (f"{topic}-{x}" for x in "abc")
    make_topics(kafka, a, b, c, stamp="CreateTime")
    now = int(time.time() * 1000) - 100_000
    stamps = {a: [now + 2 * i for i in range(3000)], b: [now + 3000 + 7 * i for i in range(40)], c: [now + 5000]}
    for name, times in stamps.items():
        write(kafka, name, [b"%s %d" % (name.encode(), i) for i in range(len(times))], stamps=times)
    driver = Driver(config(kafka, c, a, b, batch_size=500))
    got = driver.records(3041)
    assert got.places == sorted((ts, name, i) for name, times in stamps.items() for i, ts in enumerate(times))
    assert got.values == [b"%s %d" % (name.encode(), offset) for _, name, offset in got.places]
    assert max(map(len, got.batches)) <= 500
    highest = 0
    for batch in got.batches:
        assert batch.partition == 0
        assert batch.topics == (a, b, c)
        assert batch.stream_time == highest
        highest = max([highest, *batch.record_ts.tolist()])
    assert driver.part.snapshot() == Position(highest, ((a, 3000), (b, 40), (c, 1)))
    driver.part.close()


def test_who_is_far_ahead_is_held_and_nothing_is_lost_by_it(kafka: str, topic: str) -> None:
    a, b = f"{topic}-a", f"{topic}-b"
    make_topics(kafka, a, b, stamp="CreateTime")
    now = int(time.time() * 1000) - 100_000
    write(kafka, a, [b"a%d" % i for i in range(8_000)], stamps=[now + 50_000 + i // 10 for i in range(8_000)])
    write(kafka, b, [b"b%d" % i for i in range(8_000)], stamps=[now + i for i in range(8_000)])
    driver = Driver(config(kafka, a, b, batch_size=200, options={"queued.min.messages": "1000"}))
    held = 0
    paused = False

    def done() -> bool:
        nonlocal held, paused
        driver.step()
        held = max(held, driver.part._merger.held(0)[0])
        paused = paused or driver.part._reader.paused(a)
        return len(driver.got.values) >= 16_000

    wait_until(done, "all records")
    assert driver.got.values == [b"b%d" % i for i in range(8_000)] + [b"a%d" % i for i in range(8_000)]
    assert paused
    assert held <= 9 * 200
    driver.part.close()


def test_a_part_goes_on_exactly_after_its_snapshot(kafka: str, topic: str) -> None:
    a, b = f"{topic}-a", f"{topic}-b"
    make_topics(kafka, a, b)
    for i in range(0, 400, 100):
        for name in (a, b):
            write(kafka, name, [b"%s %d" % (name.encode(), j) for j in range(i, i + 100)])
    whole = Driver(config(kafka, a, b)).records(800).places
    first = Driver(config(kafka, a, b, batch_size=70))
    while len(first.got.values) < 300:
        first.step()
    snapshot = first.part.snapshot()
    first.part.next_batch()  # Handed on after the snapshot: must come again.
    first.part.close()
    second = Driver(config(kafka, a, b, start="latest"), resume=snapshot)
    rest = second.records(800 - len(first.got.places))
    assert first.got.places + rest.places == whole
    assert snapshot.stream_time == max(ts for ts, *_ in first.got.places)
    assert rest.batches[0].stream_time == snapshot.stream_time


def test_a_topic_that_joins_later_begins_by_the_start_policy(kafka: str, topic: str) -> None:
    a, b = f"{topic}-a", f"{topic}-b"
    make_topics(kafka, a, b)
    write(kafka, a, [b"1", b"2"])
    write(kafka, b, [b"3"])
    driver = Driver(config(kafka, a, b), resume=Position(0, ((a, 1), ("gone", 7))))
    assert sorted(v or b"" for v in driver.records(2).values) == [b"2", b"3"]
    assert driver.part.snapshot().offsets == ((a, 2), (b, 1))


@pytest.mark.parametrize(
    "policy, first",
    [
        ({"start": "earliest"}, b"0"),
        ({"start": "latest"}, b"new"),
        ({"start": "committed"}, b"7"),
        ({"start": "committed", "group_id": "never-committed"}, b"0"),
        ({"start": "timestamp", "start_ts": 1_700_000_005_500}, b"6"),
        ({"start": "timestamp", "start_ts": 1_800_000_000_000}, b"new"),
    ],
)
def test_start_policies(kafka: str, topic: str, policy: dict[str, object], first: bytes) -> None:
    make_topics(kafka, topic, stamp="CreateTime")
    write(kafka, topic, [b"%d" % i for i in range(10)], stamps=[1_700_000_000_000 + 1000 * i for i in range(10)])
    commit(kafka, f"g-{topic}", topic, 7)
    driver = Driver(config(kafka, topic, **policy))
    decided = driver.part.snapshot()
    assert decided.offsets[0][1] >= 0  # An offset, not "the end", even before a record was read.
    driver.part.close()
    write(kafka, topic, [b"new"])
    assert Driver(config(kafka, topic), resume=decided).records(1).values[0] == first


def test_trimmed_records_stop_the_flow_and_are_named(kafka: str, topic: str) -> None:
    make_topics(kafka, topic)
    write(kafka, topic, [b"%d" % i for i in range(100)])
    trim(kafka, topic, 60)
    driver = Driver(config(kafka, topic), resume=Position(0, ((topic, 40),)))
    with pytest.raises(TerminalError, match=rf"{topic}\[0\].*offset 40.*60 to 100.*on_data_loss"):
        driver.records(1)


def test_offsets_beyond_the_end_stop_the_flow(kafka: str, topic: str) -> None:
    make_topics(kafka, topic)
    write(kafka, topic, [b"x"])
    driver = Driver(config(kafka, topic), resume=Position(0, ((topic, 40),)))
    with pytest.raises(TerminalError, match=r"offset 40.*0 to 1"):
        driver.records(1)


def test_trimmed_records_are_counted_where_that_is_asked_for(kafka: str, topic: str) -> None:
    other = f"{topic}-other"
    make_topics(kafka, topic, other)
    write(kafka, topic, [b"%d" % i for i in range(100)])
    write(kafka, other, [b"o"])
    trim(kafka, topic, 60)
    driver = Driver(config(kafka, topic, other, on_data_loss="oldest"), resume=Position(0, ((topic, 40), (other, 0))))
    assert set(driver.records(41).values) == {b"%d" % i for i in range(60, 100)} | {b"o"}
    labels = {"topic": topic, "partition": "0"}
    assert REGISTRY.get_sample_value("attune_kafka_lost_records_total", labels) == 20
    assert driver.part.snapshot().offsets == ((topic, 100), (other, 1))


def test_gaps_in_the_offsets_are_no_obstacle(kafka: str, topic: str) -> None:
    """A transaction's end takes an offset without being a record: the end lies beyond the last record."""
    other = f"{topic}-other"
    make_topics(kafka, topic, other)
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": topic})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic, b"kept", partition=0)
    producer.commit_transaction(30)
    producer.begin_transaction()
    producer.produce(topic, b"aborted", partition=0)
    producer.flush(30)
    producer.abort_transaction(30)
    write(kafka, other, [b"after"])
    driver = Driver(config(kafka, topic, other))
    assert driver.records(2).values == [b"kept", b"after"]
    driver.until(lambda got: bool(got.clocks), "the time to be told beyond the gap")


def test_the_wall_clock_stands_in_at_the_end_of_all_topics(kafka: str, topic: str) -> None:
    a, b = f"{topic}-a", f"{topic}-b"
    make_topics(kafka, a, b, stamp="CreateTime")
    write(kafka, a, [b"x"], stamps=[5_000])
    now = 1_000.0
    driver = Driver(config(kafka, a, b, clock_margin_s=0.5), clock=lambda: now)
    got = driver.until(lambda got: bool(got.clocks), "the time to be told")
    assert got.values == [b"x"]
    assert got.clocks == [999_500]
    assert len(got.batches[-1]) == 0
    assert got.batches[-1].stream_time == 5_000
    now = 900.0  # A clock that is set back.
    driver.during(0.3)
    assert got.clocks == [999_500]
    now = 1_001.0
    driver.until(lambda got: len(got.clocks) > 1, "time to go on")
    assert got.clocks[1] == 1_000_500


def test_the_time_never_runs_ahead_of_a_record_that_is_to_come(kafka: str, topic: str) -> None:
    """Told every 50 ms while records trickle in: no record is stamped before the time that was told."""
    a, b = f"{topic}-a", f"{topic}-b"
    make_topics(kafka, a, b)
    driver = Driver(config(kafka, a, b, clock_margin_s=0.1))
    for i in range(10):
        write(kafka, (a, b)[i % 2], [b"%d" % i])
        driver.during(0.3)
    got = driver.records(10)
    told = 0
    for batch in got.batches:
        assert all(ts >= told for ts in batch.record_ts.tolist())
        told = max(told, batch.clock or 0)
    assert len(got.clocks) > 3
    assert got.clocks == sorted(got.clocks)
    assert [int(v or b"") for v in got.values] == list(range(10))


def test_parts_need_not_be_equal_where_that_is_allowed(kafka: str, topic: str) -> None:
    a, b = f"{topic}-a", f"{topic}-b"
    make_topics(kafka, a)
    make_topics(kafka, b, partitions=2)
    write(kafka, b, [b"second"], partition=1)
    driver = Driver(config(kafka, a, b, equal_partitions=False), partition=1)
    assert driver.parts == ["00000", "00001"]
    got = driver.records(1)
    assert got.values == [b"second"]
    assert got.batches[0].topics == (a, b)
    assert got.batches[0].topic.tolist() == [1]
    driver.until(lambda got: bool(got.clocks), "the time to be told")
    assert driver.part.snapshot().offsets == ((b, 1),)


def test_what_is_durable_is_committed_two_snapshots_later(kafka: str, topic: str) -> None:
    make_topics(kafka, topic)
    write(kafka, topic, [b"%d" % i for i in range(5)])
    driver = Driver(config(kafka, topic))
    driver.records(5)
    driver.part.snapshot()
    driver.part.snapshot()
    driver.during(0.3)
    assert committed(kafka, f"g-{topic}", topic) < 0
    driver.part.snapshot()
    driver.until(lambda _: committed(kafka, f"g-{topic}", topic) == 5, "the commit")
    labels = {"topic": topic, "partition": "0"}
    write(kafka, topic, [b"more"] * 3)
    driver.records(8)
    driver.until(lambda _: REGISTRY.get_sample_value("attune_kafka_lag", labels) == 0, "the lag to be gone")


@pytest.mark.parametrize("key", ["enable.auto.commit", "auto.offset.reset", "enable.partition.eof", "group.id"])
def test_settings_that_are_ours_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        config("localhost:9092", "t", options={key: "true"})


def test_faulty_settings_are_told_together_and_secrets_stay_out() -> None:
    with pytest.raises(ConfigError) as caught:
        SourceConfig(bootstrap_servers=" ", topics=(), group_id="", start="timestamp", batch_size=0)
    for word in ("bootstrap_servers", "topics", "group_id", "start_ts", "batch_size"):
        assert word in str(caught.value)
    assert "hunter2" not in repr(config("localhost:9092", "t", options={"sasl.password": "hunter2"}))


def test_a_batch_never_blocks(kafka: str, topic: str) -> None:
    make_topics(kafka, topic)
    driver = Driver(config(kafka, topic))
    driver.until(lambda got: bool(got.clocks), "the start")
    began = time.process_time(), time.monotonic()
    for _ in range(200):
        driver.part.next_batch()
    assert time.monotonic() - began[1] < 2.0


def test_records_beyond_the_size_of_a_topic_change_nothing(kafka: str, topic: str) -> None:
    """Values may be missing (None) or empty, and large."""
    make_topics(kafka, topic)
    admin = AdminClient({"bootstrap.servers": kafka})
    entry = ConfigEntry("max.message.bytes", "2000000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result()
    write(kafka, topic, [b"", b"x" * 900_000])
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic, None, partition=0)
    producer.flush(30)
    assert Driver(config(kafka, topic)).records(3).values == [b"", b"x" * 900_000, None]
