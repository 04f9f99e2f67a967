"""The pages in docs/examples: one shows live scores and rests on docs/websocket.md alone, one is a shop."""

import pytest
from playwright.sync_api import Route, expect

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


@pytest.mark.parametrize("name", ["http://127.0.0.1:{}", "//127.0.0.1:{}", "{}@evil.example", "8005@evil.example:{}"])
def test_the_shop_s_address_names_no_foreign_script(examples: str, tab: Tab, name: str) -> None:
    asked: list[str] = []

    def seen(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(body="document.title = 'foreign'", content_type="text/javascript")

    tab.page.route(lambda url: not url.startswith(examples), seen)
    tab.page.goto(f"{examples}/shop.html?collector={name.format(8090)}")
    assert tab.page.title() == "A shop"
    assert asked == []
    tab.page.goto(f"{examples}/shop.html?collector=8090")
    assert asked == ["http://127.0.0.1:8090/attune.js"]
