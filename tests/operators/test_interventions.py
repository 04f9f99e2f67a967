"""What is done about emotions and anomalies: section 6 of the contract, row by row and reason by reason."""

import re
from typing import Any

import pytest

from operators.interventions.rules import RANK
from schemas.outbound import AnomalyType, Signals
from tests.operators.cues import (
    CONTENT,
    anomaly,
    brief,
    emotion,
    felt,
    interventions,
    over,
    run,
    shard,
)

MINUTE = 60_000

TABLE = [
    ("exit_intent", {"abandonment_intent": 0.80, "exit_risk": 0.85}, None, "CRITICAL"),
    ("discount_modal", {"price_shock": 0.70, "sticker_shock": 0.70}, 10 * MINUTE, "HIGH"),
    ("help_chat", {"confusion": 0.65, "frustration": 0.70}, 5 * MINUTE, "HIGH"),
    ("value_highlight", {"cart_hesitation": 0.65}, 10 * MINUTE, "MEDIUM"),
    ("urgency_banner", {"hesitation": 0.70, "cart_review": 0.65}, 10 * MINUTE, "MEDIUM"),
    ("trust_badges", {"skeptical": 0.65, "evaluation": 0.60}, 5 * MINUTE, "MEDIUM"),
    ("comparison_modal", {"anxiety": 0.65, "comparison_shopping": 0.70}, 10 * MINUTE, "LOW"),
    ("social_toast", {"comparison_shopping": 0.70, "evaluation": 0.60}, 5 * MINUTE, "LOW"),
]
"""Section 6, as it stands there."""

ROWS = [(row[0], name, least, row[2], row[3]) for row in TABLE for name, least in row[1].items()]
FIRST = {name: next(row[0] for row in TABLE if name in row[1]) for row in TABLE for name in row[1]}

UNLIMITED: dict[str, Any] = {"rate_limits": []}


@pytest.mark.parametrize("name, emotion_name, least, cooldown, priority", ROWS)
def test_an_emotion_has_the_first_row_that_lists_it(
    name: str, emotion_name: str, least: float, cooldown: int | None, priority: str
) -> None:
    of = shard(UNLIMITED)
    if FIRST[emotion_name] != name:  # the second row's turn comes when the first one is cooling down
        assert brief(run(of, [felt(emotion(emotion_name))])) == [(FIRST[emotion_name], "fired", None)]
    (one,) = interventions(run(of, [felt(emotion(emotion_name, least, ts=1_000))]))
    assert (one.intervention, one.status, one.priority, one.confidence) == (name, "fired", priority, least)
    assert (one.recipient, one.user_id, one.trigger.kind, one.trigger.name) == ("anna", "anna", "emotion", emotion_name)
    assert one.content is not None
    assert one.content["headline"] == CONTENT.of(name, emotion_name).headline


@pytest.mark.parametrize("name, emotion_name, least, cooldown, priority", ROWS)
def test_below_its_least_confidence_nothing_is_done(
    name: str, emotion_name: str, least: float, cooldown: int | None, priority: str
) -> None:
    of = shard(UNLIMITED)
    if FIRST[emotion_name] != name:
        run(of, [felt(emotion(emotion_name))])
    (one,) = interventions(run(of, [felt(emotion(emotion_name, least - 0.001, ts=1_000))]))
    assert (one.intervention, one.status, one.reason) == (name, "suppressed", "low_confidence")
    assert one.content is None


@pytest.mark.parametrize("name, emotions, cooldown, priority", TABLE)
def test_a_cooldown_is_the_tables_for_the_same_user_alone(
    name: str, emotions: dict[str, float], cooldown: int | None, priority: str
) -> None:
    of = shard(UNLIMITED | {"allowed": [name]})
    which = next((each for each in emotions if FIRST[each] == name), None) or next(iter(emotions))
    others = [row[0] for row in TABLE if which in row[1] and row[0] != name]
    of.rules = type(of.rules)(
        of.rules.cooldowns,
        {which: tuple(row for row in of.rules.emotions[which] if row.intervention not in others)},
        {},
    )
    end = cooldown or 20 * MINUTE
    told = [run(of, [felt(emotion(which, ts=ts))]) for ts in (0, end - 1, end)]
    last = (name, "fired", None) if cooldown else (name, "suppressed", "cooldown")
    assert [brief(each) for each in told] == [[(name, "fired", None)], [(name, "suppressed", "cooldown")], [last]]
    assert brief(run(of, [felt(emotion(which, ts=1, user="bert"))])) == [(name, "fired", None)]
    assert brief(run(of, [felt(emotion(which, ts=1, session="other"))])) == [(name, "fired", None)]
    assert brief(run(of, [over(end), felt(emotion(which, ts=end + 1))])) == [(name, "fired", None)]


def test_if_all_rows_are_cooling_down_the_first_is_suppressed() -> None:
    told = run(shard(UNLIMITED), [felt(emotion("evaluation", ts=ts)) for ts in (0, 1, 2)])
    assert brief(told) == [
        ("trust_badges", "fired", None),
        ("social_toast", "fired", None),
        ("trust_badges", "suppressed", "cooldown"),
    ]


def test_confusion_at_085_that_another_system_observed_gives_help_chat() -> None:
    observed = emotion("confusion", 0.85, rule="observed")
    assert brief(run(shard(), [felt(observed)])) == [("help_chat", "fired", None)]


def test_an_emotion_that_nothing_answers_to_tells_nothing() -> None:
    assert run(shard(), [felt(emotion("joy")), felt(emotion("joy", ts=1), emotion("confusion", ts=1))]) != []
    assert run(shard(), [felt(emotion("joy"))]) == []


ANOMALIES: list[tuple[AnomalyType, list[tuple[str, str, float, int]]]] = [
    ("SUDDEN_DROP", [("poll", "HIGH", 0.85, 120_000), ("chat_prompt", "HIGH", 0.75, 60_000)]),
    ("GRADUAL_DECLINE", [("poll", "MEDIUM", 0.80, 120_000), ("gamification", "MEDIUM", 0.70, 180_000)]),
    ("LOW_ENGAGEMENT", [("notification", "HIGH", 0.75, 300_000), ("poll", "HIGH", 0.82, 120_000)]),
    ("MASS_EXIT", [("notification", "CRITICAL", 0.90, 300_000)]),
]


@pytest.mark.parametrize("kind, answers", ANOMALIES)
def test_an_anomaly_has_its_first_intervention_and_the_next_while_that_cools_down(
    kind: AnomalyType, answers: list[tuple[str, str, float, int]]
) -> None:
    of = shard(UNLIMITED)
    told = interventions(run(of, [anomaly(kind, ts) for ts in range(len(answers) + 1)]))
    found = [(each.intervention, each.priority, each.confidence, each.status) for each in told]
    assert found[:-1] == [(name, priority, confidence, "fired") for name, priority, confidence, _ in answers]
    assert (told[-1].intervention, told[-1].status, told[-1].reason) == (answers[0][0], "suppressed", "cooldown")
    assert {(each.recipient, each.user_id, each.trigger.kind, each.trigger.name) for each in told} == {
        ("s", None, "anomaly", kind)
    }
    first = answers[0]
    again = interventions(run(of, [anomaly(kind, 0, state="resolved"), anomaly(kind, first[3])]))
    assert brief(again) == [(first[0], "fired", None)]
    other = interventions(run(of, [anomaly(kind, 1, session="other")]))
    assert brief(other) == [(first[0], "fired", None)]


@pytest.mark.parametrize("kind", ["SUDDEN_DROP", "GRADUAL_DECLINE", "LOW_ENGAGEMENT"])
@pytest.mark.parametrize("severity", ["WARNING", "CRITICAL"])
def test_nothing_is_done_about_a_warning_while_the_score_is_above_04(kind: AnomalyType, severity: Any) -> None:
    # 0.25 of the poll and 0.25 of the active ratio: what the detector compares is less.
    at_04, above = Signals(0, 0, 9, 9, 1.0, 0.6, 0.0), Signals(0, 0, 9, 9, 1.0, 0.61, 0.0)
    assert len(run(shard(), [anomaly(kind, severity=severity, signals=at_04)])) == 1
    assert len(run(shard(), [anomaly(kind, severity=severity, signals=above)])) == (severity == "CRITICAL")


def test_a_mass_exit_is_told_whatever_the_score_and_once_an_episode() -> None:
    of, high = shard(), Signals(20, 10, 9, 9, 1.0, 1.0, 0.2)
    told = [run(of, [anomaly("MASS_EXIT", ts, "WARNING", signals=high)]) for ts in (5_000, 35_000, 400_000)] + [
        run(of, [anomaly("MASS_EXIT", 405_000, state="resolved"), anomaly("MASS_EXIT", 410_000, "WARNING")])
    ]
    fired, not_again = [("notification", "fired", None)], [("notification", "suppressed", "cooldown")]
    assert [brief(each) for each in told] == [fired, not_again, not_again, fired]
    (first,) = interventions(told[0])
    assert first.content is not None
    assert (first.content["headline"], first.content["to"]) == ("People are leaving", "organiser")
    assert first.content["body"].startswith("20% of the room left")


def test_a_mass_exit_waits_for_the_cooldown_of_notifications_and_is_then_told_once() -> None:
    told = run(
        shard(), [anomaly("LOW_ENGAGEMENT", 0), *(anomaly("MASS_EXIT", ts) for ts in (270_000, 300_000, 700_000))]
    )
    assert [each[1:] for each in brief(told)] == [
        ("fired", None),
        ("suppressed", "cooldown"),
        ("fired", None),
        ("suppressed", "cooldown"),
    ]


def test_what_is_resolved_gives_nothing() -> None:
    assert run(shard(), [anomaly("SUDDEN_DROP", state="resolved")]) == []


# The governor's reasons, each with something that it hinders and something that it doesn't.

NOON, NIGHT = 12 * 60 * MINUTE, 23 * 60 * MINUTE
QUIET = {"quiet_hours": {"from": "22:00", "to": "06:00"}}


@pytest.mark.parametrize(
    "policy, name, confidence, ts, found",
    [
        ({"enabled": False}, "exit_risk", 0.95, 0, "disabled"),
        ({"allowed": ["help_chat"]}, "exit_risk", 0.95, 0, "disabled"),
        ({"allowed": ["exit_intent"]}, "exit_risk", 0.95, 0, None),
        ({"allowed": []}, "exit_risk", 0.95, 0, "disabled"),
        ({"thresholds": {"exit_intent": 0.96}}, "exit_risk", 0.95, 0, "low_confidence"),
        ({"thresholds": {"exit_intent": 0.2}}, "exit_risk", 0.2, 0, None),
        ({"thresholds": {"help_chat": 0.96}}, "exit_risk", 0.85, 0, None),
        (QUIET, "confusion", 0.95, NIGHT, "quiet_hours"),
        (QUIET, "confusion", 0.95, NOON, None),
        (QUIET, "exit_risk", 0.95, NIGHT, None),
        (
            {"quiet_hours": {"from": "08:00", "to": "09:00", "zone": "Asia/Tokyo"}},
            "confusion",
            0.95,
            NIGHT,
            "quiet_hours",
        ),
        ({"budget_per_hour": 0}, "exit_risk", 0.95, 0, "budget"),
        ({"budget_per_hour": 1}, "exit_risk", 0.95, 0, None),
        ({"holdout": 1.0}, "exit_risk", 0.95, 0, "holdout"),
    ],
)
def test_each_reason(policy: dict[str, Any], name: str, confidence: float, ts: int, found: str | None) -> None:
    (one,) = interventions(run(shard(policy), [felt(emotion(name, confidence, ts))]))
    assert (one.status, one.reason) == (("fired", None) if found is None else ("suppressed", found))
    assert one.why


def test_one_within_30_s_for_a_recipient_but_critical_passes() -> None:
    told = run(
        shard(),
        [
            felt(emotion("confusion", ts=0)),
            felt(emotion("price_shock", ts=29_999)),
            felt(emotion("exit_risk", ts=29_999)),
            felt(emotion("price_shock", ts=29_999, user="bert")),
            felt(emotion("price_shock", ts=59_998)),
            felt(emotion("price_shock", ts=59_999)),
        ],
    )
    assert [each[1:] for each in brief(told)] == [
        ("fired", None),
        ("suppressed", "rate_limit"),
        ("fired", None),
        ("fired", None),
        ("suppressed", "rate_limit"),
        ("fired", None),
    ]


def test_ten_within_5_min_for_a_recipient() -> None:
    ten = {"rate_limits": [{"times": 10, "within_s": 300}]}
    of = shard(ten)
    names = ["SUDDEN_DROP", "LOW_ENGAGEMENT", "GRADUAL_DECLINE"]
    told = []
    for step in range(60):
        told += [(step * 10_000, each[1:]) for each in brief(run(of, [anomaly(names[step % 3], step * 10_000)]))]  # type: ignore[arg-type] # names of types
    fired = [ts for ts, (status, _) in told if status == "fired"]
    limited = [ts for ts, (_, reason) in told if reason == "rate_limit"]
    for ts in limited:
        assert sum(ts - 300_000 < at <= ts for at in fired) >= 10
    for ts in fired:
        assert sum(ts - 300_000 < at <= ts for at in fired) <= 10
    assert limited or len(fired) < 30


def test_the_rate_limit_of_ten_is_reached_by_what_is_critical_too() -> None:
    of = shard({"rate_limits": [{"times": 2, "within_s": 300}]})
    told = run(
        of, [felt(emotion("exit_risk", ts=0)), felt(emotion("confusion", ts=1)), felt(emotion("price_shock", ts=2))]
    )
    assert [each[2] for each in brief(told)] == [None, None, "rate_limit"]


def test_a_budget_is_the_tenants_for_an_hour() -> None:
    hour = 60 * MINUTE
    of = shard({"budget_per_hour": 2})
    users = [felt(emotion("confusion", ts=ts, user=f"u{ts}", session=f"s{ts}")) for ts in (1, 2, 3, hour - 1, hour)]
    assert [each[2] for each in brief(run(of, users))] == [None, None, "budget", "budget", None]
    assert brief(run(of, [felt(emotion("confusion", ts=4, tenant="other"))])) == [("help_chat", "fired", None)]


def test_of_several_at_one_moment_the_highest_priority_goes() -> None:
    told = run(shard(), [felt(emotion("evaluation"), emotion("exit_risk", rule="b"), emotion("price_shock", rule="c"))])
    assert brief(told) == [
        ("trust_badges", "suppressed", "outranked"),
        ("exit_intent", "fired", None),
        ("discount_modal", "suppressed", "outranked"),
    ]


@pytest.mark.parametrize(
    "first, second, goes",
    [
        (("confusion", 0.8), ("price_shock", 0.9), "discount_modal"),
        (("confusion", 0.9), ("price_shock", 0.8), "help_chat"),
        (("confusion", 0.9), ("price_shock", 0.9), "discount_modal"),
        (("price_shock", 0.9), ("confusion", 0.9), "discount_modal"),
    ],
)
def test_of_the_same_priority_the_more_confident_goes_then_the_first_in_the_table(
    first: tuple[str, float], second: tuple[str, float], goes: str
) -> None:
    told = run(shard(), [felt(emotion(*first), emotion(*second, rule="b"))])
    assert [each[0] for each in brief(told) if each[1] == "fired"] == [goes]


def test_two_rules_of_one_millisecond_that_ask_for_the_same_give_one_and_other_ids() -> None:
    told = interventions(
        run(shard(), [felt(emotion("frustration", 0.8, rule="a"), emotion("frustration", 0.9, rule="b"))])
    )
    assert brief(told) == [("help_chat", "suppressed", "outranked"), ("help_chat", "fired", None)]
    assert len({each.id for each in told}) == 2


def test_two_events_of_one_millisecond_are_two_moments() -> None:
    told = run(shard(UNLIMITED), [felt(emotion("confusion", rule="a")), felt(emotion("exit_risk", rule="b"))])
    assert brief(told) == [("help_chat", "fired", None), ("exit_intent", "fired", None)]


def test_what_is_hindered_does_not_outrank() -> None:
    told = run(shard(), [felt(emotion("exit_risk", 0.5), emotion("evaluation", 0.7, rule="b"))])
    assert brief(told) == [("exit_intent", "suppressed", "low_confidence"), ("trust_badges", "fired", None)]


def test_the_first_reason_that_holds_is_told() -> None:
    everything = {
        "enabled": False,
        "thresholds": {"help_chat": 1.0},
        "quiet_hours": {"from": "00:00", "to": "23:59"},
        "budget_per_hour": 0,
        "holdout": 1.0,
        "mode": "MANUAL",
    }
    order = ["disabled", "low_confidence", "quiet_hours", "cooldown", "rate_limit", "budget", "holdout", "approval"]
    drop = ["enabled", "thresholds", "quiet_hours", None, None, "budget_per_hour", "holdout", "mode"]
    found = []
    for step, key in enumerate(drop):
        of = shard()
        if step <= 4:
            run(of, [felt(emotion("confusion" if step <= 3 else "price_shock", ts=0))])
        of = type(of).restore(shard(everything).config, of.rules, of.content, of.snapshot())
        found += [each.reason for each in interventions(run(of, [felt(emotion("confusion", ts=1))]))]
        if key is not None:
            del everything[key]
    assert found == order


def test_the_holdout_is_sticky_and_of_about_its_share() -> None:
    of = shard({"holdout": 0.2})
    told = interventions(run(of, [felt(emotion("confusion", user=f"u{i}", session=f"s{i}")) for i in range(2_000)]))
    held = {each.user_id for each in told if each.reason == "holdout"}
    assert 300 < len(held) < 500
    later = interventions(
        run(shard({"holdout": 0.2}), [felt(emotion("exit_risk", ts=9, user=f"u{i}")) for i in range(2_000)])
    )
    assert {each.user_id for each in later if each.reason == "holdout"} == held
    wider = interventions(
        run(shard({"holdout": 0.3}), [felt(emotion("exit_risk", ts=9, user=f"u{i}")) for i in range(2_000)])
    )
    assert {each.user_id for each in wider if each.reason == "holdout"} > held


def test_a_cooldown_begins_when_held_out_and_counts_for_the_rate_limit() -> None:
    told = run(
        shard({"holdout": 1.0}),
        [felt(emotion("confusion", ts=0)), felt(emotion("confusion", ts=30_000)), felt(emotion("price_shock", ts=1))],
    )
    assert [each[2] for each in brief(told)] == ["holdout", "cooldown", "rate_limit"]


def test_polls_go_round_and_the_last_ten_of_a_session_are_not_repeated() -> None:
    of = shard(UNLIMITED)
    told = interventions(run(of, [anomaly("SUDDEN_DROP", ts * 120_000) for ts in range(60)]))
    polls = [each.content["poll"]["id"] for each in told if each.content and each.intervention == "poll"]
    assert len(polls) == 60
    for at, poll in enumerate(polls):
        assert poll not in polls[max(0, at - 10) : at]
    assert set(polls) == {poll.id for poll in CONTENT.polls}
    first = {
        interventions(run(of, [anomaly("SUDDEN_DROP", session=f"s{i}")]))[0].content["poll"]["id"]  # type: ignore[index] # fired
        for i in range(100)
    }
    assert len(first) > 5


def test_ids_fit_whatever_the_names_and_never_meet() -> None:
    long, longer = "/" * 128, "%" * 128
    one = emotion("confusion", user=long, session=longer, tenant=long)
    told = interventions(
        run(shard(UNLIMITED), [felt(one), felt(emotion("confusion", user="b" * 128, session=longer, tenant=long))])
    )
    assert all(len(each.id) <= 1024 for each in told)
    assert len({each.id for each in told}) == 2
    assert re.fullmatch(
        r"acme/s/5/intervention/anna-5/rule/help_chat",
        interventions(run(shard(), [felt(emotion("confusion", ts=5))]))[0].id,
    )


def test_priorities_rise_to_critical() -> None:
    assert sorted(RANK, key=RANK.__getitem__) == ["LOW", "MEDIUM", "HIGH", "CRITICAL"]
