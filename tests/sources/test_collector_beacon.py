"""What can't wait in a page goes at once, and what its author is told where something is set up wrongly."""

from typing import Any

from playwright.sync_api import Page, Route

from sources.collector import Key
from tests.fix_collector import KEY, Collecting
from tests.fix_page import Gateway, Shop, Visiting, connected, kinds, once, until
from tests.fix_websocket import TOKENS, StartGateway, token


class Held:
    """Holds back the requests of a page that wait for an answer, as a slow network does. Beacons pass."""

    def __init__(self, page: Page) -> None:
        self.held: list[Route] = []
        self.beacons = 0
        self.holding = True
        page.route("**/api/telemetry/stream?*", self._seen)

    def _seen(self, route: Route) -> None:
        self.beacons += route.request.resource_type == "ping"
        if self.holding and route.request.resource_type != "ping":
            self.held.append(route)
        else:
            route.continue_()

    def let_go(self) -> None:
        """Let everything pass from now on."""
        self.holding = False
        for route in self.held:
            route.continue_()


def rage(page: Page) -> None:
    for _ in range(3):
        page.click("#text", position={"x": 5, "y": 5})


def clicks(collecting: Collecting) -> int:
    return len(kinds(collecting.records(), "click"))


def test_a_rage_click_goes_past_a_batch_that_is_under_way_and_counts_once(visit: Visiting) -> None:
    open_visit, collect = visit
    collecting = collect()
    page = open_visit(collecting).page
    with page.expect_response("**/api/telemetry/stream?*"):
        pass  # from its answer on the page knows its offset
    network = Held(page)
    page.evaluate("attune.cart('view')")
    until(page, lambda: network.held, "the batch is under way")
    rage(page)
    until(page, lambda: clicks(collecting) == 3, "the clicks are there")
    assert network.beacons >= 1
    assert kinds(collecting.records(), "cart") == []
    network.let_go()
    until(page, lambda: len(collecting.records()) >= 1 + 1 + 3 + 3, "the clicks again, to be confirmed")
    records = collecting.records()
    assert len(records) > len(once(records)), "repeats, the same as the first"
    assert len(kinds(records, "cart")) == 1


def test_before_its_first_answer_a_page_sends_nothing_twice(visit: Visiting) -> None:
    open_visit, collect = visit
    collecting = collect()
    one = open_visit(collecting)
    network = Held(one.page)
    until(one.page, lambda: network.held, "the page view is under way")
    rage(one.page)
    one.page.wait_for_timeout(300)
    assert network.beacons == 0
    network.let_go()
    until(one.page, lambda: clicks(collecting) == 3, "the clicks are there")
    one.page.wait_for_timeout(1_200)
    assert len(collecting.records()) == len(once(collecting.records()))


def said_of(one: Any, what: str) -> None:
    until(one.page, lambda: any(what in said for said in one.complaints), what)


def test_a_page_of_a_foreign_origin_is_told_what_to_look_at(
    visit: Visiting, shop: Shop, start_gateway: StartGateway
) -> None:
    open_visit, collect = visit
    collecting = collect(keys={KEY: Key("acme", frozenset({"https://shop.example.org"}))})
    gateway = start_gateway(verify=TOKENS.verify).gateway
    one = open_visit(collecting, f"gateway: '{gateway.url}', token: '{token('acme', 'client', 'u1', session='s1')}'")
    for server in (collecting.collector.url, gateway.url):
        said_of(one, f"attune: no answer from {server}: is it away, or {shop.origin} not among its origins?")
    assert collecting.records() == []


def test_a_token_that_does_not_fit_is_told(visit: Visiting, shop: Shop, start_gateway: StartGateway) -> None:
    open_visit, collect = visit
    gateway = start_gateway(verify=TOKENS.verify, origins=(shop.origin,)).gateway
    collecting = collect()
    for shown, said in (
        (token("acme", "client", "u1", session="s2"), "attune: the token is for u1 in s2"),
        (token("acme"), "attune: the token is for u in null"),
        ("nonsense", "attune: the token is not valid"),
    ):
        said_of(open_visit(collecting, f"gateway: '{gateway.url}', token: '{shown}'"), said)


def test_a_token_that_fits_is_no_matter(visit: Visiting, gateway: Gateway) -> None:
    open_visit, collect = visit
    one = open_visit(collect(), f"gateway: '{gateway.url}', token: 't'")
    connected(gateway, "t")
    gateway.show("i1", "help_chat")
    assert gateway.acknowledged() == ("i1", "shown")
    assert [said for said in one.complaints if "attune" in said] == []
