"""The tables fit the structs, and where they don't it is said before a row is lost."""

import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from flows.local.postgres import LocalPostgres
from schemas.errors import AttuneError, ConfigError, TerminalError, TransientError
from schemas.registry import OUTBOUND
from sinks.postgres import check_schema, migrate, preflight
from sinks.postgres.migrations import FOLDER, read
from sinks.postgres.rows import TABLES, Table
from sinks.postgres.upkeep import SOURCES
from tests.fix_postgres import ask, do

OURS = {"dead_letters": [("stored_at", False)]}
"""Columns that the database fills by itself."""

INDEXES = {
    "idx_session_time",
    "idx_engagement_score",
    "idx_intervention_session",
    "idx_agent_performance",
    "idx_anomaly_session",
    "idx_anomaly_severity",
}


def leaves(struct: type[msgspec.Struct], path: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(struct):
        where = f"{path}{field.name}"
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from leaves(field.type, f"{where}.")
        else:
            yield where


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_every_field_has_a_column(table: Table) -> None:
    assert [column.path for column in table.columns] == list(leaves(table.struct))
    names = [column.name for column in table.columns]
    assert len(set(names)) == len(names)


def test_every_record_type_has_a_table() -> None:
    assert {kind: table.name for kind, table in TABLES.items()} == {kind: e.table for kind, e in OUTBOUND.items()}


def test_the_migrated_database_fits(db: str) -> None:
    preflight(db)


def test_columns_are_exactly_those_of_the_structs_and_null_only_where_the_field_may_be(db: str) -> None:
    for table in TABLES.values():
        found = ask(
            db,
            "SELECT column_name::text, is_nullable = 'YES' FROM information_schema.columns WHERE table_name = %s "
            "AND table_schema = current_schema()",
            table.name,
        )
        expected = [(column.name, column.nullable) for column in table.columns] + OURS.get(table.name, [])
        assert sorted(found) == sorted(expected), table.name


def test_every_table_and_column_has_a_comment(db: str) -> None:
    bare = ask(
        db,
        "SELECT c.relname, a.attname FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 "
        "AND NOT a.attisdropped WHERE c.relname = ANY (%s) AND c.relnamespace = current_schema()::regnamespace "
        "AND (obj_description(c.oid) IS NULL OR col_description(c.oid, a.attnum) IS NULL)",
        [*(table.name for table in TABLES.values()), *SOURCES, "attune_analysts", "rollup_changes", "rollup_claims"],
    )
    assert bare == []


def test_primary_keys_contain_the_time_column(db: str) -> None:
    for table in TABLES.values():
        assert table.key[-1] == "ts"
        keys = ask(
            db,
            "SELECT array_agg(a.attname::text ORDER BY array_position(i.indkey::int2[], a.attnum)) FROM pg_index i "
            "JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) "
            "WHERE i.indrelid = %s::regclass AND i.indisprimary GROUP BY i.indexrelid",
            table.name,
        )
        assert keys == [(list(table.key),)]


def test_the_named_indexes_are_there(db: str) -> None:
    found = {name for (name,) in ask(db, "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()")}
    assert found >= INDEXES


def test_every_table_but_the_dead_letters_becomes_a_hypertable() -> None:
    text = (FOLDER / "repeat_hypertables.sql").read_text(encoding="utf-8")
    named = set(re.findall(r"\('(\w+)', interval", text))
    assert named == {table.name for table in TABLES.values()} - {"dead_letters"}


def test_the_documentation_names_every_table_with_its_key_and_chunks() -> None:
    page = (FOLDER.parents[1] / "docs" / "database.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+)` \|[^|]+\| `([\w, ]+)` \| (\d+ days?|an ordinary table) \|$", page, re.MULTILINE)
    text = (FOLDER / "repeat_hypertables.sql").read_text(encoding="utf-8")
    chunks = dict(re.findall(r"\('(\w+)', interval '(\d+ days?)'\)", text))
    expected = [(t.name, ", ".join(t.key), chunks.get(t.name, "an ordinary table")) for t in TABLES.values()]
    assert sorted(told) == sorted(expected)


@pytest.mark.parametrize(
    "change, told",
    [
        ("DROP TABLE handoffs CASCADE", "table handoffs is missing"),
        ("ALTER TABLE emotions DROP COLUMN rule CASCADE", "column emotions.rule is missing"),
        (
            "ALTER TABLE emotions ALTER rule TYPE varchar(8)",
            "column emotions.rule is character varying(8), expected text",
        ),
        ("ALTER TABLE handoffs ADD cost int NOT NULL", "column handoffs.cost is demanded but unknown here"),
        ("ALTER TABLE handoffs DROP CONSTRAINT handoffs_pkey", "table handoffs has no unique index on (id, ts)"),
    ],
)
def test_a_table_that_does_not_fit_is_told(db: str, change: str, told: str) -> None:
    do(db, "DROP SCHEMA analytics CASCADE", change)
    with pytest.raises(TerminalError, match="though all migrations are applied") as raised:
        preflight(db)
    assert told in str(raised.value)


def test_columns_of_others_are_no_fault_if_they_need_no_value(db: str) -> None:
    do(
        db,
        "ALTER TABLE handoffs ADD note text",
        "ALTER TABLE handoffs ADD seen boolean NOT NULL DEFAULT false",
        "ALTER TABLE handoffs ADD number bigint GENERATED ALWAYS AS IDENTITY",
    )
    preflight(db)


def test_an_unprepared_database_names_the_migrations_it_lacks(empty_db: str) -> None:
    with pytest.raises(TerminalError, match=r"lacks 0001_engagement\.sql, .*run `attune db migrate`"):
        preflight(empty_db)


def test_a_database_of_the_release_before_names_the_migration_and_the_columns_it_lacks(
    empty_db: str, tmp_path: Path
) -> None:
    for migration in read(FOLDER):
        if migration.number < 7:
            shutil.copy(migration.path, tmp_path)
    migrate(empty_db, tmp_path)
    with pytest.raises(TerminalError, match=r"lacks 0007_trigger_names\.sql.*: run `attune db migrate`") as raised:
        preflight(empty_db)
    assert "column interventions.trigger_name is missing" in str(raised.value)
    assert "0006" not in str(raised.value)


def test_a_migration_that_the_tables_do_not_need_is_named_and_no_fault(db: str, tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "9999_more.sql").write_text("CREATE TABLE more (id int)")
    assert preflight(db) == []
    assert preflight(db, tmp_path) == ["9999_more.sql"]


def test_a_user_who_may_not_read_the_ledger_is_told_what_does_not_fit(db: str) -> None:
    role = f"attune_test_{uuid.uuid4().hex}"
    do(db, f"CREATE ROLE {role}", f"GRANT USAGE ON SCHEMA public TO {role}")
    try:
        with psycopg.connect(db) as connection:
            connection.execute(f"SET ROLE {role}".encode())
            with pytest.raises(TerminalError, match="this user may not read attune_migrations") as raised:
                check_schema(connection)
        assert "this user may not INSERT in engagement_metrics" in str(raised.value)
        assert re.search(r"; and \d+ more$", str(raised.value))
    finally:
        do(db, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_a_wrong_password_is_told_without_showing_it(stoppable: LocalPostgres) -> None:
    wrong = make_conninfo(stoppable.conninfo, password="hunter-two")
    with pytest.raises(ConfigError, match="password authentication failed") as raised:
        preflight(wrong)
    assert "hunter-two" not in str(raised.value)


@pytest.mark.parametrize(
    "change, error, told",
    [
        ({"dbname": "not_there"}, ConfigError, "does not exist"),
        ({"host": "127.0.0.1", "port": "1"}, TransientError, "can't reach the database"),
    ],
)
def test_no_database_is_told(db: str, change: dict[str, str], error: type[AttuneError], told: str) -> None:
    password = psycopg.conninfo.conninfo_to_dict(db).get("password", "no password at all")
    with pytest.raises(error, match=told) as raised:
        preflight(make_conninfo(db, **change))
    assert str(password) not in str(raised.value)


@pytest.mark.parametrize("unreadable", ["user=x password='se cret", "postgresql://u:se%cret@db/x", "se cret"])
def test_a_conninfo_that_cannot_be_parsed_is_not_quoted(unreadable: str) -> None:
    with pytest.raises(ConfigError, match="can't be parsed") as raised:
        preflight(unreadable)
    assert "cret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
