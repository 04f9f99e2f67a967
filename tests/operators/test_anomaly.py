"""Anomaly detection against its reference, whatever shares or cuts a closing, and what must and must not be told."""

from collections.abc import Sequence
from dataclasses import fields, replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.anomalies.config import AnomalyConfig
from operators.anomalies.detector import Detector
from operators.anomalies.rules import Measures
from operators.anomalies.state import TYPES, Baselines, Spells
from operators.config import ScoreConfig
from tests.anomaly_rooms import EAGER, START, Room, columns, detect, even, play, raised, random_room, trace
from tests.model_anomaly import Report, Tick, reference

CONFIG = AnomalyConfig()
CUTS = st.lists(st.integers(0, 150), max_size=12)


def assert_same(ours: Sequence[Report], theirs: Sequence[Report]) -> None:
    assert [report[:4] for report in ours] == [report[:4] for report in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine[4:] == pytest.approx(other[4:], abs=1e-9)


@given(st.integers(0, 1 << 32), CUTS, st.sampled_from([CONFIG, EAGER]), st.booleans())
@settings(max_examples=120, deadline=None)
def test_agrees_with_the_reference(seed: int, cuts: list[int], config: AnomalyConfig, ends: bool) -> None:
    ticks = random_room(seed)
    expected = reference(ticks, config, ticks[-1].ts + 1_000 if ends and ticks else None)
    (told,) = detect([ticks], config, cuts=cuts, ends=ends)
    assert_same(told, expected)


def test_the_reference_sees_every_type_and_state() -> None:
    """The agreement above is about something."""
    seen = {(r.anomaly_type, r.state) for seed in range(60) for r in reference(random_room(seed), EAGER, START)}
    assert seen == {(name, state) for name in TYPES for state in ("raised", "resolved")}


@given(CUTS, st.sets(st.integers(0, 12)), st.integers(0, 1 << 32))
@settings(max_examples=40, deadline=None)
def test_cuts_and_restarts_change_no_bit(cuts: list[int], restarts: set[int], seed: int) -> None:
    sessions = [random_room(seed + i) for i in range(4)]
    whole = detect(sessions, EAGER, ends=True)
    assert detect(sessions, EAGER, cuts=cuts, restarts=restarts, ends=True) == whole


def test_tick_by_tick_is_the_same_to_the_bit() -> None:
    sessions = [random_room(seed) for seed in range(20)]
    assert detect(sessions, EAGER, cuts=range(200), ends=True) == detect(sessions, EAGER, ends=True)


@pytest.mark.parametrize("others", [6, 999])
def test_companions_and_rows_change_no_bit(others: int) -> None:
    mine = [play(Room(40, 20, 5, minutes=8, energy=lambda m: 1 if m < 5 else 0.1), 1), random_room(8)]
    crowd = [random_room(seed)[:100] for seed in range(8)]
    sessions = [*mine, *(crowd[i % 8] for i in range(others))]
    rows = list(range(len(sessions)))
    Random(3).shuffle(rows)
    alone = [detect([session], EAGER)[0] for session in mine]
    assert alone[0]
    assert detect(sessions, EAGER)[:2] == alone
    assert detect(sessions, EAGER, cuts=(50, 51, 61), rows=rows)[:2] == alone


def test_portions_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = [random_room(seed) for seed in range(30)]
    whole = detect(sessions, EAGER, cuts=(70,), ends=True)
    assert sum(map(len, whole)) > 10
    monkeypatch.setattr("operators.anomalies.detector.MOST_SLOTS", 200)
    assert detect(sessions, EAGER, cuts=(70,), ends=True) == whole


def test_state_is_small_and_bounded_and_freed() -> None:
    detector = Detector(CONFIG, ScoreConfig())
    table = detector.baselines(1)
    per_session = sum(getattr(table, name).nbytes for name in table.LAYOUT)
    assert per_session < 2_500
    session = play(Room(50, 20, 5, minutes=60, churn=0.1, exits={30: 0.5}), 3)
    _feed(detector, table, session, finished=False)
    assert sum(getattr(table, name).nbytes for name in table.LAYOUT) == per_session
    assert table.used[0]
    _feed(detector, table, session[-1:], finished=True)
    fresh = detector.baselines(1)
    for name in table.LAYOUT:
        assert (getattr(table, name) == getattr(fresh, name)).all(), name


def _feed(detector: Detector, table: Baselines, session: Sequence[Tick], *, finished: bool) -> None:
    one = np.array([True])
    spells = Spells(np.zeros(1, np.int64), one, one & finished, np.array([session[-1].ts]))
    detector.detect(table, spells, columns([session]))


@given(st.integers(0, 1 << 32))
@settings(max_examples=60, deadline=None)
def test_all_numbers_are_finite_and_in_range(seed: int) -> None:
    measures = trace(random_room(seed))
    for field in fields(Measures):
        values = getattr(measures, field.name)
        assert np.isfinite(values[~np.isnan(values)] if field.name == "line_start" else values).all(), field.name
    for name in ("score", "mean", "z", "trees", "trees_raw", "trees_weight", "combined", "before", "exit_rate"):
        assert getattr(measures, name).min(initial=0.0) >= 0.0, name
        assert getattr(measures, name).max(initial=0.0) <= 1.0, name
    assert min(measures.evidence.min(initial=0.0), measures.exit_evidence.min(initial=0.0)) >= 0.0


# What must be told.


@pytest.mark.parametrize("seed", range(5))
def test_a_sudden_silence_is_told_as_it_deepens(seed: int) -> None:
    (reports,) = detect([play(Room(200, 30, 10, energy=lambda m: 1 if m < 5 else 0.12), seed)])
    first, at = raised(reports)[0]
    assert first == "SUDDEN_DROP"
    assert 60 < at <= 73


@pytest.mark.parametrize("seed", range(5))
def test_a_room_that_dies_is_low(seed: int) -> None:
    (reports,) = detect([play(Room(200, 30, 10, energy=lambda m: 1 if m < 5 else 0.0), seed)])
    assert "LOW_ENGAGEMENT" in dict(raised(reports))
    assert 66 <= dict(raised(reports)[::-1])["LOW_ENGAGEMENT"] <= 73


@pytest.mark.parametrize("seed", range(5))
def test_a_room_that_sinks_over_minutes_declines(seed: int) -> None:
    (reports,) = detect([play(Room(200, 30, 12, minutes=14, energy=lambda m: max(0.05, 1 - max(0, m - 5) / 6)), seed)])
    first, at = raised(reports)[0]
    assert first == "GRADUAL_DECLINE"
    assert at > 60


@pytest.mark.parametrize("share, severity", [(0.15, "WARNING"), (0.6, "CRITICAL")])
def test_an_exit_is_told_on_its_first_tick(share: float, severity: str) -> None:
    (reports,) = detect([play(Room(100, 10, 3, churn=0.01, exits={5: share}), 4)])
    assert raised(reports)[:1] == [("MASS_EXIT", 60)]
    assert reports[0].severity == severity


def test_an_exit_soon_after_another_is_told_too() -> None:
    (reports,) = detect([play(Room(200, 10, 3, minutes=15, churn=0.01, exits={5: 0.3, 9: 0.4}), 4)])
    assert [at for name, at in raised(reports) if name == "MASS_EXIT"] == [60, 108]


def test_an_audience_is_looked_after_from_its_sixth_tick() -> None:
    still = [even(k, people=400, active=200, chats=10, reactions=5) for k in range(5)]
    away = even(5, people=400, active=200, chats=10, reactions=5)._replace(left=200, connected=200)
    assert raised(detect([[*still, away]])[0]) == [("MASS_EXIT", 5)]
    assert raised(detect([[*still[:4], away._replace(ts=still[4].ts)]])[0]) == []
    dead = [even(k, people=400, active=20, chats=0, reactions=0) for k in range(5, 7)]
    assert raised(detect([[*still, *dead]])[0])[0] == ("LOW_ENGAGEMENT", 5)


# What must not be told.


@pytest.mark.parametrize(
    "room",
    [
        Room(5, 2, 1, minutes=60),
        Room(10, 5, 1, minutes=60),
        Room(10, 5, minutes=60, churn=0.01),
        Room(30, 15, 5, minutes=60, churn=0.02),
        Room(100, 6, 2, minutes=60, churn=0.02),
        Room(400, 100, 30, minutes=60, churn=0.02),
    ],
)
def test_healthy_rooms_are_silent(room: Room) -> None:
    """Half a day of each kind; 0.05 false alarms an hour would be half a one."""
    told = detect([play(room, seed) for seed in range(12)])
    assert sum(len(raised(reports)) for reports in told) <= 1


def test_a_single_visitor_is_no_audience() -> None:
    visit = play(Room(1, 10, 2, energy=lambda m: 1 if m < 5 else 0.0, exits={8: 1.0}), 1)
    assert detect([visit], EAGER, ends=True) == [[]]


def test_a_rise_is_no_anomaly() -> None:
    (reports,) = detect([play(Room(100, 5, 2, energy=lambda m: 1 if m < 5 else 8.0), 1)])
    assert reports == []


def test_polls_are_no_drop() -> None:
    for seed in range(6):
        (reports,) = detect([play(Room(60, 12, 4, minutes=15, polls=(2, 7, 11), voters=0.9), seed)])
        assert raised(reports) == []


def test_newcomers_are_no_drop_but_what_is_the_same_without_them_is() -> None:
    fall = [even(k, people=100, active=60, chats=1, reactions=1) for k in range(40)]
    diluted = [even(k, people=400, active=60, chats=1, reactions=1) for k in range(40, 52)]
    silent = [even(k, people=400, active=0, chats=0, reactions=0) for k in range(40, 52)]
    assert raised(detect([fall + diluted])[0]) == []
    assert raised(detect([fall + silent])[0]) == []
    assert raised(detect([fall + [tick._replace(audience=100) for tick in silent]])[0])[0] == ("LOW_ENGAGEMENT", 40)


def test_who_was_never_counted_here_cannot_leave() -> None:
    """After session.ended people's clients leave: that opens a session in which nobody ever was present."""
    leaves = [
        even(k, people=50, active=0, chats=0, reactions=0)._replace(connected=0, there=0, left=min(50, 9 * k))
        for k in range(12)
    ]
    assert detect([leaves], EAGER, ends=True) == [[]]


# When it is over, and how often it is told.


@pytest.mark.parametrize("age, expected", [(59, []), (60, ["MASS_EXIT"])])
def test_a_session_that_is_old_knows_leavers_whom_it_never_saw(age: int, expected: list[str]) -> None:
    """A channel in which nobody says a word: that people were there, their leaves tell."""
    nobody = [even(k, people=1, active=0, chats=0, reactions=0)._replace(age=k) for k in range(age)]
    gone = even(age, people=1, active=0, chats=0, reactions=0)
    gone = gone._replace(left=40, inside=41, audience=41, age=age, leaves=40)
    assert [kind for kind, _ in raised(detect([[*nobody, gone]])[0])] == expected


def test_the_end_resolves_what_is_open_and_the_next_session_starts_afresh() -> None:
    session = play(Room(200, 30, 10, energy=lambda m: 1 if m < 5 else 0.0, minutes=7), 1)
    (reports,) = detect([session], ends=True)
    open_types = {r.anomaly_type for r in reports if r.state == "raised"}
    final = [r for r in reports if r.ts == session[-1].ts + 1_000]
    assert {r.anomaly_type for r in final} == open_types
    assert {r.state for r in final} == {"resolved"}
    assert final[0].current == session[-1].score


@pytest.mark.parametrize("cut", [0, 59, 60])
def test_the_end_tells_the_newest_numbers_wherever_the_closing_was_cut(cut: int) -> None:
    session = [even(k, people=200, active=100, chats=3, reactions=1) for k in range(50)]
    session += [even(k, people=200, active=10, chats=0, reactions=0) for k in range(50, 60)]
    detector = Detector(CONFIG, ScoreConfig())
    table = detector.baselines(1)
    rows, one = np.zeros(1, np.int64), np.array([True])
    if cut:
        detector.detect(table, Spells(rows, ~one, ~one, np.zeros(1, np.int64)), columns([session[:cut]]))
    end = np.array([session[-1].ts + 2_000])
    reports = detector.detect(table, Spells(rows, one & (cut > 0), one, end), columns([session[cut:]]))
    assert reports.place[-1] == -1
    assert reports.ts[-1] == end[0]
    assert reports.signals.active_users[-1] == 10
    assert reports.current[-1] == session[-1].score
    assert reports.combined[-1] > 0


def test_it_is_over_after_two_ticks_at_nine_tenths_of_what_was_expected() -> None:
    good = [even(k, people=200, active=100, chats=3, reactions=1) for k in range(40)]
    bad = [even(k, people=200, active=50, chats=0, reactions=0)._replace(chat_per_min=4) for k in range(40, 44)]
    again = [tick._replace(ts=START + (44 + k) * 5_000) for k, tick in enumerate(good[:6])]
    (reports,) = detect([[*good, *bad, *again]], replace(CONFIG, low=0.0, low_resolved=0.25))
    assert [(r.state, (r.ts - START) // 5_000) for r in reports] == [("raised", 40), ("resolved", 45)]
    level = 0.9 * reports[0].expected
    assert bad[0].score < level < good[0].score
    late = [*good, *bad, again[0], again[1]._replace(active=0, chat_per_min=0), *again[2:]]
    (reports,) = detect([late], replace(CONFIG, low=0.0, low_resolved=0.25))
    assert [(r.ts - START) // 5_000 for r in reports if r.state == "resolved"] == [47]


def test_a_low_room_is_over_its_anomaly_from_a_quarter_on() -> None:
    good = [even(k, people=200, active=100, chats=3, reactions=1) for k in range(40)]
    bad = [even(k, people=200, active=0, chats=0, reactions=0) for k in range(40, 46)]
    back = [even(k, people=200, active=100, chats=0, reactions=0)._replace(chat_per_min=3) for k in range(46, 50)]
    assert 0.25 <= back[0].score < 0.9 * good[0].score
    (reports,) = detect([[*good, *bad, *back]])
    assert [(r.anomaly_type, (r.ts - START) // 5_000) for r in reports if r.state == "resolved"] == [
        ("LOW_ENGAGEMENT", 47)
    ]
    just_under = [tick._replace(chat_per_min=2) for tick in back]
    assert just_under[0].score < 0.25
    (reports,) = detect([[*good, *bad, *just_under]])
    assert not [r for r in reports if r.state == "resolved"]


def test_a_type_is_told_once_in_thirty_seconds() -> None:
    good = [even(k, people=200, active=100, chats=3, reactions=1) for k in range(40)]
    bad = [even(k, people=200, active=0, chats=0, reactions=0) for k in range(40, 55)]
    (reports,) = detect([good + bad])
    assert raised(reports) == [("LOW_ENGAGEMENT", 40), ("LOW_ENGAGEMENT", 46), ("LOW_ENGAGEMENT", 52)]
    (reports,) = detect([good + bad], replace(CONFIG, repeat_ms=30_001))
    assert raised(reports) == [("LOW_ENGAGEMENT", 40), ("LOW_ENGAGEMENT", 47), ("LOW_ENGAGEMENT", 54)]
