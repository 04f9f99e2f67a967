"""The SQL of the writer: made once from the names in ``rows``, data never becomes part of it."""

from psycopg import sql

from sinks.postgres.rows import Kind, Table


class Statements:
    """The statements for one table.

    ``stage`` makes a temporary table of the same columns, ``copy`` fills it, ``upsert`` moves its rows on, ``clear``
    empties it before the end of the transaction. ``types`` are those that ``copy``'s values are sent as.
    """

    def __init__(self, table: Table) -> None:
        names = [sql.Identifier(column.name) for column in table.columns]
        rest = [sql.Identifier(column.name) for column in table.columns if column.name not in table.key]
        parts: dict[str, sql.Composable] = {
            "table": sql.Identifier(table.name),
            "stage": sql.Identifier(f"attune_stage_{table.name}"),
            "columns": _list("{}", names),
            "typed": sql.SQL(", ").join(
                sql.SQL("{} {}").format(name, _type(column.kind))
                for name, column in zip(names, table.columns, strict=True)
            ),
            "key": _list("{}", [sql.Identifier(name) for name in table.key]),
            "order": _list("stage.{}", [sql.Identifier(name) for name in table.key]),
            "set": _list("{0} = excluded.{0}", rest),
            "old": _list("known.{}", rest),
            "new": _list("excluded.{}", rest),
        }
        self.types = [column.sent.value for column in table.columns]
        self.stage = sql.SQL("CREATE TEMPORARY TABLE {stage} ({typed}) ON COMMIT DELETE ROWS").format(**parts)
        self.copy = sql.SQL("COPY {stage} ({columns}) FROM STDIN (FORMAT binary)").format(**parts)
        # The order is what keeps two writers of the same keys from waiting for each other in a circle. A row that is
        # there already and the same is left alone, so that a replay leaves no dead rows behind.
        self.upsert = sql.SQL(
            "INSERT INTO {table} AS known ({columns}) SELECT {columns} FROM {stage} AS stage ORDER BY {order} "
            "ON CONFLICT ({key}) DO UPDATE SET {set} WHERE ({old}) IS DISTINCT FROM ({new})"
        ).format(**parts)
        self.clear = sql.SQL("DELETE FROM {stage}").format(**parts)


def _list(each: str, names: list[sql.Identifier]) -> sql.Composed:
    return sql.SQL(", ").join(sql.SQL(each).format(name) for name in names)


def _type(kind: Kind) -> sql.Composable:
    """Return a column's type; text is compared byte by byte, which is the quickest way to any fixed order."""
    return sql.SQL('text COLLATE "C"') if kind is Kind.TEXT else sql.SQL(kind.value)
