"""The command line: help, exit codes, what is said where, and the commands end to end."""

import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from schemas.inbound import AnyEvent
from schemas.outbound import AnyRecord, Engagement
from tests.flows.running import DEADLINE_S, ENGAGEMENT, ROOT, attune, environment, letter, start

COMMANDS = (
    "demo",
    "run",
    "replay",
    "generate",
    "evaluate anomalies",
    "explain",
    "db migrate",
    "db refresh",
    "db retain",
    "db erase",
    "db dictionary",
    "topics create",
    "config check",
    "config show",
    "deadletters replay",
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
        "explain . ",
        "explain . --conversation c --id x",
        "deadletters replay --reason boredom",
        "demo --seconds 0",
        "config show --yaml",
    ],
)
def test_wrong_use_exits_with_2_and_says_what(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ("explain event.json", "for a log of events give --session and --at"),
        ("explain empty.json", "empty.json:1: nothing was read"),
        ("explain nowhere.json", "nowhere.json is not there"),
        ("explain nowhere --conversation c", "nowhere is not there"),
        ("explain nowhere.jsonl --session a/s --at 5000", "nowhere.jsonl is not there"),
        ("deadletters replay nowhere", "nowhere is not there"),
        ("explain . --id x", "expected a replay's folder"),
        ("generate --out no/such/folder", "No such file"),
    ],
)
def test_a_failure_exits_with_1_and_no_traceback(
    fails: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text('{"type": "engagement"}\n', encoding="utf-8")
    (tmp_path / "event.json").write_text('{"type": "chat.message"}\n', encoding="utf-8")
    (tmp_path / "empty.json").touch()
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
        "complexity": 0.1, "reason": "low_confidence", "rule": 5, "why": "confidence 0.20 below 0.3 (standard)",
        "signals": [{"name": "hedging", "score": 0.1, "reason": "3 hedging phrases"}],
        "rules": [{"rule": 5, "name": "low confidence", "holds": True, "decided": True, "needs": "the action"}],
    }  # fmt: skip
    shown = attune("explain", cwd=tmp_path, stdin=json.dumps(decision))
    assert "3 hedging phrases" in shown.stdout
    assert "low_confidence" in shown.stdout
    assert "> 5 low confidence     yes  needs the action\n" in shown.stdout
    intervention = about | {
        "type": "intervention", "intervention": "help_chat", "recipient": "u", "confidence": 0.7, "priority": "HIGH",
        "trigger": {"kind": "emotion", "id": "e1", "name": "confusion"}, "status": "suppressed",
        "reason": "cooldown", "why": "done 1 s ago, again after 300 s",
    }  # fmt: skip
    shown = attune("explain", cwd=tmp_path, stdin=json.dumps(intervention))
    for expected in ("e1", "emotion confusion", "cooldown", "done 1 s ago, again after 300 s"):
        assert expected in shown.stdout


def test_explain_lists_a_conversation_and_tells_each_decisions_rules(tmp_path: Path) -> None:
    done = attune("replay", str(ROOT / "docs" / "conversation.jsonl"), "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    listed = attune("explain", "out", "--conversation", "c-17", cwd=tmp_path)
    rows = [line.split() for line in listed.stdout.splitlines()]
    assert "".join(row[2] for row in rows) == "ABACDFEAA"
    shown = attune("explain", "out", "--id", rows[4][-1], cwd=tmp_path).stdout
    assert [line[0] for line in shown.splitlines()[-9:]] == [" ", " ", " ", " ", ">", " ", " ", " ", " "]
    as_json = attune("explain", "out", "--conversation", "c-17", "--json", cwd=tmp_path)
    assert [one["letter"] for one in json.loads(as_json.stdout)] == list("ABACDFEAA")
    nobody = attune("explain", "out", "--conversation", "c-18", cwd=tmp_path)
    assert nobody.returncode == 1
    assert 'no answer belongs to the conversation "c-18"' in nobody.stderr


def test_explain_tells_what_calibration_found(tmp_path: Path) -> None:
    attune("replay", str(ROOT / "docs" / "conversation.jsonl"), "--out", "out", cwd=tmp_path)
    told = attune("explain", "out/attune.calibration.v1.jsonl", cwd=tmp_path).stdout
    assert "calibration of acme at" in told
    # One hand-off at 0.52 that was needed, one at 0.925 that was not: ((0.52)² + (1 - 0.925)²) / 2.
    words = " ".join(told.split())
    assert "Brier score 0.1382" in words
    assert "1 resolved said 0.52 on average, and 0.00 needed no person" in words
    assert "answers 9 resolved 2 needed 1" in words


def test_a_replay_says_what_it_set_aside(tmp_path: Path) -> None:
    done = attune("replay", "-", "--out", "out", cwd=tmp_path, stdin="{\n")
    assert done.returncode == 0, done.stderr
    assert f"1 set aside: see {Path('out', 'attune.deadletters.v1.jsonl')}" in done.stderr.splitlines()


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
