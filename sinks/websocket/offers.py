"""Which intervention is meant for which client, which of them still wait, and what has become of them."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import msgspec

from schemas.batches import Records
from schemas.inbound import InterventionOutcome
from sinks.websocket.envelope import framed, wrap_offer
from sinks.websocket.outbox import Offer
from sinks.websocket.principal import CLIENT_CHANNEL, Principal
from sinks.websocket.receipts import Receipts

ORGANISER: Final = "organiser"
"""To whom no client is: what is for him is told to dashboards alone."""
UNSAID: Final = frozenset(("notification",))
"""Interventions that are the organiser's where their content does not say whom it is for."""
SEEN: Final = frozenset(("shown", "clicked", "dismissed", "converted"))
"""Outcomes after which a client is not offered an intervention again."""
WAITS_MS: Final = 10 * 60 * 1000
"""How long an intervention that names no end of its own is offered to who connects later."""


class _Content(msgspec.Struct, gc=False):
    to: str | None = None


class _Intervention(msgspec.Struct, gc=False):
    """The few fields by which an intervention finds its client; all others go on unread."""

    intervention: str
    status: str
    user_id: str | None = None
    expires_ts: int | None = None
    content: _Content | None = None

    @property
    def for_organisers(self) -> bool:
        """Whether no client is to get it."""
        to = self.content.to if self.content else None
        return to == ORGANISER or (to is None and self.user_id is None and self.intervention in UNSAID)


class _Outcome(msgspec.Struct, gc=False):
    intervention_id: str
    user_id: str
    outcome: str


_interventions = msgspec.json.Decoder(_Intervention)
_outcomes = msgspec.json.Decoder(_Outcome)


@dataclass(slots=True)
class _Known:
    """A fired intervention: its user (None: everybody in the session), its end, and what was told of it.

    ``told`` by user and outcome: whether it is written down, or is only on its way there.
    """

    session: str
    user: str | None
    until_ms: int
    revision: int
    offer: Offer | None
    told: dict[tuple[str, str], bool] = field(default_factory=dict)

    def seen_by(self, user: str) -> bool:
        """Return whether a client of this user has had it on its screen."""
        return any((user, outcome) in self.told for outcome in SEEN)


@dataclass(slots=True)
class _Tenant:
    """What is remembered of one tenant, oldest first; ``size`` counts interventions and what was told of them."""

    known: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    by_session: dict[str, dict[str, _Known]] = field(default_factory=dict)
    size: int = 0

    def forget(self, name: str) -> int:
        """Forget an intervention; returns by how much less is remembered."""
        gone = self.known.pop(name)
        of_session = self.by_session[gone.session]
        del of_session[name]
        if not of_session:
            del self.by_session[gone.session]
        size = 1 + len(gone.told)
        self.size -= size
        return size


class Offers:
    """The interventions that clients may get, bounded: of more than ``at_most`` the oldest are forgotten.

    What was told of them counts, too. Only a tenant that has more than an equal share loses any: however much is
    offered in one, the others keep theirs. Times are milliseconds since 1970 UTC.
    """

    def __init__(self, at_most: int, receipts: Receipts | None = None) -> None:
        self._at_most = at_most
        self._receipts = receipts or Receipts()
        self._tenants: dict[str, _Tenant] = {}
        self._size = 0
        self._greedy = ""
        """A tenant that had more than its share when somebody had to give way."""

    @property
    def size(self) -> int:
        """How many interventions, and outcomes of them, are remembered."""
        return self._size

    def take(self, records: Records, i: int, now_ms: int) -> tuple[Offer, str | None] | None:
        """Note a record of the channel; returns the offer it makes and for whom (None: all clients of the session)."""
        if records.type == "outcome":
            self._note(records.tenants[i], records.payloads[i])
            return None
        try:
            head = _interventions.decode(records.payloads[i])
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        tenant, session, name = records.tenants[i], records.sessions[i], records.ids[i]
        revision = records.revisions[i] if records.revisions else 0
        before = self._find(tenant, name)
        if before is not None and before.revision >= revision:
            return None  # a repeat after a restart
        if before is not None and head.status != "fired":
            before.offer, before.revision = None, revision
            return None
        if head.status != "fired" or head.for_organisers:
            return None
        until = head.expires_ts if head.expires_ts is not None else records.ts[i] + WAITS_MS
        receipt = self._receipts.write(tenant, session, head.user_id, name, records.ts[i])
        offer = Offer(name, framed(wrap_offer(CLIENT_CHANNEL, receipt, records.payloads[i])))
        self._remember(tenant, name, _Known(session, head.user_id, until, revision, offer))
        return (offer, head.user_id) if until > now_ms else None

    def waiting(self, who: Principal, now_ms: int) -> list[Offer]:
        """Return what this client has neither acknowledged nor missed, oldest first."""
        tenant = self._tenants.get(who.tenant or "")
        if tenant is None or who.session is None:
            return []
        return [
            known.offer
            for known in tenant.by_session.get(who.session, {}).values()
            if known.offer is not None
            and known.user in (None, who.user)
            and known.until_ms > now_ms
            and not known.seen_by(who.user)
        ]

    def seen(self, who: Principal, intervention_id: str) -> bool:
        """Return whether this client has acknowledged it, here or elsewhere: then it is not offered again."""
        known = self._find(who.tenant or "", intervention_id)
        return known is not None and known.seen_by(who.user)

    def delivered(self, who: Principal, intervention_id: str) -> bool:
        """Note that a client's socket has taken what was offered to it; False: that was known."""
        if who.tenant is None or who.session is None:
            return False
        known = self._find(who.tenant, intervention_id)
        # What was forgotten on the way was offered all the same.
        return known is None or self._add(who.tenant, known, (who.user, "delivered"))

    def tell(
        self, who: Principal, intervention_id: str, outcome: str, receipt: str | None = None, now_ms: int = 0
    ) -> bool | None:
        """Note what became of an intervention; False: that was told, None: it was not offered to this client.

        What this gateway does not know (any more) was offered by another, or before a restart, if the receipt says so.
        """
        if who.tenant is None or who.session is None:
            return None
        known = self._find(who.tenant, intervention_id)
        if known is None:
            for user in (who.user, None):
                place = (who.tenant, who.session, user, intervention_id)
                if receipt is not None and self._receipts.holds(receipt, *place, now_ms):
                    # So that saying it again is answered here. Its record may still come, and is newer than this.
                    known = _Known(who.session, user, 0, -1, None, {(who.user, outcome): False})
                    self._remember(who.tenant, intervention_id, known)
                    return True
            return None
        if known.session != who.session or known.user not in (None, who.user):
            return None
        return self._add(who.tenant, known, (who.user, outcome))

    def untell(self, event: InterventionOutcome) -> None:
        """Forget that an outcome was told: it could not be written. What the topic has told is there all the same."""
        known = self._find(event.tenant_id, event.intervention_id)
        if known is not None and known.told.get((event.user_id, event.outcome)) is False:
            del known.told[event.user_id, event.outcome]
            self._tenants[event.tenant_id].size -= 1
            self._size -= 1

    def written(self, tenant: str, intervention_id: str, user: str, outcome: str) -> None:
        """Note that an outcome is written down for good."""
        known = self._find(tenant, intervention_id)
        if known is not None:
            self._add(tenant, known, (user, outcome))
            known.told[user, outcome] = True

    def _note(self, tenant: str, payload: bytes) -> None:
        try:
            head = _outcomes.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        self.written(tenant, head.intervention_id, head.user_id, head.outcome)

    def _find(self, tenant: str, name: str) -> _Known | None:
        found = self._tenants.get(tenant)
        return found.known.get(name) if found else None

    def _add(self, tenant: str, known: _Known, told: tuple[str, str]) -> bool:
        if told in known.told:
            return False
        known.told[told] = False
        self._grow(tenant, 1)
        return True

    def _remember(self, tenant: str, name: str, known: _Known) -> None:
        found = self._tenants.setdefault(tenant, _Tenant())
        if before := found.known.get(name):
            known.told = before.told
            self._size -= found.forget(name)
        found.known[name] = known
        found.by_session.setdefault(known.session, {})[name] = known
        self._grow(tenant, 1 + len(known.told))

    def _grow(self, tenant: str, by: int) -> None:
        """Count more of a tenant, and let go of as much as there is too much."""
        self._tenants[tenant].size += by
        self._size += by
        while self._size > self._at_most:
            giving = self._giving_way(tenant)
            found = self._tenants[giving]
            self._size -= found.forget(next(iter(found.known)))
            if not found.known:
                del self._tenants[giving]

    def _giving_way(self, tenant: str) -> str:
        """Return a tenant with more than its share: the one that just got more, or one known for it, or the largest."""
        share = self._at_most / len(self._tenants)
        for name in (tenant, self._greedy):
            if name in self._tenants and self._tenants[name].size > share:
                return name
        self._greedy = max(self._tenants, key=lambda name: self._tenants[name].size)
        return self._greedy


def event(who: Principal, intervention_id: str, outcome: str, ts: int) -> InterventionOutcome:
    """Return the event that tells of an outcome. Who it is about comes from the token; a repeat has the same id."""
    said = f"{intervention_id}\0{outcome}\0{who.user}".encode()
    name = f"{outcome}/{hashlib.blake2b(said, digest_size=16).hexdigest()}"
    return msgspec.convert(
        {
            "type": "intervention.outcome",
            "event_id": name,
            "tenant_id": who.tenant,
            "session_id": who.session,
            "user_id": who.user,
            "ts": ts,
            "intervention_id": intervention_id,
            "outcome": outcome,
        },
        InterventionOutcome,
    )
