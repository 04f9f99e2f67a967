"""What an intervention may follow, in the order of a session's partition: emotions, anomalies, answers, scores.

Cues of one session arrive in an order that depends on its partition's log alone: what a tick told stands before the
event that made the tick due. A tenant's cues come to one shard, whatever the session.
"""

from dataclasses import dataclass
from typing import NamedTuple

from operators.config import PANE_MS
from schemas.inbound import InterventionApproval, InterventionOutcome
from schemas.outbound import Anomaly, Emotion

EFFECT_MS = 60_000
"""How long after the tick that covers a firing its effect is read (contract, section 6)."""


def covering_tick(ts: int) -> int:
    """Return the first tick whose window holds an event of this time (milliseconds): the score at that moment.

    >>> covering_tick(4_999), covering_tick(5_000)
    (5000, 10000)
    """
    return (ts // PANE_MS + 1) * PANE_MS


class Felt(NamedTuple):
    """What one user showed at one moment: the emotions of one event or timer, at least one, in the order of the rules.

    ``stream_time`` is that of their partition up to and with the event (milliseconds).
    """

    emotions: tuple[Emotion, ...]
    stream_time: int


class Seen(NamedTuple):
    """An anomaly that was raised or resolved at a tick."""

    anomaly: Anomaly
    stream_time: int


class Answer(NamedTuple):
    """An outcome or an approval, and where its record stood: what it would need as a dead letter."""

    event: InterventionOutcome | InterventionApproval
    topic: str
    partition: int
    offset: int
    payload: bytes
    stream_time: int


class Scored(NamedTuple):
    """The score of a session at a tick, 0 in silence; None if the session was over before.

    It comes for the covering tick of every `Felt` and of the stream time of every approval of what may be an
    intervention of its session, for the tick of every `Seen`, and for the ticks 60 s after those; again where it is
    wanted again.
    """

    tenant_id: str
    session_id: str
    ts: int
    score: float | None
    stream_time: int


class Over(NamedTuple):
    """A session ended at ``ts``; after it comes nothing of that session but scores, outcomes and approvals."""

    tenant_id: str
    session_id: str
    ts: int
    stream_time: int


Cue = Felt | Seen | Answer | Scored | Over


def tenant_of(cue: Cue) -> str:
    """Return whose cue it is."""
    match cue:
        case Felt():
            return cue.emotions[0].tenant_id
        case Seen():
            return cue.anomaly.tenant_id
        case Answer():
            return cue.event.tenant_id
        case _:
            return cue.tenant_id


@dataclass(frozen=True, slots=True)
class CueBatch:
    """Cues of one partition for one shard of tenants, in order, and the partition's stream time after them.

    ``partition`` is a number for the partition and the shard of sessions together: each such stream of cues is in order
    and has a stream time of its own.
    """

    partition: int
    clock: int
    cues: list[Cue]
