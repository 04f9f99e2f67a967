"""The snippet in a real browser before a real collector and a real Kafka: what is seen, what is sent, what is shown."""

import gzip
import time
from typing import Any

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Page

from schemas.inbound import AnyEvent
from sources.collector.config import SNIPPET
from tests.fix_collector import Collecting
from tests.fix_kafka import wait_until
from tests.fix_page import Gateway, Visiting, connected, kinds, once, until


def test_the_snippet_is_small_as_it_is() -> None:
    assert len(gzip.compress(SNIPPET.read_bytes())) < 6_000


def check_pages_and_clicks(records: list[dict[str, Any]]) -> None:
    views = [(one["url"].partition("//")[2].partition("/")[2], one["page"]) for one in kinds(records, "page_view")]
    assert views == [("plans", "pricing"), ("next", "cart"), ("plans", "cart")]
    clicks = [(one["element"], one["effect"], one["error"]) for one in kinds(records, "click")]
    assert clicks[:3] == [("works", True, None), ("dead-button", False, None), ("broken", None, True)]
    burst = [one for one in kinds(records, "click") if one["element"] == "text"]
    assert len(burst) == 3
    assert all(one["x"] > 0 and one["y"] > 0 for one in burst)
    assert burst[2]["ts"] - burst[0]["ts"] < 2_000
    assert any(one["element"] == "price-tag" and one["duration_ms"] >= 600 for one in kinds(records, "hover"))
    assert [one["step"] for one in kinds(records, "checkout")] == ["payment"]
    assert [(one["query"], one["results"]) for one in kinds(records, "search")] == [("lamp", 0)]


def look_around(page: Page, collecting: Collecting) -> None:
    page.click("#works")
    page.click("#dead")
    dead = {"element": "dead-button", "effect": False}.items()
    wait_until(lambda: any(dead <= one.items() for one in collecting.records()), "the click without effect", 10)
    page.click("#broken")
    for _ in range(3):
        page.click("#text", position={"x": 5, "y": 5})
    page.hover("#price")
    page.wait_for_timeout(700)
    page.mouse.move(10, 300)
    page.mouse.move(800, 300, steps=5)
    page.fill("[name=email]", "hidden-mail@example.org")
    page.fill("[name=secret]", "hidden-password")
    page.check("[name=terms]")
    page.focus("[name=empty]")
    page.focus("#dead")
    page.mouse.wheel(0, 900)
    page.wait_for_timeout(400)
    page.mouse.wheel(0, 900)
    page.wait_for_timeout(400)
    page.mouse.wheel(0, -600)
    page.wait_for_timeout(400)
    page.evaluate("attune.cart('add', 'p1', 9.9); attune.checkout('payment'); attune.search('lamp', 0)")
    page.evaluate("history.pushState({}, '', '/next?token=hidden-token'); document.body.dataset.attunePage = 'cart'")
    leave = "new MouseEvent('mouseout', { bubbles: true, clientX: 400, clientY: -1 })"
    page.evaluate(f"document.body.dispatchEvent({leave})")
    page.go_back()
    page.wait_for_timeout(300)
    page.evaluate("attune.cart('view')")


def test_what_a_visitor_does_arrives_and_nothing_that_he_writes(visit: Visiting) -> None:
    open_visit, collect = visit
    collecting = collect()
    one = open_visit(collecting)
    page = one.page

    look_around(page, collecting)
    page.goto("about:blank")  # what has not been sent by now goes with a beacon

    wait_until(lambda: len(kinds(collecting.records(), "cart")) == 2, "the last event of the page", 10)
    messages = collecting.messages()
    raw = b"".join(message.value() or b"" for message in messages)
    assert b"hidden" not in raw
    assert b"ann" not in raw
    for message in messages:
        msgspec.json.decode(message.value() or b"", type=AnyEvent)
    records = sorted(once(collecting.records()), key=lambda one: one["ts"])
    assert {(one["tenant_id"], one["session_id"], one["user_id"]) for one in records} == {("acme", "s1", "u1")}

    check_pages_and_clicks(records)
    fields = {one["field"]: one["filled"] for one in kinds(records, "field")}
    assert fields == {"email": True, "secret": True, "terms": True, "empty": False}
    scrolls = kinds(records, "scroll")
    assert {one["direction"] for one in scrolls} == {"down", "up"}
    assert all(0 < one["depth"] <= 1 and one["velocity"] > 0 for one in scrolls)
    assert max(one["deceleration"] for one in kinds(records, "pointer")) > 1_500
    assert [(one["edge"], one["page"]) for one in kinds(records, "exit_intent")] == [("top", "cart"), ("back", "cart")]
    carts = [(one["action"], one["product_id"], one["price"]) for one in kinds(records, "cart")]
    assert carts == [("add", "p1", 9.9), ("view", None, None)]
    assert [said for said in one.complaints if "attune" in said.lower()] == []


def test_links_within_the_page_are_neither_views_nor_steps_back(visit: Visiting) -> None:
    open_visit, collect = visit
    collecting = collect()
    page = open_visit(collecting).page
    for link in ("#size", "#nowhere", "#size", "#shelf"):
        page.locator(link).click()
        page.wait_for_timeout(120)
    page.go_back()  # from the shelf, which is a page of its own
    page.wait_for_timeout(150)
    page.go_back()  # from one fragment to another
    page.wait_for_timeout(150)
    page.goto("about:blank")
    wait_until(lambda: len(kinds(collecting.records(), "exit_intent")) > 0, "the step back", 10)
    records = sorted(once(collecting.records()), key=lambda one: one["ts"])
    assert [one["edge"] for one in kinds(records, "exit_intent")] == ["back"]
    assert len(kinds(records, "page_view")) == 3  # the page, the shelf, the page again


@pytest.mark.parametrize("wish", ["globalPrivacyControl = true", "doNotTrack = '1'"])
def test_who_asks_not_to_be_tracked_is_not(visit: Visiting, wish: str) -> None:
    open_visit, collect = visit
    collecting = collect()
    name, _, value = wish.partition(" = ")
    given = f"...(Object.defineProperty(navigator, '{name}', {{ value: {value} }}), {{}})"
    one = open_visit(collecting, given + ", gateway: START.collector, token: 't'")
    one.page.click("#works")
    one.page.evaluate("attune.cart('view')")
    one.page.wait_for_timeout(1_300)
    one.page.goto("about:blank")
    one.page.wait_for_timeout(200)
    sent = [url for url in one.requests if url.startswith(collecting.collector.url)]
    assert sent == [f"{collecting.collector.url}attune.js"]
    assert collecting.records() == []


def test_what_could_not_be_sent_is_sent_when_the_collector_is_back_and_counts_once(visit: Visiting) -> None:
    open_visit, collect = visit
    collecting = collect()
    one = open_visit(collecting)
    wait_until(lambda: len(collecting.records()) > 0, "the page view", 10)
    collecting.stop()
    one.page.evaluate("attune.cart('view')")
    one.page.wait_for_timeout(1_500)
    one.page.evaluate("attune.search('lamp', 1)")
    again = collect(topics=collecting.topics, port=collecting.collector.port)
    wait_until(lambda: len(kinds(again.records(), "search")) > 0, "what was kept", 15)
    records = again.records()
    assert len(kinds(records, "cart")) == len(kinds(records, "search")) == 1
    assert kinds(records, "search")[0]["ts"] - kinds(records, "cart")[0]["ts"] >= 1_400


def test_an_intervention_is_shown_as_text_and_what_comes_of_it_is_told(visit: Visiting, gateway: Gateway) -> None:
    open_visit, collect = visit
    one = open_visit(collect(), f"gateway: '{gateway.url}', token: 'the-token'")
    page = one.page
    connected(gateway, "the-token")
    page.focus("#works")
    gateway.show("i1", "help_chat")
    box = page.get_by_role("dialog", name="<img src=x onerror=fail()>")
    box.wait_for()
    assert gateway.acknowledged() == ("i1", "shown")
    assert page.evaluate("document.activeElement.dataset.attuneBox") == "help_chat"
    assert "<b>Can we help?</b>" in box.inner_text()
    assert page.locator("[data-attune-box] img, [data-attune-box] b").count() == 0
    page.wait_for_timeout(300)
    assert Axe().run(page, context="[data-attune-box]").violations_count == 0
    page.keyboard.press("Escape")
    assert gateway.acknowledged() == ("i1", "dismissed")
    assert page.evaluate("document.activeElement.id") == "works"

    gateway.show("i1", "help_chat")  # again, as after a reconnect
    gateway.show("i2", "trust_badges", status="suppressed")
    gateway.show("i3", "trust_badges", expires_ts=int(time.time() * 1000) - 10_000)
    gateway.show("i4", "social_toast")
    toast = page.locator("[data-attune-box][role=status]")
    toast.wait_for()
    assert gateway.acknowledged() == ("i4", "shown")
    assert page.evaluate("document.activeElement.id") == "works", "a toast does not take the focus"
    toast.get_by_role("button", name="Yes").click()
    assert gateway.acknowledged() == ("i4", "clicked")
    assert page.locator("[data-attune-box]").count() == 0

    gateway.connections[-1].close(1001)
    connected(gateway, "the-token", 2)
    gateway.show("i5", "help_chat")
    assert gateway.acknowledged() == ("i5", "shown")
    page.get_by_role("button", name="Close").click()
    assert gateway.acknowledged() == ("i5", "dismissed")
    assert not any("fail" in said for said in one.complaints)


@pytest.mark.parametrize("address", ["ws{}ws", "ws{}", "http{}ws/"])
def test_the_gateway_may_be_named_as_its_page_or_as_its_socket(visit: Visiting, gateway: Gateway, address: str) -> None:
    open_visit, collect = visit
    open_visit(collect(), f"gateway: '{address.format(gateway.url.removeprefix('http'))}', token: 'the-token'")
    connected(gateway, "the-token")


@pytest.mark.parametrize("motion, moving", [("reduce", 0), ("no-preference", 1)])
def test_reduced_motion_is_honoured(visit: Visiting, gateway: Gateway, motion: str, moving: int) -> None:
    open_visit, collect = visit
    page = open_visit(collect(), f"gateway: '{gateway.url}', token: () => 'fresh'", reduced_motion=motion).page
    connected(gateway, "fresh")
    page.evaluate(
        "() => { const animate = Element.prototype.animate;"
        "Element.prototype.animate = function (...given) { window.moved = 1; return animate.apply(this, given); } }"
    )
    gateway.show("i1", "urgency_banner")
    page.locator("[data-attune-box][role=status]").wait_for()
    assert page.evaluate("window.moved || 0") == moving


def test_a_page_may_show_interventions_itself(visit: Visiting, gateway: Gateway) -> None:
    open_visit, collect = visit
    show = "onIntervention: (record, acknowledge) => { window.got = record.id; acknowledge('clicked') }"
    page = open_visit(collect(), f"gateway: '{gateway.url}', token: 't', {show}").page
    connected(gateway, "t")
    gateway.show("i1", "help_chat")
    assert gateway.acknowledged() == ("i1", "clicked")
    assert page.evaluate("window.got") == "i1"
    assert page.locator("[data-attune-box]").count() == 0
    gateway.connections[-1].close(4003)
    page.wait_for_timeout(1_200)
    assert gateway.heard.empty(), "a revoked token is not tried again"


def test_what_the_gateway_refuses_is_not_said_again(visit: Visiting, gateway: Gateway) -> None:
    open_visit, collect = visit
    one = open_visit(collect(), f"gateway: '{gateway.url}', token: 't'")
    connected(gateway, "t")
    gateway.show("i1", "social_toast", receipt="worn-out")
    gateway.show("i2", "social_toast")
    assert [gateway.acknowledged() for _ in range(2)] == [("i1", "shown"), ("i2", "shown")]
    until(one.page, lambda: any("unknown_intervention" in said for said in one.complaints), "it is told")
    gateway.connections[-1].close(1001)
    connected(gateway, "t", 2)
    one.page.wait_for_timeout(300)
    assert gateway.heard.empty()


def test_what_can_t_be_written_now_is_said_again_once_in_a_while(visit: Visiting, gateway: Gateway) -> None:
    open_visit, collect = visit
    quick = "(set) => (listener, wait) => set(listener, wait === 5000 ? 200 : wait)"
    given = f"...(window.setTimeout = ({quick})(setTimeout), {{}}), gateway: '{gateway.url}', token: 't'"
    one = open_visit(collect(), given)
    connected(gateway, "t")
    gateway.unavailable = True
    for name in ("i1", "i2", "i3"):
        gateway.show(name, "social_toast")
    one.page.wait_for_timeout(2_000)
    assert 9 <= gateway.heard.qsize() <= 3 * 11, "each once, and again every 5 s, here 0.2 s"
    gateway.unavailable = False
    one.page.wait_for_timeout(500)
    while not gateway.heard.empty():
        gateway.heard.get()
    one.page.wait_for_timeout(500)
    assert gateway.heard.empty(), "it is written"
