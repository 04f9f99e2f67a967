"""Faults of the settings: told at once, with their place and what to do, whoever finds them."""

from pathlib import Path

import pytest

from flows.settings import Settings, servers
from flows.settings.check import check as check_all
from schemas.errors import ConfigError
from tests.flows.test_settings import ROOT, faults, written


def test_what_only_the_parts_know_to_be_wrong_is_told_with_all_other_faults(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """[kafka]
bootstrap_servers = "localhost"
[kafka.options]
"securty.protocol" = "ssl"
"linger.ms" = -5
[gateway]
origins = ["http://127.0.0.1:8090/"]
revoked = "/nowhere/revoked.toml"
behind_proxy = true
[gateway.keys.main]
secret = "short"
[interventions]
rules = "/nowhere"
""",
    )
    environ = {"ATTUNE_KAFKA__OPTIONS__SECURITY_PROTOCOL": "TLS", "ATTUNE_COLLECTOR__KEYS__PK-OF-A__ORIGINS": "a, b"}
    with pytest.raises(ConfigError) as caught:
        check_all(path, environ | {"ATTUNE_COLLECTOR__KEYS__PK-OF-A__TENANT": "a"})
    first, *told = str(caught.value).splitlines()
    assert first == "8 faults in the configuration"
    start = 'expected origins such as "https://host", "https://host:port" or "http://host:port", without a path or'
    assert set(told) == {
        f'  kafka.bootstrap_servers: expected "host:port", several separated by commas, got "localhost" ({path}:2)',
        f'  kafka.options."securty.protocol": librdkafka has no such option, did you mean security.protocol? '
        f"({path}:4)",
        '  kafka.options."linger.ms": Configuration property "queue.buffering.max.ms" value -5 is outside allowed '
        f"range 0..900000 ({path}:5)",
        '  kafka.options."security.protocol": Invalid value "TLS" for configuration property "security.protocol" '
        "(ATTUNE_KAFKA__OPTIONS__SECURITY_PROTOCOL)",
        '  gateway.origins: expected "http://127.0.0.1:8090" without the slash at its end, got '
        f"['http://127.0.0.1:8090/'] ({path}:7)",
        f"  gateway.revoked: /nowhere/revoked.toml can't be read (No such file or directory) ({path}:8)",
        f"  gateway.keys.main: expected a secret of at least 32 bytes, got 5 ({path}:10)",
        f'  collector.keys.pk-of-a.origins: {start} wildcard, got "a, b" (ATTUNE_COLLECTOR__KEYS__PK-OF-A__ORIGINS)',
        *(f"/nowhere/{name}.toml: can't be read: No such file or directory" for name in ("emotions", "interventions")),
    }


def test_a_check_of_all_gives_the_settings_and_tells_ports_that_are_the_same(tmp_path: Path) -> None:
    assert check_all(ROOT / "attune.example.toml", {}) == Settings()
    environ = {"ATTUNE_METRICS__PORT": "8003", "ATTUNE_GATEWAY__REVOKED": str(tmp_path / "none")}
    with pytest.raises(ConfigError, match=r"(?s)different ports.*gateway\.revoked: .*\(ATTUNE_GATEWAY__REVOKED\)"):
        check_all(None, environ)


def test_options_that_do_not_go_together_are_one_fault_at_the_one_that_is_named() -> None:
    environ = {"ATTUNE_KAFKA__OPTIONS__SECURITY_PROTOCOL": "SASL_SSL"}
    with pytest.raises(
        ConfigError, match=r"^1 fault .*\n  kafka\.options: No provider .*: set sasl\.mechanism to PLAIN"
    ):
        check_all(None, environ)
    environ = {"ATTUNE_KAFKA__OPTIONS__SECURITY_PROTOCOL": "SSL", "ATTUNE_KAFKA__OPTIONS__SSL_CA_LOCATION": "/nowhere"}
    told = r'^1 fault .*\n  kafka\.options\."ssl\.ca\.location": .* is it there.*\(ATTUNE_.*__SSL_CA_LOCATION\)$'
    with pytest.raises(ConfigError, match=told):
        check_all(None, environ)


def test_librdkafka_has_the_options_that_may_have_been_meant() -> None:
    for name in servers.USUAL_OPTIONS:
        assert "No such" not in servers._refused({name: "x"}), name


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("DATABASE__RAW_RETENTION_DAYS", "never", 'expected a whole number, or "off", got "never"'),
        ("DATABASE__COLUMNSTORE_AFTER_DAYS", "0", 'expected at least 1, or "off", got "0"'),
        ("WINDOW__JOIN_TIMEOUT_S", "never", 'expected a number, or "off", got "never"'),
        ("COLLECTOR__KEYS__PK__BURST", "200", "must be there: expected a value, got nothing"),
        ("DATABASE__URL", "mysql://x@y/z", """libpq's 'host=... dbname=...', got "mysql://**********" ("""),
        ("DATABASE__URL", "hunter2", "dbname=...', got ********** ("),
    ],
)
def test_faults_say_what_to_do(key: str, value: str, told: str) -> None:
    (problem,) = faults(None, {f"ATTUNE_{key}": value}).values()
    assert told in problem
