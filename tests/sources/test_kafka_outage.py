"""Brokers that stop, die, or fall silent while the source reads."""

import time

import pytest
from prometheus_client import REGISTRY

from schemas.errors import TransientError
from sources.kafka import Status, check
from tests.fix_kafka import Broker, make_topics
from tests.sources.kafka_parts import Driver, config, write


def test_a_broker_that_stops_and_comes_back_loses_nothing(kafka_broker: Broker) -> None:
    make_topics(kafka_broker.address, "a", "b")
    for name in ("a", "b"):
        write(kafka_broker.address, name, [b"%s %d" % (name.encode(), i) for i in range(500)])
    status = Status()
    driver = Driver(config(kafka_broker.address, "a", "b", batch_size=100, stall_after_s=1.0), status=status)
    while len(driver.got.values) < 300:
        driver.step()
    kafka_broker.kill()
    driver.until(lambda _: status.stalled() == ["a[0]", "b[0]"], "both to be named as silent")
    told = driver.got.clocks[-1:]
    had = len(driver.got.values)
    driver.during(0.5)
    assert driver.got.clocks[-1:] == told  # The wall clock does not stand in for a broker that is away.
    labels = {"topic": "a", "partition": "0"}
    assert REGISTRY.get_sample_value("attune_kafka_stalled", labels) == 1
    kafka_broker.start()
    for name in ("a", "b"):
        write(kafka_broker.address, name, [b"%s late %d" % (name.encode(), i) for i in range(50)], once=True)
    got = driver.records(1100)
    assert had < 1100
    assert sorted((name, offset) for _, name, offset in got.places) == [(n, i) for n in "ab" for i in range(550)]
    assert got.places == sorted(got.places)
    driver.until(lambda _: status.stalled() == [], "nobody to be silent")
    driver.until(lambda got: len(got.clocks) > len(told), "the time to go on")
    driver.part.close()


def test_a_broker_that_falls_silent_proves_nothing(kafka_broker: Broker) -> None:
    """Frozen with its connections open, after every end had been reached: neither time nor records move on it."""
    make_topics(kafka_broker.address, "a", "b")
    driver = Driver(config(kafka_broker.address, "a", "b", clock_margin_s=0.0))
    driver.until(lambda got: len(got.clocks) > 2, "the time to be told")
    froze = int(time.time() * 1000)
    kafka_broker.freeze()
    driver.during(1.5)
    assert max(driver.got.clocks) <= froze + 300  # What had been asked before may still have been answered.
    kafka_broker.thaw()
    write(kafka_broker.address, "a", [b"x"], once=True)
    assert driver.records(1).values == [b"x"]
    driver.until(lambda got: max(got.clocks) > froze + 1500, "the time to go on")
    driver.part.close()


def test_no_broker_is_told_within_the_time_limit() -> None:
    began = time.monotonic()
    with pytest.raises(TransientError, match=r"127\.0\.0\.1:1 did not answer within 1 s.*refused"):
        check(config("127.0.0.1:1", "t", timeout_s=1.0))
    assert time.monotonic() - began < 5.0
