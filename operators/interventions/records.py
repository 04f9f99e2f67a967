"""From a decision to its records, and what their ids are derived from."""

from functools import cache
from hashlib import blake2b
from typing import Final, Literal

from prometheus_client import Counter

from operators.deadletters import dead_letter
from operators.interventions.cues import EFFECT_MS, Answer
from operators.interventions.governor import Candidate
from operators.interventions.state import Known
from operators.records import plain
from schemas.inbound import MAX_TS, InterventionOutcome
from schemas.outbound import (
    Anomaly,
    DeadLetter,
    Detail,
    Emotion,
    Intervention,
    InterventionEffect,
    Outcome,
    Trigger,
)

LONGEST: Final = 1024
"""Characters of an id, at most."""

_DECIDED: Final = Counter(
    "attune_interventions_total",
    "Interventions and changes of their status, by intervention, status and reason",
    ["intervention", "status", "reason"],
)
_decided = cache(_DECIDED.labels)


def about(trigger: Emotion | Anomaly) -> str:
    """Return the beginning of the ids of what is done about a trigger."""
    return f"{plain(trigger.tenant_id)}/{plain(trigger.session_id)}/{trigger.ts}"


def intervention_id(trigger: Emotion | Anomaly, intervention: str) -> str:
    """Return the id: session, time, what caused it, and the intervention.

    An emotion is told apart from the others of that time by the end of its own id, an anomaly by its type.
    """
    head = about(trigger)
    cause = trigger.id.removeprefix(f"{head}/emotion/") if isinstance(trigger, Emotion) else trigger.anomaly_type
    return _short(f"{head}/intervention/{cause}/{intervention}", f"{head}/intervention")


def may_be_of(ident: str, tenant: str, session: str) -> bool:
    """Return whether an id has the form of those of a session's interventions.

    >>> may_be_of("t/s/1700000000000/intervention/MASS_EXIT/notification", "t", "s"), may_be_of("i1", "t", "s")
    (True, False)
    """
    head = f"{plain(tenant)}/{plain(session)}/"
    when, _, rest = ident.removeprefix(head).partition("/")
    return ident.startswith(head) and when.isdecimal() and rest.startswith("intervention/")


def _short(ident: str, head: str) -> str:
    """Return an id, or one with a digest where it would be too long; ``head`` has at most 800 characters.

    >>> len(_short("a" * 1025, "a/intervention"))
    79
    """
    if len(ident) <= LONGEST:
        return ident
    return f"{head}/{blake2b(ident.encode(), digest_size=32).hexdigest()}"


def trigger_of(record: Emotion | Anomaly) -> Trigger:
    """Return what an intervention answers to."""
    if isinstance(record, Emotion):
        return Trigger("emotion", record.id, record.emotion)
    return Trigger("anomaly", record.id, record.anomaly_type)


def intervention(
    candidate: Candidate,
    status: Literal["fired", "suppressed", "pending"],
    content: dict[str, object] | None = None,
    expires_ts: int | None = None,
) -> Intervention:
    """Return the record of a decision."""
    trigger, row = candidate.trigger, candidate.row
    user = trigger.user_id if isinstance(trigger, Emotion) else None
    return Intervention(
        id=intervention_id(trigger, row.intervention),
        tenant_id=trigger.tenant_id,
        session_id=trigger.session_id,
        ts=trigger.ts,
        intervention=row.intervention,
        recipient=trigger.session_id if user is None else user,
        user_id=user,
        trigger=trigger_of(trigger),
        confidence=candidate.confidence,
        priority=row.priority,
        status=status,
        reason=candidate.reason,
        content=content,
        expires_ts=None if expires_ts is None else min(expires_ts, MAX_TS),
        why=candidate.why,
    )


def counted(record: Intervention) -> Intervention:
    """Return the record, counted by what it says."""
    _decided(record.intervention, record.status, record.reason or "").inc()
    return record


def outcome(event: InterventionOutcome, known: Known) -> Outcome:
    """Return the record of what became of an intervention."""
    head = f"{plain(event.tenant_id)}/{plain(event.session_id)}/{event.ts}/outcome"
    return Outcome(
        id=_short(f"{event.intervention_id}/outcome/{event.event_id}", head),
        tenant_id=event.tenant_id,
        session_id=event.session_id,
        ts=event.ts,
        intervention_id=event.intervention_id,
        intervention=known.intervention,
        user_id=event.user_id,
        outcome=event.outcome,
    )


def effect(tenant: str, ident: str, known: Known) -> InterventionEffect:
    """Return the record of how the score moved; a session that was over had nobody in it: 0."""
    before, after = known.before or 0.0, known.after or 0.0
    head = f"{plain(tenant)}/{plain(known.session_id)}/{known.tick}/effect"
    return InterventionEffect(
        id=_short(f"{ident}/effect", head),
        tenant_id=tenant,
        session_id=known.session_id,
        ts=min(known.tick + EFFECT_MS, MAX_TS),
        intervention_id=ident,
        intervention=known.intervention,
        recipient=known.session_id if known.user_id is None else known.user_id,
        user_id=known.user_id,
        trigger=Trigger(known.trigger_kind, known.trigger_id, known.trigger_name),
        score_before=before,
        score_after=after,
        reward=1.0 if known.converted else reward(after - before),
        holdout=known.held_out,
        converted=known.converted,
        revision=known.effects,
    )


def reward(moved: float) -> float:
    """Return how well it went, 0..1, by how far the score moved.

    >>> [reward(moved) for moved in (0.4, 0.1, 0.0, -0.05, -0.06)]
    [1.0, 0.5, 0.5, 0.5, 0.0]
    """
    moved = round(moved, 9)  # 0.55 - 0.6 is a fall of 0.05, not beyond
    if moved > 0:
        return min(moved / 0.2, 1.0)
    return 0.5 if moved >= -0.05 else 0.0


def unknown(answer: Answer, expected: str, got: str | None = None) -> DeadLetter:
    """Return the dead letter of an outcome or approval that is about nothing."""
    event = answer.event
    return dead_letter(
        "unknown_intervention",
        Detail("intervention_id", expected, event.intervention_id[:120] if got is None else got),
        (answer.topic, answer.partition, answer.offset),
        answer.payload,
        (event.tenant_id, event.session_id),
        event.ts,
    )
