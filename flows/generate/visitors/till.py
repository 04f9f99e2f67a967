"""Visitors at the cart and the checkout: those who look it over, hesitate, worry, or meet a fault; and how one buys."""

from flows.generate.visitors.prices import BETWEEN, GLANCE, PRICES, STARE, TOO_SHORT, look_at_price
from flows.generate.visitors.reading import NEUTRAL, read
from flows.generate.visitors.visit import S, Visit

PAYMENT = ("card-number", "expiry", "cvc")
PAUSE_MS = round(30 * S)
SILENCE_MS = round(60 * S)


def to_cart(v: Visit) -> int:
    """Put something into the cart and go there; return when the cart was viewed first."""
    item = v.rng.randrange(500)
    v.go("product", item)
    read(v, 6, 20)
    v.wait(1, 3)
    v.cart("add", item)
    v.wait(2, 9)
    return view_cart(v)


def view_cart(v: Visit) -> int:
    """Open the cart, which some shops tell twice; return when it was viewed first."""
    v.go("cart")
    viewed_ts = v.end_ts
    if v.chance(0.4):
        v.wait(0.05, 0.4)
        v.cart("view")
    return viewed_ts


def to_checkout(v: Visit) -> None:
    """Begin the checkout."""
    v.go("checkout")
    v.wait(0.05, 0.5)
    v.checkout("start")


def fill_address(v: Visit) -> None:
    """Fill in where it goes; what isn't needed is left empty."""
    for name in ("name", "street", "city"):
        v.wait(0.5, 2)
        v.field(name, 2, 12)
    if v.chance(0.5):
        v.wait(0.5, 2)
        v.field("company", 1, 12, filled=False)
    v.wait(1, 3)


def pay(v: Visit) -> None:
    """Fill in how it is paid, sometimes in a second attempt."""
    for name in PAYMENT:
        v.wait(0.5, 2)
        if v.chance(0.25):
            v.field(name, 0.4, 4.3, filled=False)
            v.wait(0.5, 2)
        v.field(name, 2, 18)
    v.wait(1, 4)


def order(v: Visit) -> None:
    """Pay and be done."""
    v.checkout("payment")
    pay(v)
    v.checkout("complete")


def _order_or_not(v: Visit) -> None:
    v.wait(1, 4)
    if v.chance(0.5):
        pay(v)
        v.checkout("complete")


def vanish(v: Visit, viewed_ts: int | None = None) -> None:
    """Go away without a word from the till; ``viewed_ts``: when the cart was opened that one still stands before."""
    if viewed_ts is not None:
        v.shows("cart_pause", "put something into the cart and did nothing with it", viewed_ts + PAUSE_MS)
    v.shows("silence_at_till", "went away from the till without a word", v.end_ts + SILENCE_MS)
    v.gone = True


def cart_review(v: Visit) -> None:
    """Look over the cart."""
    if v.chance(0.5):
        to_cart(v)
    else:
        view_cart(v)
    v.wait(1, 6)
    if v.chance(0.4):
        look_at_price_in_cart(v)
    else:
        v.hover(v.pick(NEUTRAL), 0.2, 2.8)
    v.shows("cart_review", "looked over the cart")
    v.wait(1, 8)


def look_at_price_in_cart(v: Visit) -> None:
    """Rest on a price in the cart, up to 3 s."""
    span = v.pick((TOO_SHORT, GLANCE, (BETWEEN[0], 2.95)))
    v.hover(v.pick(PRICES), *span)
    if span is GLANCE:
        v.shows("price_glance", "looked at a price in the cart")


def cart_stare(v: Visit) -> None:
    """Stare at the cart."""
    if v.chance(0.5):
        to_cart(v)
    else:
        view_cart(v)
    v.wait(1, 6)
    way = v.pick(("anything", "price", "price for long"))
    if way == "price for long":
        look_at_price(v, STARE)
    else:
        v.hover(v.pick(PRICES if way == "price" else NEUTRAL), 3.2, 3.8 if way == "price" else 9)
    v.shows("cart_stare", "stared at the cart")
    v.wait(1, 8)


def cart_pause(v: Visit) -> None:
    """Stay before the cart with something in it."""
    viewed_ts = to_cart(v)
    way = v.pick(("leaves", "goes on", "vanishes"))
    if way == "vanishes":
        if v.chance(0.5):
            read(v, 5, 20)
            # What is done last is done on the cart: a message in the chat would end the silence there.
            v.scroll(80, 2700)
        vanish(v, viewed_ts)
        return
    read(v, 33, 50)
    v.shows("cart_pause", "stayed before the cart", viewed_ts + PAUSE_MS)
    if way == "goes on":
        to_checkout(v)
        v.wait(1, 5)


def failed_checkout(v: Visit) -> None:
    """Want to buy, and not be able to."""
    to_cart(v)
    v.wait(2, 15)
    to_checkout(v)
    fill_address(v)
    v.checkout("payment")
    pay(v)
    v.checkout("fail")
    v.shows("failed_checkout", "the checkout failed")
    way = v.pick(("tries again", "leaves", "vanishes"))
    if way == "tries again":
        # A second attempt at once: the payment step was not left.
        v.wait(3, 10)
        order(v)
    elif way == "vanishes":
        vanish(v)


def payment_field_left_empty(v: Visit) -> None:
    """Look at a payment field for long and leave it empty."""
    to_cart(v)
    v.wait(2, 15)
    to_checkout(v)
    fill_address(v)
    v.checkout("payment")
    v.wait(0.5, 2)
    v.field(v.pick(("card-number", "cvv", "IBAN", "account")), 5.4, 14, filled=False)
    v.shows("payment_field_left_empty", "left a payment field empty after a long look")
    _order_or_not(v)


def payment_again(v: Visit) -> None:
    """Leave the payment and come back to it."""
    to_cart(v)
    v.wait(2, 15)
    to_checkout(v)
    fill_address(v)
    v.checkout("payment")
    v.wait(2, 9)
    way = v.pick(("help", "cart", "start"))
    if way == "help":
        v.go("help")
        read(v, 4, 15)
    elif way == "cart":
        v.go("cart")
        v.wait(4, 20)
    if way == "start":
        v.checkout("start")
        v.wait(2, 9)
    else:
        v.go("checkout")
        v.wait(0.5, 4)
    v.checkout("payment")
    v.shows("payment_again", "left the payment and came back")
    _order_or_not(v)
