"""Visitors whom a price gives pause: they look, hesitate, stop dead, jerk, or go."""

from flows.generate.visitors.reading import NEUTRAL, read
from flows.generate.visitors.visit import Edge, Visit

PRICES = ("price", "list price", "Price per month", "price-tag")
TOO_SHORT, GLANCE, BETWEEN, STARE = (0.08, 0.42), (0.6, 2.35), (2.7, 3.8), (4.3, 9.0)
"""Seconds on a price: no evaluation yet, one, neither that nor hesitation, hesitation."""
CALM_HAND, QUICK_HAND = (100.0, 1800.0), (2100.0, 4200.0)
"""Velocities of the pointer in px/s, below and beyond what makes it erratic."""


def look_at_price(v: Visit, span: tuple[float, float]) -> None:
    """Rest on a price for some seconds, and show what that shows where nothing forbids it."""
    v.hover(v.pick(NEUTRAL if v.page == "pricing" and v.chance(0.5) else PRICES), *span)
    if span is GLANCE:
        v.shows("price_glance", "looked at a price for a moment")
    elif span is STARE:
        v.shows("price_stare", "stared at a price")


def _to_pricing(v: Visit) -> None:
    v.go("pricing")
    read(v, 5, 15)
    # Any hover here is one on a price; an exit within 5 s of it would be a shock.
    v.wait(6, 9)


def pointer_stop(v: Visit) -> None:
    """Stop dead over a price."""
    _to_pricing(v)
    v.point(v.pick((CALM_HAND, CALM_HAND, QUICK_HAND)), (5500, 12_000))
    v.shows("pointer_stop", "the pointer stopped dead on pricing")
    v.wait(6, 9)


def erratic_pointer(v: Visit) -> None:
    """Jerk the pointer about over the prices."""
    _to_pricing(v)
    moves = v.rng.randint(3, 5)
    dead = v.rng.randint(1, 3 * moves)
    for number in range(1, moves + 1):
        v.point(QUICK_HAND, (5500, 9000) if number == dead else (1600, 4700))
        if number == dead:
            v.shows("pointer_stop", "one of the jerks was a dead stop")
        if number == 3:
            v.shows("erratic_pointer", "jerked the pointer a third time on pricing")
        v.wait(0.2, 1)
    v.wait(6, 9)


def pricing_exit(v: Visit) -> None:
    """Look at a price and be about to go."""
    _to_pricing(v)
    look_at_price(v, v.pick((TOO_SHORT, GLANCE, BETWEEN, STARE)))
    v.wait(0.4, 4.3)
    edges: tuple[Edge, ...] = ("side", "back", "top")
    edge = v.pick(edges)
    v.leave_by(edge)
    v.shows("pricing_exit", "left pricing just after a look at a price")
    if edge == "top":
        v.shows("exit_after_pricing", "left pricing by the top edge")
    v.wait(1, 5)


def price_glance(v: Visit) -> None:
    """Look at prices for a moment, sometimes as soon as a session may say so."""
    _to_prices(v)
    look_at_price(v, GLANCE)
    if v.chance(0.3):
        v.wait(6, 12)
        look_at_price(v, GLANCE)
    elif v.chance(0.3):
        # The same look, interrupted.
        v.wait(0.2, 1)
        v.hover(v.pick(PRICES), *GLANCE)
    v.wait(1, 5)


def price_stare(v: Visit) -> None:
    """Stare at a price, or at two."""
    _to_prices(v)
    look_at_price(v, STARE)
    if v.chance(0.3):
        v.wait(9, 20)
        look_at_price(v, STARE)
    v.wait(1, 5)


def _to_prices(v: Visit) -> None:
    if v.chance(0.5):
        _to_pricing(v)
    else:
        v.go("product", v.rng.randrange(500))
        read(v, 5, 20)
        v.wait(6, 9)


def young_glance(v: Visit) -> None:
    """Come straight to the prices, look once too early to count, and again when it counts a little."""
    v.go("pricing")
    v.wait(0.8, 1.8)
    if not v.shared and v.chance(0.5):
        v.hover(v.pick(PRICES), 0.6, 2.2)
    v.wait(5, 7)
    look_at_price(v, v.pick((GLANCE, STARE)))
    v.wait(6, 12)
