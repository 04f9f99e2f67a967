"""What each role may do, and that it may do nothing else."""

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from schemas.errors import TerminalError
from sinks.postgres import erase_tenant, migrate, preflight, refresh
from sinks.postgres.rows import TABLES
from sinks.postgres.upkeep import SOURCES
from tests.fix_postgres import ask, do, name_of
from tests.fix_views import Filled
from tests.sinks.test_postgres_migrations import check_writing

RECORDS = [table.name for table in TABLES.values()]
OTHERS = [*SOURCES, "rollup_changes", "rollup_claims", "rollup_horizon", "attune_analysts", "attune_migrations"]


NO_TABLE = (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.WrongObjectType)
"""What is said of a rollup that is a continuous aggregate, before anybody's rights are looked at."""


def refused(conninfo: str, *statements: str) -> None:
    """Check that each statement is refused for want of a right, though the session may write."""
    for statement in statements:
        with pytest.raises((psycopg.errors.InsufficientPrivilege, *NO_TABLE)):
            do(conninfo, "SET default_transaction_read_only = off", statement)


def test_the_writer_may_write_and_nothing_else(db: str, login: str) -> None:
    do(db, f"GRANT attune_writer TO {name_of(login)}")
    preflight(login)
    check_writing(login)
    for table in [*RECORDS, *OTHERS]:
        refused(login, *(text.format(table) for text in ("DELETE FROM {}", "TRUNCATE {}", "ALTER TABLE {} ADD x int")))
    for table in OTHERS[:-1]:
        refused(login, f"TABLE {table}", f"INSERT INTO {table} DEFAULT VALUES")
    refused(
        login,
        "CREATE TABLE mine (id int)",
        "CREATE SCHEMA mine",
        "DROP TABLE emotions CASCADE",
        "TABLE analytics.emotions",
        "SELECT attune_erase_tenant('acme')",
        "SELECT attune_refresh_some(1)",
        "SELECT attune_expire_some('emotions', 'ts', now())",
        "CALL attune_admit_analyst(current_user, 'acme')",
        "SET ROLE attune_owner",
        "SET ROLE attune_analyst",
    )


def test_what_a_writer_writes_is_noted_with_the_owners_rights_in_the_owners_table(db: str, login: str) -> None:
    """A temporary table of the writer's own, of the same name, must not be what the trigger fills."""
    do(db, f"GRANT attune_writer TO {name_of(login)}")
    with psycopg.connect(login) as connection:
        connection.execute(
            "CREATE TEMPORARY TABLE rollup_changes (source text, tenant_id text, hour timestamptz, writer int)"
        )
        connection.execute(
            "INSERT INTO emotions VALUES ('e', 'acme', 's', now(), 'u', 'frustration', 0.9, 'rule', '{}')"
        )
        assert connection.execute("SELECT count(*) FROM pg_temp.rollup_changes").fetchone() == (0,)
    if not ask(db, "SELECT FROM pg_extension WHERE extname = 'timescaledb'"):
        assert ask(db, "SELECT source, tenant_id FROM rollup_changes") == [("emotions", "acme")]


def test_an_analyst_sees_the_admitted_tenants_in_every_view(day: Filled) -> None:
    views = [name for (name,) in ask(day.owner, "SELECT viewname::text FROM pg_views WHERE schemaname = 'analytics'")]
    assert len(views) == 27
    for view in views:
        found = {tenant for (tenant,) in ask(day.analyst, f"SELECT DISTINCT tenant_id FROM analytics.{view}")}
        assert found == {"acme", "tenant-02"}, view
        assert ask(day.analyst, f"SELECT count(*) FROM analytics.{view} WHERE tenant_id = 'tenant-03'") == [(0,)]
    assert ask(day.owner, "SELECT count(DISTINCT tenant_id) FROM emotions") == [(3,)]
    lift = "SELECT DISTINCT tenant_id FROM analytics.lift('2026-03-01', '2026-03-09') ORDER BY 1"
    assert ask(day.analyst, lift) == [("acme",), ("tenant-02",)]


def test_an_analyst_may_read_views_and_nothing_else(day: Filled) -> None:
    assert ask(day.analyst, "SHOW statement_timeout") == [("30s",)]
    for table in [*RECORDS, *OTHERS]:
        refused(day.analyst, f"TABLE {table}")
    refused(
        day.analyst,
        "DELETE FROM analytics.emotions",
        "UPDATE analytics.emotions SET tenant_id = 'acme'",
        "INSERT INTO analytics.sessions SELECT * FROM analytics.sessions",
        "CREATE TABLE analytics.mine (id int)",
        "CREATE TABLE mine (id int)",
        "CREATE OR REPLACE FUNCTION analytics.tenants() RETURNS text[] LANGUAGE sql AS 'SELECT null::text[]'",
        f"CALL attune_admit_analyst('{name_of(day.analyst)}', 'tenant-03')",
        "SELECT attune_erase_tenant('acme')",
        "SET ROLE attune_owner",
        "SET SESSION AUTHORIZATION attune_owner",
    )
    assert ask(day.analyst, "SELECT has_table_privilege('attune_analysts', 'SELECT')") == [(False,)]


def test_a_function_in_a_condition_is_not_shown_others_rows(own_day: Filled) -> None:
    """Without security_barrier a cheap function would be asked before the filter by tenant."""
    do(own_day.owner, f"GRANT TEMPORARY ON DATABASE {ask(own_day.owner, 'SELECT current_database()')[0][0]} TO PUBLIC")
    with psycopg.connect(own_day.analyst) as connection:
        seen: list[str] = []
        connection.add_notice_handler(lambda notice: seen.append(notice.message_primary or ""))
        connection.read_only = False
        connection.execute(
            "CREATE FUNCTION pg_temp.peek(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
            "$$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$"
        )
        connection.execute("SELECT count(*) FROM analytics.sessions WHERE pg_temp.peek(tenant_id)")
    assert set(seen) == {"acme", "tenant-02"}


def test_another_tenant_is_admitted_without_a_word(own_day: Filled) -> None:
    with psycopg.connect(own_day.owner) as connection:
        said: list[str] = []
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))
        connection.execute("CALL attune_admit_analyst(%s, 'tenant-03')", [name_of(own_day.analyst)])
    assert said == []
    assert len(ask(own_day.analyst, "SELECT DISTINCT tenant_id FROM analytics.sessions")) == 3


def test_who_is_dismissed_sees_nothing(own_day: Filled) -> None:
    do(own_day.owner, f"CALL attune_dismiss_analyst('{name_of(own_day.analyst)}', 'acme')")
    assert ask(own_day.analyst, "SELECT DISTINCT tenant_id FROM analytics.sessions") == [("tenant-02",)]
    assert ask(own_day.analyst, "SELECT analytics.tenants()") == [(["tenant-02"],)]


def test_the_role_itself_may_be_the_login(own_day: Filled) -> None:
    do(own_day.owner, "CALL attune_admit_analyst('attune_analyst', 'acme')")
    with psycopg.connect(own_day.owner) as connection:
        connection.execute("SET SESSION AUTHORIZATION attune_analyst")
        assert connection.execute("SELECT DISTINCT tenant_id FROM analytics.sessions").fetchall() == [("acme",)]


def test_a_member_of_the_owner_runs_the_next_migration(db: str, login: str) -> None:
    assert ask(db, "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = current_schema()") == [
        ("attune_owner",)
    ]
    with pytest.raises(TerminalError):
        migrate(login)
    do(db, f"GRANT attune_owner TO {name_of(login)}")
    assert migrate(login) == []
    refresh(login)
    assert erase_tenant(login, "nobody") == []
    refused(login, "CREATE ROLE another", "ALTER ROLE attune_owner SUPERUSER", "CREATE DATABASE another")


def test_the_owner_has_no_password(db: str) -> None:
    assert ask(
        db, "SELECT rolpassword IS NULL, rolsuper, rolcreaterole FROM pg_authid WHERE rolname = 'attune_owner'"
    ) == [(True, False, False)]
    given = psycopg.conninfo.conninfo_to_dict(db)
    if given.get("password"):
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(make_conninfo(db, user="attune_owner"))
