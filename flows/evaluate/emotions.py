"""Holds emotion records against what generated visitors are known to have shown.

A record finds a truth of the same session, user and emotion if they are at most ``TOLERANCE_MS`` apart; one record
finds one truth, of its own rule first, then the nearest. A record that finds none is a *repeat*, and counts no more, if
one of the same visitor and rule that did is no older than the rule's cooldown. Else it is *false*, and false also where
the visitor is unknown. recall = truths found / truths, precision = right / (right + false).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from flows.generate.visitors.truth import Shown, Visitor
from schemas.outbound import Emotion

TOLERANCE_MS = 1_000
COOLDOWN_MS = {"frustration": 10_000, "hesitation": 8_000}
DEFAULT_COOLDOWN_MS = 5_000

Who = tuple[str, str, str]
"""Tenant, session and user."""
Verdict = Literal["right", "repeat", "false"]


@dataclass(frozen=True, slots=True)
class Truth:
    """An emotion that a visitor shows, and the record that found it (None: missed)."""

    visitor: Visitor
    shown: Shown
    record: Emotion | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A record, whose it is (None: unknown), and what it is."""

    record: Emotion
    visitor: Visitor | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Judgement:
    """Everything that was shown and everything that was told."""

    visitors: Sequence[Visitor]
    truths: tuple[Truth, ...]
    records: tuple[Judged, ...]


def who(visitor: Visitor) -> Who:
    """Return what a visitor's records carry."""
    return visitor.tenant_id, visitor.session_id, visitor.user_id


def judge(visitors: Sequence[Visitor], records: Iterable[Emotion]) -> Judgement:
    """Hold records against visitors."""
    by_user: dict[Who, list[Emotion]] = defaultdict(list)
    for record in records:
        by_user[record.tenant_id, record.session_id, record.user_id].append(record)
    truths: list[Truth] = []
    judged: list[Judged] = []
    for visitor in visitors:
        mine = sorted(by_user.pop(who(visitor), []), key=lambda record: (record.ts, record.rule))
        found = _pairs(visitor.shown, mine)
        truths += [Truth(visitor, shown, found.get(number)) for number, shown in enumerate(visitor.shown)]
        judged += _verdicts(visitor, mine, list(found.values()))
    judged += [Judged(record, None, "false") for rest in by_user.values() for record in rest]
    return Judgement(visitors, tuple(truths), tuple(judged))


def _pairs(shown: Sequence[Shown], records: Sequence[Emotion]) -> dict[int, Emotion]:
    """Return the record that finds each truth, by the truth's number."""
    near = sorted(
        (record.rule != truth.rule, abs(record.ts - truth.ts), n, m)
        for n, truth in enumerate(shown)
        for m, record in enumerate(records)
        if record.emotion == truth.emotion and abs(record.ts - truth.ts) <= TOLERANCE_MS
    )
    pairs: dict[int, int] = {}
    for _, _, n, m in near:
        if n not in pairs and m not in pairs.values():
            pairs[n] = m
    return {n: records[m] for n, m in pairs.items()}


def _verdicts(visitor: Visitor, records: Sequence[Emotion], right: Sequence[Emotion]) -> list[Judged]:
    return [Judged(record, visitor, _verdict(record, right)) for record in records]


def _verdict(record: Emotion, right: Sequence[Emotion]) -> Verdict:
    if any(one is record for one in right):
        return "right"
    cooldown = COOLDOWN_MS.get(record.emotion, DEFAULT_COOLDOWN_MS)
    again = any(one.rule == record.rule and 0 <= record.ts - one.ts <= cooldown for one in right)
    return "repeat" if again else "false"
