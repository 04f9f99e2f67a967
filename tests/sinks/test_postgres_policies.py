"""What TimescaleDB is told to delete and to compress: as the settings say, and nothing that is there without a word."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg
import pytest
from typer.testing import CliRunner

from flows.cli import app
from sinks.postgres import Writer, migrate, refresh
from sinks.postgres.upkeep import RAW
from tests.fix_postgres import ask, batch_of, do
from tests.postgres_records import engagement

DAY = 86_400_000
DEFAULTS = {"raw_retention_days": "30", "rollup_retention_days": "730", "columnstore_after_days": "7"}
AGES = (0, 40, 50, 60)
"""Of rows, in days."""
HELD = (
    "nothing is deleted from the tables above: either set the days they are to be kept, or off, "
    "or run attune db migrate --delete-old"
)


def ages(conninfo: str, kind: str) -> dict[str, int]:
    """Return the days of every policy of a kind, by table or rollup."""
    query = (
        "SELECT coalesce(view_name, job.hypertable_name)::text, "
        "extract(epoch FROM (config ->> %s)::interval)::int / 86400 "
        "FROM timescaledb_information.jobs AS job LEFT JOIN timescaledb_information.continuous_aggregates AS sums "
        "ON materialization_hypertable_name = job.hypertable_name WHERE config ? %s AND job.hypertable_name IS NOT NULL"
    )
    return dict(ask(conninfo, query, kind, kind))


def told(conninfo: str, **settings: str) -> list[str]:
    """Migrate by some settings, beside the defaults, and return what is said."""
    lines: list[str] = []
    migrate(conninfo, report=lines.append, settings=DEFAULTS | settings)
    return lines


def count(conninfo: str) -> int:
    return int(ask(conninfo, "SELECT count(*)::int FROM engagement_metrics")[0][0])


@pytest.fixture
def aged(timescale_db: str) -> str:
    """Return a database with a row of today and rows of 40, 50 and 60 days ago, and no policy yet."""
    now = int(datetime.now(UTC).timestamp() * 1000)
    writer = Writer(timescale_db)
    writer.write([batch_of([engagement(n, id=f"e/{n}", ts=now - days * DAY) for n, days in enumerate(AGES)])])
    writer.close()
    return timescale_db


def test_a_new_database_has_the_policies_of_the_settings(timescale_db: str) -> None:
    assert told(timescale_db) == []
    kept = ages(timescale_db, "drop_after")
    assert {name: days for name, days in kept.items() if days == 30} == dict.fromkeys(RAW, 30)
    assert set(kept.values()) == {30, 730}
    assert set(ages(timescale_db, "compress_after").values()) == {7}
    assert set(ages(timescale_db, "start_offset").values()) == {29, 23}
    assert told(timescale_db) == []
    lines = told(timescale_db, raw_retention_days="off", columnstore_after_days="off")
    assert "emotions: the policy drop_after 30 days is removed: the setting is off" in lines
    assert len(lines) == len(RAW) + 3
    assert set(ages(timescale_db, "drop_after").values()) == {730}
    assert ages(timescale_db, "compress_after") == {}
    assert set(ages(timescale_db, "start_offset").values()) == {None}


def test_old_rows_are_told_of_and_stay(aged: str) -> None:
    for _ in range(2):
        first, last = told(aged)
        assert first.startswith("engagement_metrics: 3 chunks, of ")
        assert first.endswith(
            " are older than 30 days and are kept: the table has no policy, nothing of it will be deleted"
        )
        assert last == HELD
    kept = ages(aged, "drop_after")
    assert "engagement_metrics" not in kept
    assert kept["emotions"] == 30, "it has no old rows"
    assert ages(aged, "start_offset")["engagement_minutes"] is None, "rows of any age are summed"
    assert ages(aged, "start_offset")["emotion_hours"] == 29


def test_days_that_hold_the_old_rows_are_no_reason_to_tell(aged: str) -> None:
    assert told(aged, raw_retention_days="70") == []
    assert ages(aged, "drop_after")["engagement_metrics"] == 70
    first, last = told(aged, raw_retention_days="45")
    assert first.startswith("engagement_metrics: 2 chunks, of ")
    assert first.endswith(" are older than 45 days and are kept: its policy stays as it was, 70 days")
    assert last == HELD
    kept = ages(aged, "drop_after")
    assert (kept["engagement_metrics"], kept["emotions"]) == (70, 45)
    assert ages(aged, "start_offset")["engagement_minutes"] == 69, "as far back as its rows are kept"
    one, _ = told(aged, raw_retention_days="55")
    assert one.startswith("engagement_metrics: 1 chunk, of ")
    assert " is older than 55 days and is kept: " in one


def test_the_flag_sums_old_rows_and_lets_them_go(aged: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTUNE_DATABASE__URL", aged)
    runner = CliRunner()
    held = runner.invoke(app, ["db", "migrate"])
    assert held.exit_code == 0
    assert HELD in held.stderr
    done = runner.invoke(app, ["db", "migrate", "--delete-old"])
    assert done.exit_code == 0, done.stderr
    assert "engagement_metrics: 3 chunks, of " in done.stderr
    assert " are older than 30 days and will be deleted within minutes" in done.stderr
    assert HELD not in done.stderr
    assert ages(aged, "drop_after")["engagement_metrics"] == 30
    assert ages(aged, "start_offset")["engagement_minutes"] == 29
    (job,) = ask(
        aged,
        "SELECT job_id FROM timescaledb_information.jobs "
        "WHERE hypertable_name = 'engagement_metrics' AND config ->> 'drop_after' IS NOT NULL",
    )
    do(aged, f"CALL run_job({job[0]})")
    until = time.monotonic() + 30
    while count(aged) != 1 and time.monotonic() < until:  # the server's own run may have been quicker
        time.sleep(0.1)
    assert count(aged) == 1
    assert ask(aged, "SELECT sum(ticks)::int FROM engagement_minutes") == [(4,)]
    assert told(aged) == []


def test_since_when_rows_are_kept_is_what_policies_say_and_said(timescale_db: str) -> None:
    """What a policy has deleted is not there again when the policy has more days, or is gone."""

    def days(table: str) -> int | None:
        query = "SELECT round(extract(epoch FROM now() - nullif(analytics.kept_since(%s), '-infinity')) / 86400)::int"
        return ask(timescale_db, query, table)[0][0]  # type: ignore[no-any-return]

    assert days("emotions") is None
    told(timescale_db, raw_retention_days="40")
    assert (days("emotions"), days("sessions")) == (40, 730)
    told(timescale_db, raw_retention_days="20")
    assert days("emotions") == 20
    told(timescale_db, raw_retention_days="60")
    assert days("emotions") == 20
    told(timescale_db, raw_retention_days="off")
    assert days("emotions") == 20
    told(timescale_db, raw_retention_days="10")
    assert days("emotions") == 10


def test_a_refresh_waits_for_a_job_that_refreshes(aged: str) -> None:
    (table,) = ask(
        aged,
        "SELECT materialization_hypertable_schema || '.' || materialization_hypertable_name "
        "FROM timescaledb_information.continuous_aggregates WHERE view_name = 'engagement_minutes'",
    )[0]
    job = "CALL refresh_continuous_aggregate('engagement_minutes', NULL, NULL)"
    with ThreadPoolExecutor() as pool, psycopg.connect(aged) as gate:
        gate.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())  # so that the job stands in the middle
        working = pool.submit(do, aged, job)
        time.sleep(1)
        waiting = pool.submit(refresh, aged)
        time.sleep(1)
        assert not working.done()
        assert not waiting.done(), waiting.exception()
        gate.rollback()
        working.result(60)
        assert waiting.result(60) == 6
    assert ask(aged, "SELECT sum(ticks)::int FROM engagement_minutes") == [(4,)]
