"""A broker that speaks TLS, asks for a password and grants rights: what works, what is refused, and what is told."""

import json
import re
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.settings import Settings, load
from flows.settings.advice import insecurities
from flows.settings.servers import check as check_settings
from schemas.batches import Records
from schemas.errors import AttuneError, ConfigError, TerminalError, TransientError
from schemas.registry import INBOUND_TOPICS
from sinks.kafka import KafkaSink, KafkaSinkConfig
from sources.kafka import Connection, check, check_writable, create_topics
from tests import kafka_secured as rules
from tests.fix_kafka import wait_until
from tests.flows.end_to_end import PARTITIONS, Conductor, Log, Reader, ahead, events, expected, stopped, until_told
from tests.flows.running import attune
from tests.kafka_secured import BOX, CONDUCTOR, GUEST, HIDDEN, KEEPER, OPEN, SEEN, Secured, password
from tests.sources.kafka_parts import Driver, committed, config, write

pytestmark = pytest.mark.timeout(180)

WRONG = "not-the-pass-phrase"
SHORT_S, LONG_S = 1.0, 30.0


def seen(broker: Secured, *topics: str, at: str = "", **changes: Any) -> Any:
    """Look at topics as the guest does, with other options or settings of the source."""
    settings = {name: changes.pop(name) for name in ("group_id", "timeout_s") if name in changes}
    options = broker.options(GUEST, **changes)
    return check(config(at or broker.secured, *topics, options=options, **{"group_id": rules.GROUP, **settings}))


def refused_creation(broker: Secured, at: str = "", **changes: Any) -> str:
    """Try to make a topic; return why that can't be."""
    connection = Connection(bootstrap_servers=at or broker.secured, options=broker.options(GUEST, **changes))
    with pytest.raises(AttuneError) as caught:
        create_topics(connection, 1, 1, inbound=["new", "newer"], outbound=[], timeout_s=LONG_S)
    return str(caught.value)


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "PLAIN"])
def test_with_the_right_password_it_is_read(kafka_secured: Secured, mechanism: str) -> None:
    value = mechanism.encode()
    write(kafka_secured.open, OPEN, [value])
    options = kafka_secured.options(GUEST, sasl_mechanism=mechanism)
    driver = Driver(config(kafka_secured.secured, OPEN, options=options, group_id=rules.GROUP))
    got = driver.until(lambda got: value in got.values, "the record")
    driver.part.close()
    assert value in got.values


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "password": ({"sasl_password": WRONG}, r"refused us: .*check sasl\.mechanism, sasl\.username and sasl\.password"),
    "plain password": ({"sasl_password": WRONG, "sasl_mechanism": "PLAIN"}, r"refused us: .*check .* sasl\.password"),
    "mechanism": ({"sasl_mechanism": "SCRAM-SHA-256"}, "refused us: .*supported mechanisms: SCRAM-SHA-512,PLAIN"),
    "unknown authority": ({"ssl_ca_location": None}, r"is not trusted: .*signed by what ssl\.ca\.location"),
    "self-signed": ({}, r"is not trusted: .*signed by what ssl\.ca\.location"),
    "another host's": ({}, r"is not trusted: .*made out to the name or address that we connect to"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_by_either_side_is_named_at_once(kafka_secured: Secured, case: str) -> None:
    """Before a flow starts, and by who makes topics."""
    changes, told = REFUSALS[case]
    at = {
        "self-signed": kafka_secured.self_signed,
        "another host's": kafka_secured.secured.replace("127.0.0.1", "localhost"),
    }.get(case, kafka_secured.secured)
    begun = time.monotonic()
    with pytest.raises(TerminalError) as caught:
        seen(kafka_secured, OPEN, at=at, timeout_s=LONG_S, **changes)
    for said in (str(caught.value), refused_creation(kafka_secured, at, **changes)):
        assert re.search(told, said), said
        assert at in said
        assert WRONG not in said
        assert password(GUEST) not in said
    assert time.monotonic() - begun < LONG_S


@pytest.mark.parametrize("protocol", ["plaintext", "SASL_PLAINTEXT", "SSL", "SASL_SSL"])
def test_another_protocol_than_the_listeners_is_named_after_the_time_out(kafka_secured: Secured, protocol: str) -> None:
    """TLS missing (first as it is without any option), SASL missing, and TLS to a listener that has none."""
    at = kafka_secured.open if protocol == "SASL_SSL" else kafka_secured.secured
    options = {} if protocol == "plaintext" else kafka_secured.options(GUEST, security_protocol=protocol)
    told = re.escape(f'hangs up: is security.protocol = "{protocol}" (in the Kafka options) what it speaks')
    with pytest.raises(TransientError, match=told):
        check(config(at, OPEN, options=options, timeout_s=SHORT_S))
    with pytest.raises(TransientError, match=told):
        create_topics(Connection(bootstrap_servers=at, options=options), 1, 1, inbound=["new"], timeout_s=SHORT_S)


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "name": ({"sasl_passwort": WRONG}, "sasl.passwort"),
    "value": ({"security_protocol": "TLS"}, 'Invalid value "TLS"'),
    "no mechanism": ({"sasl_mechanism": None}, "set sasl.mechanism to PLAIN, SCRAM-SHA-256"),
    "no password": ({"sasl_password": None}, "sasl.password must be set"),
    "authority": ({"ssl_ca_location": "/nowhere/ca.pem"}, 'ssl.ca.location is "/nowhere/ca.pem": is it there'),
    "key": ({"ssl_key_pem": WRONG}, "ssl.key.pem failed"),
    "half a no": ({"enable_ssl_certificate_verification": "no"}, "true or false"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_librdkafka_does_not_take_are_a_fault_of_the_settings(kafka_secured: Secured, case: str) -> None:
    changes, told = OPTIONS[case]
    with pytest.raises(ConfigError, match=re.escape(told)):
        seen(kafka_secured, OPEN, **changes)
    assert told in refused_creation(kafka_secured, **changes)
    settings = load(None, {"ATTUNE_KAFKA__OPTIONS": json.dumps(kafka_secured.options(GUEST, **changes))})
    with pytest.raises(ConfigError, match=re.escape(told)) as caught:
        check_settings(settings)
    assert WRONG not in str(caught.value)


def test_every_right_that_is_missing_is_told_at_once(kafka_secured: Secured) -> None:
    with pytest.raises(TerminalError) as caught:
        seen(kafka_secured, OPEN, SEEN, HIDDEN, group_id="others")
    told = str(caught.value)
    assert "seen: this user may not READ it" in told
    assert "hidden: this user may not DESCRIBE it" in told
    assert "group others: this user may not READ it" in told
    assert "open" not in told


def test_a_group_that_can_be_seen_but_not_committed_to_is_named(kafka_secured: Secured) -> None:
    with pytest.raises(TerminalError, match=f"group {rules.SEEN_GROUP}: this user may not READ it"):
        seen(kafka_secured, OPEN, group_id=rules.SEEN_GROUP)


def test_topics_that_may_not_be_made_are_named_together(kafka_secured: Secured) -> None:
    assert "topics new, newer: this user may not CREATE" in refused_creation(kafka_secured)


def sink(broker: Secured, topic: str, user: str = GUEST) -> Any:
    settings = KafkaSinkConfig(bootstrap_servers=broker.secured, options=broker.options(user), delivery_timeout_s=30)
    return KafkaSink(settings, 1, {"engagement": topic}).build_part("out", "00000", None)


def test_a_topic_that_may_not_be_written_stops_the_flow_and_is_named(kafka_secured: Secured) -> None:
    records = Records("engagement", ["id"], ["acme"], ["s"], [0], [b"{}"])
    allowed = sink(kafka_secured, BOX)
    allowed.write_batch([records])
    allowed.snapshot()
    denied = sink(kafka_secured, OPEN)
    denied.write_batch([records])
    with pytest.raises(TerminalError, match=rf"topic {OPEN}: .*AUTHORIZATION_FAILED.*grant WRITE on the topic"):
        denied.snapshot()


def test_topics_that_are_missing_or_may_not_be_written_are_told_before_the_start(kafka_secured: Secured) -> None:
    connection = Connection(bootstrap_servers=kafka_secured.secured, options=kafka_secured.options(GUEST))
    check_writable(connection, rules.GROUP, [BOX], LONG_S)
    with pytest.raises(TerminalError) as caught:
        check_writable(connection, rules.GROUP, [BOX, OPEN, HIDDEN], LONG_S)
    told = str(caught.value)
    assert "open: this user may not WRITE it" in told
    assert "hidden: this user may not DESCRIBE it, or it does not exist" in told
    assert "box" not in told


def environment(broker: Secured, folder: Path, user: str, **variables: str) -> dict[str, str]:
    """Write the settings as somebody does who runs the flow, all but the password; return the variables beside them."""
    options = broker.options(user, sasl_password=None)
    lines = [f"{json.dumps(name)} = {json.dumps(value)}" for name, value in options.items()]
    (folder / "attune.toml").write_text(
        f"""environment = "production"
[kafka]
bootstrap_servers = "{broker.secured}"
partitions = {PARTITIONS}
preflight_timeout_s = 20
[kafka.options]
"""
        + "\n".join(lines)
    )
    return {
        "ATTUNE_CONFIG": str(folder / "attune.toml"),
        "ATTUNE_KAFKA__OPTIONS__SASL_PASSWORD": password(user),
        **variables,
    }


@pytest.fixture
def conductors() -> Iterator[list[Conductor]]:
    """Conductors that end with their test, however that ends."""
    started: list[Conductor] = []
    yield started
    for conductor in started:
        if conductor.running():
            conductor.kill()


def test_a_conductor_with_no_more_than_its_rights_tells_what_the_replay_tells(
    kafka_secured: Secured, conductors: list[Conductor], tmp_path: Path
) -> None:
    """Topics made, read and written through SASL and TLS by two users, with the rights that the handbook names."""
    variables = environment(kafka_secured, tmp_path, KEEPER)
    for word in ("created", "exists"):  # The second time rights to look at them are needed as well.
        made = attune("topics", "create", "--create-time", cwd=tmp_path, **variables)
        assert made.returncode == 0, made.stderr
        assert set(re.findall(r" (\w+)\n", made.stdout)) == {word}
        assert "INSECURE" not in made.stderr
    lines = events(6, sessions=2, people=8, minutes=3, start=ahead())
    wanted = expected(lines, tmp_path / "replay")
    log = Log(kafka_secured.open)
    log.write(lines)
    log.end()
    variables = environment(kafka_secured, tmp_path, CONDUCTOR)
    conductor = Conductor(tmp_path, kafka_secured.secured, "--sink", "kafka", **variables)
    conductors.append(conductor)
    conductor.start()
    reader = Reader(kafka_secured.open)
    until_told(conductor, reader, wanted)
    wait_until(lambda: committed(kafka_secured.open, "attune", INBOUND_TOPICS[0]) > 0, "the group to be told")
    told = stopped(conductor, reader)
    reader.close()
    assert told.payloads == {name: {payload} for name, payload in wanted.items()}
    assert "INSECURE" not in conductor.log
    assert password(CONDUCTOR) not in conductor.log


COMMANDS = {
    "conductor": ["run", "conductor", "--sink", "kafka"],
    "topics": ["topics", "create"],
    "deadletters": ["deadletters", "replay"],
}


@pytest.mark.parametrize("debug", ["", "1"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_password_ends_a_command_with_1_and_stands_nowhere(
    kafka_secured: Secured, tmp_path: Path, command: str, debug: str
) -> None:
    variables = environment(
        kafka_secured,
        tmp_path,
        CONDUCTOR,
        ATTUNE_KAFKA__OPTIONS__SASL_PASSWORD=WRONG,
        ATTUNE_METRICS__ENABLED="false",
        ATTUNE_LOG__LEVEL="debug",
        ATTUNE_DEBUG=debug,
    )
    ended = attune(*COMMANDS[command], cwd=tmp_path, **variables)
    assert ended.returncode == 1
    assert "refused us" in ended.stderr
    assert "check sasl.mechanism, sasl.username and sasl.password" in ended.stderr
    assert ("Traceback" in ended.stderr) == bool(debug)
    assert WRONG not in ended.stdout + ended.stderr


def test_librdkafkas_own_debug_lines_hold_no_password(kafka_secured: Secured, tmp_path: Path) -> None:
    debug = {"ATTUNE_KAFKA__OPTIONS": json.dumps({"log_level": 7, "debug": "all"})}
    variables = environment(kafka_secured, tmp_path, CONDUCTOR, **debug)
    ended = attune("topics", "create", cwd=tmp_path, **variables)
    assert ended.returncode == 1
    assert "this user may not CREATE" in ended.stderr
    assert "sasl.password = [redacted]" in ended.stderr
    assert password(CONDUCTOR) not in ended.stdout + ended.stderr


def test_the_settings_are_shown_without_the_password(kafka_secured: Secured, tmp_path: Path) -> None:
    variables = environment(kafka_secured, tmp_path, KEEPER)
    shown = attune("config", "show", cwd=tmp_path, **variables)
    options = tomllib.loads(shown.stdout)["kafka"]["options"]
    assert options == {**kafka_secured.options(KEEPER), "sasl.password": "**********"}
    assert password(KEEPER) not in shown.stdout + shown.stderr


def production(**options: Any) -> Settings:
    table = {name.replace("_", "."): value for name, value in options.items()}
    return load(None, {"ATTUNE_ENVIRONMENT": "production", "ATTUNE_KAFKA__OPTIONS": json.dumps(table)})


@pytest.mark.parametrize("off", ["false", "FALSE", "f", "F", "0", 0, False])
def test_the_check_of_certificates_is_never_switched_off_in_silence(kafka_secured: Secured, off: object) -> None:
    """Whatever librdkafka takes for a no, and thereby trusts the one that vouches for itself, is told."""
    told = insecurities(production(security_protocol="SASL_SSL", enable_ssl_certificate_verification=off))
    assert told == ['kafka.options."enable.ssl.certificate.verification" is off: anybody may pose as the broker']
    said = str(off).lower() if isinstance(off, bool) else str(off)
    found = seen(kafka_secured, OPEN, at=kafka_secured.self_signed, enable_ssl_certificate_verification=said)
    assert found.partitions == {OPEN: 1}


@pytest.mark.parametrize("on", ["true", "T", "1", 1, True])
def test_a_check_that_is_on_is_not_warned_of(on: object) -> None:
    assert insecurities(production(security_protocol="sasl_ssl", enable_ssl_certificate_verification=on)) == []


@pytest.mark.parametrize("none", ["none", "None", "NONE"])
def test_a_check_of_names_that_is_off_is_told(kafka_secured: Secured, none: str) -> None:
    told = insecurities(production(security_protocol="SASL_SSL", ssl_endpoint_identification_algorithm=none))
    assert len(told) == 1
    assert "any certificate passes as the broker" in told[0]
    port = kafka_secured.secured.rpartition(":")[2]
    found = seen(kafka_secured, OPEN, at=f"localhost:{port}", ssl_endpoint_identification_algorithm=none)
    assert found.partitions == {OPEN: 1}


def test_unsigned_tokens_are_told() -> None:
    told = insecurities(production(security_protocol="SASL_SSL", enable_sasl_oauthbearer_unsecure_jwt="T"))
    assert len(told) == 1
    assert "unsecure.jwt" in told[0]


def test_plaintext_is_told_by_the_commands_outside_development_only(kafka_secured: Secured, tmp_path: Path) -> None:
    where = {"ATTUNE_KAFKA__BOOTSTRAP_SERVERS": "broker.example.org:9092"}
    for name, loud in (("production", True), ("development", False)):
        checked = attune("config", "check", cwd=tmp_path, ATTUNE_ENVIRONMENT=name, **where)
        assert checked.returncode == 0, checked.stderr
        assert ("INSECURE" in checked.stderr) == loud
        assert ("cross the network in the clear" in checked.stderr) == loud
    # And by what connects, before it does.
    run = attune(
        "topics", "create", cwd=tmp_path, ATTUNE_ENVIRONMENT="production", ATTUNE_KAFKA__PREFLIGHT_TIMEOUT_S="1",
        ATTUNE_KAFKA__BOOTSTRAP_SERVERS=kafka_secured.secured,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.index("INSECURE") < run.stderr.index('is security.protocol = "plaintext"')
