"""The interventions of a shard of tenants: decided, approved, told what became of them, and measured."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from pathlib import Path
from typing import Final, Protocol

from msgspec.structs import replace
from prometheus_client import Counter

from operators.config import ScoreConfig
from operators.deadletters import dead_letter
from operators.engagement import explain
from operators.interventions import governor, records
from operators.interventions.content import Content
from operators.interventions.cues import EFFECT_MS, Answer, Cue, CueBatch, Felt, Over, Scored, Seen, covering_tick
from operators.interventions.governor import HOUR_MS, NOBODY, Candidate
from operators.interventions.policies import Policies, Policy
from operators.interventions.reading import FOLDER
from operators.interventions.rules import Rules
from operators.interventions.state import Known, Recipient, Remembered, Session, pack, unpack
from schemas.inbound import InterventionApproval, InterventionOutcome
from schemas.outbound import Anomaly, DeadLetter, Detail, Emotion, Intervention, Record

DAY_MS: Final = 86_400_000
BEFORE, AFTER = 1, 2
_SCORES_KEPT_MS: Final = 2 * EFFECT_MS

_DECIDED: Final = Counter(
    "attune_interventions_total",
    "Interventions and changes of their status, by intervention, status and reason",
    ["intervention", "status", "reason"],
)
_OUTCOMES: Final = Counter("attune_intervention_outcomes_total", "Outcomes that came back", ["intervention", "outcome"])
_EFFECTS: Final = Counter("attune_intervention_effects_total", "Effects measured", ["intervention", "holdout"])
_REPEATS: Final = Counter("attune_approvals_repeated_total", "Approvals that were there already, and counted once")
_UNMAPPED: Final = Counter("attune_emotions_unmapped_total", "Emotions to which no intervention answers")


class PolicySource(Protocol):
    """Where the policies of tenants are asked for; what it says may change."""

    def of(self, tenant: str, ts: int) -> Policy:
        """Return the policy of a tenant at a time (milliseconds since 1970 UTC)."""


@dataclass(frozen=True)
class InterventionConfig:
    """What a shard of interventions computes with.

    ``memory_ms``: how long an intervention is known, for its outcomes and its effect. ``approval_ms``: how long one
    waits for approval, which is no longer; a tenant has at most ``pending_most`` of those. ``score``: how engagement is
    scored. ``rules``: the folder with the mapping and the texts, for ``read_interventions``.
    """

    policies: PolicySource = field(default_factory=Policies)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    memory_ms: int = DAY_MS
    approval_ms: int = 30 * 60_000
    pending_most: int = 1_000
    rules: Path = FOLDER

    def __post_init__(self) -> None:
        if not 0 < self.approval_ms <= self.memory_ms:
            raise ValueError(f"approval_ms: expected more than 0 and at most memory_ms, got {self.approval_ms}")


class Interventions:
    """Decides what is done about emotions and anomalies. Feed it cues in the order of their partitions.

    What concerns a recipient depends on the cues of his session alone, wherever other partitions stand, and nothing
    depends on how cues are cut into batches. A tenant's budget and how many wait for approval span its sessions, and
    depend on how its partitions arrive.

    State is bounded: recipients are freed with their session, interventions after ``memory_ms`` of their partition's
    stream time, budgets when their hour is over.
    """

    def __init__(self, config: InterventionConfig, rules: Rules, content: Content) -> None:
        self.config = config
        self.rules = rules
        self.content = content
        self._clocks: dict[int, int] = {}
        self._swept = 0
        self._sessions: dict[str, Session] = {}
        self._known: dict[str, dict[str, Known]] = {}
        self._waits: dict[str, dict[int, list[str]]] = {}
        self._spent: dict[str, dict[int, int]] = {}
        self._pending: dict[str, int] = {}
        self._expiring: dict[int, list[tuple[int, str, str]]] = {}
        """By partition: when what is pending expires, tenant and id. What was decided since is in it, too."""

    def take(self, batch: CueBatch) -> list[Record]:
        """Take in a batch, then its clock; return what they tell."""
        told: list[Record] = []
        for cue in batch.cues:
            told += self.feed(cue, batch.partition)
        return told + self.advance(batch.clock, batch.partition)

    def feed(self, cue: Cue, partition: int = 0) -> list[Record]:
        """Take in one cue; what has expired by its stream time is told first."""
        told = self.advance(cue.stream_time, partition)
        match cue:
            case Felt():
                return told + self._felt(cue, partition)
            case Scored():
                return told + self._scored(cue)
            case Answer():
                return told + self._answered(cue)
            case Seen():
                return told + self._seen(cue.anomaly, partition)
            case Over():
                self._sessions.pop(_key(cue.tenant_id, cue.session_id), None)
                return told

    def advance(self, stream_time: int, partition: int = 0) -> list[Record]:
        """Move a partition's stream time on, which never goes back; return what expires, free what is over."""
        if stream_time <= self._clocks.get(partition, -1):
            return []
        self._clocks[partition] = stream_time
        told: list[Record] = []
        expiring = self._expiring.get(partition)
        while expiring and expiring[0][0] <= stream_time:
            at, tenant, ident = heappop(expiring)
            known = self._known.get(tenant, {}).get(ident)
            if known is not None and known.record.status == "pending":
                waited = f"nobody approved within {self.config.approval_ms / 60_000:g} min"
                told.append(
                    self._decide(known, replace(known.record, status="expired", ts=at, reason=None, why=waited))
                )
        if stream_time // HOUR_MS > self._swept:
            self._sweep(stream_time // HOUR_MS)
        return told

    def _felt(self, cue: Felt, partition: int) -> list[Record]:
        first = cue.emotions[0]
        session = self._sessions.get(_key(first.tenant_id, first.session_id))
        recipient = session.recipients.get(first.user_id, NOBODY) if session else NOBODY
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
        session = self._sessions.get(_key(anomaly.tenant_id, anomaly.session_id))
        if anomaly.state == "resolved":
            if session is not None:
                session.episodes.pop(kind, None)
            return []
        rows = self.rules.anomalies.get(kind)
        if not rows:
            return []
        bound = self.rules.warning_above.get(kind)
        if anomaly.severity == "WARNING" and bound is not None and self._score(anomaly) > bound:
            return []
        recipient = session.recipients.get("", NOBODY) if session else NOBODY
        done = session.episodes.get(kind, ()) if session else ()
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
                told.append(self._do(candidate, policy, partition))
            else:
                told.append(_count(records.intervention(candidate, "suppressed")))
        return told

    def _do(self, candidate: Candidate, policy: Policy, partition: int) -> Intervention:
        """Fire a candidate that nothing hinders, let it wait for approval, or hold it out."""
        trigger, name = candidate.trigger, candidate.row.intervention
        tenant, session_id, ts = trigger.tenant_id, trigger.session_id, trigger.ts
        who = trigger.user_id if isinstance(trigger, Emotion) else session_id
        asked = governor.needs_approval(candidate, policy)
        held_out = governor.lot(tenant, who) < policy.holdout
        if not held_out and asked is not None and self._pending.get(tenant, 0) >= self.config.pending_most:
            candidate.reason = "pending_limit"
            candidate.why = f"{self.config.pending_most} wait for approval already"
            return _count(records.intervention(candidate, "suppressed"))
        session = self._sessions.setdefault(_key(tenant, session_id), Session())
        recipient = session.recipients.setdefault(_who(trigger), Recipient({}, []))
        recipient.cooled[name] = max(ts, recipient.cooled.get(name, ts))
        if candidate.row.once:
            session.episodes.setdefault(_name(trigger), []).append(name)
        tick = ts if isinstance(trigger, Anomaly) else covering_tick(ts)
        if held_out:
            governor.count(recipient, ts)
            candidate.reason, candidate.why = "holdout", f"among the {policy.holdout:.3g} to whom nothing is shown"
            record = records.intervention(candidate, "suppressed")
            self._follow(Known(record, partition, tick, 0), session)
            return _count(record)
        shown = self.content.of(name, _name(trigger))
        shown_for_ms = round(shown.shown_for_s * 1000)
        content = self.content.render(shown, trigger, session.polled)
        session.polled += shown.poll
        if asked is not None:
            candidate.reason, candidate.why = "approval", asked
            record = records.intervention(candidate, "pending", content, ts + self.config.approval_ms)
            known = Known(record, partition, tick, shown_for_ms)
            self._known.setdefault(tenant, {})[record.id] = known
            self._wait_for_approval(known)
            return _count(record)
        governor.count(recipient, ts)
        self._spend(tenant, ts)
        needed = governor.least(candidate.row, policy)
        candidate.why = f"confidence {candidate.confidence:.3g}, at least {needed:.3g}; nothing hindered it"
        record = records.intervention(candidate, "fired", content, ts + shown_for_ms)
        self._follow(Known(replace(record, content=None), partition, tick, shown_for_ms), session)
        return _count(record)

    def _spend(self, tenant: str, ts: int) -> None:
        spent = self._spent.setdefault(tenant, {})
        spent[ts // HOUR_MS] = spent.get(ts // HOUR_MS, 0) + 1

    def _wait_for_approval(self, known: Known) -> None:
        record = known.record
        self._pending[record.tenant_id] = self._pending.get(record.tenant_id, 0) + 1
        expires = record.expires_ts or 0
        heappush(self._expiring.setdefault(known.partition, []), (expires, record.tenant_id, record.id))

    def _follow(self, known: Known, session: Session | None) -> None:
        """Remember what was fired or held out, and wait for the scores of its tick and of 60 s later."""
        record = known.record
        self._known.setdefault(record.tenant_id, {})[record.id] = known
        for tick, which in ((known.tick, BEFORE), (known.tick + EFFECT_MS, AFTER)):
            if session is not None and tick in session.scores:
                _hear(known, which, session.scores[tick])
            else:
                waits = self._waits.setdefault(_key(record.tenant_id, record.session_id), {})
                waits.setdefault(tick, []).append(record.id)

    def _scored(self, cue: Scored) -> list[Record]:
        key = _key(cue.tenant_id, cue.session_id)
        session = self._sessions.get(key)
        if session is not None:
            session.scores[cue.ts] = cue.score
            for old in [tick for tick in session.scores if tick < cue.ts - _SCORES_KEPT_MS]:
                del session.scores[old]
        waits = self._waits.get(key)
        if waits is None:
            return []
        told: list[Record] = []
        for ident in waits.pop(cue.ts, ()):
            known = self._known.get(cue.tenant_id, {}).get(ident)
            if known is not None:
                _hear(known, BEFORE if cue.ts == known.tick else AFTER, cue.score)
                told += _effect(known)
        if not waits:
            del self._waits[key]
        return told

    def _answered(self, answer: Answer) -> list[Record]:
        event = answer.event
        known = self._known.get(event.tenant_id, {}).get(event.intervention_id)
        if known is None or self._forgotten(known):
            hours = self.config.memory_ms / HOUR_MS
            return [_unknown(answer, f"an intervention of the last {hours:g} h that was fired, held out or pending")]
        if event.session_id != known.record.session_id:
            return [_unknown(answer, "an intervention of this session", "one of another session")]
        if isinstance(event, InterventionOutcome):
            return self._outcome(answer, event, known)
        return self._approval(answer, event, known)

    def _outcome(self, answer: Answer, event: InterventionOutcome, known: Known) -> list[Record]:
        if known.held_out and event.outcome != "converted":
            return [_unknown(answer, "an intervention that was fired", "one that was held out: nothing was shown")]
        if not known.held_out and known.record.status != "fired":
            return [_unknown(answer, "an intervention that was fired", f"one that is {known.record.status}")]
        told: list[Record] = [records.outcome(event, known)]
        _OUTCOMES.labels(known.record.intervention, event.outcome).inc()
        if event.outcome == "converted" and not known.converted:
            known.converted = True
            told += _effect(known)
        return told

    def _approval(self, answer: Answer, event: InterventionApproval, known: Known) -> list[Record]:
        record = known.record
        decided = f"{event.ts}/{event.event_id}"
        if record.status != "pending":
            if decided == known.decided:
                _REPEATS.inc()
                return []
            is_now = "held out" if known.held_out else record.status
            return [_unknown(answer, "an intervention that waits for approval", f"one that is {is_now}")]
        expires = record.expires_ts or 0
        if event.ts >= expires or answer.stream_time >= expires:
            return [_unknown(answer, f"an approval before {expires}", f"one at {max(event.ts, answer.stream_time)}")]
        known.decided = decided
        moment = max(event.ts, record.ts)
        status, reason, why = "refused", None, f"{event.by} refused it"
        if event.approved:
            status, why = "fired", f"{event.by} approved it"
            if not self.config.policies.of(event.tenant_id, moment).enabled:
                status, reason, why = "refused", "disabled", "the tenant's interventions are switched off"
        changed = replace(record, status=status, reason=reason, by=event.by, why=why, ts=moment)
        if status != "fired":
            return [self._decide(known, changed)]
        told = self._decide(known, replace(changed, expires_ts=moment + known.shown_for_ms))
        if event.ts > record.ts:  # else the ticks of the trigger itself are told
            known.tick = covering_tick(event.ts)
        session = self._sessions.get(_key(record.tenant_id, record.session_id))
        recipient = session.recipients.get(record.user_id or "") if session else None
        if recipient is not None:
            governor.count(recipient, moment)
        self._spend(record.tenant_id, moment)
        self._follow(known, session)
        return [told, *_effect(known)]

    def _decide(self, known: Known, changed: Intervention) -> Intervention:
        """Give what was pending another status."""
        tenant = changed.tenant_id
        left = self._pending[tenant] = self._pending[tenant] - 1
        if not left:
            del self._pending[tenant]
        changed = replace(changed, revision=known.record.revision + 1)
        if changed.status != "fired":
            changed = replace(changed, content=None, expires_ts=None)
        known.record = replace(changed, content=None)
        return _count(changed)

    def _forgotten(self, known: Known) -> bool:
        return self._clocks.get(known.partition, 0) - known.record.ts > self.config.memory_ms

    def _sweep(self, hour: int) -> None:
        """Free what is over, once an hour of stream time; all of it counts as gone already."""
        self._swept = hour
        for tenant, known in list(self._known.items()):
            kept = {ident: each for ident, each in known.items() if not self._forgotten(each)}
            self._known[tenant] = kept
            if not kept:
                del self._known[tenant]
        for key, waits in list(self._waits.items()):
            known = self._known.get(key.partition("\0")[0], {})
            left = {tick: [ident for ident in idents if ident in known] for tick, idents in waits.items()}
            self._waits[key] = {tick: idents for tick, idents in left.items() if idents}
            if not self._waits[key]:
                del self._waits[key]
        # A partition that lags behind, after an outage say, still spends in hours that are over for the others.
        oldest = min(self._clocks.values()) // HOUR_MS - 1
        for tenant, spent in list(self._spent.items()):
            self._spent[tenant] = {at: fired for at, fired in spent.items() if at >= oldest}
            if not self._spent[tenant]:
                del self._spent[tenant]

    def snapshot(self, shards: int = 1) -> bytes:
        """Pack the whole state into bytes; ``shards`` is how many there are, which a restored one must agree with."""
        return pack(
            Remembered(
                shards=shards,
                clocks=self._clocks,
                swept=self._swept,
                sessions=self._sessions,
                known=self._known,
                waits=self._waits,
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
        found = unpack(packed, shards)
        shard = cls(config, rules, content)
        shard._clocks, shard._swept = found.clocks, found.swept
        shard._sessions, shard._known, shard._waits = found.sessions, found.known, found.waits
        shard._spent = found.spent
        for known in found.known.values():
            for each in known.values():
                if each.record.status == "pending":
                    shard._wait_for_approval(each)
        return shard


def _key(tenant: str, session: str) -> str:
    return f"{tenant}\0{session}"


def _who(trigger: Emotion | Anomaly) -> str:
    return trigger.user_id if isinstance(trigger, Emotion) else ""


def _name(trigger: Emotion | Anomaly) -> str:
    return trigger.emotion if isinstance(trigger, Emotion) else trigger.anomaly_type


def _hear(known: Known, which: int, score: float | None) -> None:
    known.heard |= which
    if which == BEFORE:
        known.before = score
    else:
        known.after = score


def _effect(known: Known) -> list[Record]:
    """Return the effect if both scores have come; a session that was over then has one only if it converted."""
    if known.heard != BEFORE | AFTER or not (known.converted or None not in (known.before, known.after)):
        return []
    found = records.effect(known)
    known.effects += 1
    _EFFECTS.labels(known.record.intervention, str(known.held_out).lower()).inc()
    return [found]


def _count(record: Intervention) -> Intervention:
    _DECIDED.labels(record.intervention, record.status, record.reason or "").inc()
    return record


def _unknown(answer: Answer, expected: str, got: str | None = None) -> DeadLetter:
    event = answer.event
    return dead_letter(
        "unknown_intervention",
        Detail("intervention_id", expected, event.intervention_id[:120] if got is None else got),
        (answer.topic, answer.partition, answer.offset),
        answer.payload,
        (event.tenant_id, event.session_id),
        event.ts,
    )
