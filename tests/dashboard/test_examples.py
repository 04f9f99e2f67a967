"""The pages in docs/examples: one shows live scores and rests on docs/websocket.md alone, one is a shop."""

import pytest
from playwright.sync_api import Route, expect

from tests.dashboard import told
from tests.fix_browser import Tab
from tests.fix_page import EXAMPLES
from tests.fix_websocket import TOKENS, Running, StartGateway, token

ASKS = "Does the gateway run, and does gateway.origins name"
FINAL_MS = 3_000
"""Longer than the page waits before it connects again."""


def opened(tab: Tab, examples: str, running: Running, shown: str) -> None:
    """Open the page for a gateway and show it a token where it asks for one."""
    tab.page.on("dialog", lambda asked: asked.accept(shown) if "/demo/token" in asked.message else asked.dismiss())
    tab.page.goto(f"{examples}/scores.html?gateway={running.gateway.port}")


def test_a_short_page_shows_live_scores_and_interventions(examples: str, start_gateway: StartGateway, tab: Tab) -> None:
    assert len((EXAMPLES / "scores.html").read_text(encoding="utf-8").splitlines()) <= 30
    running = start_gateway(origins=(examples,), verify=TOKENS.verify)
    told.tell(running, told.engagement("one", 1, 0.5))
    opened(tab, examples, running, token("acme"))
    scores = tab.page.locator("#engagement td")
    expect(scores).to_have_text(["one", "0.50", "MODERATE"])
    expect(tab.page.locator("#state")).to_have_text("Live")
    told.tell(running, told.engagement("one", 2, 0.85), told.engagement("two", 2, 0.1))
    expect(scores).to_have_text(["two", "0.10", "VERY_LOW", "one", "0.85", "VERY_HIGH"])
    told.tell(running, told.intervention("one", 2, "poll", "pending"))
    expect(tab.page.locator("#intervention td")).to_have_text(["one", "poll", "pending"])
    told.tell(running, told.intervention("one", 2, "poll", "fired", revision=1))
    expect(tab.page.locator("#intervention td")).to_have_text(["one", "poll", "fired"])


def test_a_token_that_is_refused_is_not_shown_again(examples: str, start_gateway: StartGateway, tab: Tab) -> None:
    sockets: list[str] = []
    tab.page.on("websocket", lambda socket: sockets.append(socket.url))
    running = start_gateway(origins=(examples,), verify=TOKENS.verify)
    opened(tab, examples, running, token("acme", iss="https://another.test"))
    expect(tab.page.locator("#state")).to_contain_text("(4001): reload for another token")
    tab.page.wait_for_timeout(FINAL_MS)
    assert len(sockets) == 1


def test_a_page_of_an_origin_that_is_not_named_says_so(examples: str, start_gateway: StartGateway, tab: Tab) -> None:
    opened(tab, examples, start_gateway(origins=("http://127.0.0.1:1",), verify=TOKENS.verify), token("acme"))
    expect(tab.page.locator("#state")).to_contain_text(f"Closed: 1006. {ASKS} {examples}?")
    assert any("Unexpected response code: 403" in each for each in tab.complaints)


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
