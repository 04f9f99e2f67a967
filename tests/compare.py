"""Compare expected and actual records so that a failing test says which record differs, and in which field."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from schemas.batches import Records
from schemas.outbound import AnyRecord, DeadLetter, Record
from tests.model import Dead, Expected, Position

SHOWN = 12
"""How many differences a message shows at most."""
INTERCHANGEABLE = {"malformed_json", "invalid_field"}

_decoder = msgspec.json.Decoder(AnyRecord)
_encode = msgspec.json.Encoder().encode


def decoded(batches: Iterable[Records]) -> list[AnyRecord]:
    """Return the records of encoded batches, checked to the byte against their schemas and the columns beside them."""
    records: list[AnyRecord] = []
    for batch in batches:
        columns = zip(batch.ids, batch.tenants, batch.sessions, batch.ts, batch.payloads, strict=True)
        for record_id, tenant, session, ts, payload in columns:
            record: AnyRecord = _decoder.decode(payload)
            beside = (batch.type, record_id, tenant, session, ts)
            inside = (type(record).__struct_config__.tag, record.id, record.tenant_id, record.session_id, record.ts)
            assert beside == inside, f"columns say {beside}, the payload {inside}"
            assert _encode(record) == payload, f"{record} is written otherwise than its struct says: {payload!r}"
            records.append(record)
    return records


def differences(expected: Iterable[Record], actual: Iterable[Record]) -> list[str]:
    """Return a line for every difference between two sets of records, in order of time; none if they are equal.

    Floats are equal to the last bit (0.0 and -0.0 alone are the same). An ``id`` may stand for several records, if it
    does on both sides.
    """
    wanted, got = _by_id(expected), _by_id(actual)
    lines = []
    for key in sorted(wanted.keys() | got.keys()):
        ours, theirs = wanted.get(key, []), got.get(key, [])
        name = key[2]
        if len(ours) == len(theirs):
            pairs = zip(ours, theirs, strict=True)
            lines += [f"{name}: {line}" for one, other in pairs for line in _fields(one, other)]
        elif not theirs:
            lines.append(f"{name}: missing; expected {_short(ours[0])}")
        elif not ours:
            lines.append(f"{name}: not expected; got {_short(theirs[0])}")
        else:
            lines.append(f"{name}: expected {len(ours)} times, got {len(theirs)} times")
    return lines


def assert_same_records(expected: Iterable[Record], actual: Iterable[Record]) -> None:
    """Fail with the first differences if the two sets of records are not equal, whatever their order."""
    _fail(differences(expected, actual), "records")


def dead_differences(
    expected: Iterable[Dead], actual: Iterable[tuple[str, Position, str]], *, fields: bool = False
) -> list[str]:
    """Return a line for every dead letter that is missing, not expected or has another reason (or field)."""
    wanted: dict[Position, list[Dead]] = {}
    for dead in expected:
        wanted.setdefault(dead.position, []).append(dead)
    lines = []
    for reason, position, field in actual:
        at = f"{position.topic}/{position.partition}/{position.offset}"
        candidates = wanted.get(position)
        if not candidates:
            lines.append(f"{at}: not expected; got {reason} of {field!r}")
            continue
        dead = candidates.pop()
        if dead.reason != reason and not (dead.either_way and reason in INTERCHANGEABLE):
            lines.append(f"{at}: expected {dead.reason} of {dead.field!r}, got {reason} of {field!r}")
        elif fields and dead.field != field and not dead.either_way:
            lines.append(f"{at}: expected {reason} of field {dead.field!r}, got field {field!r}")
    missing = (dead for candidates in wanted.values() for dead in candidates)
    lines += [f"{'/'.join(map(str, dead.position))}: missing; expected {dead.reason}" for dead in missing]
    return lines


def assert_same_dead(expected: Iterable[Dead], actual: Iterable[DeadLetter], *, fields: bool = False) -> None:
    """Fail with the first differences if not exactly the expected records became dead letters, for their reasons.

    ``fields`` also compares which field is named.
    """
    found = [(dead.reason, Position(dead.topic, dead.partition, dead.offset), dead.detail.field) for dead in actual]
    _fail(dead_differences(expected, found, fields=fields), "dead letters")


def assert_same(expected: Expected, actual: Expected) -> None:
    """Fail with the first differences if two outcomes are not equal; the order within each list does not count."""
    lines = differences([*expected.engagement, *expected.sessions], [*actual.engagement, *actual.sessions])
    lines += dead_differences(expected.dead, [(dead.reason, dead.position, dead.field) for dead in actual.dead])
    for name in ("accepted", "repeats"):
        if getattr(expected, name) != getattr(actual, name):
            lines.append(f"{name}: expected {getattr(expected, name)}, got {getattr(actual, name)}")
    _fail(lines, "outcomes")


def _fail(lines: list[str], what: str) -> None:
    if lines:
        more = f"\n  and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise AssertionError(f"{what} differ:\n  " + "\n  ".join(lines[:SHOWN]) + more)


def _by_id(records: Iterable[Record]) -> dict[tuple[int, str, str], list[Record]]:
    by_id: dict[tuple[int, str, str], list[Record]] = {}
    for record in records:
        by_id.setdefault((record.ts, type(record).__name__, record.id), []).append(record)
    for same in by_id.values():
        same.sort(key=msgspec.json.encode)
    return by_id


def _fields(expected: Any, actual: Any, path: str = "") -> Iterator[str]:
    """Yield a line for every field in which two structs differ."""
    if type(expected) is not type(actual) or not isinstance(expected, msgspec.Struct):
        if expected != actual:
            yield f"{path or 'record'} expected {expected!r}, got {actual!r}"
        return
    for name in expected.__struct_fields__:
        yield from _fields(getattr(expected, name), getattr(actual, name), f"{path}.{name}" if path else name)


def _short(record: Record) -> str:
    text = repr(record)
    return text if len(text) <= 300 else text[:300] + " ..."


def duplicates(records: Iterable[Record]) -> list[str]:
    """Return the ids that stand for more than one record."""
    return sorted(name for name, times in Counter(record.id for record in records).items() if times > 1)
