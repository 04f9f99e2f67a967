"""From a record to a row: every field of every outbound struct has a column, and this says which and how.

The columns are derived from the structs, so a new field can't be forgotten here; that the database has them too is
checked at every connection (``schema``). Nothing here knows the database's driver.
"""

import base64
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import Any

import msgspec

from schemas import outbound
from schemas.inbound import Ts
from schemas.registry import OUTBOUND

Row = tuple[Any, ...]

EPOCH_MS = 946_684_800_000
"""2000-01-01 UTC on the wire: where PostgreSQL counts its microseconds from."""

KEYS: dict[type[outbound.Record], tuple[str, ...]] = {outbound.Intervention: ("id", "revision", "ts")}
"""The primary key where it is not ``(id, ts)``: the ledger keeps every revision."""

PREFIXES: dict[type[msgspec.Struct], str] = {
    outbound.Signals: "",
    outbound.Contributions: "contribution_",
    outbound.DetectorScores: "detector_",
    outbound.Trigger: "trigger_",
    outbound.Detail: "detail_",
}
"""What goes before the names of a nested struct's fields when they become columns."""

RENAMED: dict[tuple[type[msgspec.Struct], str], str] = {
    (outbound.DeadLetter, "topic"): "source_topic",
    (outbound.DeadLetter, "partition"): "source_partition",
    (outbound.DeadLetter, "offset"): "source_offset",
    (outbound.Intervention, "by"): "decided_by",
}
"""Fields whose own name is a word of SQL, or says too little in a table."""


class Kind(StrEnum):
    """A column's type, by PostgreSQL's own name for it."""

    TEXT = "text"
    TEXTS = "text[]"
    COUNT = "bigint"
    REAL = "double precision"
    TRUTH = "boolean"
    TIME = "timestamp with time zone"
    OPEN = "jsonb"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, its type, and the dotted path of the field it holds."""

    name: str
    kind: Kind
    path: str
    nullable: bool

    @property
    def sent(self) -> Kind:
        """The type that a row's value is sent as: a time is the number that it is on PostgreSQL's side of the wire."""
        return Kind.COUNT if self.kind is Kind.TIME else self.kind


@dataclass(frozen=True)
class Table:
    """The table of one record type: its columns in the struct's order, and its key."""

    name: str
    kind: str
    struct: type[outbound.Record]
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @cached_property
    def _fields(self) -> Callable[[outbound.Record], Row]:
        return attrgetter(*(column.path for column in self.columns))

    @cached_property
    def _times(self) -> tuple[int, ...]:
        return tuple(index for index, column in enumerate(self.columns) if column.kind is Kind.TIME)

    @cached_property
    def key_of(self) -> Callable[[Row], Row]:
        """Return a row's key."""
        return itemgetter(*(index for name in self.key for index, c in enumerate(self.columns) if c.name == name))

    def row(self, record: outbound.Record) -> Row:
        """Return the record's values in the order of ``columns``.

        Times are PostgreSQL's own, microseconds since 2000: to make a ``datetime`` of each costs more than all the
        rest of a row. Other values are as they are.
        """
        if isinstance(record, outbound.DeadLetter):
            record = storable(record)
        values = list(self._fields(record))
        for place in self._times:
            if (ts := values[place]) is not None:
                values[place] = (ts - EPOCH_MS) * 1000
        return tuple(values)


def storable(letter: outbound.DeadLetter) -> outbound.DeadLetter:
    r"""Return a dead letter that PostgreSQL can hold: its text has no NUL.

    Dead letters quote what is broken, so this is usual for them. A payload with a NUL becomes base64, elsewhere the
    replacement character stands for it.

    >>> letter = outbound.DeadLetter(
    ...     id="d", tenant_id="t", session_id="", ts=0, reason="malformed_json",
    ...     detail=outbound.Detail("", "JSON", "\0"), topic="a", partition=0, offset=7, payload="{\0",
    ... )
    >>> stored = storable(letter)
    >>> stored.payload, stored.encoding, stored.detail.got
    ('ewA=', 'base64', '\ufffd')
    """
    texts = (letter.id, letter.tenant_id, letter.session_id, letter.topic, letter.payload, *_parts(letter.detail))
    if not any("\0" in text for text in texts):
        return letter
    nul_in_payload = "\0" in letter.payload
    return msgspec.structs.replace(
        letter,
        id=without_nul(letter.id),
        tenant_id=without_nul(letter.tenant_id),
        session_id=without_nul(letter.session_id),
        topic=without_nul(letter.topic),
        detail=outbound.Detail(*map(without_nul, _parts(letter.detail))),
        payload=base64.b64encode(letter.payload.encode()).decode() if nul_in_payload else letter.payload,
        encoding="base64" if nul_in_payload else letter.encoding,
    )


def without_nul(text: str) -> str:
    """Return the text with the replacement character for each NUL, which PostgreSQL's text can't hold."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def holds_nul(value: Any) -> bool:
    """Return whether a row's value has text with a NUL in it, at any depth."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, msgspec.Struct):
        return any(map(holds_nul, msgspec.structs.astuple(value)))
    if isinstance(value, dict):
        return any(map(holds_nul, value)) or any(map(holds_nul, value.values()))
    return isinstance(value, list | tuple) and any(map(holds_nul, value))


def _parts(detail: outbound.Detail) -> tuple[str, str, str]:
    return detail.field, detail.expected, detail.got


def _columns(struct: type[msgspec.Struct], path: str = "", prefix: str = "") -> list[Column]:
    columns: list[Column] = []
    for field in msgspec.structs.fields(struct):
        annotation, nullable = _without_none(field.type)
        where = f"{path}{field.name}"
        if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
            columns += _columns(annotation, f"{where}.", PREFIXES.get(annotation, f"{field.name}_"))
        else:
            name = RENAMED.get((struct, field.name), f"{prefix}{field.name}")
            columns.append(Column(name, _kind(annotation, where), where, nullable))
    return columns


def _without_none(annotation: Any) -> tuple[Any, bool]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        (inner,) = (part for part in typing.get_args(annotation) if part is not type(None))
        return inner, True
    return annotation, False


def _kind(annotation: Any, where: str) -> Kind:
    if annotation == Ts:
        return Kind.TIME
    if typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is typing.Literal:
        return Kind.TEXT
    plain = {
        str: Kind.TEXT,
        int: Kind.COUNT,
        float: Kind.REAL,
        bool: Kind.TRUTH,
        list[str]: Kind.TEXTS,
    }
    if annotation in plain:
        return plain[annotation]
    if typing.get_origin(annotation) in (list, dict):
        return Kind.OPEN
    raise TypeError(f"no column type is known for field {where!r} of type {annotation!r}: add one to {__name__}")


TABLES: dict[str, Table] = {
    kind: Table(entry.table, kind, entry.struct, tuple(_columns(entry.struct)), KEYS.get(entry.struct, ("id", "ts")))
    for kind, entry in OUTBOUND.items()
}
"""Every table by its record type, in the contract's order; all writers go through them in this order."""
