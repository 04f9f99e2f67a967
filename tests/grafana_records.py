"""A little of everything that the dashboards show, within one day of one tenant."""

import msgspec

from schemas.outbound import (
    Anomaly,
    Calibration,
    CalibrationBand,
    DetectorScores,
    Emotion,
    HandoffRequested,
    Intervention,
    InterventionEffect,
    Outcome,
    Record,
    SessionSummary,
    Signals,
    Trigger,
)
from tests.postgres_records import START, dead_letter, decision, engagement

TENANT = "tenant-1"
SESSION = "session-1"
MINUTE = 60_000
SIGNALS = Signals(4, 1, 20, 10, 0.5, 0.25, 0.125)


def day_of_records() -> list[list[Record]]:
    """Return records by type: a session of ten minutes, one anomaly, one journey, a hand-off, a dead letter."""
    letter = msgspec.structs.replace(dead_letter("{"), tenant_id=TENANT)
    handed_over = msgspec.structs.replace(decision(1, None), id="decision/1", path="escalate", letter="D")
    return [
        [engagement(n) for n in range(120)],
        [_anomaly("raised", START + 5 * MINUTE), _anomaly("resolved", START + 6 * MINUTE)],
        [_emotion()],
        [_intervention(1, "fired", None), _intervention(2, "suppressed", "holdout")],
        [_outcome(name, at) for at, name in enumerate(("delivered", "shown", "clicked", "converted"), 1)],
        [_effect(1, holdout=False), _effect(2, holdout=True)],
        [decision(0, "yes"), handed_over],
        [_handoff()],
        [_calibration()],
        [_summary()],
        [letter],
    ]


def _anomaly(state: str, ts: int) -> Anomaly:
    record = Anomaly(
        id=f"anomaly/{state}",
        tenant_id=TENANT,
        session_id=SESSION,
        ts=ts,
        session_start=START,
        anomaly_type="SUDDEN_DROP",
        severity="CRITICAL",
        state="raised",
        score=0.9,
        current=0.2,
        expected=0.6,
        deviation=0.4,
        detector=DetectorScores(0.8, 1.0, 0.7),
        signals=SIGNALS,
    )
    return record if state == "raised" else msgspec.structs.replace(record, state="resolved", current=0.6)


def _emotion() -> Emotion:
    return Emotion(
        id="emotion/1",
        tenant_id=TENANT,
        session_id=SESSION,
        ts=START + 2 * MINUTE,
        user_id="user-1",
        emotion="price_shock",
        confidence=0.92,
        rule="pointer_stops_dead",
        evidence=["event-1"],
    )


def _intervention(number: int, status: str, reason: str | None) -> Intervention:
    record = Intervention(
        id=f"intervention/{number}",
        tenant_id=TENANT,
        session_id=SESSION,
        ts=START + 2 * MINUTE + number,
        intervention="discount_modal",
        recipient="user-1",
        user_id="user-1",
        trigger=Trigger("emotion", "emotion/1", "price_shock"),
        confidence=0.92,
        priority="HIGH",
        status="fired",
        reason=reason,
    )
    return record if status == "fired" else msgspec.structs.replace(record, status="suppressed")


def _outcome(name: str, minute: int) -> Outcome:
    return msgspec.convert(
        {
            "type": "outcome",
            "id": f"outcome/{name}",
            "tenant_id": TENANT,
            "session_id": SESSION,
            "ts": START + (2 + minute) * MINUTE,
            "intervention_id": "intervention/1",
            "intervention": "discount_modal",
            "user_id": "user-1",
            "outcome": name,
        },
        Outcome,
    )


def _effect(number: int, *, holdout: bool) -> InterventionEffect:
    return InterventionEffect(
        id=f"effect/{number}",
        tenant_id=TENANT,
        session_id=SESSION,
        ts=START + 4 * MINUTE,
        intervention_id=f"intervention/{number}",
        intervention="discount_modal",
        recipient="user-1",
        user_id="user-1",
        trigger=Trigger("emotion", "emotion/1", "price_shock"),
        score_before=0.3,
        score_after=0.4,
        reward=0.5,
        holdout=holdout,
        converted=not holdout,
    )


def _handoff() -> HandoffRequested:
    return HandoffRequested(
        id="handoff/1",
        tenant_id=TENANT,
        session_id=SESSION,
        ts=START + 1,
        conversation_id="conversation-1",
        user_id="user-1",
        agent_id="agent-1",
        reason="low_confidence",
        confidence_score=0.2,
        confidence_level="VERY_LOW",
    )


def _calibration() -> Calibration:
    return Calibration(
        id="calibration/1",
        tenant_id=TENANT,
        session_id="",
        ts=START + 60 * MINUTE,
        resolved=4,
        needed=3,
        brier=0.1,
        expected_calibration_error=0.1,
        thresholds={"immediate": 0.3},
        answers=40,
        bands=[CalibrationBand(0.2, 0.3, 4, 0.22, 0.25)],
    )


def _summary() -> SessionSummary:
    return SessionSummary(
        id="session/1",
        tenant_id=TENANT,
        session_id=SESSION,
        ts=START + 40 * MINUTE,
        session_start=START,
        ended_by="idle",
        duration_ms=10 * MINUTE,
        events=100,
        chat_messages=40,
        reactions=10,
        votes=0,
        telemetry=0,
        joins=20,
        leaves=20,
        users=20,
        peak_connected=20,
        ticks=120,
        score_mean=0.06,
        score_peak=0.119,
    )
