"""The dashboard in a real browser: what it shows of what the gateway tells, in all of its states."""

import math
import re

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # ships no types
from msgspec.structs import replace
from playwright.sync_api import Route, expect

from tests.dashboard import told
from tests.fix_browser import PHONE, OpenTab, Photograph, Tab
from tests.fix_websocket import Running

EVIL = "<img src=x onerror=alert(1)>"


def wave(ticks: int, middle: float, height: float, shift: float = 0.0) -> list[float]:
    return [middle + height * math.sin(shift + tick / 7) for tick in range(ticks)]


def a_bad_day(running: Running) -> None:
    """Tell of a room that people have left, one that sinks, and three in which all is well."""
    fallen = [0.62 + 0.03 * math.sin(tick) for tick in range(50)] + [0.55, 0.41, 0.33, 0.27, 0.24, 0.24, 0.22]
    told.tell(
        running,
        *told.course("all-hands", fallen),
        *told.course("onboarding", [0.75 - 0.008 * tick for tick in range(57)]),
        *told.course("product-launch", wave(57, 0.78, 0.12)),
        *told.course("design-review", wave(57, 0.5, 0.13, 2)),
        *told.course("q3-town-hall", wave(57, 0.64, 0.05, 4)),
        told.anomaly("all-hands", 53),
        told.anomaly("all-hands", 54, "SUDDEN_DROP", "WARNING"),
        told.anomaly("onboarding", 55, "GRADUAL_DECLINE", "WARNING"),
    )
    shown = told.intervention("all-hands", 40, "help_chat", "fired")
    alone = told.intervention("all-hands", 54, "poll", "fired", user_id=None, recipient="all-hands")
    held = told.intervention("all-hands", 55, "discount_modal", "suppressed", reason="cooldown")
    told.tell(
        running,
        *(
            told.emotion("all-hands", 38 + n, name)
            for n, name in enumerate(("confusion", "frustration", "price_shock"))
        ),
        *(shown, alone, held),
        *(told.outcome(shown, what, ms) for what, ms in (("delivered", 140), ("shown", 420), ("clicked", 2600))),
        told.handoff("all-hands", 47),
    )


def show(tab: Tab, running: Running) -> None:
    tab.page.goto(running.gateway.url)
    expect(tab.page.locator("#state")).to_have_text("Live")


def drawn(tab: Tab) -> None:
    """Wait for the chart, which comes after everything else."""
    expect(tab.page.locator("#chart-note")).to_be_hidden()
    expect(tab.page.locator("#chart .scatterlayer .trace").first).to_be_attached()


def serious(tab: Tab) -> list[str]:
    """Return what axe finds that keeps people out."""
    found = Axe().run(tab.page).response["violations"]
    return [
        f"{fault['id']}: {fault['nodes'][0]['html']}" for fault in found if fault["impact"] in ("serious", "critical")
    ]


def test_an_empty_gateway(running: Running, tab: Tab, photograph: Photograph) -> None:
    show(tab, running)
    expect(tab.page.locator("#nothing")).to_contain_text("A session appears here within 5 seconds")
    photograph(tab, "empty")
    assert serious(tab) == []
    assert tab.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_bad_day(running: Running, open_tab: OpenTab, photograph: Photograph, scheme: str) -> None:
    tab = open_tab(color_scheme=scheme)
    show(tab, running)
    a_bad_day(running)
    page = tab.page
    drawn(tab)
    expect(page.locator(".row .name")).to_have_text(
        ["all-hands", "onboarding", "design-review", "q3-town-hall", "product-launch"]
    )
    expect(page.locator("#fleet")).to_have_text("2 sessions need attention")
    expect(page.locator("#detail-title")).to_have_text("all-hands")
    expect(page.locator("#alarms .banner strong")).to_have_text(["CRITICAL", "WARNING"])
    expect(page.locator("#alarms .banner").first).to_contain_text("Mass exit")
    expect(page.locator("#alarms .banner").first).to_contain_text("now 0.24, expected 0.62 (\N{MINUS SIGN}0.38)")
    expect(page.locator("#score")).to_have_text("0.22")
    expect(page.locator("#trend")).to_have_text("\N{MINUS SIGN}0.40 in a minute")
    expect(page.locator("#cards .figure")).to_have_text(["9", "9", "0 %", "5"])
    expect(page.locator("#why .amount")).to_have_text(["+0.110", "0.000", "+0.088", "+0.042", "\N{MINUS SIGN}0.020"])
    expect(page.locator("#sum")).to_have_text("These add up to 0.220.")
    expect(page.locator("#chart")).to_have_attribute("aria-label", re.compile("between 0.22 and 0.65, now 0.22, below"))

    expect(page.locator("#emotions .what")).to_have_text(["Price shock", "Frustration", "Confusion"])
    expect(page.locator("#interventions .what")).to_have_text(["Discount modal", "Poll", "Help chat"])
    expect(page.locator("#interventions .tag")).to_have_text(["suppressed: cooldown", "fired", "fired"])
    expect(page.locator("#handoffs .tag")).to_have_text(["low confidence"])
    figures = page.locator("#delivery .amount")
    expect(figures).to_have_text([re.compile(r"^\d+ ms$"), "none yet", "140 ms", *["100 %"] * 3])
    photograph(tab, f"anomaly-{scheme}")

    page.get_by_role("button", name="all-hands").click()
    page.locator("#which").select_option("suppressed")
    expect(page.locator("#interventions .what")).to_have_text(["Discount modal"])
    told.tell(
        running, *(told.anomaly("all-hands", 60, kind, state="resolved") for kind in ("MASS_EXIT", "SUDDEN_DROP"))
    )
    expect(page.locator("#alarms .banner")).to_have_count(0)
    expect(page.locator("#news")).to_have_text("all-hands is low. No anomaly.")
    assert serious(tab) == []
    assert tab.complaints == []


def test_a_phone(running: Running, open_tab: OpenTab, photograph: Photograph) -> None:
    tab = open_tab(viewport=PHONE, color_scheme="dark")
    show(tab, running)
    a_bad_day(running)
    drawn(tab)
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    photograph(tab, "phone")
    tab.page.locator(".row", has_text="onboarding").click()
    expect(tab.page.locator("#detail")).to_be_focused()
    expect(tab.page.locator("#detail-title")).to_have_text("onboarding")
    expect(tab.page.locator("#score")).to_be_in_viewport()
    assert serious(tab) == []
    assert tab.complaints == []


def test_nobody_was_connected_is_not_a_failure(running: Running, chartless: Tab) -> None:
    show(chartless, running)
    told.tell(running, told.engagement("s", 1, 0.5))
    delivered = chartless.page.locator("#delivery > div").filter(
        has=chartless.page.get_by_text("Delivered", exact=True)
    )
    expect(delivered.locator(".amount")).to_have_text("nothing fired")
    alone, failed = (told.intervention("s", tick, "help_chat", "fired") for tick in (2, 3))
    told.tell(running, alone)
    expect(delivered.locator(".amount")).to_have_text("no client connected")
    told.tell(running, failed, told.outcome(failed, "failed", 30))
    expect(delivered.locator(".amount")).to_have_text("0 %")
    expect(delivered.locator(".sub")).to_have_text("0 of 1 that met a client, 1 met none")


def test_a_change_of_status_takes_the_place_of_what_was(running: Running, chartless: Tab) -> None:
    show(chartless, running)
    waiting = told.intervention("s", 2, "poll", "pending", expires_ts=told.START + 60_000)
    fired = msgspec.structs.replace(waiting, status="fired", revision=1)
    told.tell(running, told.engagement("s", 1, 0.5), waiting)
    expect(chartless.page.locator("#interventions .tag")).to_have_text(["pending"])
    told.tell(running, fired, waiting)
    expect(chartless.page.locator("#interventions .tag")).to_have_text(["fired"])


def test_the_keyboard_is_enough(running: Running, chartless: Tab) -> None:
    show(chartless, running)
    told.tell(running, told.engagement(EVIL, 1, 0.85), told.engagement("low", 1, 0.1))
    page = chartless.page
    expect(page.locator(".row .name")).to_have_text(["low", EVIL])
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#scheme")).to_be_focused()
    page.locator("#order").focus()
    page.locator("#order").select_option("highest")
    expect(page.locator(".row .name")).to_have_text([EVIL, "low"])
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    expect(page.locator("#detail-title")).to_have_text(EVIL)
    expect(page.locator(".row[aria-current=true] .name")).to_have_text(EVIL)
    assert page.locator("#detail-title img, .row img").count() == 0
    page.locator("summary").press("Enter")
    expect(page.locator("#points tr")).to_have_count(1)
    assert serious(chartless) == []
    assert chartless.complaints == []


def test_the_list_holds_still_under_the_pointer(running: Running, chartless: Tab) -> None:
    show(chartless, running)
    told.tell(running, told.engagement("a", 1, 0.1), told.engagement("b", 1, 0.5))
    names, values = chartless.page.locator(".row .name"), chartless.page.locator(".row .value")
    expect(names).to_have_text(["a", "b"])
    names.first.hover()
    told.tell(running, told.engagement("a", 2, 0.9), told.engagement("c", 2, 0.2))
    expect(values).to_have_text(["0.90", "0.50", "0.20"])
    expect(names).to_have_text(["a", "b", "c"])
    chartless.page.mouse.move(900, 900)
    told.tell(running, told.engagement("b", 2, 0.4))
    expect(names).to_have_text(["c", "b", "a"])


def test_until_one_is_chosen_the_page_shows_what_needs_attention(running: Running, chartless: Tab) -> None:
    show(chartless, running)
    title = chartless.page.locator("#detail-title")
    told.tell(running, told.engagement("a", 1, 0.3), told.engagement("b", 1, 0.9))
    expect(title).to_have_text("a")
    told.tell(running, told.anomaly("b", 2, "GRADUAL_DECLINE", "WARNING"))
    expect(title).to_have_text("b")
    chartless.page.locator(".name").get_by_text("a", exact=True).click()
    expect(title).to_have_text("a")
    told.tell(running, told.anomaly("b", 3))
    expect(chartless.page.locator("#fleet")).to_have_text("1 session needs attention")
    expect(chartless.page.locator(".alarm").filter(has_text="critical")).to_be_visible()
    expect(title).to_have_text("a")


def test_sessions_in_which_nobody_is_left_come_last_unless_something_is_the_matter(
    running: Running, chartless: Tab
) -> None:
    show(chartless, running)
    for name, score in (("left", 0.0), ("fled", 0.05), ("weak", 0.3), ("well", 0.9)):
        record = told.engagement(name, 1, score)
        people = 0 if name in ("left", "fled") else 9
        told.tell(running, replace(record, signals=replace(record.signals, connected_users=people)))
    names = chartless.page.locator(".row .name")
    expect(names).to_have_text(["weak", "well", "left", "fled"])
    told.tell(running, told.anomaly("fled", 2))
    expect(names).to_have_text(["fled", "weak", "well", "left"])


def test_an_end_and_a_repeat(running: Running, chartless: Tab) -> None:
    show(chartless, running)
    told.tell(running, *told.course("over", [0.5, 0.4, 0.3]), told.engagement("on", 1, 0.9), told.anomaly("over", 3))
    expect(chartless.page.locator(".row .value")).to_have_text(["0.30", "0.90"])
    expect(chartless.page).to_have_title("(1) Attune: live engagement")
    chartless.page.get_by_role("button", name="over").click()
    chartless.page.mouse.move(900, 900)
    told.tell(running, told.engagement("over", 2, 0.4), told.ending("over", 4))
    expect(chartless.page.locator(".row .name")).to_have_text(["on"])
    expect(chartless.page.locator("#ended")).to_be_visible()
    expect(chartless.page.locator("#score")).to_have_text("0.30")
    expect(chartless.page.locator("#alarms .banner")).to_have_count(0)


def test_thousands_of_sessions(running: Running, chartless: Tab) -> None:
    show(chartless, running)
    told.tell(running, *(told.engagement(f"room-{n:04d}", 1, n % 100 / 100) for n in range(3_000)))
    expect(chartless.page.locator("#count")).to_have_text("3000")
    expect(chartless.page.locator(".row")).to_have_count(200)
    expect(chartless.page.locator("#more")).to_have_text("2800 more are not shown: look for them by name.")
    chartless.page.locator("#find").fill("ROOM-2999")
    expect(chartless.page.locator(".row .name")).to_have_text(["room-2999"])
    chartless.page.locator("#find").fill("nowhere")
    expect(chartless.page.locator("#empty")).to_have_text("No session has this name.")
    assert chartless.complaints == []


def test_colours_of_choice_are_kept(running: Running, chartless: Tab) -> None:
    show(chartless, running)
    dark = "getComputedStyle(document.body).backgroundColor"
    before = chartless.page.evaluate(dark)
    chartless.page.locator("#scheme").select_option("dark")
    assert chartless.page.evaluate(dark) != before
    chartless.page.reload()
    assert chartless.page.evaluate(dark) != before


def test_scores_are_shown_before_the_chart_library_has_come(running: Running, tab: Tab) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    tab.page.route("**/plotly-*.js", hold)
    told.tell(running, *told.course("s", [0.5, 0.6]))
    tab.page.goto(running.gateway.url, wait_until="commit")
    expect(tab.page.locator("#score")).to_have_text("0.60")
    expect(tab.page.locator("#chart-note")).to_contain_text("Loading the chart")
    (route,) = held
    route.continue_()
    drawn(tab)


def test_without_the_chart_library_the_numbers_are_there(running: Running, tab: Tab) -> None:
    tab.page.route("**/plotly-*.js", lambda route: route.abort(), times=1)
    show(tab, running)
    told.tell(running, *told.course("s", [0.5, 0.6]))
    expect(tab.page.locator("#chart-note")).to_contain_text("could not be loaded")
    expect(tab.page.locator("#points tr")).to_have_count(2)
    tab.page.locator("#chart-again").click()
    drawn(tab)
