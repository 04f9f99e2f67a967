"""Records for the tests of the PostgreSQL sink."""

from typing import Any

import msgspec

from schemas.outbound import (
    Contributions,
    DeadLetter,
    Decision,
    Detail,
    Engagement,
    Intervention,
    RuleCheck,
    Signals,
    Trigger,
)

START = 1_790_000_000_000


def engagement(number: int, **changes: Any) -> Engagement:
    """Return one session's record of tick ``number``; all its values follow from the number."""
    ts = START + 5000 * number
    record = Engagement(
        id=f"engagement/tenant-1/session-1/{START}/{ts}",
        tenant_id="tenant-1",
        session_id="session-1",
        ts=ts,
        session_start=START,
        score=(number % 1000) / 1000,
        category="LOW",
        signals=Signals(number, 1, 20, 10, 0.5, 0.25, 0.125),
        contributions=Contributions(0.1, 0.05, 0.1, 0.01, -0.01),
    )
    return msgspec.structs.replace(record, **changes)


def decision(number: int, answer: str | None) -> Decision:
    """Return a decision about an answer."""
    return Decision(
        id=f"decision/{number}",
        tenant_id="tenant-1",
        session_id="session-1",
        ts=START + number,
        conversation_id="conversation-1",
        agent_id="agent-1",
        user_id="user-1",
        path="auto_answer",
        letter="A",
        action="continue",
        confidence=0.9,
        level="HIGH",
        signals=[],
        similarity=0.9,
        novelty=0.1,
        complexity=0.1,
        reason="well_founded",
        answer=answer,
        rule=6,
        rules=[RuleCheck(6, "well founded", True, True, "routing confidence 0.75, is 0.8")],
        why="confidence 0.90 is HIGH",
    )


def intervention(revision: int, status: Any) -> Intervention:
    """Return one intervention at one of its revisions."""
    return Intervention(
        id="intervention/1",
        tenant_id="tenant-1",
        session_id="session-1",
        ts=START + revision,
        intervention="poll",
        recipient="session-1",
        trigger=Trigger("anomaly", "anomaly/1", "SUDDEN_DROP"),
        confidence=0.85,
        priority="HIGH",
        status=status,
        revision=revision,
    )


def dead_letter(payload: str, got: str = "nothing", tenant: str = "tenant-1") -> DeadLetter:
    """Return a dead letter with this payload."""
    return DeadLetter(
        id="dead_letter/topic/0/7",
        tenant_id=tenant,
        session_id="session-1",
        ts=START,
        reason="invalid_field",
        detail=Detail("text", "a string", got),
        topic="topic",
        partition=0,
        offset=7,
        payload=payload,
    )
