"""A visit while it is made: a visitor with a clock, on a page, whose every act becomes an event to come."""

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Literal, TypeVar

from flows.generate.visitors.truth import EMOTIONS, OBSERVED, Shown
from schemas import inbound
from schemas.inbound import Event, Page

S = 1000.0
SHOP = "https://shop.example"
FORGOTTEN_MS = 12 * S
"""After so long nothing that counts within 10 s remembers what was before."""
WIDTH, HEIGHT = 1280, 900

Cue = tuple[int, Callable[..., Event], dict[str, Any]]
"""When, what, and the fields that only this type has."""
Edge = Literal["top", "side", "back"]
T = TypeVar("T")


class Visit:
    """A visitor's doings so far. Times are milliseconds; methods that take a range of seconds draw from it.

    ``shared``: others are in the session, so that it is not his to end.
    """

    def __init__(self, rng: Random, start_ts: int, *, shared: bool = False) -> None:
        self.rng = rng
        self.now = float(start_ts)
        self.start_ts = start_ts
        self.shared = shared
        self.page: Page = "home"
        self.cues: list[Cue] = []
        self.shown: list[Shown] = []
        self._direction: Literal["up", "down"] = "down"
        self._turned = self._missed = -FORGOTTEN_MS
        self.gone = False
        """Whether he has vanished: nothing more comes from him."""

    @property
    def end_ts(self) -> int:
        """When the last thing so far was done."""
        return self.cues[-1][0] if self.cues else self.start_ts

    def chance(self, probability: float) -> bool:
        """Tell whether something that happens so often happens now."""
        return self.rng.random() < probability

    def pick(self, choices: Sequence[T]) -> T:
        """Choose one of several."""
        return self.rng.choice(choices)

    def draw(self, low: float, high: float) -> float:
        """Draw from a range, small values more often: people are quick more often than slow."""
        return low * math.exp(self.rng.random() * math.log(high / low))

    def wait(self, low: float, high: float) -> None:
        """Let some seconds pass."""
        self.now += self.draw(low, high) * S

    def settle(self) -> None:
        """Do nothing until no small thing of before can count towards what comes."""
        self.wait(FORGOTTEN_MS / S, 20)

    def shows(self, rule: str, why: str, ts: int | None = None) -> None:
        """Write down that what was just done shows an emotion, now or, where time has to run out first, at ``ts``."""
        self.shown.append(Shown(EMOTIONS[rule], rule, self.end_ts if ts is None else ts, why))

    def does(self, make: Callable[..., Event], **fields: Any) -> None:
        """Do something now."""
        self.cues.append((int(self.now), make, fields))

    def go(self, page: Page, item: int | None = None) -> None:
        """Open a page; ``item`` tells products apart."""
        self.page = page
        path = "" if page == "home" else page if item is None else f"{page}/{item}"
        self.does(inbound.PageView, url=f"{SHOP}/{path}", page=page)

    def click(
        self,
        element: str,
        at: tuple[float, float] | None = None,
        *,
        effect: bool | None = True,
        error: bool | None = None,
    ) -> tuple[float, float]:
        """Click an element, somewhere or at a place; return where."""
        x, y = at or (float(self.rng.randrange(WIDTH)), float(self.rng.randrange(HEIGHT)))
        self.does(inbound.Click, element=element, x=x, y=y, page=self.page, effect=effect, error=error)
        return x, y

    def press(self, element: str) -> None:
        """Click with effect, sometimes twice in a row; a third click comes too late to be of the same burst."""
        place = self.click(element)
        if self.chance(0.2):
            self.wait(0.09, 0.3)
            self.click(element, near(self.rng, place, 3), effect=self.pick((True, None)))
            if self.chance(0.3):
                self.wait(1.4, 2.5)
                self.click(element, near(self.rng, place, 3))
        elif self.chance(0.1):
            # Three quick clicks, but across the page: steps of at least 45 px.
            for step in (1, 2):
                self.wait(0.3, 0.9)
                self.click(element, (place[0] + 45.0 * step, place[1]))
        self.wait(1.4, 3)

    def miss(self) -> None:
        """Click where nothing happens, if the last such click is forgotten."""
        if self.now - self._missed >= FORGOTTEN_MS:
            self.click("picture", effect=False)
            self._missed = self.now
        self.wait(1.4, 3)

    def hover(self, element: str, low: float, high: float) -> None:
        """Rest the pointer on an element for some seconds; it is told when it is over."""
        duration = self.draw(low, high) * S
        self.now += duration
        self.does(inbound.Hover, element=element, duration_ms=int(duration), page=self.page)

    def scroll(self, low: float, high: float, *, turning: bool = False) -> None:
        """Scroll at a velocity from a range in px/s, the way of before or, ``turning``, the other."""
        if turning:
            self._direction = "up" if self._direction == "down" else "down"
        depth, velocity = round(self.rng.random(), 3), round(self.draw(low, high), 1)
        self.does(inbound.Scroll, depth=depth, velocity=velocity, direction=self._direction, page=self.page)

    def look_back(self) -> None:
        """Scroll back, if that was not done lately; rarely three times in a row, which is still calm."""
        since = self.now - self._turned
        # Never a fourth turn within 10 s: one every 6 s, or three that are far from all others.
        turns = 3 if since >= FORGOTTEN_MS and self.chance(0.2) else 1 if since >= FORGOTTEN_MS / 2 else 0
        self.scroll(100, 1500, turning=turns > 0)
        for _ in range(1, turns):
            self.wait(0.5, 1.5)
            self.scroll(100, 1500, turning=True)
        if turns:
            self._turned = self.now + (FORGOTTEN_MS / 2 if turns > 1 else 0)

    def point(self, velocity: tuple[float, float], deceleration: tuple[float, float]) -> None:
        """Move the pointer: px/s and px/s²."""
        v, d = round(self.draw(*velocity), 1), round(self.draw(*deceleration), 1)
        self.does(inbound.Pointer, velocity=v, deceleration=d, page=self.page)

    def leave_by(self, edge: Edge) -> None:
        """Show that one is about to go."""
        self.does(inbound.ExitIntent, edge=edge, page=self.page)

    def field(self, name: str, low: float, high: float, *, filled: bool = True) -> None:
        """Stay in a form field for some seconds."""
        duration = self.draw(low, high) * S
        self.now += duration
        self.does(inbound.Field, field=name, duration_ms=int(duration), filled=filled, page=self.page)

    def cart(self, action: Literal["add", "remove", "view"], item: int | None = None) -> None:
        """Do something with the cart."""
        fields: dict[str, Any] = (
            {} if item is None else {"product_id": f"p-{item}", "price": round(4.99 + item % 97, 2)}
        )
        self.does(inbound.Cart, action=action, **fields)

    def checkout(self, step: Literal["start", "payment", "complete", "fail"]) -> None:
        """Take a step of the checkout."""
        self.does(inbound.Checkout, step=step)

    def search(self, results: int) -> None:
        """Search for something."""
        self.does(inbound.Search, query=self.pick(("lamp", "blue chair", "desk 120 cm", "gift")), results=results)

    def observed(self, emotion: str, confidence: float) -> None:
        """Be diagnosed by another system."""
        self.does(inbound.EmotionObserved, emotion=emotion, confidence=confidence)
        self.shown.append(Shown(emotion, OBSERVED, self.end_ts, "another system said so"))


def near(rng: Random, place: tuple[float, float], px: int) -> tuple[float, float]:
    """Return a place at most so many px away, to the side and up or down."""
    return place[0] + rng.randint(-px, px), place[1] + rng.randint(-px, px)
