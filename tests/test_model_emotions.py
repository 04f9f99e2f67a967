"""The reference for emotions says, by hand and row by row, what the contract's section 5 says."""

from typing import Any

import msgspec
import pytest

from schemas.inbound import AnyEvent
from tests.emotion_needs import S
from tests.events import event
from tests.model_emotions import RULES, Felt, User, felt, felt_in

DECODER = msgspec.json.Decoder(AnyEvent)
LONG_AGO = -3600
"""A session's start so far back that its age says nothing."""

Step = tuple[float, str, dict[str, Any]]


def on(s: float, kind: str, **fields: Any) -> Step:
    return s, kind, fields


def click(s: float, **fields: Any) -> Step:
    return on(s, "telemetry.click", **fields)


def hover(s: float, ms: int, page: str = "pricing", element: str = "plan") -> Step:
    return on(s, "telemetry.hover", duration_ms=ms, page=page, element=element)


def view(s: float, page: str, url: str = "") -> Step:
    return on(s, "telemetry.page_view", page=page, url=url or f"https://shop.example/{page}")


def cart(s: float, action: str) -> Step:
    return on(s, "telemetry.cart", action=action)


def checkout(s: float, name: str) -> Step:
    return on(s, "telemetry.checkout", step=name)


def leave(s: float, edge: str, page: str) -> Step:
    return on(s, "telemetry.exit_intent", edge=edge, page=page)


def pointer(s: float, velocity: float, deceleration: float, page: str = "pricing") -> Step:
    return on(s, "telemetry.pointer", velocity=velocity, deceleration=deceleration, page=page)


def scroll(s: float, direction: str, velocity: float = 500) -> Step:
    return on(s, "telemetry.scroll", direction=direction, velocity=velocity)


def field(s: float, name: str, ms: int, *, filled: bool = False, page: str = "checkout") -> Step:
    return on(s, "telemetry.field", field=name, duration_ms=ms, filled=filled, page=page)


def search(s: float, results: int = 0) -> Step:
    return on(s, "telemetry.search", results=results)


def shown(*steps: Step, start: float = LONG_AGO, end: float | None = None) -> list[tuple[str, float]]:
    return [(found.rule, (found.ts - 10_000 * S) / S) for found in found_in(*steps, start=start, end=end)]


def found_in(*steps: Step, start: float = LONG_AGO, end: float | None = None) -> list[Felt]:
    """Return what steps show; their times are seconds, 0 being far from 1970."""
    events = [
        DECODER.decode(event(kind, round((10_000 + s) * S), event_id=f"e{number}", **fields))
        for number, (s, kind, fields) in enumerate(steps)
    ]
    return felt(events, round((10_000 + start) * S), None if end is None else round((10_000 + end) * S))


TURNS = tuple(scroll(2 * n, "up" if n % 2 else "down") for n in range(5))
FORTH_AND_BACK = tuple(view(10 * n, "search" if n % 2 else "home") for n in range(5))


@pytest.mark.parametrize(
    "steps, expected",
    [
        # Frustration.
        ([click(0), click(1, x=40), click(2, x=40, y=0)], [("rage_click", 2)]),
        ([click(0), click(0.5), click(1.501)], []),
        ([click(0), click(0.5), click(1, x=41)], []),
        ([click(n / 2) for n in range(60)], [("rage_click", 1)]),
        ([*(click(n / 2) for n in range(5)), *(click(8.9 + n / 2) for n in range(5))], [("rage_click", 1)]),
        ([*(click(n / 2) for n in range(5)), *(click(11 + n / 2) for n in range(3))],
         [("rage_click", 1), ("rage_click", 12)]),
        ([click(0, effect=False), click(10, x=900, effect=False)], [("dead_clicks", 10)]),
        ([click(0, effect=False), click(10.001, x=900, effect=False)], []),
        ([click(0, effect=False), click(2, x=900, effect=None)], []),
        ([click(0, error=True), click(9.999, error=True), click(10, error=True)],
         [("error_click", 0), ("error_click", 10)]),
        ([checkout(0, "fail"), on(5, "reaction")], [("failed_checkout", 0)]),
        ([search(0), search(60, 4), search(90), search(120)], [("empty_searches", 120)]),
        ([search(0), search(90), search(120.001)], []),
        # Confusion.
        (TURNS, [("scroll_reversals", 8)]),
        (TURNS[:4], []),
        ([*TURNS[:4], scroll(12.001, "down")], []),
        ([scroll(0, "down", 3000)], []),
        ([scroll(0, "down", 3000.5)], [("fast_scroll", 0)]),
        (FORTH_AND_BACK, [("back_and_forth", 40)]),
        ([*FORTH_AND_BACK[:4], view(35, "search"), FORTH_AND_BACK[4]], [("back_and_forth", 40)]),
        ([*FORTH_AND_BACK[:4], view(35, "other"), FORTH_AND_BACK[4]], []),
        (FORTH_AND_BACK[:4], []),
        ([view(10 * n, "product", f"https://x.example/{n % 2}?n={n}") for n in range(5)], [("back_and_forth", 40)]),
        # Price.
        ([pointer(0, 100, 5000)], []),
        ([pointer(0, 100, 5001)], [("pointer_stop", 0)]),
        ([pointer(0, 100, 5001, "product")], []),
        ([hover(0, 200), leave(5, "side", "pricing")], [("pricing_exit", 5)]),
        ([hover(0, 200, "product", "Price tag"), leave(1, "back", "pricing")], [("pricing_exit", 1)]),
        ([hover(0, 200), leave(5.001, "side", "pricing")], []),
        ([hover(0, 200), leave(1, "side", "product")], []),
        ([pointer(n, 2001, 1501) for n in (0, 2, 5)], [("erratic_pointer", 5)]),
        ([pointer(n, 2001, 1501) for n in (0, 2, 5.001)], []),
        ([pointer(n, 2000, 1501) for n in (0, 2, 5)], []),
        ([hover(0, 499), hover(10, 500), hover(20, 2500), hover(30, 2501), hover(40, 3999), hover(50, 4000)],
         [("price_glance", 10), ("price_glance", 20), ("price_stare", 50)]),
        ([hover(0, 4000), hover(7.999, 4000), hover(8, 4000)], [("price_stare", 0), ("price_stare", 8)]),
        # Cart.
        ([hover(0, 1000, "cart"), view(2, "cart"), hover(3, 3000, "cart"), hover(9, 3000, "cart"), view(10, "home")],
         [("cart_review", 3)]),
        ([cart(0, "view"), hover(3, 3001, "cart"), view(10, "home")], [("cart_stare", 3)]),
        ([cart(0, "add"), view(5, "cart"), cart(6, "view"), on(40, "reaction")], [("cart_pause", 35)]),
        ([cart(0, "add"), view(5, "cart"), checkout(35, "start"), view(36, "home")], []),
        ([cart(0, "add"), view(5, "cart"), view(34, "product"), cart(40, "view"), on(80, "reaction")],
         [("cart_pause", 70)]),
        ([view(5, "cart"), on(50, "reaction")], []),
        # Comparison, doubt.
        ([view(0, "pricing"), leave(60, "top", "home")], [("exit_after_pricing", 60)]),
        ([view(0, "pricing"), leave(60.001, "top", "home")], []),
        ([leave(0, "top", "pricing")], []),
        ([view(n, "product", f"https://shop.example/p/{n % 40}?from={n}") for n in (0, 20, 40, 59)],
         [("products_compared", 59)]),
        ([view(0, "product"), view(1, "help"), click(60, element="reviews")], [("doubts", 60)]),
        ([view(0, "product"), view(1, "help"), click(61.001, element="reviews")], []),
        ([view(0, "home"), view(1, "help"), click(60, element="reviews")], []),
        # Payment.
        ([field(0, "card-number", 5000), view(9, "home")], [("payment_field_left_empty", 0)]),
        ([field(0, "iban", 4999), field(1, "iban", 9999, filled=True), field(2, "street", 9999), view(9, "home")], []),
        ([checkout(0, "payment"), view(9, "help"), checkout(20, "payment"), view(30, "home")], [("payment_again", 20)]),
        ([checkout(0, "payment"), checkout(20, "payment"), view(30, "home")], []),
        # Leaving.
        ([leave(0, "back", "cart"), leave(30, "side", "checkout"), view(31, "home")],
         [("exit_from_till", 0), ("exit_from_till", 30), ("exits", 30)]),
        ([leave(0, "top", "cart"), view(1, "home"), leave(30.001, "side", "home")], []),
        ([view(0, "checkout")], [("silence_at_till", 60)]),
        ([view(0, "checkout"), on(60, "reaction")], []),
        ([view(0, "checkout"), on(60.001, "reaction")], [("silence_at_till", 60)]),
        ([view(0, "checkout"), field(59, "street", 1)], [("silence_at_till", 119)]),
        ([view(0, "checkout"), on(61, "reaction"), on(59.5, "reaction")], [("silence_at_till", 60)]),
        ([cart(0, "add"), view(1, "cart"), on(33, "reaction"), view(30, "home")], [("cart_pause", 31)]),
        ([cart(0, "add"), view(1, "cart"), on(30, "reaction"), view(29, "home")], []),
        # After the order.
        ([checkout(0, "complete"), hover(1, 700), view(2, "cart"), hover(3, 3500, "cart"), leave(4, "back", "cart"),
          leave(5, "top", "pricing"), click(6, error=True)], [("error_click", 6)]),
        # What others observed.
        ([on(n, "emotion.observed", emotion="joy", confidence=0.1) for n in (0, 1)],
         [("observed", 0), ("observed", 1)]),
    ],
)  # fmt: skip
def test_what_shows(steps: list[Step], expected: list[tuple[str, float]]) -> None:
    assert shown(*steps) == expected


@pytest.mark.parametrize("age, confidence", [(4.999, None), (5, 0.5), (14.999, 0.5), (15, 0.7)])
def test_a_young_session_is_unsure_of_prices(age: float, confidence: float | None) -> None:
    found = found_in(hover(age, 600), start=0)
    assert [entry.confidence for entry in found] == ([] if confidence is None else [confidence])


def test_what_a_young_session_keeps_to_itself_is_not_used_up() -> None:
    jerks = [pointer(n, 2500, 2000) for n in (3, 4, 4.5, 5.5)]
    assert shown(*jerks, start=0) == [("erratic_pointer", 5.5)]


def test_a_session_that_ends_takes_its_timers_along() -> None:
    steps = (cart(0, "add"), view(1, "cart"))
    assert shown(*steps) == [("cart_pause", 31), ("silence_at_till", 61)]
    assert shown(*steps, end=60) == [("cart_pause", 31)]
    assert shown(*steps, end=31) == []


def test_users_and_sessions_are_told_apart() -> None:
    log = [
        DECODER.decode(event("telemetry.click", n * 1000, user, event_id=f"e{n}", session=session, effect=False))
        for n, (user, session) in enumerate([("a", "s"), ("b", "s"), ("a", "z"), ("a", "s")])
    ]
    found = felt_in([*log, DECODER.decode(event("telemetry.click", 3_600_000, "a", session="s", effect=False))])
    assert {user: [entry.rule for entry in entries] for user, entries in found.items()} == {
        User("t", "s", 0, "a"): ["dead_clicks"],
        User("t", "s", 0, "b"): [],
        User("t", "z", 2000, "a"): [],
        User("t", "s", 3_600_000, "a"): [],
    }


def test_every_row_of_the_contract_has_a_rule() -> None:
    emotions = {rule.emotion for rule in RULES} | {"cart_hesitation", "exit_risk"}
    assert len(emotions) == 13
    assert len({rule.name for rule in RULES}) == len(RULES)
