"""How a reader takes apart what one call of librdkafka gives: orders that no real broker brings about at will."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError

from sources.kafka import reader as module
from sources.kafka.reader import Reader
from sources.kafka.settings import SourceConfig


@dataclass
class _Message:
    """A message in the place of librdkafka's, which can't be made: a record, or with a ``code`` what came instead."""

    of: str
    at: int
    code: int | None = None

    def topic(self) -> str:
        return self.of

    def offset(self) -> int:
        return self.at

    def error(self) -> KafkaError | None:
        return None if self.code is None else KafkaError(self.code)

    def value(self) -> bytes:
        return b"x"

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_000 + self.at

    def __len__(self) -> int:
        return 1


END, GONE = KafkaError._PARTITION_EOF, KafkaError.OFFSET_OUT_OF_RANGE


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Return a reader that stands at offset 7 of one topic and 0 of another; after a loss it begins anew."""
    monkeypatch.setattr(module, "Message", _Message)
    made = Reader(SourceConfig(bootstrap_servers="127.0.0.1:1", topics=("a", "b"), group_id="g"), 0)
    made.start({"a": 7, "b": 0})
    made.consumer.close()
    monkeypatch.setattr(made, "_lost", lambda topic: setattr(made._topics[topic], "reached", 0))
    return made


def read(reader: Reader, *messages: _Message) -> tuple[list[tuple[str, list[int]]], set[str]]:
    """Return the offsets of each run that is handed on, and the topics that were heard of."""
    reader.consumer = SimpleNamespace(consume=lambda *_, **__: list(messages))  # type: ignore[assignment]
    reads, heard, count = reader.read(10)
    assert count == len(messages)
    found = []
    for one in reads:
        offsets = one.offset.tolist()
        assert one.record_ts.tolist() == [1_000 + at for at in offsets]
        assert len(one.values) == len(offsets)
        for share in one.shares:
            assert share.nbytes == share.records
            found.append(("ab"[share.lane], offsets[: share.records]))
            del offsets[: share.records]
        assert not offsets
    return found, heard


def a(*offsets: int) -> list[_Message]:
    return [_Message("a", at) for at in offsets]


def b(*offsets: int) -> list[_Message]:
    return [_Message("b", at) for at in offsets]


def test_runs_by_turns_are_one_run_of_each_topic(reader: Reader) -> None:
    found = read(reader, *a(7), *b(0), *a(8), _Message("a", 9, END), *b(1, 2), *a(9))
    assert found == ([("a", [7, 8, 9]), ("b", [0, 1, 2])], {"a", "b"})
    assert (reader.reached("a"), reader.reached("b")) == (10, 3)


@pytest.mark.parametrize("between", [_Message("a", 10, END), *b(0)])
def test_what_comes_again_is_handed_on_once(reader: Reader, between: _Message) -> None:
    reads, _ = read(reader, *a(5, 6, 7, 8, 9), between, *a(8, 9, 10))
    assert reads[0] == ("a", [7, 8, 9, 10])
    assert read(reader, *a(9, 10, 11))[0] == [("a", [11])]


def test_an_end_is_behind_all_that_is_there(reader: Reader) -> None:
    """Markers of transactions have offsets of their own, and are no records."""
    assert read(reader, *a(7), _Message("a", 12, END)) == ([("a", [7])], {"a"})
    assert reader.reached("a") == 12


def test_records_behind_a_loss_are_not_taken_for_repeats_of_those_before(reader: Reader) -> None:
    assert read(reader, *a(7), _Message("a", 8, GONE), *a(0, 1))[0] == [("a", [7]), ("a", [0, 1])]
    assert read(reader, _Message("a", 100, END), _Message("a", 100, GONE), *a(0))[0] == [("a", [0])]
