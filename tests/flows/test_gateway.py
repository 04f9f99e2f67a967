"""``attune run gateway`` beside a conductor: several, each serving everything, and outcomes on their way back."""

import json
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.testing
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from websockets.sync.client import ClientConnection, connect

from flows.cli import app
from flows.local.kafka import mock_kafka
from flows.settings import SettingsError, load
from flows.settings.advice import unproven
from flows.settings.servers import receipts
from flows.settings.show import as_toml, secrets
from schemas.inbound import AnyEvent, InterventionOutcome
from schemas.registry import INBOUND_TOPICS, OUTBOUND_TOPICS, OUTCOMES, TELEMETRY
from sinks.kafka import KafkaSinkConfig, produce_raw
from tests.flows.running import DEADLINE_S, ENGAGEMENT, attune, start

SECRET = "a secret for the tests of the flow, 32 bytes and more"


def variables(broker: str) -> dict[str, str]:
    return {
        "ATTUNE_KAFKA__BOOTSTRAP_SERVERS": broker,
        "ATTUNE_KAFKA__PARTITIONS": "2",
        "ATTUNE_KAFKA__REPLICATION_FACTOR": "1",
        "ATTUNE_METRICS__PORT": "0",
        "ATTUNE_GATEWAY__PORT": "0",
        "ATTUNE_GATEWAY__KEYS__MAIN__SECRET": SECRET,
    }


@contextmanager
def gateway(tmp_path: Path, extra: dict[str, str], flags: Sequence[str] = ("run", "gateway")) -> Iterator[str]:
    """Run one; gives its address."""
    process = start([*flags], tmp_path, **extra)
    try:
        assert process.stderr is not None
        address = ""
        while not address:
            line = process.stderr.readline()
            assert line, "it ended too soon"
            if line.startswith("dashboard"):
                address = line.split()[1].removeprefix("http://").rstrip("/")
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, err
        assert SECRET not in err


def reading(address: str, token: str) -> ClientConnection:
    return connect(f"ws://{address}/ws", proxy=None, additional_headers={"Authorization": f"Bearer {token}"})


def read(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(socket.recv(timeout=DEADLINE_S))
    return message


def until(socket: ClientConnection, ident: str) -> dict[str, Any]:
    """Read on until a record of this id comes."""
    while True:
        message = read(socket)
        if message["op"] == "record" and message["record"]["id"] == ident:
            return message


def made(extra: dict[str, str], *options: str) -> typer.testing.Result:
    """Run ``attune token`` in this process: it starts nothing."""
    return typer.testing.CliRunner().invoke(app, ["token", "--tenant", "t", *options], env=extra)


def token(extra: dict[str, str], *options: str) -> str:
    done = made(extra, *options)
    assert done.exit_code == 0, done.stderr
    return done.stdout.strip()


def told(broker: str, topic: str, enough: int) -> list[AnyEvent]:
    """Return what lies in a topic, once it is ``enough``."""
    consumer = Consumer({"bootstrap.servers": broker, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(2)])
    found: list[AnyEvent] = []
    deadline = time.monotonic() + DEADLINE_S
    try:
        while len(found) < enough and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                assert message.key() == b"t/s"
                found.append(msgspec.json.decode(message.value() or b"", type=AnyEvent))
    finally:
        consumer.close()
    return found


def outcomes(broker: str, topic: str, enough: int) -> list[tuple[str, str]]:
    """Return user and outcome of all outcomes in a topic, which holds nothing else."""
    events = told(broker, topic, enough)
    found: list[tuple[str, str]] = [
        (event.user_id, event.outcome) for event in events if isinstance(event, InterventionOutcome)
    ]
    assert len(found) == len(events)
    return found


def test_two_gateways_serve_everything_and_outcomes_come_back(kafka: str, tmp_path: Path) -> None:
    names = {OUTCOMES: f"outcomes.{tmp_path.name}", "attune.engagement.v1": f"engagement.{tmp_path.name}"}
    names |= {"attune.interventions.v1": f"interventions.{tmp_path.name}"}
    extra = variables(kafka) | {"ATTUNE_KAFKA__TOPICS": json.dumps(names)}
    assert attune("topics", "create", cwd=tmp_path, **extra).returncode == 0
    config = KafkaSinkConfig(bootstrap_servers=kafka, delivery_timeout_s=30)

    def produce(topic: str, record: dict[str, Any]) -> None:
        produce_raw(config, [(names[topic], None, b"t/s", json.dumps(record).encode())])

    before = ENGAGEMENT | {"id": "t/s/0/engagement/1", "ts": 1}
    produce("attune.engagement.v1", before)
    ident = "t/s/1/intervention/x"
    fired: dict[str, Any] = {"type": "intervention", "id": ident, "tenant_id": "t", "session_id": "s"}
    fired |= {"ts": int(time.time() * 1_000)}
    fired |= {"intervention": "help_chat", "status": "fired", "user_id": "ann", "expires_ts": 1 << 47, "revision": 0}
    dashboard = token(extra)
    ann = token(extra, "--role", "client", "--session", "s", "--user", "ann")
    with (
        gateway(tmp_path, extra) as first,
        gateway(tmp_path, extra) as second,
        reading(first, dashboard) as one,
        reading(second, dashboard) as other,
        reading(second, ann) as client,
    ):
        hellos = [read(socket) for socket in (one, other)]
        assert hellos[0]["gateway"] != hellos[1]["gateway"]
        for socket in (one, other):
            socket.send('{"op":"subscribe","channels":["engagement","interventions"]}')
        for socket in (one, other):
            assert until(socket, "t/s/0/engagement/1")["record"] == before, "what was there before the start"
        assert read(client)["session"] == "s"
        produce("attune.interventions.v1", fired)
        for socket in (one, other):
            assert until(socket, ident)["record"] == fired
        offered = until(client, ident)
        assert offered["record"] == fired
        client.send(json.dumps({"op": "acknowledge", "intervention_id": ident, "outcome": "clicked"}))
        assert read(client)["op"] == "acknowledged"
        # What is confirmed lies in the topic: nothing to wait for.
        assert outcomes(kafka, names[OUTCOMES], 2) == [("ann", "delivered"), ("ann", "clicked")]
    # One that has not read of the intervention knows by the receipt that it was offered.
    with gateway(tmp_path, extra | {"ATTUNE_GATEWAY__LOOKBACK_S": "0"}) as third, reading(third, ann) as client:
        assert read(client)["op"] == "hello"
        said = {"op": "acknowledge", "intervention_id": ident, "outcome": "dismissed"}
        for receipt, answer in (({}, "error"), ({"receipt": offered["receipt"]}, "acknowledged")):
            client.send(json.dumps(said | receipt))
            assert read(client)["op"] == answer
        assert outcomes(kafka, names[OUTCOMES], 3)[2:] == [("ann", "dismissed")]


def test_a_token_needs_a_key_and_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    extra = {"ATTUNE_GATEWAY__KEYS__MAIN__SECRET": SECRET}
    for options, says, settings in (
        ((), "gateway.keys: expected a key, got none", {}),
        (("--key", "other"), "expected the key other, got main", extra),
        (("--role", "client"), "a client has a session and no channels: give --session", extra),
        (("--session", "s"), "a dashboard has no session", extra),
        (("--channel", "telemetry"), "channels that there are: engagement, anomalies, emotions", extra),
    ):
        done = made(settings, *options)
        assert (done.exit_code, says in done.stderr, done.stdout) == (1, True, ""), done.stderr
        assert SECRET not in done.stderr


def test_a_gateway_without_a_secret_that_outlasts_it_is_told() -> None:
    public = {"ATTUNE_GATEWAY__KEYS__NEW__ALGORITHM": "ES256", "ATTUNE_GATEWAY__KEYS__NEW__FILE": "new.pem"}
    secret = "x" * 32
    assert len(unproven(load(None, public))) == 1
    assert unproven(load(None, {})) == []
    assert unproven(load(None, public | {"ATTUNE_GATEWAY__KEYS__OLD__SECRET": secret})) == []
    assert unproven(load(None, public | {"ATTUNE_GATEWAY__RECEIPT_SECRETS": secret})) == []


def test_the_secret_of_receipts_can_be_changed_without_a_moment_in_which_one_is_refused() -> None:
    old, new = "o" * 32, "n" * 32
    place = ("t", "s", "ann", "i")
    steps = [
        load(None, {"ATTUNE_GATEWAY__RECEIPT_SECRETS": listed})
        for listed in (old, f"{old},{new}", f"{new}, {old}", new)
    ]
    shown = as_toml(steps[1])
    assert (old in shown, new in shown) == (False, False)
    assert secrets(steps[1]) >= {old, new}, "for the log to be kept free of them"
    made = [receipts(settings.gateway) for settings in steps]
    for one, other in pairwise(made):  # gateways of two steps beside each other
        assert other.holds(one.write(*place, 1), *place, 2)
        assert one.holds(other.write(*place, 1), *place, 2)
    assert not made[3].holds(made[0].write(*place, 1), *place, 2)
    with pytest.raises(SettingsError, match=r"gateway\.receipt_secrets") as refused:
        load(None, {"ATTUNE_GATEWAY__RECEIPT_SECRETS": f"{old},short-one"})
    assert "short-one" not in str(refused.value)
    assert old not in str(refused.value)


def test_from_three_clicks_to_an_outcome(tmp_path: Path) -> None:
    """The whole circle: telemetry, emotion, intervention, the visitor's page, what became of it, the dashboard."""
    with mock_kafka([*INBOUND_TOPICS, *OUTBOUND_TOPICS], 2) as broker:
        extra = variables(broker)
        flags = ["run", "conductor", "--sink", "kafka", "--sink", "gateway"]
        with (
            gateway(tmp_path, extra, flags) as address,
            reading(address, token(extra)) as dashboard,
            reading(address, token(extra, "--role", "client", "--session", "s", "--user", "ann")) as ann,
            reading(address, token(extra, "--role", "client", "--session", "s", "--user", "bob")) as bob,
        ):
            dashboard.send('{"op":"subscribe","channels":["interventions"]}')
            assert [read(socket)["op"] for socket in (dashboard, ann, bob)] == ["hello"] * 3
            now = int(time.time() * 1_000)
            for number in range(3):
                click: dict[str, Any] = {"type": "telemetry.click", "tenant_id": "t", "session_id": "s"}
                click |= {"event_id": f"c{number}", "user_id": "ann", "ts": now + number}
                click |= {"element": "buy", "x": 1, "y": 1, "page": "product"}
                written = (TELEMETRY, None, b"t/s", json.dumps(click).encode())
                produce_raw(KafkaSinkConfig(bootstrap_servers=broker, delivery_timeout_s=30), [written])
            fired = read(ann)["record"]
            assert (fired["intervention"], fired["user_id"], fired["status"]) == ("help_chat", "ann", "fired")
            ann.send(json.dumps({"op": "acknowledge", "intervention_id": fired["id"], "outcome": "shown"}))
            assert read(ann)["op"] == "acknowledged"
            heard: list[dict[str, Any]] = []
            while len(heard) < 2:
                message = read(dashboard)
                if message["op"] == "record" and message["record"]["type"] == "outcome":
                    heard.append(message["record"])
            assert [(o["intervention_id"], o["user_id"], o["outcome"]) for o in heard] == [
                (fired["id"], "ann", "delivered"),
                (fired["id"], "ann", "shown"),
            ]
            bob.send('{"op":"ping"}')
            assert read(bob) == {"op": "pong"}, "nothing of it was for him"
