"""Makes cues for the tests of interventions, and takes shards through them."""

from collections.abc import Iterable
from typing import Any, Literal

from operators.interventions.config import InterventionConfig
from operators.interventions.content import read_interventions
from operators.interventions.cues import Answer, Cue, CueBatch, Felt, Over, Scored, Seen
from operators.interventions.policies import Policies
from operators.interventions.shard import Interventions
from schemas.inbound import InterventionApproval, InterventionOutcome
from schemas.outbound import (
    Anomaly,
    AnomalyType,
    DeadLetter,
    DetectorScores,
    Emotion,
    Intervention,
    InterventionEffect,
    Outcome,
    Record,
    Signals,
)

RULES, CONTENT = read_interventions()


def emotion(
    name: str, confidence: float = 0.95, ts: int = 0, user: str = "anna", session: str = "s", tenant: str = "acme",
    rule: str = "rule",
) -> Emotion:  # fmt: skip
    """Return an emotion, found by one event."""
    return Emotion(
        id=f"{tenant}/{session}/{ts}/emotion/{user}-{ts}/{rule}", tenant_id=tenant, session_id=session, ts=ts,
        user_id=user, emotion=name, confidence=confidence, rule=rule, evidence=[f"{user}-{ts}"],
    )  # fmt: skip


def felt(*emotions: Emotion) -> Felt:
    """Return a moment."""
    return Felt(emotions, emotions[0].ts)


def anomaly(
    kind: AnomalyType, ts: int = 0, severity: Literal["WARNING", "CRITICAL"] = "CRITICAL",
    state: Literal["raised", "resolved"] = "raised", session: str = "s", tenant: str = "acme",
    signals: Signals | None = None,
) -> Seen:  # fmt: skip
    """Return an anomaly, of a room without any activity unless its signals say so."""
    record = Anomaly(
        id=f"{tenant}/{session}/0/anomaly/{kind}/{state}/{ts}", tenant_id=tenant, session_id=session, ts=ts,
        session_start=0, anomaly_type=kind, severity=severity, state=state, score=0.9, current=0.1, expected=0.5,
        deviation=0.4, detector=DetectorScores(0.9, 0.9, 0.7), signals=signals or Signals(0, 0, 9, 0, 0.0, 0.0, 0.25),
    )  # fmt: skip
    return Seen(record, ts)


def scored(ts: int, score: float | None, session: str = "s", tenant: str = "acme") -> Scored:
    """Return a score; it is told when the tick is closed."""
    return Scored(tenant, session, ts, score, ts + 7_000)


def over(ts: int, session: str = "s", tenant: str = "acme") -> Over:
    """Return the end of a session."""
    return Over(tenant, session, ts, ts)


def answer(event: InterventionOutcome | InterventionApproval, at: int = 7) -> Answer:
    """Return an outcome or approval at an offset."""
    return Answer(event, "topic", 0, at, b"{}", event.ts)


def outcome(ident: str, what: Any, ts: int, event_id: str = "o1", session: str = "s", tenant: str = "acme") -> Answer:
    """Return an outcome."""
    return answer(InterventionOutcome(event_id, tenant, session, "anna", ts, ident, what))


def approval(
    ident: str, ts: int, approved: bool = True, event_id: str = "a1", session: str = "s", tenant: str = "acme"
) -> Answer:
    """Return an approval or a refusal."""
    return answer(InterventionApproval(event_id, tenant, session, "boss", ts, ident, approved, "boss"))


def shard(policy: dict[str, Any] | None = None, **config: Any) -> Interventions:
    """Return a shard, whose tenants all have this policy."""
    return Interventions(InterventionConfig(policies=Policies(policy), **config), RULES, CONTENT)


def run(of: Interventions, cues: Iterable[Cue], clock: int = 0) -> list[Record]:
    """Take cues in as one batch of partition 0; return what they tell."""
    return of.take(CueBatch(0, clock, list(cues)))


def interventions(told: Iterable[Record]) -> list[Intervention]:
    """Return the interventions among what was told."""
    return [record for record in told if isinstance(record, Intervention)]


def brief(told: Iterable[Record]) -> list[tuple[Any, ...]]:
    """Return what was told, in short: what, its status, and why not."""
    out: list[tuple[Any, ...]] = []
    for record in told:
        match record:
            case Intervention():
                out.append((record.intervention, record.status, record.reason))
            case Outcome():
                out.append(("outcome", record.outcome))
            case InterventionEffect():
                out.append(("effect", round(record.reward, 9), record.converted, record.holdout, record.revision))
            case DeadLetter():
                out.append((record.reason, record.detail.got))
    return out
