"""Anomalies through the window: what events, sessions and their ends do to them."""

import json
from random import Random

from schemas.inbound import MAX_TS
from schemas.registry import INBOUND_TOPICS
from tests.events import event, numbered, record
from tests.live_log import live_event_log
from tests.model import MINUTE, SECOND, LogRecord
from tests.running import lines, raw_batches, run

START = 1_700_000_000_000


def log_of(events: list[tuple[int, bytes]]) -> list[LogRecord]:
    """Return events as a log, each written when it happened."""
    return numbered([record(raw, ts, INBOUND_TOPICS[0]) for ts, raw in sorted(events, key=lambda one: one[0])])


def people(count: int, start: int = START, session: str = "s") -> list[tuple[int, bytes]]:
    """Return the joins of so many people, a moment apart."""
    return [
        (start + i % 5_000, event("presence.join", start + i % 5_000, f"u{i}", event_id=f"join{i}", session=session))
        for i in range(count)
    ]


def leaves(users: range, ts: int, session: str = "s") -> list[tuple[int, bytes]]:
    """Return the leaves of some people within a second."""
    return [
        (ts + i % 1_000, event("presence.leave", ts + i % 1_000, f"u{i}", event_id=f"leave{i}-{ts}", session=session))
        for i in users
    ]


def test_the_end_of_a_session_resolves_and_what_follows_is_no_exit() -> None:
    end = START + 6 * MINUTE
    events = people(200)
    events += leaves(range(80), end - 20 * SECOND)
    events.append((end, event("session.ended", end, "host", event_id="end")))
    events += leaves(range(80, 200), end + 2 * SECOND)  # they close their windows once it is over
    told = run(raw_batches(log_of(events))).anomalies
    assert [(a.anomaly_type, a.state) for a in told] == [("MASS_EXIT", "raised"), ("MASS_EXIT", "resolved")]
    assert told[0].severity == "CRITICAL"
    assert end - 20 * SECOND < told[0].ts <= end - 15 * SECOND
    assert told[1].ts == end


def test_a_hundred_thousand_people_of_whom_half_go() -> None:
    events = people(100_000) + leaves(range(50_000), START + 3 * MINUTE)
    events += [
        (START + k * 20 * SECOND, event("chat.message", START + k * 20 * SECOND, "u99999", event_id=f"c{k}", text="x"))
        for k in range(1, 15)
    ]
    (first, *_) = run(raw_batches(log_of(events))).anomalies
    assert (first.anomaly_type, first.state, first.severity) == ("MASS_EXIT", "raised", "CRITICAL")
    assert first.ts == START + 3 * MINUTE + (5 * SECOND - (START + 3 * MINUTE) % (5 * SECOND))
    assert first.signals.leave_rate == 0.5


def test_leaps_of_hours_sessions_of_one_event_and_polls_that_never_close_are_silent() -> None:
    rng = Random(1)
    events = [
        (ts, event("reaction", ts, f"u{i}", event_id=f"one{i}", session=f"single{i}"))
        for i, ts in enumerate(range(START, START + 40 * SECOND, SECOND))
    ]
    for burst in range(4):  # a room that comes to life for four minutes, hours apart
        begin = START + burst * 7 * 60 * MINUTE
        for i in range(400):
            ts = begin + rng.randrange(4 * MINUTE)
            events.append(
                (ts, event("chat.message", ts, f"u{i % 20}", event_id=f"b{burst}-{i}", session="leaps", text="x"))
            )
    events += people(30, session="poll")
    events.append(
        (START + 6_000, event("poll.opened", START + 6_000, "host", event_id="p", session="poll", poll_id="p"))
    )
    for i in range(900):
        ts = START + 6_000 + i * 1_000 + rng.randrange(900)
        kind, more = ("poll.vote", {"poll_id": "p", "option_id": "a"}) if i < 60 else ("chat.message", {"text": "x"})
        events.append((ts, event(kind, ts, f"u{i % 30}", event_id=f"v{i}", session="poll", **more)))
    outcome = run(raw_batches(log_of(events)))
    before_the_end = [a for a in outcome.anomalies if a.session_id != "poll" or a.ts < START + 15 * MINUTE]
    assert [a for a in before_the_end if a.session_id != "leaps"] == []
    assert {a.anomaly_type for a in before_the_end} <= {"LOW_ENGAGEMENT", "SUDDEN_DROP"}, "a burst that is over"


def test_no_record_of_an_anomaly_holds_what_json_cannot() -> None:
    outcome = run(raw_batches(live_event_log(8, people=25, minutes=8, exodus=5)))
    told = [json.loads(line) for line in lines(outcome) if b'"type":"anomaly"' in line]
    assert told
    for anomaly in told:
        numbers = [anomaly["score"], anomaly["current"], anomaly["expected"], anomaly["deviation"]]
        numbers += list(anomaly["detector"].values())
        assert all(-1.0 <= number <= 1.0 for number in numbers)
        assert 0 <= anomaly["signals"]["leave_rate"] <= 1


def test_no_record_is_beyond_the_year_9999() -> None:
    """A session's idle end, the tick behind its last event and an open anomaly's end all lie beyond the last moment."""
    begin = MAX_TS - 5 * MINUTE
    events = people(40, begin)
    events += leaves(range(30), MAX_TS - 10 * SECOND)
    events.append((MAX_TS, event("chat.message", MAX_TS, "u39", event_id="last", text="x")))
    outcome = run(raw_batches(log_of(events)))
    assert {anomaly.state for anomaly in outcome.anomalies} == {"raised", "resolved"}
    assert len(outcome.told) > 50
    assert max(ts for batch in outcome.batches for ts in batch.ts) == MAX_TS
