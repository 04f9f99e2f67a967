"""``attune run collector``: what it needs, what it refuses, and how it ends."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from flows.local.kafka import mock_kafka
from flows.settings import SettingsError, load
from flows.settings.servers import check, collector_config
from schemas.errors import ConfigError
from schemas.registry import INBOUND_TOPICS
from tests.flows.running import DEADLINE_S, attune, start

SETTINGS = """
[collector.keys.pk-of-the-shop]
tenant = "acme"
origins = ["https://shop.example.org"]
"""


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with mock_kafka(INBOUND_TOPICS, 2) as address:
        yield address


def variables(broker: str) -> dict[str, str]:
    return {
        "ATTUNE_KAFKA__BOOTSTRAP_SERVERS": broker,
        "ATTUNE_KAFKA__PREFLIGHT_TIMEOUT_S": "5",
        "ATTUNE_METRICS__PORT": "0",
        "ATTUNE_COLLECTOR__PORT": "0",
        "ATTUNE_LOG__FORMAT": "json",
    }


def test_it_takes_events_counts_them_and_ends_with_0(broker: str, tmp_path: Path) -> None:
    (tmp_path / "attune.toml").write_text(SETTINGS)
    process = start(["run", "collector"], tmp_path, **variables(broker))
    assert process.stderr is not None
    told: dict[str, str] = {}
    while set(told) < {"collector", "metrics"}:
        line = process.stderr.readline()
        assert line, "it ended too soon"
        name, _, url = line.strip().partition(" ")
        told |= {name: url.strip()} if url.strip().startswith("http") else {}
    now = int(time.time() * 1000)
    event = {"type": "telemetry.checkout", "event_id": "e1", "at": now, "step": "start"}
    body = {"session_id": "s", "user_id": "u", "sent_at": now, "events": [event]}
    headers = {"Content-Type": "text/plain", "Origin": "https://shop.example.org"}
    url = f"{told['collector']}api/telemetry/stream?key=pk-of-the-shop"
    with urlopen(Request(url, json.dumps(body).encode(), headers), timeout=10) as answer:  # noqa: S310 - our own address
        assert json.loads(answer.read())["accepted"] == 1
    with urlopen(told["metrics"], timeout=10) as answer:  # noqa: S310 - our own address
        metrics = answer.read().decode()
    assert 'attune_collector_accepted_total{type="telemetry.checkout"} 1.0' in metrics
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, err
    assert [json.loads(line)["event"] for line in err.splitlines() if line.startswith("{")][-1] == "flow ended"


def test_without_keys_it_says_what_to_do(broker: str, tmp_path: Path) -> None:
    result = attune("run", "collector", cwd=tmp_path, **variables(broker))
    assert result.returncode == 1
    assert "error: collector.keys: expected at least one key, got none" in result.stderr
    assert "[collector.keys." in result.stderr
    assert "Traceback" not in result.stderr


def test_without_its_topics_it_names_them(tmp_path: Path) -> None:
    (tmp_path / "attune.toml").write_text(SETTINGS)
    with mock_kafka(["platform.events.telemetry.v1"], 1) as address:
        names = json.dumps({"platform.events.emotion.v1": "nowhere"})
        result = attune("run", "collector", cwd=tmp_path, **variables(address), ATTUNE_KAFKA__TOPICS=names)
    assert result.returncode == 1
    assert "nowhere does not exist: create it with `attune topics create`" in result.stderr


@pytest.mark.parametrize("flags", [["--workers", "2"], ["--sink", "kafka"]])
def test_what_belongs_to_a_dataflow_is_refused(flags: list[str], tmp_path: Path) -> None:
    result = attune("run", "collector", *flags, cwd=tmp_path)
    assert result.returncode == 2
    assert "one process without state" in " ".join(result.stderr.split())


def settings(tmp_path: Path, text: str, **environ: str) -> Path:
    file = tmp_path / "attune.toml"
    file.write_text(text)
    return file


def test_settings_become_the_collectors(tmp_path: Path) -> None:
    text = SETTINGS + "burst = 300\n[window]\nlateness_s = 4\n[kafka.topics]\n"
    text += '"platform.events.telemetry.v1" = "prod.telemetry"\n'
    environ = {"ATTUNE_COLLECTOR__KEYS__PK_OF_THE_BLOG__TENANT": "blog", "ATTUNE_COLLECTOR__BODY_BYTES": "2048"}
    config = collector_config(load(settings(tmp_path, text), environ))
    assert {name: key.tenant for name, key in config.keys.items()} == {
        "pk-of-the-shop": "acme",
        "pk_of_the_blog": "blog",
    }
    assert config.keys["pk-of-the-shop"].burst == 300
    assert config.topics["telemetry.click"] == "prod.telemetry"
    assert config.topics["emotion.observed"] == "platform.events.emotion.v1"
    assert (config.late_after_ms, config.body_bytes) == (9_000, 2_048)


def test_faults_of_the_collector_are_told_with_all_others(tmp_path: Path) -> None:
    text = '[collector]\nbody_bytes = 70000\nclient_burst = 5\n[collector.keys.pk]\ntenant = "a\\u0000b"\n'
    with pytest.raises(SettingsError) as raised:
        load(settings(tmp_path, text), {})
    assert {fault.key for fault in raised.value.faults} == {
        "collector.body_bytes",
        "collector.client_burst",
        "collector.keys.pk.tenant",
    }
    with pytest.raises(ConfigError, match=r"(?s)collector\.keys: .*collector\.host: "):
        check(load(settings(tmp_path, '[collector]\nhost = "0.0.0.0"\n[collector.keys.x]\ntenant = "t"\n'), {}))


def test_a_mistyped_setting_of_a_key_is_recognised(tmp_path: Path) -> None:
    text = '[collector.keys.pk-of-the-shop]\ntenant = "acme"\norigin = ["https://shop.example.org"]\n'
    with pytest.raises(SettingsError, match=r"did you mean collector\.keys\.pk-of-the-shop\.origins\?"):
        load(settings(tmp_path, text), {})
