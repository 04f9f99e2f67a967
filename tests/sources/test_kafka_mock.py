"""The embedded broker is Kafka enough for the source and the sink."""

import pytest

from flows.local.kafka import mock_kafka
from schemas.batches import Records
from schemas.errors import TransientError
from sinks.kafka import KafkaSink, KafkaSinkConfig
from sources.kafka import create_topics
from sources.kafka.settings import Connection
from tests.sources.kafka_parts import Driver, committed, config, write


def test_the_demo_runs_on_it() -> None:
    with mock_kafka(["a", "b"], 3) as address:
        assert address.startswith("127.0.0.1:")
        now = 1_700_000_000_000
        write(address, "a", [b"1", b"3"], partition=1, stamps=[now, now + 2])
        sink = KafkaSink(KafkaSinkConfig(bootstrap_servers=address), 1, {"engagement": "b"}).build_part(
            "o", "00000", None
        )
        sink.write_batch([Records("engagement", ["i"], ["t"], ["s"], [0], [b"2"])])
        sink.snapshot()
        parts = [Driver(config(address, "a", "b"), partition=i) for i in range(3)]
        assert parts[0].parts == ["00000", "00001", "00002"]
        for driver in parts:
            driver.until(lambda got: bool(got.clocks), "the end")
        assert sorted(v or b"" for driver in parts for v in driver.got.values) == [b"1", b"2", b"3"]
        for _ in range(3):
            parts[1].part.snapshot()
        parts[1].until(lambda _: committed(address, "g-a", "a", 1) == 2, "the commit")
        for driver in parts:
            driver.part.close()


def test_that_topics_can_t_be_made_on_it_is_said() -> None:
    with (
        mock_kafka(["a"], 1) as address,
        pytest.raises(TransientError, match=r"names no controller.* CREATE topics a, b, .*mock broker"),
    ):
        create_topics(Connection(bootstrap_servers=address), 1, 1, inbound=["a"], outbound=["b"], timeout_s=1.0)
