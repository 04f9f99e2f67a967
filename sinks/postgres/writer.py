"""Write batches of encoded records into their tables, each batch in one transaction, and set aside what is refused.

A table's rows go by binary COPY into a temporary table and from there by upsert into their own, because COPY alone
can't repeat itself. Rows and tables are always taken in the same order, so that two writers wait for each other but
never in a circle.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import set_json_dumps

from schemas.batches import Records
from schemas.errors import TerminalError
from schemas.outbound import DeadLetter, Detail, Reason, Record
from sinks.postgres.connection import Connection, connect
from sinks.postgres.faults import Fault, fault_of, meaning, message_of
from sinks.postgres.refused import dead_letter, encoded
from sinks.postgres.rows import TABLES, Kind, Row, Table, holds_nul, without_nul
from sinks.postgres.schema import check_schema

DEAD = "dead_letter"
MIN_COUNT, MAX_COUNT = -(1 << 63), (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Written:
    """What became of one batch: how many rows each table took, and the dead letters of those it did not.

    Repeats within the batch count as taken; taken and refused add up to what came.
    """

    rows: dict[str, int]
    refused: Records

    @property
    def total(self) -> int:
        """The rows taken, all tables together."""
        return sum(self.rows.values())


@dataclass(frozen=True, slots=True)
class _Item:
    """A row, and which of the batch's records it came from."""

    row: Row
    source: Records
    index: int


@dataclass(slots=True)
class _Batch:
    """What one transaction is about: rows by table, and the dead letters that came up on the way."""

    items: dict[str, list[_Item]] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    staged: set[str] = field(default_factory=set)
    """The tables whose stage holds rows since the transaction began."""

    def refuse(self, source: Records, index: int, reason: Reason, detail: Detail) -> None:
        self.letters.append(dead_letter(source, index, reason, detail))
        self.refused[source.type] = self.refused.get(source.type, 0) + 1


class Writer:
    """One connection's writer; not for two threads at once. Connects at the first write, and again after a loss."""

    def __init__(
        self, conninfo: str, *, connect_timeout_s: float = 10.0, statement_timeout_s: float | None = 60.0
    ) -> None:
        self._conninfo = conninfo
        self._connect_timeout_s = connect_timeout_s
        self._statement_timeout_s = statement_timeout_s
        self._connection: Connection | None = None
        self._decoders: dict[str, msgspec.json.Decoder[Record]] = {
            kind: msgspec.json.Decoder(table.struct) for kind, table in TABLES.items()
        }
        self._statements = {kind: _Statements(table) for kind, table in TABLES.items()}

    def connect(self) -> None:
        """Connect and check the schema, unless connected.

        Raises ConfigError, TransientError or TerminalError.
        """
        if self._connection is not None:
            return
        connection = connect(
            self._conninfo,
            connect_timeout_s=self._connect_timeout_s,
            statement_timeout_s=self._statement_timeout_s,
        )
        try:
            check_schema(connection)
            set_json_dumps(msgspec.json.encode, connection)
            for statements in self._statements.values():
                connection.execute(statements.stage)
            connection.commit()
        except psycopg.Error as error:
            connection.close()
            raise meaning(error, "preparing the connection") from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def write(self, batch: Sequence[Records]) -> Written:
        """Store all records of the batch, or none of them; a repeat of what is stored already changes nothing.

        Raises TransientError when the same batch should be tried again (the connection has been given up; whether
        the batch was stored may be unknown, and does not matter), TerminalError when that would not help.
        """
        self.connect()
        assert self._connection is not None  # noqa: S101 - connect() has set it
        work = self._decode(batch)
        try:
            with self._connection.transaction():
                for kind in TABLES:
                    if kind != DEAD:
                        self._store(kind, work.items.get(kind, []), work)
                self._store_dead_letters(work)
        except psycopg.Error as error:
            self.close()
            raise meaning(error, "writing") from error
        except BaseException:
            self.close()
            raise
        received: dict[str, int] = {}
        for records in batch:
            received[records.type] = received.get(records.type, 0) + len(records)
        rows = {TABLES[kind].name: count - work.refused.get(kind, 0) for kind, count in received.items()}
        return Written({name: count for name, count in rows.items() if count}, encoded(work.letters))

    def close(self) -> None:
        """Close the connection; the next write opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _decode(self, batch: Sequence[Records]) -> _Batch:
        work = _Batch()
        for records in batch:
            table = TABLES.get(records.type)
            if table is None:
                raise TerminalError(f"no table is known for records of type {records.type!r}")
            decode = self._decoders[records.type].decode
            items = work.items.setdefault(records.type, [])
            for index, payload in enumerate(records.payloads):
                try:
                    record: Record = decode(payload)
                except msgspec.ValidationError as error:
                    work.refuse(records, index, "invalid_field", _invalid(error))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    work.refuse(records, index, "malformed_json", Detail("", "JSON", str(error)))
                else:
                    items.append(_Item(table.row(record), records, index))
        return work

    def _store(self, kind: str, items: list[_Item], work: _Batch) -> None:
        """Store a table's rows; those that it refuses become dead letters."""
        latest = {TABLES[kind].key_of(item.row): item for item in items}
        for item, error in self._store_or_split(kind, list(latest.values()), work):
            work.refuse(item.source, item.index, "refused_by_database", _why(TABLES[kind], item.row, error))

    def _store_dead_letters(self, work: _Batch) -> None:
        """Store dead letters last: first those that came, then those that this batch has made."""
        self._store(DEAD, work.items.get(DEAD, []), work)
        made = encoded(work.letters)
        items = {letter.id: _Item(TABLES[DEAD].row(letter), made, at) for at, letter in enumerate(work.letters)}
        for _item, error in self._store_or_split(DEAD, list(items.values()), work):
            raise TerminalError(
                f"table {TABLES[DEAD].name} refuses the dead letter of a refused row, which would be lost: "
                f"{message_of(error)}; look for constraints that Attune's migrations did not make"
            )

    def _store_or_split(self, kind: str, items: list[_Item], work: _Batch) -> list[tuple[_Item, Exception]]:
        """Store rows, halving them until those that can't be stored are alone; return these and why."""
        if not items:
            return []
        assert self._connection is not None  # noqa: S101 - only called inside write()
        try:
            with self._connection.transaction():
                self._upsert(self._connection, kind, [item.row for item in items], again=kind in work.staged)
        except Exception as error:
            if fault_of(error) is not Fault.DATA:
                raise
            if len(items) == 1:
                return [(items[0], error)]
        else:
            work.staged.add(kind)
            return []
        middle = len(items) // 2
        return [
            *self._store_or_split(kind, items[:middle], work),
            *self._store_or_split(kind, items[middle:], work),
        ]

    def _upsert(self, connection: Connection, kind: str, rows: list[Row], *, again: bool) -> None:
        """Stage the rows and move them on; ``again`` says that this transaction has rows in the stage already."""
        statements = self._statements[kind]
        with connection.cursor() as cursor:
            if again:
                cursor.execute(statements.clear)
            with cursor.copy(statements.copy) as copy:
                copy.set_types(statements.types)
                for row in rows:
                    copy.write_row(row)
            cursor.execute(statements.upsert)


class _Statements:
    """The SQL for one table, made once from the names in ``rows``; data never becomes part of it."""

    def __init__(self, table: Table) -> None:
        names = [sql.Identifier(column.name) for column in table.columns]
        rest = [sql.Identifier(column.name) for column in table.columns if column.name not in table.key]
        parts: dict[str, sql.Composable] = {
            "table": sql.Identifier(table.name),
            "stage": sql.Identifier(f"attune_stage_{table.name}"),
            "columns": sql.SQL(", ").join(names),
            "typed": sql.SQL(", ").join(
                sql.SQL("{} {}").format(name, sql.SQL(column.kind.value))
                for name, column in zip(names, table.columns, strict=True)
            ),
            "key": sql.SQL(", ").join(map(sql.Identifier, table.key)),
            "order": sql.SQL(", ").join(sql.SQL("stage.{}").format(sql.Identifier(name)) for name in table.key),
            "set": sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(name) for name in rest),
            "old": sql.SQL(", ").join(sql.SQL("known.{}").format(name) for name in rest),
            "new": sql.SQL(", ").join(sql.SQL("excluded.{}").format(name) for name in rest),
        }
        self.types = [column.kind.value for column in table.columns]
        self.stage = sql.SQL("CREATE TEMPORARY TABLE {stage} ({typed}) ON COMMIT DELETE ROWS").format(**parts)
        self.clear = sql.SQL("DELETE FROM {stage}").format(**parts)
        self.copy = sql.SQL("COPY {stage} ({columns}) FROM STDIN (FORMAT binary)").format(**parts)
        # A row that is there already and the same is left alone: a replay leaves no dead rows behind.
        self.upsert = sql.SQL(
            "INSERT INTO {table} AS known ({columns}) SELECT {columns} FROM {stage} AS stage ORDER BY {order} "
            "ON CONFLICT ({key}) DO UPDATE SET {set} WHERE ({old}) IS DISTINCT FROM ({new})"
        ).format(**parts)


def _invalid(error: msgspec.ValidationError) -> Detail:
    """Split msgspec's ``Expected `int`, got `str` - at `$.ts``` into its parts."""
    said, _, where = str(error).partition(" - at ")
    expected, _, got = said.partition(", got ")
    return Detail(where.strip("`").removeprefix("$").removeprefix("."), expected.removeprefix("Expected "), got)


def _why(table: Table, row: Row, error: Exception) -> Detail:
    """Return which field is at fault, as far as it can be known, and what the database said."""
    got = without_nul(message_of(error))
    for column, value in zip(table.columns, row, strict=True):
        if holds_nul(value):
            return Detail(column.path, "text without NUL", got)
        if column.kind is Kind.COUNT and not MIN_COUNT <= value <= MAX_COUNT:
            return Detail(column.path, "an integer of 64 bits", got)
    named = ""
    if isinstance(error, psycopg.Error):
        paths = {column.name: column.path for column in table.columns}
        named = paths.get(error.diag.column_name or "", error.diag.constraint_name or "")
    return Detail(named, f"what table {table.name} takes", got)
