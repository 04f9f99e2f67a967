"""Routing by written cases: every path, every rule, every boundary on both sides; and what the rules say."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.chat.confidence import Judge
from operators.chat.config import Limits, Policies, Policy, Routing, overlay
from operators.chat.phrases import read_phrases
from operators.chat.question import Reader
from operators.chat.routing import (
    Facts,
    Route,
    Used,
    best_similarity,
    explain,
    facts_of,
    route,
    routing_confidence,
    told,
)
from schemas.errors import ConfigError
from schemas.inbound import AnyEvent, Canonical, ChatAnswer
from tests.events import event

CASES: list[dict[str, Any]] = tomllib.loads(Path(__file__).with_name("answers.toml").read_text("utf-8"))["case"]
PHRASES = read_phrases()
READER = Reader(PHRASES)
JUDGE = Judge(PHRASES, READER)
POLICY = Policy()


def facts(answer: ChatAnswer, policy: Policy = POLICY, used: Used | None = None, *, handed_over: bool = False) -> Facts:
    asked = READER.read(answer.question, policy)
    judged = JUDGE.judge(asked, answer.answer, answer.self_assessment, policy)
    return facts_of(answer, asked, judged, policy, used or Used(), handed_over=handed_over)


def chat_answer(case: dict[str, Any]) -> ChatAnswer:
    retrieval = None if case.get("no_retrieval") else case.get("retrieval", [0.5, 0.1, 0.1, 0.1, 0.1])
    canonical = Canonical("prepared", case["canonical"]) if "canonical" in case else None
    about = ("e1", "t", "s", "u", 0, "c", "a", case["question"], case["answer"])
    return ChatAnswer(*about, retrieval, canonical, case.get("self_assessment"), case.get("tier"))


def routed(case: dict[str, Any]) -> tuple[Facts, Route]:
    policy = overlay(POLICY, case.get("settings", {}), "case")
    found = facts(chat_answer(case), policy, Used(*case.get("used", ())), handed_over=case.get("with_human", False))
    return found, route(found, policy.routing)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    found, where = routed(case)
    told_of = {
        "letter": where.letter,
        "rule": where.rule,
        "reason": where.reason,
        "action": found.judged.action,
        "handoff": where.handoff,
    }
    expected = {name: case[name] for name in told_of if name in case}
    assert {name: told_of[name] for name in expected} == expected, found.judged.why
    assert (where.handoff is not None) == (where.letter in "DE") == ("handoff" in case)


def test_the_cases_are_enough() -> None:
    assert len(CASES) >= 60
    assert len({case["name"] for case in CASES}) == len(CASES)
    assert {case["letter"] for case in CASES} == set("ABCDEF")
    assert {case["rule"] for case in CASES} == set(range(1, 10))


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_what_is_explained_is_what_decided(case: dict[str, Any]) -> None:
    policy = overlay(POLICY, case.get("settings", {}), "case")
    found, where = routed(case)
    checks = explain(found, policy.routing, where.rule)
    assert [check.rule for check in checks] == list(range(1, 10))
    assert [check.rule for check in checks if check.decided] == [where.rule]
    assert next(check.rule for check in checks if check.holds) == where.rule
    lines = told(checks).splitlines()
    assert [line[0] for line in lines].index(">") == where.rule - 1
    assert all(check.needs in line for check, line in zip(checks, lines, strict=True))


def test_what_the_other_rules_would_have_needed() -> None:
    answer = ChatAnswer("e", "t", "s", "u", 0, "c", "a", "How long does it take?", "It might take 3 days.", [0.31])
    needs = [check.needs for check in explain(facts(answer, used=Used(2, 7)), Routing(), 9)]
    assert needs[3] == "a canonical answer of similarity 0.85, is none"
    assert needs[5] == "routing confidence 0.75, is 0.266"
    assert needs[6] == "nothing retrieved (1), or similarity under 0.2, is 0.31"
    assert needs[7].startswith("novelty 0.7, is 0.69; or complexity 0.6, is 0.1; with similarity 0.2, is 0.31; ")
    assert needs[7].endswith("limits: 2 of 10 today, 7 of 50 this week")


@pytest.mark.parametrize(
    "similarity, retrieved, complexity, expected",
    [
        (1.0, 5, 0.1, 0.88),  # 0.6 + 0.3 - 0.02
        (1.0, 4, 0.1, 0.78),  # 0.6 + 0.2 - 0.02
        (1.0, 3, 0.1, 0.78),
        (1.0, 2, 0.1, 0.68),  # 0.6 + 0.1 - 0.02
        (1.0, 1, 0.1, 0.68),
        (1.0, 0, 0.1, 0.58),  # 0.6 - 0.02
        (0.5, 6, 1.0, 0.4),  # 0.3 + 0.3 - 0.2
        (0.0, 0, 0.1, 0.0),  # -0.02, clamped
    ],
)
def test_routing_confidence(similarity: float, retrieved: int, complexity: float, expected: float) -> None:
    assert routing_confidence(similarity, retrieved, complexity, Routing()) == expected


def test_nothing_of_an_answer_can_lift_routing_confidence_beyond_one() -> None:
    generous = overlay(Routing(), {"similarity_weight": 1.0}, "routing")
    assert routing_confidence(1.0, 5, 0.1, generous) == 1.0


SIMILARITIES = st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8)


@given(SIMILARITIES, st.none() | st.floats(0, 1))
def test_best_similarity_is_a_share_whatever_it_is_given(retrieval: list[float], canonical: float | None) -> None:
    best = best_similarity(retrieval, canonical)
    assert 0.0 <= best <= 1.0
    good = [value for value in (*retrieval, canonical or 0.0) if 0.0 <= value <= 1.0]
    assert best >= max(good, default=0.0)


@pytest.mark.parametrize("number", ["NaN", "1.0001", "-0.1", "1e999", "null", '"0.5"', "Infinity"])
def test_no_record_carries_a_similarity_beyond_a_share(number: str) -> None:
    raw = event("chat.answer", 0, retrieval=["?"]).replace(b'"?"', number.encode())
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(raw, type=AnyEvent)


@given(
    st.lists(st.floats(0, 1), max_size=6) | st.none(),
    st.none() | st.floats(0, 1),
    st.text(max_size=60) | st.sampled_from([case["question"] for case in CASES]),
    st.text(max_size=60) | st.sampled_from([case["answer"] for case in CASES]),
    st.tuples(st.integers(0, 12), st.integers(0, 60)),
    st.booleans(),
)
def test_every_answer_has_one_path_and_a_hand_off_exactly_for_d_and_e(
    retrieval: list[float] | None,
    canonical: float | None,
    question: str,
    answer: str,
    used: tuple[int, int],
    handed_over: bool,
) -> None:
    prepared = None if canonical is None else Canonical("prepared", canonical)
    event = ChatAnswer("e", "t", "s", "u", 0, "c", "a", question, answer, retrieval, prepared)
    found = facts(event, used=Used(*used), handed_over=handed_over)
    where = route(found, Routing())
    assert (where.handoff is None) == (where.letter not in "DE")
    assert not (handed_over and where.handoff)
    if where.letter == "D":
        assert used[0] < 10
        assert used[1] < 50
    for share in (found.similarity, found.novelty, found.confidence, found.judged.confidence, found.asked.complexity):
        assert 0.0 <= share <= 1.0


@pytest.mark.parametrize(
    "used, spent",
    [((9, 49), ""), ((10, 49), "limit_day"), ((9, 50), "limit_week"), ((10, 50), "limit_day")],
)
def test_limits(used: tuple[int, int], spent: str) -> None:
    assert Used(*used).spent(Limits()) == spent


def test_an_agent_sets_over_its_tenant_over_the_defaults() -> None:
    policies = Policies(
        overrides={
            "acme": {
                "mode": "lenient",
                "routing": {"auto_answer": 0.6, "limits": {"a_day": 3, "zone": "Europe/Berlin"}},
                "agents": {"billing": {"mode": "strict", "routing": {"limits": {"a_day": 1}}}},
            }
        }
    )
    billing, other, stranger = (policies.of(*who) for who in (("acme", "billing"), ("acme", "x"), ("else", "billing")))
    assert (billing.mode, billing.routing.auto_answer, billing.routing.limits) == (
        "strict",
        0.6,
        Limits(1, 50, "Europe/Berlin"),
    )
    assert (other.mode, other.routing.limits.a_day) == ("lenient", 3)
    assert stranger == Policy()
    assert policies.of("acme", "y") is other


@pytest.mark.parametrize(
    "entry, said",
    [
        ({"levels": {"high": float("nan")}}, "acme.levels.high: Expected `float`"),
        ({"levels": {"high": 0.1}}, "acme.levels: expected high > medium > low"),
        ({"levls": {}}, "acme.levls: unknown; expected one of mode, weights"),
        ({"levels": 3}, "acme.levels: expected a table, got 3"),
        ({"mode": "hard"}, "acme.mode: Invalid enum value 'hard'"),
        ({"modes": {"strict": {"review": 0.2}}}, "acme.modes.strict: expected immediate of at most review"),
        ({"routing": {"limits": {"zone": "Mars/Olympus"}}}, "acme.routing.limits: expected a time zone"),
        ({"routing": {"limits": {"zone": "../../etc/passwd"}}}, "acme.routing.limits: expected a time zone"),
        ({"routing": {"retrieved": [[3, 0.1], [5, 0.3]]}}, "acme.routing: expected retrieved with the highest"),
        ({"agents": {"x": 3}}, "acme.agents: expected a table for each agent"),
        ({"agents": {"x": {"mode": 1}}}, "acme.agents.x.mode: Expected `str`, got `int`"),
        ({"weights": {"hedging": 0.0, "response_quality": 0.0}}, "acme.weights: expected hedging or response_quality"),
    ],
)
def test_a_wrong_setting_is_told_with_its_key(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Policies(overrides={"acme": entry, "fine": {"mode": "strict"}})
    assert str(raised.value).startswith(said)


def test_all_wrong_settings_are_told_together() -> None:
    with pytest.raises(ConfigError) as raised:
        Policies(overrides={"one": {"mode": "x"}, "two": {"agents": {"a": {"levels": {"low": 2.0}}}}})
    assert [line.split(":")[0] for line in str(raised.value).splitlines()] == ["one.mode", "two.agents.a.levels.low"]
