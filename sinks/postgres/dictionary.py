"""The data dictionary: what every table, view and column means, from the comments in the database itself."""

from collections.abc import Iterator

import psycopg

from sinks.postgres.connection import connect
from sinks.postgres.faults import meaning
from sinks.postgres.rows import TABLES
from sinks.postgres.upkeep import SOURCES

HEAD = """# Data dictionary

Made by `attune db dictionary` from the comments in the database, and tested to be current. Times are event time
(`timestamp with time zone`), ratios and scores lie in 0..1 unless said otherwise.
"""

PARTS = """
SELECT attribute.attname, format_type(attribute.atttypid, attribute.atttypmod),
       coalesce(col_description(attribute.attrelid, attribute.attnum), '')
FROM pg_attribute AS attribute
WHERE attribute.attrelid = to_regclass(%s) AND attribute.attnum > 0 AND NOT attribute.attisdropped
ORDER BY attribute.attnum
"""

VIEWS = "SELECT viewname FROM pg_views WHERE schemaname = 'analytics' ORDER BY viewname"

FUNCTIONS = """
SELECT proname || '(' || pg_get_function_identity_arguments(oid) || ')', coalesce(obj_description(oid), '')
FROM pg_proc WHERE pronamespace = 'analytics'::regnamespace ORDER BY proname
"""


def dictionary(conninfo: str) -> str:
    """Return the dictionary of a migrated database as Markdown.

    Views that show a table as it is are named and not repeated.
    """
    try:
        with connect(conninfo) as connection:
            tables = [table.name for table in TABLES.values()]
            views = [name for (name,) in connection.execute(VIEWS) if name not in tables]
            lines = [HEAD]
            lines += _section(
                connection,
                "Views for analysts (schema `analytics`)",
                "Beside these, every table but `dead_letters` is a view of the same name and columns there. Each login "
                "sees its own tenants.",
                [f"analytics.{name}" for name in views],
            )
            lines += ["", "### Functions in `analytics`", "", "| function | meaning |", "|---|---|"]
            lines += [f"| `{name}` | {_cell(told)} |" for name, told in connection.execute(FUNCTIONS)]
            lines += _section(connection, "Tables", "One for each type of outbound record.", tables)
            lines += _section(connection, "Rollups", "What the views by minute, hour and day are made of.", [*SOURCES])
    except psycopg.Error as error:
        raise meaning(error, "reading the comments") from error
    return "\n".join(lines) + "\n"


def _section(
    connection: psycopg.Connection[tuple[str, ...]], title: str, about: str, names: list[str]
) -> Iterator[str]:
    yield from ("", f"## {title}", "", about)
    for name in names:
        row = connection.execute("SELECT obj_description(to_regclass(%s), 'pg_class')", [name]).fetchone()
        yield from (
            "",
            f"### `{name}`",
            "",
            (row[0] if row else "") or "",
            "",
            "| column | type | meaning |",
            "|---|---|---|",
        )
        for column, kind, told in connection.execute(PARTS, [name]):
            yield f"| `{column}` | {kind} | {_cell(told)} |"


def _cell(text: str) -> str:
    r"""Return a text fit for a table's cell.

    >>> _cell("a | b")
    'a \\| b'
    """
    return text.replace("|", "\\|").replace("\n", " ")
