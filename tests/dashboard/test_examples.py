"""The page in docs/examples, which rests on docs/websocket.md alone, shows live scores."""

from playwright.sync_api import expect

from tests.dashboard import told
from tests.fix_browser import Tab
from tests.fix_page import EXAMPLES
from tests.fix_websocket import StartGateway


def test_a_page_of_30_lines_shows_live_scores(examples: str, start_gateway: StartGateway, tab: Tab) -> None:
    assert len((EXAMPLES / "scores.html").read_text(encoding="utf-8").splitlines()) <= 30
    running = start_gateway(origins=(examples,))
    told.tell(running, told.engagement("one", 1, 0.5))
    tab.page.goto(f"{examples}/scores.html?gateway={running.url}")
    cells = tab.page.locator("td")
    expect(cells).to_have_text(["acme/one", "0.50", "MODERATE"])
    told.tell(running, told.engagement("one", 2, 0.85), told.engagement("two", 2, 0.1))
    expect(cells).to_have_text(["acme/one", "0.85", "VERY_HIGH", "acme/two", "0.10", "VERY_LOW"])
