"""Who does nothing takes few bytes while his session lives, and what he did once still counts when he comes again."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.emotions.alarms import Alarms
from operators.emotions.diagnosis import Diagnosis
from operators.emotions.idle import Idle, nobody
from operators.emotions.matcher import Matcher
from operators.emotions.roles import Roles
from operators.emotions.rules import FILE, read_rules
from operators.emotions.table import Visitors
from operators.emotions.visitor import Visitor
from tests.model import LogRecord
from tests.operators.diagnosed import (
    RULES,
    WINDOW,
    brief,
    by_session,
    cues_of,
    emotions_of,
    expected,
    followed,
    logs,
    said,
)

MINUTE = 60_000


def keeper(minutes: int, after_ms: int = 0) -> list[LogRecord]:
    """Return the messages of one who keeps a session alive."""
    return [said("chat.message", after_ms + MINUTE * number, user="keeper") for number in range(1, minutes)]


def crowd(number: int) -> list[LogRecord]:
    log = []
    for i in range(number):
        log += [
            said("telemetry.page_view", 10 * i, user=f"u{i}", page="product", url=f"/p{i}"),
            said("telemetry.click", 10 * i + 1, user=f"u{i}", effect=False),
            said("telemetry.click", 10 * i + 2, user=f"u{i}", error=True),
        ]
    return log


def test_a_crowd_that_does_nothing_any_more_leaves_little_behind() -> None:
    """1,500 visitors who have shown something: at most 48 bytes each are kept, and no row, though the session lives."""
    log = crowd(1_500)
    least = len(followed(keeper(5)).snapshot())
    busy, idle = followed(log, 500), followed([*log, *keeper(5, 15_000)], 500)
    assert len(busy.snapshot()) - least > 1_500 * 100
    assert len(idle.snapshot()) - least < 1_500 * 48
    assert len(idle._table.row_by_key) <= 1
    assert idle._table.capacity < 100
    assert len(idle._table.idle) == 1_500


def test_who_did_nothing_that_lasts_leaves_nothing_behind() -> None:
    clicks = [said("telemetry.click", 10 * i, user=f"u{i}", effect=False) for i in range(100)]
    assert len(followed([*clicks, *keeper(5, 1_000)]).snapshot()) < len(followed(keeper(5)).snapshot()) + 50


def test_a_session_takes_those_who_do_nothing_with_it() -> None:
    log = [*crowd(3), *keeper(5, 15_000)]
    assert len(followed(log)._table.idle) == 3
    assert not len(followed([*log, said("session.ended", 6 * MINUTE, user="keeper")])._table.idle)


LATER = 65 * MINUTE
VIEW = "telemetry.page_view"
CASES: dict[str, tuple[list[tuple[int, str, dict[str, Any]]], set[str]]] = {
    "the page viewed before": (
        [
            (0, VIEW, {"page": "product"}),
            (LATER, VIEW, {"page": "help", "url": "/help"}),
            (LATER + 9, "telemetry.click", {"element": "reviews"}),
        ],
        {"doubts"},
    ),
    "the direction": (
        [(at, "telemetry.scroll", {"direction": way, "velocity": 1})
         for at, way in ((0, "up"), (LATER, "down"), (LATER + 1, "up"), (LATER + 2, "down"), (LATER + 3, "up"))],
        {"scroll_reversals"},
    ),
    "the place": (
        [(at, VIEW, {"page": page, "url": page})
         for at, page in ((0, "home"), (LATER, "help"), (LATER + 1, "home"), (LATER + 2, "help"), (LATER + 3, "home"))],
        {"back_and_forth"},
    ),
    "the place before": (
        [(at, VIEW, {"page": page, "url": page})
         for at, page in ((0, "home"), (1, "help"), (LATER + 1, "home"), (LATER + 2, "help"), (LATER + 3, "home"))],
        {"back_and_forth"},
    ),
    "the order": (
        [
            (0, "telemetry.checkout", {"step": "complete"}),
            (LATER, "telemetry.exit_intent", {"edge": "side", "page": "cart"}),
        ],
        set(),
    ),
    "no order": (
        [
            (0, "telemetry.checkout", {"step": "payment"}),
            (LATER, "telemetry.exit_intent", {"edge": "side", "page": "cart"}),
        ],
        {"silence_at_till", "exit_from_till"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("told, rules", CASES.values(), ids=CASES.keys())
def test_what_was_an_hour_ago_counts_as_long_as_the_contract_says(
    told: list[tuple[int, str, dict[str, Any]]], rules: set[str]
) -> None:
    """With others doing the same at other times, so that more than one visitor comes and goes; and with restarts."""
    log = keeper(70)
    for shift, user in ((0, "u1"), (7 * MINUTE, "u2")):
        log += [said(kind, at + shift if at < LATER else at, user=user, **fields) for at, kind, fields in told]
    log.sort(key=lambda record: record.record_ts)
    found = emotions_of(cues_of(log))
    assert {each.rule for each in found} == rules
    assert sorted(map(brief, found)) == expected(log)
    every = range(len(log))
    assert emotions_of(cues_of(log, every)) == found
    assert emotions_of(cues_of(log, every, 1, every)) == found


LONG = st.sampled_from([0, 1, 300, 1_000, 7_000, 61_000, 61_000, 130_000, 700_000, 1_500_000])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(logs(LONG), st.lists(st.integers(0, 60), max_size=6), st.sets(st.integers(1, 6)))
def test_nothing_depends_on_when_who_does_nothing_is_freed(
    log: list[LogRecord], cuts: list[int], restarts: set[int]
) -> None:
    """Cut at each record he is freed as soon as it may be, uncut not at all."""
    assert sorted(map(brief, emotions_of(cues_of(log)))) == expected(log)
    whole = by_session(cues_of(log))
    assert by_session(cues_of(log, range(len(log)))) == whole
    assert by_session(cues_of(log, cuts, 1, restarts)) == whole


def test_who_did_nothing_begins_anew_with_the_next_session_of_the_name() -> None:
    """Also where the end of the one and the beginning of the other come in one batch."""
    log = [
        said(VIEW, 0, page="product"),
        *keeper(10),
        said("session.ended", 10 * MINUTE, user="keeper"),
        said(VIEW, 10 * MINUTE + 1, page="help"),
        said("telemetry.click", 10 * MINUTE + 2, element="reviews"),
    ]
    assert not emotions_of(cues_of(log, range(len(log) - 2)))
    assert not emotions_of(cues_of(log, range(len(log))))


def test_under_other_rules_who_does_nothing_is_known_as_everybody_else(tmp_path: Path) -> None:
    other = tmp_path / "emotions.toml"
    other.write_text(f"{FILE.read_text(encoding='utf-8')}\n# changed\n", encoding="utf-8")
    log = [
        said("telemetry.scroll", 0, direction="up", velocity=1),
        said(VIEW, 1, page="product"),
        said("telemetry.checkout", 2, step="complete"),
        *keeper(4),
    ]
    again = Diagnosis.restore(read_rules(other), WINDOW, followed(log).snapshot())
    assert len(again._table.idle) == 1
    _, kept = again._table.idle.take(_keys(again))
    assert kept["settled"].all()
    assert kept["page"].all()
    assert not kept["turned"].any()


def _keys(diagnosis: Diagnosis) -> Any:
    return diagnosis._table.idle._columns["key"].copy()


def test_between_which_pages_one_went_is_kept_where_a_rule_may_ask_for_it_later(tmp_path: Path) -> None:
    """A rule about the same pages that asks for returns alone gets them with each return."""
    file = tmp_path / "emotions.toml"
    text = FILE.read_text(encoding="utf-8")
    file.write_text(text.replace('on = "returning"', 'on = ["returning", "click"]'), encoding="utf-8")
    back = Visitor("u", 1, place=1, before=2)
    assert Matcher(RULES).is_done_with(back, 10**9)
    assert not Matcher(read_rules(file)).is_done_with(back, 10**9)
    assert not Matcher(RULES).is_done_with(Visitor("u", 1, shown={0: 10**9 - 5_000}), 10**9)


NUMBERS = st.integers(0, 12)
STEPS = st.one_of(
    st.tuples(st.just("put"), st.lists(st.tuples(NUMBERS, st.integers(0, 2)), max_size=6)),
    st.tuples(st.just("take"), st.lists(NUMBERS, max_size=6, unique=True)),
    st.tuples(st.just("drop"), st.integers(0, 2)),
    st.tuples(st.just("again"), st.none()),
)


@given(st.lists(STEPS, max_size=20))
def test_the_idle_are_a_table_by_number(steps: list[tuple[str, Any]]) -> None:
    layout = Visitors(Roles(RULES)).LAYOUT
    idle, known = Idle(nobody(layout)), dict[int, tuple[int, int]]()
    value = 0
    for what, given_ in steps:
        if what == "put":
            new = {key: session for key, session in given_ if key not in known}
            value += 1
            known |= {key: (session, value) for key, session in new.items()}
            columns = {name: np.full((len(new), *column.shape[1:]), value, column.dtype)
                       for name, column in nobody(layout).items()}  # fmt: skip
            columns["key"] = np.array(list(new), np.uint64)
            columns["session"] = np.array(list(new.values()), np.int32)
            idle.put(columns)
        elif what == "take":
            found, kept = idle.take(np.array(given_, np.uint64))
            taken = [given_[i] for i in found.tolist()]
            assert taken == [key for key in given_ if key in known]
            assert [known.pop(key)[1] for key in taken] == (kept["page"].tolist() if kept else [])
        elif what == "drop":
            idle.drop(given_)
            known = {key: kept for key, kept in known.items() if kept[0] != given_}
        else:
            packed, idle = idle.packed(np.arange(3)), Idle(nobody(layout))
            idle.restore(packed, np.arange(3), same_rules=True)
        assert len(idle) == len(known)


def waiting(*rules: int, due: int = 100) -> Visitor:
    return Visitor("u", 1, waits={rule: [due, ["e"]] for rule in rules})


def test_alarms_of_those_who_are_gone_do_not_pile_up() -> None:
    """Nor do they ring: the next visitor of the name would have another alarm for each of them."""
    alarms = Alarms()
    for _ in range(1_000):
        gone = waiting(3, 5)
        alarms.set("t\0s", gone)
        alarms.forget(gone)
    assert len(alarms) < 100
    here = waiting(3, 7)
    alarms.set("t\0s", here)
    assert [(alarm.rule, alarm.visitor is here) for alarm in alarms.ring(100)] == [(3, True), (7, True)]
    assert not len(alarms)


@given(
    st.lists(st.tuples(st.sampled_from(["set", "forget", "ring"]), st.integers(0, 5), st.integers(0, 9)), max_size=60)
)
def test_every_wait_has_one_alarm(steps: list[tuple[str, int, int]]) -> None:
    alarms, visitors = Alarms(), [Visitor("u", number) for number in range(6)]
    for what, which, due in steps:
        visitor = visitors[which]
        if what == "set":
            visitor.waits.setdefault(due % 3, [due, []])
            alarms.set("k", visitor)
        elif what == "forget":
            alarms.forget(visitor)
            visitors[which] = Visitor("u", which)
        else:
            rung = list(alarms.ring(due))
            assert [alarm.due for alarm in rung] == sorted(alarm.due for alarm in rung)
            assert {(alarm.digest, alarm.rule) for alarm in rung} == {
                (other.digest, rule) for other in visitors for rule, wait in other.waits.items() if wait[0] <= due
            }
            for alarm in rung:
                assert alarm.visitor is visitors[alarm.digest]
                del alarm.visitor.waits[alarm.rule]


def test_sessions_of_a_name_that_end_again_and_again_leave_no_alarms() -> None:
    log = []
    for number in range(300):
        at = 10 * number
        log += [
            said("telemetry.cart", at, action="add"),
            said("telemetry.cart", at + 1, action="view"),
            said("session.ended", at + 2),
        ]
    diagnosis = followed(log)
    (stream,) = diagnosis._streams.values()
    assert len(stream.alarms) < 100
