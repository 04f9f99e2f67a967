"""Who may connect, what a connection sees, and which settings are refused."""

import time
from pathlib import Path
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus

from schemas.errors import ConfigError
from schemas.registry import CHANNELS
from sinks.websocket.access import Verify, address, networks
from sinks.websocket.config import GatewayConfig
from sinks.websocket.gateway import Gateway
from sinks.websocket.limits import Limits
from tests.fix_websocket import TOKENS, Running, StartGateway, batch, eventually, token


def refused(running: Running, **options: Any) -> int:
    """Return the status with which a handshake is turned down."""
    with pytest.raises(InvalidStatus) as caught:
        running.browser(options.pop("shown", ""), **options)
    return caught.value.response.status_code


def test_tenants_see_themselves_alone(start_gateway: StartGateway) -> None:
    running = start_gateway(verify=TOKENS.verify)
    browsers = {t: running.browser(token(t)) for t in ("t1", "t2")}
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
    running = start_gateway(behind_proxy=True, origins=("https://dash.example",), verify=TOKENS.verify)
    assert running.browser(token(), origin="https://dash.example").hello["tenant"] == "t"
    assert running.browser(token()).hello["tenant"] == "t", "no page can send a token in a header"
    assert refused(running) == 403, "a missing origin is not from this machine"
    own = f"http://127.0.0.1:{running.gateway.port}"
    assert refused(running, shown=token(), origin=own) == 403


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
def test_without_authentication_nothing_forwarded_is_taken(running: Running, header: str) -> None:
    assert refused(running, additional_headers={header: "203.0.113.7"}) == 403


def test_behind_a_proxy_nobody_comes_past_it(start_gateway: StartGateway) -> None:
    settings = {"behind_proxy": True, "origins": ("https://dash.example",), "verify": TOKENS.verify}
    running = start_gateway(proxies=("192.0.2.0/24",), **settings)
    assert refused(running, shown=token()) == 403
    assert refused(running, shown=token(), forwarded="192.0.2.7") == 403, "what a stranger says of himself"
    assert running.http("/health/ready")[0].status == 200, "who looks after it need not come through the proxy"


@pytest.mark.parametrize(
    "behind_proxy, forwarded, expected",
    [
        (False, ["198.51.100.1"], "203.0.113.9"),
        (True, [], "10.0.0.1"),
        (True, ["198.51.100.1"], "198.51.100.1"),
        (True, ["192.0.2.66, 198.51.100.1"], "198.51.100.1"),
        (True, ["192.0.2.66", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        (True, ["2001:db8::1"], "2001:db8::1"),
        (True, ["garbage"], "garbage"),
    ],
)
def test_forwarded_addresses_count_only_from_our_proxies(
    behind_proxy: bool, forwarded: list[str], expected: str
) -> None:
    """The last hop that is none of ours: all before it was said by whoever connected."""
    headers = Headers([("X-Forwarded-For", value) for value in forwarded])
    peer = "10.0.0.1" if behind_proxy else "203.0.113.9"
    assert address(headers, peer, networks(("10.0.0.0/8",)), behind_proxy=behind_proxy) == expected


def test_connections_of_an_address_are_bounded(start_gateway: StartGateway) -> None:
    settings = {"behind_proxy": True, "origins": ("https://dash.example",), "verify": TOKENS.verify}
    running = start_gateway(limits=Limits(clients_per_address=2), **settings)
    first, second = (running.browser(token(), forwarded="198.51.100.1") for _ in range(2))
    assert refused(running, shown=token(), forwarded="198.51.100.1") == 429
    assert refused(running, shown=token(), forwarded="192.0.2.1, 198.51.100.1") == 429
    assert running.browser(token(), forwarded="198.51.100.2").hello["op"] == "hello"
    first.connection.close()
    eventually(lambda: len(running.gateway._hub._clients) == 2, "one has gone")
    assert running.browser(token(), forwarded="198.51.100.1").hello["op"] == "hello"
    second.connection.close()


def test_one_network_of_ipv6_is_one_address(start_gateway: StartGateway) -> None:
    settings = {"behind_proxy": True, "origins": ("https://dash.example",), "verify": TOKENS.verify}
    running = start_gateway(limits=Limits(clients_per_address=2), **settings)
    for host in (1, 2):
        running.browser(token(), forwarded=f"2001:db8:0:1::{host}")
    assert refused(running, shown=token(), forwarded="2001:db8:0:1:ffff::3") == 429
    assert running.browser(token(), forwarded="2001:db8:0:2::1").hello["op"] == "hello"


def test_a_sweep_that_fails_is_not_the_last(start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    running = start_gateway(verify=TOKENS.verify, sweep_s=0.02)
    browser = running.browser(token(exp=int(time.time()) + 1))
    sweep, failed = running.gateway._hub.sweep, list[int]()

    def once(*arguments: Any) -> None:
        if not failed:
            failed.append(1)
            raise RuntimeError("broken")
        sweep(*arguments)

    monkeypatch.setattr(running.gateway._hub, "sweep", once)
    assert browser.closed()[0] == 4002
    assert failed


def test_who_says_nothing_has_a_seat_too(start_gateway: StartGateway) -> None:
    running = start_gateway(limits=Limits(clients_per_address=3), verify=TOKENS.verify, handshake_timeout_s=600.0)
    for _ in range(3):
        assert running.browser().hello["op"] == "challenge"
    assert refused(running) == 429


def test_strangers_take_nobody_s_place(start_gateway: StartGateway) -> None:
    running = start_gateway(limits=Limits(strangers=3), verify=TOKENS.verify, handshake_timeout_s=600.0)
    strangers = [running.browser() for _ in range(3)]
    assert refused(running) == 503
    assert running.browser(token()).hello["op"] == "hello"
    strangers[0].say(op="authenticate", token=token())
    assert strangers[0].read()["op"] == "hello"
    assert running.browser().hello["op"] == "challenge"


def test_connections_of_a_user_are_bounded(start_gateway: StartGateway) -> None:
    running = start_gateway(limits=Limits(clients_per_user=2), verify=TOKENS.verify)
    for _ in range(2):
        running.browser(token(user="ann"))
    assert refused(running, shown=token(user="ann")) == 429
    late = running.browser()
    late.say(op="authenticate", token=token(user="ann"))
    assert late.closed() == (4029, "too many connections of this user")
    assert running.browser(token("other", user="ann")).hello["op"] == "hello", "a namesake of another tenant"
    assert running.browser(token(user="bob")).hello["op"] == "hello"


def test_a_full_gateway_turns_down(start_gateway: StartGateway) -> None:
    running = start_gateway(limits=Limits(clients=1))
    running.browser()
    assert refused(running) == 503


@pytest.mark.parametrize(
    "settings, verify, says",
    [
        ({"host": "0.0.0.0"}, TOKENS.verify, "gateway.host: 0.0.0.0 can be reached from other machines"),  # noqa: S104 - refused
        ({"host": "::", "origins": ("https://a.example",)}, TOKENS.verify, "gateway.host"),
        ({"behind_proxy": True, "origins": ("https://a.example",)}, None, "nobody is authenticated"),
        ({"host": "0.0.0.0", "behind_proxy": True, "origins": ("https://a.example",)}, None, "nobody is"),  # noqa: S104 - refused
        ({"behind_proxy": True}, TOKENS.verify, "gateway.origins: behind a proxy"),
        ({"origins": ("*",)}, TOKENS.verify, "gateway.origins: expected"),
        ({"origins": ("https://*.example",)}, TOKENS.verify, "gateway.origins: expected"),
        ({"origins": ("https://a.example/",)}, TOKENS.verify, "gateway.origins: expected"),
        ({"proxies": ("10.0.0.0/33",)}, TOKENS.verify, "gateway.proxies: expected"),
        ({"dashboard": Path("nowhere")}, TOKENS.verify, "dashboard: nowhere/index.html can't be read"),
    ],
)
def test_settings_that_expose_or_lock_out_are_refused(
    settings: dict[str, Any], verify: Verify | None, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        Gateway(GatewayConfig(**settings), verify=verify)


def test_limits_must_fit_each_other() -> None:
    with pytest.raises(ConfigError, match="queue_records"):
        Limits(queue_records=100)
    with pytest.raises(ConfigError, match="clients: expected a number above 0"):
        Limits(clients=0)
    with pytest.raises(ConfigError, match="inbound_bytes_burst"):
        Limits(message_bytes=40_000)
