"""What a judgement of emotions comes to: precision, recall, examples to look at, what calm visitors were given."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from flows.evaluate.emotions import Judgement, Who, who
from flows.evaluate.figures import quantile, share
from flows.generate.visitors.truth import EMOTIONS, OBSERVED, Visitor
from schemas.outbound import Intervention

PRIORITIES: tuple[Literal["CRITICAL", "HIGH", "MEDIUM", "LOW"], ...] = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
URGENT = PRIORITIES[:2]


class Row(msgspec.Struct, frozen=True):
    """The figures of an emotion, or of one rule for it. Ratios are null where there is nothing to divide by.

    ``rule`` is empty in the row of a whole emotion; ``delay_ms`` is the median from the truth's moment to the record's.
    """

    emotion: str
    rule: str
    truths: int
    found: int
    recall: float | None
    records: int
    right: int
    repeats: int
    false: int
    precision: float | None
    delay_ms: float | None


class Calm(msgspec.Struct, frozen=True):
    """Interventions for calm visitors of a kind: given ones by priority, and those that the governor held back.

    ``touched``: visitors who were given any; ``urgent``: who were given one of HIGH or CRITICAL.
    """

    persona: str
    visitors: int
    given: dict[str, int]
    suppressed: int
    touched: int
    urgent: int


class Example(msgspec.Struct, frozen=True):
    """A truth that was missed, or a record that is false."""

    what: Literal["missed", "false"]
    emotion: str
    rule: str
    ts: int
    tenant_id: str
    session_id: str
    user_id: str
    persona: str
    why: str


class EmotionFigures(msgspec.Struct, frozen=True):
    """All figures. ``interventions``: how often each was given, to whomever."""

    visitors: int
    emotions: list[Row]
    rules: list[Row]
    examples: list[Example]
    calm: list[Calm]
    interventions: dict[str, int]


def figures(judgement: Judgement, interventions: Iterable[Intervention], examples: int = 10) -> EmotionFigures:
    """Count a judgement out, with up to so many examples, of the worst rules first."""
    told = [judged.record for judged in judgement.records]
    emotions = dict.fromkeys([*EMOTIONS.values(), *sorted(record.emotion for record in told)])
    rules = {**EMOTIONS, OBSERVED: "any", **{r.rule: r.emotion for r in told if r.rule not in (*EMOTIONS, OBSERVED)}}
    rows = [_row(judgement, emotion, rule) for rule, emotion in rules.items()]
    final = _newest(interventions)
    return EmotionFigures(
        visitors=len(judgement.visitors),
        emotions=[_row(judgement, name) for name in emotions],
        rules=rows,
        examples=_examples(judgement, rows, examples),
        calm=_calm(judgement.visitors, final),
        interventions=dict(sorted(Counter(i.intervention for i in final if _given(i)).items())),
    )


def _row(judgement: Judgement, emotion: str, rule: str = "") -> Row:
    truths = [t for t in judgement.truths if (t.shown.rule == rule if rule else t.shown.emotion == emotion)]
    records = [j for j in judgement.records if (j.record.rule == rule if rule else j.record.emotion == emotion)]
    delays = [truth.record.ts - truth.shown.ts for truth in truths if truth.record is not None]
    verdicts = Counter(judged.verdict for judged in records)
    return Row(
        emotion=emotion,
        rule=rule,
        truths=len(truths),
        found=len(delays),
        recall=share(len(delays), len(truths)),
        records=len(records),
        right=verdicts["right"],
        repeats=verdicts["repeat"],
        false=verdicts["false"],
        precision=share(verdicts["right"], verdicts["right"] + verdicts["false"]),
        delay_ms=quantile(delays, 0.5),
    )


def _examples(judgement: Judgement, rules: Sequence[Row], most: int) -> list[Example]:
    """Choose examples: one of every rule in turn, those with the lowest figures first."""
    by_rule: dict[str, list[Example]] = defaultdict(list)
    for truth in judgement.truths:
        if truth.record is None:
            lost, ids = truth.shown, (*who(truth.visitor), truth.visitor.persona)
            by_rule[lost.rule].append(Example("missed", lost.emotion, lost.rule, lost.ts, *ids, lost.why))
    for judged in judgement.records:
        if judged.verdict == "false":
            one, persona = judged.record, judged.visitor.persona if judged.visitor else "unknown"
            ids = one.tenant_id, one.session_id, one.user_id, persona
            why = ", ".join(one.evidence)
            by_rule[one.rule].append(Example("false", one.emotion, one.rule, one.ts, *ids, why))
    worst = sorted(rules, key=lambda row: min(1.0 if x is None else x for x in (row.recall, row.precision)))
    queues = [by_rule[row.rule] for row in worst]
    depth = max(map(len, queues), default=0)
    return [queue[n] for n in range(depth) for queue in queues if n < len(queue)][:most]


def _newest(interventions: Iterable[Intervention]) -> list[Intervention]:
    """Return the last word on each intervention."""
    newest: dict[str, Intervention] = {}
    for one in interventions:
        if one.id not in newest or one.revision >= newest[one.id].revision:
            newest[one.id] = one
    return list(newest.values())


def _given(intervention: Intervention) -> bool:
    return intervention.status != "suppressed"


def _calm(visitors: Sequence[Visitor], interventions: Sequence[Intervention]) -> list[Calm]:
    by_user: dict[Who, list[Intervention]] = defaultdict(list)
    for one in interventions:
        by_user[one.tenant_id, one.session_id, one.user_id or ""].append(one)
    kinds = dict.fromkeys(visitor.persona for visitor in visitors if visitor.calm)
    return [_kind(name, [by_user[who(v)] for v in visitors if v.persona == name]) for name in kinds]


def _kind(persona: str, visits: Sequence[Sequence[Intervention]]) -> Calm:
    given = [[one for one in visit if _given(one)] for visit in visits]
    priorities = Counter(one.priority for visit in given for one in visit)
    return Calm(
        persona=persona,
        visitors=len(visits),
        given={priority: priorities[priority] for priority in PRIORITIES},
        suppressed=sum(map(len, visits)) - sum(map(len, given)),
        touched=sum(bool(visit) for visit in given),
        urgent=sum(any(one.priority in URGENT for one in visit) for visit in given),
    )
