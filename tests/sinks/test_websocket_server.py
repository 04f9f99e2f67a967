"""The gateway over real sockets: what arrives, where, in which order, and what ends a connection."""

import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from websockets.http11 import Request

from schemas.batches import Records
from schemas.errors import AttuneError, ConfigError, TransientError
from schemas.registry import CHANNELS
from sinks.websocket.access import RefusedError
from sinks.websocket.config import GatewayConfig
from sinks.websocket.connection import SPARE_CONNECTIONS
from sinks.websocket.gateway import Gateway, slices
from sinks.websocket.hub import SNAPSHOT_RECORDS_A_MESSAGE
from sinks.websocket.limits import KIB, MIB, Limits
from sinks.websocket.messages import CHANNEL_OF
from sinks.websocket.principal import Principal
from tests.fix_websocket import DEADLINE_S, Running, StartGateway, batch, eventually, frame, subscription


def by_header(request: Request) -> Principal:
    """Take the tenant from a header: stands where a token will."""
    if "X-Tenant" not in request.headers:
        raise RefusedError(401, "Expected a tenant.\n")
    return Principal(request.headers["X-Tenant"], "viewer")


def refused(running: Running, **options: Any) -> int:
    """Return the status with which a handshake is turned down."""
    with pytest.raises(InvalidStatus) as caught:
        running.browser(**options)
    return caught.value.response.status_code


def ended(plug: socket.socket) -> bool:
    """Wait for the other side to end a connection; returns whether it did so without a word."""
    plug.settimeout(DEADLINE_S)
    try:
        return plug.recv(1) == b""
    except ConnectionResetError:
        return True


def test_records_arrive_in_order(running: Running) -> None:
    browser = running.browser()
    assert (browser.hello["tenant"], browser.hello["role"]) == (None, "developer")
    assert browser.subscribe("anomalies") == []
    running.gateway.publish(batch("anomaly", *[("t", "s")] * 500))
    assert browser.numbers(500) == list(range(1, 501))
    assert browser.ask(op="ping") == {"op": "pong"}


def test_the_snapshot_comes_first_and_then_the_changes(running: Running) -> None:
    running.gateway.publish(batch("engagement", ("t", "a"), ("t", "b"), ("t", "a")))
    running.gateway.drain()
    browser = running.browser()
    assert [message["record"]["n"] for message in browser.subscribe("engagement")] == [2, 3]
    running.gateway.publish(batch("engagement", ("t", "b"), first=4))
    assert browser.numbers(1) == [4]


def test_channels_are_never_mixed(running: Running) -> None:
    one, other = running.browser(), running.browser()
    one.subscribe("anomalies")
    other.subscribe("interventions")
    for n in range(1, 40, 4):
        running.gateway.publish(batch("anomaly", ("t", "s"), first=n))
        running.gateway.publish(batch("intervention", ("t", "s"), first=n + 1))
        running.gateway.publish(batch("outcome", ("t", "s"), first=n + 2))
        running.gateway.publish(batch("dead_letter", ("t", "s"), first=n + 3))
        running.gateway.publish(batch("calibration", ("t", ""), first=n + 3))
        running.gateway.publish(batch("telemetry.click", ("t", "s"), first=n + 3))
    got = [one.read() for _ in range(10)]
    assert {(m["channel"], m["record"]["type"]) for m in got} == {("anomalies", "anomaly")}
    got = [other.read() for _ in range(20)]
    assert [m["record"]["type"] for m in got] == ["intervention", "outcome"] * 10
    assert one.ask(op="ping") == other.ask(op="ping") == {"op": "pong"}, "nothing else was sent"


def test_tenants_see_themselves_alone(start_gateway: StartGateway) -> None:
    running = start_gateway(authenticate=by_header)
    assert refused(running) == 401
    browsers = {t: running.browser(additional_headers={"X-Tenant": t}) for t in ("t1", "t2")}
    for browser in browsers.values():
        browser.subscribe(*CHANNELS)
    for kind in ("engagement", "anomaly", "emotion", "decision", "session"):
        running.gateway.publish(batch(kind, ("t1", "s"), ("t2", "s")))
    for tenant, browser in browsers.items():
        assert browser.hello["tenant"] == tenant
        assert [browser.read()["record"]["tenant_id"] for _ in range(5)] == [tenant] * 5
        assert browser.ask(op="ping") == {"op": "pong"}


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://127.0.0.1:{port}.evil.example",
        "http://127.0.0.1",
        "http://evil.example:{port}",
    ],
)
def test_foreign_pages_may_not_connect(running: Running, origin: str) -> None:
    assert refused(running, origin=origin.format(port=running.gateway.port)) == 403


def test_several_origins_are_none(running: Running) -> None:
    own = f"http://127.0.0.1:{running.gateway.port}"
    assert refused(running, additional_headers=[("Origin", own), ("Origin", own)]) == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_own_page_may_connect(running: Running, host: str) -> None:
    assert running.browser(origin=f"http://{host}:{running.gateway.port}").hello["op"] == "hello"


def test_listed_origins_may_connect_behind_a_proxy(start_gateway: StartGateway) -> None:
    running = start_gateway(behind_proxy=True, origins=("https://dash.example",), authenticate=by_header)
    who = {"X-Tenant": "t"}
    assert running.browser(origin="https://dash.example", additional_headers=who).hello["tenant"] == "t"
    assert refused(running, additional_headers=who) == 403, "a missing origin is not from this machine"
    own = f"http://127.0.0.1:{running.gateway.port}"
    assert refused(running, origin=own, additional_headers=who) == 403


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
def test_without_authentication_nothing_forwarded_is_taken(running: Running, header: str) -> None:
    assert refused(running, additional_headers={header: "203.0.113.7"}) == 403


def test_a_full_gateway_turns_down(start_gateway: StartGateway) -> None:
    running = start_gateway(limits=Limits(clients=1))
    running.browser()
    assert refused(running) == 503


@pytest.mark.parametrize("text", ["{", "[" * 5_000, '{"op":"subscribe","channels":["*"]}', b"\x00\x01"])
def test_bad_messages_are_answered_and_then_closed(running: Running, text: str | bytes) -> None:
    browser = running.browser()
    for _ in range(10):
        browser.connection.send(text)
    assert [browser.read()["op"] for _ in range(10)] == ["error"] * 10
    assert browser.closed() == (1008, "too many bad messages")


def test_text_that_is_not_utf8_is_closed(running: Running) -> None:
    browser = running.browser()
    browser.connection.send(b"\xff\xfe", text=True)
    assert browser.closed()[0] == 1007


@pytest.mark.parametrize("size", [17_000, 1_000_000])
def test_an_oversized_message_is_closed(running: Running, size: int) -> None:
    browser = running.browser()
    browser.connection.send("x" * size)
    assert browser.closed()[0] == 1009


def test_too_many_messages_are_answered_and_then_closed(running: Running) -> None:
    browser = running.browser()
    with suppress(ConnectionClosed):
        for _ in range(1_000):
            browser.say(op="ping")
    replies = []
    with pytest.raises(ConnectionClosed, match="1008"):  # noqa: PT012 - read on until it is raised
        while True:
            replies.append(browser.read())
    assert replies[:30] == [{"op": "pong"}] * 30
    assert [reply["code"] for reply in replies if reply["op"] == "error"] == ["too_fast"] * 10


@pytest.mark.parametrize("how", ["send", "ping"])
def test_a_flood_ends_the_connection_and_disturbs_nobody(running: Running, how: str) -> None:
    browser, calm = running.browser(), running.browser()
    flood = partial(browser.connection.send, '{"op":"ping"}') if how == "send" else browser.connection.ping
    deadline = time.monotonic() + DEADLINE_S
    with pytest.raises(ConnectionClosed):  # noqa: PT012 - which of them fails is left to the sockets
        while time.monotonic() < deadline:
            flood()
    assert calm.ask(op="ping") == {"op": "pong"}


def test_pongs_that_nobody_reads_do_not_pile_up(start_gateway: StartGateway) -> None:
    running = start_gateway(limits=Limits(inbound_bytes_burst=1 << 30))
    deaf = running.deaf()
    pings = frame(Opcode.PING, b"x" * 125) * 100
    with pytest.raises(ConnectionError):  # noqa: PT012 - which of the sends fails is left to the sockets
        for _ in range(1_000):
            deaf.sendall(pings)


def test_a_slow_reader_is_dropped_and_the_others_go_on(start_gateway: StartGateway) -> None:
    limits = Limits(queue_records=200, queue_bytes=400_000, snapshot_records=10, snapshot_bytes=40_000)
    running = start_gateway(limits=limits, close_timeout_s=15.0)
    slow, quick = running.browser(receive_buffer=4_096), running.browser()
    for browser in (slow, quick):
        browser.subscribe("decisions")
    n = 0
    while running.gateway._hub.subscribers["decisions"] == 2:
        running.gateway.publish(batch("decision", ("t", "s"), first=n + 1, pad=4_000))
        n += 1
        assert quick.numbers(1) == [n]
        assert n < 5_000, "what a client does not read has no bound"
    assert slow.closed()[0] == 1013
    running.gateway.publish(batch("decision", ("t", "s"), first=n + 1))
    assert quick.numbers(1) == [n + 1]


def test_a_client_that_is_dropped_is_not_waited_for(start_gateway: StartGateway) -> None:
    limits = Limits(queue_bytes=1_000_000, snapshot_bytes=100_000)
    running = start_gateway(limits=limits, stall_s=600.0, close_timeout_s=0.2, ping_interval_s=600.0)
    running.deaf(subscription("decisions"))
    eventually(lambda: running.gateway._hub.subscribers["decisions"], "subscribed")
    for n in range(20):  # far more than the kernel holds, so that a write is under way
        running.gateway.publish(batch("decision", ("t", "s"), first=n + 1, pad=150_000))
        running.gateway.drain()
    eventually(lambda: not running.gateway._hub._clients, "the write under way was given up")


def test_a_reader_that_stops_is_dropped_though_its_queue_is_short(start_gateway: StartGateway) -> None:
    running = start_gateway(stall_s=0.3, close_timeout_s=0.3)
    running.deaf(subscription("engagement"))
    other = running.browser()
    eventually(lambda: running.gateway._hub.subscribers["engagement"], "subscribed")
    deadline, n = time.monotonic() + DEADLINE_S, 0
    while running.gateway._hub.subscribers["engagement"] and time.monotonic() < deadline:
        n += 1
        running.gateway.publish(batch("engagement", ("t", "s"), first=n, pad=50_000))
        running.gateway.drain()
    eventually(lambda: len(running.gateway._hub._clients) == 1, "the connection ended by force")
    assert other.ask(op="ping") == {"op": "pong"}


def test_stopping_tells_the_clients(running: Running) -> None:
    browser = running.browser()
    running.gateway.stop()
    assert browser.closed() == (1001, "the gateway is stopping")
    with pytest.raises(TransientError, match="it was stopped"):
        running.gateway.publish(batch("anomaly", ("t", "s")))
    running.gateway.stop()
    with pytest.raises(AttuneError, match="started before"):
        running.gateway.start()


def test_stopping_does_not_wait_for_who_says_nothing(start_gateway: StartGateway) -> None:
    running = start_gateway(close_timeout_s=0.2, stall_s=600.0, handshake_timeout_s=600.0)
    with socket.create_connection(("127.0.0.1", running.gateway.port)) as silent:
        running.deaf(subscription("decisions"))
        eventually(lambda: running.gateway._hub.subscribers["decisions"], "subscribed")
        running.gateway.publish(batch("decision", *[("t", "s")] * 100, pad=10_000))
        running.gateway.drain()
        running.gateway.stop()
        assert not running.gateway._thread.is_alive()
        assert ended(silent)


def test_a_handshake_must_come_to_an_end(start_gateway: StartGateway) -> None:
    running = start_gateway(handshake_timeout_s=0.2)
    with socket.create_connection(("127.0.0.1", running.gateway.port), timeout=10) as slow:
        slow.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\n")
        assert ended(slow)


def test_connections_are_bounded_before_they_say_anything(start_gateway: StartGateway) -> None:
    running = start_gateway(limits=Limits(clients=1))
    sockets = [socket.create_connection(("127.0.0.1", running.gateway.port), timeout=10) for _ in range(150)]
    try:
        eventually(lambda: len(running.gateway._server._wires) == 101, "the rest is turned away")
    finally:
        for plug in sockets:
            plug.close()
    eventually(lambda: not running.gateway._server._wires, "all are forgotten")


def test_a_port_in_use_is_named(running: Running) -> None:
    other = Gateway(GatewayConfig(port=running.gateway.port))
    with pytest.raises(ConfigError, match=f"gateway.port: 127.0.0.1:{running.gateway.port} is in use") as caught:
        other.start()
    assert "ATTUNE_GATEWAY__PORT" in str(caught.value)
    other.stop()


def test_an_address_of_another_machine_is_named(start_gateway: StartGateway) -> None:
    with pytest.raises(ConfigError, match=r"gateway.host: can't listen on 192.0.2.1:0"):
        start_gateway(host="192.0.2.1", behind_proxy=True, origins=("https://a.example",), authenticate=by_header)


@pytest.mark.parametrize(
    "settings, authenticate, says",
    [
        ({"host": "0.0.0.0"}, by_header, "gateway.host: 0.0.0.0 can be reached from other machines"),  # noqa: S104
        ({"host": "::", "origins": ("https://a.example",)}, by_header, "gateway.host"),
        ({"behind_proxy": True, "origins": ("https://a.example",)}, None, "nobody is authenticated"),
        ({"host": "0.0.0.0", "behind_proxy": True, "origins": ("https://a.example",)}, None, "nobody is"),  # noqa: S104
        ({"behind_proxy": True}, by_header, "gateway.origins: behind a proxy"),
        ({"origins": ("*",)}, by_header, "gateway.origins: expected"),
        ({"origins": ("https://*.example",)}, by_header, "gateway.origins: expected"),
        ({"origins": ("https://a.example/",)}, by_header, "gateway.origins: expected"),
        ({"dashboard": Path("nowhere")}, by_header, "dashboard: nowhere/index.html can't be read"),
    ],
)
def test_settings_that_expose_or_lock_out_are_refused(settings, authenticate, says) -> None:  # type: ignore[no-untyped-def]
    more = {} if authenticate is None else {"authenticate": authenticate}
    with pytest.raises(ConfigError, match=says):
        Gateway(GatewayConfig(**settings), **more)


def test_limits_must_fit_each_other() -> None:
    with pytest.raises(ConfigError, match="queue_records"):
        Limits(queue_records=100)
    with pytest.raises(ConfigError, match="clients: expected a number above 0"):
        Limits(clients=0)
    with pytest.raises(ConfigError, match="inbound_bytes_burst"):
        Limits(message_bytes=40_000)


def test_many_threads_may_publish(running: Running) -> None:
    browser = running.browser()
    browser.subscribe("anomalies")

    def publish(tenant: str) -> None:
        for n in range(1, 101):
            running.gateway.publish(batch("anomaly", (tenant, "s"), first=n))

    threads = [threading.Thread(target=publish, args=(f"t{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got: dict[str, list[int]] = {}
    for _ in range(400):
        record = browser.read()["record"]
        got.setdefault(record["tenant_id"], []).append(record["n"])
    assert got == {f"t{i}": list(range(1, 101)) for i in range(4)}


def test_the_documented_client_works(running: Running, tmp_path: Path) -> None:
    document = Path(__file__).parents[2] / "docs" / "websocket.md"
    (example,) = re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    script = tmp_path / "client.py"
    script.write_text(example, encoding="utf-8")
    tick = b'{"type":"engagement","session_id":"s","score":0.5,"category":"MODERATE"}'
    running.gateway.publish(Records("engagement", ["1"], ["t"], ["s"], [1], [tick]))
    raised = b'{"type":"anomaly","session_id":"s","anomaly_type":"MASS_EXIT","state":"raised"}'
    running.gateway.publish(Records("anomaly", ["1"], ["t"], ["s"], [1], [raised]))
    with subprocess.Popen([sys.executable, script, running.url], stdout=subprocess.PIPE, text=True) as client:
        try:
            assert client.stdout is not None
            assert [client.stdout.readline() for _ in range(2)] == ["s: 0.50 MODERATE\n", "s: MASS_EXIT raised\n"]
        finally:
            client.kill()


def test_the_documented_limits_are_the_defaults() -> None:
    text = (Path(__file__).parents[2] / "docs" / "websocket.md").read_text(encoding="utf-8")
    limits, config = Limits(), GatewayConfig()
    for said in (
        f"{limits.clients:,}, and {SPARE_CONNECTIONS} more",
        f"{limits.messages_per_s:g} a second, {limits.messages_burst} at once",
        f"every {SNAPSHOT_RECORDS_A_MESSAGE} records of a snapshot",
        f"{limits.message_bytes // KIB} KiB, {limits.sessions} sessions",
        f"{limits.history_bytes // MIB} MiB in all; {limits.history_sessions:,} sessions and {limits.history_records}",
        f"more than {limits.queue_records:,} messages or {limits.queue_bytes // MIB} MiB wait",
        f"At most {limits.snapshot_records:,} records and {limits.snapshot_bytes // MIB} MiB",
        f"too many bad messages ({limits.faults})",
        f"over {limits.inbound_bytes_burst // KIB} KiB at once or {limits.inbound_bytes_per_s // KIB} KiB/s",
        f"not read for {config.stall_s:g} s",
        f"handshake | {config.handshake_timeout_s:g} s",
        f"cut off after {config.close_timeout_s:g} s",
    ):
        assert said in text.replace("\n", " "), said
    table = re.findall(r"^\| `(\w+)` \| ((?:`[\w.]+`(?:, )?)+) \|$", text, re.MULTILINE)
    told = {kind: channel for channel, kinds in table for kind in re.findall(r"`([\w.]+)`", kinds)}
    assert told == CHANNEL_OF


def test_large_batches_are_cut() -> None:
    records = batch("anomaly", *[("t", "s")] * 7)
    parts = list(slices(records, 3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [i for part in parts for i in part.ids] == records.ids
    assert list(slices(records, 7)) == [records]


def test_a_failing_gateway_fails_its_publishers(running: Running) -> None:
    broken = Records("anomaly", ["1"], ["t"], ["s"], [1], [None])  # type: ignore[list-item]
    running.gateway.publish(broken)
    with pytest.raises(TransientError, match="it failed"):
        running.gateway.drain()
    with pytest.raises(TransientError, match="it failed"):
        running.gateway.publish(batch("anomaly", ("t", "s")))
