"""Who comes to the shop: calm visitors of four kinds, and one kind for every row of section 5."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from flows.generate.visitors import calm, leaving, navigation, prices, till
from flows.generate.visitors.reading import arrive, depart, read
from flows.generate.visitors.truth import EMOTIONS
from flows.generate.visitors.visit import Visit


@dataclass(frozen=True, slots=True)
class Persona:
    """A kind of visitor. ``live`` plays a whole visit."""

    name: str
    calm: bool
    live: Callable[[Visit], None]


def _observed(v: Visit) -> None:
    read(v, 5, 20)
    v.observed(v.pick(sorted(set(EMOTIONS.values()))), round(v.rng.uniform(0.3, 1.0), 2))
    v.wait(2, 9)


def _around(scene: Callable[[Visit], None]) -> Callable[[Visit], None]:
    """Put a scene between coming and going."""

    def live(v: Visit) -> None:
        arrive(v)
        scene(v)
        depart(v)

    return live


def _at_once(v: Visit) -> None:
    prices.young_glance(v)
    depart(v)


SCENES: tuple[Callable[[Visit], None], ...] = (
    navigation.rage_click,
    navigation.dead_clicks,
    navigation.error_click,
    till.failed_checkout,
    navigation.empty_searches,
    navigation.scroll_reversals,
    navigation.fast_scroll,
    navigation.back_and_forth,
    prices.pointer_stop,
    prices.pricing_exit,
    prices.erratic_pointer,
    prices.price_glance,
    prices.price_stare,
    till.cart_review,
    till.cart_stare,
    till.cart_pause,
    leaving.exit_after_pricing,
    navigation.products_compared,
    navigation.doubts,
    till.payment_field_left_empty,
    till.payment_again,
    leaving.exit_from_till,
    leaving.silence_at_till,
    leaving.exits,
    navigation.eventful,
)
MOVED: tuple[Persona, ...] = (
    *(Persona(scene.__name__, False, _around(scene)) for scene in SCENES),
    Persona("young_glance", False, _at_once),
    Persona("observed", False, _around(_observed)),
)
"""Those with something on their mind: named after the row of section 5 that they are for, where there is one."""

READER, COMPARER, BUYER, LEAVER = (
    Persona(live.__name__, True, live) for live in (calm.reader, calm.comparer, calm.buyer, calm.leaver)
)
CALM: tuple[Persona, ...] = (READER, COMPARER, READER, BUYER, READER, LEAVER)
"""Calm visitors in turn: every second one only reads."""


def draw_visit(persona: Persona, rng: Random, start_ts: int, *, shared: bool) -> Visit:
    """Play a visit from its first event on; the same generator gives the same visit."""
    v = Visit(rng, start_ts, shared=shared)
    persona.live(v)
    return v
