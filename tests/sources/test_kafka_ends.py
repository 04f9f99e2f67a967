"""The thread that asks where partitions end, against a real broker."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sources.kafka.ends import Ends
from tests.fix_kafka import DEADLINE_S, make_topics, wait_until
from tests.sources.kafka_parts import config


@contextmanager
def watching(address: str, topic: str, *partitions: int) -> Iterator[Ends]:
    places = [(topic, partition) for partition in partitions]
    ends = Ends(config(address, topic).consumer(), time.time, DEADLINE_S)
    ends.watch(places)
    try:
        yield ends
    finally:
        ends.unwatch(places)


def test_a_lone_part_has_its_answer_when_it_has_waited(kafka: str, topic: str) -> None:
    make_topics(kafka, topic)
    with watching(kafka, topic, 0) as ends:
        begin = time.monotonic()
        ends.ask(0.0, DEADLINE_S)
        end = ends.known((topic, 0))
        assert end is not None
        assert end.offset == 0
        assert begin <= end.asked <= time.monotonic() < begin + DEADLINE_S / 2
        assert not ends.asking()


def test_a_part_among_others_waits_for_none(kafka: str, topic: str) -> None:
    make_topics(kafka, topic, partitions=2)
    with watching(kafka, topic, 0, 1) as ends:
        ends.ask(0.0, DEADLINE_S)
        assert ends.asking()
        wait_until(lambda: ends.known((topic, 1)) is not None, "the answer comes all the same")


def test_nobody_waits_twice_for_one_question() -> None:
    with watching("127.0.0.1:1", "nowhere", 0) as ends:
        ends.ask(0.0, 0.01)
        begin = time.monotonic()
        ends.ask(0.0, DEADLINE_S)
        assert ends.asking()
        assert time.monotonic() < begin + DEADLINE_S / 2
