"""Who may send from where, how much, how fast: everything that is refused before Kafka hears of it."""

import json
import socket
from typing import Any

import httpx
import pytest

from schemas.errors import ConfigError
from sources.collector import Collector, CollectorConfig, Key, server
from tests.fix_collector import EMOTION, KEY, SHOP, STREAM, Collecting, StartCollector, batch, device
from tests.fix_kafka import wait_until

EVERYWHERE = "::"
BLOG = "https://blog.example.org"
BLOG_KEY = "pk-of-the-blog"
KEYS = {
    KEY: Key("acme", frozenset({SHOP}), events_per_s=100_000, burst=100_000),
    BLOG_KEY: Key("blog", frozenset({BLOG}), events_per_s=100_000, burst=100_000),
}


def say(collecting: Collecting, *, url: str = STREAM, origin: str | None = None, **headers: str) -> httpx.Response:
    given = {"Content-Type": "text/plain", **headers} | ({"Origin": origin} if origin else {})
    return collecting.http.post(url, content=json.dumps(batch(device())), headers=given)


@pytest.mark.parametrize("path", [STREAM, EMOTION])
def test_without_a_key_of_ours_nothing_is_taken(collecting: Collecting, path: str) -> None:
    with httpx.Client(base_url=collecting.collector.url, trust_env=False) as stranger:
        for headers, query in (({}, ""), ({"X-Attune-Key": "pk-unknown"}, ""), ({}, "?key="), ({}, f"?key={KEY}x")):
            answer = stranger.post(path + query, json=batch(device()), headers=headers)
            assert (answer.status_code, answer.json()["error"]) == (401, "unknown_key")
        # As a beacon does it: no header, plain text.
        plain = {"Origin": SHOP, "Content-Type": "text/plain;charset=UTF-8"}
        answer = stranger.post(f"{STREAM}?key={KEY}", content=json.dumps(batch(device())), headers=plain)
        assert answer.json()["accepted"] == 1


def test_the_matrix_of_keys_and_origins(start_collector: StartCollector) -> None:
    collecting = start_collector(keys=KEYS)
    strangers = ["null", "http://shop.example.org", f"{SHOP}:444", f"{SHOP}.evil", "https://evil.example", f"{SHOP}/"]
    for key, own, other in ((KEY, SHOP, BLOG), (BLOG_KEY, BLOG, SHOP)):
        for named in ({"url": STREAM, "X-Attune-Key": key}, {"url": f"{STREAM}?key={key}", "X-Attune-Key": ""}):
            own_answer = say(collecting, origin=own, **named)
            assert own_answer.status_code == 200
            assert own_answer.headers["access-control-allow-origin"] == own
            assert "Origin" in own_answer.headers["vary"]
            assert "access-control-allow-credentials" not in own_answer.headers
            for foreign in (other, *strangers):
                answer = say(collecting, origin=foreign, **named)
                assert (answer.status_code, answer.json()["error"]) == (403, "foreign_origin"), foreign
                assert "access-control-allow-origin" not in answer.headers
            assert say(collecting, **named).status_code == 200, "a program names no origin"
    found = collecting.records(8)
    assert sorted(one["tenant_id"] for one in found) == ["acme"] * 4 + ["blog"] * 4


def test_what_a_page_may_read_of_a_refusal(start_collector: StartCollector) -> None:
    collecting = start_collector(keys=KEYS)
    answer = collecting.http.post(STREAM, content=b"{", headers={"Origin": SHOP, "Content-Type": "text/plain"})
    assert answer.status_code == 400
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert answer.headers["access-control-expose-headers"] == "Retry-After"


def test_a_browser_that_asks_first_is_told_what_it_may(start_collector: StartCollector) -> None:
    collecting = start_collector(keys=KEYS)
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-attune-key"}

    def ask(url: str, origin: str) -> httpx.Response:
        with httpx.Client(base_url=collecting.collector.url, trust_env=False) as browser:
            return browser.options(url, headers={"Origin": origin, **asks})

    for url in (STREAM, EMOTION):
        # The key comes in a header later: any key's pages may go on to ask.
        for origin in (SHOP, BLOG):
            answer = ask(url, origin)
            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers["access-control-allow-origin"] == origin
            assert answer.headers["access-control-allow-methods"] == "POST"
            assert answer.headers["access-control-allow-headers"].lower() == "content-type, x-attune-key"
        assert ask(f"{url}?key={KEY}", SHOP).status_code == 204
        for refused in (ask(url, "https://evil.example"), ask(url, "null"), ask(f"{url}?key={KEY}", BLOG)):
            assert refused.status_code == 403
            assert "access-control-allow-origin" not in refused.headers


def test_methods_paths_media_and_sizes(collecting: Collecting) -> None:
    http = collecting.http
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        answer = http.request(method, STREAM)
        assert (answer.status_code, set(answer.headers["allow"].split(", "))) == (405, {"POST", "OPTIONS"})
    assert http.post("/openapi.json").status_code == 405
    for path in ("/", "/api", f"{STREAM}/", "/api/telemetry/../../etc/passwd", "/docs"):
        assert http.post(path).status_code == 404
    for media in ("", "text/html", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"):
        assert say(collecting, **{"Content-Type": media}).json()["error"] == "media_type"
    for coding in ("gzip", "br", "deflate", "x"):
        assert say(collecting, **{"Content-Encoding": coding}).json()["error"] == "compressed"
    assert say(collecting, **{"Content-Type": "APPLICATION/JSON ; charset=utf-8"}).status_code == 200

    large = json.dumps(batch(device(), pad="x" * 65_536)).encode()
    exact = json.dumps(batch(device(), pad="")).encode()
    exact = json.dumps(batch(device(), pad="x" * (65_536 - len(exact)))).encode()
    assert len(exact) == 65_536
    as_json = {"Content-Type": "application/json"}
    assert http.post(STREAM, content=exact, headers=as_json).status_code == 200
    assert http.post(STREAM, content=exact + b" ", headers=as_json).status_code == 413
    pieces = (large[at : at + 1_000] for at in range(0, len(large), 1_000))
    assert http.post(STREAM, content=pieces, headers=as_json).status_code == 413, "no length given beforehand"


def test_an_address_and_a_key_may_send_so_much(start_collector: StartCollector) -> None:
    collecting = start_collector(client_events_per_s=10.0, client_burst=100)
    assert collecting.send(*(device() for _ in range(60))).json()["accepted"] == 60
    answer = collecting.send(*(device() for _ in range(60)))
    assert (answer.status_code, answer.json()["error"]) == (429, "too_fast")
    assert 1 <= int(answer.headers["retry-after"]) <= 3
    assert collecting.send(*(device() for _ in range(30))).status_code == 200, "what was refused is not counted"

    keys = {KEY: Key("acme", events_per_s=1.0, burst=100), BLOG_KEY: KEYS[BLOG_KEY]}
    collecting = start_collector(keys=keys)
    assert collecting.send(*(device() for _ in range(90))).status_code == 200
    refused = collecting.send(*(device() for _ in range(50)))
    assert refused.status_code == 429
    assert 39 <= int(refused.headers["retry-after"]) <= 41
    assert say(collecting, **{"X-Attune-Key": BLOG_KEY}).status_code == 200, "another key has its own"


def test_only_a_named_proxy_is_believed_where_a_request_comes_from(start_collector: StartCollector) -> None:
    limits: dict[str, Any] = {"client_events_per_s": 0.001, "client_burst": 100}
    many = [device() for _ in range(100)]
    behind = start_collector(**limits, behind_proxy=True, proxies=("127.0.0.1", "10.0.0.0/8"))
    for client in ("192.0.2.1", "192.0.2.2", "192.0.2.9, 192.0.2.3", "192.0.2.4, 10.1.2.3", "2001:db8::1"):
        answer = behind.http.post(STREAM, json=batch(*many), headers={"X-Forwarded-For": client})
        assert answer.status_code == 200, client
    for client in ("192.0.2.1", "evil, 192.0.2.2", "192.0.2.3", "2001:db8::ffff"):
        answer = behind.http.post(STREAM, json=batch(*many), headers={"X-Forwarded-For": client})
        assert answer.status_code == 429, client

    alone = start_collector(**limits)
    statuses = [
        alone.http.post(STREAM, json=batch(*many), headers={"X-Forwarded-For": f"192.0.2.{n}"}).status_code
        for n in range(3)
    ]
    assert statuses == [200, 429, 429]


def plug(collecting: Collecting, said: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", collecting.collector.port), 20)
    connection.sendall(said)
    return connection


def drained(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    with connection:
        parts = []
        try:
            while part := connection.recv(65_536):
                parts.append(part)
        except ConnectionResetError:
            pass
        return b"".join(parts)


HEAD = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nX-Attune-Key: {KEY}\r\nContent-Type: text/plain\r\n".encode()


def test_who_is_slow_is_cut_off(start_collector: StartCollector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MARGIN_S", 0.4)
    collecting = start_collector(body_timeout_s=0.3, confirm_timeout_s=0.3)
    answer = drained(plug(collecting, HEAD + b"Content-Length: 100\r\n\r\n{"))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"too_slow" in answer
    # A second for a whole exchange: silence, half a head, and half a second head are all cut.
    slow = [plug(collecting, said) for said in (b"", HEAD, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\nGET /he")]
    rest = [drained(connection) for connection in slow]
    assert rest[0] == rest[1] == b""
    assert rest[2].startswith(b"HTTP/1.1 200 ")
    assert rest[2].count(b"HTTP/1.1") == 1
    assert collecting.send(device()).status_code == 200


def test_connections_are_bounded(start_collector: StartCollector) -> None:
    collecting = start_collector(max_connections=10)
    fresh = collecting.http
    idle = [plug(collecting, b"") for _ in range(9)]
    try:
        wait_until(lambda: fresh.get("/health/live").status_code == 503, "the collector to be full", 10)
        more = [plug(collecting, b"") for _ in range(110)]
        # Beyond the spare ones nothing is even said.
        assert drained(plug(collecting, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")) == b""
        for connection in more:
            connection.close()
    finally:
        for connection in idle:
            connection.close()
    wait_until(lambda: fresh.get("/health/live").status_code == 200, "room for others again", 10)


def test_nonsense_gets_400_and_no_internals(collecting: Collecting) -> None:
    for said in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
    ):
        answer = drained(plug(collecting, said))
        assert answer.startswith(b"HTTP/1.1 400 "), said
        assert b"Traceback" not in answer
    long = drained(plug(collecting, b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n"))
    assert long == b"" or long.startswith(b"HTTP/1.1 400 ")
    assert collecting.send(device()).status_code == 200


def config(**settings: Any) -> CollectorConfig:
    return CollectorConfig(**{"keys": KEYS, "port": 0, **settings})


@pytest.mark.parametrize(
    "settings, told",
    [
        ({"keys": {}}, "expected at least one key"),
        ({"keys": {"short": Key("acme")}}, '"short"'),
        ({"keys": {KEY: Key("acme", frozenset({"shop.example.org"}))}}, "https://host"),
        ({"keys": {KEY: Key("acme", burst=99)}}, "at least a batch"),
        ({"client_burst": 99}, "at least a batch"),
        ({"host": EVERYWHERE}, "collector.behind_proxy = true"),
        ({"behind_proxy": True}, "collector.proxies"),
        ({"proxies": ("proxy.example.org",)}, "an address or a network"),
    ],
)
def test_settings_that_would_let_strangers_in_or_nobody_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        config(**settings)


def test_all_faults_of_the_settings_are_told_together() -> None:
    with pytest.raises(ConfigError) as raised:
        config(keys={}, host=EVERYWHERE, proxies=("x",))
    assert len(str(raised.value).split("\ncollector.")) == 3


def test_a_taken_port_is_told(collecting: Collecting) -> None:
    again = Collector(config(port=collecting.collector.port), {"bootstrap.servers": collecting.kafka})
    with pytest.raises(ConfigError, match="in use by another program"):
        again.start()
    again.stop()
