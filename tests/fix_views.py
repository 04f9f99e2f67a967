"""Filled databases for what analysts ask: a generated day, on plain PostgreSQL and, where there is one, on TimescaleDB.

``ATTUNE_TEST_TIMESCALE`` names a server that offers the extension: a conninfo of a user who may make databases and
roles.
"""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bench.day import Day, load
from sinks.postgres import migrate
from tests.fix_postgres import PASSWORD

DAY = Day(sessions=100, tenants=3)
"""Small, and the same in every run: what docs/sql.md shows is this one."""


@dataclass(frozen=True)
class Filled:
    """A database with a day in it: as its owner, and as an analyst who may see acme and tenant-02, not tenant-03."""

    owner: str
    analyst: str
    timescale: bool


@pytest.fixture(scope="session", params=["plain", "timescale"])
def engine(request: pytest.FixtureRequest) -> str:
    """Return the conninfo of a server of each kind."""
    if request.param == "plain":
        return str(request.getfixturevalue("postgres"))
    if not (given := os.environ.get("ATTUNE_TEST_TIMESCALE")):
        pytest.skip("optional: ATTUNE_TEST_TIMESCALE names no server with TimescaleDB")
    return given


@pytest.fixture(scope="session")
def day(engine: str) -> Iterator[Filled]:
    """Yield a filled database that tests only read."""
    with filled(engine) as made:
        yield made


@pytest.fixture
def own_day(engine: str, day: Filled) -> Iterator[Filled]:
    """Yield a filled database that the test may change."""
    copied = None if day.timescale else str(psycopg.conninfo.conninfo_to_dict(day.owner)["dbname"])
    with filled(engine, template=copied) as made:
        yield made


@contextmanager
def filled(server: str, day: Day = DAY, template: str | None = None) -> Iterator[Filled]:
    """Make a database with a day in it, or copy one that has it, and an analyst."""
    name, login = (f"{what}_{secrets.token_hex(6)}" for what in ("attune_test", "login"))
    with psycopg.connect(server, autocommit=True) as connection:
        database, role = sql.Identifier(name), sql.Identifier(login)
        copied = sql.Identifier(template or "template0")
        connection.execute(sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE {}").format(database, copied))
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(PASSWORD)))
        try:
            owner = make_conninfo(server, dbname=name)
            if template is None:
                migrate(owner)
                load(owner, day)
            with psycopg.connect(owner, autocommit=True) as admin:
                for tenant in day.names()[:2]:
                    admin.execute("CALL attune_admit_analyst(%s, %s)", [login, tenant])
                found = admin.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
            yield Filled(owner, make_conninfo(owner, user=login, password=PASSWORD), found is not None)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))
