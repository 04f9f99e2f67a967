"""Visitors who are about to go: by an edge of the page, twice, to another shop, or without a word."""

from flows.generate.visitors.reading import QUIET, read
from flows.generate.visitors.till import fill_address, to_cart, to_checkout, vanish, view_cart
from flows.generate.visitors.visit import Visit
from schemas import inbound


def exit_after_pricing(v: Visit) -> None:
    """See the prices and go to look elsewhere."""
    v.go("pricing")
    read(v, 8, 20)
    if v.chance(0.5):
        v.go(v.pick(QUIET))
        read(v, 3, 12)
    # Whatever was a price hover is more than 5 s ago.
    v.wait(6, 10)
    v.leave_by("top")
    v.shows("exit_after_pricing", "left by the top edge after pricing")
    v.wait(1, 5)


def _to_till(v: Visit) -> int | None:
    """Go to the cart or the checkout; return when a cart with something in it was opened, if one still stands there."""
    way = v.pick(("empty cart", "cart", "checkout"))
    if way == "empty cart":
        view_cart(v)
        return None
    viewed_ts = to_cart(v)
    if way == "cart":
        return viewed_ts
    v.wait(2, 15)
    to_checkout(v)
    if v.chance(0.5):
        fill_address(v)
    return None


def exit_from_till(v: Visit) -> None:
    """Be about to leave the cart or the checkout; some think better of it, some are gone."""
    viewed_ts = _to_till(v)
    v.wait(2, 9)
    v.leave_by(v.pick(("side", "back")))
    v.shows("exit_from_till", "left the till by the side or back")
    way = v.pick(("stays", "ends", "vanishes"))
    if way == "vanishes":
        vanish(v, viewed_ts)
    elif way == "ends" and not v.shared:
        v.wait(1, 8)
        v.does(inbound.SessionEnded)
        v.gone = True


def silence_at_till(v: Visit) -> None:
    """Stop doing anything at the till, for good or for longer than a minute."""
    viewed_ts = _to_till(v)
    if v.chance(0.5):
        v.wait(1, 6)
        v.scroll(80, 2700)
    vanish(v, viewed_ts)
    if v.chance(0.5):
        v.gone = False
        v.wait(66, 200)


def exits(v: Visit) -> None:
    """Be about to leave twice: somewhere, after the prices, or from the checkout."""
    v.pick((_exits_anywhere, _exits_after_pricing, _exits_from_till))(v)
    v.wait(1, 5)


def _exits_anywhere(v: Visit) -> None:
    v.go(v.pick(QUIET))
    v.wait(3, 9)
    v.leave_by(v.pick(("top", "side", "back")))
    v.wait(1.5, 26)
    v.leave_by(v.pick(("top", "side", "back")))
    v.shows("exits", "about to leave for the second time")


def _exits_after_pricing(v: Visit) -> None:
    exit_after_pricing(v)
    v.wait(2, 15)
    v.leave_by(v.pick(("side", "back")))
    v.shows("exits", "about to leave for the second time")


def _exits_from_till(v: Visit) -> None:
    to_cart(v)
    v.wait(2, 15)
    to_checkout(v)
    v.wait(2, 9)
    v.leave_by("back")
    v.shows("exit_from_till", "left the checkout by the back")
    soon = v.chance(0.4)
    v.wait(*((1.5, 4) if soon else (6, 26)))
    v.leave_by("back")
    v.shows("exits", "about to leave for the second time")
    if not soon:
        # Within 5 s it would be the same leaving.
        v.shows("exit_from_till", "left the checkout by the back again")
