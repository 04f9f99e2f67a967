"""Sums by minute, hour and day are those of the rows, however these came, changed and went."""

import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import psycopg
import pytest

from bench.day import START
from schemas.errors import TransientError
from schemas.outbound import Engagement
from sinks.postgres import Writer, migrate, refresh, retain
from sinks.postgres.upkeep import LOCK, SOURCES
from tests.fix_postgres import ask, batch_of, do
from tests.fix_views import DAY, Filled
from tests.postgres_records import engagement

MINUTE, HOUR = 60_000, 3_600_000


def when(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def expected(bucket: int, rows: list[Engagement]) -> dict[Any, Any]:
    """Return ticks, sum, least and highest score of each session and bucket."""
    scores = defaultdict(list)
    for row in rows:
        scores[row.tenant_id, row.session_id, when(row.ts // bucket * bucket)].append(row.score)
    return {key: (len(of), pytest.approx(sum(of)), min(of), max(of)) for key, of in scores.items()}


def found(db: str, table: str, clock: str) -> dict[Any, Any]:
    query = f"SELECT tenant_id, session_id, {clock}, ticks, score_sum, score_min, score_max FROM {table}"
    return {row[:3]: row[3:] for row in ask(db, query)}


def test_engagement_is_summed_by_minute_and_hour(day: Filled) -> None:
    rows = [record for record in DAY.records() if isinstance(record, Engagement)]
    assert found(day.owner, "engagement_minutes", "minute") == expected(MINUTE, rows)
    assert found(day.owner, "engagement_hours", "hour") == expected(HOUR, rows)


COUNTS = {
    "emotion_hours": ("sum(emotions)", "count(*)", "emotions"),
    "intervention_hours": ("sum(changes)", "count(*)", "interventions"),
    "decision_hours": ("sum(answers)", "count(*)", "orchestrator_decisions"),
    "effect_days": ("sum(effects)", "count(*)", "agent_performance"),
}
SUMS = {
    "emotion_hours": ("sum(confidence_sum)", "sum(confidence)", "emotions"),
    "intervention_hours": ("sum(decisions)", "count(*) FILTER (WHERE revision = 0)", "interventions"),
    "decision_hours": ("sum(confidence_sum)", "sum(confidence)", "orchestrator_decisions"),
    "effect_days": ("sum(reward_squares)", "sum(reward * reward)", "agent_performance"),
}


@pytest.mark.parametrize("rollup", COUNTS)
def test_the_others_add_up_to_the_rows(day: Filled, rollup: str) -> None:
    clock = "day" if rollup == "effect_days" else "hour"
    for mine, theirs, source in (COUNTS[rollup], SUMS[rollup]):
        bucket = f"date_bin('1 {clock}', ts, '2000-01-01 00:00+00')"
        sums = ask(day.owner, f"SELECT tenant_id, {clock}, {mine}::float8 FROM {rollup} GROUP BY 1, 2 ORDER BY 1, 2")
        rows = ask(day.owner, f"SELECT tenant_id, {bucket}, {theirs}::float8 FROM {source} GROUP BY 1, 2 ORDER BY 1, 2")
        assert [row[:2] for row in sums] == [row[:2] for row in rows]
        assert [row[2] for row in sums] == pytest.approx([row[2] for row in rows])


def state(db: str) -> list[Any]:
    """Return all sums; the last bits of a sum depend on the order of its parts."""
    rows = ([*row] for rollup in SOURCES for row in sorted(ask(db, f"TABLE {rollup}")))
    return [[round(value, 9) if isinstance(value, float) else value for value in row] for row in rows]


def test_a_second_refresh_changes_nothing(own_day: Filled) -> None:
    before = state(own_day.owner)
    steps = refresh(own_day.owner)
    assert state(own_day.owner) == before
    assert own_day.timescale or steps == 0


def test_rows_that_come_late_change_or_go_are_summed_again_and_nothing_else_is(own_day: Filled) -> None:
    db = own_day.owner
    rows = [record for record in DAY.records() if isinstance(record, Engagement)]
    new = msgspec.structs.replace(rows[0], id="late", ts=rows[0].ts + 1, score=1.0)
    changed = msgspec.structs.replace(rows[500], score=0.125)
    gone = rows[-1]
    writer = Writer(db)
    writer.write([batch_of([new, changed])])
    writer.close()
    do(db, f"DELETE FROM engagement_metrics WHERE id = '{gone.id}'")
    touched = {(row.tenant_id, row.ts // HOUR) for row in (new, changed, gone)}
    steps = refresh(db)
    assert own_day.timescale or steps == len(touched)
    now = [row for row in rows if row.id not in (changed.id, gone.id)] + [new, changed]
    assert found(db, "engagement_minutes", "minute") == expected(MINUTE, now)
    assert found(db, "engagement_hours", "hour") == expected(HOUR, now)


def test_writers_and_refreshes_at_once_lose_nothing(db: str) -> None:
    if ask(db, "SELECT FROM pg_extension WHERE extname = 'timescaledb'"):
        pytest.skip("optional: continuous aggregates keep their own books")
    done = threading.Event()

    def write(part: int) -> list[Engagement]:
        writer, rows = Writer(db), []
        for number in range(40):
            batch = [engagement(n, id=f"{part}/{n}", score=0.5) for n in range(number * 50, number * 50 + 50)]
            writer.write([batch_of(batch)])
            rows += batch
        writer.close()
        return rows

    def keep_refreshing() -> None:
        while not done.is_set():
            refresh(db)

    with ThreadPoolExecutor() as pool:
        refreshing = pool.submit(keep_refreshing)
        try:
            rows = [row for part in pool.map(write, range(3)) for row in part]
        finally:
            done.set()
        refreshing.result()
    refresh(db)
    assert found(db, "engagement_minutes", "minute") == expected(MINUTE, rows)
    assert ask(db, "SELECT count(*) FROM rollup_changes") == [(0,)]


def test_what_a_broken_refresh_had_claimed_is_done_by_the_next(own_day: Filled) -> None:
    if own_day.timescale:
        pytest.skip("optional: continuous aggregates keep their own books")
    before = state(own_day.owner)
    do(
        own_day.owner,
        "UPDATE engagement_metrics SET score = score",
        "CALL attune_claim_changes()",
        "DELETE FROM engagement_minutes",
    )
    assert refresh(own_day.owner) > 0
    assert state(own_day.owner) == before


def test_one_refresh_at_a_time(db: str) -> None:
    with psycopg.connect(db) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        with pytest.raises(TransientError, match="another refresh, retain or erase is at work"):
            refresh(db)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(retain, db, None, None)
            time.sleep(0.3)
            assert not waiting.done()
            other.close()
            assert waiting.result(60) == {}
    refresh(db)


def test_rows_go_by_age_and_their_sums_stay(own_day: Filled) -> None:
    db = own_day.owner
    age = (datetime.now(UTC) - when(START)).days
    before = state(db)
    assert retain(db, age + 2, age + 10) == {}, "nothing is that old"
    gone = retain(db, 10, age + 10)
    assert {"engagement_metrics", "emotions", "handoffs"} <= set(gone)
    assert "sessions" not in gone
    assert "dead_letters" not in gone, "stored today"
    assert ask(db, "SELECT count(*) FROM emotions") == [(0,)]
    assert state(db) == before
    assert retain(db, 10, age + 10) == {}
    late = engagement(1, ts=START + HOUR * 20, tenant_id="acme", session_id="s-late")
    writer = Writer(db)
    writer.write([batch_of([late])])
    writer.close()
    refresh(db)
    if not own_day.timescale:
        assert state(db) == before, "an hour whose rows have gone is not summed from what is left"
    do(db, "UPDATE dead_letters SET stored_at = now() - interval '11 days'")
    assert "dead_letters" in retain(db, 10, age + 10)
    assert "engagement_minutes" in retain(db, 10, 10)
    assert ask(db, "SELECT count(*) FROM effect_days") == [(0,)]


FACTS = ("anomalies", "emotions", "interventions", "fired", "suppressed", "conversions", "answers", "handed_over")


def facts(day: Filled, clock: str = "true") -> tuple[Any, ...]:
    """Return how many sessions there are, of how many each fact is known, and the users."""
    known = ", ".join(f"count({name})" for name in FACTS)
    return ask(day.analyst, f"SELECT count(*), {known}, sum(users) FROM analytics.session_facts WHERE {clock}")[0]


def test_facts_whose_rows_have_gone_are_unknown(own_day: Filled) -> None:
    sessions, *known, users = facts(own_day)
    assert known == [sessions] * len(FACTS)
    age = (datetime.now(UTC) - when(START)).days
    retain(own_day.owner, age - 60, None)
    assert facts(own_day) == (sessions, *[0] * len(FACTS), users)


def test_facts_of_sessions_that_began_before_rows_are_kept_are_unknown(own_day: Filled) -> None:
    noon = f"'{when(START + 18 * HOUR)}'"
    do(own_day.owner, f"SELECT attune_move_horizon({noon})")
    before, after = (facts(own_day, f"session_start {sign} {noon}") for sign in ("<", ">="))
    assert before[0] > 0
    assert set(before[1:-1]) == {0}
    assert after[0] > 0
    assert set(after[1:-1]) == {after[0]}


def test_facts_are_unknown_as_a_policy_deletes(own_day: Filled) -> None:
    if not own_day.timescale:
        pytest.skip("optional: policies are TimescaleDB's")
    sessions, *_, users = facts(own_day)
    migrate(own_day.owner, settings={"raw_retention_days": "30", "delete_old": "on"})
    assert facts(own_day) == (sessions, *[0] * len(FACTS), users)


def test_young_rows_stay(db: str) -> None:
    writer = Writer(db)
    now = int(datetime.now(UTC).timestamp() * 1000)
    days = [now - int(timedelta(days=days).total_seconds() * 1000) for days in (1, 9, 10, 12, 40)]
    writer.write([batch_of([engagement(n, id=f"e{n}", ts=ts) for n, ts in enumerate(days)])])
    writer.close()
    retain(db, 10, None)
    kept = {ident for (ident,) in ask(db, "SELECT id FROM engagement_metrics")}
    assert {"e0", "e1", "e2"} <= kept
    assert "e4" not in kept
