"""From what a rule found to the record of an emotion."""

from functools import cache
from typing import Final

from prometheus_client import Counter

from operators.chunk import SEPARATOR
from operators.emotions.matcher import Shown
from operators.records import plain
from schemas.inbound import EmotionObserved
from schemas.outbound import Emotion

OBSERVED_RULE: Final = "observed"
"""The rule of an emotion that another system diagnosed."""

_EMOTIONS = Counter("attune_emotions_total", "Emotions told, by the rule that found them", ["rule"])
_of_rule = cache(_EMOTIONS.labels)


def emotion(key: str, user_id: str, shown: Shown) -> Emotion:
    """Return the record of what a user of a session has shown."""
    tenant, session = key.split(SEPARATOR)
    rule = shown.rule
    _of_rule(rule.name).inc()
    return Emotion(
        id=f"{plain(tenant)}/{plain(session)}/{shown.ts}/emotion/{shown.evidence[-1]}/{rule.name}",
        tenant_id=tenant,
        session_id=session,
        ts=shown.ts,
        user_id=user_id,
        emotion=rule.emotion,
        confidence=shown.confidence,
        rule=rule.name,
        evidence=shown.evidence,
    )


def observed(event: EmotionObserved) -> Emotion:
    """Return the record of an emotion that another system diagnosed, with its own confidence."""
    _of_rule(OBSERVED_RULE).inc()
    about = f"{plain(event.tenant_id)}/{plain(event.session_id)}/{event.ts}"
    return Emotion(
        id=f"{about}/emotion/{event.event_id}/{OBSERVED_RULE}",
        tenant_id=event.tenant_id,
        session_id=event.session_id,
        ts=event.ts,
        user_id=event.user_id,
        emotion=event.emotion,
        confidence=event.confidence,
        rule=OBSERVED_RULE,
        evidence=[event.event_id],
    )
