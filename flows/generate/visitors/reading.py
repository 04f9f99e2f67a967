"""How visitors come, read and go, with all the small things that they do meanwhile and that mean nothing."""

from flows.generate.visitors.visit import S, Visit
from schemas import inbound
from schemas.inbound import Page

NEUTRAL = ("gallery", "menu", "description", "size table", "banner", "footer", "logo", "question 3", "map")
"""Elements without a price or a review in their names."""
WORDS = ("Do you ship to Norway?", "thanks", "Is it still in stock?", "hello")
QUIET: tuple[Page, ...] = ("home", "search", "other")
"""Pages that no rule of section 5 is about."""


def read(v: Visit, low: float, high: float) -> None:
    """Stay on the page for some seconds and do what readers do; nothing of it shows anything."""
    until = v.now + v.draw(low, high) * S
    while True:
        v.wait(0.8, 9)
        if v.now >= until:
            return
        _fidget(v)


def _fidget(v: Visit) -> None:
    what = v.rng.random()
    if what < 0.45:
        v.scroll(80, 2700)
    elif what < 0.55:
        v.look_back()
    elif what < 0.70:
        _point(v)
    elif what < 0.82:
        _hover(v)
    elif what < 0.92:
        v.press(v.pick(NEUTRAL))
    elif what < 0.94:
        v.miss()
    elif what < 0.96:
        v.does(inbound.ChatMessage, text=v.pick(WORDS))
    elif what < 0.98:
        v.does(inbound.Reaction, emoji=v.pick(("👍", "❤️")))
    elif v.page in QUIET:
        # Not a payment field, and not at the checkout: it may be left empty.
        v.field("newsletter email", 1, 9, filled=v.chance(0.3))


def _point(v: Visit) -> None:
    """Move the pointer; a sudden stop means something on pricing alone."""
    if v.page != "pricing" and v.chance(0.2):
        v.point((300, 3500), (1000, 9000))
    else:
        v.point((50, 1700), (20, 4300))


def _hover(v: Visit) -> None:
    """Rest the pointer: in passing where every hover is about a price, not at all where every one is about the cart."""
    if v.page == "pricing":
        v.hover(v.pick(NEUTRAL), 0.1, 0.4)
    elif v.page != "cart":
        v.hover(v.pick(NEUTRAL), 0.1, 8)


def arrive(v: Visit) -> None:
    """Come, and look around for longer than a session is young."""
    if v.chance(0.3):
        v.does(inbound.PresenceJoin)
        v.wait(0.05, 0.5)
    v.go(v.pick(QUIET))
    # 15 s are over before anything else begins, so that no price counts for less.
    v.wait(1, 4)
    read(v, 16, 40)


def depart(v: Visit) -> None:
    """Go to a page that says nothing, and leave in one of the ways in which people leave; whoever is gone is gone."""
    if v.gone:
        return
    v.wait(1.5, 4)
    v.go("other")
    read(v, 4, 20)
    part(v)


def part(v: Visit) -> None:
    """End the visit: with the session, with a leave, or without a word."""
    v.wait(0.5, 4)
    if not v.shared and v.chance(0.3):
        v.does(inbound.SessionEnded)
    elif v.chance(0.3):
        v.does(inbound.PresenceLeave)
