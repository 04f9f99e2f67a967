"""How quickly every view for analysts answers for one tenant and one day, and whether its plan reads a whole raw table.

As an analyst, through the roles and the filter by tenant, over a generated day of ``bench.day``. The tenant is the
largest. Each query fetches all rows; the first run, on cold caches, is told beside the median of the others, and the
server's own time without the way of the rows to the client.
"""

import argparse
import secrets
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql
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
RAW = {table.name for table in TABLES.values()}


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    options = argparse.ArgumentParser(prog="python -m bench views", description=__doc__)
    options.add_argument("--sessions", type=int, default=10_000)
    options.add_argument("--tenants", type=int, default=20)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--url", help="a server of yours, where a database and a login are made and dropped")
    return options


def run(options: argparse.Namespace) -> None:
    """Load the day and ask every view."""
    day = Day(options.sessions, options.tenants)
    with nullcontext(options.url) if options.url else local_postgres() as server, _database(server) as conninfo:
        migrate(conninfo)
        began = time.perf_counter()
        counts = load(conninfo, day)
        took = time.perf_counter() - began
        console.print(f"{sum(counts.values()):,} rows of {day.sessions:,} sessions loaded and summed in {took:.0f} s")
        with _analyst(conninfo, "acme") as connection:
            rows = [_asked(connection, view, clock, day, options.runs) for view, clock in views(connection)]
        version = psycopg.connect(conninfo).info.server_version
    over = [row[0] for row in rows if float(row[3]) >= BOUND_MS]
    scanning = [row[0] for row in rows if row[-1] != "-"]
    show(
        f"Views, one tenant and one day (PostgreSQL {version // 10000})",
        ["view", "rows", "first ms", "median ms", "most ms", "server ms", "reads whole"],
        rows,
        f"over {BOUND_MS:.0f} ms: {', '.join(over) or 'none'}; reading a whole table: {', '.join(scanning) or 'none'}",
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
    """Return the raw tables (and chunks of hypertables) that a query's plan scans from end to end."""
    ((plan,),) = connection.execute(sql.SQL("EXPLAIN (FORMAT json) {}").format(query)).fetchall()
    return {
        node["Relation Name"]
        for node in _nodes(plan[0]["Plan"])
        if node["Node Type"] == "Seq Scan" and (node["Relation Name"] in RAW or node["Relation Name"].endswith("chunk"))
    }


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _asked(connection: psycopg.Connection[Any], view: str, clock: str, day: Day, runs: int) -> list[str]:
    query = question(view, clock, day)
    whole = read_whole(connection, query)
    times = []
    count = 0
    for _ in range(runs + 1):
        began = time.perf_counter()
        count = len(connection.execute(query).fetchall())
        times.append((time.perf_counter() - began) * 1000)
    first, *others = times
    ((plan,),) = connection.execute(sql.SQL("EXPLAIN (ANALYZE, TIMING off, FORMAT json) {}").format(query)).fetchall()
    numbers = [
        f"{first:.0f}",
        f"{statistics.median(others):.1f}",
        f"{max(others):.0f}",
        f"{plan[0]['Execution Time']:.1f}",
    ]
    return [view, f"{count:,}", *numbers, ", ".join(sorted(whole)) or "-"]


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
