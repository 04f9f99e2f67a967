"""Reads what an evaluation needs from files: records, truths, spans, and the scores of the sessions to be drawn."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from flows.evaluate.judge import Key, Report
from flows.evaluate.spans import Span
from flows.generate.lab.episodes import LabTruth
from flows.generate.visitors.truth import VisitorsTruth
from schemas.errors import ConfigError
from schemas.outbound import Anomaly, Contributions, Emotion, Intervention

T = TypeVar("T")


class Scored(msgspec.Struct, frozen=True):
    """What is drawn of an engagement record."""

    tenant_id: str
    session_id: str
    ts: int
    contributions: Contributions

    @property
    def without_poll(self) -> float:
        """The score without its poll term."""
        parts = self.contributions
        return min(1.0, max(0.0, parts.chat + parts.active + parts.reactions + parts.leaves))


def reports(path: Path) -> list[Report]:
    """Return the anomalies that a file of ``attune.anomalies.v1`` raises.

    Raises:
        ConfigError: the file can't be read, or a line is no anomaly.
    """
    return [
        Report(record.tenant_id, record.session_id, record.anomaly_type, record.ts)
        for record in _lines(path, Anomaly)
        if record.state == "raised"
    ]


def emotions(path: Path) -> list[Emotion]:
    """Return the records of a file of ``attune.emotions.v1``."""
    return list(_lines(path, Emotion))


def interventions(path: Path) -> list[Intervention]:
    """Return the records of a file of ``attune.interventions.v1``."""
    return list(_lines(path, Intervention))


def visitors(path: Path) -> VisitorsTruth:
    """Return the truth that ``attune generate --scenario visitors`` wrote beside its events."""
    return _whole(path, VisitorsTruth, "the truth about visitors (attune generate --scenario visitors writes it)")


def labels(path: Path) -> LabTruth:
    """Return the labels that ``attune generate --scenario lab`` wrote beside its events."""
    return _whole(path, LabTruth, "the labels of a lab (attune generate --scenario lab writes FILE.truth.json)")


def spans(path: Path) -> list[Span]:
    """Return labelled spans: a JSON list of objects with ``session_id``, ``start`` and ``end`` (ms since 1970)."""
    return _whole(path, list[Span], "a list of spans: session_id, start, end")


def scores(path: Path, sessions: Collection[Key]) -> dict[Key, list[tuple[int, float]]]:
    """Return tick and score (without its poll term) of some sessions from a file of ``attune.engagement.v1``."""
    found: dict[Key, list[tuple[int, float]]] = {key: [] for key in sessions}
    for record in _lines(path, Scored):
        course = found.get((record.tenant_id, record.session_id))
        if course is not None:
            course.append((record.ts, record.without_poll))
    return found


def _lines(path: Path, kind: type[T]) -> Iterator[T]:
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                try:
                    yield decoder.decode(line)
                except msgspec.DecodeError as error:
                    raise ConfigError(f"{path}:{number}: is no {kind.__name__.lower()} record ({error})") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error


def _whole(path: Path, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: expected {what} ({error})") from error
