"""Where the engine puts shards: on the worker that reads the partitions of the same sessions."""

import threading

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.testing import cluster_main

from flows.conductor import shard_key

PARTS = 12


class Numbers(FixedPartitionedSource[int, None]):
    """Each of twelve parts says its number once, and remembers its worker's thread."""

    def __init__(self, threads: dict[int, int]) -> None:
        self._threads = threads

    def list_parts(self) -> list[str]:
        """Return the parts, named as the Kafka source names its own."""
        return [f"{i:05d}" for i in range(PARTS)]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "NumbersPart":
        """Begin."""
        return NumbersPart(self._threads, int(for_part))


class NumbersPart(StatefulSourcePartition[int, None]):
    def __init__(self, threads: dict[int, int], number: int) -> None:
        self._threads, self._number, self._done = threads, number, False

    def next_batch(self) -> list[int]:
        """Return the number, once."""
        if self._done:
            raise StopIteration
        self._done = True
        self._threads[self._number] = threading.get_ident()
        return [self._number]

    def snapshot(self) -> None:
        """Keep nothing."""


class Note(StatefulBatchLogic[int, int, None]):
    """Remembers on which thread a key lives."""

    def __init__(self, threads: dict[int, int]) -> None:
        self._threads = threads

    def on_batch(self, values: list[int]) -> tuple[list[int], bool]:
        """Pass on what came."""
        self._threads.update(dict.fromkeys(values, threading.get_ident()))
        return values, False

    def snapshot(self) -> None:
        """Keep nothing."""


class Ends(FixedPartitionedSink[int, None]):
    """A part for each worker, as the sinks of the flow have, under the engine's own choice of part."""

    def __init__(self, threads: dict[int, int], workers: int) -> None:
        self._threads, self._workers = threads, workers

    def list_parts(self) -> list[str]:
        """Return the parts."""
        return [f"{i:05d}" for i in range(self._workers)]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "EndsPart":
        """Begin."""
        return EndsPart(self._threads)


class EndsPart(StatefulSinkPartition[int, None]):
    def __init__(self, threads: dict[int, int]) -> None:
        self._threads = threads

    def write_batch(self, items: list[int]) -> None:
        """Remember the thread."""
        self._threads.update(dict.fromkeys(items, threading.get_ident()))

    def snapshot(self) -> None:
        """Keep nothing."""


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6])
def test_a_shard_lives_where_the_partitions_of_its_sessions_are_read_and_written(workers: int) -> None:
    read: dict[int, int] = {}
    held: dict[int, int] = {}
    written: dict[int, int] = {}
    flow = Dataflow("locality")
    keyed = op.key_on("key", op.input("numbers", flow, Numbers(read)), shard_key)
    noted = op.stateful_batch("note", keyed, lambda _: Note(held))
    op.output("ends", noted, Ends(written, workers))
    cluster_main(flow, [], 0, worker_count_per_proc=workers)
    assert len(set(read.values())) == workers
    assert held == read
    assert written == read


def test_keys_are_unique_however_many_shards_there_are() -> None:
    assert len({shard_key(i) for i in range(1_024)}) == 1_024
