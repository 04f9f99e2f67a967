"""What the sorter tells of an event is the event's alone, however many it has seen before."""

from typing import Any

import pytest

from operators.emotions import sorter
from operators.emotions.sorter import TRACKED, Alternative, Compared, Past, Sorter, number_of
from schemas.inbound import Click, PageView, Scroll

ABOUT: dict[str, Any] = {"event_id": "e", "tenant_id": "t", "session_id": "s", "user_id": "u", "ts": 5}


def view(page: Any, url: str) -> PageView:
    return PageView(**ABOUT, page=page, url=url)


def test_a_view_is_held_against_others_by_page_and_path() -> None:
    views = Sorter((), Compared(turns=(None,), distinct=("url",)), views=True)
    seen = view("product", "https://shop.example/shoes/?size=9")
    assert views.mask(seen) == TRACKED
    assert views.past(seen) == Past(
        (0,), number_of("product"), number_of("product https://shop.example/shoes"), ("https://shop.example/shoes",)
    )
    assert views.past(view("product", "https://shop.example/shoes#top")) == views.past(seen)
    assert views.past(view("other", "https://shop.example/shoes")) != views.past(seen)


def test_a_turn_is_held_against_others_by_its_field() -> None:
    scrolls = Sorter((Alternative(8, (), ()),), Compared(8 | 16, ("direction", "page", None)), views=False)
    down = Scroll(**ABOUT, page="home", depth=0.5, velocity=1.0, direction="down")
    assert (scrolls.mask(down), scrolls.of_past) == (8, 8 | 16)
    assert scrolls.past(down) == Past((number_of("down"), number_of("home"), 0), 0, 0, ())


def test_nothing_is_no_number_and_two_zeros_are_one() -> None:
    assert number_of(None) == 0 != number_of("")
    assert number_of(-0.0) == number_of(0.0) != number_of(0)
    assert number_of("a\0b") == number_of("a\\0b")


def test_little_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may send as many texts as it likes, and as long ones."""
    monkeypatch.setattr(sorter, "_CACHE", 3)
    buys = Alternative(2, (("element", "buy".__eq__),), ())
    clicks = Sorter((buys,), Compared(6, ("element",), ("element",), near=True), views=False)
    for number in range(20):
        click = Click(**ABOUT, element=f"link-{number}", x=1.0, y=2.0, page="home")
        assert (clicks.mask(click), clicks.past(click)) == (
            0,
            Past((number_of(click.element),), 0, 0, (click.element,), (1.0, 2.0)),
        )
        assert len(clicks._known) <= 3 >= len(clicks._past)
    before = len(clicks._known), len(clicks._past)
    long = Click(**ABOUT, element="x" * 513, x=1.0, y=2.0, page="home")
    assert clicks.past(long) == Past((number_of(long.element),), 0, 0, (long.element,), (1.0, 2.0))
    assert (clicks.mask(long), len(clicks._known), len(clicks._past)) == (0, *before)


def test_a_page_is_known_by_its_path_whatever_is_asked_of_it() -> None:
    """Urls with a query of their own are numbered by what tells pages apart, which is worked out once."""
    views = Sorter((), Compared(), views=True)
    pasts = {views.past(view("product", f"https://shop.example/shoes?visit={number}")) for number in range(50)}
    assert len(pasts) == 1
    assert len(views._numbers) == 2
    views.past(view("product", "https://shop.example/" + "x" * 129))
    assert len(views._numbers) == 2


@pytest.mark.parametrize("order", [1, -1])
def test_a_number_is_that_of_its_value_whatever_was_numbered_before(order: int) -> None:
    """In Python True is 1.0: of fields of several kinds neither is taken for the other."""
    clicks = Sorter((Alternative(2, (), ()),), Compared(6, ("effect", "x")), views=False)
    effects = [
        Click(**ABOUT, element="buy", x=x, y=2.0, page="home", effect=effect)
        for x, effect in ((1.0, True), (0.0, False))
    ]
    found = [clicks.past(click).turns for click in effects[::order]]
    assert found[::order] == [(number_of(True), number_of(1.0)), (number_of(False), number_of(0.0))]
    assert number_of(True) != number_of(1.0)
