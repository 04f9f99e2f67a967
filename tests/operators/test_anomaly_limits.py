"""Both sides of each limit of anomaly detection, what its configuration refuses, and the reasons that it gives."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.anomalies.config import HISTORY, AnomalyConfig
from operators.anomalies.explain import explain_tick
from operators.anomalies.state import TYPES
from tests.anomaly_rooms import EAGER, detect, even, raised, random_room, trace

CONFIG = AnomalyConfig()

# Both sides of each boundary: a limit at what was found holds, one a hair beyond does not.

LIMITS = (
    ("SUDDEN_DROP", "combined", "warning", 1),
    ("SUDDEN_DROP", "evidence", "evidence", 1),
    ("MASS_EXIT", "exit_evidence", "exit_evidence", 1),
    ("MASS_EXIT", "exit_times", "exit_times", 1),
    ("MASS_EXIT", "exit_rate", "exit_rate", 1),
    ("MASS_EXIT", "gone", "exit_people", 1),
    ("SUDDEN_DROP", "audience", "min_audience", 1),
    ("SUDDEN_DROP", "ordinal", "min_baseline", 1),
    ("LOW_ENGAGEMENT", "score", "low", -1),
)


@pytest.mark.parametrize("name, quantity, limit, way", LIMITS)
def test_each_limit_decides_on_both_sides(name: str, quantity: str, limit: str, way: int) -> None:
    session = {
        "SUDDEN_DROP": [even(k, people=90, active=45, chats=2, reactions=1) for k in range(9)]
        + [even(9, people=90, active=25, chats=0, reactions=0)._replace(chat_per_min=4)],
        "LOW_ENGAGEMENT": [even(k, people=90, active=45, chats=2, reactions=1) for k in range(9)]
        + [even(9, people=90, active=20, chats=0, reactions=0)],
        "MASS_EXIT": [even(k, people=90, active=45, chats=2, reactions=1)._replace(left=2) for k in range(9)]
        + [even(9, people=90, active=45, chats=2, reactions=1)._replace(left=20)],
    }[name]
    base = replace(EAGER, warning=0.1, critical=1.0, z_full=50.0)
    measures = trace(session, base)
    assert measures.kind[-1] == TYPES.index(name)
    found = getattr(measures, quantity)[-1].item()
    whole = isinstance(getattr(base, limit), int)
    hair = 1 if whole else max(abs(found), 1e-3) * 1e-9
    if way > 0:
        at, beyond = found, found + hair
    else:
        at, beyond = found + hair, found
    for value, expected in ((at, True), (beyond, False)):
        config = replace(base, **{limit: value})
        held = (trace(session, config).kind == TYPES.index(name)).tolist()
        assert bool(held and held[-1]) is expected, (limit, value)


def test_growth_of_a_quarter_is_the_limit() -> None:
    good = [even(k, people=100, active=50, chats=3, reactions=1) for k in range(40)]
    bad = even(40, people=100, active=0, chats=0, reactions=0)
    for audience, expected in ((124, True), (125, False)):
        assert bool(raised(detect([[*good, bad._replace(audience=audience)]])[0])) is expected
    # Newcomers of more than a minute ago are none.
    grown = [tick._replace(audience=125) for tick in good[-12:]]
    assert raised(detect([[*good[:-12], *grown, bad._replace(audience=125)]])[0])


def test_a_fall_of_a_quarter_is_the_limit() -> None:
    good = [even(k, people=100, active=80, chats=3, reactions=1) for k in range(40)]
    bad = even(40, people=100, active=40, chats=0, reactions=0)._replace(chat_per_min=7, reactions_per_min=5)
    measures = trace([*good, bad], EAGER)
    fall = 1 - measures.score[-1] / measures.before[-1]
    for least, expected in ((fall - 1e-9, True), (fall + 1e-9, False)):
        assert bool(trace([*good, bad], replace(EAGER, sudden_fall=least)).sudden[-1]) is expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_audience": 1},
        {"min_baseline": 4},
        {"window": HISTORY},
        {"critical": 0.5},
        {"trees_weight": 1.1},
        {"low_resolved": 0.1},
        {"z_full": 0.0},
        {"decline_spans": ()},
        {"decline_spans": (24, 90)},
        {"recent_spans": (12, 5)},
        {"recent_spans": (12,)},
        {"evidence": float("nan")},
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(CONFIG, **wrong)  # type: ignore[arg-type] # one wrong value of any kind


# Why.


def test_an_explanation_says_which_condition_failed() -> None:
    good = [even(k, people=100, active=50, chats=3, reactions=1) for k in range(40)]
    bad = even(40, people=100, active=0, chats=0, reactions=0)
    measures = trace([*good, bad])
    why = explain_tick(measures, 40, CONFIG)
    assert why.anomaly_type == "LOW_ENGAGEMENT"
    assert all(condition.holds for condition in why.conditions["LOW_ENGAGEMENT"])
    assert not all(condition.holds for condition in why.conditions["MASS_EXIT"])
    calm = explain_tick(measures, 39, CONFIG)
    assert calm.anomaly_type is None
    assert "  no   combined score: 0.35, needed at least 0.6" in calm.lines()
    crowded = trace([*good, bad._replace(audience=200)])
    failed = [c.asks for c in explain_tick(crowded, 40, CONFIG).conditions["LOW_ENGAGEMENT"] if not c.holds]
    assert failed == ["audience grew within 60 s, as a share"]


@given(st.integers(0, 1 << 32))
@settings(max_examples=40, deadline=None)
def test_explanations_agree_with_the_detector(seed: int) -> None:
    measures = trace(random_room(seed), EAGER)
    for place in range(len(measures.tick)):
        why = explain_tick(measures, place, EAGER)
        held = [name for name, conditions in why.conditions.items() if all(c.holds for c in conditions)]
        assert (held[0] if held else None) == why.anomaly_type
