"""What only a server with TimescaleDB can show: rows move into chunks, and stay reachable in every state of them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from shutil import copy

import msgspec
import pytest

from schemas.outbound import Record
from sinks.postgres import Writer, migrate, preflight
from sinks.postgres.migrations import FOLDER, read
from sinks.postgres.retry import until_done
from sinks.postgres.rows import TABLES
from tests.fix_postgres import ask, batch_of, do
from tests.postgres_records import START, decision, engagement, intervention

DAY = 86_400_000
HYPERTABLES = {table.name for table in TABLES.values()} - {"dead_letters"}


def spread(count: int, **changes: object) -> list[Record]:
    """Return engagement records over five days, as many for each."""
    rows = [engagement(n, id=f"spread/{n}", ts=START + n % 5 * DAY + n) for n in range(count)]
    return [msgspec.structs.replace(row, **changes) for row in rows]


def hypertables(conninfo: str) -> dict[str, int]:
    """Return the number of chunks of every hypertable."""
    query = "SELECT hypertable_name::text, num_chunks FROM timescaledb_information.hypertables"
    return dict(ask(conninfo, query))


def outside_chunks(conninfo: str) -> int:
    """Return how many rows lie in a hypertable itself, where no query of TimescaleDB's may leave any."""
    return sum(len(ask(conninfo, f"TABLE ONLY {name}")) for name in HYPERTABLES)


@pytest.fixture
def plain_db(empty_timescale_db: str, tmp_path: Path) -> str:
    """Return a database with ordinary tables, to which the server would give TimescaleDB."""
    for migration in read(FOLDER):
        copy(migration.path, tmp_path)
    migrate(empty_timescale_db, tmp_path)
    do(empty_timescale_db, "DROP EXTENSION timescaledb")
    return empty_timescale_db


@pytest.fixture
def writer(plain_db: str) -> Iterator[Writer]:
    """Yield a writer that connected before the extension was there."""
    writer = Writer(plain_db)
    writer.connect()
    yield writer
    writer.close()


def test_the_tables_and_the_width_of_their_chunks(timescale_db: str) -> None:
    found = ask(
        timescale_db,
        "SELECT hypertable_name::text, column_name::text, extract(day FROM time_interval)::int "
        "FROM timescaledb_information.dimensions WHERE hypertable_name = ANY (%s)",
        [*HYPERTABLES],
    )
    assert {column for _, column, _ in found} == {"ts"}
    widths = {name: days for name, _, days in found}
    assert set(widths) == set(hypertables(timescale_db)) == HYPERTABLES
    assert {name for name, days in widths.items() if days == 1} == {"engagement_metrics", "emotions"}
    assert {name for name, days in widths.items() if days == 30} == {"sessions", "handoffs", "calibration"}
    assert set(widths.values()) == {1, 7, 30}


def test_rows_go_into_chunks_and_repeats_overwrite_there(timescale_db: str) -> None:
    writer = Writer(timescale_db)
    writer.write([batch_of(spread(50))])
    assert writer.write([batch_of(spread(50, score=0.5))]).total == 50
    writer.close()
    assert ask(timescale_db, "SELECT count(*), min(score) FROM engagement_metrics") == [(50, 0.5)]
    assert hypertables(timescale_db)["engagement_metrics"] == 5
    assert outside_chunks(timescale_db) == 0


def test_rows_from_before_the_extension_move_into_chunks(plain_db: str, writer: Writer) -> None:
    ledger = [intervention(0, "pending"), intervention(1, "fired")]
    writer.write([batch_of(spread(50)), batch_of(ledger), batch_of([decision(1, "fine"), decision(2, "\0")])])
    tables = ("engagement_metrics", "interventions", "orchestrator_decisions", "dead_letters")
    before = [ask(plain_db, f"TABLE {name} ORDER BY id, ts") for name in tables]

    lines: list[str] = []
    assert migrate(plain_db, report=lines.append) == [], "no numbered file"
    assert "table engagement_metrics is a hypertable now, with chunks of 1 day" in lines
    preflight(plain_db)

    assert [ask(plain_db, f"TABLE {name} ORDER BY id, ts") for name in tables] == before
    assert hypertables(plain_db) == dict.fromkeys(HYPERTABLES, 0) | {
        "engagement_metrics": 5,
        "interventions": 1,
        "orchestrator_decisions": 1,
    }
    assert outside_chunks(plain_db) == 0

    again: list[str] = []
    assert migrate(plain_db, report=again.append) == []
    assert again == []


def test_a_writer_from_before_the_extension_goes_on(plain_db: str, writer: Writer) -> None:
    for _ in range(8):  # so often that its statements are prepared
        writer.write([batch_of(spread(50))])
    migrate(plain_db)
    written = writer.write([batch_of(spread(100, score=0.5)), batch_of([decision(1, "fine"), decision(2, "\0")])])
    assert (written.total, len(written.refused)) == (101, 1)
    assert ask(plain_db, "SELECT count(*), min(score) FROM engagement_metrics") == [(100, 0.5)]
    assert outside_chunks(plain_db) == 0


def test_writing_goes_on_while_tables_become_hypertables(plain_db: str, writer: Writer) -> None:
    begun, migrated = threading.Event(), threading.Event()

    def write() -> int:
        count = after = 0
        while after < 3:
            after += migrated.is_set()
            rows = [engagement(n) for n in range(count, count + 100)]
            decisions = [decision(n, "fine") for n in range(count, count + 100)]
            batch = [batch_of(rows), batch_of(decisions)]
            until_done(partial(writer.write, batch), threading.Event())
            count += 100
            begun.set()
        return count

    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write)
        try:
            assert begun.wait(60)
            migrate(plain_db)
        finally:
            migrated.set()
        count = writing.result(timeout=120)
    found = ask(plain_db, "SELECT chat_per_min FROM engagement_metrics ORDER BY ts")
    assert found == [(n,) for n in range(count)]
    assert ask(plain_db, "SELECT count(*) FROM orchestrator_decisions") == [(count,)]
    assert outside_chunks(plain_db) == 0


def compress(conninfo: str) -> None:
    """Do what the documentation tells, and compress at once; its jobs never run, they would do so by the wall clock."""
    page = (FOLDER.parents[1] / "docs" / "database.md").read_text(encoding="utf-8")
    _, block = page.split("```sql\nSELECT add_retention_policy")
    example, _ = block.split("```", 1)
    idle = (
        "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs "
        "WHERE hypertable_name = 'engagement_metrics'"
    )
    chunks = "SELECT compress_chunk(chunk) FROM show_chunks('engagement_metrics') AS chunk"
    do(conninfo, f"SELECT add_retention_policy{example}; {idle}", chunks)  # the first in one transaction
    jobs = "SELECT scheduled FROM timescaledb_information.jobs WHERE hypertable_name = %s"
    assert ask(conninfo, jobs, "engagement_metrics") == [(False,), (False,)]


def compressed(conninfo: str) -> int:
    query = "SELECT count(*)::int FROM timescaledb_information.chunks WHERE is_compressed"
    return int(ask(conninfo, query)[0][0])


def test_rows_in_compressed_chunks_are_replaced(timescale_db: str) -> None:
    writer = Writer(timescale_db)
    writer.write([batch_of(spread(50))])
    compress(timescale_db)
    assert compressed(timescale_db) == 5
    assert writer.write([batch_of(spread(60, score=0.5))]).total == 60
    writer.close()
    assert ask(timescale_db, "SELECT count(*), min(score) FROM engagement_metrics") == [(60, 0.5)]


def test_a_batch_that_touches_too_many_compressed_rows_is_written_in_parts(timescale_db: str) -> None:
    first = Writer(timescale_db)
    first.write([batch_of([engagement(n, session_id=f"s-{n}") for n in range(64)])])
    first.close()
    compress(timescale_db)
    (name,) = ask(timescale_db, "SELECT current_database()")[0]
    do(timescale_db, f'ALTER DATABASE "{name}" SET timescaledb.max_tuples_decompressed_per_dml_transaction = 20')
    writer = Writer(timescale_db)
    changed = [engagement(n, session_id=f"s-{n}", score=0.5) for n in range(64)]
    assert writer.write([batch_of(changed)]).total == 64
    writer.close()
    assert ask(timescale_db, "SELECT count(*), min(score) FROM engagement_metrics") == [(64, 0.5)]


def test_rows_older_than_what_was_dropped_are_taken_again(timescale_db: str) -> None:
    writer = Writer(timescale_db)
    writer.write([batch_of(spread(50))])
    boundary = (START + 2 * DAY) // DAY * DAY
    do(timescale_db, f"SELECT drop_chunks('engagement_metrics', older_than => to_timestamp({boundary // 1000}))")
    assert hypertables(timescale_db)["engagement_metrics"] == 3
    assert writer.write([batch_of(spread(50))]).total == 50
    writer.close()
    assert ask(timescale_db, "SELECT count(*) FROM engagement_metrics") == [(50,)]
