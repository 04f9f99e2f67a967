"""The sink in the real engine: committed before the snapshot, nothing lost in a crash or an outage."""

import gc
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import msgspec
import pytest
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, cluster_main, run_main
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from flows.local.postgres import LocalPostgres
from schemas.batches import Records
from schemas.errors import AttuneError, ConfigError, TerminalError
from schemas.outbound import DeadLetter
from sinks.postgres import Limits, PostgresConfig, PostgresSink
from sinks.postgres.sink import PostgresPart
from tests.fix_postgres import ask, batch_of, do
from tests.postgres_records import decision, engagement

Item = tuple[str, Records]


def items(count: int, each: int = 10) -> list[Item]:
    """Return ``count`` batches of ``each`` records for four keys in turn."""
    return [(f"key-{n % 4}", batch_of([engagement(n * each + i) for i in range(each)])) for n in range(count)]


def flow_of(source: list[Any], config: PostgresConfig) -> Dataflow:
    flow = Dataflow("archive")
    stream = op.input("in", flow, TestingSource(source, batch_size=1))
    op.output("out", stream, PostgresSink(config))
    return flow


def numbers(conninfo: str) -> list[int]:
    return [number for (number,) in ask(conninfo, "SELECT chat_per_min FROM engagement_metrics ORDER BY ts")]


@contextmanager
def ended_by(error: type[AttuneError], told: str) -> Iterator[None]:
    """Expect a flow to end by this error, which the engine passes on as it is or as the cause of its own."""
    with pytest.raises((error, BytewaxRuntimeError)) as raised:
        yield
    found = raised.value if isinstance(raised.value, error) else raised.value.__cause__
    assert isinstance(found, error)
    assert told in str(found)


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("attune-postgres-")}


@pytest.fixture
def part(db: str) -> Iterator[PostgresPart]:
    part = PostgresPart("0000", PostgresConfig(db, limits=Limits(max_age_s=3600)))
    yield part
    part.close()


@pytest.mark.parametrize("parts", [1, 3])
def test_a_flow_writes_all_and_counts_it(db: str, parts: int) -> None:
    before = metric("attune_postgres_rows_total", table="engagement_metrics")
    commits = metric("attune_postgres_commit_seconds_count")
    run_main(flow_of(items(30), PostgresConfig(db, parts=parts)), epoch_interval=timedelta(0))
    assert numbers(db) == list(range(300))
    assert metric("attune_postgres_rows_total", table="engagement_metrics") == before + 300
    assert metric("attune_postgres_commit_seconds_count") > commits


def test_two_workers_share_the_parts(db: str) -> None:
    flow = flow_of(items(30), PostgresConfig(db, parts=4))
    cluster_main(flow, [], 0, worker_count_per_proc=2, epoch_interval=timedelta(0))
    assert numbers(db) == list(range(300))


def test_a_crash_and_a_restart_lose_nothing_and_double_nothing(db: str, tmp_path: Path) -> None:
    init_db_dir(tmp_path, 1)
    recovery = RecoveryConfig(str(tmp_path))
    source: list[Any] = items(40)
    source.insert(15, TestingSource.ABORT())
    source.insert(31, TestingSource.ABORT())
    counts = []
    for parts in (2, 1, 3):  # as many as workers, whose number may change
        flow = flow_of(source, PostgresConfig(db, parts=parts))
        run_main(flow, epoch_interval=timedelta(0), recovery_config=recovery)
        counts.append(len(numbers(db)))
    assert numbers(db) == list(range(400))
    assert counts[0] < counts[1] < 400, "the crashes came in the middle"


KILLED = """
import os, sys
from datetime import timedelta
import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.testing import TestingSource, run_main
from sinks.postgres import PostgresConfig, PostgresSink
from tests.sinks.test_postgres_sink import items
conninfo, folder, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
seen = []
def die_at_last(item):
    seen.append(item)
    if len(seen) == last:
        os._exit(9)
    return item
flow = Dataflow("archive")
stream = op.input("in", flow, TestingSource(items(40), batch_size=1))
stream = op.map("die", stream, die_at_last)
op.output("out", stream, PostgresSink(PostgresConfig(conninfo, parts=2)))
run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(folder))
"""


def test_a_process_killed_in_the_middle_loses_nothing(db: str, tmp_path: Path) -> None:
    init_db_dir(tmp_path, 1)
    for last, code in ((15, 9), (15, 9), (1000, 0)):
        command = [sys.executable, "-c", KILLED, db, str(tmp_path), str(last)]
        done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, timeout=120, check=False)
        assert done.returncode == code, done.stderr.decode()
        # What the killed process had sent is committed or rolled back by the server, which notices a little later.
        wait_until_alone(db)
    assert numbers(db) == list(range(400))


def wait_until_alone(conninfo: str) -> None:
    query = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'attune'"
    for _ in range(600):
        if not ask(conninfo, query):
            return
        threading.Event().wait(0.05)
    raise AssertionError("a connection is left")


def test_nothing_is_left_unwritten_when_a_snapshot_returns(db: str, part: PostgresPart) -> None:
    part.write_batch([batch_of([engagement(n)]) for n in range(5)])
    part.snapshot()
    assert numbers(db) == list(range(5))


def test_closing_writes_what_is_left(db: str) -> None:
    part = PostgresPart("0000", PostgresConfig(db, limits=Limits(max_age_s=3600)))
    part.write_batch([batch_of([engagement(n)]) for n in range(5)])
    part.close()
    assert numbers(db) == list(range(5))


def test_many_small_batches_become_few_transactions(db: str, part: PostgresPart) -> None:
    commits = metric("attune_postgres_commit_seconds_count")
    part.write_batch([batch_of([engagement(n)]) for n in range(200)])
    part.snapshot()
    assert metric("attune_postgres_commit_seconds_count") == commits + 1


def test_what_is_refused_is_passed_on_and_counted(db: str) -> None:
    refused: list[Records] = []
    before = metric("attune_postgres_refused_total")
    source = [("key", batch_of([decision(1, "fine"), decision(2, "\0")]))]
    run_main(flow_of(source, PostgresConfig(db, on_refused=refused.append)), epoch_interval=timedelta(0))
    (letters,) = refused
    assert letters.type == "dead_letter"
    letter = msgspec.json.decode(letters.payloads[0], type=DeadLetter)
    assert (letter.reason, letter.detail.field) == ("refused_by_database", "answer")
    assert ask(db, "SELECT id FROM orchestrator_decisions") == [("decision/1",)]
    assert ask(db, "SELECT id FROM dead_letters") == [(letter.id,)]
    assert metric("attune_postgres_refused_total") == before + 1


def test_a_snapshot_waits_until_the_dead_letters_are_passed_on(db: str) -> None:
    arrived, go_on = threading.Event(), threading.Event()

    def slow(_letters: Records) -> None:
        arrived.set()
        go_on.wait(60)

    part = PostgresPart("0000", PostgresConfig(db, on_refused=slow))
    part.write_batch([batch_of([decision(2, "\0")])])
    snapshot = threading.Thread(target=part.snapshot)
    snapshot.start()
    assert arrived.wait(60)
    snapshot.join(0.2)
    assert snapshot.is_alive()
    go_on.set()
    snapshot.join(60)
    assert not snapshot.is_alive()
    part.close()


def test_what_on_refused_raises_ends_the_flow_before_the_snapshot(db: str) -> None:
    def broken(_letters: Records) -> None:
        raise OSError("the topic is closed")

    part = PostgresPart("0000", PostgresConfig(db, on_refused=broken))
    part.write_batch([batch_of([decision(2, "\0")])])
    with pytest.raises(OSError, match="the topic is closed"):
        part.snapshot()
    part.close()


def test_an_unprepared_database_ends_the_flow(empty_db: str) -> None:
    with ended_by(TerminalError, "run `attune db migrate`"):
        run_main(flow_of(items(3), PostgresConfig(empty_db, parts=2)), epoch_interval=timedelta(0))


def test_after_a_lasting_fault_every_call_raises_it(db: str) -> None:
    part = PostgresPart("0000", PostgresConfig(db))
    part.write_batch([batch_of([engagement(1)])])
    part.snapshot()
    do(db, "DROP TABLE engagement_metrics CASCADE")
    part.write_batch([batch_of([engagement(2)])])
    with pytest.raises(TerminalError, match="run `attune db migrate`"):
        part.snapshot()
    with pytest.raises(TerminalError):
        part.write_batch([batch_of([engagement(3)])])
    part.close()


def test_a_database_that_goes_away_holds_the_flow_and_loses_nothing(stoppable: LocalPostgres) -> None:
    stopped = threading.Event()
    retries = metric("attune_postgres_retries_total")

    def restart() -> None:
        while metric("attune_postgres_retries_total") < retries + 2 and not stopped.wait(0.01):
            pass
        stoppable.start()

    def stop_at_ten(item: Item) -> Item:
        if item[1].ids == source[10][1].ids:
            stoppable.stop()
            threading.Thread(target=restart).start()
        return item

    source = items(30)
    flow = Dataflow("archive")
    stream = op.input("in", flow, TestingSource(source, batch_size=1))
    stream = op.map("stop", stream, stop_at_ten)
    op.output("out", stream, PostgresSink(PostgresConfig(stoppable.conninfo, parts=2)))
    try:
        run_main(flow, epoch_interval=timedelta(0))
    finally:
        stopped.set()
    assert metric("attune_postgres_retries_total") >= retries + 2
    assert numbers(stoppable.conninfo) == list(range(300))


def test_a_flow_that_ends_does_not_wait_for_ever_for_a_database_that_is_away(stoppable: LocalPostgres) -> None:
    part = PostgresPart("away", PostgresConfig(stoppable.conninfo, close_s=0.2))
    part.write_batch([batch_of([engagement(1)])])
    part.snapshot()
    assert metric("attune_postgres_waiting_records", part="away") == 0
    stoppable.stop()
    part.write_batch([batch_of([engagement(2)])])
    assert metric("attune_postgres_waiting_records", part="away") == 1
    with capture_logs() as logs:
        part.close()
    assert [(line["log_level"], line.get("records")) for line in logs if line["log_level"] == "error"] == [("error", 1)]
    assert "attune-postgres-away" not in threads()


def test_a_part_that_the_engine_drops_leaves_no_thread(db: str) -> None:
    part = PostgresPart("dropped", PostgresConfig(db, limits=Limits(max_age_s=3600)))
    assert "attune-postgres-dropped" in threads()
    del part
    gc.collect()
    for _ in range(600):
        if "attune-postgres-dropped" not in threads():
            break
        threading.Event().wait(0.05)
    assert "attune-postgres-dropped" not in threads()


def test_a_part_is_chosen_by_key_alone() -> None:
    sink = PostgresSink(PostgresConfig("", parts=3))
    assert sink.list_parts()[:3] == ["0000", "0001", "0002"]
    assert {sink.part_fn(f"key-{n}") for n in range(20)} == {0, 1, 2}


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(PostgresConfig("host=db password=secret"))


def test_no_part_is_no_sink() -> None:
    with pytest.raises(ConfigError, match="at least one part"):
        PostgresSink(PostgresConfig("", parts=0))


def test_a_wrong_password_ends_the_flow(db: str) -> None:
    with ended_by(ConfigError, "refuses"):
        run_main(flow_of(items(3), PostgresConfig(db + " user=nobody_like_this")), epoch_interval=timedelta(0))
