"""Engagement rows a second into PostgreSQL: the sink, beside a bare COPY into the same table with the same indexes.

The COPY's bytes are ready-made; the sink gets encoded records, as from a flow, and decodes, checks, stages and upserts
them. All grow the same table in turn. By the wall clock, since most of the work is the server's.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from random import Random

import msgspec
import psycopg
from psycopg import sql

from bench import measure
from flows.local.postgres import local_postgres
from schemas.batches import Records
from schemas.outbound import Contributions, Engagement, Signals
from sinks.postgres import Limits, PostgresConfig, migrate
from sinks.postgres.inbox import divide
from sinks.postgres.rows import TABLES
from sinks.postgres.sink import PostgresPart
from sinks.postgres.statements import Statements

START = 1_790_000_000_000
TICK_MS = 5000
SESSIONS = 2500
"""Live sessions: a flow hands on one list of records a tick."""
TENANTS = 20

COPY, NEW, AGAIN, TWO, OTHER = (
    "bare COPY, bytes ready-made",
    "the sink, new rows",
    "the same rows again",
    "new rows over two connections",
    "other content for the same rows",
)


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench database", description=__doc__)
    options.add_argument("--rows", type=int, default=25_000, help="rows a round, for each way of writing")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--sizes", type=int, nargs="*", default=[100, 1000, 5000, 20_000], help="of batches")
    options.add_argument("--server", help="conninfo of an empty database to use, for example one with TimescaleDB")
    return options


def run(options: argparse.Namespace) -> None:
    """Print the tables."""
    with nullcontext(options.server) if options.server else local_postgres() as conninfo:
        migrate(conninfo)
        with psycopg.connect(conninfo) as connection:
            writing = Writing(conninfo, connection, options.rows)
            _show(writing, options.rounds)
            _show_sizes(writing, options.sizes, options.rounds)
            writing.check()


class Writing:
    """The ways of writing, and the table that all of them grow."""

    def __init__(self, conninfo: str, connection: psycopg.Connection, rows: int) -> None:
        self._conninfo = conninfo
        self._connection = connection
        self._sessions = min(rows, SESSIONS)
        self._ticks = max(1, rows // SESSIONS)
        self._next = 0
        self._statements = Statements(TABLES["engagement"])
        self.rows = self._ticks * self._sessions
        """How many each way writes in a round."""

    def fresh(self) -> list[Records]:
        """Return records that were never written, a list for each tick."""
        first, self._next = self._next, self._next + self._ticks
        return [ticks(self._sessions, number) for number in range(first, self._next)]

    def rounds(self, count: int) -> Iterator[tuple[str, float]]:
        """Write with each in turn; yields who, and the seconds it took."""
        with self.parts(1) as one, self.parts(2) as two:
            for _ in range(count):
                ready = self._copied(self.fresh())
                yield COPY, _timed(lambda: self._copy(ready))  # noqa: B023 - called at once
                records = self.fresh()
                yield NEW, _timed(lambda: sink(one, records))  # noqa: B023 - called at once
                yield AGAIN, _timed(lambda: sink(one, records))  # noqa: B023 - called at once
                more = self.fresh()
                yield TWO, _timed(lambda: sink(two, more))  # noqa: B023 - called at once
                changed = [_changed(batch) for batch in records]
                yield OTHER, _timed(lambda: sink(one, changed))  # noqa: B023 - called at once

    @contextmanager
    def parts(self, count: int, limits: Limits | None = None) -> Iterator[list[PostgresPart]]:
        """Yield parts of the sink, a connection each."""
        config = PostgresConfig(self._conninfo, limits=limits or Limits())
        parts = [PostgresPart(f"{number:04d}", config) for number in range(count)]
        sink(parts, self.fresh())  # connected
        yield parts
        for part in parts:
            part.close()

    def check(self) -> None:
        """Assert that every row is there once, and that a repeat leaves each where it lies."""
        query = "SELECT count(*), count(DISTINCT id), sum(hashtext(ctid::text)::bigint) FROM engagement_metrics"
        records = self.fresh()
        with self.parts(1) as parts:
            sink(parts, records)
            before = self._asked(query)
            sink(parts, records)
        assert self._asked(query) == before, "a repeat changes nothing"
        assert before[0] == before[1] == self._next * self._sessions, "every row is there once"

    def server(self) -> str:
        """Return what runs, and how large the table is now."""
        (version,) = self._asked("SHOW server_version")
        (timescale,) = self._asked("SELECT max(extversion) FROM pg_extension WHERE extname = 'timescaledb'")
        (rows,) = self._asked("SELECT count(*) FROM engagement_metrics")
        return f"PostgreSQL {version}{f' with TimescaleDB {timescale}' if timescale else ''}, {rows:,} rows in the end"

    def _asked(self, query: str) -> tuple[int, ...]:
        with self._connection.transaction():
            row = self._connection.execute(query.encode()).fetchone()
        assert row is not None
        return row

    def _copied(self, batches: list[Records]) -> list[bytes]:
        """Return the rows as COPY takes them, in parts as large as the sink's transactions; the server makes them."""
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in TABLES["engagement"].columns)
        out = sql.SQL("COPY (SELECT {} FROM attune_stage_engagement_metrics) TO STDOUT (FORMAT binary)").format(names)
        decode, row = msgspec.json.Decoder(Engagement).decode, TABLES["engagement"].row
        payloads = [payload for records in batches for payload in records.payloads]
        most = Limits().max_rows
        ready = []
        self._connection.execute(self._statements.stage)
        for start in range(0, len(payloads), most):
            with self._connection.cursor() as cursor:
                with cursor.copy(self._statements.copy) as copy:
                    copy.set_types(self._statements.types)
                    for payload in payloads[start : start + most]:
                        copy.write_row(row(decode(payload)))
                with cursor.copy(out) as copy:
                    ready.append(b"".join(map(bytes, copy)))
                cursor.execute(self._statements.clear)
        self._connection.rollback()
        return ready

    def _copy(self, ready: list[bytes]) -> None:
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in TABLES["engagement"].columns)
        into = sql.SQL("COPY engagement_metrics ({}) FROM STDIN (FORMAT binary)").format(names)
        for data in ready:
            with self._connection.transaction(), self._connection.cursor().copy(into) as copy:
                copy.write(data)


def sink(parts: list[PostgresPart], batches: list[Records]) -> None:
    """Hand all records over, to each part in turn, and wait until they are committed."""
    for number, records in enumerate(batches):
        parts[number % len(parts)].write_batch([records])
    for part in parts:
        part.snapshot()


def ticks(sessions: int, number: int) -> Records:
    """Return the engagement of all sessions at one tick, encoded."""
    random = Random(number)
    names = [(f"tenant-{n % TENANTS:02d}", f"session-{n * 7919:08d}") for n in range(sessions)]
    records = [_engagement(random, tenant, session, START + number * TICK_MS) for tenant, session in names]
    return Records(
        type="engagement",
        ids=[record.id for record in records],
        tenants=[record.tenant_id for record in records],
        sessions=[record.session_id for record in records],
        ts=[record.ts for record in records],
        payloads=[msgspec.json.encode(record) for record in records],
    )


def _engagement(random: Random, tenant: str, session: str, ts: int) -> Engagement:
    share = random.random
    return Engagement(
        id=f"{tenant}/{session}/{START}/engagement/{ts}",
        tenant_id=tenant,
        session_id=session,
        ts=ts,
        session_start=START,
        score=share(),
        category="MODERATE",
        signals=Signals(int(40 * share()), int(40 * share()), int(400 * share()), 12, share(), share(), share()),
        contributions=Contributions(share(), share(), share(), share(), -share()),
    )


def _changed(records: Records) -> Records:
    """Return records of the same ids that say something else."""
    return replace(records, payloads=[payload.replace(b'"MODERATE"', b'"HIGH"') for payload in records.payloads])


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _show(writing: Writing, rounds: int) -> None:
    taken: dict[str, list[float]] = {}
    for name, seconds in writing.rounds(rounds):
        taken.setdefault(name, []).append(seconds)
    best = [statistics.median(b / s for b, s in zip(taken[COPY], each, strict=True)) for each in taken.values()]
    measure.show(
        f"Engagement rows into the database, {rounds} rounds of {writing.rows:,} each, medians",
        ["who", "rows/s", "µs a row", "to the COPY of its round"],
        [
            [name, f"{writing.rows / second:,.0f}", f"{second / writing.rows * 1e6:.1f}", f"{ratio:.2f}"]
            for (name, second), ratio in zip(
                ((name, statistics.median(seconds)) for name, seconds in taken.items()), best, strict=True
            )
        ],
        f"{writing.server()}; batches of {Limits().max_rows:,}; the demo's server does not wait for the disk.",
    )


def _show_sizes(writing: Writing, sizes: list[int], rounds: int) -> None:
    rows = []
    for size in sizes:
        with writing.parts(1, Limits(max_rows=size)) as parts:
            taken = []
            for _ in range(max(1, rounds // 2)):
                records = [part for batch in writing.fresh() for part in divide(batch, size)]
                taken.append(_timed(lambda: sink(parts, records)))  # noqa: B023 - called at once
        seconds = statistics.median(taken)
        rows.append([f"{size:,}", f"{writing.rows / seconds:,.0f}", f"{seconds * size / writing.rows * 1e3:.1f}"])
    measure.show("By size of batch, new rows, one connection", ["rows a batch", "rows/s", "ms a batch"], rows)
