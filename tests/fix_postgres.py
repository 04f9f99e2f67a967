"""A real PostgreSQL for the tests: one server for the session, a fresh database for each test that asks for one.

``ATTUNE_TEST_POSTGRES`` names a server to use instead (a conninfo of a user who may make databases and roles).
``ATTUNE_TEST_TIMESCALE`` names one with TimescaleDB for the tests that are about it; with both, every test runs there.
"""

import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.sql import Composed

from flows.local.postgres import LocalPostgres, local_postgres
from schemas.batches import Records
from schemas.outbound import Record
from schemas.registry import type_of
from sinks.postgres import migrate

PASSWORD = "only-for-this-test"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Yield the conninfo of a running server."""
    given = os.environ.get("ATTUNE_TEST_POSTGRES")
    if given:
        yield given
        return
    with local_postgres() as conninfo:
        yield conninfo


@pytest.fixture(scope="session")
def timescale(request: pytest.FixtureRequest) -> str:
    """Return the conninfo of a running server that offers TimescaleDB, or skip."""
    given = os.environ.get("ATTUNE_TEST_TIMESCALE")
    server: str = given or request.getfixturevalue("postgres")
    if ask(server, "SELECT FROM pg_available_extensions WHERE name = 'timescaledb'"):
        return server
    if given:
        pytest.fail("the server that ATTUNE_TEST_TIMESCALE names does not offer TimescaleDB")
    pytest.skip("optional: the server offers no TimescaleDB, and ATTUNE_TEST_TIMESCALE names none")


@contextmanager
def empty_database(server: str) -> Iterator[str]:
    """Make a database without tables, yield its conninfo, and drop it."""
    name = f"attune_test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(name))
        )
    yield make_conninfo(server, dbname=name)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def empty_db(postgres: str) -> Iterator[str]:
    """Yield the conninfo of a database of the test's own, without tables."""
    with empty_database(postgres) as conninfo:
        yield conninfo


@pytest.fixture
def db(empty_db: str) -> str:
    """Return the conninfo of a database of the test's own, migrated."""
    migrate(empty_db)
    return empty_db


@pytest.fixture
def empty_timescale_db(timescale: str) -> Iterator[str]:
    """Yield the conninfo of a database of the test's own, without tables, where TimescaleDB can be had."""
    with empty_database(timescale) as conninfo:
        yield conninfo


@pytest.fixture
def timescale_db(empty_timescale_db: str) -> str:
    """Return the conninfo of a database of the test's own, migrated, with hypertables."""
    migrate(empty_timescale_db)
    return empty_timescale_db


@pytest.fixture
def stranger(empty_db: str) -> Iterator[str]:
    """Yield the conninfo of a login that is a member of nothing; its name is unique: roles are the whole server's."""
    database = ask(empty_db, "SELECT current_database()")[0][0]
    name = f"login_{database[-12:]}"
    do(empty_db, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    yield make_conninfo(empty_db, user=name, password=PASSWORD)
    do(
        empty_db,
        f"ALTER DATABASE {database} OWNER TO CURRENT_USER",
        f"REASSIGN OWNED BY {name} TO CURRENT_USER",
        f"DROP OWNED BY {name}",
        f"DROP ROLE {name}",
    )


@pytest.fixture
def login(db: str, stranger: str) -> str:
    """Return the conninfo of a stranger to a migrated database."""
    return stranger


def name_of(login: str) -> str:
    """Return the role that a conninfo logs in as."""
    return str(psycopg.conninfo.conninfo_to_dict(login)["user"])


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Yield a folder that others may reach: pytest's own are closed, and root's server runs as another user."""
    with tempfile.TemporaryDirectory(prefix="attune-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def stoppable() -> Iterator[LocalPostgres]:
    """Yield a server of the test's own, migrated, that it may stop and start."""
    with tempfile.TemporaryDirectory(prefix="attune-data-") as folder:
        server = LocalPostgres(Path(folder), throwaway=True)
        try:
            server.start()
            migrate(server.conninfo)
            yield server
        finally:
            server.close()


def batch_of(records: Sequence[Record]) -> Records:
    """Return records of one type as the sinks take them."""
    return Records(
        type=type_of(type(records[0])),
        ids=[record.id for record in records],
        tenants=[record.tenant_id for record in records],
        sessions=[record.session_id for record in records],
        ts=[record.ts for record in records],
        payloads=[msgspec.json.encode(record) for record in records],
        revisions=[getattr(record, "revision", 0) for record in records],
    )


def ask(conninfo: str, query: str | Composed, *values: object) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with psycopg.connect(conninfo) as connection:
        return connection.execute(query.encode() if isinstance(query, str) else query, values).fetchall()


def do(conninfo: str, *statements: str) -> None:
    """Execute statements, each on its own."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
