"""What a gateway tells a dashboard in these tests: records of one tenant, made by hand."""

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from schemas.batches import Records
from schemas.outbound import (
    Anomaly,
    Contributions,
    DetectorScores,
    Emotion,
    Engagement,
    HandoffRequested,
    Intervention,
    Outcome,
    Record,
    SessionSummary,
    Signals,
    Trigger,
)
from tests.fix_websocket import Running

START = int(time.time() * 1000) // 5_000 * 5_000 - 400_000
"""When the sessions began: lately, so that the page takes them for what happens now."""
BOUNDS = ((0.8, "VERY_HIGH"), (0.6, "HIGH"), (0.4, "MODERATE"), (0.2, "LOW"), (-1.0, "VERY_LOW"))


def tell(running: Running, *records: Record) -> None:
    """Let the gateway have these records, one after another."""
    for record in records:
        place = ([record.id], [record.tenant_id], [record.session_id], [record.ts])
        kind = type(record).__struct_config__.tag
        revision = [getattr(record, "revision", 0)]
        running.gateway.publish(Records(str(kind), *place, [msgspec.json.encode(record)], revision))
    running.gateway.drain()


def signals(score: float) -> Signals:
    """Return signals that go with a score, roughly."""
    return Signals(
        chat_per_min=round(40 * score),
        reactions_per_min=round(22 * score),
        connected_users=48,
        active_users=round(40 * score),
        active_ratio=round(40 * score) / 48,
        poll_participation=0.375 if score > 0.6 else 0.0,
        leave_rate=0.025,
    )


def engagement(session: str, tick: int, score: float) -> Engagement:
    """Return a session's score at a tick."""
    category: Any = next(name for bound, name in BOUNDS if score >= bound)
    return Engagement(
        **_what(session, tick, "engagement"),
        session_start=START,
        score=score,
        category=category,
        signals=signals(score),
        contributions=Contributions(
            chat=round(0.5 * score, 4), poll=0.0, active=round(0.4 * score, 4), reactions=round(0.1 * score, 4) + 0.02,
            leaves=-0.02,
        ),
    )  # fmt: skip


def course(session: str, scores: Iterable[float]) -> list[Engagement]:
    """Return a session's scores at tick 1 and following."""
    return [engagement(session, tick, score) for tick, score in enumerate(scores, 1)]


def anomaly(
    session: str, tick: int, kind: Any = "MASS_EXIT", severity: Any = "CRITICAL", state: Any = "raised"
) -> Anomaly:
    """Return an anomaly that begins, goes on or is over."""
    return Anomaly(
        **_what(session, tick, f"anomaly/{kind}"),
        session_start=START,
        anomaly_type=kind,
        severity=severity,
        state=state,
        score=0.91,
        current=0.24,
        expected=0.62,
        deviation=0.38,
        detector=DetectorScores(trees=0.9, z=0.95, trees_weight=0.7),
        signals=signals(0.24),
    )


def emotion(session: str, tick: int, name: str, user: str = "u-17") -> Emotion:
    """Return an emotion of a user."""
    return Emotion(
        **_what(session, tick, f"emotion/{name}"),
        user_id=user,
        emotion=name,
        confidence=0.9,
        rule="rage_click",
        evidence=[],
    )


def intervention(session: str, tick: int, name: str, status: Any, **more: Any) -> Intervention:
    """Return an intervention for a user, or with ``user_id=None`` for the session."""
    fields = {"user_id": "u-17", "recipient": "u-17", "confidence": 0.9, "priority": "HIGH", **more}
    return Intervention(
        **_what(session, tick, f"intervention/{name}"),
        intervention=name,
        status=status,
        trigger=Trigger("emotion", "e", "frustration"),
        **fields,
    )


def outcome(of: Intervention, what: Any, after_ms: int) -> Outcome:
    """Return what became of an intervention."""
    return Outcome(
        id=f"{of.id}/{what}",
        tenant_id=of.tenant_id,
        session_id=of.session_id,
        ts=of.ts + after_ms,
        intervention_id=of.id,
        intervention=of.intervention,
        user_id=of.user_id or of.recipient,
        outcome=what,
    )


def handoff(session: str, tick: int) -> HandoffRequested:
    """Return a conversation that needs a person."""
    return HandoffRequested(
        **_what(session, tick, "handoff"),
        conversation_id="c-9",
        user_id="u-4",
        agent_id="bot",
        reason="low_confidence",
        confidence_score=0.27,
        confidence_level="VERY_LOW",
    )


def ending(session: str, tick: int) -> SessionSummary:
    """Return the end of a session."""
    return SessionSummary(
        **_what(session, tick, "end"),
        session_start=START,
        ended_by="ended",
        duration_ms=5_000 * tick,
        events=1,
        chat_messages=1,
        reactions=0,
        votes=0,
        telemetry=0,
        joins=0,
        leaves=0,
        users=1,
        peak_connected=1,
        ticks=1,
        score_mean=0.1,
        score_peak=0.1,
    )


def _what(session: str, tick: int, kind: str) -> dict[str, Any]:
    return {
        "id": f"acme/{session}/{kind}/{tick}",
        "tenant_id": "acme",
        "session_id": session,
        "ts": START + 5_000 * tick,
    }
