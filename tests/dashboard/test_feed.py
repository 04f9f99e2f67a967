"""The page's connection: tokens, going on where it stood, and asking for what was lost on the way."""

import json
from typing import Any

from playwright.sync_api import Page, WebSocketRoute, expect

from sinks.websocket.pages import plain
from tests.dashboard import told
from tests.dashboard.test_page import serious
from tests.fix_browser import Photograph, Tab
from tests.fix_websocket import TOKENS, Running, StartGateway, token


class Between:
    """Stands between page and gateway: hears what the page says, and can lose records or the connection."""

    def __init__(self, page: Page) -> None:
        self.said: list[dict[str, Any]] = []
        self.lose: set[int] = set()
        self._routes: list[WebSocketRoute] = []
        page.route_web_socket("**/ws", self._opened)

    def _opened(self, route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        self._routes.append(route)

        def from_page(message: str | bytes) -> None:
            self.said.append(json.loads(message))
            server.send(message)

        def from_gateway(message: str | bytes) -> None:
            offset = json.loads(message).get("offset")
            if offset in self.lose:
                self.lose.remove(offset)
            else:
                route.send(message)

        route.on_message(from_page)
        server.on_message(from_gateway)

    def cut(self) -> None:
        """Cut the newest connection."""
        self._routes[-1].close(code=4000)

    def wishes(self) -> list[dict[str, Any]]:
        """Return what the page subscribed to."""
        return [message for message in self.said if message["op"] == "subscribe"]


def table(tab: Tab) -> Any:
    tab.page.locator("summary").click()
    return tab.page.locator("#points td:nth-child(2)")


def test_what_was_replaced_on_its_way_is_asked_for(running: Running, chartless: Tab) -> None:
    between = Between(chartless.page)
    chartless.page.goto(running.gateway.url)
    expect(chartless.page.locator("#state")).to_have_text("Live")
    between.lose = {2, 3}
    told.tell(running, *told.course("s", [0.1, 0.2, 0.3, 0.4]))
    expect(table(chartless)).to_have_text(["0.40", "0.30", "0.20", "0.10"])
    assert between.wishes()[-1]["history"] == 1_000


def test_who_comes_back_goes_on_where_he_stood(start_gateway: StartGateway, chartless: Tab) -> None:
    running = start_gateway(verify=TOKENS.verify)
    between = Between(chartless.page)
    chartless.page.goto(running.gateway.url)
    chartless.page.locator("#token").fill(token(tenant="acme"))
    chartless.page.get_by_role("button", name="Connect").click()
    expect(chartless.page.locator("#state")).to_have_text("Live")
    told.tell(running, *told.course("s", [0.1, 0.2]))
    expect(chartless.page.locator("#score")).to_have_text("0.20")
    between.cut()
    expect(chartless.page.locator("#state")).to_have_text("Reconnecting")
    chartless.page.locator("#retry").click()
    expect(chartless.page.locator("#state")).to_have_text("Live")
    told.tell(running, told.engagement("s", 3, 0.3))
    expect(table(chartless)).to_have_text(["0.30", "0.20", "0.10"])
    assert between.wishes()[-1]["resume"]["offsets"]["engagement"] == 2


def test_a_token_is_asked_for_and_a_wrong_one_refused(
    start_gateway: StartGateway, chartless: Tab, photograph: Photograph
) -> None:
    running = start_gateway(verify=TOKENS.verify)
    told.tell(running, told.engagement("ours", 1, 0.5))
    page = chartless.page
    page.goto(running.gateway.url)
    expect(page.locator("#lock-text")).to_have_text("This gateway asks for a token.")
    expect(page.locator("#token")).to_be_focused()
    expect(page.locator("main")).to_be_hidden()
    photograph(chartless, "locked")
    assert serious(chartless) == []
    page.keyboard.type("forged")
    page.keyboard.press("Enter")
    expect(page.locator("#lock-text")).to_have_text("The gateway does not take this token.")
    page.keyboard.type(token(tenant="another"))
    page.keyboard.press("Enter")
    expect(page.locator("#state")).to_have_text("Live")
    expect(page.locator("#lock")).to_be_hidden()
    expect(page.locator(".row")).to_have_count(0)


def test_where_tokens_are_handed_out_nobody_is_asked(start_gateway: StartGateway, chartless: Tab) -> None:
    running = start_gateway(verify=TOKENS.verify, pages={"/demo/token": lambda *_: plain(200, token(tenant="acme"))})
    told.tell(running, told.engagement("ours", 1, 0.5))
    chartless.page.goto(running.gateway.url)
    expect(chartless.page.locator(".row .name")).to_have_text(["ours"])
    assert chartless.complaints == []
