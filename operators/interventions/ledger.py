"""What was fired, held out or waits for approval: when it expires, what became of it, and how the score moved."""

from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final

from msgspec.structs import replace
from prometheus_client import Counter

from operators.interventions import records
from operators.interventions.cues import EFFECT_MS, Answer, Scored
from operators.interventions.governor import HOUR_MS
from operators.interventions.records import counted, unknown
from operators.interventions.state import AFTER, BEFORE, Known, session_key
from schemas.inbound import InterventionOutcome
from schemas.outbound import DeadLetter, Intervention, Record

OUTCOMES_KNOWN: Final = 100_000
"""Outcomes of one intervention that are known; of a room with more people a repeat may count again."""

_OUTCOMES: Final = Counter("attune_intervention_outcomes_total", "Outcomes that came back", ["intervention", "outcome"])
_EFFECTS: Final = Counter("attune_intervention_effects_total", "Effects measured", ["intervention", "holdout"])
_measured = cache(_EFFECTS.labels)


class Ledger:
    """The interventions that may still change, be measured, or be answered to: for ``memory_ms`` of stream time.

    A score that is waited for has to come before its partition's stream time leaps beyond that, if only to say that
    there is none. ``clocks`` is the stream time of each partition, which its owner moves on. An intervention's is its
    session's.
    """

    def __init__(
        self,
        memory_ms: int,
        clocks: Mapping[int, int],
        known: dict[str, dict[str, bytes | Known]] | None = None,
    ) -> None:
        self.known = known or {}
        """By tenant and id, packed: all are kept for a day, and few are looked at again."""
        self._waits: dict[str, dict[int, list[str]]] = {}
        """Ids that wait for a score, by session and tick."""
        self._memory_ms = memory_ms
        self._clocks = clocks
        self._pending: dict[str, int] = {}
        self._expiring: dict[int, list[tuple[int, str, str]]] = {}
        """By partition: when what is pending expires, tenant and id. What was decided since is in it, too."""
        for tenant, of_tenant in self.known.items():
            for ident, packed in of_tenant.items():
                each = Known.unpacked(packed)
                if each.pending is not None:
                    self._wait(each.pending, each.partition)
                elif each.waits:
                    self._listen(tenant, ident, each)

    def pending(self, tenant: str) -> int:
        """Return how many of a tenant's wait for approval."""
        return self._pending.get(tenant, 0)

    def wait(self, record: Intervention, known: Known) -> None:
        """Remember what waits for approval."""
        self._keep(record.tenant_id, record.id, known)
        self._wait(record, known.partition)

    def _wait(self, record: Intervention, partition: int) -> None:
        self._pending[record.tenant_id] = self._pending.get(record.tenant_id, 0) + 1
        heappush(self._expiring.setdefault(partition, []), (record.expires_ts or 0, record.tenant_id, record.id))

    def expire(self, partition: int) -> list[Record]:
        """Return what nobody approved in time, by the partition's stream time."""
        expiring = self._expiring.get(partition)
        told: list[Record] = []
        while expiring and expiring[0][0] <= self._clocks[partition]:
            at, tenant, ident = heappop(expiring)
            known = self._get(tenant, ident)
            if known is not None and known.pending is not None:
                why = "nobody approved it in time"
                told.append(self.decide(known, replace(known.pending, status="expired", ts=at, reason=None, why=why)))
        return told

    def decide(self, known: Known, changed: Intervention) -> Intervention:
        """Give what was pending another status, and return its record."""
        tenant = changed.tenant_id
        self._pending[tenant] -= 1
        if not self._pending[tenant]:
            del self._pending[tenant]
        changed = replace(changed, revision=changed.revision + 1)
        if changed.status != "fired":
            changed = replace(changed, content=None, expires_ts=None)
        known.status, known.ts, known.pending = changed.status, changed.ts, None
        self._keep(tenant, changed.id, known)
        return counted(changed)

    def follow(self, record: Intervention, known: Known, scores: Mapping[int, float | None]) -> list[Record]:
        """Remember what was fired or held out, and wait for the scores of its tick and of 60 s later.

        ``scores`` are those that its session was told lately. Returns the effect, should both be among them.
        """
        tenant, ident = record.tenant_id, record.id
        for tick, which in _scores(known):
            if tick in scores:
                _hear(known, which, scores[tick])
        self._listen(tenant, ident, known)
        told = _effect(tenant, ident, known)
        self.known.get(tenant, {}).pop(ident, None)  # what was pending so far goes to the end
        self._keep(tenant, ident, known)
        return told

    def _listen(self, tenant: str, ident: str, known: Known) -> None:
        """Wait for the scores that have not come."""
        for tick, which in _scores(known):
            if not known.heard & which:
                waits = self._waits.setdefault(session_key(tenant, known.session_id), {})
                waits.setdefault(tick, []).append(ident)

    def _get(self, tenant: str, ident: str) -> Known | None:
        packed = self.known.get(tenant, {}).get(ident)
        return None if packed is None else Known.unpacked(packed)

    def _keep(self, tenant: str, ident: str, known: Known) -> None:
        self.known.setdefault(tenant, {})[ident] = known.packed()

    def hear(self, cue: Scored) -> list[Record]:
        """Take a score in; return the effects that it completes."""
        key = session_key(cue.tenant_id, cue.session_id)
        waits = self._waits.get(key)
        if waits is None:
            return []
        told: list[Record] = []
        for ident in waits.pop(cue.ts, ()):
            known = self._get(cue.tenant_id, ident)
            if known is not None:
                _hear(known, BEFORE if cue.ts == known.tick else AFTER, cue.score)
                told += _effect(cue.tenant_id, ident, known)
                self._keep(cue.tenant_id, ident, known)
        if not waits:
            del self._waits[key]
        return told

    def find(self, answer: Answer) -> Known | DeadLetter:
        """Return what an answer is about, or its dead letter."""
        event = answer.event
        known = self._get(event.tenant_id, event.intervention_id)
        if known is None or self._is_over(known):
            hours = self._memory_ms / HOUR_MS
            return unknown(answer, f"an intervention of the last {hours:g} h that was fired, held out or pending")
        if event.session_id != known.session_id:
            return unknown(answer, "an intervention of this session", "one of another session")
        return known

    def outcome(self, answer: Answer, event: InterventionOutcome, known: Known) -> list[Record]:
        """Take an outcome in. What was held out can but convert, for nothing was shown."""
        if known.held_out and event.outcome != "converted":
            return [unknown(answer, "an intervention that was fired", "one that was held out: nothing was shown")]
        if not known.held_out and known.status != "fired":
            return [unknown(answer, "an intervention that was fired", f"one that is {known.status}")]
        if (first := _first_told(known, event)) is None:
            _OUTCOMES.labels(known.intervention, event.outcome).inc()
        else:
            event = replace(event, ts=first)
        told: list[Record] = [records.outcome(event, known)]
        if event.outcome == "converted" and not known.converted:
            known.converted = True
            told += _effect(event.tenant_id, event.intervention_id, known)
        self._keep(event.tenant_id, event.intervention_id, known)
        return told

    def _is_over(self, known: Known, times: int = 1) -> bool:
        return self._clocks.get(known.partition, 0) - known.ts > times * self._memory_ms

    def _is_swept(self, packed: bytes | Known) -> bool:
        known = Known.unpacked(packed)
        return self._is_over(known, 2 if known.waits else 1)

    def sweep(self) -> None:
        """Forget what is over: for outcomes it counts as gone already. What still waits is kept for as long again."""
        for tenant, of_tenant in list(self.known.items()):
            kept = {ident: one for ident, one in of_tenant.items() if not self._is_swept(one)}
            self.known[tenant] = kept
            if not kept:
                del self.known[tenant]
        for key, waits in list(self._waits.items()):
            of_tenant = self.known.get(key.partition("\0")[0], {})
            left = {tick: [ident for ident in idents if ident in of_tenant] for tick, idents in waits.items()}
            self._waits[key] = {tick: idents for tick, idents in left.items() if idents}
            if not self._waits[key]:
                del self._waits[key]


def _first_told(known: Known, event: InterventionOutcome) -> int | None:
    """Return the time that this outcome was told with before, and remember it if it was not.

    A gateway that was restarted tells again what a client says again, with a time of its own; what it is about is the
    same, so its record must be the same.
    """
    number = int.from_bytes(blake2b(event.event_id.encode(), digest_size=8).digest())
    if known.told is None:
        known.told = {}
    first = known.told.get(number)
    if first is None and len(known.told) < OUTCOMES_KNOWN:
        known.told[number] = event.ts
    return first


def _scores(known: Known) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the ticks whose scores make the effect, each with its bit."""
    return (known.tick, BEFORE), (known.tick + EFFECT_MS, AFTER)


def _hear(known: Known, which: int, score: float | None) -> None:
    known.heard |= which
    if which == BEFORE:
        known.before = score
    else:
        known.after = score


def _effect(tenant: str, ident: str, known: Known) -> list[Record]:
    """Return the effect if both scores have come; a session that was over then has one only if it converted."""
    if known.heard != BEFORE | AFTER or not (known.converted or None not in (known.before, known.after)):
        return []
    found = records.effect(tenant, ident, known)
    known.effects += 1
    _measured(known.intervention, str(known.held_out).lower()).inc()
    return [found]
