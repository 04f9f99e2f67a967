"""A shard of chat answers: one decision each, hand-offs for D and E, and the same however it is cut or restarted."""

import json
import pickle
from collections.abc import Iterable
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import records
from operators.chat.answers import Answers, ChatConfig
from operators.chat.batch import ChatBatch
from operators.chat.config import Policies
from operators.chat.limits import DAY_MS
from schemas.batches import END_OF_TIME
from schemas.errors import TerminalError
from schemas.inbound import Canonical, ChatAnswer
from schemas.outbound import AnyRecord, Calibration, CalibrationBand, Decision, HandoffRequested, Record
from schemas.registry import type_of
from tests.compare import decoded
from tests.operators.chat_events import CONFIG, HOUR, HUMAN, NOON, PHRASES, Chat, ask, feed, letters, log, resolved, run


def test_a_decision_says_all_of_it() -> None:
    question = "How long does it take?"
    event = ask(question, answer="It might take 3 days. [confidence: medium]", canonical=Canonical("k", 0.4))
    (decision,) = run([event])
    assert isinstance(decision, Decision)
    assert decision.id == f"t/s/{NOON}/decision/c u {NOON}"
    assert (decision.path, decision.letter, decision.reason) == ("auto_answer", "A", "well_founded")
    # As worked out in test_confidence: MEDIUM in the standard mode goes on with a disclaimer.
    assert (decision.action, decision.level) == ("send_with_disclaimer", "MEDIUM")
    assert decision.answer == f"It might take 3 days.\n\n{PHRASES.disclaimers['en']}"
    assert decision.canonical_id is None
    assert (decision.similarity, decision.novelty, decision.complexity) == (0.9, 0.1, 0.1)
    assert [one.name for one in decision.signals] == ["self_assessment", "hedging", "response_quality"]
    assert (decision.conversation_id, decision.agent_id, decision.user_id) == ("c", "a", "u")
    assert (decision.rule, decision.why) == (6, f"confidence {decision.confidence:.2f} is MEDIUM")
    assert [(check.rule, check.holds, check.decided) for check in decision.rules] == [
        *((rule, False, False) for rule in range(1, 6)),
        (6, True, True),
        (7, False, False),
        (8, False, False),
        (9, True, False),
    ]
    assert decision.rules[3].needs == "a canonical answer of similarity 0.85, is 0.4"


def test_the_prepared_answer_is_named() -> None:
    (decision,) = run([ask("How long does it take?", canonical=Canonical("k", 0.9))])
    assert isinstance(decision, Decision)
    assert (decision.path, decision.canonical_id) == ("canonical", "k")


@pytest.mark.parametrize(
    "event, answer",
    [
        (ask("How long does it take?", answer="Take three. [confidence: high]"), "Take three."),
        (ask("How long does it take?", answer="Three.", retrieval=[]), "Three."),  # E: for the person who takes over
        (ask("Is this medication safe?", answer="Probably."), None),
        (ask(HUMAN, answer="Of course."), None),
        (ask("hi", answer="Maybe hello. (confidence: 1%)"), "Maybe hello."),
        (ask("hi", answer=""), ""),
    ],
)
def test_the_answer_that_goes_on(event: ChatAnswer, answer: str | None) -> None:
    decision = run([event])[0]
    assert isinstance(decision, Decision)
    assert decision.answer == answer


def test_nothing_of_a_refused_answer_goes_on() -> None:
    policies = Policies(overrides={"t": {"routing": {"blocked_topics": ["weapon"]}}})
    (decision,) = run([ask("How is a weapon made?")], ChatConfig(policies))
    assert isinstance(decision, Decision)
    assert (decision.letter, decision.answer) == ("F", None)


def test_a_hand_off_belongs_to_its_decision() -> None:
    decision, handoff = run([ask(HUMAN)])
    assert isinstance(decision, Decision)
    assert isinstance(handoff, HandoffRequested)
    assert handoff.id == decision.id.replace("/decision/", "/handoff/")
    assert handoff.reason == "requested"
    assert (handoff.confidence_score, handoff.confidence_level) == (decision.confidence, decision.level)


def test_ids_are_unambiguous_and_fit() -> None:
    long, events = "/" * 128, []
    for tenant, session, ident in (("a/b", "c", "x"), ("a", "b/c", "x"), ("a%2Fb", "c", "x"), (long, long, long)):
        events.append(ask("price?", tenant_id=tenant, session_id=session, event_id=ident))
    ids = [record.id for record in run(events)]
    assert len(set(ids)) == 4
    assert max(map(len, ids)) <= 1024


def test_a_conversation_with_a_human_is_not_handed_over_again() -> None:
    steps: list[Chat] = [
        ask(HUMAN, NOON),
        ask(HUMAN, NOON + 1),
        ask("Is this medication safe?", NOON + 2, "Maybe."),
        ask("How long does it take?", NOON + 3),
        ask("How long does it take?", NOON + 4, retrieval=[]),
        ask("How long does it take?", NOON + 5, retrieval=[0.2]),
        ask(HUMAN, NOON + 6, conversation="other"),
        resolved(NOON + 7),
        ask(HUMAN, NOON + 8),
    ]
    told = run(steps)
    assert letters(told) == "DFFAFFDD"
    reasons = [record.reason for record in told if isinstance(record, Decision) and record.letter == "F"]
    assert reasons == ["already_with_human"] * 4
    assert sum(isinstance(record, HandoffRequested) for record in told) == 3


def test_one_in_the_queue_is_not_handed_over_again_either() -> None:
    told = run(
        [
            ask("How long does it take?", NOON, retrieval=[]),
            ask(HUMAN, NOON + 1),
            resolved(NOON + 2),
            ask(HUMAN, NOON + 3),
        ]
    )
    assert letters(told) == "EFD"


def test_conversations_of_the_same_name_in_two_sessions_are_two() -> None:
    assert letters(run([ask(HUMAN), ask(HUMAN, NOON + 1, session_id="other")])) == "DD"


def test_a_conversation_is_forgotten_after_a_week_of_silence() -> None:
    for silence, letter in ((7 * DAY_MS, "F"), (7 * DAY_MS + 1, "D")):
        assert letters(run([ask(HUMAN), ask(HUMAN, NOON + silence)])) == f"D{letter}"
    answers = Answers(CONFIG, PHRASES)
    feed(answers, [ask(HUMAN)])
    before = len(answers.snapshot())
    answers.advance(NOON + 9 * DAY_MS)
    assert answers._conversations == {}
    assert len(answers.snapshot()) < before


def test_a_repeat_is_told_once() -> None:
    first = ask(HUMAN)
    told = run([first, first, resolved(NOON + 1), first, ask(HUMAN, NOON + 2)])
    assert letters(told) == "DD"
    assert len({record.id for record in told}) == len(told) == 4


def test_as_many_repeats_are_known_as_are_kept() -> None:
    events = [ask("price?", NOON + i) for i in range(4)]
    config = ChatConfig(repeats_kept=3)
    assert len(run([*events, events[1]], config)) == 4
    assert len(run([*events, events[0]], config)) == 5


def test_a_resolution_of_nothing_changes_nothing() -> None:
    answers = Answers(CONFIG, PHRASES)
    assert feed(answers, [resolved(NOON), resolved(NOON + 1, "unknown")]) == []
    answers.advance(END_OF_TIME)
    assert answers._tallies == {}


def test_calibration_is_told_when_its_hour_is_over_and_something_is_new() -> None:
    answers = Answers(CONFIG, PHRASES)
    told = feed(answers, [ask(HUMAN), resolved(NOON + 1, needed=False), ask("price?", NOON + HOUR - 1)])
    assert not any(isinstance(record, Calibration) for record in told)
    first, decision = answers.feed(ask("price?", NOON + HOUR), NOON + HOUR)
    assert isinstance(first, Calibration)
    assert isinstance(decision, Decision)
    assert (first.id, first.ts, first.tenant_id, first.session_id) == (
        f"t/calibration/{NOON + HOUR}",
        NOON + HOUR,
        "t",
        "",
    )
    # One hand-off of confidence 0.9 ("Three days.": see test_confidence), not needed: (0.9 - 1) squared.
    assert (first.resolved, first.needed) == (1, 0)
    assert first.brier == pytest.approx(0.01)
    assert first.expected_calibration_error == pytest.approx(0.1)
    assert answers.advance(NOON + 5 * HOUR) == []
    feed(answers, [ask(HUMAN, NOON + 6 * HOUR), resolved(NOON + 6 * HOUR + 1)])
    (second,) = answers.advance(NOON + 8 * HOUR)
    assert isinstance(second, Calibration)
    assert (second.ts, second.resolved, second.needed) == (NOON + 7 * HOUR, 2, 1)
    assert second.bands == [CalibrationBand(0.9, 1.0, 2, 0.9, 0.5)]
    assert second.answers == 4


def test_a_tenant_without_anything_new_is_not_told_of_even_at_the_end() -> None:
    answers = Answers(CONFIG, PHRASES)
    feed(answers, [ask(HUMAN), resolved(NOON + 1), ask(HUMAN, tenant_id="other")])
    (told,) = answers.advance(END_OF_TIME)
    assert (told.tenant_id, told.ts) == ("t", NOON + HOUR)


def test_a_tally_is_forgotten_in_the_end() -> None:
    answers = Answers(CONFIG, PHRASES)
    feed(answers, [ask(HUMAN), resolved(NOON + 1)])
    answers.advance(NOON + 91 * DAY_MS)
    assert answers._tallies == {}


def tight() -> ChatConfig:
    limits = {"routing": {"limits": {"a_day": 1, "a_week": 3, "zone": "Europe/Berlin"}}}
    return ChatConfig(Policies(overrides={"t0": limits}), conversation_ms=2 * DAY_MS, tally_ms=3 * DAY_MS)


def encoded(records: Iterable[Record]) -> list[bytes]:
    return [msgspec.json.encode(record) for record in records]


def timed(events: Iterable[Chat]) -> list[tuple[Chat, int]]:
    """Return events with their stream time: a repeat does not turn it back."""
    highest, out = 0, []
    for event in events:
        highest = max(highest, event.ts)
        out.append((event, highest))
    return out


@given(st.integers(0, 10_000), st.lists(st.integers(0, 120), max_size=6))
@settings(max_examples=60, deadline=None)
def test_restarts_do_not_matter(seed: int, restarts: list[int]) -> None:
    events = timed(log(seed))
    whole, pieces = Answers(tight(), PHRASES), Answers(tight(), PHRASES)
    expected = [record for event, now in events for record in whole.feed(event, now)]
    told: list[Record] = []
    for at, (event, now) in enumerate(events):
        if at in restarts:
            pieces = Answers.restore(tight(), PHRASES, pieces.snapshot(), 1)
        told += pieces.feed(event, now)
    assert encoded([*told, *pieces.advance(END_OF_TIME)]) == encoded([*expected, *whole.advance(END_OF_TIME)])
    assert pieces.snapshot() == whole.snapshot()


@given(st.integers(0, 10_000), st.lists(st.integers(0, 120), max_size=10))
@settings(max_examples=60, deadline=None)
def test_when_time_is_told_does_not_matter(seed: int, when: list[int]) -> None:
    events = timed(log(seed))
    plain, told_often = Answers(tight(), PHRASES), Answers(tight(), PHRASES)
    expected = [record for event, now in events for record in plain.feed(event, now)]
    told: list[Record] = []
    for at, (event, now) in enumerate(events):
        if at in when:
            told += told_often.advance(now - 1)
            told += told_often.advance(now)
        told += told_often.feed(event, now)
    assert encoded(told) == encoded(expected)


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_how_partitions_arrive_does_not_matter_to_a_conversation(seed: int, rng: Random) -> None:
    """Not even if one is weeks behind: only limits and calibration are shared."""
    config = ChatConfig(conversation_ms=2 * DAY_MS, repeats_kept=50)
    queues = [timed(log(seed)), [(later(event, 30 * DAY_MS), now + 30 * DAY_MS) for event, now in timed(log(seed + 1))]]
    wanted = []
    for partition, events in enumerate(queues):
        alone = Answers(config, PHRASES)
        wanted.append([r for event, now in events for r in alone.feed(event, now, partition) if decided(r)])
    both, told = Answers(config, PHRASES), ([], [])  # type: tuple[Answers, tuple[list[Record], list[Record]]]
    left = [iter(events) for events in queues]
    order = [partition for partition, events in enumerate(queues) for _ in events]
    rng.shuffle(order)
    for partition in order:
        event, now = next(left[partition])
        if rng.random() < 0.02:
            both = Answers.restore(config, PHRASES, both.snapshot())
        told[partition].extend(r for r in both.feed(event, now, partition) if decided(r))
    assert [encoded(records) for records in told] == [encoded(records) for records in wanted]


def later(event: Chat, ms: int) -> Chat:
    """Return the event of another session and another user, so much later."""
    return msgspec.structs.replace(event, ts=event.ts + ms, session_id="later", user_id=f"{event.user_id} later")


def decided(record: Record) -> bool:
    return not isinstance(record, Calibration)


def test_a_resolution_counts_once() -> None:
    """A repeat of it must not give a later hand-off of the same conversation back."""
    done = resolved(NOON + 1)
    assert letters(run([ask(HUMAN), done, ask(HUMAN, NOON + 2), done, ask(HUMAN, NOON + 3)])) == "DDF"


def test_a_batch_is_taken_in_event_by_event_and_then_its_clock() -> None:
    events: list[Chat] = [ask(HUMAN), resolved(NOON + 5), ask(HUMAN, NOON + 3)]
    answers = Answers(CONFIG, PHRASES)
    batch = ChatBatch(3, NOON + HOUR, events, [NOON, NOON + 5, NOON + 5])
    told = answers.take(pickle.loads(pickle.dumps(batch)))  # noqa: S301  our own bytes
    assert [type(record) for record in told] == [Decision, HandoffRequested, Decision, HandoffRequested, Calibration]
    assert told[-1].ts == NOON + HOUR


def test_records_are_encoded_by_type_in_the_order_they_were_told() -> None:
    told = run(log(1))
    batches = records.encoded(told)
    assert [batch.type for batch in batches] == ["calibration", "decision", "human_handoff.requested"]
    for batch in batches:
        assert decoded([batch]) == [record for record in told if type_of(type(record)) == batch.type]


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_tenants_do_not_meet(seed: int) -> None:
    events = timed(log(seed))
    both = Answers(tight(), PHRASES)
    told = [record for event, now in events for record in both.feed(event, now)]
    for tenant in ("t0", "t1"):
        alone = Answers(tight(), PHRASES)
        own = [record for event, now in events if event.tenant_id == tenant for record in alone.feed(event, now)]
        mine = [record for record in told if record.tenant_id == tenant and not isinstance(record, Calibration)]
        assert encoded(mine) == encoded(record for record in own if not isinstance(record, Calibration))


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_one_decision_each_and_hand_offs_for_d_and_e(seed: int) -> None:
    events = log(seed)
    told = run(events, tight())
    decisions = {record.id: record for record in told if isinstance(record, Decision)}
    handoffs = [record for record in told if isinstance(record, HandoffRequested)]
    answers = {(event.tenant_id, event.ts, event.event_id) for event in events if isinstance(event, ChatAnswer)}
    assert len(decisions) == len(answers) == sum(isinstance(record, Decision) for record in told)
    called = {ident.replace("/decision/", "/handoff/") for ident, d in decisions.items() if d.letter in "DE"}
    assert sorted(record.id for record in handoffs) == sorted(called)


def test_records_fit_the_wire() -> None:
    records = [*run(log(1)), *run([ask("price?", answer="\U0001f389" * 100)])]
    assert [msgspec.json.decode(line, type=AnyRecord) for line in encoded(records)] == records
    assert json.loads(encoded(records)[0])["type"] == "decision"


def test_another_number_of_shards_and_another_release_are_refused() -> None:
    packed = Answers(CONFIG, PHRASES).snapshot(4)
    with pytest.raises(TerminalError, match=r"holds chat in 4 shards, got window\.shards = 2"):
        Answers.restore(CONFIG, PHRASES, packed, 2)
    other = msgspec.msgpack.decode(packed) | {"version": 99}
    with pytest.raises(TerminalError, match="chat of version 99; this release reads 1"):
        Answers.restore(CONFIG, PHRASES, msgspec.msgpack.encode(other), 4)


def test_what_is_only_judged_leaves_no_trace() -> None:
    answers = Answers(CONFIG, PHRASES)
    before = answers.snapshot()
    found = answers.judge(ask(HUMAN))
    assert found.route.letter == "D"
    assert found.route.rule == 2
    assert answers.snapshot() == before
