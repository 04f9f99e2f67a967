"""The page in docs/examples, which rests on docs/websocket.md alone, shows live scores."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.dashboard import told
from tests.fix_browser import Tab
from tests.fix_websocket import StartGateway

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and tells nobody."""

    def log_message(self, format: str, *args: object) -> None:
        """Keep still."""


@pytest.fixture
def origin() -> Iterator[str]:
    """Serve the examples as ``python -m http.server`` does; returns the origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(EXAMPLES))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_page_of_30_lines_shows_live_scores(origin: str, start_gateway: StartGateway, tab: Tab) -> None:
    assert len((EXAMPLES / "scores.html").read_text(encoding="utf-8").splitlines()) <= 30
    running = start_gateway(origins=(origin,))
    told.tell(running, told.engagement("one", 1, 0.5))
    tab.page.goto(f"{origin}/scores.html?gateway={running.url}")
    cells = tab.page.locator("td")
    expect(cells).to_have_text(["acme/one", "0.50", "MODERATE"])
    told.tell(running, told.engagement("one", 2, 0.85), told.engagement("two", 2, 0.1))
    expect(cells).to_have_text(["acme/one", "0.85", "VERY_HIGH", "acme/two", "0.10", "VERY_LOW"])
