"""The chat answers of a shard: each is judged, routed and told once, with what was handed over before in mind."""

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import msgspec
from prometheus_client import Counter

from operators.chat import calibration
from operators.chat.batch import Chat, ChatBatch
from operators.chat.calibration import Tally
from operators.chat.confidence import Judge
from operators.chat.config import Policies, Policy, PolicySource, Wanted
from operators.chat.limits import DAY_MS, Quotas
from operators.chat.phrases import Phrases
from operators.chat.question import Reader
from operators.chat.records import decision, handoff
from operators.chat.routing import Facts, Route, Used, facts_of, route
from operators.chat.state import SNAPSHOTS, Conversation, Remembered
from operators.config import NEVER
from operators.records import plain
from schemas.inbound import MAX_TS, ChatAnswer, HandoffResolved
from schemas.outbound import Record

HOUR_MS: Final = 3_600_000
_DIGEST: Final = 8
"""Bytes of an event's digest. Two of 10,000 share one with a probability of 3e-12."""

_DECIDED: Final = Counter("attune_decisions_total", "Chat answers routed, by path", ["path"])
_PATH_DECIDED: Final = {path: _DECIDED.labels(path) for path in ("A", "B", "C", "D", "E", "F")}
_REPEATS: Final = Counter(
    "attune_chat_repeated_total", "Chat answers and resolved hand-offs that were there already, and counted once"
)
_RESOLVED: Final = Counter(
    "attune_handoffs_resolved_total", "Resolved hand-offs that gave a conversation back to its bot"
)
_UNMATCHED: Final = Counter(
    "attune_handoffs_unmatched_total", "Resolved hand-offs of conversations that are with no person as far as is known"
)


@dataclass(frozen=True)
class ChatConfig:
    """What a shard of chat answers computes with.

    ``conversation_ms``: a conversation with a person is forgotten when it had no answer for this long.
    ``repeats_kept``: how many of a partition's newest events are remembered, to take out repeats. ``calibration_ms``:
    the period of the records `calibration`; ``tally_ms``: a tenant's tally is forgotten when it had no answer for this
    long.
    """

    policies: PolicySource = field(default_factory=Policies)
    wanted: Wanted = field(default_factory=Wanted)
    conversation_ms: int = 7 * DAY_MS
    repeats_kept: int = 10_000
    calibration_ms: int = HOUR_MS
    tally_ms: int = 90 * DAY_MS


class Answered(msgspec.Struct, frozen=True, gc=False):
    """An answer's facts and its route, from which its records are made."""

    policy: Policy
    facts: Facts
    route: Route


class Answers:
    """Decides on the answers of one shard. Feed it events in the order of their partitions, each with its stream time.

    A conversation's events come from one partition, its session's, and what is decided on them depends on that
    partition alone: on its events and its stream time. What spans sessions (a user's limits, a tenant's calibration) is
    right where all of a tenant's events come to one shard, and depends on how its partitions arrive. Nothing depends on
    how events are cut into batches: what is too old counts as gone before it is swept.

    State is bounded: conversations are freed when resolved or silent for ``conversation_ms``, limits when their week is
    over, tallies after ``tally_ms``, and of repeats the newest ``repeats_kept`` of each partition are known.
    """

    def __init__(self, config: ChatConfig, phrases: Phrases) -> None:
        self.config = config
        self._reader = Reader(phrases)
        self._judge = Judge(phrases, self._reader)
        self._clocks: dict[int, int] = {}
        self._now = 0
        self._swept = 0
        self._due = NEVER
        self._conversations: dict[str, Conversation] = {}
        self._quotas = Quotas()
        self._tallies: dict[str, Tally] = {}
        self._seen: dict[int, OrderedDict[bytes, None]] = {}

    def take(self, batch: ChatBatch) -> list[Record]:
        """Take in a batch, then its clock; return what they tell."""
        told = []
        for event, stream_time in zip(batch.events, batch.stream_time, strict=True):
            told += self.feed(event, stream_time, batch.partition)
        return told + self.advance(batch.clock, batch.partition)

    def feed(self, event: Chat, stream_time: int, partition: int = 0) -> list[Record]:
        """Take in one event and return what it tells: a decision and at most one hand-off for an answer.

        ``stream_time`` is the highest record timestamp of the event's partition up to and with its own (milliseconds).
        Calibrations that are due by then come first. An event that was there already tells nothing.
        """
        told = self.advance(stream_time, partition)
        if not self._is_new(event, partition):
            _REPEATS.inc()
        elif isinstance(event, HandoffResolved):
            self._resolve(event, partition)
        else:
            told += self._answer(event, partition)
        return told

    def advance(self, stream_time: int, partition: int = 0) -> list[Record]:
        """Move a partition's stream time on, which never goes back; return calibrations due, free what is over."""
        if stream_time > self._clocks.get(partition, 0):
            self._clocks[partition] = stream_time
        if stream_time <= self._now:
            return []
        self._now = stream_time
        told: list[Record] = []
        if stream_time >= self._due:
            until = min(stream_time, NEVER - 1)  # the end of time is beyond never
            due = [(tally.due, tenant) for tenant, tally in self._tallies.items() if tally.due <= until]
            for at, tenant in sorted(due):
                tally = self._tallies[tenant]
                tally.due = NEVER
                ident = f"{plain(tenant)}/calibration/{at}"
                told.append(calibration.record(tenant, ident, min(at, MAX_TS), tally, self.config.wanted))
            self._due = min((tally.due for tally in self._tallies.values()), default=NEVER)
        if stream_time // DAY_MS > self._swept:
            self._sweep()
        return told

    def judge(self, event: ChatAnswer, partition: int = 0) -> Answered:
        """Return what would be decided on an answer now, without taking it in."""
        policy = self.config.policies.of(event.tenant_id, event.agent_id)
        asked = self._reader.read(event.question, policy)
        judged = self._judge.judge(asked, event.answer, event.self_assessment, policy)
        who = _who(event)
        used = self._quotas.used(who, self._day(event, policy, partition)) if who in self._quotas else Used()
        handed_over = self._handed_over(event, partition) is not None
        facts = facts_of(event, asked, judged, policy, used, handed_over=handed_over)
        return Answered(policy, facts, route(facts, policy.routing))

    def _answer(self, event: ChatAnswer, partition: int) -> list[Record]:
        found = self.judge(event, partition)
        judged, routed = found.facts.judged, found.route
        self._tally(event.tenant_id).answered(judged.confidence)
        told: list[Record] = [decision(event, found.policy, found.facts, routed)]
        now = self._clocks.get(partition, 0)
        if routed.handoff is not None:
            told.append(handoff(event, judged, routed.handoff))
            status = "human" if routed.letter == "D" else "waiting"
            self._conversations[_conversation(event)] = Conversation(status, judged.confidence, partition, now)
            if routed.letter == "D":
                self._quotas.count(_who(event), self._day(event, found.policy, partition))
        elif (conversation := self._handed_over(event, partition)) is not None:
            conversation.partition, conversation.touched = partition, now
        _PATH_DECIDED[routed.letter].inc()
        return told

    def _resolve(self, event: HandoffResolved, partition: int) -> None:
        """Give a conversation back to the bot, and learn whether its hand-off was needed."""
        conversation = self._handed_over(event, partition)
        self._conversations.pop(_conversation(event), None)
        if conversation is None:
            _UNMATCHED.inc()
            return
        _RESOLVED.inc()
        tally = self._tally(event.tenant_id)
        tally.resolve(conversation.confidence, needed=event.needed)
        tally.due = min(tally.due, (self._now // self.config.calibration_ms + 1) * self.config.calibration_ms)
        self._due = min(self._due, tally.due)

    def _handed_over(self, event: Chat, partition: int) -> Conversation | None:
        conversation = self._conversations.get(_conversation(event))
        if conversation is None:
            return None
        silent = self._clocks.get(partition, 0) - conversation.touched
        return None if silent > self.config.conversation_ms else conversation

    def _tally(self, tenant: str) -> Tally:
        tally = self._tallies.get(tenant)
        if tally is None or self._now - tally.last > self.config.tally_ms:
            tally = self._tallies[tenant] = Tally()
        tally.last = self._now
        return tally

    def _day(self, event: ChatAnswer, policy: Policy, partition: int) -> int:
        return self._quotas.day(event.ts, self._clocks.get(partition, 0), policy.routing.limits.zone)

    def _is_new(self, event: Chat, partition: int) -> bool:
        """Remember an event; False if it was there already (same session, ``event_id`` and ``ts``)."""
        name = f"{event.tenant_id}\0{event.session_id}\0{event.ts}\0{event.event_id}"
        digest = blake2b(name.encode(), digest_size=_DIGEST).digest()
        seen = self._seen.get(partition)
        if seen is None:
            seen = self._seen[partition] = OrderedDict()
        if digest in seen:
            return False
        seen[digest] = None
        if len(seen) > self.config.repeats_kept:
            seen.popitem(last=False)
        return True

    def _sweep(self) -> None:
        """Free what is over, once a day of stream time; all of it counts as gone already."""
        self._swept = self._now // DAY_MS
        # A partition that lags behind, after an outage say, still needs what is over for the others.
        self._quotas.free(min(self._clocks.values()))
        silent, gone = self.config.conversation_ms, self._now - self.config.tally_ms
        kept = self._conversations.items()
        self._conversations = {k: c for k, c in kept if self._clocks.get(c.partition, 0) - c.touched <= silent}
        self._tallies = {tenant: tally for tenant, tally in self._tallies.items() if tally.last >= gone}

    def snapshot(self, shards: int = 1) -> bytes:
        """Pack the whole state into bytes; ``shards`` is how many there are, which a restored one must agree with."""
        return SNAPSHOTS.pack(
            Remembered(
                shards=shards,
                clocks=self._clocks,
                swept=self._swept,
                conversations=self._conversations,
                counts=self._quotas.packed(),
                tallies=self._tallies,
                seen={partition: b"".join(seen) for partition, seen in self._seen.items()},
            )
        )

    @classmethod
    def restore(cls, config: ChatConfig, phrases: Phrases, packed: bytes, shards: int = 1) -> "Answers":
        """Return the shard that a snapshot was taken of.

        Raises:
            TerminalError: the snapshot is another release's, or of another number of shards.
        """
        found = SNAPSHOTS.unpack(packed, shards)
        answers = cls(config, phrases)
        answers._clocks, answers._swept = found.clocks, found.swept
        answers._now = max(found.clocks.values(), default=0)
        answers._conversations, answers._quotas = found.conversations, Quotas(found.counts)
        answers._tallies = found.tallies
        answers._due = min((tally.due for tally in found.tallies.values()), default=NEVER)
        for partition, seen in found.seen.items():
            digests = (seen[at : at + _DIGEST] for at in range(0, len(seen), _DIGEST))
            answers._seen[partition] = OrderedDict.fromkeys(digests)
        return answers


def _who(event: ChatAnswer) -> str:
    return f"{event.tenant_id}\0{event.user_id}\0{event.agent_id}"


def _conversation(event: Chat) -> str:
    return f"{event.tenant_id}\0{event.session_id}\0{event.conversation_id}"
