"""Visitors who get nowhere: clicks that do nothing, searches that find nothing, pages that lead back and forth."""

from flows.generate.visitors.reading import read
from flows.generate.visitors.visit import Visit, near
from schemas.inbound import Page

PAIRS: tuple[tuple[Page, Page], ...] = (
    ("home", "search"),
    ("search", "product"),
    ("home", "help"),
    ("product", "help"),
    ("help", "product"),
)
BUTTONS = ("buy", "next", "play", "size", "load more")


def rage_click(v: Visit) -> None:
    """Hit a button again and again."""
    v.settle()
    dead = v.chance(0.5)
    _burst(v, v.rng.randint(3, 7), dead)
    if v.chance(0.3):
        # Another burst, when the first is forgotten.
        v.wait(13, 20)
        _burst(v, v.rng.randint(3, 5), dead)
    elif v.chance(0.3):
        # Another one at once: it is the same rage.
        v.wait(1.5, 2.5)
        _burst(v, 3, dead, same=True)
    v.wait(13, 16)


def _burst(v: Visit, clicks: int, dead: bool, *, same: bool = False) -> None:
    button = v.pick(BUTTONS)
    place = v.click(button, effect=not dead)
    for number in range(2, clicks + 1):
        v.wait(0.09, 0.45)
        place = v.click(button, near(v.rng, place, 8), effect=not dead)
        if number == 2 and dead and not same:
            v.shows("dead_clicks", "a second click without effect")
        if number == 3 and not same:
            v.shows("rage_click", "a third quick click on one spot")


def dead_clicks(v: Visit) -> None:
    """Click twice where nothing happens, at two places."""
    v.settle()
    x, y = v.click("picture", effect=False)
    v.wait(1.5, 8.5)
    v.click("heading", ((x + 200) % 1280, (y + 150) % 900), effect=False)
    v.shows("dead_clicks", "a second click without effect")
    v.wait(13, 16)


def error_click(v: Visit) -> None:
    """Click on something that answers with an error."""
    v.settle()
    v.click(v.pick(BUTTONS), effect=v.pick((True, None)), error=True)
    v.shows("error_click", "the click gave an error")
    v.wait(2, 5)


def empty_searches(v: Visit) -> None:
    """Search three times, or a fourth time, for what isn't there."""
    v.go("search")
    for number in range(1, v.rng.randint(3, 4) + 1):
        v.wait(3, 14)
        v.search(0)
        if number == 3:
            v.shows("empty_searches", "a third search without a result")
    v.wait(2, 5)


def scroll_reversals(v: Visit) -> None:
    """Scroll up and down in search of something."""
    v.settle()
    v.scroll(300, 1800)
    for number in range(1, v.rng.randint(4, 7) + 1):
        v.wait(0.4, 1.8)
        v.scroll(300, 1800, turning=True)
        if number == 4:
            v.shows("scroll_reversals", "turned a fourth time")
    v.settle()


def fast_scroll(v: Visit) -> None:
    """Race through a page."""
    v.settle()
    v.scroll(3200, 9000)
    v.shows("fast_scroll", "raced through the page")
    for _ in range(v.rng.randint(0, 3)):
        v.wait(0.1, 0.6)
        v.scroll(1000, 9000)
    v.wait(5, 9)


def back_and_forth(v: Visit) -> None:
    """Go to and fro between two pages."""
    v.go("other")
    pair = v.pick(PAIRS)
    from_product = 0
    for number in range(v.rng.randint(5, 7)):
        v.wait(2, 9)
        before, page = v.page, pair[number % 2]
        v.go(page, 7 if page == "product" else None)
        if number == 4:
            v.shows("back_and_forth", "came back a third time")
        from_product += before == "product" and page == "help"
        if page == "help" and before == "product" and from_product == 2:
            v.shows("doubts", "asked for help a second time from a product")
    v.wait(2, 5)


def products_compared(v: Visit) -> None:
    """Look at three products within a minute."""
    item = v.rng.randrange(500)
    for number in range(1, 4):
        v.wait(3, 18)
        v.go("product", item + number)
        if number == 3:
            v.shows("products_compared", "a third product within a minute")
    v.wait(2, 5)


def doubts(v: Visit) -> None:
    """Ask for help twice, read reviews twice, or one of each."""
    way = v.pick(("help", "help at the till", "reviews", "both"))
    page: Page = "checkout" if way == "help at the till" else "product"
    for number in (1, 2):
        if v.page != page:
            v.go(page, 7 if page == "product" else None)
        v.wait(3, 14)
        if way == "reviews" or (way == "both" and number == 2):
            v.click("reviews" if number == 1 else "All Reviews")
        else:
            v.go("help")
        if number == 2:
            v.shows("doubts", "asked for help or read reviews a second time")
        v.wait(3, 12)


def eventful(v: Visit) -> None:
    """Have two troubles, with a quiet minute between."""
    first, second = v.rng.sample((rage_click, dead_clicks, error_click, scroll_reversals, back_and_forth), 2)
    first(v)
    v.go("other")
    read(v, 65, 90)
    second(v)
