"""Holds reports against the lab's labels: which truths were found, when, and which reports are wrong."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from flows.generate.lab.episodes import Episode, LabSession, TypeTruth
from flows.generate.lab.expectation import TICK_MS
from flows.generate.lab.labels import TYPES

GRACE_TICKS = 2
"""A report may come so many ticks after its type was last open: the contract gives a detector two."""

Key = tuple[str, str]
"""Tenant and session."""
Verdict = Literal["right", "repeat", "ambiguous", "false"]


@dataclass(frozen=True, slots=True)
class Report:
    """An anomaly that was raised."""

    tenant_id: str
    session_id: str
    anomaly_type: str
    ts: int

    @property
    def key(self) -> Key:
        """Its session."""
        return self.tenant_id, self.session_id


@dataclass(frozen=True, slots=True)
class Judged:
    """A report, what it is, and its session (None: it is unknown); ``why`` is the cause of an ambiguous episode."""

    report: Report
    verdict: Verdict
    session: LabSession | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Truth:
    """A type that was wanted in an episode, and the first report that found it, if one did.

    ``instead``: that report is of a type ahead in the order.
    """

    session: LabSession
    episode: Episode
    anomaly_type: str
    onset_ts: int
    report: Report | None
    instead: bool = False

    @property
    def delay_ticks(self) -> int | None:
        """Ticks from the onset to the report; below 0 if noise made the rule hold earlier. None: missed."""
        return None if self.report is None else (self.report.ts - self.onset_ts) // TICK_MS

    @property
    def delay_s(self) -> float | None:
        """Seconds from the change of the process to the report."""
        return None if self.report is None else (self.report.ts - self.episode.start_ts) / 1000


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything that was wanted, everything that was reported, and the hours of healthy sessions with an audience."""

    truths: tuple[Truth, ...]
    reports: tuple[Judged, ...]
    sessions: int
    healthy_hours: float


def judge(sessions: Sequence[LabSession], reports: Iterable[Report]) -> Judgement:
    """Hold reports against sessions. A report of a session that is unknown is false."""
    by_session: dict[Key, list[Report]] = defaultdict(list)
    for report in reports:
        by_session[report.key].append(report)
    truths: list[Truth] = []
    judged: list[Judged] = []
    for session in sessions:
        mine = sorted(by_session.pop((session.tenant_id, session.session_id), []), key=lambda r: (r.ts, r.anomaly_type))
        judged += _reports(session, mine)
        truths += _truths(session, mine)
    judged += [Judged(report, "false", None) for rest in by_session.values() for report in rest]
    hours = sum(session.audience_ticks for session in sessions if session.healthy) * TICK_MS / 3_600_000
    return Judgement(tuple(truths), tuple(judged), len(sessions), hours)


def _reports(session: LabSession, reports: list[Report]) -> list[Judged]:
    seen: set[tuple[int, str]] = set()
    judged = []
    for report in reports:
        number = next((n for n, e in enumerate(session.episodes) if _open(session, e, report)), None)
        if number is None:
            judged.append(Judged(report, "false", session))
            continue
        cause = session.episodes[number].ambiguous
        place = number, report.anomaly_type
        verdict: Verdict = "ambiguous" if cause else "repeat" if place in seen else "right"
        seen.add(place)
        judged.append(Judged(report, verdict, session, cause or ""))
    return judged


def _truths(session: LabSession, reports: list[Report]) -> list[Truth]:
    truths = []
    for episode in session.episodes:
        for wanted in episode.types:
            if wanted.onset_ts is None:
                continue
            takers = TYPES[: TYPES.index(wanted.anomaly_type) + 1]
            open_ones = (r for r in reports if r.anomaly_type in takers and _open(session, episode, r))
            # Of two at one tick the wanted type's own counts.
            first = min(open_ones, key=lambda r: (r.ts, r.anomaly_type != wanted.anomaly_type), default=None)
            instead = first is not None and first.anomaly_type != wanted.anomaly_type
            truths.append(Truth(session, episode, wanted.anomaly_type, wanted.onset_ts, first, instead))
    return truths


def _open(session: LabSession, episode: Episode, report: Report) -> bool:
    """Tell whether the report's type is open at its tick, or was a moment ago; nothing is after ``session.ended``."""
    if session.end_ts is not None and report.ts > session.end_ts:
        return False
    return any(_covers(truth, report.ts) for truth in episode.types if truth.anomaly_type == report.anomaly_type)


def _covers(truth: TypeTruth, ts: int) -> bool:
    return any(first <= ts <= last + GRACE_TICKS * TICK_MS for first, last in truth.spans)
