"""The conductor as it runs in production: a process of its own, real Kafka, real PostgreSQL, kills and outages."""

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from urllib.parse import quote

import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from flows.local.postgres import LocalPostgres
from schemas.registry import INBOUND_TOPICS, OUTBOUND
from sinks.postgres import migrate
from tests.events import event
from tests.fix_kafka import Broker, wait_until
from tests.fix_postgres import ask
from tests.flows.end_to_end import Conductor, Log, Reader, ahead, events, expected, spoil, stopped, until_told
from tests.model_input import Unusable, judge

pytestmark = pytest.mark.timeout(420)


@pytest.fixture
def broker(kafka_broker: Broker) -> Broker:
    """Return a broker of the test's own, with the topics made."""
    Log(kafka_broker.address).make_topics()
    return kafka_broker


@pytest.fixture
def conductors() -> Iterator[list[Conductor]]:
    """Conductors that end with their test, however that ends."""
    started: list[Conductor] = []
    yield started
    for conductor in started:
        if conductor.running():
            conductor.kill()


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


@pytest.mark.parametrize(
    "arguments", [(), ("--workers", "2"), ("--processes", "2")], ids=["one", "threads", "processes"]
)
def test_the_same_records_as_the_replay(
    broker: Broker, conductors: list[Conductor], reader: Reader, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    lines = spoil(events(1, sessions=5, people=15, minutes=6, start=ahead()), Random(1), 0.02)
    wanted = expected(lines, tmp_path / "replay")
    log = Log(broker.address)
    log.write(lines)
    log.end()
    conductor = Conductor(tmp_path, broker.address, "--sink", "kafka", *arguments)
    conductors.append(conductor)
    conductor.start()
    until_told(conductor, reader, wanted)
    told = stopped(conductor, reader)
    assert told.records == wanted
    bad = letters(told.of_type("dead_letter"))
    used = sum(json.loads(line)["events"] for line in told.of_type("session").values())
    good = [line for line in lines if not isinstance(judge(line), Unusable)]
    repeats = len(good) - len(set(good))
    assert "late" not in bad
    assert used + repeats + sum(bad.values()) == len(lines)


def test_killed_ten_times(broker: Broker, conductors: list[Conductor], reader: Reader, db: str, tmp_path: Path) -> None:
    """``kill -9`` at random while the log flows: topic and table hold everything, with the right values."""
    rng = Random(7)
    start = ahead()
    lines = spoil(events(2, sessions=8, people=40, minutes=20, start=start), rng, 0.01)
    wanted = expected(lines, tmp_path / "replay")
    conductor = Conductor(
        tmp_path, broker.address, "--sink", "kafka", "--sink", "database", ATTUNE_DATABASE__URL=as_url(db)
    )
    conductors.append(conductor)
    log = Log(broker.address)
    cut = next(i for i, line in enumerate(lines) if time_of(line) > start + 19 * 60_000)
    log.write(lines[:cut])
    flowing = threading.Thread(target=trickle, args=(log, lines[cut:]))
    flowing.start()
    for _ in range(10):
        conductor.start()
        time.sleep(rng.uniform(1.5, 4.5))
        conductor.kill()
    flowing.join()
    log.end()
    conductor.start()
    until_told(conductor, reader, wanted)
    bad = sum(isinstance(judge(line), Unusable) for line in lines)
    deadline = time.monotonic() + 60
    while rows(db) < (len(wanted), bad) and time.monotonic() < deadline:
        time.sleep(0.5)
    told = stopped(conductor, reader)
    assert told.records == wanted
    assert rows(db) == (len(wanted), bad)
    for ident, score, chat, left in ask(db, "SELECT id, score, chat_per_min, leave_rate FROM engagement_metrics"):
        record = json.loads(wanted[ident])
        signals = record["signals"]
        assert (score, chat, left) == (record["score"], signals["chat_per_min"], signals["leave_rate"])


def time_of(line: bytes) -> int:
    event = judge(line)
    return 0 if isinstance(event, Unusable) else event.ts


def trickle(log: Log, lines: list[bytes]) -> None:
    """Write a log at the pace of its own clock: what is a second apart there is a second apart here.

    Faster would be unfair: topics are written one after another, and what lies milliseconds apart would look like
    seconds in the log's time, more than the lateness allows.
    """
    begin, first = time.monotonic(), next(t for line in lines if (t := time_of(line)))
    for line in lines:
        wait = (time_of(line) - first) / 1000 - (time.monotonic() - begin)
        if wait > 0:
            time.sleep(wait)
        log.write([line])


def rows(db: str) -> tuple[int, int]:
    """Return how many rows the tables hold: of records, and of dead letters."""
    counts = {
        table: ask(db, SQL("SELECT count(*) FROM {}").format(Identifier(table)))[0][0]
        for table in {entry.table for entry in OUTBOUND.values()}
    }
    dead = counts.pop("dead_letters")
    return sum(counts.values()), dead


def as_url(conninfo: str) -> str:
    parts = conninfo_to_dict(conninfo)
    query = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in parts.items() if key != "dbname")
    return f"postgresql:///{parts['dbname']}?{query}"


def conversations(start: int, count: int, answers: int, every_ms: int) -> list[bytes]:
    """Return the chat of some conversations at once, each of a user's own: calls for people, resolutions, repeats."""
    lines = []
    for i in range(answers * count):
        number, turn, ts = i % count, i // count, start + i * every_ms
        about = {"user": f"u{number}", "session": f"chat-{number}", "event_id": f"e{turn}", "conversation_id": "c"}
        if turn % 4 == 3:
            lines.append(event("handoff.resolved", ts, **about, needed=number % 2 == 0))
        else:
            question = "How do I reset my password?" if turn % 4 == 2 else "I want to talk to a human"
            lines.append(event("chat.answer", ts, **about, question=question, retrieval=[0.9] * 5))
        if i % 10 == 9:
            lines.append(lines[-1])
    return lines


def test_one_decision_for_an_answer_however_often_it_is_killed(
    broker: Broker, conductors: list[Conductor], reader: Reader, tmp_path: Path
) -> None:
    """``kill -9`` while conversations go on: decisions and calls for people are those of a replay, to the byte."""
    lines = conversations(ahead(), count=24, answers=12, every_ms=50)
    wanted = {name: line for name, line in expected(lines, tmp_path / "replay").items() if is_of_chat(name)}
    conductor = Conductor(tmp_path, broker.address, "--sink", "kafka", "--workers", "2")
    conductors.append(conductor)
    log = Log(broker.address)
    flowing = threading.Thread(target=trickle, args=(log, lines))
    flowing.start()
    rng = Random(11)
    for _ in range(4):
        conductor.start()
        time.sleep(rng.uniform(1.5, 3.5))
        conductor.kill()
    flowing.join()
    log.end()
    conductor.start()
    until_told(conductor, reader, wanted)
    told = stopped(conductor, reader)
    # Calibration is left out: it spans the partitions, and how those arrive may differ after a kill.
    found = {name: lines for name, lines in told.payloads.items() if is_of_chat(name)}
    assert found == {name: {line} for name, line in wanted.items()}
    assert sum("/decision/" in name for name in found) == 24 * 9
    assert sum("/handoff/" in name for name in found) == 24 * 3


def is_of_chat(name: str) -> bool:
    return "/decision/" in name or "/handoff/" in name


def test_stopped_for_ten_minutes_while_topics_fill_unevenly(
    broker: Broker, conductors: list[Conductor], reader: Reader, tmp_path: Path
) -> None:
    """Nothing is late after an outage, though one topic is read long before another."""
    start = ahead()
    lines = events(3, sessions=4, people=15, minutes=16, start=start)
    wanted = expected(lines, tmp_path / "replay")
    first, rest = lines[: len(lines) // 4], lines[len(lines) // 4 :]
    log = Log(broker.address)
    log.write(first)
    conductor = Conductor(tmp_path, broker.address, "--sink", "kafka")
    conductors.append(conductor)
    conductor.start()
    deadline = time.monotonic() + 60
    while not reader.read().payloads:
        assert conductor.running(), conductor.log
        assert time.monotonic() < deadline, conductor.log
    assert conductor.stop() == 0, conductor.log
    for topic in reversed(INBOUND_TOPICS):
        log.write(rest, [topic])
    log.end()
    conductor.start()
    until_told(conductor, reader, wanted)
    told = stopped(conductor, reader)
    assert told.records == wanted
    assert not told.of_type("dead_letter")


OUTAGE_S = float(os.environ.get("ATTUNE_TEST_OUTAGE_S", "12"))
"""How long servers stay away in the middle of a test; librdkafka's and our time-outs are shorter than a minute."""


def parted(lines: list[bytes], seconds: float) -> tuple[list[bytes], list[bytes]]:
    """Return the log up to its last seconds, and those."""
    edge = max(map(time_of, lines)) - seconds * 1000
    cut = next(i for i, line in enumerate(lines) if time_of(line) > edge)
    return lines[:cut], lines[cut:]


def test_broker_away_at_the_start_and_in_the_middle(
    broker: Broker, conductors: list[Conductor], tmp_path: Path
) -> None:
    lines = events(4, sessions=4, people=15, minutes=6, start=ahead())
    wanted = expected(lines, tmp_path / "replay")
    before, after = parted(lines, 12)
    log = Log(broker.address)
    log.write(before)
    broker.stop()
    conductor = Conductor(tmp_path, broker.address, "--sink", "kafka", ATTUNE_KAFKA__PREFLIGHT_TIMEOUT_S="3")
    conductors.append(conductor)
    conductor.start()
    wait_until(lambda: not conductor.running(), "the conductor to give up")
    assert broker.address in conductor.log
    assert "Traceback" not in conductor.log
    broker.start()
    conductor.start()
    reader = Reader(broker.address)
    wait_until(lambda: bool(reader.read().payloads) or not conductor.running(), "first records")
    broker.stop()
    time.sleep(OUTAGE_S)
    assert conductor.running(), conductor.log
    broker.start()
    trickle(log, after)
    log.end()
    until_told(conductor, reader, wanted)
    told = stopped(conductor, reader)
    reader.close()
    assert told.records == wanted


def test_database_away_in_the_middle(
    broker: Broker, conductors: list[Conductor], reader: Reader, stoppable: LocalPostgres, tmp_path: Path
) -> None:
    lines = events(5, sessions=4, people=15, minutes=6, start=ahead())
    wanted = expected(lines, tmp_path / "replay")
    before, after = parted(lines, OUTAGE_S)
    migrate(stoppable.conninfo)
    url = as_url(stoppable.conninfo)
    conductor = Conductor(tmp_path, broker.address, "--sink", "kafka", "--sink", "database", ATTUNE_DATABASE__URL=url)
    conductors.append(conductor)
    log = Log(broker.address)
    log.write(before)
    conductor.start()
    wait_until(lambda: rows(stoppable.conninfo)[0] > 0 or not conductor.running(), "first rows")
    stoppable.stop()
    trickle(log, after)
    log.end()
    assert conductor.running(), conductor.log
    stoppable.start()
    until_told(conductor, reader, wanted)
    wait_until(lambda: rows(stoppable.conninfo)[0] >= len(wanted), "all rows")
    told = stopped(conductor, reader)
    assert rows(stoppable.conninfo) == (len(wanted), 0)
    assert told.records == wanted
