"""The breakdown of a record: why a score, a route, an intervention's fate, and how far confidence can be trusted.

What is worked out is data (``Breakdown``); ``flows.commands.explain`` prints it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from operators.config import PANE_MS, ScoreConfig
from operators.engagement import CATEGORIES, explain
from schemas.errors import ConfigError
from schemas.outbound import (
    Anomaly,
    AnyRecord,
    Calibration,
    Contributions,
    Decision,
    Engagement,
    Intervention,
    RuleCheck,
)
from schemas.registry import INBOUND, OUTBOUND, type_of

Explainable = Engagement | Decision | Intervention | Calibration
EXPLAINABLE: tuple[type[Explainable], ...] = (Engagement, Decision, Intervention, Calibration)

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
    """What a record rests on: its rows, then the outcome step by step (``facts``), then the rules it went through."""

    type: str
    id: str
    tenant_id: str
    session_id: str
    ts: int
    rows: list[Row]
    facts: dict[str, Any]
    rules: list[RuleCheck] = []


def break_down(record: Explainable, config: ScoreConfig) -> Breakdown:
    """Return the breakdown of a record; a score is worked out anew from its signals by ``config``."""
    rules: list[RuleCheck] = []
    if isinstance(record, Engagement):
        rows, facts = _engagement(record, config)
    elif isinstance(record, Decision):
        rows, facts = _decision(record)
        rules = record.rules
    elif isinstance(record, Calibration):
        rows, facts = _calibration(record)
    else:
        rows, facts = _intervention(record)
    about = (type_of(type(record)), record.id, record.tenant_id, record.session_id, record.ts)
    return Breakdown(*about, rows, facts, rules)


def parse(line: bytes | str, where: str) -> Explainable:
    """Read one record.

    Raises:
        ConfigError: it is no record, or one of a type that has nothing to explain.
    """
    if not line.strip():
        raise ConfigError(f"{where}: nothing was read; expected a record as a line of JSON")
    try:
        record: AnyRecord = msgspec.json.decode(line, type=AnyRecord)
    except msgspec.DecodeError as error:
        if _is_event(line):
            raise ConfigError(f"{where}: an event, not a record: for a log of events give --session and --at") from None
        raise ConfigError(f"{where}: not an outbound record: {error}") from error
    if isinstance(record, Anomaly):
        tick = -(-record.ts // PANE_MS) * PANE_MS
        raise ConfigError(
            f"{where}: an anomaly is explained from the log of events: "
            f"attune explain LOG --session {record.tenant_id}/{record.session_id} --at {tick}"
        )
    if not isinstance(record, EXPLAINABLE):
        known = ", ".join(type_of(struct) for struct in EXPLAINABLE)
        raise ConfigError(f"{where}: nothing to explain about {type_of(type(record))}; expected one of {known}")
    return record


def _is_event(line: bytes | str) -> bool:
    try:
        found = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return isinstance(found, dict) and found.get("type") in INBOUND


def find(folder: Path, record_id: str) -> Explainable:
    """Look a record up by its id in the folder that a replay has written; the highest revision counts.

    Raises:
        ConfigError: it isn't there.
    """
    there = _files(folder, EXPLAINABLE)
    found = [record for file in there for record in _matching(file, record_id) if record.id == record_id]
    if not found:
        raise ConfigError(f'no record has the id "{record_id}" in {", ".join(str(file) for file in there)}')
    return max(found, key=lambda record: getattr(record, "revision", 0))


def conversation(folder: Path, conversation_id: str) -> list[Decision]:
    """Return the decisions on a conversation's answers, in their order, from the folder that a replay has written.

    Raises:
        ConfigError: there are none.
    """
    (file,) = _files(folder, (Decision,))
    records = [record for record in _matching(file, conversation_id) if isinstance(record, Decision)]
    found = [record for record in records if record.conversation_id == conversation_id]
    if not found:
        raise ConfigError(f'no answer belongs to the conversation "{conversation_id}" in {file}')
    return found


def _files(folder: Path, structs: tuple[type[Explainable], ...]) -> list[Path]:
    """Return the files of these records that are there.

    Raises:
        ConfigError: none is.
    """
    files = [folder / f"{OUTBOUND[type_of(struct)].topic}.jsonl" for struct in structs]
    there = [file for file in files if file.is_file()]
    if not there:
        raise ConfigError(f"{folder}: expected a replay's folder, with {', '.join(file.name for file in files)}")
    return there


def _matching(file: Path, text: str) -> Iterator[Explainable]:
    """Yield the records that hold a text. Its encoding is looked for first: decoding every line would take minutes."""
    needle = msgspec.json.encode(text)
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if needle in line:
                yield parse(line, f"{file}:{number}")


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
    judged = ("confidence", "level", "action", "why", "similarity", "novelty", "complexity")
    routed = ("rule", "letter", "path", "reason", "canonical_id")
    return rows, {name: getattr(record, name) for name in (*judged, *routed)}


def _calibration(record: Calibration) -> tuple[list[Row], dict[str, Any]]:
    rows = [
        Row(
            f"confidence {band.low:.1f} to {band.high:.1f}",
            f"{band.resolved} resolved",
            note=f"said {band.confidence:.2f} on average, and {band.not_needed:.2f} needed no person",
        )
        for band in record.bands
    ]
    facts: dict[str, Any] = {name: getattr(record, name) for name in ("answers", "resolved", "needed")}
    facts |= {"Brier score": record.brier, "calibration error": record.expected_calibration_error}
    return rows, facts | {"thresholds": record.thresholds}


def _intervention(record: Intervention) -> tuple[list[Row], dict[str, Any]]:
    rows = [Row("trigger", record.trigger.id, note=f"{record.trigger.kind} {record.trigger.name}")]
    names = ("intervention", "recipient", "confidence", "priority", "status", "reason", "why", "by", "revision")
    return rows, {name: getattr(record, name) for name in names}
