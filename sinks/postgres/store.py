"""One transaction: rows into their tables, and what a table refuses into the dead letters beside them."""

import psycopg

from schemas.batches import Records
from schemas.errors import TerminalError
from schemas.outbound import DeadLetter, Detail, Reason
from sinks.postgres.connection import Connection
from sinks.postgres.faults import Fault, fault_of, message_of
from sinks.postgres.refused import dead_letter, encoded
from sinks.postgres.rows import TABLES, Kind, Row, Table, holds_nul, without_nul
from sinks.postgres.statements import Statements

DEAD = "dead_letter"
STATEMENTS = {kind: Statements(table) for kind, table in TABLES.items()}

MIN_COUNT, MAX_COUNT = -(1 << 63), (1 << 63) - 1

Item = tuple[Row, Records, int]
"""A row, and which of the batch's records it came from. There is one for every row: a class would show."""


class Store:
    """What is done within one transaction, which the caller begins and commits."""

    def __init__(self, connection: Connection, stages: set[str]) -> None:
        self._connection = connection
        self._stages = stages
        """The types that have a stage on this connection. All of them are emptied at every commit, used or not, which
        the server does file by file: what a connection never stores needs none."""
        self._staged: set[str] = set()
        """The types whose stage holds rows since the transaction began."""
        self.letters: list[DeadLetter] = []
        """The dead letters that came up, in order."""
        self.refused: dict[str, int] = {}
        """How many records of a type they are about."""

    def refuse(self, source: Records, index: int, reason: Reason, detail: Detail) -> None:
        """Set a record aside."""
        self.letters.append(dead_letter(source, index, reason, detail))
        self.refused[source.type] = self.refused.get(source.type, 0) + 1

    def store_all(self, items: dict[str, list[Item]]) -> None:
        """Store rows by type, the tables always in the same order; of rows with the same key the last wins.

        The dead letters that this makes are stored last. Raises psycopg's errors where no row is to blame, and
        TerminalError when a dead letter is refused in its turn.
        """
        for kind, table in TABLES.items():
            latest = {table.key_of(item[0]): item for item in items.get(kind, [])}
            for (row, source, index), error in self._store_or_split(kind, list(latest.values())):
                self.refuse(source, index, "refused_by_database", _why(table, row, error))
        made = encoded(self.letters)
        letters = {letter.id: (TABLES[DEAD].row(letter), made, at) for at, letter in enumerate(self.letters)}
        for _item, error in self._store_or_split(DEAD, list(letters.values())):
            raise TerminalError(
                f"table {TABLES[DEAD].name} refuses the dead letter of a refused row, which would be lost: "
                f"{message_of(error)}; look for constraints that Attune's migrations did not make"
            )

    def _store_or_split(self, kind: str, items: list[Item]) -> list[tuple[Item, Exception]]:
        """Store rows, halving them until those that can't be stored are alone; return these and why."""
        if not items:
            return []
        if kind not in self._stages:
            self._connection.execute(STATEMENTS[kind].stage)
            self._stages.add(kind)
        try:
            with self._connection.transaction():  # a savepoint
                self._upsert(kind, [row for row, _, _ in items])
        except Exception as error:
            if fault_of(error) is not Fault.DATA:
                raise
            if len(items) == 1:
                return [(items[0], error)]
        else:
            self._staged.add(kind)
            return []
        middle = len(items) // 2
        return [*self._store_or_split(kind, items[:middle]), *self._store_or_split(kind, items[middle:])]

    def _upsert(self, kind: str, rows: list[Row]) -> None:
        statements = STATEMENTS[kind]
        with self._connection.cursor() as cursor:
            if kind in self._staged:
                cursor.execute(statements.clear)
            with cursor.copy(statements.copy) as copy:
                copy.set_types(statements.types)
                for row in rows:
                    copy.write_row(row)
            cursor.execute(statements.upsert)


def _why(table: Table, row: Row, error: Exception) -> Detail:
    """Return which field is at fault, as far as it can be known, and what the database said."""
    got = without_nul(message_of(error))
    for column, value in zip(table.columns, row, strict=True):
        if holds_nul(value):
            return Detail(column.path, "text without NUL", got)
        if column.kind is Kind.COUNT and value is not None and not MIN_COUNT <= value <= MAX_COUNT:
            return Detail(column.path, "an integer of 64 bits", got)
    named = ""
    if isinstance(error, psycopg.Error):
        paths = {column.name: column.path for column in table.columns}
        named = paths.get(error.diag.column_name or "", error.diag.constraint_name or "")
    return Detail(named, f"what table {table.name} takes", got)
