"""Write batches of encoded records into their tables, each batch in one transaction, and set aside what is refused.

A table's rows go by binary COPY into a temporary table and from there by upsert into their own, because COPY alone
can't repeat itself. Binary, because as text the same rows take three times as long.

A server that can't take a batch at once gets it in parts. A hypertable's rows may each belong to a chunk of their own,
every one with its locks: one transaction may need more than the server has, and would at every repeat.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import psycopg
from psycopg.types.json import set_json_dumps

from schemas.batches import Records
from schemas.errors import TerminalError
from schemas.outbound import DeadLetter, Detail, Record
from sinks.postgres.connection import Connection, connect
from sinks.postgres.faults import is_too_much, meaning
from sinks.postgres.inbox import divide
from sinks.postgres.refused import encoded
from sinks.postgres.rows import TABLES
from sinks.postgres.schema import check_schema
from sinks.postgres.store import Item, Store


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


class Writer:
    """One connection's writer; not for two threads at once. Connects at the first write, and again after a loss."""

    def __init__(
        self, conninfo: str, *, connect_timeout_s: float = 10.0, statement_timeout_s: float | None = 60.0
    ) -> None:
        self._conninfo = conninfo
        self._connect_timeout_s = connect_timeout_s
        self._statement_timeout_s = statement_timeout_s
        self._connection: Connection | None = None
        self._stages: set[str] = set()
        self._decoders: dict[str, msgspec.json.Decoder[Record]] = {
            kind: msgspec.json.Decoder(table.struct) for kind, table in TABLES.items()
        }

    def connect(self) -> None:
        """Connect and check the schema, unless connected.

        Raises ConfigError, TransientError or TerminalError.
        """
        self._connected()

    def write(self, batch: Sequence[Records]) -> Written:
        """Store all records of the batch in one transaction; a repeat of what is stored already changes nothing.

        Where the server lacks the means for so many at once, the batch is halved until it takes it, each part in a
        transaction of its own. Raises TransientError when the same batch should be tried again (the connection has
        been given up; whether the batch or a part of it was stored may be unknown, and does not matter), ConfigError
        or TerminalError when that would not help.
        """
        rows: Counter[str] = Counter()
        letters: list[DeadLetter] = []
        parts = [batch]
        while parts:
            part = parts.pop()
            try:
                store = self._store(part)
            except psycopg.Error as error:
                self.close()
                if not is_too_much(error) or sum(map(len, part)) < 2:
                    raise meaning(error, "writing") from error
                first, second = halved(part)
                parts += (second, first)
                continue
            except BaseException:
                self.close()
                raise
            for records in part:
                rows[TABLES[records.type].name] += len(records)
            for kind, refused in store.refused.items():
                rows[TABLES[kind].name] -= refused
            letters += store.letters
        return Written({table: count for table, count in rows.items() if count}, encoded(letters))

    def close(self) -> None:
        """Close the connection; the next write opens another."""
        connection, self._connection = self._connection, None
        self._stages = set()
        if connection is not None:
            connection.close()

    def _store(self, batch: Sequence[Records]) -> Store:
        """Store records in one transaction, and return what was done in it."""
        connection = self._connected()
        store = Store(connection, self._stages)
        items = self._decode(batch, store)
        with connection.transaction():
            store.store_all(items)
        return store

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._prepared()
        return self._connection

    def _prepared(self) -> Connection:
        """Return a new connection to a database that fits."""
        connection = connect(
            self._conninfo,
            connect_timeout_s=self._connect_timeout_s,
            statement_timeout_s=self._statement_timeout_s,
        )
        try:
            check_schema(connection)
            set_json_dumps(msgspec.json.encode, connection)
            connection.commit()
        except psycopg.Error as error:
            connection.close()
            raise meaning(error, "preparing the connection") from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _decode(self, batch: Sequence[Records], store: Store) -> dict[str, list[Item]]:
        """Return the batch's rows by type, in order; what can't be decoded is refused."""
        items: dict[str, list[Item]] = {}
        for records in batch:
            table = TABLES.get(records.type)
            if table is None:
                raise TerminalError(f"no table is known for records of type {records.type!r}")
            decode = self._decoders[records.type].decode
            found = items.setdefault(records.type, [])
            for index, payload in enumerate(records.payloads):
                try:
                    record = decode(payload)
                except msgspec.ValidationError as error:
                    store.refuse(records, index, "invalid_field", _invalid(error))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    store.refuse(records, index, "malformed_json", Detail("", "JSON", str(error)))
                else:
                    found.append((table.row(record), records, index))
        return items


def halved(batch: Sequence[Records]) -> tuple[Sequence[Records], Sequence[Records]]:
    """Return a batch of two records or more in two parts that keep its order.

    >>> three = Records("engagement", ["a", "b", "c"], ["t"] * 3, ["s"] * 3, [1, 2, 3], [b"{}"] * 3)
    >>> [[records.ids for records in part] for part in halved([three])]
    [[['a', 'b']], [['c']]]
    """
    if len(batch) > 1:
        return batch[: len(batch) // 2], batch[len(batch) // 2 :]
    first, second = divide(batch[0], (len(batch[0]) + 1) // 2)
    return [first], [second]


def _invalid(error: msgspec.ValidationError) -> Detail:
    """Split msgspec's ``Expected `int`, got `str` - at `$.ts``` into its parts."""
    said, _, where = str(error).partition(" - at ")
    expected, _, got = said.partition(", got ")
    return Detail(where.strip("`").removeprefix("$").removeprefix("."), expected.removeprefix("Expected "), got)
