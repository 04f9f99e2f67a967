"""The one table of what flows where: type, struct, topic, websocket channel, database table."""

import typing
from dataclasses import dataclass

import msgspec

from schemas import inbound, outbound

EVENTS = "platform.events"
SYNC = f"{EVENTS}.live.sync.v1"
TELEMETRY = f"{EVENTS}.telemetry.v1"
OUTCOMES = f"{EVENTS}.intervention.outcome.v1"


def type_of(struct: type[msgspec.Struct]) -> str:
    """Return the value of the field ``type`` that tells this struct.

    >>> type_of(inbound.ChatMessage)
    'chat.message'
    """
    return str(struct.__struct_config__.tag)


@dataclass(frozen=True)
class Inbound:
    """An inbound type: its struct, its default topic, and whether it opens and extends a session."""

    struct: type[inbound.Event]
    topic: str
    windowed: bool

    @property
    def type(self) -> str:
        """The value of the field ``type``."""
        return type_of(self.struct)


@dataclass(frozen=True)
class Outbound:
    """An outbound type: its struct and where it goes. ``channel`` is None for what no websocket may see."""

    struct: type[outbound.Record]
    topic: str
    channel: str | None
    table: str

    @property
    def type(self) -> str:
        """The value of the field ``type``."""
        return type_of(self.struct)


def _topic(struct: type[inbound.Event]) -> str:
    kind = type_of(struct)
    family = kind.split(".")[0]
    if family in ("presence", "session", "reaction"):
        return SYNC
    if family == "telemetry":
        return TELEMETRY
    if family in ("intervention", "handoff"):
        return OUTCOMES
    return f"{EVENTS}.emotion.v1" if family == "emotion" else f"{EVENTS}.{kind}.v1"


def _windowed(struct: type[inbound.Event]) -> bool:
    return type_of(struct).split(".")[0] not in ("intervention", "handoff") and struct is not inbound.ChatAnswer


INBOUND: dict[str, Inbound] = {
    type_of(s): Inbound(s, _topic(s), _windowed(s)) for s in typing.get_args(inbound.AnyEvent)
}
"""Every inbound type by its name."""

OUTBOUND: dict[str, Outbound] = {
    entry.type: entry
    for entry in (
        Outbound(outbound.Engagement, "attune.engagement.v1", "engagement", "engagement_metrics"),
        Outbound(outbound.Anomaly, "attune.anomalies.v1", "anomalies", "anomalies"),
        Outbound(outbound.Emotion, "attune.emotions.v1", "emotions", "emotions"),
        Outbound(outbound.Intervention, "attune.interventions.v1", "interventions", "interventions"),
        Outbound(outbound.Outcome, "attune.outcomes.v1", "interventions", "intervention_outcomes"),
        Outbound(outbound.InterventionEffect, "attune.effects.v1", "effects", "agent_performance"),
        Outbound(outbound.Decision, "attune.decisions.v1", "decisions", "orchestrator_decisions"),
        Outbound(outbound.HandoffRequested, "attune.handoffs.v1", "handoffs", "handoffs"),
        Outbound(outbound.Calibration, "attune.calibration.v1", None, "calibration"),
        Outbound(outbound.SessionSummary, "attune.sessions.v1", "sessions", "sessions"),
        Outbound(outbound.DeadLetter, "attune.deadletters.v1", None, "dead_letters"),
    )
}
"""Every outbound type by its name."""

INBOUND_TOPICS: tuple[str, ...] = tuple(sorted({e.topic for e in INBOUND.values()}))
"""The default inbound topics, sorted: the order in which records of the same timestamp are merged."""

OUTBOUND_TOPICS: tuple[str, ...] = tuple(e.topic for e in OUTBOUND.values())
"""The outbound topics, in the contract's order."""

CHANNELS: tuple[str, ...] = tuple(dict.fromkeys(e.channel for e in OUTBOUND.values() if e.channel))
"""The websocket channels."""
