"""What clients may cost: bad and too many messages, slow readers, connections that come to nothing."""

import socket
import time
from contextlib import suppress
from functools import partial

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Opcode

from sinks.websocket.limits import Limits
from tests.fix_websocket import DEADLINE_S, Running, StartGateway, batch, eventually, frame, subscription


def ended(plug: socket.socket) -> bool:
    """Wait for the other side to end a connection; returns whether it did so without a word."""
    plug.settimeout(DEADLINE_S)
    try:
        return plug.recv(1) == b""
    except ConnectionResetError:
        return True


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
    limits = Limits(
        queue_records=200, queue_bytes=400_000, snapshot_records=10, history_records=10, snapshot_bytes=40_000
    )
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
    assert slow.closed()[0] == 4008
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
