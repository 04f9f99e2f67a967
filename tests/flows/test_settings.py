"""Settings: layers, faults told all at once, secrets in no output."""

import logging
import tomllib
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from flows import logs
from flows.settings import Settings, SettingsError, load
from flows.settings.advice import insecurities
from flows.settings.convert import conductor_config
from flows.settings.model import OWN_OPTIONS
from flows.settings.secrecy import MASK, mask_text
from flows.settings.servers import (
    check,
    connection,
    conninfo,
    gateway_config,
    postgres_config,
    source_config,
    token_key,
)
from flows.settings.show import as_toml, as_tree, secrets
from operators.anomalies.config import AnomalyConfig
from operators.config import NEVER, ScoreConfig, WindowConfig
from schemas.errors import ConfigError
from schemas.registry import INBOUND_TOPICS
from sinks import kafka as kafka_sink
from sinks.websocket.config import GatewayConfig
from sources.kafka.settings import OURS

ROOT = Path(__file__).parents[2]
SECRET = "hunter2-is-no-good"


def written(folder: Path, text: str) -> Path:
    path = folder / "attune.toml"
    path.write_text(text, encoding="utf-8")
    return path


def faults(path: Path | None, environ: dict[str, str]) -> dict[str, str]:
    """Return problem and place of every fault, by key."""
    with pytest.raises(SettingsError) as caught:
        load(path, environ)
    assert len(caught.value.faults) == len({fault.key for fault in caught.value.faults}), "one fault a key"
    return {fault.key: f"{fault.problem} ({fault.where})" for fault in caught.value.faults}


def test_defaults_are_the_contracts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(None, {})
    config = conductor_config(settings)
    assert config.window == WindowConfig()
    assert config.score == ScoreConfig()
    assert (settings.gateway.port, settings.metrics.port, settings.collector.port) == (8003, 8004, 8005)
    assert gateway_config(settings.gateway) == GatewayConfig()
    assert source_config(settings.kafka, INBOUND_TOPICS).topics == INBOUND_TOPICS


def test_the_example_file_holds_the_defaults() -> None:
    assert load(ROOT / "attune.example.toml", {}) == Settings()


def test_what_is_shown_gives_the_same_settings_again(tmp_path: Path) -> None:
    settings = load(None, {"ATTUNE_KAFKA__OPTIONS": '{"security.protocol": "ssl"}', "ATTUNE_WINDOW__SHARDS": "7"})
    assert load(written(tmp_path, as_toml(settings)), {}) == settings


def test_a_variable_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    path = written(tmp_path, '[window]\nlateness_s = 3\nearly_s = 4\n[log]\nlevel = "debug"\n')
    settings = load(
        path, {"ATTUNE_WINDOW__LATENESS_S": "1.5", "ATTUNE_GATEWAY__ORIGINS": "https://a.example, https://b.example"}
    )
    assert (settings.window.lateness_s, settings.window.early_s, settings.window.poll_timeout_s) == (1.5, 4.0, 600.0)
    assert settings.log.level == "debug"
    assert settings.gateway.origins == ("https://a.example", "https://b.example")


def test_the_file_is_the_chosen_one_or_the_variables_or_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "[metrics]\nport = 1\n")
    other, third = tmp_path / "other.toml", tmp_path / "third.toml"
    other.write_text("[metrics]\nport = 2\n", encoding="utf-8")
    third.write_text("[metrics]\nport = 3\n", encoding="utf-8")
    assert load(None, {}).metrics.port == 1
    assert load(None, {"ATTUNE_CONFIG": str(other)}).metrics.port == 2
    assert load(third, {"ATTUNE_CONFIG": str(other)}).metrics.port == 3
    assert "expected a file that is there" in faults(tmp_path / "none.toml", {})["configuration file"]
    assert "(ATTUNE_CONFIG)" in faults(None, {"ATTUNE_CONFIG": "none.toml"})["configuration file"]


def test_all_faults_are_told_at_once_with_where_they_come_from(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """environment = "prod"
[kafka]
bootstrap_servers = "localhost"
bootstrap = "x"
[window]
lateness_s = "two"
presence_timeout_s = 4000
[engagement.boundaries]
high = 0.9
[gateway]
port = 70000
[zoo]
lion = 1
""",
    )
    found = faults(
        path,
        {
            "ATTUNE_WINDOW__SHARDS": "0",
            "ATTUNE_LOG__LEVEL": "loud",
            "ATTUNE_ENGAGEMENT__WEIGHTS__POLL": "0.9",
            "ATTUNE_KAFKA_GROUP_ID": "x",
        },
    )
    assert found == {
        "environment": f'expected "development" or "production", got "prod" ({path}:1)',
        "kafka.bootstrap_servers": f'expected "host:port", several separated by commas, got "localhost" ({path}:3)',
        "kafka.bootstrap": f"unknown key, did you mean kafka.bootstrap_servers? ({path}:4)",
        "window.lateness_s": f'expected a number, got "two" ({path}:6)',
        "window.presence_timeout_s": f"expected at most window.session_timeout_s (1800), got 4000 ({path}:7)",
        "window.shards": 'expected at least 1, got "0" (ATTUNE_WINDOW__SHARDS)',
        "engagement.weights": "expected chat, poll, active and reactions that add up to more than 0 and at most 1, "
        "not 1.55 (ATTUNE_ENGAGEMENT__WEIGHTS__POLL)",
        "engagement.boundaries": f"expected very_high > high > moderate > low > 0 ({path}:8)",
        "gateway.port": f"expected at most 65535, got 70000 ({path}:11)",
        "log.level": 'expected "debug", "info", "warning" or "error", got "loud" (ATTUNE_LOG__LEVEL)',
        "zoo": found["zoo"],
        "kafka_group_id": "unknown key, did you mean kafka.group_id (ATTUNE_KAFKA__GROUP_ID)? (ATTUNE_KAFKA_GROUP_ID)",
    }
    assert found["zoo"].startswith("unknown key, known are environment, kafka,")


@pytest.mark.parametrize(
    "name, value, key",
    [
        ("ATTUNE_KAFKA__START", "timestamp", "kafka"),
        ("ATTUNE_KAFKA__START_TIMESTAMP", "2025-01-01T00:00:00Z", "kafka.start_timestamp"),
        ("ATTUNE_KAFKA__TOPICS", '{"platform.events.nothing.v1": "x"}', "kafka.topics"),
        ("ATTUNE_KAFKA__TOPICS", '{"attune.anomalies.v1": "attune.engagement.v1"}', "kafka.topics"),
        ("ATTUNE_KAFKA__OPTIONS__GROUP_ID", "x", "kafka.options"),
        ("ATTUNE_KAFKA__OPTIONS", "not a table", "kafka.options"),
        ("ATTUNE_WINDOW__LATENESS_S", "nan", "window.lateness_s"),
        ("ATTUNE_WINDOW__LATENESS_S", "inf", "window.lateness_s"),
        ("ATTUNE_ENGAGEMENT__WEIGHTS__CHAT", "-0.1", "engagement.weights.chat"),
        ("ATTUNE_ENGAGEMENT__BOUNDARIES__LOW", "0.4", "engagement.boundaries"),
        ("ATTUNE_METRICS__PORT", "8003", "settings"),
        ("ATTUNE_WINDOW", "4", "window"),
        ("ATTUNE_DATABASE__URL", "mysql://db/attune", "database.url"),
    ],
)
def test_what_makes_no_sense_is_a_fault(name: str, value: str, key: str) -> None:
    assert list(faults(None, {name: value})) == [key]


def test_a_broken_file_and_a_bad_variable_are_told_together(tmp_path: Path) -> None:
    found = faults(written(tmp_path, "[kafka\n"), {"ATTUNE_LOG__LEVEL": "loud"})
    assert set(found) == {"configuration file", "log.level"}
    assert "expected TOML" in found["configuration file"]


def test_variables_that_kubernetes_sets_for_a_service_are_not_ours() -> None:
    links = {
        "ATTUNE_GATEWAY_SERVICE_HOST": "10.0.0.1",
        "ATTUNE_GATEWAY_SERVICE_PORT": "8003",
        "ATTUNE_GATEWAY_PORT": "tcp://10.0.0.1:8003",
        "ATTUNE_GATEWAY_PORT_8003_TCP_ADDR": "10.0.0.1",
    }
    assert load(None, links) == Settings()
    assert list(faults(None, {"ATTUNE_GATEWAY_PORT": "8003"})) == ["gateway_port"]


def test_what_the_tests_are_told_is_no_setting() -> None:
    assert load(None, {"ATTUNE_TEST_KAFKA": "localhost:9092", "ATTUNE_CONFIG": "", "ATTUNE_DEBUG": "1"}) == Settings()


def test_off_is_off() -> None:
    assert conductor_config(load(None, {"ATTUNE_WINDOW__JOIN_TIMEOUT_S": "off"})).window.join_timeout_ms == NEVER
    assert conductor_config(load(None, {"ATTUNE_WINDOW__JOIN_TIMEOUT_S": "900"})).window.join_timeout_ms == 900_000


def test_a_join_is_not_shorter_than_an_act() -> None:
    with pytest.raises(SettingsError, match=r"window\.join_timeout_s: expected at least .* \(300\)"):
        load(None, {"ATTUNE_WINDOW__JOIN_TIMEOUT_S": "90"})


def test_renamed_topics_and_options_reach_the_source() -> None:
    settings = load(
        None,
        {
            "ATTUNE_KAFKA__TOPICS": '{"platform.events.telemetry.v1": "tele"}',
            "ATTUNE_KAFKA__OPTIONS": '{"enable.ssl.certificate.verification": false}',
            "ATTUNE_KAFKA__OPTIONS__SASL_PASSWORD": SECRET,
        },
    )
    client = connection(settings.kafka).client()
    assert client["sasl.password"] == SECRET
    assert client["enable.ssl.certificate.verification"] == "false"
    assert SECRET not in repr(connection(settings.kafka))


def test_options_that_a_source_or_sink_sets_itself_are_refused_by_the_settings() -> None:
    assert set(OWN_OPTIONS) >= set(OURS) | set(kafka_sink._OURS)
    for option in OWN_OPTIONS:
        assert list(faults(None, {"ATTUNE_KAFKA__OPTIONS": f'{{"{option}": "x"}}'})) == ["kafka.options"]


def test_what_only_the_gateway_knows_to_be_wrong_is_told_before_a_start() -> None:
    check(Settings())
    with pytest.raises(ConfigError, match=r"gateway\.host: 0\.0\.0\.0 can be reached"):
        check(load(None, {"ATTUNE_GATEWAY__HOST": "0.0.0.0"}))  # noqa: S104 - what the test is about


SECRETS = {
    "ATTUNE_DATABASE__URL": f"postgresql://attune:{SECRET}@db/attune",
    "ATTUNE_KAFKA__OPTIONS__SASL_PASSWORD": SECRET,
    "ATTUNE_KAFKA__OPTIONS__SSL_KEY_PEM": SECRET,
    "ATTUNE_GATEWAY__KEYS__MAIN__SECRET": SECRET,
}


def test_secrets_are_masked_wherever_settings_are_seen() -> None:
    settings = load(None, SECRETS)
    shown = f"{settings!r} {settings} {as_toml(settings)} {as_tree(settings)}"
    assert SECRET not in shown
    assert tomllib.loads(as_toml(settings))["kafka"]["options"]["sasl.password"] == MASK
    assert tomllib.loads(as_toml(settings))["gateway"]["keys"]["main"]["secret"] == MASK
    assert SECRET in secrets(settings)
    assert SECRET in conninfo(settings.database)


@pytest.mark.parametrize(
    "environ",
    [
        {"ATTUNE_DATABASE__URL": f"mysql://attune:{SECRET}@db/attune"},
        {"ATTUNE_KAFKA__OPTIONS": f'{{"sasl.password": ["{SECRET}"]}}'},
        {"ATTUNE_KAFKA__OPTIONS": f'{{"sasl.password": "{SECRET}", "group.id": "x"}}'},
        {"ATTUNE_DATABSE__URL": SECRET},
        {"ATTUNE_GATEWAY__KEYS__MAIN__SECRET": f'["{SECRET}"]', "ATTUNE_GATEWAY__KEYS__MAIN__FILE": "x"},
        {"ATTUNE_GATEWAY__KEYS__MAIN__SECRET": SECRET, "ATTUNE_GATEWAY__KEYS__MAIN__ALGORITHM": "ES256"},
        {"ATTUNE_GATEWAY__KEYS__MAIN__SECRT": SECRET},
        {"ATTUNE_GATEWAY__KEYS__MAIN": SECRET},
        {"ATTUNE_KAFKA__SASL_PASSWORD": SECRET},
        {"ATTUNE_KAFKA__BOOTSTRAP_SERVERS": f"kafka://user:{SECRET}@broker"},
        {"ATTUNE_DATABASE": f"host=db password={SECRET}"},
    ],
)
def test_secrets_are_in_no_fault(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, environ)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value.faults)


def test_the_gateways_keys_come_from_variables_and_files(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{SECRET * 3}\n")
    environ = {"ATTUNE_GATEWAY__KEYS__MAIN__FILE": str(file), "ATTUNE_GATEWAY__KEYS__OTHER__SECRET": SECRET * 2}
    keys = load(None, environ).gateway.keys
    assert {name: token_key(name, key).signing for name, key in keys.items()} == {
        "main": (SECRET * 3).encode(),
        "other": (SECRET * 2).encode(),
    }


def test_what_the_gateway_can_t_use_is_told_before_a_start(tmp_path: Path) -> None:
    environ = {
        "ATTUNE_GATEWAY__KEYS__MAIN__SECRET": SECRET,
        "ATTUNE_GATEWAY__PROXIES": "10.0.0.0/33",
        "ATTUNE_GATEWAY__REVOKED": str(tmp_path / "nothing"),
    }
    with pytest.raises(ConfigError) as caught:
        check(load(None, environ))
    for says in ("gateway.keys.main: expected a secret of at least 32 bytes", "gateway.proxies", "gateway.revoked"):
        assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    missing = {"ATTUNE_GATEWAY__KEYS__MAIN__FILE": str(tmp_path / "nothing")}
    with pytest.raises(ConfigError, match=r"gateway\.keys\.main\.file: .* can't be read"):
        check(load(None, missing))


def test_the_detectors_numbers_are_settings() -> None:
    environ = {"ATTUNE_ANOMALIES__WARNING": "0.7", "ATTUNE_ANOMALIES__DECLINE_SPANS": "24, 36"}
    config = conductor_config(load(None, environ | {"ATTUNE_ANOMALIES__REPEAT_S": "60"})).anomalies
    assert config == AnomalyConfig(warning=0.7, decline_spans=(24, 36), repeat_ms=60_000)
    assert conductor_config(load(None, {})).anomalies == AnomalyConfig()
    assert conductor_config(load(None, {"ATTUNE_ANOMALIES__ENABLED": "false"})).anomalies is None
    for key, value, message in (
        ("WARNING", "3", r"warning in 0\.\.1, got 3"),
        ("LOWW", "1", "did you mean anomalies.low"),
    ):
        with pytest.raises(SettingsError, match=message):
            load(None, {f"ATTUNE_ANOMALIES__{key}": value})


def test_no_database_says_what_to_set() -> None:
    with pytest.raises(ConfigError, match="ATTUNE_DATABASE__URL"):
        conninfo(Settings().database)


@pytest.mark.parametrize("connections, parts", [("0", 3), ("2", 2)])
def test_the_database_has_a_connection_for_each_worker_unless_told_how_many(connections: str, parts: int) -> None:
    told = {"ATTUNE_DATABASE__URL": "postgresql://db.example.org/attune", "ATTUNE_DATABASE__CONNECTIONS": connections}
    assert postgres_config(load(None, told).database, lambda _letters: None, workers=3).parts == parts


def test_what_is_insecure_is_told_outside_development_only() -> None:
    open_to_all = {
        "ATTUNE_DATABASE__URL": "postgresql://attune@db.example.org/attune",
        "ATTUNE_GATEWAY__HOST": "0.0.0.0",  # noqa: S104 - what the test is about
        "ATTUNE_METRICS__HOST": "0.0.0.0",  # noqa: S104 - what the test is about
    }
    assert insecurities(load(None, open_to_all)) == []
    told = insecurities(load(None, open_to_all | {"ATTUNE_ENVIRONMENT": "production"}))
    assert [line.split(" ")[0] for line in told] == [
        'kafka.options."security.protocol"',
        "kafka.options",
        "database.url",
        "gateway.host",
        "metrics.host",
    ]


def test_a_secured_production_is_told_nothing() -> None:
    settings = load(
        None,
        {
            "ATTUNE_ENVIRONMENT": "production",
            "ATTUNE_KAFKA__OPTIONS": '{"security.protocol": "SASL_SSL"}',
            "ATTUNE_DATABASE__URL": "postgresql://attune@db.example.org/attune?sslmode=verify-full",
        },
    )
    assert insecurities(settings) == []


@pytest.mark.parametrize(
    "option", ['{"security.protocol": "ssl", "enable.ssl.certificate.verification": "false"}',
               '{"security.protocol": "sasl_ssl", "ssl.endpoint.identification.algorithm": "none"}',
               '{"security.protocol": "SASL_PLAINTEXT"}']
)  # fmt: skip
def test_half_security_is_told(option: str) -> None:
    environ = {"ATTUNE_ENVIRONMENT": "production", "ATTUNE_KAFKA__OPTIONS": option}
    assert insecurities(load(None, environ))


@given(st.text(min_size=1, max_size=40).filter(lambda text: text.strip() == text and "@" not in text))
def test_no_known_secret_survives_masking(secret: str) -> None:
    secret = f"{secret}!{secret}"
    assert secret not in mask_text(f"a {secret} b {secret}", frozenset({secret}))


def log_lines(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err


@pytest.mark.parametrize("style", ["console", "json"])
def test_no_secret_is_logged(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json" if style == "json" else "console", frozenset({SECRET}))
    log = structlog.get_logger("test")
    log.info("connected", url=f"postgresql://u:{SECRET}@db", password="swordfish", nested={"token": "swordfish"})
    log.warning("refused", why=ValueError(f"bad {SECRET}"))
    logging.getLogger("library").error("it said %s", SECRET)
    try:
        raise RuntimeError(f"no entry with {SECRET}")
    except RuntimeError:
        log.exception("failed")
    told = log_lines(capsys)
    assert SECRET not in told
    assert "swordfish" not in told
    assert told.count("connected") == 1
    assert "RuntimeError" in told
    assert MASK in told


def test_the_level_holds(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("warning", "json")
    structlog.get_logger("test").info("quiet")
    structlog.get_logger("test").warning("loud")
    told = log_lines(capsys)
    assert "quiet" not in told
    assert '"event": "loud"' in told
