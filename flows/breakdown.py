"""The breakdown of a record: why a window has its score, an answer its route, an intervention its fate.

What is worked out is data (``Breakdown``); ``flows.commands.explain`` prints it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from operators.config import ScoreConfig
from operators.engagement import CATEGORIES, explain
from schemas.errors import ConfigError
from schemas.outbound import AnyRecord, Contributions, Decision, Engagement, Intervention
from schemas.registry import OUTBOUND, type_of

Explainable = Engagement | Decision | Intervention
EXPLAINABLE: tuple[type[Explainable], ...] = (Engagement, Decision, Intervention)

_SIGNAL = {
    "chat": "chat_per_min",
    "poll": "poll_participation",
    "active": "active_ratio",
    "reactions": "reactions_per_min",
    "leaves": "leave_rate",
}
"""Which signal of the window each term of the score is made of."""


class Row(msgspec.Struct, frozen=True):
    """A term: its raw signal, its value normalised to 0..1, its weight, and ``weight * term``."""

    name: str
    signal: float | str | None
    term: float | None = None
    weight: float | None = None
    contribution: float | None = None
    note: str = ""


class Breakdown(msgspec.Struct, frozen=True):
    """What a record rests on: its rows, then the outcome step by step (``facts``)."""

    type: str
    id: str
    tenant_id: str
    session_id: str
    ts: int
    rows: list[Row]
    facts: dict[str, Any]


def break_down(record: Explainable, config: ScoreConfig) -> Breakdown:
    """Return the breakdown of a record; a score is worked out anew from its signals by ``config``."""
    if isinstance(record, Engagement):
        rows, facts = _engagement(record, config)
    elif isinstance(record, Decision):
        rows, facts = _decision(record)
    else:
        rows, facts = _intervention(record)
    return Breakdown(type_of(type(record)), record.id, record.tenant_id, record.session_id, record.ts, rows, facts)


def parse(line: bytes | str, where: str) -> Explainable:
    """Read one record.

    Raises:
        ConfigError: it is no record, or one of a type that has nothing to explain.
    """
    try:
        record: AnyRecord = msgspec.json.decode(line, type=AnyRecord)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{where}: not an outbound record: {error}") from error
    if not isinstance(record, EXPLAINABLE):
        known = ", ".join(type_of(struct) for struct in EXPLAINABLE)
        raise ConfigError(f"{where}: nothing to explain about {type_of(type(record))}; expected one of {known}")
    return record


def find(folder: Path, record_id: str) -> Explainable:
    """Look a record up by its id in the folder that a replay has written; the highest revision counts.

    Raises:
        ConfigError: it isn't there.
    """
    files = [folder / f"{OUTBOUND[type_of(struct)].topic}.jsonl" for struct in EXPLAINABLE]
    there = [file for file in files if file.is_file()]
    if not there:
        raise ConfigError(f"{folder}: expected a replay's folder, with {', '.join(file.name for file in files)}")
    found = [record for file in there for record in _matching(file, record_id)]
    if not found:
        raise ConfigError(f'no record has the id "{record_id}" in {", ".join(str(file) for file in there)}')
    return max(found, key=lambda record: getattr(record, "revision", 0))


def _matching(file: Path, record_id: str) -> Iterator[Explainable]:
    # The id's own encoding is looked for first: decoding every line of a long replay would take minutes.
    needle = msgspec.json.encode(record_id)
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if needle in line:
                record = parse(line, f"{file}:{number}")
                if record.id == record_id:
                    yield record


def _engagement(record: Engagement, config: ScoreConfig) -> tuple[list[Row], dict[str, Any]]:
    found = explain(record.signals, config)
    rows = []
    for name in Contributions.__struct_fields__:
        sign = -1 if name == "leaves" else 1
        rows.append(
            Row(
                name,
                getattr(record.signals, _SIGNAL[name]),
                getattr(found.terms, name),
                sign * getattr(config.weights, name),
                getattr(found.contributions, name),
                _SIGNAL[name],
            )
        )
    facts: dict[str, Any] = {
        "connected_users": record.signals.connected_users,
        "active_users": record.signals.active_users,
        "sum": found.unclamped,
        "score": found.score,
        "category": found.category,
        "boundaries": dict(zip(CATEGORIES, config.boundaries, strict=False)),
    }
    if abs(found.score - record.score) > 1e-9 or found.category != record.category:
        facts["recorded"] = f"{record.score:.4f} {record.category}: other settings held when it was written"
    return rows, facts


def _decision(record: Decision) -> tuple[list[Row], dict[str, Any]]:
    rows = [Row(signal.name, signal.score, note=signal.reason) for signal in record.signals]
    names = ("confidence", "level", "action", "similarity", "novelty", "complexity", "letter", "path", "reason")
    return rows, {name: getattr(record, name) for name in names}


def _intervention(record: Intervention) -> tuple[list[Row], dict[str, Any]]:
    rows = [Row("trigger", record.trigger.id, note=record.trigger.kind)]
    names = ("intervention", "recipient", "confidence", "priority", "status", "reason", "revision")
    return rows, {name: getattr(record, name) for name in names}
