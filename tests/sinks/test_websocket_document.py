"""What docs/websocket.md says is so."""

import json
import os
import re
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from schemas.batches import Records
from sinks.websocket.asyncapi import CLOSE_CODES, FILE, document, text
from sinks.websocket.config import GatewayConfig
from sinks.websocket.connection import SPARE_CONNECTIONS
from sinks.websocket.envelope import CHANNEL_OF
from sinks.websocket.hub import SNAPSHOT_RECORDS_A_MESSAGE
from sinks.websocket.limits import KIB, MIB, Limits
from sinks.websocket.recorder import AT_MOST
from sinks.websocket.requests import AnyRequest, FaultCode, decode
from tests.fix_websocket import TOKENS, StartGateway, batch, token

DOCUMENT = Path(__file__).parents[2] / "docs" / "websocket.md"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """Write down the documented client."""
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "client.py"
    path.write_text(example, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "shown, told",
    [
        ("", "the gateway wants a token: set TOKEN\n"),
        ("nonsense", "refused: HTTP 401: "),
        (token(iss="another"), "refused: HTTP 401: "),
    ],
)
def test_the_documented_client_ends_where_no_token_helps(
    start_gateway: StartGateway, script: Path, shown: str, told: str
) -> None:
    running = start_gateway(verify=TOKENS.verify)
    command = [sys.executable, str(script), running.url]
    env = {**os.environ, "TOKEN": shown}
    ended = subprocess.run(command, capture_output=True, text=True, env=env, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(told)
    assert ended.stderr.count("\n") == 1


def test_the_documented_client_works(start_gateway: StartGateway, script: Path) -> None:
    running = start_gateway(verify=TOKENS.verify)
    tick = b'{"type":"engagement","session_id":"s","score":0.5,"category":"MODERATE"}'
    running.gateway.publish(Records("engagement", ["1"], ["t"], ["s"], [1], [tick]))
    raised = b'{"type":"anomaly","session_id":"s","anomaly_type":"MASS_EXIT","state":"raised"}'
    running.gateway.publish(Records("anomaly", ["1"], ["t"], ["s"], [1], [raised]))
    command = [sys.executable, str(script), running.url]
    env = {**os.environ, "TOKEN": token()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as client:
        try:
            assert client.stdout is not None
            assert [client.stdout.readline() for _ in range(2)] == ["s: 0.50 MODERATE\n", "s: MASS_EXIT raised\n"]
        finally:
            client.kill()


def schema(name: str) -> dict[str, Any]:
    """Return the schema of a message, with the others that it names."""
    return {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}


def test_every_documented_message_is_one() -> None:
    """The tables' messages against the schemas, with the dots that stand for more replaced."""
    text = DOCUMENT.read_text(encoding="utf-8")
    found = set()
    for written in re.findall(r"`(\{\"op\":.*?\})`", text):
        message = json.loads(
            written.replace("[...]", '["engagement"]').replace("{...}", '{"type":"x","id":"y","ts":1}')
        )
        name = message["op"].capitalize()
        jsonschema.validate(message, schema(name))
        if name in {request.__name__ for request in typing.get_args(AnyRequest)}:
            assert isinstance(decode(json.dumps(message)), typing.get_args(AnyRequest))
        found.add(name)
    assert found == set(document()["components"]["messages"])


def test_what_the_gateway_says_fits_its_schemas(start_gateway: StartGateway) -> None:
    running = start_gateway(verify=TOKENS.verify)
    browser = running.browser()
    said = [browser.hello, browser.ask(op="authenticate", token=token())]
    running.gateway.publish(batch("anomaly", ("t", "s")))
    running.gateway.drain()
    said += [browser.ask(op="subscribe", channels=["anomalies"]), browser.read(), browser.ask(op="nonsense")]
    said += [browser.ask(op="authenticate", token=token()), browser.ask(op="unsubscribe", channels=["anomalies"])]
    said += [browser.ask(op="ping")]
    assert len({message["op"] for message in said}) == 8
    for message in said:
        jsonschema.validate(message, schema(message["op"].capitalize()))


def test_the_machine_readable_description_is_what_the_messages_say() -> None:
    assert FILE.read_text(encoding="utf-8") == text()
    for ref in re.findall(r'"\$ref": "#/([^"]+)"', text()):
        place: Any = document()
        for part in ref.split("/"):
            place = place[part]
    told = {int(code): reason for code, reason in re.findall(r"^\| (\d{4}) \| ([^|]+) \|", DOCUMENT.read_text(), re.M)}
    assert told.keys() == CLOSE_CODES.keys()
    faults = re.findall(r"^\| `(\w+)` \|[^|]+\|$", DOCUMENT.read_text(), re.MULTILINE)
    assert {code.value for code in FaultCode} <= set(faults)


def test_the_documented_limits_are_the_defaults() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    limits, config = Limits(), GatewayConfig()
    for said in (
        f"{limits.clients:,}, and {SPARE_CONNECTIONS} more",
        f"{limits.messages_per_s:g} a second, {limits.messages_burst} at once",
        f"every {SNAPSHOT_RECORDS_A_MESSAGE} records of a snapshot",
        f"{limits.message_bytes // KIB} KiB, {limits.sessions} sessions",
        f"{limits.history_bytes // MIB} MiB in all; for each tenant {limits.history_sessions:,} sessions",
        f"{limits.history_records:,} records or {limits.snapshot_bytes // MIB} MiB of each channel",
        f"`history` of {limits.history_records:,}",
        f"{limits.clients_per_user} of each user, {limits.clients_per_address:,} from each address (",
        f"{limits.strangers:,} that have not shown a token yet",
        f"latest {limits.latest_records} of each tenant",
        f"outcomes that wait to be written | {AT_MOST:,}",
        f"more than {limits.queue_records:,} messages or {limits.queue_bytes // MIB} MiB wait",
        f"At most {limits.snapshot_records:,} records and {limits.snapshot_bytes // MIB} MiB",
        f"too many bad messages ({limits.faults})",
        f"over {limits.inbound_bytes_burst // KIB} KiB at once or {limits.inbound_bytes_per_s // KIB} KiB/s",
        f"not read for {config.stall_s:g} s",
        f"within {config.handshake_timeout_s:g} s",
        f"handshake, and the token after it | {config.handshake_timeout_s:g} s",
        f"cut off after {config.close_timeout_s:g} s",
    ):
        assert said in text.replace("\n", " "), said
    table = re.findall(r"^\| `(\w+)` \| ((?:`[\w.]+`(?:, )?)+) \|$", text, re.MULTILINE)
    told = {kind: channel for channel, kinds in table for kind in re.findall(r"`([\w.]+)`", kinds)}
    assert told == CHANNEL_OF
