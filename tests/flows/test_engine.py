"""Running flows: errors that people can read, stopping well, the recovery store, several processes."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.testing import TestingSink, TestingSource

from flows.conductor import ConductorConfig, build
from flows.engine import Placement, prepare_recovery, run
from flows.lifecycle import stop_on_signals, stop_with_parent
from flows.processes import loopback_addresses
from flows.stoppable import Stoppable
from operators.decode import BatchDecoder
from operators.snapshot import SnapshotError
from schemas.batches import RawBatch
from schemas.errors import ConfigError, TerminalError
from tests.fix_kafka import wait_until


class Counting(FixedPartitionedSource[tuple[str, int], int]):
    """Counts in two parts, and never ends by itself; ``reached`` is set when both have counted to ten."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.reached = threading.Event()

    def list_parts(self) -> list[str]:
        """Return the parts."""
        return ["a", "b"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> "CountingPart":
        """Return a part that goes on where it was."""
        return CountingPart(self, for_part, resume_state or 0)


class CountingPart(StatefulSourcePartition[tuple[str, int], int]):
    def __init__(self, owner: Counting, name: str, number: int) -> None:
        self._owner, self._name, self._number = owner, name, number

    def next_batch(self) -> list[tuple[str, int]]:
        """Return the next number."""
        self._number += 1
        self._owner.counts[self._name] = self._number
        if len(self._owner.counts) == 2 and min(self._owner.counts.values()) >= 10:
            self._owner.reached.set()
        return [("key", self._number)]

    def next_awake(self) -> datetime:
        """Return a moment from now."""
        return datetime.now(UTC) + timedelta(milliseconds=5)

    def snapshot(self) -> int:
        """Return the last number."""
        return self._number


class Draining(FixedPartitionedSink[int, None]):
    """Keeps what it is given apart until a snapshot makes it durable."""

    def __init__(self) -> None:
        self.durable: list[int] = []

    def list_parts(self) -> list[str]:
        """Return the parts."""
        return ["only"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "DrainingPart":
        """Return the part."""
        return DrainingPart(self.durable)


class DrainingPart(StatefulSinkPartition[int, None]):
    def __init__(self, durable: list[int]) -> None:
        self._durable = durable
        self._pending: list[int] = []

    def write_batch(self, values: list[int]) -> None:
        """Take numbers, not yet durable."""
        self._pending += values

    def snapshot(self) -> None:
        """Make durable what was taken."""
        self._durable += self._pending
        self._pending.clear()


def counting(source: Counting, sink: Draining, stop: threading.Event) -> Dataflow:
    flow = Dataflow("counting")
    op.output("out", op.input("in", flow, Stoppable(source, stop)), sink)
    return flow


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stopped_flow_drains_its_sinks_and_goes_on_where_it_ended(tmp_path: Path, workers: int) -> None:
    written: list[int] = []
    reached = {"a": 0, "b": 0}
    for _ in range(2):
        source, sink, stop = Counting(), Draining(), threading.Event()
        recovery = prepare_recovery(tmp_path / "store", 2)
        threading.Thread(target=lambda s=source, t=stop: (s.reached.wait(30), t.set()), daemon=True).start()
        run(counting(source, sink, stop), Placement(workers=workers), 60.0, recovery)
        written += sink.durable
        reached = dict(source.counts)
    assert sorted(written) == sorted(n for count in reached.values() for n in range(1, count + 1))


class BrokenError(Exception):
    """Not one of ours."""


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("error", [TerminalError("the cause: what to do"), BrokenError("unforeseen")])
def test_an_error_inside_the_flow_reaches_the_caller_in_words(
    workers: int, error: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_item: int) -> int:
        raise error

    flow = Dataflow("failing")
    items: list[int] = []
    op.output("out", op.map("fail", op.input("in", flow, TestingSource([1])), fail), TestingSink(items))
    with pytest.raises(TerminalError) as caught:
        run(flow, Placement(workers=workers), 10.0)
    if isinstance(error, TerminalError):
        assert caught.value is error
    else:
        assert str(caught.value).startswith("flow failing: unforeseen (")
        assert "ATTUNE_DEBUG=1" in str(caught.value)
    assert "panicked" not in capfd.readouterr().err


def test_state_that_does_not_fit_is_refused_with_its_folder_and_what_to_do(tmp_path: Path) -> None:
    store = prepare_recovery(tmp_path / "store", 1)

    def judge(shards: int) -> None:
        config = ConductorConfig(shards=shards, anomalies=None, emotions=None)
        batches = [raw([b"{}"], offset) for offset in range(4)]
        run(build(config, TestingSource(batches), {"all": TestingSink([])}), Placement(), 0.0, store)

    judge(2)
    with pytest.raises(SnapshotError) as caught:
        judge(3)
    told = str(caught.value)
    assert told.startswith(f"recovery folder {tmp_path / 'store'}: the recovery store holds ")
    assert "in 2 shards, got window.shards = 3" in told
    assert "or start with an empty recovery folder" in told
    assert "## Upgrade" in (Path(__file__).parents[2] / "docs" / "operations.md").read_text(encoding="utf-8")


def test_the_engines_api_opens_no_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BYTEWAX_DATAFLOW_API_ENABLED", "1")
    monkeypatch.chdir(tmp_path)
    flow = Dataflow("quiet")
    listening: list[str] = []

    def look(item: int) -> int:
        listening.extend(line for line in Path("/proc/net/tcp").read_text().splitlines() if ":0BD6 " in line)
        return item

    items: list[int] = []
    op.output("out", op.map("look", op.input("in", flow, TestingSource([1])), look), TestingSink(items))
    run(flow, Placement(), 10.0)
    assert items == [1]
    assert listening == []
    assert list(tmp_path.iterdir()) == []


def test_the_recovery_folder_is_made_for_this_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "store"
    prepare_recovery(folder, 3)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(list(folder.iterdir())) == 3
    prepare_recovery(folder, 3)


def test_who_is_killed_while_the_recovery_folder_is_made_starts_again(tmp_path: Path) -> None:
    folder, partitions = tmp_path / "store", 50
    code = (
        f"from pathlib import Path; from flows.engine import prepare_recovery; prepare_recovery(Path({str(folder)!r}), "
    )
    with subprocess.Popen([sys.executable, "-c", f"{code}{partitions})"]) as process:
        wait_until(lambda: process.poll() is not None or len(list(folder.glob("part-*"))) > 3, "the first parts")
        process.kill()
    assert len(list(folder.glob("part-*.sqlite3"))) < partitions, "it was quicker than the kill: nothing is shown"
    prepare_recovery(folder, partitions)
    assert len(list(folder.glob("part-*.sqlite3"))) == len(list(folder.iterdir())) == partitions


def test_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    prepare_recovery(tmp_path / "store", 3)
    with pytest.raises(ConfigError, match=r"made with 3 partitions .* got recovery\.partitions = 4; set it to 3"):
        prepare_recovery(tmp_path / "store", 4)


def test_a_recovery_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o755)
    (tmp_path / "store").chmod(0o755)
    with pytest.raises(ConfigError, match=r"mode 0755 .* run as code"):
        prepare_recovery(tmp_path / "store", 1)
    assert list((tmp_path / "store").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_flag_and_handlers_are_put_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals(threading.Event()) as stop:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        assert stop.wait(10)
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import os, signal, threading, time\n"
        "from flows.lifecycle import stop_on_signals\n"
        "with stop_on_signals(threading.Event()) as stop:\n"
        "    os.kill(os.getpid(), signal.SIGTERM); assert stop.wait(10)\n"
        "    os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], timeout=50, check=False, capture_output=True)
    assert result.returncode == -signal.SIGTERM


def test_a_process_whose_parent_is_gone_stops() -> None:
    stop = threading.Event()
    stop_with_parent(stop, os.getpid(), poll_s=0.01)
    assert stop.wait(30), "its parent is another one than it was told"


def test_a_process_whose_parent_lives_goes_on() -> None:
    stop = threading.Event()
    watch = stop_with_parent(stop, os.getppid(), poll_s=0.01)
    assert not stop.wait(0.2)
    stop.set()
    watch.join(10)
    assert not watch.is_alive()


def test_addresses_of_a_cluster_are_loopback_and_differ() -> None:
    addresses = loopback_addresses(8)
    assert len(set(addresses)) == 8
    assert all(address.startswith("127.0.0.1:") for address in addresses)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_keeps_its_decoder(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder holds caches, and what the shards were told: one for each call would be slow, not wrong."""
    made = []
    plain = BatchDecoder.__init__

    def counted(self: BatchDecoder, *arguments: Any) -> None:
        made.append(threading.get_ident())
        plain(self, *arguments)

    monkeypatch.setattr(BatchDecoder, "__init__", counted)
    batches = [raw([b"{}"], offset) for offset in range(40)]
    letters: list[Any] = []
    config = ConductorConfig(shards=2, anomalies=None, emotions=None)
    run(build(config, TestingSource(batches), {"all": TestingSink(letters)}), Placement(workers=workers), 10.0)
    assert sum(len(records) for _, records in letters) == 40
    assert 1 <= len(made) <= workers
    assert len(set(made)) == len(made)


def raw(values: list[bytes | None], offset: int) -> RawBatch:
    """Return a batch of one partition that begins at an offset."""
    n = len(values)
    stamps = np.full(n, 1_767_225_600_000)
    return RawBatch(0, ("events",), values, stamps, np.zeros(n, np.uint16), np.arange(offset, offset + n), 0)


def test_the_store_is_written_in_large_pages(tmp_path: Path) -> None:
    prepare_recovery(tmp_path / "store", 2)
    parts = list((tmp_path / "store").glob("part-*"))
    assert len(parts) == 2
    for part in parts:
        with closing(sqlite3.connect(part)) as database:
            assert database.execute("PRAGMA page_size").fetchone() == (65_536,)
            assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
