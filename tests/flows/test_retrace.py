"""Why a tick was, or was not, an anomaly: what is told agrees with what the flow told there."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from flows.conductor import ConductorConfig
from flows.replay import replay
from flows.retrace import retrace
from operators.config import ScoreConfig
from schemas.errors import ConfigError
from tests.live_log import live_event_log

START = 1_700_000_000_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a log of two sessions: many people leave the first, the second has too few for an audience."""
    records = live_event_log(3, people=40, minutes=10, session="big", start=START, exodus=7)
    records += live_event_log(4, people=3, minutes=6, session="small", start=START)
    path = tmp_path_factory.mktemp("retrace") / "log.jsonl"
    lines = sorted((record.raw or b"" for record in records), key=lambda line: json.loads(line)["ts"])
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def anomalies(log: Path) -> list[dict[str, object]]:
    replay([str(log)], log.parent / "out")
    told = (log.parent / "out" / "attune.anomalies.v1.jsonl").read_bytes()
    return [json.loads(line) for line in told.splitlines()]


def test_it_says_what_was_told(log: Path, anomalies: list[dict[str, object]]) -> None:
    raised = [anomaly for anomaly in anomalies if anomaly["state"] == "raised"]
    assert raised
    for anomaly in raised:
        ts = anomaly["ts"]
        assert isinstance(ts, int)
        found = retrace([str(log)], str(anomaly["tenant_id"]), "big", ts, ConductorConfig())
        assert f"{anomaly['anomaly_type']} raised" in found.told
        assert found.why is not None
        assert found.why.anomaly_type == anomaly["anomaly_type"]
        assert all(condition.holds for condition in found.why.conditions[str(anomaly["anomaly_type"])])


def test_it_says_why_there_was_nothing(log: Path, anomalies: list[dict[str, object]]) -> None:
    tenant = str(anomalies[0]["tenant_id"])
    calm = retrace([str(log)], tenant, "big", START + 300_000, ConductorConfig())
    assert calm.told == ()
    assert calm.why is not None
    assert calm.why.anomaly_type is None
    assert all(not all(c.holds for c in conditions) for conditions in calm.why.conditions.values())
    alone = retrace([str(log)], tenant, "small", START + 240_000, ConductorConfig())
    assert (alone.told, alone.why) == ((), None)


def test_ticks_that_are_not_emitted_are_explained_too(log: Path, anomalies: list[dict[str, object]]) -> None:
    seldom = ConductorConfig(score=ScoreConfig(emit="on_change", min_delta=1.0, heartbeat_ms=86_400_000))
    for anomaly in anomalies:
        if anomaly["state"] == "raised":
            ts = anomaly["ts"]
            assert isinstance(ts, int)
            found = retrace([str(log)], str(anomaly["tenant_id"]), "big", ts, seldom)
            assert f"{anomaly['anomaly_type']} raised" in found.told


@pytest.mark.parametrize(
    "session, ts, message",
    [
        ("big", START + 1, "the next is 1700000005000"),
        ("nobody", START + 60_000, "is not in the files"),
        ("big", START + 86_400_000, "has no tick"),
    ],
)
def test_what_is_not_there_is_named(
    log: Path, anomalies: list[dict[str, object]], session: str, ts: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        retrace([str(log)], str(anomalies[0]["tenant_id"]), session, ts, ConductorConfig())


def test_the_command_prints_it(log: Path, anomalies: list[dict[str, object]]) -> None:
    first = anomalies[0]
    arguments = ["explain", str(log), "--session", f"{first['tenant_id']}/big", "--at", str(first["ts"])]
    result = CliRunner(env={"COLUMNS": "120"}).invoke(app, arguments, prog_name="attune")
    assert result.exit_code == 0, result.output
    assert f"told: {first['anomaly_type']} raised" in result.output
    assert "their share of those who were there" in result.output
    wrong = CliRunner().invoke(app, arguments[:-2], prog_name="attune")
    assert wrong.exit_code == 2
