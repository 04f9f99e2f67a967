"""How we connect: dead peers are noticed, no statement hangs for ever, and no message shows the password."""

import math
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from schemas.errors import ConfigError, TransientError
from sinks.postgres.faults import message_of

Connection = psycopg.Connection[tuple[Any, ...]]

DEFAULTS = {
    "application_name": "attune",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "client_encoding": "UTF8",
}
"""libpq's settings where the conninfo says nothing: a peer that has vanished is noticed within half a minute."""

REFUSED = (
    "password authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "does not exist",
    "is not permitted to log in",
    "certificate",
    "server does not support SSL",
)
"""How libpq words what no waiting mends. It gives no SQLSTATE while connecting; in another language than English such
a fault counts as passing, and is told all the same."""


def parse(conninfo: str) -> dict[str, Any]:
    """Return libpq's parameters with our defaults below those that are given.

    Raises ConfigError without quoting the conninfo: what can't be parsed may hold a password anywhere.

    >>> parse("host=db dbname=attune application_name=mine")["application_name"]
    'mine'
    """
    try:
        return DEFAULTS | conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        raise ConfigError(
            "the database's conninfo can't be parsed: expected postgresql://user:password@host:5432/database (with "
            "special characters percent-encoded) or 'host=... user=... dbname=...'"
        ) from None


def connect(
    conninfo: str,
    *,
    connect_timeout_s: float = 10.0,
    statement_timeout_s: float | None = 60.0,
    autocommit: bool = False,
) -> Connection:
    """Open a connection.

    Raises ConfigError when the server refuses us (password, database, role, encryption) and TransientError when it
    can't be reached now; both say where, neither shows the password. A ``connect_timeout`` in the conninfo has
    precedence; None for ``statement_timeout_s`` waits for ever.
    """
    parameters = {"connect_timeout": math.ceil(connect_timeout_s)} | parse(conninfo)
    try:
        connection: Connection = psycopg.connect(**parameters, autocommit=True)
    except psycopg.OperationalError as error:
        told = f"{place(parameters)}: {without_password(message_of(error), parameters)}"
        if any(phrase in told for phrase in REFUSED):
            raise ConfigError(f"the database refuses {told}; check user, password, database and encryption") from None
        raise TransientError(f"can't reach the database as {told}") from None
    if statement_timeout_s is not None:
        timeout = f"{int(statement_timeout_s * 1000)}ms"
        connection.execute("SELECT set_config('statement_timeout', %s, false)", [timeout])
    connection.autocommit = autocommit
    return connection


def place(parameters: dict[str, Any]) -> str:
    """Return who connects to what, in words fit for a log.

    >>> place({"user": "writer", "host": "db", "dbname": "attune", "password": "secret"})
    "user 'writer' at db:5432, database 'attune'"
    """
    user = parameters.get("user", "(the system's)")
    where = f"{parameters.get('host', 'the default socket')}:{parameters.get('port', 5432)}"
    return f"user {user!r} at {where}, database {parameters.get('dbname', user)!r}"


def without_password(text: str, parameters: dict[str, Any]) -> str:
    """Return the text with the password, should a library quote it, masked."""
    password = parameters.get("password")
    return text.replace(str(password), "***") if password else text
