"""Holds MASS_EXIT reports against labelled spans of a real log, whose clock may be as coarse as a minute."""

from collections.abc import Sequence

import msgspec

from flows.evaluate.figures import share
from flows.evaluate.judge import Report
from flows.generate.lab.expectation import WINDOW_MS

MASS_EXIT = "MASS_EXIT"


class Span(msgspec.Struct, frozen=True):
    """A stretch of a session, ms since 1970, in which many people left."""

    session_id: str
    start: int
    end: int


class SpanFigures(msgspec.Struct, frozen=True):
    """How many spans were found and how many reports are right. Repeats within a span found already count no more."""

    spans: int
    found: int
    recall: float | None
    reports: int
    right: int
    repeats: int
    false: int
    precision: float | None


APART_MS = 5 * 60_000


def judge_spans(
    spans: Sequence[Span], reports: Sequence[Report], tolerance_ms: int, apart_ms: int = APART_MS
) -> SpanFigures:
    """Hold the MASS_EXIT reports against spans.

    A report at tick T is in a span if its window [T - 60 s, T] meets the span, widened by the tolerance at both ends.
    Reports of a session that are less than ``apart_ms`` behind the last one that counted are of the same exit.
    """
    mine = _apart(
        sorted((r for r in reports if r.anomaly_type == MASS_EXIT), key=lambda r: (r.session_id, r.ts)), apart_ms
    )
    by_session: dict[str, list[int]] = {}
    for number, span in enumerate(spans):
        by_session.setdefault(span.session_id, []).append(number)
    found: set[int] = set()
    right = repeats = false = 0
    for report in mine:
        hit = [n for n in by_session.get(report.session_id, []) if _meets(spans[n], report.ts, tolerance_ms)]
        if not hit:
            false += 1
        elif found.issuperset(hit):
            repeats += 1
        else:
            right += 1
        found.update(hit)
    return SpanFigures(
        spans=len(spans),
        found=len(found),
        recall=share(len(found), len(spans)),
        reports=len(mine),
        right=right,
        repeats=repeats,
        false=false,
        precision=share(right, right + false),
    )


def _apart(reports: Sequence[Report], apart_ms: int) -> list[Report]:
    counted: list[Report] = []
    for report in reports:
        last = counted[-1] if counted else None
        if last is None or last.session_id != report.session_id or report.ts - last.ts >= apart_ms:
            counted.append(report)
    return counted


def _meets(span: Span, ts: int, tolerance_ms: int) -> bool:
    return ts - WINDOW_MS <= span.end + tolerance_ms and ts >= span.start - tolerance_ms
