"""What Attune writes: one struct for each outbound record.

Every record has ``type``, ``id``, ``tenant_id``, ``session_id`` and ``ts``. The ``id`` is derived from what the record
is about (session and its start, type, tick or event, rule), so that a second run gives the same one and a consumer can
drop repeats by it.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from schemas.inbound import Ratio, Ts

Category = Literal["VERY_HIGH", "HIGH", "MODERATE", "LOW", "VERY_LOW"]
AnomalyType = Literal["MASS_EXIT", "LOW_ENGAGEMENT", "SUDDEN_DROP", "GRADUAL_DECLINE"]
Count = Annotated[int, Meta(ge=0)]
RuleNumber = Annotated[int, Meta(ge=1, le=9, description="1 to 9, in the order in which they are tried")]


class Record(msgspec.Struct, frozen=True, gc=False, tag_field="type", kw_only=True):
    """What every outbound record carries."""

    id: Annotated[str, Meta(min_length=1, max_length=1024)]
    tenant_id: str
    session_id: str
    ts: Ts


class Signals(msgspec.Struct, frozen=True, gc=False):
    """The seven signals of a 60 s window."""

    chat_per_min: Count
    reactions_per_min: Count
    connected_users: Count
    active_users: Count
    active_ratio: Ratio
    poll_participation: Ratio
    leave_rate: Ratio


class Contributions(msgspec.Struct, frozen=True, gc=False):
    """The five weighted terms of a score. They add up, in this order, to the unclamped score."""

    chat: float
    poll: float
    active: float
    reactions: float
    leaves: float


class Engagement(Record, frozen=True, gc=False, tag="engagement", kw_only=True):
    """The engagement of a session over ``[ts - 60 s, ts)``."""

    session_start: Ts
    score: Ratio
    category: Category
    signals: Signals
    contributions: Contributions


class DetectorScores(msgspec.Struct, frozen=True, gc=False):
    """What the two halves of the detector said, and the weight of the trees."""

    trees: Ratio
    z: Ratio
    trees_weight: Ratio


class Anomaly(Record, frozen=True, gc=False, tag="anomaly", kw_only=True):
    """A departure of a session from its own baseline. ``deviation`` is ``expected - current``."""

    session_start: Ts
    anomaly_type: AnomalyType
    severity: Literal["WARNING", "CRITICAL"]
    state: Literal["raised", "resolved"]
    score: Ratio
    current: float
    expected: float
    deviation: float
    detector: DetectorScores
    signals: Signals


class Emotion(Record, frozen=True, gc=False, tag="emotion", kw_only=True):
    """An emotion of one user, the rule that found it, and the ``event_id``s it rests on."""

    user_id: str
    emotion: str
    confidence: Ratio
    rule: str
    evidence: list[str]


class Trigger(msgspec.Struct, frozen=True, gc=False):
    """What an intervention answers to: the record ``id`` of this ``kind``, and the ``name`` of what it tells."""

    kind: Literal["emotion", "anomaly"]
    id: str
    name: str


class Intervention(Record, frozen=True, gc=False, tag="intervention", kw_only=True):
    """A decision to act, or why not. A change of status is a new record, same ``id``, higher ``revision``."""

    intervention: str
    recipient: str
    user_id: str | None = None
    trigger: Trigger
    confidence: Ratio
    priority: Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]
    status: Literal["fired", "suppressed", "pending", "refused", "expired"]
    reason: str | None = None
    content: dict[str, Any] | None = None
    expires_ts: Ts | None = None
    by: str | None = None
    why: str = ""
    revision: Count = 0


class Outcome(Record, frozen=True, gc=False, tag="outcome", kw_only=True):
    """What became of an intervention."""

    intervention_id: str
    intervention: str
    user_id: str
    outcome: Literal["delivered", "shown", "clicked", "dismissed", "converted", "failed"]


class InterventionEffect(Record, frozen=True, gc=False, tag="intervention_effect", kw_only=True):
    """How the score moved in the 60 s after an intervention.

    A conversion that comes later is a new record with the same ``id`` and ``ts`` and a higher ``revision``.
    """

    intervention_id: str
    intervention: str
    recipient: str
    user_id: str | None = None
    trigger: Trigger
    score_before: Ratio
    score_after: Ratio
    reward: Ratio
    holdout: bool
    converted: bool
    revision: Count = 0


class ConfidenceSignal(msgspec.Struct, frozen=True, gc=False):
    """One signal of an answer's confidence, and why it has this score."""

    name: str
    score: Ratio
    reason: str


class RuleCheck(msgspec.Struct, frozen=True, gc=False):
    """One routing rule's view of an answer: whether it holds, whether it decided, and what it needs."""

    rule: RuleNumber
    name: str
    holds: bool
    decided: bool
    needs: str


class Decision(Record, frozen=True, tag="decision", kw_only=True):
    """How an answer was judged and where it was routed, by the first rule that holds."""

    conversation_id: str
    agent_id: str
    user_id: str
    path: Literal["auto_answer", "clarify", "canonical", "escalate", "queue", "refuse"]
    letter: Literal["A", "B", "C", "D", "E", "F"]
    action: Literal["immediate_escalation", "suggest_review", "send_with_disclaimer", "continue"]
    confidence: Ratio
    level: Literal["HIGH", "MEDIUM", "LOW", "VERY_LOW"]
    signals: list[ConfidenceSignal]
    similarity: Ratio
    novelty: Ratio
    complexity: Ratio
    reason: str
    answer: str | None = None
    canonical_id: str | None = None
    rule: RuleNumber
    rules: list[RuleCheck]
    why: str


class HandoffRequested(Record, frozen=True, gc=False, tag="human_handoff.requested", kw_only=True):
    """A person is needed in a conversation."""

    conversation_id: str
    user_id: str
    agent_id: str
    reason: Literal["low_confidence", "requested", "novel", "complex", "no_context"]
    confidence_score: Ratio
    confidence_level: Literal["HIGH", "MEDIUM", "LOW", "VERY_LOW"]


class CalibrationBand(msgspec.Struct, frozen=True, gc=False):
    """Resolved hand-offs whose answers had a confidence in ``[low, high)``; the last band holds 1.0 too."""

    low: Ratio
    high: Ratio
    resolved: Count
    confidence: Ratio
    not_needed: Ratio


class Calibration(Record, frozen=True, tag="calibration", kw_only=True):
    """How often hand-offs of a tenant were needed, by confidence. ``session_id`` is empty."""

    resolved: Count
    needed: Count
    brier: float
    expected_calibration_error: float
    thresholds: dict[str, float]
    answers: Count
    bands: list[CalibrationBand]


class SessionSummary(Record, frozen=True, gc=False, tag="session", kw_only=True):
    """A session that ended at ``ts``: ``idle`` after 30 minutes without an event, or ``ended`` by its event."""

    session_start: Ts
    ended_by: Literal["idle", "ended"]
    duration_ms: Count
    events: Count
    chat_messages: Count
    reactions: Count
    votes: Count
    telemetry: Count
    joins: Count
    leaves: Count
    users: Count
    peak_connected: Count
    ticks: Count
    score_mean: Ratio | None
    score_peak: Ratio | None


Reason = Literal[
    "malformed_json",
    "not_an_object",
    "unknown_type",
    "invalid_field",
    "too_large",
    "empty",
    "late",
    "early",
    "unknown_intervention",
    "refused_by_database",
]


class Detail(msgspec.Struct, frozen=True, gc=False):
    """Which field (empty: the whole record), what was expected there and what was got."""

    field: str
    expected: str
    got: str


class DeadLetter(Record, frozen=True, gc=False, tag="dead_letter", kw_only=True):
    """An inbound record that could not be used, why, and where it stands.

    ``topic``, ``partition`` and ``offset`` are the record's position in Kafka; in a replay the file, 0 and the line.
    ``payload`` holds at most its first 64 KiB, as text or, with ``encoding`` set, as base64.
    """

    reason: Reason
    detail: Detail
    topic: str
    partition: int
    offset: int
    payload: str
    encoding: Literal["base64"] | None = None


AnyRecord = (
    Engagement
    | Anomaly
    | Emotion
    | Intervention
    | Outcome
    | InterventionEffect
    | Decision
    | HandoffRequested
    | Calibration
    | SessionSummary
    | DeadLetter
)
"""The union of all outbound records: the field ``type`` tells which."""
