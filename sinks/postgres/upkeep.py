"""What keeps a database in shape: sums brought up to date, old rows deleted, a person's or a tenant's rows erased.

The work is SQL (``deploy/sql/repeat_refresh.sql`` and ``repeat_erase.sql``) in steps, each a transaction of its own,
so that it may be broken off and run again. Where TimescaleDB is, its own jobs sum and delete; the same calls do it at
once.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import LiteralString

import psycopg

from schemas.errors import TransientError
from sinks.postgres.connection import Connection, connect
from sinks.postgres.faults import meaning

Progress = Callable[[float, float | None, str], None]
"""Told how much is done, of how much, and of what."""

SOURCES = {
    "engagement_minutes": "engagement_metrics",
    "engagement_hours": "engagement_metrics",
    "emotion_hours": "emotions",
    "intervention_hours": "interventions",
    "decision_hours": "orchestrator_decisions",
    "effect_days": "agent_performance",
}
"""What each rollup sums."""

RAW = (
    "engagement_metrics",
    "anomalies",
    "emotions",
    "interventions",
    "intervention_outcomes",
    "agent_performance",
    "orchestrator_decisions",
    "handoffs",
)
KEPT = {
    "sessions": "ts",
    "calibration": "ts",
    "engagement_minutes": "minute",
    "engagement_hours": "hour",
    "emotion_hours": "hour",
    "intervention_hours": "hour",
    "decision_hours": "hour",
    "effect_days": "day",
}
"""What is kept as long as rollups, and its time column: nothing in it names a person."""

STEP = 50
"""Hours of tenants that are summed in one transaction."""

LOCK = 0x61747475_6E66
"""The advisory lock of which there is one for each database, beside that of migrate."""

PATIENCE_S = 600.0
"""How long a retain or an erasure waits for a refresh to end, and all three for a job of TimescaleDB's; a refresh that
finds another of ours leaves the work to it."""


@dataclass(frozen=True)
class Touched:
    """How many rows of a table an erasure removed and changed."""

    table: str
    removed: int
    changed: int


def refresh(conninfo: str, progress: Progress = lambda *_: None) -> int:
    """Bring the rollups up to date with what has changed since the last time; return how many steps that took.

    A step is a tenant's hour of one table, or where TimescaleDB is, a rollup. Raises TransientError when another
    refresh is at work.
    """
    with _working(conninfo, "refreshing") as connection:
        return _refresh(connection, progress)


def retain(
    conninfo: str, raw_days: int | None, rollup_days: int | None, progress: Progress = lambda *_: None
) -> dict[str, int]:
    """Delete what is older than so many days, None: nothing; return how many rows of each table, or chunks of it.

    Sums are brought up to date before, and keep what is deleted. Days end at midnight UTC. Of a hypertable only whole
    chunks go.
    """
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    plan: list[tuple[str, str, datetime]] = []
    if raw_days is not None:
        since = today - timedelta(days=raw_days)
        plan += [(table, "ts", since) for table in RAW]
        plan.append(("dead_letters", "stored_at", since))
    if rollup_days is not None:
        plan += [(table, clock, today - timedelta(days=rollup_days)) for table, clock in KEPT.items()]
    gone: dict[str, int] = {}
    with _working(conninfo, "retaining", PATIENCE_S) as connection:
        _refresh(connection, progress)
        if raw_days is not None:
            connection.execute("SELECT attune_move_horizon(%s)", [today - timedelta(days=raw_days)])
        chunked = _chunked(connection)
        for done, (table, clock, since) in enumerate(plan):
            progress(done, len(plan), f"{table} before {since:%Y-%m-%d}")
            if table in chunked:
                gone[table] = _drop_chunks(connection, table, since)
                continue
            gone[table] = 0
            while (rows := _expire_some(connection, table, clock, since)) is not None:
                gone[table] += rows
                progress(done, len(plan), f"{table} before {since:%Y-%m-%d}, {gone[table]} rows")
    return {table: rows for table, rows in gone.items() if rows}


def erase_tenant(conninfo: str, tenant: str, *, dry_run: bool = False) -> list[Touched]:
    """Delete all that is a tenant's, in one transaction; a second time there is nothing left to touch."""
    return _erase(conninfo, "SELECT * FROM attune_erase_tenant(%s)", (tenant,), dry_run)


def erase_person(
    conninfo: str, tenant: str, person: str, *, pseudonymise: bool = False, dry_run: bool = False
) -> list[Touched]:
    """Delete all that is about a person of a tenant, or give it a stranger's name, in one transaction.

    The sums that held it are brought up to date afterwards.
    """
    values = (tenant, person, pseudonymise)
    return _erase(conninfo, "SELECT * FROM attune_erase_person(%s, %s, %s)", values, dry_run)


def _erase(conninfo: str, call: str, values: tuple[str | bool, ...], dry_run: bool) -> list[Touched]:
    with _working(conninfo, "erasing", PATIENCE_S) as connection:
        with connection.transaction(force_rollback=dry_run):
            rows = connection.execute(call.encode(), values).fetchall()
        if not dry_run:
            _refresh(connection, lambda *_: None)
    total: dict[str, tuple[int, int]] = {}
    for table, removed, changed in rows:
        before = total.get(table, (0, 0))
        total[table] = (before[0] + removed, before[1] + changed)
    return [Touched(table, *counts) for table, counts in total.items() if any(counts)]


@contextmanager
def _working(conninfo: str, doing: str, wait_s: float = 0.0) -> Iterator[Connection]:
    """Give a connection that nobody else works beside; errors say what was being done.

    Raises TransientError when another holds the database for longer than ``wait_s``.
    """
    deadline = time.monotonic() + wait_s
    connection = connect(conninfo, statement_timeout_s=None, autocommit=True)
    try:
        while connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone() != (True,):
            if time.monotonic() >= deadline:
                raise TransientError(f"{doing}: another refresh, retain or erase is at work on this database")
            time.sleep(0.1)
        yield connection
        # Said, because the server may notice only after the next one has asked that a connection was closed.
        connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    except psycopg.Error as error:
        raise meaning(error, doing) from error
    finally:
        connection.close()


def _chunked(connection: Connection) -> dict[str, datetime | None]:
    """Return the hypertables with the beginning of their oldest chunk, and the continuous aggregates."""
    if connection.execute("SELECT to_regclass('timescaledb_information.hypertables') IS NULL").fetchone() == (True,):
        return {}
    rows = connection.execute(
        "SELECT known.hypertable_name::text, min(chunk.range_start) FROM timescaledb_information.hypertables AS known "
        "LEFT JOIN timescaledb_information.chunks AS chunk USING (hypertable_schema, hypertable_name) "
        "WHERE known.hypertable_schema = current_schema() GROUP BY 1 UNION ALL SELECT view_name::text, NULL "
        "FROM timescaledb_information.continuous_aggregates WHERE view_schema = current_schema()"
    )
    return dict(rows.fetchall())


def _refresh(connection: Connection, progress: Progress) -> int:
    chunked = _chunked(connection)
    if "engagement_minutes" in chunked:
        for done, (rollup, source) in enumerate(SOURCES.items()):
            progress(done, len(SOURCES), rollup)
            if chunked[source] is None:
                continue
            # From the oldest row that is there: what was before has been deleted, and is to stay in the sums.
            _refresh_aggregate(connection, rollup, chunked[source])
        return len(SOURCES)
    connection.execute("CALL attune_claim_changes()")
    row = connection.execute("SELECT count(*) FROM rollup_claims").fetchone()
    total = left = int(row[0]) if row else 0
    while left:
        progress(total - left, total, "hours of tenants")
        row = connection.execute("SELECT attune_refresh_some(%s)", [STEP]).fetchone()
        left = int(row[0]) if row else 0
    return total


def _refresh_aggregate(connection: Connection, rollup: str, since: datetime | None) -> None:
    """Refresh a continuous aggregate; wait while a job of TimescaleDB's does so: that is refused, not queued."""
    call: LiteralString = "CALL refresh_continuous_aggregate(%s::regclass, %s::timestamptz, NULL)"
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection.execute(call, [rollup, since])
        except psycopg.errors.LockNotAvailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.1)
        else:
            return


def _expire_some(connection: Connection, table: str, clock: str, since: datetime) -> int | None:
    row = connection.execute("SELECT attune_expire_some(%s::regclass, %s, %s)", [table, clock, since]).fetchone()
    return None if row is None or row[0] is None else int(row[0])


def _drop_chunks(connection: Connection, table: str, since: datetime) -> int:
    """Drop the chunks that lie before a time, and return how many there were."""
    return len(connection.execute("SELECT drop_chunks(%s::regclass, older_than => %s)", [table, since]).fetchall())
