"""The interventions of a shard of tenants: decided, approved, told what became of them, and measured."""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace
from prometheus_client import Counter

from operators.engagement import explain
from operators.interventions import governor, records
from operators.interventions.config import InterventionConfig
from operators.interventions.content import Content
from operators.interventions.cues import EFFECT_MS, Answer, Cue, CueBatch, Felt, Over, Scored, Seen, covering_tick
from operators.interventions.governor import HOUR_MS, NOBODY, Candidate
from operators.interventions.ledger import Ledger
from operators.interventions.policies import Policy
from operators.interventions.records import counted, unknown
from operators.interventions.rules import Rules
from operators.interventions.state import SNAPSHOTS, Known, Recipient, Remembered, Session, room_key, session_key
from schemas.inbound import MAX_TS, InterventionApproval, InterventionOutcome
from schemas.outbound import Anomaly, DeadLetter, Emotion, Record

_SCORES_KEPT_MS: Final = 2 * EFFECT_MS

_REPEATS: Final = Counter("attune_approvals_repeated_total", "Approvals that were there already, and counted once")
_UNMAPPED: Final = Counter("attune_emotions_unmapped_total", "Emotions to which no intervention answers")


class Interventions:
    """Decides what is done about emotions and anomalies. Feed it cues in the order of their partitions.

    What concerns a recipient depends on the cues of his session alone, wherever other partitions stand, and nothing
    depends on how cues are cut into batches. A tenant's budget and how many wait for approval span its sessions, and
    depend on how its partitions arrive.

    State is bounded: users are freed with their session, rooms and interventions after ``memory_ms`` of their
    partition's stream time, budgets when their hour is over. What is done for a room depends on its ticks alone, so
    that it does not matter where among the events of its partition its end was told.
    """

    def __init__(self, config: InterventionConfig, rules: Rules, content: Content) -> None:
        self.config = config
        self.rules = rules
        self.content = content
        self._clocks: dict[int, int] = {}
        self._swept = 0
        self._rooms: dict[str, Session] = {}
        self._sessions: dict[str, Session] = {}
        self._spent: dict[str, dict[int, int]] = {}
        self._ledger = Ledger(config.memory_ms, self._clocks)

    def take(self, batch: CueBatch) -> list[Record]:
        """Take in a batch, then its clock; return what they tell."""
        told: list[Record] = []
        for cue in batch.cues:
            told += self.feed(cue, batch.partition)
        return told + self.advance(batch.clock, batch.partition)

    def feed(self, cue: Cue, partition: int = 0) -> list[Record]:
        """Take in one cue; what has expired by its stream time is told first."""
        if isinstance(cue, Scored):  # a score tells what was, and moves no clock
            return self._scored(cue)
        told = self.advance(cue.stream_time, partition)
        match cue:
            case Felt():
                return told + self._felt(cue, partition)
            case Answer():
                return told + self._answered(cue)
            case Seen():
                return told + self._seen(cue.anomaly, partition)
            case Over():
                self._sessions.pop(session_key(cue.tenant_id, cue.session_id), None)
                return told

    def advance(self, stream_time: int, partition: int = 0) -> list[Record]:
        """Move a partition's stream time on, which never goes back; return what expires, free what is over."""
        if stream_time <= self._clocks.get(partition, -1):
            return []
        self._clocks[partition] = stream_time
        told = self._ledger.expire(partition)
        if stream_time // HOUR_MS > self._swept:
            self._sweep(stream_time // HOUR_MS)
        return told

    def _felt(self, cue: Felt, partition: int) -> list[Record]:
        first = cue.emotions[0]
        session = self._sessions.get(session_key(first.tenant_id, first.session_id))
        recipient = Recipient.unpacked(session.recipients.get(first.user_id)) if session else NOBODY
        candidates = []
        for emotion in cue.emotions:
            rows = self.rules.emotions.get(emotion.emotion)
            if rows is None:
                _UNMAPPED.inc()
            else:
                candidates.append(governor.choose(emotion, rows, recipient, (), self.rules))
        return self._govern(candidates, recipient, partition) if candidates else []

    def _seen(self, anomaly: Anomaly, partition: int) -> list[Record]:
        kind = anomaly.anomaly_type
        room = self._rooms.get(_room(anomaly))
        if room is not None and self._clocks.get(partition, 0) - room.touched > self.config.memory_ms:
            room = None
            del self._rooms[_room(anomaly)]
        if anomaly.state == "resolved":
            if room is not None:
                room.episodes.pop(kind, None)
            return []
        rows = self.rules.anomalies.get(kind)
        if not rows:
            return []
        bound = self.rules.warning_above.get(kind)
        if anomaly.severity == "WARNING" and bound is not None and self._score(anomaly) > bound:
            return []
        recipient = Recipient.unpacked(room.recipients.get("")) if room else NOBODY
        done = room.episodes.get(kind, ()) if room else ()
        return self._govern([governor.choose(anomaly, rows, recipient, done, self.rules)], recipient, partition)

    def _score(self, anomaly: Anomaly) -> float:
        """Return the session's engagement score at the anomaly's tick; ``current`` leaves out the poll."""
        return explain(anomaly.signals, self.config.score).score

    def _govern(self, candidates: Sequence[Candidate], recipient: Recipient, partition: int) -> list[Record]:
        """Decide on what is asked for at one moment, for one recipient."""
        trigger = candidates[0].trigger
        tenant = trigger.tenant_id
        policy = self.config.policies.of(tenant, trigger.ts)
        spent = self._spent.get(tenant, {})
        for candidate in candidates:
            governor.hinder(candidate, policy, recipient, spent)
        best = governor.outrank(candidates)
        told: list[Record] = []
        for candidate in candidates:
            if candidate is best:
                told += self._do(candidate, policy, partition)
            else:
                told.append(counted(records.intervention(candidate, "suppressed")))
        return told

    def _do(self, candidate: Candidate, policy: Policy, partition: int) -> list[Record]:
        """Fire a candidate that nothing hinders, let it wait for approval, or hold it out."""
        trigger, name = candidate.trigger, candidate.row.intervention
        tenant, session_id, ts = trigger.tenant_id, trigger.session_id, trigger.ts
        who = trigger.user_id if isinstance(trigger, Emotion) else session_id
        asked = governor.needs_approval(candidate, policy)
        held_out = governor.lot(tenant, who) < policy.holdout
        if not held_out and asked is not None and self._ledger.pending(tenant) >= self.config.pending_most:
            candidate.reason = "pending_limit"
            candidate.why = f"{self.config.pending_most} wait for approval already"
            return [counted(records.intervention(candidate, "suppressed"))]
        room = _room(trigger) if isinstance(trigger, Anomaly) else ""
        if room:
            session = self._rooms.setdefault(room, Session())
        else:
            session = self._sessions.setdefault(session_key(tenant, session_id), Session())
        session.touched, session.partition = ts, partition
        recipient = Recipient.unpacked(session.recipients.get(_who(trigger)))
        recipient.cooled[name] = max(ts, recipient.cooled.get(name, ts))
        if held_out or asked is None:
            governor.count(recipient, ts)
        session.recipients[_who(trigger)] = recipient.packed()
        if candidate.row.once:
            session.episodes.setdefault(_name(trigger), []).append(name)
        tick = ts if isinstance(trigger, Anomaly) else covering_tick(ts)
        if held_out:
            candidate.reason, candidate.why = "holdout", f"among the {policy.holdout:.3g} to whom nothing is shown"
            record = records.intervention(candidate, "suppressed")
            return [
                counted(record),
                *self._ledger.follow(record, Known.of(record, partition, tick, room=room), session.scores),
            ]
        shown = self.content.of(name, _name(trigger))
        shown_for_ms = round(shown.shown_for_s * 1000)
        content = self.content.render(shown, trigger, session.polled)
        session.polled += shown.poll
        if asked is not None:
            candidate.reason, candidate.why = "approval", asked
            record = records.intervention(candidate, "pending", content, ts + self.config.approval_ms)
            self._ledger.wait(record, Known.of(record, partition, tick, shown_for_ms, room))
            return [counted(record)]
        self._spend(tenant, ts)
        needed = governor.least(candidate.row, policy)
        candidate.why = f"confidence {candidate.confidence:.3g}, at least {needed:.3g}; nothing hindered it"
        record = records.intervention(candidate, "fired", content, ts + shown_for_ms)
        return [
            counted(record),
            *self._ledger.follow(record, Known.of(record, partition, tick, room=room), session.scores),
        ]

    def _spend(self, tenant: str, ts: int) -> None:
        spent = self._spent.setdefault(tenant, {})
        spent[ts // HOUR_MS] = spent.get(ts // HOUR_MS, 0) + 1

    def _scored(self, cue: Scored) -> list[Record]:
        session = self._sessions.get(session_key(cue.tenant_id, cue.session_id))
        if session is not None:
            session.scores[cue.ts] = cue.score
            for old in [tick for tick in session.scores if tick < cue.ts - _SCORES_KEPT_MS]:
                del session.scores[old]
        return self._ledger.hear(cue)

    def _answered(self, answer: Answer) -> list[Record]:
        known = self._ledger.find(answer)
        if isinstance(known, DeadLetter):
            return [known]
        if isinstance(answer.event, InterventionOutcome):
            return self._ledger.outcome(answer, answer.event, known)
        return self._approval(answer, answer.event, known)

    def _approval(self, answer: Answer, event: InterventionApproval, known: Known) -> list[Record]:
        record = known.pending
        decided = f"{event.ts}/{event.event_id}"
        if record is None:
            if decided == known.decided:
                _REPEATS.inc()
                return []
            is_now = known.status.replace("_", " ")
            return [unknown(answer, "an intervention that waits for approval", f"one that is {is_now}")]
        expires = record.expires_ts or 0
        if event.ts >= expires or answer.stream_time >= expires:
            return [unknown(answer, f"an approval before {expires}", f"one at {max(event.ts, answer.stream_time)}")]
        known.decided = decided
        moment = max(event.ts, record.ts)
        status, reason, why = "refused", None, f"{event.by} refused it"
        if event.approved:
            status, why = "fired", f"{event.by} approved it"
            if not self.config.policies.of(event.tenant_id, moment).enabled:
                status, reason, why = "refused", "disabled", "the tenant's interventions are switched off"
        changed = replace(record, status=status, reason=reason, by=event.by, why=why, ts=moment)
        if status != "fired":
            return [self._ledger.decide(known, changed)]
        told = self._ledger.decide(known, replace(changed, expires_ts=min(moment + known.shown_for_ms, MAX_TS)))
        known.tick = covering_tick(answer.stream_time)
        if known.room:
            session = self._rooms.get(known.room)
        else:
            session = self._sessions.get(session_key(record.tenant_id, record.session_id))
        who = record.user_id or ""
        if session and who in session.recipients:
            recipient = Recipient.unpacked(session.recipients[who])
            governor.count(recipient, moment)
            session.recipients[who] = recipient.packed()
        self._spend(record.tenant_id, moment)
        return [told, *self._ledger.follow(told, known, session.scores if session else {})]

    def _sweep(self, hour: int) -> None:
        """Free what is over, once an hour of stream time; all of it counts as gone already."""
        self._swept = hour
        self._ledger.sweep()
        for key, room in list(self._rooms.items()):
            if self._clocks.get(room.partition, 0) - room.touched > self.config.memory_ms:
                del self._rooms[key]
        # A partition that lags behind, after an outage say, still spends in hours that are over for the others.
        oldest = min(self._clocks.values()) // HOUR_MS - 1
        for tenant, spent in list(self._spent.items()):
            self._spent[tenant] = {at: fired for at, fired in spent.items() if at >= oldest}
            if not self._spent[tenant]:
                del self._spent[tenant]

    def snapshot(self, shards: int = 1) -> bytes:
        """Pack the whole state into bytes; ``shards`` is how many there are, which a restored one must agree with."""
        return SNAPSHOTS.pack(
            Remembered(
                shards=shards,
                clocks=self._clocks,
                swept=self._swept,
                rooms=self._rooms,
                sessions=self._sessions,
                known=self._ledger.known,
                spent=self._spent,
            )
        )

    @classmethod
    def restore(
        cls, config: InterventionConfig, rules: Rules, content: Content, packed: bytes, shards: int = 1
    ) -> "Interventions":
        """Return the shard that a snapshot was taken of.

        Raises:
            TerminalError: the snapshot is another release's, or of another number of shards.
        """
        found = SNAPSHOTS.unpack(packed, shards)
        shard = cls(config, rules, content)
        shard._clocks, shard._swept = found.clocks, found.swept
        shard._rooms, shard._sessions, shard._spent = found.rooms, found.sessions, found.spent
        shard._ledger = Ledger(config.memory_ms, found.clocks, found.known)
        return shard


def _who(trigger: Emotion | Anomaly) -> str:
    return trigger.user_id if isinstance(trigger, Emotion) else ""


def _room(anomaly: Anomaly) -> str:
    return room_key(anomaly.tenant_id, anomaly.session_id, anomaly.session_start)


def _name(trigger: Emotion | Anomaly) -> str:
    return trigger.emotion if isinstance(trigger, Emotion) else trigger.anomaly_type
