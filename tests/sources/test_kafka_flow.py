"""The source inside a running flow with a recovery store: what the group is told, and where the flow goes on."""

import pickle
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, cluster_main
from confluent_kafka import Consumer, TopicPartition

from schemas.batches import RawBatch
from sources.kafka import KafkaSource
from tests.fix_kafka import make_topics
from tests.sources.kafka_parts import config, write


class Killed(BaseException):
    """Ends a flow as a crash does."""


def stored(folder: Path) -> int:
    """Return the offsets in the newest position of the recovery store, added up over the parts."""
    newest: dict[str, tuple[int, int]] = {}
    for file in folder.glob("*.sqlite3"):
        store = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
        rows = store.execute("SELECT state_key, snap_epoch, ser_change FROM snaps WHERE step_id LIKE '%.in'").fetchall()
        store.close()
        for key, epoch, change in rows:
            if key not in newest or newest[key][0] < epoch:
                newest[key] = (epoch, sum(offset for _, offset in pickle.loads(change).offsets))  # noqa: S301 - our own
    return sum(offsets for _, offsets in newest.values())


def run(address: str, topic: str, folder: Path, workers: int, look: Callable[[RawBatch], RawBatch]) -> None:
    flow = Dataflow("group")
    batches = op.input("in", flow, KafkaSource(config(address, topic, clock_every_s=0.02)))
    op.output("out", op.map("look", batches, look), TestingSink([]))
    cluster_main(
        flow,
        [],
        0,
        worker_count_per_proc=workers,
        epoch_interval=timedelta(seconds=0.05),
        recovery_config=RecoveryConfig(folder),
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_the_group_is_never_told_more_than_the_recovery_store_holds(
    kafka: str, topic: str, tmp_path: Path, workers: int
) -> None:
    make_topics(kafka, topic, partitions=2)
    init_db_dir(tmp_path, 1)
    group = Consumer({"bootstrap.servers": kafka, "group.id": f"g-{topic}"})
    seen: list[tuple[int, int]] = []

    def look(batch: RawBatch) -> RawBatch:
        places = group.committed([TopicPartition(topic, i) for i in range(2)], timeout=10)
        committed = sum(max(0, place.offset) for place in places)
        seen.append((committed, stored(tmp_path)))
        write(kafka, topic, [b"x"] * 10, partition=len(seen) % 2)
        if len({committed for committed, _ in seen}) > 3 or len(seen) > 500:
            raise Killed
        return batch

    with pytest.raises(BaseException, match="look"):
        run(kafka, topic, tmp_path, workers, look)
    group.close()
    assert all(committed <= store for committed, store in seen), seen
    assert len({committed for committed, _ in seen}) > 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_flow_that_crashes_goes_on_where_its_store_says(kafka: str, topic: str, tmp_path: Path, workers: int) -> None:
    make_topics(kafka, topic, partitions=2)
    init_db_dir(tmp_path, 1)
    for part in range(2):
        write(kafka, topic, [b"%d" % i for i in range(50)], partition=part)
    out: list[tuple[int, int]] = []
    crash_at = 100

    def look(batch: RawBatch) -> RawBatch:
        out.extend((batch.partition, offset) for offset in batch.offset.tolist())
        if len(set(out)) >= crash_at and batch.clock is not None:
            raise Killed
        return batch

    with pytest.raises(BaseException, match="look"):
        run(kafka, topic, tmp_path, workers, look)
    had = stored(tmp_path)
    first, crash_at = set(out), 200
    out.clear()
    for part in range(2):
        write(kafka, topic, [b"%d" % i for i in range(50)], partition=part)
    crash_at = 200 - had
    with pytest.raises(BaseException, match="look"):
        run(kafka, topic, tmp_path, workers, look)
    assert first | set(out) == {(part, offset) for part in range(2) for offset in range(100)}
    assert len(out) == len(set(out)) == 200 - had
