"""Commands against a broker: what they put there, what they run, and how they end."""

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from flows.local.kafka import mock_kafka
from flows.local.postgres import LocalPostgres
from schemas.outbound import AnyRecord, Engagement
from schemas.registry import INBOUND_TOPICS, OUTBOUND_TOPICS
from sinks.kafka import KafkaSinkConfig, produce_raw
from tests.fix_postgres import ask
from tests.flows.running import DEADLINE_S, ENGAGEMENT, attune, letter, start

PARTITIONS = 2


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with mock_kafka([*INBOUND_TOPICS, *OUTBOUND_TOPICS], PARTITIONS) as address:
        yield address


@pytest.fixture
def own_broker() -> Iterator[str]:
    """Give a broker with nothing of other tests' on it."""
    with mock_kafka([*INBOUND_TOPICS, *OUTBOUND_TOPICS], PARTITIONS) as address:
        yield address


def variables(broker: str) -> dict[str, str]:
    return {
        "ATTUNE_KAFKA__BOOTSTRAP_SERVERS": broker,
        "ATTUNE_KAFKA__START": "earliest",
        "ATTUNE_METRICS__PORT": "0",
        "ATTUNE_GATEWAY__PORT": "0",
        "ATTUNE_RECOVERY__EPOCH_INTERVAL_S": "1",
        "ATTUNE_LOG__FORMAT": "json",
    }


def consumed(broker: str, topic: str, enough: int) -> list[tuple[bytes, bytes]]:
    """Return key and value of what lies in a topic, once it is ``enough``."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
    found: list[tuple[bytes, bytes]] = []
    deadline = time.monotonic() + DEADLINE_S
    try:
        while len(found) < enough and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                found.append((message.key() or b"", message.value() or b""))
    finally:
        consumer.close()
    return found


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_dead_letters_go_from_their_topic_back_to_where_they_were_only_when_told(broker: str, tmp_path: Path) -> None:
    letters = [letter(str(n), topic="attune.effects.v1", payload=f'{{"mended": {n}}}') for n in range(3)]
    messages = [("attune.deadletters.v1", None, b"t/s", msgspec.json.encode(each)) for each in letters]
    assert produce_raw(KafkaSinkConfig(bootstrap_servers=broker, delivery_timeout_s=30), messages) == 3
    dry = attune("deadletters", "replay", cwd=tmp_path, **variables(broker))
    assert "3 of 3 dead letters would be put back" in dry.stdout, dry.stderr
    done = attune("deadletters", "replay", "--id", "1", "--yes", cwd=tmp_path, **variables(broker))
    assert done.returncode == 0, done.stderr
    assert consumed(broker, "attune.effects.v1", 1) == [(b"t/s", b'{"mended": 1}')]


def test_the_archive_stores_what_the_topics_hold(broker: str, db: str, tmp_path: Path) -> None:
    records = [ENGAGEMENT | {"id": f"t/archived/0/engagement/{n}", "session_id": "archived", "ts": n} for n in range(9)]
    messages = [("attune.engagement.v1", None, b"t/archived", json.dumps(record).encode()) for record in records]
    messages.append(("attune.emotions.v1", None, b"t/archived", b"{}"))
    produce_raw(KafkaSinkConfig(bootstrap_servers=broker, delivery_timeout_s=30), messages)
    process = start(["run", "archive"], tmp_path, **variables(broker), ATTUNE_DATABASE__URL=db)
    stored = "SELECT count(*) FROM engagement_metrics WHERE session_id = %s"
    refused = "SELECT count(*) FROM dead_letters WHERE source_topic = %s AND reason = %s"
    try:
        wait_for(lambda: ask(db, stored, "archived") == [(9,)], "the records are not in the database")
        wait_for(
            lambda: ask(db, refused, "attune.emotions.v1", "malformed_json") == [(1,)],
            "what is no record is not among the dead letters",
        )
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert db not in err


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_database_that_goes_away_under_load_holds_the_archive_and_loses_nothing(
    broker: str, stoppable: LocalPostgres, tmp_path: Path
) -> None:
    def send(first: int, count: int) -> None:
        records = [
            ENGAGEMENT | {"id": f"t/outage-{n % 50}/0/engagement/{n}", "session_id": f"outage-{n % 50}", "ts": n}
            for n in range(first, first + count)
        ]
        messages = [
            ("attune.engagement.v1", None, f"t/{record['session_id']}".encode(), json.dumps(record).encode())
            for record in records
        ]
        assert produce_raw(KafkaSinkConfig(bootstrap_servers=broker, delivery_timeout_s=30), messages) == count

    def stored() -> int:
        found = ask(stoppable.conninfo, "SELECT count(*) FROM engagement_metrics WHERE session_id LIKE 'outage-%%'")
        return int(found[0][0])

    def retried() -> bool:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            told = re.search(rb"^attune_postgres_retries_total ([\d.]+)$", answer.read(), re.MULTILINE)
        return told is not None and float(told[1]) >= 2

    port = free_port()
    send(0, 10_000)
    extra = variables(broker) | {"ATTUNE_METRICS__PORT": str(port), "ATTUNE_DATABASE__MAX_ROWS": "500"}
    flow = ["run", "archive", "--recovery", str(tmp_path / "recovery"), "--workers", "2"]
    process = start(flow, tmp_path, **extra, ATTUNE_DATABASE__URL=stoppable.conninfo)
    try:
        wait_for(lambda: stored() > 0, "nothing arrives")
        stoppable.stop()
        send(10_000, 10_000)
        wait_for(retried, "the flow does not try again")
        assert process.poll() is None
        stoppable.start()
        wait_for(lambda: stored() == 20_000, "not all has arrived")
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert err.count("the database is back") in (1, 2), "once for each connection: it never started again"
    assert stoppable.conninfo not in err


def test_topics_are_created_once_and_differences_are_told(kafka: str, tmp_path: Path) -> None:
    names = {topic: f"{topic}.{tmp_path.name}" for topic in (*INBOUND_TOPICS, *OUTBOUND_TOPICS)}
    extra = variables(kafka) | {"ATTUNE_KAFKA__TOPICS": json.dumps(names), "ATTUNE_KAFKA__REPLICATION_FACTOR": "1"}
    first = attune("topics", "create", cwd=tmp_path, **extra, ATTUNE_KAFKA__PARTITIONS="2")
    assert first.returncode == 0, first.stderr
    assert first.stdout.count(" created\n") == len(names)
    again = attune("topics", "create", cwd=tmp_path, **extra, ATTUNE_KAFKA__PARTITIONS="2")
    assert again.returncode == 0
    assert again.stdout.count(" exists\n") == len(names)
    other = attune("topics", "create", cwd=tmp_path, **extra, ATTUNE_KAFKA__PARTITIONS="3")
    assert other.returncode == 1
    assert other.stdout.count("differs: it has 2 partitions, not 3") == len(names)


def test_the_conductor_runs_until_it_is_told_and_ends_with_0(own_broker: str, tmp_path: Path) -> None:
    sent = attune("generate", "--kafka", "--start", "now", "--minutes", "1", cwd=tmp_path, **variables(own_broker))
    assert sent.returncode == 0, sent.stderr
    flags = ["run", "conductor", "--workers", "2", "--recovery", "store", "--sink", "kafka", "--sink", "gateway"]
    process = start(flags, tmp_path, **variables(own_broker))
    try:
        records = consumed(own_broker, "attune.engagement.v1", 20)
        assert len(records) >= 20
        assert all(isinstance(msgspec.json.decode(value, type=AnyRecord), Engagement) for _, value in records)
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert "panicked" not in err
    assert [json.loads(line)["event"] for line in err.splitlines() if line.startswith("{")][-2:] == [
        "stopping",
        "flow ended",
    ]
    assert out == ""
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def started(process: subprocess.Popen[str], count: int) -> list[str]:
    """Read the cluster's log until ``count`` processes run their flow."""
    assert process.stderr is not None
    lines: list[str] = []
    while sum('"flow starts"' in line for line in lines) < count:
        line = process.stderr.readline()
        assert line, f"ended too soon: {lines}"
        lines.append(line)
    return lines


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_cluster_of_processes_ends_as_one(how: signal.Signals, broker: str, tmp_path: Path) -> None:
    flags = ["run", "conductor", "--processes", "2", "--recovery", "store", "--sink", "kafka"]
    process = start(flags, tmp_path, **variables(broker))
    started(process, 2)
    pids = children(process.pid)
    assert len(pids) == 2
    process.send_signal(how)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert err.count('"flow ended"') == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_process_that_fails_ends_the_cluster(broker: str, tmp_path: Path) -> None:
    flags = ["run", "conductor", "--processes", "2", "--sink", "kafka"]
    process = start(flags, tmp_path, **variables(broker))
    started(process, 2)
    pids = children(process.pid)
    os.kill(pids[1], signal.SIGKILL)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert '"process failed"' in err
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_no_child_outlives_a_killed_parent(broker: str, tmp_path: Path) -> None:
    process = start(["run", "conductor", "--processes", "2", "--sink", "kafka"], tmp_path, **variables(broker))
    started(process, 2)
    pids = children(process.pid)
    process.kill()
    process.communicate(timeout=DEADLINE_S)
    wait_for(lambda: not any(running(pid) for pid in pids), "the children still run")


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with mock_kafka([], 1) as address:
        taken = address.rpartition(":")[2]
        for section in ("metrics", "gateway"):
            extra = variables(address) | {f"ATTUNE_{section.upper()}__PORT": taken}
            result = attune("run", "conductor", "--sink", "gateway", cwd=tmp_path, **extra)
            assert result.returncode == 1
            assert taken in result.stderr
            assert result.stderr.splitlines()[-1].startswith("error: ")
            assert "Traceback" not in result.stderr


def test_demo_shows_scores_and_ends_by_itself_with_nothing_left(open_folder: Path) -> None:
    scratch = open_folder / "scratch"
    scratch.mkdir(mode=0o777)
    scratch.chmod(0o777)
    browser = open_folder / "browser"
    browser.write_text('#!/bin/sh\necho "$1" > opened\n', encoding="ascii")
    browser.chmod(0o755)
    settings = {"TMPDIR": str(scratch), "BROWSER": f"{browser} %s"}
    ports = {"ATTUNE_COLLECTOR__PORT": "0", "ATTUNE_METRICS__PORT": "0"}
    arguments = ["demo", "--seconds", "14", "--port", "0", "--open"]
    with start(arguments, open_folder, **settings, **ports) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with urlopen(url, timeout=10) as page:  # noqa: S310 - the demo's own address
            assert page.status == 200
        with urlopen(f"{url}health/ready", timeout=10) as health:  # noqa: S310 - the demo's own address
            assert json.loads(health.read())["kafka"] == "ok"
        pids = children(process.pid)
        out, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, err
        assert "all-hands-1" in out
        assert (open_folder / "opened").read_text(encoding="ascii").strip() == url
        assert " records out" in err
        assert not any(running(pid) for pid in pids)
        assert list(scratch.iterdir()) == []
