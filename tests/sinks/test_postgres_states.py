"""A filled database of every earlier release comes to the newest state, twice in a row, and by two at the same time."""

from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copy
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import set_json_dumps

from bench.day import Day
from schemas.registry import type_of
from sinks.postgres import migrate, preflight, refresh
from sinks.postgres.migrations import FOLDER, read
from sinks.postgres.rows import TABLES
from sinks.postgres.store import STATEMENTS
from tests.fix_postgres import ask

NUMBERS = [migration.number for migration in read(FOLDER)]
SMALL = Day(sessions=6, tenants=2)


def as_of(folder: Path, number: int) -> Path:
    """Fill a folder with the migrations of an earlier release; what repeats is not a state."""
    folder.mkdir(exist_ok=True)
    for migration in read(FOLDER):
        if migration.number <= number:
            copy(migration.path, folder)
    return folder


def fill(conninfo: str) -> dict[str, list[Any]]:
    """Write a small day into the tables and columns that are there; return the ids by table."""
    rows: dict[str, list[Any]] = defaultdict(list)
    for record in SMALL.records():
        kind = type_of(type(record))
        rows[kind].append(TABLES[kind].row(record))
    with psycopg.connect(conninfo) as connection:
        set_json_dumps(msgspec.json.encode, connection)
        stored = {}
        for kind, table in TABLES.items():
            found = connection.execute(
                "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0", [table.name]
            )
            there = {name for (name,) in found}
            kept = [(at, column) for at, column in enumerate(table.columns) if column.name in there]
            if not kept:
                continue
            names = sql.SQL(", ").join(sql.Identifier(column.name) for _, column in kept)
            statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table.name), names)
            with connection.cursor() as cursor, cursor.copy(statement) as writing:
                writing.set_types([STATEMENTS[kind].types[at] for at, _ in kept])
                for row in rows[kind]:
                    writing.write_row([row[at] for at, _ in kept])
            stored[table.name] = sorted(row[0] for row in rows[kind])
    return stored


@pytest.mark.parametrize("number", NUMBERS)
def test_from_every_earlier_state(empty_db: str, tmp_path: Path, number: int) -> None:
    migrate(empty_db, as_of(tmp_path, number))
    stored = fill(empty_db)
    assert [one.number for one in migrate(empty_db)] == [later for later in NUMBERS if later > number]
    preflight(empty_db)
    for table, ids in stored.items():
        assert sorted(row for (row,) in ask(empty_db, f"SELECT id FROM {table}")) == ids
    refresh(empty_db)
    summed = ask(empty_db, "SELECT coalesce(sum(ticks), 0)::bigint FROM engagement_hours")
    assert summed == ask(empty_db, "SELECT count(*) FROM engagement_metrics"), "rows of before are summed, too"

    before = ask(empty_db, "SELECT number, applied_at FROM attune_migrations ORDER BY 1")
    assert migrate(empty_db) == []
    assert ask(empty_db, "SELECT number, applied_at FROM attune_migrations ORDER BY 1") == before
    assert ask(empty_db, "SELECT count(*) FROM pg_views WHERE schemaname = 'analytics'") == [(27,)]


@pytest.mark.parametrize("number", NUMBERS)
def test_by_two_at_the_same_time(empty_db: str, tmp_path: Path, number: int) -> None:
    migrate(empty_db, as_of(tmp_path, number))
    fill(empty_db)
    with ThreadPoolExecutor(2) as pool:
        applied = list(pool.map(migrate, [empty_db] * 2))
    assert sorted(map(len, applied)) == [0, len(NUMBERS) - NUMBERS.index(number) - 1]
    preflight(empty_db)
