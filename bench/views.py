"""How quickly every view for analysts answers for one tenant and one day, and whether its plan reads a whole raw table.

As an analyst, through the roles and the filter by tenant, over a generated day of ``bench.day``. The tenant is the
largest, and every row and column is asked for. A view has answered when the client has received the last row, in
PostgreSQL's binary format (``COPY (SELECT ...) TO STDOUT``; what comes is dropped). The first run, on cold caches, is
told beside the median of the others. Further columns are the server's own work, without writing rows out and sending
them; the same as text; and psycopg's ``fetchall``, which makes Python objects of them. The second table has questions
that people ask of the ticks themselves.
"""

import argparse
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, LiteralString

import psycopg
from psycopg import pq, sql
from psycopg.conninfo import make_conninfo

from bench.day import Day, load
from bench.measure import console, show
from flows.local.postgres import local_postgres
from sinks.postgres import migrate
from sinks.postgres.rows import TABLES

BOUND_MS = 300.0
"""What a view may take for one tenant and one day."""
CLOCKS = ("minute", "hour", "day", "raised_at", "felt_at", "ended_at", "ts")
"""A view's time column is the first of these that it has."""
BY_CATEGORY = "SELECT category, count(*) AS ticks, avg(score) AS score FROM ({}) AS rows GROUP BY category"
ONE_SESSION = (
    "SELECT * FROM ({}) AS rows WHERE session_id = (SELECT session_id FROM analytics.sessions "
    "WHERE tenant_id = {} ORDER BY users DESC LIMIT 1)"
)
TICKS = "engagement_metrics"
RAW = {table.name for table in TABLES.values()}


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser(prog="python -m bench views", description=__doc__)
    options.add_argument("--sessions", type=int, default=10_000)
    options.add_argument("--tenants", type=int, default=20)
    options.add_argument("--runs", type=int, default=9)
    options.add_argument("--columnstore", action="store_true", help="compress the day first (TimescaleDB)")
    options.add_argument("--url", help="a server of yours, where a database and a login are made and dropped")
    return options


def run(options: argparse.Namespace) -> None:
    """Load the day and ask every view."""
    day = Day(options.sessions, options.tenants)
    own = nullcontext(options.url) if options.url else local_postgres()
    with own as server, _database(server) as conninfo:
        migrate(conninfo)
        began = time.perf_counter()
        counts = load(conninfo, day)
        took = time.perf_counter() - began
        console.print(f"{sum(counts.values()):,} rows of {day.sessions:,} sessions loaded and summed in {took:.0f} s")
        if options.columnstore:
            _compress(conninfo)
        with _analyst(conninfo, "acme") as connection:
            asked = {view: question(view, clock, day) for view, clock in views(connection)}
            rows = [_asked(connection, view, query, options.runs) for view, query in asked.items()]
            ticks = {
                "mean score by category": sql.SQL(BY_CATEGORY).format(asked[TICKS]),
                "the largest session's ticks": sql.SQL(ONE_SESSION).format(asked[TICKS], sql.Literal(day.names()[0])),
            }
            also = [_asked(connection, what, query, options.runs) for what, query in ticks.items()]
            (buffers,) = connection.execute("SELECT current_setting('shared_buffers')").fetchall()
            version = connection.info.server_version // 10_000
    both = rows + also
    over = [row[0] for row in both if float(row[3]) >= BOUND_MS]
    whole = [f"{row[0]} ({row[-1]})" for row in both if row[-1]]
    columns = ["rows", "first ms", "median", "most", "server", "as text", "fetchall"]
    show(
        f"Views, one tenant and one day (PostgreSQL {version}, shared_buffers {buffers[0]})",
        ["view", *columns],
        [row[:-1] for row in rows],
    )
    show(
        f"Of the same day, asked of analytics.{TICKS}",
        ["question", *columns],
        [row[:-1] for row in also],
        f"over {BOUND_MS:.0f} ms: {', '.join(over) or 'none'}; reading a whole table: {', '.join(whole) or 'none'}",
    )


def views(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    """Return every view of the schema with its time column."""
    found = connection.execute(
        "SELECT relname::text, array_agg(attname::text) FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid "
        "WHERE relnamespace = 'analytics'::regnamespace AND relkind = 'v' AND attnum > 0 GROUP BY 1 ORDER BY 1"
    )
    return [(view, next(clock for clock in CLOCKS if clock in names)) for view, names in found]


def question(view: str, clock: str, day: Day) -> sql.Composed:
    """Return the query for the day's largest tenant."""
    begin = datetime.fromtimestamp(day.start / 1000, UTC)
    return sql.SQL("SELECT * FROM analytics.{} WHERE tenant_id = {} AND {} >= {} AND {} < {}").format(
        sql.Identifier(view),
        sql.Literal(day.names()[0]),
        sql.Identifier(clock),
        sql.Literal(begin.date() if clock == "day" else begin),
        sql.Identifier(clock),
        sql.Literal((begin + timedelta(days=1)).date() if clock == "day" else begin + timedelta(days=1)),
    )


def read_whole(connection: psycopg.Connection[Any], query: sql.Composed) -> set[str]:
    """Return the raw tables (and chunks of hypertables) that a query's plan means to read from end to end."""
    ((plan,),) = connection.execute(sql.SQL("EXPLAIN (FORMAT json) {}").format(query)).fetchall()
    return {node["Relation Name"] for node in _whole(plan[0]["Plan"])}


def _whole(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the scans of whole raw tables in a plan; without those that were left out as it ran, if it ran."""
    if node["Node Type"] == "Seq Scan" and node.get("Actual Loops") != 0:
        name = node["Relation Name"]
        if name in RAW or name.endswith("chunk"):
            yield node
    for inner in node.get("Plans", ()):
        yield from _whole(inner)


def _described(connection: psycopg.Connection[Any], name: str) -> str:
    """Return a table's name, a chunk's hypertable's, with its size."""
    told = connection.execute(
        "SELECT coalesce('a chunk of ' || parent.relname, own.relname), pg_size_pretty(pg_relation_size(own.oid)) "
        "FROM pg_class AS own LEFT JOIN pg_inherits ON inhrelid = own.oid "
        "LEFT JOIN pg_class AS parent ON parent.oid = inhparent WHERE own.relname = %s",
        [name],
    ).fetchone()
    return ", ".join(told or (name,))


def handed_over(connection: psycopg.Connection[Any], query: sql.Composed, form: LiteralString = "binary") -> int:
    """Receive all that a query gives, drop it, and return how many bytes came.

    By libpq's own calls: psycopg's loop over a COPY costs as much as what is to be measured.
    """
    copy = sql.SQL("COPY ({}) TO STDOUT (FORMAT {})").format(query, sql.SQL(form)).as_bytes(connection)
    started = connection.pgconn.exec_(copy)
    if started.status != pq.ExecStatus.COPY_OUT:
        raise RuntimeError(f"expected rows, got {started.error_message.decode()}")
    count = 0
    while (size := connection.pgconn.get_copy_data(0)[0]) > 0:
        count += size
    while ended := connection.pgconn.get_result():
        if ended.status != pq.ExecStatus.COMMAND_OK:
            raise RuntimeError(f"expected the end of the rows, got {ended.error_message.decode()}")
    return count


def _asked(connection: psycopg.Connection[Any], what: str, query: sql.Composed, runs: int) -> list[str]:
    first, *times = [_milliseconds(partial(handed_over, connection, query)) for _ in range(runs + 1)]
    text = [_milliseconds(partial(handed_over, connection, query, "text")) for _ in range(runs)]
    fetched = [_milliseconds(lambda: connection.execute(query).fetchall()) for _ in range(runs)]
    count = len(connection.execute(query).fetchall())
    ((plan,),) = connection.execute(sql.SQL("EXPLAIN (ANALYZE, TIMING off, FORMAT json) {}").format(query)).fetchall()
    whole = sorted({_described(connection, node["Relation Name"]) for node in _whole(plan[0]["Plan"])})
    numbers = [
        f"{first:.0f}",
        f"{statistics.median(times):.1f}",
        f"{max(times):.0f}",
        f"{plan[0]['Execution Time']:.1f}",
        f"{statistics.median(text):.1f}",
        f"{statistics.median(fetched):.1f}",
    ]
    return [what, f"{count:,}", *numbers, "; ".join(whole)]


def _milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _compress(conninfo: str) -> None:
    """Do at once what TimescaleDB does after ``database.columnstore_after_days``."""
    migrate(conninfo, settings={"columnstore_after_days": "36500"})
    with psycopg.connect(conninfo, autocommit=True) as owner:
        owner.execute(
            "SELECT compress_chunk(format('%I.%I', chunk_schema, chunk_name)) FROM timescaledb_information.chunks "
            "WHERE hypertable_name IN ('engagement_metrics', 'emotions', 'orchestrator_decisions')"
        )
        owner.execute("VACUUM ANALYZE")


@contextmanager
def _database(server: str) -> Iterator[str]:
    name = f"attune_bench_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        try:
            yield make_conninfo(server, dbname=name)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _analyst(conninfo: str, tenant: str) -> Iterator[psycopg.Connection[Any]]:
    """Give the connection of an analyst who may see one tenant."""
    login, password = f"attune_bench_{secrets.token_hex(6)}", secrets.token_hex(16)
    with psycopg.connect(conninfo, autocommit=True) as owner:
        owner.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(login), sql.Literal(password)))
        try:
            owner.execute("CALL attune_admit_analyst(%s, %s)", [login, tenant])
            with psycopg.connect(make_conninfo(conninfo, user=login, password=password)) as connection:
                yield connection
        finally:
            owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))
