"""The conductor as it runs in production: a process of its own, real Kafka, real PostgreSQL, kills and outages."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from schemas.registry import INBOUND_TOPICS
from sinks.postgres import migrate
from tests.fix_kafka import Broker
from tests.fix_postgres import ask
from tests.flows.end_to_end import Conductor, Log, Reader, ahead, events, expected, in_parts, spoil, until_told

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
def broker(kafka_broker: Broker) -> Broker:
    """A broker of the test's own, with the topics made."""
    Log(kafka_broker.address).make_topics()
    return kafka_broker


@pytest.fixture
def reader(broker: Broker) -> Iterator[Reader]:
    reads = Reader(broker.address)
    yield reads
    reads.close()


def letters(told: dict[str, bytes]) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for payload in told.values():
        reason = json.loads(payload)["reason"]
        reasons[reason] = reasons.get(reason, 0) + 1
    return reasons


@pytest.mark.parametrize("arguments", [(), ("--workers", "2"), ("--processes", "2")], ids=["one", "threads", "processes"])
def test_the_same_records_as_the_replay(
    broker: Broker, reader: Reader, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    lines = spoil(events(1, sessions=5, people=15, minutes=6, start=ahead()), Random(1), 0.02)
    wanted = expected(lines, tmp_path / "replay")
    log = Log(broker.address)
    log.write(lines)
    log.end()
    conductor = Conductor(tmp_path, broker.address, "--sink", "kafka", *arguments)
    conductor.start()
    told = until_told(conductor, reader, wanted)
    assert conductor.stop() == 0, conductor.log
    found = told.of_type("engagement") | told.of_type("session")
    assert found == wanted
    bad = sum(count for reason, count in letters(told.of_type("dead_letter")).items() if reason != "late")
    events_used = sum(json.loads(line)["events"] for line in told.of_type("session").values())
    assert events_used + bad == len(lines)
    assert "late" not in letters(told.of_type("dead_letter"))


def test_killed_ten_times(broker: Broker, reader: Reader, db: str, tmp_path: Path) -> None:
    """``kill -9`` at random while the log flows: topic and table hold everything, with the right values."""
    rng = Random(7)
    lines = spoil(events(2, sessions=6, people=20, minutes=25, start=ahead()), rng, 0.01)
    wanted = expected(lines, tmp_path / "replay")
    conductor = Conductor(
        tmp_path, broker.address, "--sink", "kafka", "--sink", "database", ATTUNE_DATABASE__URL=as_url(db)
    )
    log = Log(broker.address)
    flowing = threading.Thread(target=trickle, args=(log, lines, 22.0))
    flowing.start()
    for _ in range(10):
        conductor.start()
        time.sleep(rng.uniform(1.5, 4.0))
        conductor.kill()
    flowing.join()
    log.end()
    conductor.start()
    told = until_told(conductor, reader, wanted)
    bad = len(lines) - sum(json.loads(wanted[name])["events"] for name in wanted if name.endswith("/session"))
    deadline = time.monotonic() + 60
    while rows(db) < (len(wanted), bad) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert conductor.stop() == 0, conductor.log
    assert told.of_type("engagement") | told.of_type("session") == wanted
    assert rows(db) == (len(wanted), bad)
    for ident, score, chat, left in ask(db, "SELECT id, score, chat_per_min, leave_rate FROM engagement_metrics"):
        record = json.loads(wanted[ident])
        signals = record["signals"]
        assert (score, chat, left) == (record["score"], signals["chat_per_min"], signals["leave_rate"])


def trickle(log: Log, lines: list[bytes], seconds: float) -> None:
    """Write a log over some seconds."""
    for part in in_parts(lines, 40):
        log.write(part)
        time.sleep(seconds / 40)


def rows(db: str) -> tuple[int, int]:
    ((told,),) = ask(db, "SELECT (SELECT count(*) FROM engagement_metrics) + (SELECT count(*) FROM sessions)")
    ((dead,),) = ask(db, "SELECT count(*) FROM dead_letters")
    return told, dead


def as_url(conninfo: str) -> str:
    from urllib.parse import quote

    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(conninfo)
    query = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in parts.items() if key != "dbname")
    return f"postgresql:///{parts['dbname']}?{query}"


def test_stopped_for_ten_minutes_while_topics_fill_unevenly(broker: Broker, reader: Reader, tmp_path: Path) -> None:
    """Nothing is late after an outage, though one topic is read long before another."""
    start = ahead()
    lines = events(3, sessions=4, people=15, minutes=16, start=start)
    wanted = expected(lines, tmp_path / "replay")
    first = [line for line in lines if json.loads(line)["ts"] < start + 4 * 60_000]
    log = Log(broker.address)
    log.write(first)
    conductor = Conductor(tmp_path, broker.address, "--sink", "kafka")
    conductor.start()
    deadline = time.monotonic() + 60
    while not reader.read().payloads:
        assert conductor.running() and time.monotonic() < deadline, conductor.log
    assert conductor.stop() == 0, conductor.log
    rest = lines[len(first) :]
    for topic in reversed(INBOUND_TOPICS):
        log.write(rest, [topic])
    log.end()
    conductor.start()
    told = until_told(conductor, reader, wanted)
    assert conductor.stop() == 0, conductor.log
    assert told.of_type("engagement") | told.of_type("session") == wanted
    assert not told.of_type("dead_letter")


def test_broker_away_at_the_start_and_in_the_middle(broker: Broker, tmp_path: Path) -> None:
    lines = events(4, sessions=4, people=15, minutes=10, start=ahead())
    wanted = expected(lines, tmp_path / "replay")
    log = Log(broker.address)
    half = len(lines) // 2
    log.write(lines[:half])
    broker.stop()
    conductor = Conductor(tmp_path, broker.address, "--sink", "kafka", ATTUNE_KAFKA__PREFLIGHT_TIMEOUT_S="3")
    conductor.start()
    deadline = time.monotonic() + 30
    while conductor.running():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert broker.address in conductor.log
    assert "Traceback" not in conductor.log
    broker.start()
    conductor.start()
    reader = Reader(broker.address)
    while not reader.read().payloads:
        assert conductor.running(), conductor.log
    broker.stop()
    time.sleep(20)
    assert conductor.running(), conductor.log
    broker.start()
    log.write(lines[half:])
    log.end()
    told = until_told(conductor, reader, wanted)
    reader.close()
    assert conductor.stop() == 0, conductor.log
    assert told.of_type("engagement") | told.of_type("session") == wanted


def test_database_away_in_the_middle(broker: Broker, reader: Reader, stoppable, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    lines = events(5, sessions=4, people=15, minutes=10, start=ahead())
    wanted = expected(lines, tmp_path / "replay")
    migrate(stoppable.conninfo)
    conductor = Conductor(
        tmp_path, broker.address, "--sink", "kafka", "--sink", "database",
        ATTUNE_DATABASE__URL=as_url(stoppable.conninfo),
    )  # fmt: skip
    log = Log(broker.address)
    log.write(lines[: len(lines) // 2])
    conductor.start()
    deadline = time.monotonic() + 60
    while rows(stoppable.conninfo)[0] == 0:
        assert conductor.running() and time.monotonic() < deadline, conductor.log
        time.sleep(0.2)
    stoppable.stop()
    log.write(lines[len(lines) // 2 :])
    log.end()
    time.sleep(15)
    assert conductor.running(), conductor.log
    stoppable.start()
    told = until_told(conductor, reader, wanted)
    deadline = time.monotonic() + 60
    while rows(stoppable.conninfo)[0] < len(wanted) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert conductor.stop() == 0, conductor.log
    assert rows(stoppable.conninfo) == (len(wanted), 0)
    assert told.of_type("engagement") | told.of_type("session") == wanted
