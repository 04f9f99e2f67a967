"""From a decision to its records, and what their ids are derived from."""

from hashlib import blake2b
from typing import Final, Literal

from operators.interventions.cues import EFFECT_MS
from operators.interventions.governor import Candidate
from operators.interventions.state import Known
from operators.records import plain
from schemas.inbound import MAX_TS, InterventionOutcome
from schemas.outbound import Anomaly, Emotion, Intervention, InterventionEffect, Outcome, Trigger

LONGEST: Final = 1024
"""Characters of an id, at most."""


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


def outcome(event: InterventionOutcome, known: Known) -> Outcome:
    """Return the record of what became of an intervention."""
    record = known.record
    head = f"{plain(record.tenant_id)}/{plain(record.session_id)}/{event.ts}/outcome"
    return Outcome(
        id=_short(f"{record.id}/outcome/{event.event_id}", head),
        tenant_id=record.tenant_id,
        session_id=record.session_id,
        ts=event.ts,
        intervention_id=record.id,
        intervention=record.intervention,
        user_id=event.user_id,
        outcome=event.outcome,
    )


def effect(known: Known) -> InterventionEffect:
    """Return the record of how the score moved; a session that was over had nobody in it: 0."""
    record = known.record
    before, after = known.before or 0.0, known.after or 0.0
    head = f"{plain(record.tenant_id)}/{plain(record.session_id)}/{known.tick}/effect"
    return InterventionEffect(
        id=_short(f"{record.id}/effect", head),
        tenant_id=record.tenant_id,
        session_id=record.session_id,
        ts=min(known.tick + EFFECT_MS, MAX_TS),
        intervention_id=record.id,
        intervention=record.intervention,
        recipient=record.recipient,
        user_id=record.user_id,
        trigger=record.trigger,
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
