"""What is true about generated visitors: who showed which emotion when, by which row of section 5, and why."""

import msgspec

from flows.generate.lab.episodes import LabSession

EMOTIONS: dict[str, str] = {
    "rage_click": "frustration",
    "dead_clicks": "frustration",
    "error_click": "frustration",
    "failed_checkout": "frustration",
    "empty_searches": "frustration",
    "scroll_reversals": "confusion",
    "fast_scroll": "confusion",
    "back_and_forth": "confusion",
    "pointer_stop": "price_shock",
    "pricing_exit": "price_shock",
    "erratic_pointer": "sticker_shock",
    "price_glance": "evaluation",
    "price_stare": "hesitation",
    "cart_review": "cart_review",
    "cart_stare": "cart_hesitation",
    "cart_pause": "cart_hesitation",
    "exit_after_pricing": "comparison_shopping",
    "products_compared": "comparison_shopping",
    "doubts": "skeptical",
    "payment_field_left_empty": "anxiety",
    "payment_again": "anxiety",
    "exit_from_till": "abandonment_intent",
    "silence_at_till": "exit_risk",
    "exits": "exit_risk",
}
"""Every trigger of section 5 by a name of its own, and the emotion that it shows."""

OBSERVED = "observed"
"""The rule of an emotion that another system diagnosed."""


class Shown(msgspec.Struct, frozen=True):
    """An emotion that a visitor shows at ``ts``: that of the event that completes it, or when its time has run out."""

    emotion: str
    rule: str
    ts: int
    why: str


class Visitor(msgspec.Struct, frozen=True):
    """A visit from ``start_ts`` to its last event at ``end_ts``; ``calm``: nothing urgent is to come of it."""

    tenant_id: str
    session_id: str
    user_id: str
    persona: str
    calm: bool
    start_ts: int
    end_ts: int
    shown: list[Shown]


class VisitorsTruth(msgspec.Struct, frozen=True):
    """The truth about a scenario of visitors; ``rooms``: live sessions beside them, labelled as in the lab."""

    scenario: str
    seed: int
    start_ts: int
    visitors: list[Visitor]
    rooms: list[LabSession] = []
