"""The generators reach what they are for, and the comparisons see what they must see."""

import itertools
from collections import Counter
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.batches import END_OF_TIME, Records
from schemas.outbound import DeadLetter, Detail, Engagement, Record
from tests.compare import assert_same, assert_same_dead, assert_same_records, decoded, differences
from tests.events import batches, event, log, record
from tests.live_log import live_event_log
from tests.model import SECOND, Dead, Expected, LogRecord, Position, reference
from tests.model_input import Event, judge
from tests.strategies import interleave, logs, random_log, shuffle_within_lateness

ALL_REASONS = {
    *("empty", "too_large", "malformed_json", "not_an_object", "unknown_type", "invalid_field", "late", "early"),
}


def ts_of(entry: LogRecord) -> int:
    judged = judge(entry.raw)
    return judged.ts if isinstance(judged, Event) else entry.record_ts


def test_random_logs_reach_every_corner() -> None:
    outcomes = [reference(random_log(seed, 80)) for seed in range(50)]
    sessions = [entry for outcome in outcomes for entry in outcome.sessions]
    ticks = [entry.signals for outcome in outcomes for entry in outcome.engagement]
    assert {dead.reason for outcome in outcomes for dead in outcome.dead} == ALL_REASONS
    assert sum(outcome.repeats for outcome in outcomes) > 20
    assert {entry.ended_by for entry in sessions} == {"idle", "ended"}
    assert {entry.session_id for entry in sessions} == {"s", "s/2", "2"}
    assert any(entry.ticks == 0 for entry in sessions)
    assert sum(entry.events > 10 for entry in sessions) > 20
    assert sum(0 < entry.poll_participation < 1 for entry in ticks) > 100
    assert sum(0 < entry.leave_rate < 1 for entry in ticks) > 100
    assert max(entry.connected_users for entry in ticks) == 5
    assert any(entry.connected_users == 0 and entry.active_users == 0 for entry in ticks)


def test_the_same_seed_gives_the_same_log() -> None:
    assert random_log(7, 40) == random_log(7, 40)
    assert random_log(7, 40) != random_log(8, 40)
    assert live_event_log(7, 5, 3) == live_event_log(7, 5, 3)
    assert live_event_log(7, 5, 3) != live_event_log(8, 5, 3)


@settings(max_examples=60, deadline=None)
@given(logs())
def test_a_log_is_what_a_source_reads(records: list[LogRecord]) -> None:
    assert len({entry.position for entry in records}) == len(records)
    by_topic = [[entry for entry in records if entry.topic == topic] for topic in {entry.topic for entry in records}]
    assert interleave(*by_topic) == records
    contents: dict[tuple[str, str, str, int], Event] = {}
    for judged in (judge(entry.raw) for entry in records):
        if isinstance(judged, Event):
            key = (judged.tenant_id, judged.session_id, judged.event_id, judged.ts)
            assert contents.setdefault(key, judged) == judged


@settings(max_examples=60, deadline=None)
@given(logs(orderly=True), st.integers(0, 2**32))
def test_shuffles_stay_within_the_lateness(records: list[LogRecord], seed: int) -> None:
    assert [ts_of(entry) for entry in records] == sorted(ts_of(entry) for entry in records)
    shuffled = shuffle_within_lateness(records, Random(seed))
    assert Counter(entry.raw for entry in shuffled) == Counter(entry.raw for entry in records)
    assert [entry.record_ts for entry in shuffled] == sorted(entry.record_ts for entry in records)
    highest = 0
    for entry in shuffled:
        judged = judge(entry.raw)
        if isinstance(judged, Event):
            assert judged.ts >= highest - 2 * SECOND
            highest = max(highest, judged.ts)


def test_a_shuffle_moves_things() -> None:
    payloads = [event("chat.message", 500 * n, f"u{n}") for n in range(40)]
    orders = {tuple(entry.raw for entry in shuffle_within_lateness(log(payloads), Random(seed))) for seed in range(5)}
    assert len(orders) == 5


def test_interleaving_takes_the_head_that_is_behind() -> None:
    def at(topic: str, *times: int) -> list[LogRecord]:
        return [record(b"%d" % ts, ts, topic, offset) for offset, ts in enumerate(times)]

    merged = interleave(at("b", 1, 5, 2, 9), at("a", 5, 6), at("c", 1))
    assert [(entry.topic, entry.record_ts, entry.offset) for entry in merged] == [
        *(("b", 1, 0), ("c", 1, 0), ("a", 5, 0), ("b", 5, 1), ("b", 2, 2), ("a", 6, 1), ("b", 9, 3)),
    ]


def test_a_live_event_is_whole_and_lively() -> None:
    records = live_event_log(3, people=30, minutes=8)
    outcome = reference(records)
    (summary,) = outcome.sessions
    assert outcome.dead == []
    assert outcome.repeats > 0
    assert summary.ended_by == "ended"
    assert min(summary.joins, summary.leaves, summary.votes, summary.chat_messages, summary.reactions) > 10
    assert summary.peak_connected > 20
    assert {"HIGH", "MODERATE", "LOW"} <= {entry.category for entry in outcome.engagement}
    assert [entry.record_ts for entry in records] == sorted(entry.record_ts for entry in records)
    assert reference(live_event_log(3, 30, 8, ended=False)).sessions[0].ended_by == "idle"


@settings(max_examples=40, deadline=None)
@given(logs(max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=4).filter(any), st.booleans())
def test_batches_hold_the_log_and_its_stream_time(records: list[LogRecord], sizes: list[int], ends: bool) -> None:
    cut = batches(records, sizes, ends=ends)
    back = [
        LogRecord(int(record_ts), batch.topics[topic], batch.partition, int(offset), raw)
        for batch in cut
        for raw, record_ts, topic, offset in zip(batch.values, batch.record_ts, batch.topic, batch.offset, strict=True)
    ]
    assert back == records
    seen = np.array([0, *(entry.record_ts for entry in records)])
    starts = itertools.accumulate((len(batch) for batch in cut), initial=0)
    assert all(batch.stream_time == seen[: start + 1].max() for batch, start in zip(cut, starts, strict=False))
    assert [batch.clock for batch in cut if batch.clock is not None] == ([END_OF_TIME] if ends else [])


def test_batches_of_nothing_but_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="never get through"):
        batches(random_log(1, 5), [0])


# Comparisons


def outcome() -> Expected:
    return reference([*log([event("chat.message", 1_000)]), record(b"{", 1_000, "t", 9)])


def changed(entry: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(entry, **fields)


def test_equal_outcomes_differ_in_nothing() -> None:
    one, other = outcome(), outcome()
    other.engagement.reverse()
    assert_same(one, other)


def test_a_difference_names_the_record_and_the_field() -> None:
    first = outcome().engagement[0]
    other = changed(first, signals=changed(first.signals, connected_users=9))
    assert differences([first], [other]) == [f"{first.id}: signals.connected_users expected 1, got 9"]
    with pytest.raises(AssertionError, match=r"signals\.connected_users expected 1, got 9"):
        assert_same_records([first], [other])


def test_the_last_bit_of_a_float_is_a_difference() -> None:
    first = outcome().engagement[0]
    other = changed(first, score=float(np.nextafter(first.score, 1.0)))
    assert len(differences([first], [other])) == 1


@pytest.mark.parametrize("missing", [True, False])
def test_a_record_too_many_or_too_few_is_told(missing: bool) -> None:
    records: list[Record] = [*outcome().engagement]
    lines = differences(records, records[1:]) if missing else differences(records[1:], records)
    assert len(lines) == 1
    assert lines[0].startswith(f"{records[0].id}: {'missing' if missing else 'not expected'}")
    assert differences(records, [*records, records[0]]) == [f"{records[0].id}: expected 1 times, got 2 times"]


def test_many_differences_are_shown_in_part() -> None:
    with pytest.raises(AssertionError, match=r"and \d+ more$"):
        assert_same_records(outcome().engagement, [])


def dead_letter(reason: Any, offset: int, field: str = "") -> DeadLetter:
    return DeadLetter(
        id="i",
        tenant_id="",
        session_id="",
        ts=0,
        reason=reason,
        detail=Detail(field, "", ""),
        topic="t",
        partition=0,
        offset=offset,
        payload="",
    )


def test_dead_letters_are_compared_by_place_and_reason() -> None:
    expected = [Dead("late", Position("t", 0, 4), "ts"), Dead("malformed_json", Position("t", 0, 5), "", True)]
    good = [dead_letter("invalid_field", 5, "x"), dead_letter("late", 4, "ts")]
    assert_same_dead(expected, good, fields=True)
    for bad, message in (
        ([good[0], dead_letter("early", 4)], "expected late of 'ts', got early"),
        ([good[1], dead_letter("late", 5)], "expected malformed_json"),
        ([*good, dead_letter("late", 6)], "t/0/6: not expected"),
        ([*good, good[0]], "t/0/5: not expected"),
        (good[:1], "t/0/4: missing; expected late"),
    ):
        with pytest.raises(AssertionError, match=message):
            assert_same_dead(expected, bad)
    with pytest.raises(AssertionError, match="field 'ts', got field 'user_id'"):
        assert_same_dead(expected, [good[0], dead_letter("late", 4, "user_id")], fields=True)


def test_counts_are_compared_too() -> None:
    other = outcome()
    other.repeats += 1
    with pytest.raises(AssertionError, match="repeats: expected 0, got 1"):
        assert_same(outcome(), other)


def packed(records: list[Engagement]) -> Records:
    columns = zip(*((r.id, r.tenant_id, r.session_id, r.ts, msgspec.json.encode(r)) for r in records), strict=True)
    return Records("engagement", *map(list, columns))


def test_encoded_batches_come_back_and_their_columns_are_checked() -> None:
    records = outcome().engagement
    assert decoded([packed(records)]) == records
    wrong = packed(records)
    wrong.ts[0] += 1
    with pytest.raises(AssertionError, match="columns say"):
        decoded([wrong])
