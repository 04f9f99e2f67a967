"""A page of a shop with the snippet in a real Chromium, a collector for it, and a gateway that a test speaks for."""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from sources.collector import Key
from tests.fix_collector import KEY, Collecting
from tests.fix_kafka import wait_until

PAGE = Path(__file__).with_name("attune_page.html")
EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


class Shop:
    """Serves the page. Not by answering in the browser's place: such a page may ask nothing of this machine."""

    def __init__(self) -> None:
        self.html = b""
        shop = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(shop.html)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def stop(self) -> None:
        """End it."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    yield shop
    shop.stop()


class Visit:
    """A page of the shop in a context of its own, and a collector that its origin may send to."""

    def __init__(self, browser: Browser, shop: Shop, collecting: Collecting, given: str = "", **options: Any) -> None:
        self.context = browser.new_context(viewport={"width": 900, "height": 600}, **options)
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        start = json.dumps({"collector": collecting.collector.url, "key": KEY})
        self.page.add_init_script(f"window.START = {start}; window.given = {{ {given} }};")
        shop.html = PAGE.read_bytes().replace(b"SNIPPET", f"{collecting.collector.url}attune.js".encode())
        self.page.goto(f"{shop.origin}/plans?mail=ann%40example.org")


OpenVisit = Callable[..., Visit]


@pytest.fixture
def visit(
    chromium: Browser, shop: Shop, start_collector_at: Callable[..., Collecting], kafka: str
) -> Iterator[tuple[OpenVisit, Callable[..., Collecting]]]:
    visits: list[Visit] = []

    def collect(**settings: Any) -> Collecting:
        return start_collector_at(kafka, **{"keys": {KEY: Key("acme", frozenset({shop.origin}))}, **settings})

    def open_visit(collecting: Collecting, given: str = "", **options: Any) -> Visit:
        visits.append(Visit(chromium, shop, collecting, given, **options))
        return visits[-1]

    yield open_visit, collect
    for one in visits:
        one.context.close()


Visiting = tuple[OpenVisit, Callable[..., Collecting]]


def once(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records without repeats, which must have the first one's time and content, or they would count."""
    found: dict[str, dict[str, Any]] = {}
    for one in records:
        assert found.setdefault(one["event_id"], one) == one
    return list(found.values())


def kinds(records: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the events of this kind, without repeats."""
    return [one for one in once(records) if one["type"] == f"telemetry.{kind}"]


class Gateway:
    """Speaks the gateway's protocol with one page: docs/websocket.md."""

    def __init__(self) -> None:
        self.heard: queue.Queue[dict[str, Any]] = queue.Queue()
        self.session = "s1"
        self.unavailable = False
        self.connections: list[ServerConnection] = []
        self.server: Server = serve(self._talk, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.socket.getsockname()[1]}/"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def _talk(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.path == "/ws"
        connection.send(json.dumps({"op": "challenge", "within_s": 5.0}))
        try:
            for text in connection:
                message = json.loads(text)
                self.heard.put(message)
                if message["op"] == "authenticate":
                    connection.send(json.dumps({"op": "hello", "protocol": 2, "session": self.session, "user": "u1"}))
                    self.connections.append(connection)
                elif self.unavailable or message["receipt"] != "of-" + message["intervention_id"]:
                    code = "unavailable" if self.unavailable else "unknown_intervention"
                    about = {"intervention_id": message["intervention_id"], "outcome": message["outcome"]}
                    connection.send(json.dumps({"op": "error", "code": code, "message": "", **about}))
                else:
                    connection.send(json.dumps(message | {"op": "acknowledged"}))
        except ConnectionClosed:
            pass

    def show(self, ident: str, intervention: str, receipt: str = "", **fields: Any) -> None:
        """Send an intervention, with its receipt if none is given."""
        content = {"headline": "<img src=x onerror=fail()>", "body": "<b>Can we help?</b>", "call_to_action": "Yes"}
        record: dict[str, Any] = {"type": "intervention", "id": ident, "intervention": intervention, "status": "fired"}
        record |= {"content": content, "expires_ts": int(time.time() * 1000) + 60_000} | fields
        said = {"op": "record", "channel": "interventions", "receipt": receipt or f"of-{ident}", "record": record}
        self.connections[-1].send(json.dumps(said))

    def acknowledged(self) -> tuple[str, str]:
        """Return what the page says next of an intervention."""
        message = self.heard.get(timeout=10)
        assert message["op"] == "acknowledge", message
        return message["intervention_id"], message["outcome"]

    def stop(self) -> None:
        """End it."""
        self.server.shutdown()
        for connection in self.connections:
            connection.close()
        self.thread.join()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.stop()


def connected(gateway: Gateway, token: str, count: int = 1) -> None:
    assert gateway.heard.get(timeout=10) == {"op": "authenticate", "token": token}
    wait_until(lambda: len(gateway.connections) == count, "the greeting", 10)


def until(page: Page, holds: Callable[[], object], what: str) -> None:
    """Wait until something holds, while the page goes on and its complaints are heard."""
    for _ in range(200):
        if holds():
            return
        page.wait_for_timeout(50)
    pytest.fail(f"not within 10 s: {what}")


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and tells nobody."""

    def log_message(self, format: str, *args: object) -> None:
        """Keep still."""


@pytest.fixture
def examples() -> Iterator[str]:
    """Serve the examples as ``python -m http.server`` does; returns the origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(EXAMPLES))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
