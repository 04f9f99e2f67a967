"""Does the database fit this release? Asked at every connection, before a row is lost to the answer."""

from collections.abc import Iterator
from pathlib import Path

import psycopg

from schemas.errors import TerminalError
from sinks.postgres.connection import Connection, connect
from sinks.postgres.faults import meaning
from sinks.postgres.migrations import FOLDER, pending
from sinks.postgres.rows import TABLES, Table

COLUMNS = """
SELECT attribute.attname,
       format_type(attribute.atttypid, attribute.atttypmod),
       attribute.attnotnull AND NOT attribute.atthasdef AND attribute.attidentity = ''
FROM pg_attribute AS attribute
WHERE attribute.attrelid = to_regclass(%s) AND attribute.attnum > 0 AND NOT attribute.attisdropped
"""
"""Name, type, and whether an insert must give a value."""

UNIQUE = """
SELECT array_agg(attribute.attname::text)
FROM pg_index AS one
JOIN pg_attribute AS attribute ON attribute.attrelid = one.indrelid AND attribute.attnum = ANY (one.indkey)
WHERE one.indrelid = to_regclass(%s) AND one.indisunique AND one.indpred IS NULL
GROUP BY one.indexrelid
"""
"""The columns of every unique index."""

RIGHTS = """
SELECT has_table_privilege(to_regclass(%(table)s), 'SELECT'),
       has_table_privilege(to_regclass(%(table)s), 'INSERT'),
       has_table_privilege(to_regclass(%(table)s), 'UPDATE')
"""


SHOWN = 5
"""How many faults a message lists."""


def preflight(conninfo: str, folder: Path = FOLDER) -> list[str]:
    """Connect once and check everything that can be checked before the first row.

    Returns the names of migrations that are waiting though the tables fit without them. Raises ConfigError (refused),
    TransientError (not reachable now) or TerminalError (does not fit), without the password.
    """
    try:
        with connect(conninfo) as connection:
            check_schema(connection, folder)
            return pending(connection, folder) or []
    except psycopg.Error as error:
        raise meaning(error, "checking the schema") from error


def check_schema(connection: Connection, folder: Path = FOLDER) -> None:
    """Raise TerminalError unless every table takes every field, naming what is missing, its migration, what to do."""
    wrong = [*_database(connection), *(line for table in TABLES.values() for line in _table(connection, table))]
    if not wrong:
        return
    missing = pending(connection, folder)
    connection.rollback()
    told = "; ".join([*wrong[:SHOWN], *([f"and {len(wrong) - SHOWN} more"] if len(wrong) > SHOWN else [])])
    if missing:
        raise TerminalError(f"the database lacks {', '.join(missing)}: run `attune db migrate` ({told})")
    known = "and this user may not read attune_migrations" if missing is None else "though all migrations are applied"
    raise TerminalError(f"the database does not fit, {known}: {told}")


def _database(connection: Connection) -> Iterator[str]:
    row = connection.execute(
        "SELECT current_setting('server_encoding'), has_database_privilege(current_database(), 'TEMP')"
    ).fetchone()
    encoding, temporary = row if row is not None else ("unknown", False)
    if encoding != "UTF8":
        yield f"its encoding is {encoding}, UTF8 is needed for people's text"
    if not temporary:
        yield "this user may not make temporary tables: GRANT TEMPORARY ON DATABASE to it"


def _table(connection: Connection, table: Table) -> Iterator[str]:
    found = {name: (kind, demanded) for name, kind, demanded in connection.execute(COLUMNS, [table.name])}
    if not found:
        yield f"table {table.name} is missing"
        return
    for column in table.columns:
        if column.name not in found:
            yield f"column {table.name}.{column.name} is missing"
        elif (kind := found[column.name][0]) != column.kind:
            yield f"column {table.name}.{column.name} is {kind}, expected {column.kind}"
    for name in found.keys() - {column.name for column in table.columns}:
        if found[name][1]:
            yield f"column {table.name}.{name} is demanded but unknown here: give it a default"
    if not any(set(table.key) == set(names) for (names,) in connection.execute(UNIQUE, [table.name])):
        yield f"table {table.name} has no unique index on ({', '.join(table.key)})"
    rights = connection.execute(RIGHTS, {"table": table.name}).fetchone() or ()
    for right, held in zip(("SELECT", "INSERT", "UPDATE"), rights, strict=True):
        if not held:
            yield f"this user may not {right} in {table.name}: GRANT it, or membership in attune_writer"
