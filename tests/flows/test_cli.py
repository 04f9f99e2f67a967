"""The command line: help, exit codes, what is said where, and the commands end to end."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import msgspec
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.local.kafka import mock_kafka
from schemas.inbound import AnyEvent
from schemas.outbound import AnyRecord, DeadLetter, Detail, Engagement
from schemas.registry import INBOUND_TOPICS, OUTBOUND_TOPICS
from sinks.kafka import KafkaSinkConfig, produce_raw
from tests.fix_postgres import ask

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "demo",
    "run",
    "replay",
    "generate",
    "explain",
    "db migrate",
    "topics create",
    "config check",
    "config show",
    "deadletters replay",
)
DEADLINE_S = 60.0
PARTITIONS = 2


def environment(extra: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    return clean | {"PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1"} | extra


def start(arguments: list[str], cwd: Path, **extra: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, env=environment(extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def attune(*arguments: str, cwd: Path, stdin: str = "", **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *arguments],
        cwd=cwd,
        env=environment(extra),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


def within(arguments: str) -> Result:
    """Run a command inside this process: quicker, for what starts nothing."""
    return CliRunner(env={"COLUMNS": "120", "NO_COLOR": "1"}).invoke(app, arguments.split(), prog_name="attune")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    result = within(f"{command} --help")
    assert result.exit_code == 0, result.stderr
    assert "Example:" in result.stdout
    assert f"attune {command}" in result.stdout or command == "explain"
    assert result.stderr == ""


def test_help_names_every_command(tmp_path: Path) -> None:
    told = attune("--help", cwd=tmp_path).stdout
    assert all(command.split()[0] in told for command in COMMANDS)


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = (
        "bytewax",
        "confluent_kafka",
        "msgspec",
        "numpy",
        "psycopg",
        "pydantic",
        "river",
        "structlog",
        "websockets",
    )
    code = f"import flows.cli, sys; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment({}), capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_version_is_one_line(tmp_path: Path) -> None:
    result = attune("--version", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.startswith("attune ")


@pytest.mark.parametrize(
    "wrong",
    [
        "dance",
        "run dance",
        "run",
        "run conductor --workers 0",
        "run conductor --process-id 1",
        "run conductor --process-id 2 --addresses a:1;b:2",
        "run conductor --process-id 0 --addresses nowhere",
        "run conductor --processes 2 --process-id 0 --addresses a:1",
        "replay events.jsonl",
        "generate --people 0",
        "generate --scenario opera",
        "generate --start yesterday",
        "generate --kafka --out x",
        "explain nowhere.json",
        "explain . ",
        "deadletters replay --reason boredom",
        "deadletters replay nowhere",
        "demo --seconds 0",
        "config show --yaml",
    ],
)
def test_wrong_use_exits_with_2_and_says_what(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    monkeypatch.chdir(tmp_path)
    result = within(wrong)
    assert result.exit_code == 2, result.stdout + result.stderr
    assert "Usage:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "fails, says",
    [
        ("config check --config nowhere.toml", "expected a file that is there"),
        ("replay nowhere.jsonl --out out", "nowhere.jsonl: cannot be read"),
        ("db migrate", "ATTUNE_DATABASE__URL"),
        ("explain broken.json", "broken.json:1: not an outbound record"),
        ("explain letter.json", "nothing to explain about dead_letter"),
        ("explain . --id x", "expected a replay's folder"),
        ("generate --out no/such/folder", "No such file"),
    ],
)
def test_a_failure_exits_with_1_and_no_traceback(
    fails: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored_logging: None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text('{"type": "engagement"}\n', encoding="utf-8")
    (tmp_path / "letter.json").write_bytes(msgspec.json.encode(letter("1")))
    result = within(fails)
    assert result.exit_code == 1, result.stdout
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_the_traceback_is_shown_to_who_asks_for_it(tmp_path: Path) -> None:
    quiet, asked = (attune("db", "migrate", cwd=tmp_path, **extra) for extra in ({}, {"ATTUNE_DEBUG": "1"}))
    assert (quiet.returncode, asked.returncode) == (1, 1)
    assert quiet.stderr.startswith("error: database.url: ")
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in asked.stderr


def test_config_check_tells_all_faults_and_what_is_insecure(tmp_path: Path) -> None:
    (tmp_path / "attune.toml").write_text('[kafka]\ngroup = "x"\n[log]\nlevel = "loud"\n', encoding="utf-8")
    result = attune("config", "check", cwd=tmp_path)
    assert result.returncode == 1
    assert "2 faults" in result.stderr
    (tmp_path / "attune.toml").write_text('environment = "production"\n', encoding="utf-8")
    result = attune("config", "check", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stderr.count("warning: INSECURE:") == 2


def test_config_show_masks_secrets(tmp_path: Path) -> None:
    for form in ([], ["--json"]):
        result = attune("config", "show", *form, cwd=tmp_path, ATTUNE_KAFKA__OPTIONS__SASL_PASSWORD="hunter2")
        assert result.returncode == 0
        assert "sasl.password" in result.stdout
        assert "hunter2" not in result.stdout + result.stderr


def test_generate_writes_valid_lines_and_stops_quietly_when_nobody_reads(tmp_path: Path) -> None:
    process = start(["generate", "--sessions", "50", "--minutes", "60"], tmp_path)
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    process.stdout.close()
    assert process.wait(DEADLINE_S) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
    msgspec.json.decode(line, type=AnyEvent)


def test_the_conductor_finds_out_the_generators_truth(tmp_path: Path) -> None:
    plan = ("--sessions", "4", "--minutes", "9", "--people", "25", "--seed", "5", "--tenants", "2")
    assert attune("generate", *plan, "--out", "events.jsonl", cwd=tmp_path).returncode == 0
    result = attune("replay", "events.jsonl", "--out", "out", "--workers", "2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    truth = json.loads((tmp_path / "events.jsonl.truth.json").read_bytes())
    records = read(tmp_path / "out" / "attune.engagement.v1.jsonl")
    ticks = {(r["tenant_id"], r["session_id"], r["ts"]): r for r in records}
    summaries = {(r["tenant_id"], r["session_id"]): r for r in read(tmp_path / "out" / "attune.sessions.v1.jsonl")}
    assert read(tmp_path / "out" / "attune.deadletters.v1.jsonl") == []
    for session in truth["sessions"]:
        key = session["tenant_id"], session["session_id"]
        summary = summaries.pop(key)
        both = (summary.keys() & session.keys()) - {"ticks"}
        assert {name: summary[name] for name in both} == {name: session[name] for name in both}
        assert len(both) > 8
        for tick in session["ticks"]:
            record = ticks.pop((*key, tick["ts"]))
            assert {**record["signals"], "score": record["score"], "ts": record["ts"]} == pytest.approx(tick)
    assert summaries == {}
    assert [key for key in ticks if key[2] <= max(s["start_ts"] for s in truth["sessions"])] == []

    # Files, gzip and standard input are one and the same log.
    lines = (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    with gzip.open(tmp_path / "odd.jsonl.gz", "wt", encoding="utf-8") as odd:
        odd.writelines(lines[1::2])
    again = attune("replay", "-", "odd.jsonl.gz", "--out", "again", cwd=tmp_path, stdin="".join(lines[::2]))
    assert again.returncode == 0, again.stderr
    one, other = (tmp_path / folder / "attune.engagement.v1.jsonl" for folder in ("out", "again"))
    assert one.read_bytes() == other.read_bytes()

    shown = attune("explain", "out", "--id", records[40]["id"], "--json", cwd=tmp_path)
    explained = json.loads(shown.stdout)
    assert explained["facts"]["score"] == pytest.approx(records[40]["score"])
    assert sum(row["contribution"] for row in explained["rows"]) == pytest.approx(explained["facts"]["sum"])
    assert attune("explain", "out", "--id", "nobody", cwd=tmp_path).returncode == 1


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


ENGAGEMENT = {
    "type": "engagement",
    "id": "t/s/0/engagement/60000",
    "tenant_id": "t",
    "session_id": "s",
    "ts": 60_000,
    "session_start": 0,
    "score": 0.9,
    "category": "VERY_HIGH",
    "signals": {
        "chat_per_min": 20,
        "reactions_per_min": 10,
        "connected_users": 4,
        "active_users": 4,
        "active_ratio": 1.0,
        "poll_participation": 1.0,
        "leave_rate": 0.0,
    },
    "contributions": {"chat": 0.3, "poll": 0.25, "active": 0.25, "reactions": 0.1, "leaves": 0.0},
}


def test_explain_prints_the_breakdown_of_a_record_from_standard_input(tmp_path: Path) -> None:
    assert isinstance(msgspec.convert(ENGAGEMENT, AnyRecord), Engagement)
    result = attune("explain", cwd=tmp_path, stdin=json.dumps(ENGAGEMENT))
    assert result.returncode == 0, result.stderr
    words = result.stdout.split()
    for expected in ("chat", "poll", "active", "reactions", "leaves", "VERY_HIGH", "0.9000", "0.3000", "MODERATE"):
        assert expected in words
    assert "other settings" not in result.stdout
    other = attune("explain", cwd=tmp_path, stdin=json.dumps(ENGAGEMENT), ATTUNE_ENGAGEMENT__WEIGHTS__CHAT="0.1")
    assert "0.9000 VERY_HIGH: other settings held" in other.stdout


def test_explain_tells_why_an_answer_was_routed_and_an_intervention_held_back(tmp_path: Path) -> None:
    about = {"tenant_id": "t", "session_id": "s", "ts": 1, "id": "x"}
    decision = about | {
        "type": "decision", "conversation_id": "c", "agent_id": "a", "user_id": "u", "path": "escalate", "letter": "D",
        "action": "immediate_escalation", "confidence": 0.2, "level": "VERY_LOW", "similarity": 0.5, "novelty": 0.5,
        "complexity": 0.1, "reason": "low_confidence",
        "signals": [{"name": "hedging", "score": 0.1, "reason": "3 hedging phrases"}],
    }  # fmt: skip
    shown = attune("explain", cwd=tmp_path, stdin=json.dumps(decision))
    assert "3 hedging phrases" in shown.stdout
    assert "low_confidence" in shown.stdout
    intervention = about | {
        "type": "intervention", "intervention": "help_chat", "recipient": "u", "confidence": 0.7, "priority": "HIGH",
        "trigger": {"kind": "emotion", "id": "e1"}, "status": "suppressed", "reason": "cooldown",
    }  # fmt: skip
    shown = attune("explain", cwd=tmp_path, stdin=json.dumps(intervention))
    assert "e1" in shown.stdout
    assert "cooldown" in shown.stdout


def letter(letter_id: str, **fields: Any) -> DeadLetter:
    given: dict[str, Any] = {
        "reason": "refused_by_database",
        "topic": "attune.engagement.v1",
        "payload": json.dumps(ENGAGEMENT),
    }
    return DeadLetter(
        id=letter_id, tenant_id="t", session_id="s", ts=1, detail=Detail("", "", ""), partition=0, offset=0,
        **(given | fields),
    )  # fmt: skip


def test_dead_letters_of_a_replay_are_written_out_to_be_mended(tmp_path: Path) -> None:
    letters = [
        letter("1", reason="invalid_field", topic="events.jsonl", payload='{"type": "reaction"}'),
        letter("2", reason="late", topic="events.jsonl", payload='{"type":\n"reaction"}'),
        letter("3", reason="too_large", topic="events.jsonl", payload="{"),
    ]
    file = tmp_path / "out" / "attune.deadletters.v1.jsonl"
    file.parent.mkdir()
    file.write_bytes(msgspec.json.Encoder().encode_lines(letters))
    dry = attune("deadletters", "replay", "out", "--out", "mend.jsonl", cwd=tmp_path)
    assert dry.returncode == 0, dry.stderr
    assert "2 of 3 dead letters would be put back" in dry.stdout
    assert "stays: 3 (too_large): only the beginning" in dry.stderr
    assert "warning: late: will be late again" in dry.stderr
    assert not (tmp_path / "mend.jsonl").exists()
    done = attune("deadletters", "replay", "out", "--out", "mend.jsonl", "--yes", cwd=tmp_path)
    assert "2 of 3 dead letters were put back" in done.stdout
    assert (tmp_path / "mend.jsonl").read_text() == '{"type": "reaction"}\n{"type": "reaction"}\n'
    one = attune("deadletters", "replay", "out", "--reason", "late", cwd=tmp_path)
    assert "1 of 1 dead letters would be put back" in one.stdout


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
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


def test_the_conductor_runs_until_it_is_told_and_ends_with_0(broker: str, tmp_path: Path) -> None:
    sent = attune("generate", "--kafka", "--start", "now", "--minutes", "1", cwd=tmp_path, **variables(broker))
    assert sent.returncode == 0, sent.stderr
    flags = ["run", "conductor", "--workers", "2", "--recovery", "store", "--sink", "kafka", "--sink", "gateway"]
    process = start(flags, tmp_path, **variables(broker))
    try:
        records = consumed(broker, "attune.engagement.v1", 20)
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


def test_demo_shows_scores_and_ends_by_itself_with_nothing_left(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir(mode=0o777)
    scratch.chmod(0o777)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)  # the database runs as another user when the tests run as root
    process = start(["demo", "--seconds", "14", "--port", "0"], tmp_path, TMPDIR=str(scratch))
    assert process.stdout is not None
    url = process.stdout.readline().split()[-1]
    with urlopen(url, timeout=10) as page:  # noqa: S310 - the demo's own address
        assert page.status == 200
    with urlopen(f"{url}health/ready", timeout=10) as health:  # noqa: S310 - the demo's own address
        assert json.loads(health.read())["kafka"] == "ok"
    pids = children(process.pid)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert "keynote-1" in out
    assert " records out" in err
    assert not any(running(pid) for pid in pids)
    assert list(scratch.iterdir()) == []
