"""Limits by event day and week, in the tenant's zone; what is over is freed, and wrong dates don't help."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from operators.chat.answers import Answers, ChatConfig
from operators.chat.config import Policies
from operators.chat.limits import DAY_MS, Quotas, local_day, week_of
from operators.chat.routing import Used
from schemas.inbound import MAX_TS
from tests.operators.chat_events import CONFIG, HOUR, HUMAN, NOON, PHRASES, ask, letters, run


def test_limits_of_a_day_and_of_a_week() -> None:
    # Wednesday to Sunday, 12 requests a day, each in a conversation of its own: 10 a day, and Sunday's are 41 to 50.
    week = [ask(HUMAN, NOON + day * DAY_MS + i, conversation=f"{day}-{i}") for day in range(5) for i in range(12)]
    told = run(week)
    assert letters(told) == ("D" * 10 + "FF") * 5
    # On Monday a new week begins; with a limit of 35 a week Saturday ends after 5, and Sunday has none.
    monday = [ask(HUMAN, NOON + 5 * DAY_MS + i, conversation=f"m{i}") for i in range(11)]
    few = ChatConfig(Policies(overrides={"t": {"routing": {"limits": {"a_week": 35}}}}))
    assert letters(run([*week, *monday], few)) == ("D" * 10 + "FF") * 3 + "D" * 5 + "F" * 7 + "F" * 12 + "D" * 10 + "F"


def test_limits_are_of_a_user_and_an_agent() -> None:
    requests = [ask(HUMAN, NOON + i, conversation=str(i)) for i in range(10)]
    others = [
        ask(HUMAN, NOON + 20, conversation="x"),
        ask(HUMAN, NOON + 21, conversation="y", agent_id="b"),
        ask(HUMAN, NOON + 22, conversation="z", user="v"),
        ask(HUMAN, NOON + 23, conversation="w", tenant_id="tt"),
    ]
    assert letters(run([*requests, *others])) == "D" * 10 + "FDDD"


def test_the_day_begins_in_the_tenants_zone() -> None:
    # In Auckland (UTC+13 in March) the day changes at 11:00 UTC.
    eleven = NOON - HOUR
    requests = [ask(HUMAN, eleven - 1, conversation=f"a{i}") for i in range(11)]
    requests += [ask(HUMAN, eleven, conversation=f"b{i}") for i in range(11)]
    for zone, expected in (("Pacific/Auckland", "D" * 10 + "F" + "D" * 10 + "F"), ("UTC", "D" * 10 + "F" * 12)):
        config = ChatConfig(Policies(overrides={"t": {"routing": {"limits": {"zone": zone}}}}))
        assert letters(run(requests, config)) == expected


@given(
    st.integers(0, MAX_TS - 2 * DAY_MS), st.sampled_from(["UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia"])
)
def test_days_and_weeks_are_those_of_the_calendar(ts: int, zone: str) -> None:
    local = datetime.fromtimestamp(ts // 1000, ZoneInfo(zone)).date()
    day = local_day(ts // 1000 * 1000, zone)
    assert day == local.toordinal() - datetime(1970, 1, 1, tzinfo=UTC).toordinal()
    assert week_of(day) == (local.toordinal() - local.weekday() - datetime(1970, 1, 5, tzinfo=UTC).toordinal()) // 7


def test_the_end_of_time_has_a_day() -> None:
    assert local_day(MAX_TS, "Pacific/Kiritimati") >= MAX_TS // DAY_MS


def test_a_wrong_date_neither_holds_state_nor_slips_past_a_limit() -> None:
    answers = Answers(CONFIG, PHRASES)
    odd = [0, MAX_TS, NOON - 30 * DAY_MS, NOON + 400 * DAY_MS]
    told = []
    for i in range(14):
        event = ask(HUMAN, odd[i % 4], conversation=str(i), event_id=str(i))
        told += answers.feed(event, NOON + i)
    assert letters(told) == "D" * 10 + "FFFF"
    answers.advance(NOON + 14 * DAY_MS)
    assert len(answers._quotas) == 0


def test_a_straggler_of_last_week_counts_there_for_a_day() -> None:
    monday = week_of(NOON // DAY_MS) * 7 + 4 + 7  # the Monday after, counted from 1970
    answers = Answers(CONFIG, PHRASES)
    sunday_night = monday * DAY_MS - 1
    told = []
    for i in range(11):
        told += answers.feed(ask(HUMAN, sunday_night, conversation=str(i), event_id=str(i)), sunday_night)
    late = ask(HUMAN, sunday_night, conversation="late", event_id="late")
    told += answers.feed(late, sunday_night + 60_000)
    assert letters(told) == "D" * 10 + "FF"


def test_weeks_that_are_over_are_freed() -> None:
    quotas = Quotas()
    quotas.count("u", NOON // DAY_MS)
    sunday = NOON + 4 * DAY_MS
    quotas.free(sunday + 2 * DAY_MS)  # Tuesday: still Sunday somewhere two days ago
    assert quotas.used("u", NOON // DAY_MS) == Used(1, 1)
    quotas.free(sunday + 3 * DAY_MS)
    assert len(quotas) == 0
