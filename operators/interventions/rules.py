"""From an emotion or an anomaly to what is done about it: the mapping, read from data and checked."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

import msgspec
from msgspec import Meta

from operators.interventions.reading import FOLDER, Name, Tell, checked, load, misfits, table, tables
from schemas.errors import ConfigError
from schemas.outbound import AnomalyType

FILE: Final = "interventions.toml"

Priority = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
RANK: Final[Mapping[Priority, int]] = {name: rank for rank, name in enumerate(get_args(Priority))}
Share = Annotated[float, Meta(ge=0, le=1)]
Emotion = Annotated[str, Meta(min_length=1, max_length=128)]
Seconds = Annotated[float, Meta(ge=0, le=366 * 86_400)]
ANOMALIES: Final[tuple[str, ...]] = get_args(AnomalyType)


@dataclass(frozen=True, slots=True)
class Row:
    """One answer to a trigger. ``place`` is the intervention's in the file, ``least`` the confidence that it takes.

    ``confidence`` is what an anomaly's has; an emotion brings its own. ``once``: not again in the same episode of the
    anomaly.
    """

    intervention: str
    priority: Priority
    place: int
    least: float = 0.0
    confidence: float | None = None
    once: bool = False


@dataclass(frozen=True)
class Rules:
    """The mapping. ``cooldowns`` has every intervention: milliseconds, or None for once a session.

    ``emotions`` and ``anomalies`` hold the rows of each, in the order in which they are tried. Nothing is done about a
    WARNING while the session's engagement score is above its ``warning_above``.
    """

    cooldowns: Mapping[str, int | None]
    emotions: Mapping[str, tuple[Row, ...]]
    anomalies: Mapping[str, tuple[Row, ...]]
    warning_above: Mapping[str, float] = field(default_factory=dict)

    def triggers(self) -> Iterator[tuple[str, Literal["emotion", "anomaly"], str]]:
        """Yield every intervention with the kind and the name of each of its triggers."""
        for name, rows in self.emotions.items():
            yield from ((row.intervention, "emotion", name) for row in rows)
        for name, rows in self.anomalies.items():
            yield from ((row.intervention, "anomaly", name) for row in rows)


class _Intervention(msgspec.Struct, frozen=True, kw_only=True):
    cooldown_s: Seconds | Literal["session"]
    emotions: dict[Emotion, Share] = {}
    priority: Priority | None = None

    def __post_init__(self) -> None:
        if self.emotions and self.priority is None:
            raise ValueError("expected a priority, for it answers to emotions")
        if self.priority is not None and not self.emotions:
            raise ValueError("expected no priority, for it answers to no emotion; an anomaly says its own")


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    intervention: Name
    priority: Priority
    confidence: Share
    once: Literal["episode"] | None = None


class _Anomaly(msgspec.Struct, frozen=True, kw_only=True):
    interventions: list[Any]
    warning_above: Share | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True):
    interventions: dict[str, Any]
    anomalies: dict[str, Any] = {}
    observed: list[Emotion] = []


def read_rules(folder: Path = FOLDER, emotions: Collection[str] | None = None) -> Rules:
    """Read the mapping. ``emotions`` are those that the rules find (None: not checked).

    Raises:
        ConfigError: the file can't be read or doesn't fit: all faults, each with the file and its key.
    """
    faults: list[str] = []
    rules = collect_rules(folder, emotions, faults.append)
    if faults or rules is None:
        raise ConfigError("\n".join(faults))
    return rules


def collect_rules(folder: Path, emotions: Collection[str] | None, tell: Tell) -> Rules | None:
    """Return the mapping, without what is faulty, which is told; None if the file can't be read."""
    file = folder / FILE

    def tell_file(fault: str) -> None:
        tell(f"{file}: {fault}")

    return _read(file, emotions, tell_file)


def _read(file: Path, emotions: Collection[str] | None, tell: Tell) -> Rules | None:
    tree = load(file, tell)
    found = None if tree is None else checked(_File, tree, "the file", tell)
    if found is None:
        return None
    entries: dict[str, _Intervention] = {}
    for name, entry in found.interventions.items():
        where = f"interventions.{name}"
        for fault in misfits(name, Name, where):
            tell(fault)
        read = checked(_Intervention, table(entry, where, tell), where, tell)
        # One with faults stands for itself below, so that it isn't told as unknown, too.
        entries[name] = read or _Intervention(cooldown_s=0)
    if emotions is not None:
        _known(entries, found.observed, emotions, tell)
    anomalies, warning_above = _anomalies(found.anomalies, list(entries), tell)
    answered: dict[str, list[Row]] = {}
    for place, (name, entry) in enumerate(entries.items()):
        for emotion, least in entry.emotions.items():
            answered.setdefault(emotion, []).append(Row(name, entry.priority or "LOW", place, least))
    return Rules(
        {name: _cooldown(entry) for name, entry in entries.items()},
        {emotion: tuple(rows) for emotion, rows in answered.items()},
        anomalies,
        warning_above,
    )


def _cooldown(entry: _Intervention) -> int | None:
    return None if isinstance(entry.cooldown_s, str) else round(entry.cooldown_s * 1000)


def _known(entries: Mapping[str, _Intervention], observed: list[str], emotions: Collection[str], tell: Tell) -> None:
    for name, entry in entries.items():
        for emotion in entry.emotions:
            if emotion not in emotions and emotion not in observed:
                tell(
                    f'interventions.{name}.emotions: no rule finds "{emotion}": expected one of '
                    f"{', '.join(sorted(emotions))}, or one that is named under observed"
                )


def _anomalies(
    found: Mapping[str, Any], names: list[str], tell: Tell
) -> tuple[dict[str, tuple[Row, ...]], dict[str, float]]:
    rows: dict[str, tuple[Row, ...]] = {}
    warning_above: dict[str, float] = {}
    for anomaly, entry in found.items():
        where = f"anomalies.{anomaly}"
        if anomaly not in ANOMALIES:
            tell(f"{where}: unknown; expected one of {', '.join(ANOMALIES)}")
        read = checked(_Anomaly, table(entry, where, tell), where, tell)
        if read is None:
            continue
        if read.warning_above is not None:
            warning_above[anomaly] = read.warning_above
        answers: dict[str, Row] = {}
        for at, each in enumerate(tables(read.interventions, f"{where}.interventions", tell)):
            here = f"{where}.interventions[{at}]"
            answer = checked(_Answer, each, here, tell)
            if answer is None:
                continue
            name = answer.intervention
            if name not in names:
                tell(f'{here}: there is no intervention "{name}"; expected one of {", ".join(names)}')
            elif name in answers:
                tell(f'{here}: "{name}" is there already')
            else:
                place = names.index(name)
                once = answer.once is not None
                answers[name] = Row(name, answer.priority, place, 0.0, answer.confidence, once)
        rows[anomaly] = tuple(answers.values())
    return rows, warning_above
