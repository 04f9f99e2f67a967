"""What the rules of the emotions' reference need: what an event is, and what of the past it completes.

The rules and what is assumed about them are in ``tests.model_emotions``.
"""

from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from schemas.inbound import Cart, Checkout, Click, Event, Field, Hover, PageView, Pointer, Scroll, Search

S = 1000
RECENT_MS = 10 * 60 * S
PAYMENT_FIELDS = ("card", "cvc", "cvv", "expiry", "iban", "account")

Past = Sequence[Event]
"""A user's events up to now, now's the last."""
Needs = Callable[[Past, int], list[Event]]
"""What a rule rests on if it holds now, else nothing. The number is how many events at the front are used up."""


# What events are.


def page(event: Event) -> str:
    return getattr(event, "page", "")


def place(event: Event) -> tuple[str, str]:
    """Return what tells the page of a view from others: its kind and its path."""
    assert isinstance(event, PageView)
    return event.page, urlsplit(event.url).path


def price_hover(event: Event) -> bool:
    return isinstance(event, Hover) and (event.page == "pricing" or "price" in event.element.lower())


def cart_view(event: Event) -> bool:
    return (isinstance(event, PageView) and event.page == "cart") or (
        isinstance(event, Cart) and event.action == "view"
    )


def no_effect(event: Event) -> bool:
    return isinstance(event, Click) and event.effect is False


def no_result(event: Event) -> bool:
    return isinstance(event, Search) and event.results == 0


def erratic(event: Event) -> bool:
    return (
        isinstance(event, Pointer) and event.page == "pricing" and event.deceleration > 1500 and event.velocity > 2000
    )


def step(event: Event, name: str) -> bool:
    return isinstance(event, Checkout) and event.step == name


def left_payment(event: Event) -> bool:
    return (isinstance(event, PageView) and event.page != "checkout") or step(event, "start")


def on_sale_pages(event: Event) -> bool:
    return page(event) in ("cart", "checkout") or isinstance(event, Cart | Checkout)


def left_cart(event: Event) -> bool:
    return isinstance(event, Checkout) or (isinstance(event, PageView) and event.page != "cart")


def empty_payment_field(event: Event) -> bool:
    return (
        isinstance(event, Field)
        and event.page == "checkout"
        and any(word in event.field.lower() for word in PAYMENT_FIELDS)
        and not event.filled
        and event.duration_ms >= 5 * S
    )


# What rules need.


def one(is_it: Callable[[Event], bool]) -> Needs:
    def needs(past: Past, used: int) -> list[Event]:
        return [past[-1]] if is_it(past[-1]) else []

    return needs


def several(number: int, within_ms: int, is_it: Callable[[Past, int], bool]) -> Needs:
    """Need now's and others before it, ``number`` in all; ``is_it`` sees the events up to each one's place."""

    def needs(past: Past, used: int) -> list[Event]:
        now = len(past) - 1
        places = [at for at in range(used, now + 1) if is_it(past, at) and past[now].ts - past[at].ts <= within_ms]
        return [past[at] for at in places[-number:]] if len(places) >= number and places[-1] == now else []

    return needs


def after(
    first: Callable[[Event], bool], within_ms: int, then: Callable[[Event], bool], context: bool = False
) -> Needs:
    """Need one that was before and one now."""

    def needs(past: Past, used: int) -> list[Event]:
        now = past[-1]
        before = past[0 if context else used : -1]
        found = [event for event in before if first(event) and now.ts - event.ts <= within_ms]
        return [found[-1], now] if found and then(now) else []

    return needs


def reversal(past: Past, at: int) -> bool:
    this = past[at]
    before = [event for event in past[:at] if isinstance(event, Scroll)]
    return isinstance(this, Scroll) and bool(before) and before[-1].direction != this.direction


def doubt(past: Past, at: int) -> bool:
    this = past[at]
    if isinstance(this, Click):
        return "review" in this.element.lower()
    before = [event.page for event in past[:at] if isinstance(event, PageView)]
    return isinstance(this, PageView) and this.page == "help" and before[-1:] in (["product"], ["checkout"])


def rage(past: Past, used: int) -> list[Event]:
    places = [at for at, event in enumerate(past) if isinstance(event, Click)]
    if not places or places[-1] != len(past) - 1:
        return []
    burst = [places[-1]]
    for at in reversed(places[:-1]):
        a, b = past[at], past[burst[0]]
        assert isinstance(a, Click)
        assert isinstance(b, Click)
        if b.ts - a.ts > 1 * S or abs(b.x - a.x) + abs(b.y - a.y) > 30:
            break
        burst.insert(0, at)
    fired_in_it = used > burst[0]
    return [past[at] for at in burst[-3:]] if len(burst) >= 3 and not fired_in_it else []


def back_and_forth(past: Past, used: int) -> list[Event]:
    views: list[tuple[int, Event]] = []
    for at, event in enumerate(past):
        if isinstance(event, PageView) and (not views or place(views[-1][1]) != place(event)):
            views.append((at, event))
    if len(views) < 5 or views[-1][0] != len(past) - 1:
        return []
    returns = all(place(views[-n][1]) == place(views[-n - 2][1]) for n in (1, 2, 3))
    fresh = views[-3][0] >= used and past[-1].ts - views[-3][1].ts <= 60 * S
    return [event for _, event in views[-3:]] if returns and fresh else []


def products(past: Past, used: int) -> list[Event]:
    now = past[-1]
    if not (isinstance(now, PageView) and now.page == "product"):
        return []
    newest: dict[str, Event] = {}
    for event in past[used:]:
        if isinstance(event, PageView) and event.page == "product" and now.ts - event.ts <= 60 * S:
            path = urlsplit(event.url).path
            newest.pop(path, None)
            newest[path] = event
    return list(newest.values())[-3:] if len(newest) >= 3 else []


def payment_again(past: Past, used: int) -> list[Event]:
    if not step(past[-1], "payment"):
        return []
    for at in reversed(range(used, len(past) - 1)):
        if left_payment(past[at]):
            entered = [e for e in past[used:at] if step(e, "payment") and past[-1].ts - e.ts <= RECENT_MS]
            return [entered[-1], past[at], past[-1]] if entered else []
    return []


def hover_of(kind: Callable[[Event], bool], least_ms: int, most_ms: int | None = None) -> Callable[[Event], bool]:
    def is_it(event: Event) -> bool:
        if not isinstance(event, Hover) or not kind(event):
            return False
        return event.duration_ms >= least_ms and (most_ms is None or event.duration_ms <= most_ms)

    return is_it


def on_cart(event: Event) -> bool:
    return page(event) == "cart"
