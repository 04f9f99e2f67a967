"""What comes after a decision: approvals, outcomes, and how the score moved."""

from typing import Any

import pytest

from operators.interventions.config import InterventionConfig
from operators.interventions.cues import Cue, CueBatch
from operators.interventions.shard import Interventions
from schemas.errors import TerminalError
from schemas.outbound import DeadLetter, InterventionEffect, Outcome
from tests.operators.cues import (
    CONTENT,
    RULES,
    anomaly,
    approval,
    brief,
    emotion,
    felt,
    interventions,
    outcome,
    over,
    run,
    scored,
    shard,
)

HALF_HOUR = 30 * 60_000
MANUAL = {"mode": "MANUAL"}
ID = "acme/s/0/intervention/anna-0/rule/help_chat"
FELT = felt(emotion("confusion", ts=0))
BEFORE, AFTER = 5_000, 65_000
"""The ticks whose scores count for what is fired at 0."""


@pytest.mark.parametrize(
    "mode, confidence, status",
    [
        ("AUTO", 0.65, "fired"),
        ("SEMI_AUTO", 0.75, "fired"),
        ("SEMI_AUTO", 0.749, "pending"),
        ("MANUAL", 1.0, "pending"),
    ],
)
def test_who_must_approve(mode: str, confidence: float, status: str) -> None:
    (one,) = interventions(run(shard({"mode": mode}), [felt(emotion("confusion", confidence))]))
    assert (one.status, one.reason) == (status, "approval" if status == "pending" else None)
    assert one.content is not None
    assert one.expires_ts == (HALF_HOUR if status == "pending" else 120_000)


def test_an_approved_one_fires_then_and_is_measured_from_then() -> None:
    of = shard(MANUAL)
    run(of, [FELT])
    (fired,) = interventions(run(of, [approval(ID, 61_000)]))
    assert (fired.status, fired.reason, fired.by, fired.ts, fired.revision) == ("fired", None, "boss", 61_000, 1)
    assert (fired.expires_ts, fired.id) == (61_000 + 120_000, ID)
    assert fired.content is not None
    told = run(of, [scored(5_000, 0.9), scored(65_000, 0.4), scored(125_000, 0.5)])
    assert brief(told) == [("effect", 0.5, False, False, 0)]
    assert told[0].ts == 125_000
    assert brief(run(of, [outcome(ID, "shown", 62_000)])) == [("outcome", "shown")]


def test_a_refused_one_is_never_shown() -> None:
    of = shard(MANUAL)
    run(of, [FELT])
    (refused,) = interventions(run(of, [approval(ID, 1_000, approved=False)]))
    assert (refused.status, refused.by, refused.revision, refused.content) == ("refused", "boss", 1, None)
    assert run(of, [scored(5_000, 0.4), scored(65_000, 0.5)]) == []
    assert brief(run(of, [approval(ID, 2_000, event_id="a2")])) == [("unknown_intervention", "one that is refused")]


@pytest.mark.parametrize("by_cue", [True, False])
def test_one_that_nobody_approves_expires_after_30_minutes(by_cue: bool) -> None:
    of = shard(MANUAL)
    run(of, [FELT])
    assert run(of, [], HALF_HOUR - 1) == []
    told = run(of, [felt(emotion("joy", ts=HALF_HOUR))]) if by_cue else run(of, [], HALF_HOUR)
    (expired,) = interventions(told)
    assert (expired.status, expired.ts, expired.revision, expired.reason) == ("expired", HALF_HOUR, 1, None)
    late = run(of, [approval(ID, HALF_HOUR + 1)])
    assert brief(late) == [("unknown_intervention", "one that is expired")]


def test_an_approval_that_comes_with_the_end_of_the_wait_is_too_late() -> None:
    of = shard(MANUAL)
    run(of, [FELT])
    told = brief(run(of, [approval(ID, HALF_HOUR)]))
    assert told == [("help_chat", "expired", None), ("unknown_intervention", "one that is expired")]
    of = shard(MANUAL)
    run(of, [FELT])
    early = approval(ID, HALF_HOUR)
    told = brief(run(of, [type(early)(early.event, "t", 0, 1, b"", 5)]))  # its own time lies ahead of the stream's
    assert told == [("unknown_intervention", f"one at {HALF_HOUR}")]
    assert brief(run(of, [approval(ID, HALF_HOUR - 1, event_id="a2")])) == [("help_chat", "fired", None)]


def test_a_repeated_approval_counts_once_and_another_is_told() -> None:
    of = shard(MANUAL)
    run(of, [FELT])
    assert len(run(of, [approval(ID, 1_000)])) == 1
    assert run(of, [approval(ID, 1_000)]) == []
    assert brief(run(of, [approval(ID, 1_001)])) == [("unknown_intervention", "one that is fired")]


def test_an_approval_while_interventions_are_switched_off_fires_nothing() -> None:
    of = shard(MANUAL)
    run(of, [FELT])
    off = shard(MANUAL | {"enabled": False})
    of = Interventions.restore(off.config, RULES, CONTENT, of.snapshot())
    assert brief(run(of, [approval(ID, 1_000)])) == [("help_chat", "refused", "disabled")]


def test_a_tenant_has_so_many_pending_at_most_and_no_cooldown_begins_beyond() -> None:
    of = shard(MANUAL, pending_most=2)
    told = run(of, [felt(emotion("confusion", ts=ts, user=f"u{ts}")) for ts in range(3)])
    assert [each[1:] for each in brief(told)] == [
        ("pending", "approval"),
        ("pending", "approval"),
        ("suppressed", "pending_limit"),
    ]
    assert brief(run(of, [felt(emotion("confusion", tenant="other"))])) == [("help_chat", "pending", "approval")]
    run(of, [approval(interventions(told)[0].id, 10)])
    assert brief(run(of, [felt(emotion("confusion", ts=11, user="u2"))])) == [("help_chat", "pending", "approval")]
    run(of, [], 2 * HALF_HOUR)
    assert brief(run(of, [felt(emotion("confusion", ts=2 * HALF_HOUR, user="u9"))])) == [
        ("help_chat", "pending", "approval")
    ]


def test_what_waits_begins_a_cooldown_and_counts_for_rate_limit_and_budget_when_it_fires() -> None:
    of = shard({"mode": "SEMI_AUTO", "budget_per_hour": 2})
    told = run(of, [felt(emotion("confusion", 0.7, ts=0)), felt(emotion("confusion", 0.9, ts=1))])
    assert [each[1:] for each in brief(told)] == [("pending", "approval"), ("suppressed", "cooldown")]
    assert brief(run(of, [felt(emotion("price_shock", ts=2))])) == [("discount_modal", "fired", None)]
    run(of, [approval(ID, 40_000)])
    limited, spent = (
        run(of, [felt(emotion("cart_hesitation", ts=41_000))]),
        run(of, [felt(emotion("cart_hesitation", ts=80_000))]),
    )
    assert [brief(told)[0][2] for told in (limited, spent)] == ["rate_limit", "budget"]


def test_no_record_lies_beyond_the_year_9999() -> None:
    last = 253_402_300_799_999
    ident = f"acme/s/{last - 1}/intervention/anna-{last - 1}/rule/help_chat"
    of = shard(MANUAL)
    told = run(of, [felt(emotion("confusion", ts=last - 1)), approval(ident, last - 1)])
    told += run(of, [scored(last + 1, 0.4), scored(last + 60_001, 0.4), anomaly("SUDDEN_DROP", last - 1)])
    told += run(of, [], last + 10)
    assert [each[1] for each in brief(told)] == ["pending", "fired", 0.5, "pending", "expired"]
    for record in told:
        assert max(record.ts, getattr(record, "expires_ts", 0) or 0) <= last


# Outcomes.


def test_outcomes_of_what_was_fired_go_on_as_records() -> None:
    of = shard()
    run(of, [FELT])
    told = run(
        of, [outcome(ID, what, 1_000 + at, f"o{at}") for at, what in enumerate(("delivered", "shown", "clicked"))]
    )
    assert brief(told) == [("outcome", "delivered"), ("outcome", "shown"), ("outcome", "clicked")]
    assert isinstance(told[0], Outcome)
    assert (told[0].id, told[0].intervention, told[0].user_id) == (f"{ID}/outcome/o0", "help_chat", "anna")
    assert run(of, [outcome(ID, "delivered", 1_000, "o0")]) == told[:1]  # a repeat has the same id


def test_an_outcome_that_is_told_again_with_another_time_is_the_same_record() -> None:
    of = shard()
    run(of, [FELT])
    told = run(of, [outcome(ID, "shown", 1_000, "o0"), outcome(ID, "clicked", 1_500, "o1")])
    again = [outcome(ID, "shown", 3_000, "o0"), outcome(ID, "clicked", 900, "o1")]
    assert run(of, again) == told
    of = Interventions.restore(of.config, RULES, CONTENT, of.snapshot())
    assert run(of, again) == told, "after a restart, too"


@pytest.mark.parametrize(
    "policy, answer, got",
    [
        ({}, outcome("never/was", "shown", 1), "never/was"),
        ({}, approval("never/was", 1), "never/was"),
        ({}, outcome(ID, "shown", 1, tenant="other"), ID),
        ({}, outcome(ID, "shown", 1, session="other"), "one of another session"),
        ({}, approval(ID, 1), "one that is fired"),
        (MANUAL, outcome(ID, "shown", 1), "one that is pending"),
        ({"holdout": 1.0}, outcome(ID, "shown", 1), "one that was held out: nothing was shown"),
        ({"holdout": 1.0}, approval(ID, 1), "one that is held out"),
        ({"enabled": False}, outcome(ID, "shown", 1), ID),
    ],
)
def test_what_answers_to_nothing_is_a_dead_letter(policy: dict[str, Any], answer: Any, got: str) -> None:
    of = shard(policy)
    run(of, [FELT])
    told = run(of, [answer])
    assert brief(told) == [("unknown_intervention", got)]
    assert isinstance(told[0], DeadLetter)
    assert (told[0].id, told[0].payload, told[0].detail.field) == ("dead_letter/topic/0/7", "{}", "intervention_id")


def test_an_intervention_is_known_for_a_day_of_its_partitions_time() -> None:
    day = 24 * 3_600_000
    of = shard()
    run(of, [FELT])
    of.take(CueBatch(1, 5 * day, []))  # another partition's clock
    assert brief(run(of, [outcome(ID, "shown", day)])) == [("outcome", "shown")]
    assert brief(run(of, [outcome(ID, "shown", day + 1)])) == [("unknown_intervention", ID)]


# Effects.


@pytest.mark.parametrize(
    "before, after, reward",
    [
        (0.4, 0.6, 1.0),
        (0.4, 0.9, 1.0),
        (0.4, 0.5, 0.5),
        (0.4, 0.42, 0.1),
        (0.4, 0.4, 0.5),
        (0.6, 0.55, 0.5),
        (0.6, 0.54, 0.0),
        (0.0, 0.0, 0.5),
    ],
)
def test_the_reward_of_how_the_score_moved(before: float, after: float, reward: float) -> None:
    told = run(shard(), [FELT, scored(BEFORE, before), scored(AFTER, after)])
    (effect,) = [each for each in told if isinstance(each, InterventionEffect)]
    assert effect.reward == pytest.approx(reward)
    assert (effect.score_before, effect.score_after, effect.ts, effect.holdout) == (before, after, AFTER, False)
    assert (effect.intervention_id, effect.recipient, effect.trigger.name) == (ID, "anna", "confusion")


def test_an_anomalys_effect_begins_at_its_own_tick() -> None:
    told = run(shard(), [anomaly("SUDDEN_DROP", 10_000), scored(10_000, 0.3), scored(15_000, 0.9), scored(70_000, 0.5)])
    assert brief(told)[1:] == [("effect", 1.0, False, False, 0)]


def test_what_was_held_out_is_measured_too() -> None:
    told = run(
        shard({"holdout": 1.0}), [FELT, scored(BEFORE, 0.4), scored(AFTER, 0.4), outcome(ID, "converted", 70_000)]
    )
    assert brief(told)[1:] == [
        ("effect", 0.5, False, True, 0),
        ("outcome", "converted"),
        ("effect", 1.0, True, True, 1),
    ]


def test_what_is_suppressed_has_no_effect() -> None:
    assert len(run(shard({"enabled": False}), [FELT, scored(BEFORE, 0.4), scored(AFTER, 0.9)])) == 1


@pytest.mark.parametrize(
    "cues, found",
    [
        ([scored(BEFORE, 0.4), outcome(ID, "converted", 9_000), scored(AFTER, 0.1)], [(1.0, True, False, 0)]),
        (
            [scored(BEFORE, 0.4), scored(AFTER, 0.1), outcome(ID, "converted", 90_000)],
            [(0.0, False, False, 0), (1.0, True, False, 1)],
        ),
        ([scored(BEFORE, 0.4), over(9_000), scored(AFTER, None)], []),
        (
            [scored(BEFORE, 0.4), over(9_000), scored(AFTER, None), outcome(ID, "converted", 90_000)],
            [(1.0, True, False, 0)],
        ),
        ([over(1), scored(BEFORE, None), outcome(ID, "converted", 2), scored(AFTER, None)], [(1.0, True, False, 0)]),
        ([scored(BEFORE, 0.4)], []),
    ],
)
def test_a_conversion_is_worth_1_whenever_it_comes(cues: list[Cue], found: list[tuple[Any, ...]]) -> None:
    told = run(shard(), [FELT, *cues])
    effects = [each for each in told if isinstance(each, InterventionEffect)]
    assert [each[1:] for each in brief(effects)] == found
    assert {(each.id, each.ts) for each in effects} <= {(f"{ID}/effect", AFTER)}


def test_a_second_conversion_changes_nothing() -> None:
    cues: list[Cue] = [
        FELT,
        scored(BEFORE, 0.4),
        scored(AFTER, 0.4),
        outcome(ID, "converted", 70_000),
        outcome(ID, "converted", 71_000, "o2"),
    ]
    assert [each[0] for each in brief(run(shard(), cues))] == ["help_chat", "effect", "outcome", "effect", "outcome"]


def test_a_score_that_was_told_before_an_approval_came_counts() -> None:
    of = shard(MANUAL)
    run(of, [FELT, scored(BEFORE, 0.4)])
    told = run(of, [approval(ID, 4_000), scored(AFTER, 0.6)])
    assert brief(told) == [("help_chat", "fired", None), ("effect", 1.0, False, False, 0)]


# State.


def test_what_is_over_is_freed() -> None:
    of = shard()
    run(of, [], 1)
    empty = len(of.snapshot())
    run(of, [felt(emotion("confusion", ts=0, session=f"s{i}")) for i in range(50)])
    for name in (f"s{i}" for i in range(50)):
        run(of, [scored(BEFORE, 0.1, name), over(9_000, name), scored(AFTER, None, name)])
    assert len(of.snapshot()) > empty
    run(of, [], 30 * 3_600_000)
    assert len(of.snapshot()) < empty + 20


def test_cooldowns_rate_limits_budgets_and_pending_ones_go_on_across_a_restart() -> None:
    of = shard({"mode": "SEMI_AUTO", "budget_per_hour": 2})
    run(
        of,
        [felt(emotion("confusion", 0.7, ts=0)), felt(emotion("price_shock", ts=1)), felt(emotion("exit_risk", ts=2))],
    )
    of = Interventions.restore(of.config, RULES, CONTENT, of.snapshot())
    cues = [("confusion", "anna"), ("exit_risk", "anna"), ("cart_hesitation", "anna"), ("confusion", "bert")]
    told = run(of, [felt(emotion(name, ts=3, user=user)) for name, user in cues])
    assert [each[2] for each in brief(told)] == ["cooldown", "cooldown", "rate_limit", "budget"]
    assert brief(run(of, [approval(ID, 4)])) == [("help_chat", "fired", None)]


def test_an_approval_after_the_session_was_over_has_no_effect_and_is_freed() -> None:
    of = shard(MANUAL)
    run(of, [FELT, over(9_000), approval(ID, 10_000), scored(15_000, None), scored(75_000, None)])
    run(of, [], 26 * 3_600_000)
    fresh = shard()
    run(fresh, [], 26 * 3_600_000)
    assert of.snapshot() == fresh.snapshot()


def test_what_waits_for_a_score_that_never_comes_is_freed_at_last() -> None:
    of, fresh = shard(), shard()
    run(of, [FELT, over(9_000)])
    run(of, [], 50 * 3_600_000)
    run(fresh, [], 50 * 3_600_000)
    assert of.snapshot() == fresh.snapshot()


@pytest.mark.parametrize("restarts", [False, True])
def test_effects_of_one_tick_come_in_the_order_of_firing(restarts: bool) -> None:
    """Not of deciding: what had to be approved stands behind what was fired meanwhile, after a restart as before."""
    of = shard({"mode": "SEMI_AUTO"})
    run(of, [felt(emotion("confusion", 0.7, ts=0)), felt(emotion("price_shock", ts=1)), approval(ID, 2)])
    if restarts:
        of = Interventions.restore(of.config, RULES, CONTENT, of.snapshot())
    effects = run(of, [scored(BEFORE, 0.4), scored(AFTER, 0.5)])
    assert [each.intervention for each in effects if isinstance(each, InterventionEffect)][1:] == ["help_chat"]


def test_many_outcomes_of_one_intervention_are_known_across_a_restart() -> None:
    of = shard()
    outcomes = [outcome(ID, "shown", 1_000 + at, f"o{at}") for at in range(40)]
    told = run(of, [FELT, *outcomes])[1:]
    of = Interventions.restore(of.config, RULES, CONTENT, of.snapshot())
    again = [outcome(ID, "shown", 5_000, f"o{at}") for at in range(40)]
    assert run(of, again) == told
    assert [each.id for each in told] == [f"{ID}/outcome/o{at}" for at in range(40)]


def test_a_snapshot_of_another_release_or_number_of_shards_is_refused() -> None:
    of = shard()
    with pytest.raises(TerminalError, match=r"holds interventions in 2 shards, got window\.shards = 3"):
        Interventions.restore(of.config, RULES, CONTENT, of.snapshot(2), 3)
    other = of.snapshot().replace(b"\xa7version\x02", b"\xa7version\x07")
    with pytest.raises(TerminalError, match="version 7; this release reads 2"):
        Interventions.restore(of.config, RULES, CONTENT, other)


def test_what_is_known_must_outlast_the_wait_for_approval() -> None:
    with pytest.raises(ValueError, match="approval_ms"):
        InterventionConfig(memory_ms=5, approval_ms=6)
