"""Calm visitors: they read, compare a little, buy or leave. Some come near a threshold, on the right side of it."""

from flows.generate.visitors.prices import BETWEEN, GLANCE, PRICES, STARE, TOO_SHORT
from flows.generate.visitors.reading import NEUTRAL, arrive, part, read
from flows.generate.visitors.till import fill_address, order, to_cart, to_checkout
from flows.generate.visitors.visit import S, Visit
from schemas.inbound import Page


def reader(v: Visit) -> None:
    """Read some pages, without a price or the cart."""
    arrive(v)
    pages: list[Page] = ["home", "search", "other", "product", "help"]
    v.rng.shuffle(pages)
    for page in pages[: v.rng.randint(1, 4)]:
        v.go(page, v.rng.randrange(500) if page == "product" else None)
        if page == "search":
            v.wait(1, 4)
            v.search(v.rng.randint(0, 40))
        read(v, 12, 50)
    if v.chance(0.3):
        # Once, and a while after pages that would make it a doubt.
        v.wait(62, 80)
        v.click("reviews")
    _maybe_exit(v)
    part(v)


def comparer(v: Visit) -> None:
    """Look at two products and their prices; a third one only when the first is a minute ago."""
    first = v.rng.randrange(500)
    if not v.shared and v.chance(0.25):
        # In its first 5 s a session shows nothing about prices.
        v.go("product", first)
        v.wait(0.8, 1.8)
        v.hover(v.pick(PRICES), 0.6, 2.2)
        v.wait(16, 20)
    else:
        arrive(v)
        v.go("search")
        v.wait(2, 6)
        v.search(v.rng.randint(2, 60))
        read(v, 5, 20)
        v.go("product", first)
    seen_ms = v.now
    _look_at_price(v)
    if v.chance(0.5):
        v.go("search")
        read(v, 4, 12)
    v.go("product", first + 1)
    _look_at_price(v)
    if v.chance(0.4):
        v.now = max(v.now, seen_ms + 62 * S)
        v.go("product", first + 2)
        _look_at_price(v)
    _maybe_exit(v)
    part(v)


def _look_at_price(v: Visit) -> None:
    read(v, 6, 20)
    v.wait(6, 9)
    span = v.pick((TOO_SHORT, GLANCE, GLANCE, BETWEEN))
    v.hover(v.pick(PRICES), *span)
    if span is GLANCE:
        v.shows("price_glance", "looked at a product's price for a moment")
    read(v, 3, 12)


def buyer(v: Visit) -> None:
    """Buy something without ado, and do as one likes afterwards."""
    arrive(v)
    to_cart(v)
    if v.chance(0.5):
        v.wait(1, 3)
        v.hover(v.pick(NEUTRAL), 0.2, 2.8)
        v.shows("cart_review", "looked over the cart")
    v.wait(2, 15)
    to_checkout(v)
    fill_address(v)
    order(v)
    v.wait(2, 9)
    for after in v.rng.sample((_hover_price, _view_cart, _exit_till, _exit_pricing), v.rng.randint(0, 3)):
        after(v)
    v.wait(2, 9)
    part(v)


def _hover_price(v: Visit) -> None:
    v.go("pricing")
    v.wait(6, 9)
    v.hover(v.pick(PRICES), *v.pick((GLANCE, STARE)))
    v.wait(1, 3)


def _view_cart(v: Visit) -> None:
    v.go("cart")
    v.wait(1, 9)
    v.hover(v.pick(NEUTRAL), 0.5, 5)
    v.wait(35, 70)


def _exit_till(v: Visit) -> None:
    v.go("checkout")
    v.wait(1, 9)
    v.leave_by(v.pick(("side", "back")))
    v.wait(31, 70)


def _exit_pricing(v: Visit) -> None:
    v.go("pricing")
    v.wait(6, 9)
    v.leave_by(v.pick(("top", "side")))
    v.wait(31, 40)


def leaver(v: Visit) -> None:
    """Look at a product, at the cart or at the prices, and leave for good, without a hurry."""
    arrive(v)
    item = v.rng.randrange(500)
    v.go("product", item)
    read(v, 8, 30)
    if v.chance(0.4):
        v.cart("add", item)
        v.wait(3, 15)
        v.go("cart")
        v.wait(4, 20)
        if v.chance(0.5):
            v.cart("remove", item)
            v.wait(1, 5)
    elif v.chance(0.6):
        v.go("pricing")
        read(v, 8, 20)
        v.hover(v.pick(PRICES), *v.pick((TOO_SHORT, BETWEEN)))
        # Too late after a look at the price to be a shock, and by an edge that isn't the way to another shop.
        v.wait(6.5, 14)
        v.leave_by("side")
        v.wait(1, 5)
    v.go("home")
    read(v, 5, 25)
    part(v)


def _maybe_exit(v: Visit) -> None:
    if v.chance(0.4):
        v.leave_by(v.pick(("top", "side", "back")))
        v.wait(1, 5)
