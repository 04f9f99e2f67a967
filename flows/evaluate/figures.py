"""What a judgement comes to: precision, recall, delays and false alarms, by type."""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from flows.evaluate.judge import Judgement
from flows.generate.lab.labels import TYPES

PROMPT_TICKS = 2
"""An anomaly is to be raised within two ticks of its rule holding (contract, section 4)."""


class TypeFigures(msgspec.Struct, frozen=True):
    """The figures of one type (or of all). Ratios are null where there is nothing to divide by.

    ``prompt`` is the share of the truths that were found within two ticks of the onset. Delays are medians and 95th
    percentiles over the truths found.
    """

    anomaly_type: str
    truths: int
    found: int
    instead: int
    missed: int
    recall: float | None
    reports: int
    right: int
    repeats: int
    ambiguous: int
    false: int
    precision: float | None
    prompt: float | None
    delay_ticks_median: float | None
    delay_ticks_p95: float | None
    delay_s_median: float | None
    delay_s_p95: float | None
    false_per_hour: float | None


class Figures(msgspec.Struct, frozen=True):
    """The figures by type, of all types together, and what they rest on.

    ``ambiguous``: reports that count neither way, by cause; ``false_by_kind``: false ones by kind of session.
    """

    sessions: int
    healthy_hours: float
    types: list[TypeFigures]
    total: TypeFigures
    ambiguous: dict[str, int]
    false_by_kind: dict[str, int]


def figures(judgement: Judgement) -> Figures:
    """Count a judgement out."""
    causes = Counter(judged.why for judged in judgement.reports if judged.verdict == "ambiguous")
    wrong = Counter(j.session.kind if j.session else "unknown" for j in judgement.reports if j.verdict == "false")
    return Figures(
        sessions=judgement.sessions,
        healthy_hours=judgement.healthy_hours,
        types=[_of(judgement, (name,), name) for name in TYPES],
        total=_of(judgement, TYPES, "all"),
        ambiguous=dict(sorted(causes.items())),
        false_by_kind=dict(sorted(wrong.items())),
    )


def _of(judgement: Judgement, types: Sequence[str], name: str) -> TypeFigures:
    truths = [truth for truth in judgement.truths if truth.anomaly_type in types]
    reports = [judged for judged in judgement.reports if judged.report.anomaly_type in types]
    verdicts = Counter(judged.verdict for judged in reports)
    ticks = [ticks for truth in truths if (ticks := truth.delay_ticks) is not None]
    seconds = [seconds for truth in truths if (seconds := truth.delay_s) is not None]
    instead = sum(truth.instead for truth in truths)
    healthy = sum(j.verdict == "false" and j.session is not None and j.session.healthy for j in reports)
    return TypeFigures(
        anomaly_type=name,
        truths=len(truths),
        found=len(ticks) - instead,
        instead=instead,
        missed=len(truths) - len(ticks),
        recall=share(len(ticks), len(truths)),
        reports=len(reports),
        right=verdicts["right"],
        repeats=verdicts["repeat"],
        ambiguous=verdicts["ambiguous"],
        false=verdicts["false"],
        precision=share(verdicts["right"], verdicts["right"] + verdicts["false"]),
        prompt=share(sum(delay <= PROMPT_TICKS for delay in ticks), len(truths)),
        delay_ticks_median=quantile(ticks, 0.5),
        delay_ticks_p95=quantile(ticks, 0.95),
        delay_s_median=quantile(seconds, 0.5),
        delay_s_p95=quantile(seconds, 0.95),
        false_per_hour=healthy / judgement.healthy_hours if judgement.healthy_hours else None,
    )


def share(part: int, whole: int) -> float | None:
    """Return ``part / whole``, None of nothing.

    >>> share(1, 4), share(0, 0)
    (0.25, None)
    """
    return part / whole if whole else None


def quantile(values: Sequence[float], q: float) -> float | None:
    """Return the least value that at least a share ``q`` of the values does not exceed; None of nothing.

    >>> quantile([3, 1, 2], 0.5), quantile([3, 1, 2], 0.95), quantile([], 0.5)
    (2, 3, None)
    """
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)] if values else None
