"""The chat answers of a shard: each is judged, routed and told once, with what was handed over before in mind."""

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import msgspec
from prometheus_client import Counter

from operators.chat import calibration
from operators.chat.calibration import Tally
from operators.chat.confidence import Judge, Judgement
from operators.chat.config import Policies, Policy, Wanted
from operators.chat.limits import DAY_MS, Quotas
from operators.chat.phrases import Phrases
from operators.chat.question import Reader
from operators.chat.routing import Check, Facts, HandoffReason, Route, Used, explain, facts_of, route
from operators.chat.state import Conversation, Remembered, pack, unpack
from operators.config import NEVER
from schemas.inbound import MAX_TS, ChatAnswer, HandoffResolved
from schemas.outbound import Decision, HandoffRequested, Record

HOUR_MS: Final = 3_600_000
_DIGEST: Final = 8
"""Bytes of an answer's digest. Two of 30,000 answers share one with a probability of 3e-11."""

_DECIDED: Final = Counter("attune_decisions_total", "Chat answers routed, by path", ["path"])
_PATH_DECIDED: Final = {path: _DECIDED.labels(path) for path in ("A", "B", "C", "D", "E", "F")}
_REPEATS: Final = Counter("attune_answers_repeated_total", "Chat answers that were there already, and counted once")
_UNMATCHED: Final = Counter(
    "attune_handoffs_unmatched_total", "Resolved hand-offs of conversations that are with no person as far as is known"
)


@dataclass(frozen=True)
class ChatConfig:
    """What a shard of chat answers computes with.

    ``conversation_ms``: a conversation with a person is forgotten when it had no answer for this long.
    ``repeats_kept``: the newest answers that are remembered, to take out repeats. ``calibration_ms``: the period of the
    records `calibration`; ``tally_ms``: a tenant's tally is forgotten when it had no answer for this long.
    """

    policies: Policies = field(default_factory=Policies)
    wanted: Wanted = field(default_factory=Wanted)
    conversation_ms: int = 7 * DAY_MS
    repeats_kept: int = 30_000
    calibration_ms: int = HOUR_MS
    tally_ms: int = 90 * DAY_MS


class Answered(msgspec.Struct, frozen=True, gc=False):
    """An answer's facts and its route, from which its records and its explanation are made."""

    policy: Policy
    facts: Facts
    route: Route

    def checks(self) -> list[Check]:
        """Return what each of the nine rules needed."""
        return explain(self.facts, self.policy.routing)


class Answers:
    """Decides on the answers of one shard. Feed it events in the order of their partitions, each with its stream time.

    What spans sessions (a user's limits, a tenant's calibration) is right where all of a tenant's events come to one
    shard; a conversation needs its session's in one. State is bounded: conversations are freed when resolved or silent
    for ``conversation_ms``, limits when their week is over, tallies after ``tally_ms``, and of repeats the newest
    ``repeats_kept`` are known. What is decided depends on the events and their stream times alone, not on how they are
    cut into calls: what is too old counts as gone before it is swept.
    """

    def __init__(self, config: ChatConfig, phrases: Phrases) -> None:
        self.config = config
        self._reader = Reader(phrases)
        self._judge = Judge(phrases, self._reader)
        self._now = 0
        self._swept = 0
        self._due = NEVER
        self._conversations: dict[str, Conversation] = {}
        self._quotas = Quotas()
        self._tallies: dict[str, Tally] = {}
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def feed(self, event: ChatAnswer | HandoffResolved, stream_time: int) -> list[Record]:
        """Take in one event and return what it tells: a decision and at most one hand-off for an answer.

        ``stream_time`` is the highest record timestamp of the event's partition up to and with its own (milliseconds).
        Calibrations that are due by then come first. An answer that was there already tells nothing.
        """
        told = self.advance(stream_time)
        if isinstance(event, HandoffResolved):
            self._resolve(event)
        elif self._is_new(event):
            told += self._answer(event)
        else:
            _REPEATS.inc()
        return told

    def advance(self, stream_time: int) -> list[Record]:
        """Move stream time on, which never goes back; return the calibrations that are due, free what is over."""
        if stream_time <= self._now:
            return []
        self._now = stream_time
        told: list[Record] = []
        if stream_time >= self._due:
            due = [(tally.due, tenant) for tenant, tally in self._tallies.items() if tally.due <= stream_time]
            for at, tenant in sorted(due):
                tally = self._tallies[tenant]
                tally.due = NEVER
                ident = f"{_plain(tenant)}/calibration/{at}"
                told.append(calibration.record(tenant, ident, min(at, MAX_TS), tally, self.config.wanted))
            self._due = min((tally.due for tally in self._tallies.values()), default=NEVER)
        if stream_time // DAY_MS > self._swept:
            self._sweep(stream_time)
        return told

    def judge(self, event: ChatAnswer) -> Answered:
        """Return what would be decided on an answer now, without taking it in."""
        policy = self.config.policies.of(event.tenant_id, event.agent_id)
        asked = self._reader.read(event.question, policy)
        judged = self._judge.judge(asked, event.answer, event.self_assessment, policy)
        who = _who(event)
        used = self._quotas.used(who, self._day(event, policy)) if who in self._quotas else Used()
        facts = facts_of(event, asked, judged, policy, used, handed_over=self._handed_over(event) is not None)
        return Answered(policy, facts, route(facts, policy.routing))

    def calibration(self, tenant: str) -> str:
        """Render a tenant's calibration up to now for a person."""
        return calibration.told(self._tallies.get(tenant, Tally()), self.config.wanted)

    def _answer(self, event: ChatAnswer) -> list[Record]:
        found = self.judge(event)
        judged, routed = found.facts.judged, found.route
        self._tally(event.tenant_id).answered(judged.confidence)
        told: list[Record] = [_decision(event, found)]
        if routed.handoff is not None:
            told.append(_handoff(event, judged, routed.handoff))
            status = "human" if routed.letter == "D" else "waiting"
            self._conversations[_conversation(event)] = Conversation(status, judged.confidence, self._now)
            if routed.letter == "D":
                self._quotas.count(_who(event), self._day(event, found.policy))
        elif (conversation := self._handed_over(event)) is not None:
            conversation.touched = self._now
        _PATH_DECIDED[routed.letter].inc()
        return told

    def _resolve(self, event: HandoffResolved) -> None:
        """Give a conversation back to the bot, and learn whether its hand-off was needed."""
        conversation = self._handed_over(event)
        self._conversations.pop(_conversation(event), None)
        if conversation is None:
            _UNMATCHED.inc()
            return
        tally = self._tally(event.tenant_id)
        tally.resolve(conversation.confidence, needed=event.needed)
        tally.due = min(tally.due, (self._now // self.config.calibration_ms + 1) * self.config.calibration_ms)
        self._due = min(self._due, tally.due)

    def _handed_over(self, event: ChatAnswer | HandoffResolved) -> Conversation | None:
        conversation = self._conversations.get(_conversation(event))
        if conversation is None or self._now - conversation.touched > self.config.conversation_ms:
            return None
        return conversation

    def _tally(self, tenant: str) -> Tally:
        tally = self._tallies.get(tenant)
        if tally is None or self._now - tally.last > self.config.tally_ms:
            tally = self._tallies[tenant] = Tally()
        tally.last = self._now
        return tally

    def _day(self, event: ChatAnswer, policy: Policy) -> int:
        return self._quotas.day(event.ts, self._now, policy.routing.limits.zone)

    def _is_new(self, event: ChatAnswer) -> bool:
        """Remember an answer; False if it was there already (same session, ``event_id`` and ``ts``)."""
        name = f"{event.tenant_id}\0{event.session_id}\0{event.ts}\0{event.event_id}"
        digest = blake2b(name.encode(), digest_size=_DIGEST).digest()
        if digest in self._seen:
            return False
        self._seen[digest] = None
        if len(self._seen) > self.config.repeats_kept:
            self._seen.popitem(last=False)
        return True

    def _sweep(self, stream_time: int) -> None:
        """Free what is over, once a day of stream time; all of it counts as gone already."""
        self._swept = stream_time // DAY_MS
        self._quotas.free(stream_time)
        silent, gone = stream_time - self.config.conversation_ms, stream_time - self.config.tally_ms
        self._conversations = {k: c for k, c in self._conversations.items() if c.touched >= silent}
        self._tallies = {tenant: tally for tenant, tally in self._tallies.items() if tally.last >= gone}

    def snapshot(self, shards: int = 1) -> bytes:
        """Pack the whole state into bytes; ``shards`` is how many there are, which a restored one must agree with."""
        return pack(
            Remembered(
                shards=shards,
                stream_time=self._now,
                swept=self._swept,
                conversations=self._conversations,
                counts=self._quotas.packed(),
                tallies=self._tallies,
                seen=b"".join(self._seen),
            )
        )

    @classmethod
    def restore(cls, config: ChatConfig, phrases: Phrases, packed: bytes, shards: int = 1) -> "Answers":
        """Return the shard that a snapshot was taken of.

        Raises:
            TerminalError: the snapshot is another release's, or of another number of shards.
        """
        found = unpack(packed, shards)
        answers = cls(config, phrases)
        answers._now, answers._swept = found.stream_time, found.swept
        answers._conversations, answers._quotas = found.conversations, Quotas(found.counts)
        answers._tallies = found.tallies
        answers._due = min((tally.due for tally in found.tallies.values()), default=NEVER)
        answers._seen.update((found.seen[at : at + _DIGEST], None) for at in range(0, len(found.seen), _DIGEST))
        return answers


def _decision(event: ChatAnswer, found: Answered) -> Decision:
    facts, routed = found.facts, found.route
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
    )


def _passed_on(judged: Judgement, routed: Route) -> str | None:
    """Return the text that goes on, None where it is withheld: refused, or not to be trusted and no mere greeting."""
    withheld = routed.letter == "F" or (judged.action == "immediate_escalation" and routed.letter != "A")
    return None if withheld else judged.text


def _handoff(event: ChatAnswer, judged: Judgement, reason: HandoffReason) -> HandoffRequested:
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
    return f"{_plain(event.tenant_id)}/{_plain(event.session_id)}/{event.ts}"


def _plain(name: str) -> str:
    """Escape the separator of ids, as for all records."""
    return name.replace("%", "%25").replace("/", "%2F") if "/" in name or "%" in name else name


def _who(event: ChatAnswer) -> str:
    return f"{event.tenant_id}\0{event.user_id}\0{event.agent_id}"


def _conversation(event: ChatAnswer | HandoffResolved) -> str:
    return f"{event.tenant_id}\0{event.session_id}\0{event.conversation_id}"
