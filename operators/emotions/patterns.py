"""Event patterns: which events of the telemetry the rules ask for, read from their tables and checked.

Every pattern is a bit, and an event's bits are its mask. What an event alone can tell the sorter decides; what depends
on the user's events before (``History``) has a bit of its own, which the sieve turns into the pattern's when it holds.
"""

import math
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Literal

import msgspec

from operators.emotions.sorter import TRACKED, Alternative, Band, Compared, Sorter, union
from schemas.inbound import Event, PageView
from schemas.registry import INBOUND

TELEMETRY: Final = {name: entry.struct for name, entry in INBOUND.items() if name.startswith("telemetry.")}
"""The types that a pattern may name."""

_RANGES: Final = ("over", "under", "from", "to")


@dataclass(frozen=True, slots=True)
class History:
    """What an event must be in the light of the user's events before it, for the pattern's ``bit`` to hold.

    ``came_from``: the page viewed before is one of ``pages``; ``turned``: ``field`` differs from that of the event of
    this type before; ``returned``: the view leads back to where the user was before the last view.
    """

    kind: Literal["came_from", "turned", "returned"]
    bit: int
    pages: frozenset[str] = frozenset()
    field: str = ""


class Patterns:
    """The patterns of a rules file by name. Raises nothing: faults are collected in ``faults``, each with its key."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self.faults: list[str] = []
        self.bits: dict[str, int] = {}
        self.history: dict[int, History] = {}
        """By the bit that an event has as long as its past is not looked at."""
        self._next = TRACKED << 1
        self._by_type: dict[type[Event], list[Alternative]] = {struct: [] for struct in TELEMETRY.values()}
        for name, table in tables.items():
            self.bits[name] = self._bit()
            for at, alternative in enumerate(table if isinstance(table, list) else [table]):
                where = f"events.{name}[{at}]" if isinstance(table, list) else f"events.{name}"
                self.faults += self._add(self.bits[name], alternative, where)

    def sorters(self, distinct: Mapping[str, int], near: int) -> dict[type[Event], Sorter]:
        """Return what tells the mask of an event, and what others are held against, by its type.

        ``distinct`` are the fields whose values have to be different, each with the bits of the patterns of whose
        events; those of ``near`` are held against others by their place on the screen.
        """
        views = any(entry.kind != "turned" for entry in self.history.values())
        turns = [(bit, past.field) for bit, past in self.history.items() if past.kind == "turned"]
        sorters = {}
        for struct, alternatives in self._by_type.items():
            fields, mine = set(struct.__struct_fields__), self._bits_of(alternatives)
            compared = Compared(
                bits=union([*(bit for bit, _ in turns), *distinct.values(), near]),
                turns=tuple(field if bit & mine else None for bit, field in turns),
                distinct=tuple(field if bits & mine and field in fields else None for field, bits in distinct.items()),
                near=bool(near & mine) and {"x", "y"} <= fields,
            )
            sorters[struct] = Sorter(tuple(alternatives), compared, views=views and struct is PageView)
        return sorters

    def _bits_of(self, alternatives: list[Alternative]) -> int:
        """Return the bits that events may have, with and without a look at what was before them."""
        bits = union(each.bit for each in alternatives)
        return bits | union(past.bit for bit, past in self.history.items() if bit & bits)

    def types_of(self, name: str) -> list[type[Event]]:
        """Return the types of event that a pattern may match."""
        bits = {self.bits[name], *(bit for bit, past in self.history.items() if past.bit == self.bits[name])}
        return [struct for struct, found in self._by_type.items() if any(each.bit in bits for each in found)]

    def only_return(self, bits: int) -> bool:
        """Return whether every event of some patterns leads back to where the user was before the last view."""
        for alternative in (each for found in self._by_type.values() for each in found):
            past = self.history.get(alternative.bit)
            if bits & (past.bit if past else alternative.bit) and (past is None or past.kind != "returned"):
                return False
        return True

    def _bit(self) -> int:
        bit, self._next = self._next, self._next << 1
        return bit

    def _add(self, bit: int, table: Any, where: str) -> Iterator[str]:
        if not isinstance(table, Mapping):
            yield f"{where}: expected a table, got {table!r}"
            return
        conditions = dict(table)
        named = conditions.pop("type", None)
        names = [named] if isinstance(named, str) else named
        if names is not None and not (isinstance(names, list) and names and set(map(str, names)) <= set(TELEMETRY)):
            yield f"{where}.type: expected some of {', '.join(TELEMETRY)}, got {named!r}"
            return
        past, faults = self._past(bit, conditions, where)
        yield from faults
        if past is not None:
            bit = self._bit()
            self.history[bit] = past
        wanted = [TELEMETRY[name] for name in names or TELEMETRY]
        if names is None:  # all telemetry that has these fields
            wanted = [
                struct
                for struct in wanted
                if set(conditions) <= set(struct.__struct_fields__) and (past is None or _has_past(struct, past))
            ]
        elif past is not None and (without := [struct for struct in wanted if not _has_past(struct, past)]):
            kinds = ", ".join(str(struct.__struct_config__.tag) for struct in without)
            what = f"types with the field {past.field}" if past.kind == "turned" else "telemetry.page_view alone"
            yield f"{where}.{past.kind}: expected {what}, got {kinds}"
            return
        if not wanted or not (conditions or names or past):
            yield f"{where}: expected a type, or fields that events of the telemetry have, got {table!r}"
        for struct in wanted:
            alternative, faults = _alternative(bit, struct, conditions, where)
            yield from faults
            self._by_type[struct].append(alternative)

    def _past(self, bit: int, conditions: dict[str, Any], where: str) -> tuple[History | None, list[str]]:
        """Take what is about the past out of the conditions."""
        found: list[History] = []
        faults: list[str] = []
        if (pages := conditions.pop("came_from", None)) is not None:
            texts = pages if isinstance(pages, list) else [pages]
            if not all(isinstance(page, str) for page in texts):
                faults.append(f"{where}.came_from: expected pages, got {pages!r}")
            found.append(History("came_from", bit, pages=frozenset(map(str, texts))))
        if (field := conditions.pop("turned", None)) is not None:
            found.append(History("turned", bit, field=str(field)))
            if not any(field in struct.__struct_fields__ for struct in TELEMETRY.values()):
                faults.append(f"{where}.turned: expected a field of the telemetry, got {field!r}")
        if (returned := conditions.pop("returned", None)) is not None:
            found.append(History("returned", bit))
            if returned is not True:
                faults.append(f"{where}.returned: expected true, got {returned!r}")
        if len(found) > 1:
            faults.append(f"{where}: expected at most one of came_from, turned and returned")
        return (found[0] if found else None), faults


def _has_past(struct: type[Event], past: History) -> bool:
    """Return whether events of a type can be held against those before: only a view leads from page to page."""
    return past.field in struct.__struct_fields__ if past.kind == "turned" else struct is PageView


def _alternative(
    bit: int, struct: type[Event], conditions: Mapping[str, Any], where: str
) -> tuple[Alternative, list[str]]:
    types = {field.name: _plain(field.type) for field in msgspec.structs.fields(struct)}
    tests: list[tuple[str, Callable[[Any], bool]]] = []
    bands: list[Band] = []
    faults: list[str] = []
    kind = str(struct.__struct_config__.tag)
    for name, wanted in conditions.items():
        key = f"{where}.{name}"
        if name not in types:
            faults.append(f"{key}: {kind} has no such field; it has {', '.join(types)}")
        elif types[name] in (int, float):
            low, high, fault = _band(wanted)
            faults += [f"{key}: {fault}"] if fault else []
            bands.append(Band(attrgetter(name), low, high))
        else:
            test, fault = _test(wanted, types[name])
            faults += [f"{key}: {fault}"] if fault else []
            tests.append((name, test))
    return Alternative(bit, tuple(tests), tuple(bands)), faults


def _plain(annotation: Any) -> Any:
    """Return a field's bare type: str, bool, int, float, or the tuple of its literals."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin is Literal:
            return typing.get_args(annotation)
        elif origin is not None:
            annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
        else:
            return annotation


def _band(wanted: Any) -> tuple[float, float, str]:
    """Return lowest, highest and what is wrong.

    >>> _band({"over": 3000})[:2] == (math.nextafter(3000, math.inf), math.inf)
    True
    """
    if _number(wanted):
        return wanted, wanted, ""
    if (
        not isinstance(wanted, Mapping)
        or not wanted
        or set(wanted) - set(_RANGES)
        or not all(map(_number, wanted.values()))
    ):
        return 0, 0, f"expected a number, or numbers under some of {', '.join(_RANGES)}, got {wanted!r}"
    lows = [
        wanted[name] if name == "from" else math.nextafter(wanted[name], math.inf)
        for name in wanted
        if name in ("from", "over")
    ]
    highs = [
        wanted[name] if name == "to" else math.nextafter(wanted[name], -math.inf)
        for name in wanted
        if name in ("to", "under")
    ]
    low, high = max(lows, default=-math.inf), min(highs, default=math.inf)
    return low, high, "" if low <= high else f"expected a band that holds a number, got {wanted!r}"


def _number(value: Any) -> bool:
    """Return whether a value is a number that a double can hold.

    >>> _number(5000), _number(True), _number(math.inf), _number(10**400)
    (True, False, False, False)
    """
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _test(wanted: Any, kind: Any) -> tuple[Callable[[Any], bool], str]:
    """Return a test of a text or a truth, and what is wrong."""
    if isinstance(wanted, Mapping):
        if set(wanted) == {"contains"} and kind is str:
            parts = wanted["contains"] if isinstance(wanted["contains"], list) else [wanted["contains"]]
            if parts and all(isinstance(part, str) and part for part in parts):
                return _Contains(tuple(part.casefold() for part in parts)), ""
        elif set(wanted) == {"not"}:
            test, fault = _test(wanted["not"], kind)
            return _Not(test), fault
        return _Equals(
            frozenset()
        ), f"expected a value, values, {{ contains = ... }} or {{ not = ... }}, got {wanted!r}"
    values = wanted if isinstance(wanted, list) else [wanted]
    of_kind = bool if kind is bool else str
    if not values or not all(isinstance(value, of_kind) for value in values):
        return _Equals(frozenset()), f"expected {'true or false' if kind is bool else 'texts'}, got {wanted!r}"
    if isinstance(kind, tuple) and not set(values) <= set(kind):
        return _Equals(frozenset()), f"expected some of {', '.join(kind)}, got {wanted!r}"
    return _Equals(frozenset(values)), ""


@dataclass(frozen=True, slots=True)
class _Equals:
    values: frozenset[Any]

    def __call__(self, value: Any) -> bool:
        return value in self.values


@dataclass(frozen=True, slots=True)
class _Not:
    test: Callable[[Any], bool]

    def __call__(self, value: Any) -> bool:
        return not self.test(value)


@dataclass(frozen=True, slots=True)
class _Contains:
    parts: tuple[str, ...]

    def __call__(self, value: Any) -> bool:
        return isinstance(value, str) and any(part in value.casefold() for part in self.parts)
