"""The reference's clocks and sessions against examples worked out by hand. Times are milliseconds from 0."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.outbound import SessionSummary
from tests.compare import assert_same_records, duplicates
from tests.events import event, log, numbered, record
from tests.live_log import live_event_log
from tests.model import DEFAULTS, MINUTE, Defaults, Expected, LogRecord, reference
from tests.strategies import configs, logs, shuffle_within_lateness

IDLE = 30 * MINUTE


def chat(ts: int, user: str = "a", *, event_id: str = "", session: str = "s") -> bytes:
    return event("chat.message", ts, user, event_id=event_id, session=session)


def stream(*entries: tuple[bytes | None, int]) -> list[LogRecord]:
    """Return the log of these payloads and record timestamps."""
    return numbered(record(raw, record_ts) for raw, record_ts in entries)


def reasons(*entries: tuple[bytes | None, int]) -> list[str]:
    return [dead.reason for dead in reference(stream(*entries)).dead]


def tick_times(expected: Expected) -> list[int]:
    return [entry.ts for entry in expected.engagement]


# Late and early


def test_what_a_closed_tick_would_have_held_is_late_by_the_sessions_watermark() -> None:
    # 12 s - 2 s = 10 s: the tick 10 s is closed; 9.999 s belongs to it, 10 s to the next
    assert reasons((chat(12_000), 12_000), (chat(9_999), 12_000), (chat(10_000), 12_000)) == ["late"]
    # 11.999 s - 2 s = 9.999 s: the last closed tick is 5 s
    assert reasons((chat(11_999), 12_000), (chat(5_000), 12_000), (chat(4_999), 12_000)) == ["late"]


def test_a_watermark_never_goes_back() -> None:
    assert reasons((chat(12_000), 12_000), (chat(10_500), 12_000), (chat(9_999), 12_000)) == ["late"]


def test_a_watermark_is_its_sessions_own() -> None:
    assert reasons((chat(12_000), 12_000), (chat(9_999, session="other"), 12_000)) == []


def test_what_lies_seven_seconds_behind_stream_time_is_late_in_any_session() -> None:
    # 17 s - 7 s = 10 s
    assert reasons((chat(9_999), 17_000)) == ["late"]  # the first event of a session that has no state
    assert reasons((chat(9_999), 16_999)) == []
    assert reasons((chat(10_000), 17_000)) == []
    assert reasons((chat(20_000, session="other"), 17_000), (chat(9_999), 9_999)) == ["late"]


def test_what_is_more_than_five_seconds_ahead_of_its_record_is_early() -> None:
    assert reasons((chat(15_000), 10_000)) == []
    assert reasons((chat(15_001), 10_000)) == ["early"]


def test_early_is_asked_before_late() -> None:
    assert reasons((chat(100_000), 100_000), (chat(20_000), 10_000)) == ["early"]


def test_an_early_event_moves_no_clock_but_its_record_moves_stream_time() -> None:
    assert reasons((chat(90_000), 12_000), (chat(9_999), 12_000)) == ["early"]
    assert reasons((chat(90_000), 17_000), (chat(9_999), 17_000)) == ["early", "late"]


@pytest.mark.parametrize("other", [None, b"{", event("chat.answer", 0), event("handoff.resolved", 99_000)])
def test_every_record_moves_stream_time_by_its_record_timestamp(other: bytes | None) -> None:
    dead = reasons((other, 16_999), (chat(9_999), 9_999))
    assert "late" not in dead
    dead = reasons((other, 17_000), (chat(9_999), 9_999))
    assert dead[-1] == "late"


@pytest.mark.parametrize("kind", ["chat.answer", "intervention.outcome", "intervention.approval", "handoff.resolved"])
def test_what_is_not_windowed_is_always_accepted_and_opens_nothing(kind: str) -> None:
    expected = reference(stream((event(kind, 0), 9_000_000), (event(kind, 9_900_000), 9_000_000)))
    assert expected == Expected(accepted=2)


def test_a_repeat_counts_once_and_is_no_dead_letter() -> None:
    once = reference(log([chat(1_000)]))
    twice = reference(log([chat(1_000), chat(1_000)]))
    assert (twice.accepted, twice.repeats, twice.dead) == (1, 1, [])
    assert twice.engagement == once.engagement
    assert twice.sessions == once.sessions


def test_a_repeat_of_what_is_final_is_late() -> None:
    assert reasons((chat(1_000), 1_000), (chat(7_000), 7_000), (chat(1_000), 7_000)) == ["late"]


def test_the_same_id_at_another_time_or_in_another_session_is_another_event() -> None:
    payloads = [chat(1_000, event_id="x"), chat(1_001, event_id="x"), chat(1_001, event_id="x", session="other")]
    expected = reference(log(payloads))
    assert (expected.accepted, expected.repeats) == (3, 0)


def test_dead_letters_say_where_they_stand() -> None:
    expected = reference(stream((chat(0), 0), (b"{", 0), (chat(9_999), 17_000)))
    assert [(dead.reason, dead.position.offset, dead.field) for dead in expected.dead] == [
        ("malformed_json", 1, ""),
        ("late", 2, "ts"),
    ]


# Ticks and silence


def test_ticks_begin_after_the_first_event_at_multiples_of_five_seconds() -> None:
    assert tick_times(reference(log([chat(4_999)])))[0] == 5_000
    assert tick_times(reference(log([chat(5_000)])))[0] == 10_000


def test_an_empty_session_says_so_once() -> None:
    # until 60 s the window holds the leave of 2 s; 65 s is empty and nobody is there; then silence
    expected = reference(log([event("presence.join", 1_000), event("presence.leave", 2_000)]))
    assert tick_times(expected) == list(range(5_000, 65_001, 5_000))
    assert expected.engagement[-1].signals.connected_users == 0
    assert expected.engagement[-1].score == 0.0


def test_silence_ends_with_the_next_event_and_comes_again() -> None:
    expected = reference(log([event("emotion.observed", 0), event("emotion.observed", 200_000)]))
    # [0, 60 s) is the last window with the first event; 200 s lies in the windows that close at 205 s to 260 s
    assert tick_times(expected) == [*range(5_000, 65_001, 5_000), *range(205_000, 265_001, 5_000)]


def test_presence_breaks_the_silence_only_by_an_event() -> None:
    expected = reference(log([chat(0)]))
    # present until 300 s, that moment included; 305 s is empty, once
    assert tick_times(expected) == list(range(5_000, 305_001, 5_000))


def test_a_room_with_somebody_in_it_ticks_until_the_session_ends() -> None:
    expected = reference(log([event("presence.join", 0)]))
    assert tick_times(expected) == list(range(5_000, IDLE + 1, 5_000))


# Sessions


def only(expected: Expected) -> SessionSummary:
    (summary,) = expected.sessions
    return summary


def test_a_session_ends_thirty_minutes_after_its_last_event() -> None:
    summary = only(reference(log([event("presence.join", 1_000, "a"), chat(2_000, "b")])))
    # ticks at 5 s, 10 s ... 1800 s; the end, 1802 s, is no tick
    assert (summary.ts, summary.duration_ms, summary.ended_by) == (1_802_000, 1_801_000, "idle")
    assert (summary.events, summary.joins, summary.chat_messages, summary.users) == (2, 1, 1, 2)
    assert summary.peak_connected == 2
    assert summary.ticks == 360
    # highest while the message is in the window: 0.30 ln 2 / ln 21 + 0.25 x 1/2 = 0.068301 + 0.125
    assert summary.score_peak == pytest.approx(0.193301, abs=1e-6)
    # in 12 ticks (5 s to 60 s), and 0 in all others: 12 x 193,301 / 360 = 6,443.37 millionths
    assert summary.score_mean == pytest.approx(12 * 193_301 / 360 / 1e6, abs=1e-12)


def test_a_mean_is_taken_over_scores_rounded_to_millionths() -> None:
    # 0.30 ln 6 / ln 21 + 0.25 = 0.3 x 1.791759469 / 3.044522438 + 0.25 = 0.4265557
    summary = only(reference(log([*(chat(n) for n in range(5)), event("session.ended", 5_000)])))
    assert summary.score_peak == pytest.approx(0.4265557, abs=1e-7)
    assert summary.score_mean == 0.426556


def test_a_summary_counts_what_there_was() -> None:
    kinds = ["chat.message", "reaction", "poll.vote", "telemetry.click", "telemetry.cart", "presence.join"]
    kinds += ["presence.leave", "poll.opened", "emotion.observed", "session.ended"]
    summary = only(reference(log([event(kind, 100 * n, f"u{n}") for n, kind in enumerate(kinds)])))
    assert (summary.events, summary.chat_messages, summary.reactions, summary.votes) == (10, 1, 1, 1)
    assert (summary.telemetry, summary.joins, summary.leaves, summary.users) == (2, 1, 1, 7)  # acts, join and leave
    assert (summary.ts, summary.ended_by, summary.duration_ms) == (900, "ended", 900)
    assert (summary.ticks, summary.peak_connected, summary.score_mean, summary.score_peak) == (0, 0, None, None)


def test_a_session_that_is_ended_has_its_last_tick_at_the_end_at_most() -> None:
    def times(end: int) -> list[int]:
        return tick_times(reference(log([event("presence.join", 1_000), event("session.ended", end)])))

    assert times(10_000) == [5_000, 10_000]
    assert times(9_999) == [5_000]


def test_what_follows_the_end_is_a_new_session_that_knows_nothing() -> None:
    payloads = [event("presence.join", 0, "a"), event("poll.vote", 0, "a"), event("session.ended", 7_000), chat(8_000)]
    expected = reference(log(payloads))
    assert [(entry.session_start, entry.events) for entry in expected.sessions] == [(0, 3), (8_000, 1)]
    later = expected.engagement[-1]
    second = next(entry for entry in expected.engagement if entry.ts == 10_000)
    assert second.id == "t/s/8000/engagement/10000"
    assert (second.signals.connected_users, second.signals.poll_participation) == (1, 0.0)
    assert later.session_start == 8_000
    assert tick_times(expected)[:2] == [5_000, 10_000]


def test_what_has_the_very_time_of_the_end_belongs_to_what_ends() -> None:
    ended = event("session.ended", 7_000, event_id="m")
    before = reference(log([chat(0), chat(7_000, event_id="a"), ended]))
    assert [entry.events for entry in before.sessions] == [3]
    after = reference(log([chat(0), chat(7_000, event_id="z"), ended]))
    assert [(entry.session_start, entry.events) for entry in after.sessions] == [(0, 3)]


def test_thirty_minutes_apart_are_two_sessions() -> None:
    one = reference(log([chat(0), chat(IDLE - 1)]))
    assert [entry.events for entry in one.sessions] == [2]
    two = reference(log([chat(0), chat(IDLE)]))
    assert [(entry.session_start, entry.ts) for entry in two.sessions] == [(0, IDLE), (IDLE, 2 * IDLE)]


def test_the_order_of_arrival_breaks_no_session() -> None:
    arrivals = [(chat(0), 0), (chat(IDLE + 500), IDLE + 500), (chat(IDLE - 500), IDLE + 500)]
    assert [entry.events for entry in reference(stream(*arrivals)).sessions] == [3]


def test_ids_carry_what_the_record_is_about() -> None:
    body = event("chat.message", 1_000, tenant_id="a/b", session="50%/x")
    expected = reference(log([body]))
    assert expected.engagement[0].id == "a%2Fb/50%25%2Fx/1000/engagement/5000"
    assert only(expected).id == "a%2Fb/50%25%2Fx/1000/session"
    assert (expected.engagement[0].tenant_id, expected.engagement[0].session_id) == ("a/b", "50%/x")


# What is due so far


def test_a_live_stream_has_emitted_what_is_due() -> None:
    payloads = [chat(1_000), chat(12_000)]
    assert tick_times(reference(log(payloads), ends=False)) == [5_000, 10_000]  # watermark 10 s
    by_stream_time = stream((chat(1_000), 1_000), (event("chat.answer", 0), 17_000))
    assert tick_times(reference(by_stream_time, ends=False)) == [5_000, 10_000]
    assert tick_times(reference(log([chat(1_000)]), ends=False)) == []


def test_an_end_is_told_once_nothing_can_come_before_it() -> None:
    ended = [(chat(0), 0), (event("session.ended", 10_000), 10_000)]
    at_ten = reference(stream(*ended, (b"", 17_000)), ends=False)
    assert (tick_times(at_ten), at_ten.sessions) == ([5_000, 10_000], [])  # an event of 10 s would still be accepted
    assert only(reference(stream(*ended, (b"", 22_000)), ends=False)).ts == 10_000
    idle = [(chat(0), 0), (b"", IDLE + 7_000)]
    assert only(reference(stream(*idle), ends=False)).ts == IDLE  # an event of that moment would be a new session
    assert reference(stream((chat(0), 0), (b"", IDLE + 6_999)), ends=False).sessions == []


# Whatever the log


@settings(max_examples=60, deadline=None)
@given(logs(), configs(), st.data())
def test_what_was_emitted_never_changes(records: list[LogRecord], config: Defaults, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(records)))
    so_far, whole = reference(records[:cut], config, ends=False), reference(records, config)
    emitted = [*so_far.engagement, *so_far.sessions]
    told = {(entry.id, entry.ts) for entry in emitted}
    assert_same_records(emitted, [r for r in (*whole.engagement, *whole.sessions) if (r.id, r.ts) in told])
    assert so_far.dead == whole.dead[: len(so_far.dead)]


@settings(max_examples=60, deadline=None)
@given(logs(), configs())
def test_every_record_is_accounted_for(records: list[LogRecord], config: Defaults) -> None:
    expected = reference(records, config)
    assert expected.accepted + expected.repeats + len(expected.dead) == len(records)
    assert sum(entry.ticks for entry in expected.sessions) == len(expected.engagement)
    assert duplicates(expected.engagement) == []
    for entry in (*expected.engagement, *expected.sessions):
        assert msgspec.json.decode(msgspec.json.encode(entry), type=type(entry)) == entry  # within the schemas' limits


@settings(max_examples=60, deadline=None)
@given(logs(orderly=True), configs(), st.integers(0, 2**32), st.booleans())
def test_a_shuffle_within_the_lateness_changes_nothing(
    records: list[LogRecord], config: Defaults, seed: int, ends: bool
) -> None:
    check_shuffle(records, config, seed, ends)


def test_a_shuffled_live_event_is_the_same() -> None:
    for seed in range(3):
        check_shuffle(live_event_log(seed, people=12, minutes=6), DEFAULTS, seed, ends=False)


def check_shuffle(records: list[LogRecord], config: Defaults, seed: int, ends: bool) -> None:
    shuffled = shuffle_within_lateness(records, Random(seed))
    one, other = reference(records, config, ends), reference(shuffled, config, ends)
    assert_same_records([*one.engagement, *one.sessions], [*other.engagement, *other.sessions])
    assert (one.accepted, one.repeats) == (other.accepted, other.repeats)
    assert sorted(dead.reason for dead in one.dead) == sorted(dead.reason for dead in other.dead)
