"""A day's chat answers, their calibration, and what could not be used."""

from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec

from schemas.outbound import (
    Calibration,
    CalibrationBand,
    ConfidenceSignal,
    DeadLetter,
    Decision,
    Detail,
    HandoffRequested,
    Record,
    RuleCheck,
)

HOUR_MS = 3_600_000
LEVELS = ((0.8, "HIGH"), (0.6, "MEDIUM"), (0.4, "LOW"), (0.0, "VERY_LOW"))
CHAT_TOPIC = "platform.events.chat.message.v1"
TELEMETRY_TOPIC = "platform.events.telemetry.v1"


def conversation(rng: Random, tenant: str, session: str, user: str, begin: int) -> Iterator[Record]:
    """Yield the decisions about a conversation's answers, and a hand-off where one is called for."""
    for number in range(rng.randrange(1, 7)):
        ts = begin + 10_000 + number * 20_000
        confidence = min(1.0, max(0.0, rng.gauss(0.7, 0.2)))
        path, letter, action, rule = _route(rng, confidence)
        level: Any = next(name for least, name in LEVELS if confidence >= least)
        about = {
            "tenant_id": tenant,
            "session_id": session,
            "ts": ts,
            "conversation_id": f"c-{session}",
            "agent_id": f"bot-{1 + number % 2}",
            "user_id": user,
        }
        similarity = min(1.0, max(0.0, rng.gauss(0.6, 0.2)))
        yield Decision(
            **about,  # type: ignore[arg-type] # names to their values
            id=f"{tenant}/{session}/{ts}/decision/e-{ts}",
            path=path,
            letter=letter,
            action=action,
            confidence=confidence,
            level=level,
            signals=[ConfidenceSignal("self_assessment", confidence, "the field")],
            similarity=similarity,
            novelty=1 - similarity,
            complexity=0.1,
            reason="well_founded" if letter == "A" else "low_confidence",
            answer=None if letter == "F" else "Three days.",
            rule=rule,
            rules=[RuleCheck(rule, "the rule that held", True, True, "")],
            why=f"confidence {confidence:.2f} is {level}",
        )
        if letter in ("D", "E"):
            yield HandoffRequested(
                **about,  # type: ignore[arg-type] # names to their values
                id=f"{tenant}/{session}/{ts}/handoff/e-{ts}",
                reason="low_confidence" if letter == "D" else "no_context",
                confidence_score=confidence,
                confidence_level=level,
            )
            return


def _route(rng: Random, confidence: float) -> tuple[Any, Any, Any, int]:
    if confidence < 0.3:
        return "escalate", "D", "immediate_escalation", 5
    if rng.random() < 0.04:
        return "queue", "E", "continue", 7
    if rng.random() < 0.1:
        return "canonical", "C", "continue", 4
    return "auto_answer", "A", "suggest_review" if confidence < 0.6 else "continue", 6


def calibrations(rng: Random, tenants: list[str], start: int) -> Iterator[Record]:
    """Yield each tenant's calibration of every hour; counts grow over the day."""
    for tenant in tenants:
        resolved = needed = 0
        for hour in range(1, 25):
            new = rng.randrange(4)
            resolved, needed = resolved + new, needed + rng.randrange(new + 1)
            ts = start + hour * HOUR_MS
            half = resolved // 2
            yield Calibration(
                id=f"{tenant}/calibration/{ts}",
                tenant_id=tenant,
                session_id="",
                ts=ts,
                resolved=resolved,
                needed=needed,
                brier=0.15,
                expected_calibration_error=0.05,
                thresholds={"immediate": 0.3, "review": 0.6},
                answers=resolved * 20,
                bands=[
                    CalibrationBand(0.1, 0.2, half, 0.15, 0.25),
                    CalibrationBand(0.2, 0.3, resolved - half, 0.26, 0.5),
                ],
            )


def dead_letters(rng: Random, tenant: str, session: str, begin: int, number: int) -> Iterator[Record]:
    """Yield what of a session could not be used: mostly nothing."""
    chance = rng.random()
    user = f"u-{rng.randrange(1000):05d}"
    event = {"type": "reaction", "event_id": f"e-{number}", "tenant_id": tenant, "session_id": session, "user_id": user}
    if chance < 0.06:
        behind = rng.randrange(8_000, 90_000)
        got = f"{begin}, with its record's stream time {behind} ms beyond it"
        detail = Detail("ts", "a tick that is not closed yet", got)
        yield _letter("late", detail, tenant, session, begin, number, event)
    elif chance < 0.07:
        detail = Detail("ts", "at most 5000 ms ahead of the record", f"{rng.randrange(6_000, 60_000)} ms ahead")
        yield _letter("early", detail, tenant, session, begin, number, event)
    elif chance < 0.10:
        detail = Detail("emoji", "a string", "nothing")
        yield _letter("invalid_field", detail, tenant, session, begin, number, event)
    elif chance < 0.11:
        detail = Detail("", "JSON", "unexpected end of data")
        letter = _letter("malformed_json", detail, "", "", begin, number, event)
        yield msgspec.structs.replace(letter, payload=letter.payload[:-1])


def _letter(
    reason: Any, detail: Detail, tenant: str, session: str, ts: int, number: int, event: dict[str, str]
) -> DeadLetter:
    topic = CHAT_TOPIC if number % 3 == 0 else TELEMETRY_TOPIC
    return DeadLetter(
        id=f"dead_letter/{topic}/0/{number}",
        tenant_id=tenant,
        session_id=session,
        ts=ts,
        reason=reason,
        detail=detail,
        topic=topic,
        partition=0,
        offset=number,
        payload=msgspec.json.encode(event | {"ts": ts}).decode(),
    )
