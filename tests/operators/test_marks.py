"""What is remembered of an event on its way to a rule is what the rule compares, and no more."""

from dataclasses import replace
from typing import Any

import pytest

from operators.emotions.marks import counted, mark_of, near, unpacked
from operators.emotions.roles import Roles, sorters_of
from schemas.inbound import Click, PageView
from tests.operators.diagnosed import RULES

CLICK = Click("e1", "t", "s", "u", 5, "buy", 3.0, 4.0, "home")
SEEN = PageView("e2", "t", "s", "u", 6, "/shoes/?size=9", "product")


@pytest.mark.parametrize(
    "name, event, mark",
    [
        ("rage_click", CLICK, (5, "e1", 3.0, 4.0)),
        ("dead_clicks", CLICK, (5, "e1", None)),
        ("products_compared", SEEN, (6, "e2", "/shoes")),
        ("cart_review", SEEN, ([6, "e2"],)),
    ],
)
def test_a_mark_has_what_its_rule_compares(name: str, event: Any, mark: tuple[Any, ...]) -> None:
    (slot,) = (slot for slot in Roles(RULES).slots if slot.rule.name == name)
    sorter = sorters_of(RULES)[type(event)]
    past = sorter.past(event) if sorter.mask(event) & sorter.of_past else None
    assert unpacked(mark_of(slot)(event.ts, event.event_id, past)) == mark


def test_the_mark_of_what_stands_nowhere_is_in_the_corner() -> None:
    assert near(SEEN) == (6, "e2", 0.0, 0.0)


def test_any_field_may_have_to_differ() -> None:
    (rule,) = (rule for rule in RULES.rules if rule.name == "dead_clicks")
    assert counted(replace(rule, distinct="element"))(CLICK) == (5, "e1", "buy")
