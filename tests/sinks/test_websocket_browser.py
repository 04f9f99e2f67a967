"""The dashboard in a real browser: what it shows, what it says when the gateway goes, and that nothing fails in it."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.sync.client import ClientConnection, connect

from schemas.batches import Records
from schemas.outbound import Contributions, Engagement, SessionSummary, Signals
from sinks.websocket.handout import PATH, Handout
from tests.fix_websocket import DEADLINE_S, KEY, TOKENS, Running, StartGateway, eventually

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="optional: no Chromium on this machine")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"),
)
START = 1_700_000_000_000


class Page:
    """One tab, driven over the browser's own debugging socket."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._count = 0
        self.complaints: list[Any] = []
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the browser; what it complains about meanwhile is collected."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            message: dict[str, Any] = json.loads(self._socket.recv(timeout=DEADLINE_S))
            if message.get("id") == self._count:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            if message.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(message["params"])

    def eval(self, expression: str) -> Any:
        """Evaluate an expression of JavaScript in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def text(self, selector: str) -> list[str]:
        """Return the texts of all elements that a selector finds."""
        found: list[str] = self.eval(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)")
        return found

    def shows(self, selector: str, expected: list[str]) -> None:
        """Wait until the elements have these texts."""
        eventually(lambda: self.text(selector) == expected, f"{selector} = {expected}, is {self.text(selector)}")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """Start a browser with a new profile."""
    assert CHROMIUM is not None
    profile = tmp_path / "profile"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as browser:
        try:
            told = profile / "DevToolsActivePort"
            eventually(lambda: told.exists() and told.read_text().count("\n"), "the browser listens")
            port, path = told.read_text().split()
            with connect(f"ws://127.0.0.1:{port}{path}", proxy=None) as root:
                root.send(json.dumps({"id": 1, "method": "Target.createTarget", "params": {"url": "about:blank"}}))
                target = json.loads(root.recv(timeout=DEADLINE_S))["result"]["targetId"]
                with connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", proxy=None, max_size=None) as socket:
                    yield Page(socket)
        finally:
            browser.terminate()


def engagement(session: str, tick: int, score: float, category: Any) -> Engagement:
    return Engagement(
        id=f"{session}/{tick}",
        tenant_id="acme",
        session_id=session,
        ts=START + 5_000 * tick,
        session_start=START,
        score=score,
        category=category,
        signals=Signals(
            chat_per_min=12,
            reactions_per_min=3,
            connected_users=40,
            active_users=10,
            active_ratio=0.25,
            poll_participation=0.0,
            leave_rate=0.025,
        ),
        contributions=Contributions(chat=score + 0.02, poll=0.0, active=0.0, reactions=0.0, leaves=-0.02),
    )


def ending(session: str, tick: int) -> SessionSummary:
    return SessionSummary(
        id=f"{session}/end",
        tenant_id="acme",
        session_id=session,
        ts=START + 5_000 * tick,
        session_start=START,
        ended_by="ended",
        duration_ms=5_000 * tick,
        events=1,
        chat_messages=1,
        reactions=0,
        votes=0,
        telemetry=0,
        joins=0,
        leaves=0,
        users=1,
        peak_connected=1,
        ticks=1,
        score_mean=0.1,
        score_peak=0.1,
    )


def publisher(running: Running) -> Callable[[Engagement | SessionSummary], None]:
    def publish(record: Engagement | SessionSummary) -> None:
        kind = "engagement" if isinstance(record, Engagement) else "session"
        place = ([record.id], [record.tenant_id], [record.session_id], [record.ts])
        running.gateway.publish(Records(kind, *place, [msgspec.json.encode(record)]))

    return publish


def test_the_dashboard_shows_what_the_gateway_sends(running: Running, page: Page) -> None:
    publish = publisher(running)
    page.call("Page.navigate", url=running.gateway.url)
    page.shows("#state", ["Live"])
    page.shows("#empty:not([hidden])", ["Waiting for the first records."])

    for tick, (score, category) in enumerate([(0.85, "VERY_HIGH"), (0.85, "VERY_HIGH"), (0.5, "MODERATE")]):
        publish(engagement("<img src=x onerror=alert(1)>", tick, score, category))
    publish(engagement("low", 1, 0.1, "VERY_LOW"))
    page.shows(".row .name", ["<img src=x onerror=alert(1)>", "low"])
    page.shows(".row .value", ["0.50", "0.10"])
    page.shows("#detail-title", ["<img src=x onerror=alert(1)>"])
    page.shows("#why .amount", ["+0.520", "0.000", "0.000", "0.000", "\N{MINUS SIGN}0.020"])
    page.shows("#sum", ["These add up to 0.500."])
    page.shows("#signals dd", ["12", "3", "40", "10", "25 %", "0 %", "2.5 %"])
    assert page.eval("document.querySelectorAll('#chart polyline').length") == 2, "one line for each category"

    page.eval("document.querySelector('#order').value = 'lowest'")
    page.eval("document.querySelector('#order').dispatchEvent(new Event('change'))")
    page.shows(".row .name", ["low", "<img src=x onerror=alert(1)>"])
    page.eval("document.querySelector('.row').focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowDown", code="ArrowDown")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowUp", code="ArrowUp")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", text="\r")
    page.shows("#detail-title", ["low"])
    page.shows(".row[aria-pressed=true] .name", ["low"])

    publish(ending("low", tick=2))
    page.shows(".row .name", ["<img src=x onerror=alert(1)>"])
    page.shows("#ended:not([hidden])", ["This session has ended. What is shown is its last state."])
    assert page.complaints == []


def test_the_dashboard_comes_back_when_the_gateway_does(
    running: Running, start_gateway: StartGateway, page: Page
) -> None:
    page.call("Page.navigate", url=running.gateway.url)
    page.shows("#state", ["Live"])
    publisher(running)(engagement("old", 1, 0.5, "MODERATE"))
    page.shows(".row .name", ["old"])
    assert page.complaints == []
    running.gateway.stop()
    eventually(lambda: page.text("#state")[0].startswith("Reconnecting"), "the page tells that it is cut off")
    again = start_gateway(port=running.gateway.port)
    publisher(again)(engagement("new", 1, 0.5, "MODERATE"))
    page.shows("#state", ["Live"])
    page.shows(".row .name", ["new"])


def test_the_dashboard_shows_its_token(start_gateway: StartGateway, page: Page) -> None:
    handout = Handout(KEY, "https://issuer.test", "gateway.test", "acme")
    running = start_gateway(verify=TOKENS.verify, pages={PATH: handout})

    def tenants() -> set[str | None]:
        return {client.principal.tenant for client in running.gateway._hub._clients}

    page.call("Page.navigate", url=running.gateway.url)
    page.shows("#state", ["Live"])
    assert tenants() == {"acme"}
    page.call("Page.navigate", url=f"{running.gateway.url}?tenant=other")
    eventually(lambda: "other" in tenants(), "the tenant of the address")
    page.shows("#state", ["Live"])
    assert page.complaints == []
