"""The page in docs/examples, which rests on docs/websocket.md alone, shows live scores and what is done."""

from playwright.sync_api import expect

from sinks.websocket.handout import PATH, Handout
from tests.dashboard import told
from tests.fix_browser import Tab
from tests.fix_page import EXAMPLES
from tests.fix_websocket import KEY, TOKENS, Running, StartGateway

FINAL_MS = 3_000
"""Longer than the page waits before it connects again."""


def demo(start_gateway: StartGateway, origin: str, issuer: str = "https://issuer.test") -> Running:
    """Start a gateway that hands out tokens of this issuer to pages of this origin, as the demo's does."""
    handout = Handout(KEY, issuer, "gateway.test", ("acme",), (origin,))
    return start_gateway(origins=(origin,), verify=TOKENS.verify, pages={PATH: handout})


def opened(tab: Tab, examples: str, running: Running) -> None:
    """Open the page for a gateway."""
    tab.page.goto(f"{examples}/scores.html?gateway=http://127.0.0.1:{running.gateway.port}")


def test_a_short_page_shows_live_scores_and_interventions(examples: str, start_gateway: StartGateway, tab: Tab) -> None:
    assert len((EXAMPLES / "scores.html").read_text(encoding="utf-8").splitlines()) <= 40
    running = demo(start_gateway, examples)
    told.tell(running, told.engagement("one", 1, 0.5))
    opened(tab, examples, running)
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
    opened(tab, examples, demo(start_gateway, examples, "https://another.test"))
    expect(tab.page.locator("#state")).to_contain_text("Closed: 4001")
    tab.page.wait_for_timeout(FINAL_MS)
    assert len(sockets) == 1


def test_a_page_of_an_origin_that_is_not_named_says_so(examples: str, start_gateway: StartGateway, tab: Tab) -> None:
    opened(tab, examples, demo(start_gateway, "http://127.0.0.1:1"))
    expect(tab.page.locator("#state")).to_contain_text(f"does gateway.origins name {examples}?")
    assert any("blocked by CORS policy" in each for each in tab.complaints)
