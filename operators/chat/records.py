"""From a routed answer to its records: the decision, with every rule's view of it, and the call for a person."""

from operators.chat.confidence import Judgement
from operators.chat.config import Policy
from operators.chat.routing import Facts, HandoffReason, Route, explain
from operators.records import plain
from schemas.inbound import ChatAnswer
from schemas.outbound import Decision, HandoffRequested


def decision(event: ChatAnswer, policy: Policy, facts: Facts, routed: Route) -> Decision:
    """Return the decision on an answer."""
    judged = facts.judged
    return Decision(
        id=f"{_about(event)}/decision/{event.event_id}",
        tenant_id=event.tenant_id,
        session_id=event.session_id,
        ts=event.ts,
        conversation_id=event.conversation_id,
        agent_id=event.agent_id,
        user_id=event.user_id,
        path=routed.path,
        letter=routed.letter,
        action=judged.action,
        confidence=judged.confidence,
        level=judged.level,
        signals=list(judged.signals),
        similarity=facts.similarity,
        novelty=facts.novelty,
        complexity=facts.asked.complexity,
        reason=routed.reason,
        answer=_passed_on(judged, routed),
        canonical_id=event.canonical.id if routed.letter == "C" and event.canonical is not None else None,
        rule=routed.rule,
        rules=explain(facts, policy.routing, routed.rule),
        why=judged.why,
    )


def _passed_on(judged: Judgement, routed: Route) -> str | None:
    """Return the text that goes on, None where it is withheld: refused, or not to be trusted and no mere greeting."""
    withheld = routed.letter == "F" or (judged.action == "immediate_escalation" and routed.letter != "A")
    return None if withheld else judged.text


def handoff(event: ChatAnswer, judged: Judgement, reason: HandoffReason) -> HandoffRequested:
    """Return the call for a person."""
    return HandoffRequested(
        id=f"{_about(event)}/handoff/{event.event_id}",
        tenant_id=event.tenant_id,
        session_id=event.session_id,
        ts=event.ts,
        conversation_id=event.conversation_id,
        user_id=event.user_id,
        agent_id=event.agent_id,
        reason=reason,
        confidence_score=judged.confidence,
        confidence_level=judged.level,
    )


def _about(event: ChatAnswer) -> str:
    """Return the beginning of an answer's ids: unique by session, ``ts`` and, last and so as it is, ``event_id``."""
    return f"{plain(event.tenant_id)}/{plain(event.session_id)}/{event.ts}"
