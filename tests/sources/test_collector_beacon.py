"""What can't wait in a page goes at once, and what its author is told where something is set up wrongly."""

import json
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Page, Route

from sources.collector import Key
from tests.fix_collector import KEY, Collecting
from tests.fix_page import Gateway, Shop, Visit, Visiting, connected, kinds, once, until
from tests.fix_websocket import TOKENS, StartGateway, token

STREAM = "**/api/telemetry/stream?*"


class Held:
    """Holds back the requests of a page that wait for an answer, as a slow network does. Beacons pass.

    Behind a balancer (``beside``) they go to another collector than the beacons.
    """

    def __init__(self, visit: Visit, beside: Collecting | None = None) -> None:
        self.held: list[Route] = []
        self.told: list[list[str]] = []
        self.beacons = 0
        self.holding = True
        self._beside = beside
        visit.page.route(STREAM, self._seen)

    def _seen(self, route: Route) -> None:
        self.beacons += route.request.resource_type == "ping"
        if route.request.resource_type != "ping":
            self.held.append(route)
            if not self.holding:
                self.let_go()
        else:
            events = json.loads(route.request.post_data or "")["events"]
            self.told.append([event["event_id"] for event in events])
            route.continue_()

    def let_go(self) -> None:
        """Let everything pass from now on."""
        self.holding = False
        while self.held:
            route = self.held.pop()
            url = route.request.url
            if self._beside:
                url = url.replace(str(urlsplit(url).port), str(self._beside.collector.port), 1)
            route.continue_(url=url)


def rage(page: Page) -> None:
    for _ in range(3):
        page.click("#text", position={"x": 5, "y": 5})


def clicks(collecting: Collecting) -> int:
    return len(kinds(collecting.records(), "click"))


def ids(collecting: Collecting) -> set[str]:
    return {one["event_id"] for one in collecting.records()}


def under_way(visit: Visiting) -> tuple[Page, Collecting, Held]:
    """Return a page that knows its offset and has a batch under way, its collector, and the network that holds it."""
    open_visit, collect = visit
    collecting = collect()
    visited = open_visit(collecting)
    until(visited.page, collecting.records, "the page knows its offset")
    network = Held(visited)
    visited.page.evaluate("attune.cart('view')")
    until(visited.page, lambda: network.held, "a batch is under way")
    return visited.page, collecting, network


def test_a_rage_click_does_not_wait_behind_a_slow_batch_and_counts_once_at_every_collector(visit: Visiting) -> None:
    open_visit, collect = visit
    one, other = collect(), None
    other = collect(topics=one.topics)
    visited = open_visit(one)
    page = visited.page
    network = Held(visited, beside=other)
    page.reload()
    until(page, lambda: network.held, "the question for the offset is under way")
    page.wait_for_timeout(700)  # slower than all that follows
    network.let_go()
    until(page, lambda: kinds(one.records(), "page_view")[1:], "the page view of the page that knows its offset")
    network.holding = True
    page.evaluate("attune.cart('view')")
    until(page, lambda: network.held, "the batch is under way")
    rage(page)
    until(page, lambda: clicks(one) == 3, "the clicks are there")
    assert network.beacons >= 1
    page.wait_for_timeout(500)
    network.let_go()
    before = len(one.records())
    until(page, lambda: len(one.records()) >= before + 1 + 3, "all of it again, to be confirmed by the other collector")
    assert len(one.records()) > len(once(one.records())), "repeats, the same as the first"
    assert len(kinds(one.records(), "cart")) == 1


def test_what_is_urgent_takes_along_in_order_all_that_came_before_it(visit: Visiting) -> None:
    page, collecting, network = under_way(visit)
    page.evaluate("for (let n = 0; n < 44; n++) attune.search('lamp', n); attune.checkout('fail')")
    until(page, lambda: len(kinds(collecting.records(), "checkout")) == 1, "what is urgent is there")
    assert [len(told) for told in network.told] == [20, 20, 6]
    numbers = [int(name.rpartition("-")[2]) for told in network.told for name in told]
    assert numbers == list(range(numbers[0], numbers[0] + 46))
    page.evaluate("attune.checkout('fail')")
    until(page, lambda: len(network.told) == 4, "the next that is urgent")
    assert len(network.told[-1]) == 1, "goes alone: the others were told"
    network.let_go()
    page.wait_for_timeout(1_200)
    until(page, lambda: len(kinds(collecting.records(), "checkout")) == 2, "all is there")
    assert len(kinds(collecting.records(), "search")) == 44


def test_before_it_knows_its_offset_a_page_sends_nothing_that_could_count_twice(visit: Visiting) -> None:
    open_visit, collect = visit
    collecting = collect()
    visited = open_visit(collecting)
    page = visited.page
    network = Held(visited)
    page.reload()
    until(page, lambda: network.held, "the question for the offset is under way")
    assert json.loads(network.held[0].request.post_data or "")["events"] == []
    known, beacons = ids(collecting), network.beacons
    rage(page)
    page.wait_for_timeout(300)
    assert (network.beacons, ids(collecting)) == (beacons, known)
    network.let_go()
    until(page, lambda: clicks(collecting) == 3, "the clicks are there")
    page.wait_for_timeout(1_200)
    assert len(collecting.records()) == len(once(collecting.records()))


def test_a_page_that_is_hidden_and_shown_again_loses_nothing_with_its_beacon(visit: Visiting) -> None:
    open_visit, collect = visit
    collecting = collect()
    visited = open_visit(collecting)
    page = visited.page
    until(page, collecting.records, "the page knows its offset")
    page.route(STREAM, lambda route: route.abort() if route.request.resource_type == "ping" else route.continue_())
    page.evaluate("attune.cart('view')")
    hide = "Object.defineProperty(document, 'visibilityState', { value: 'hidden' })"
    page.evaluate(f"{hide}; document.dispatchEvent(new Event('visibilitychange'))")
    until(page, lambda: len(kinds(collecting.records(), "cart")) == 1, "it is told again")


def test_what_one_user_leaves_behind_is_not_the_next_one_s(visit: Visiting) -> None:
    page, collecting, network = under_way(visit)
    page.evaluate("attune.stop(); attune.start({ ...START, session: 's2', user: 'u2' })")
    network.held.pop(0).abort()
    network.let_go()
    page.evaluate("attune.search('lamp', 0)")
    until(page, lambda: kinds(collecting.records(), "search"), "what the next one does")
    page.wait_for_timeout(1_500)
    whose = {(one["type"], one["user_id"]) for one in collecting.records()}
    assert ("telemetry.search", "u2") in whose
    assert ("telemetry.cart", "u1") in whose
    assert ("telemetry.cart", "u2") not in whose


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
