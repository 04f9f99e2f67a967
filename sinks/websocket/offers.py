"""Which intervention is meant for which client, which of them still wait, and what has become of them."""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import msgspec

from schemas.batches import Records
from schemas.inbound import InterventionOutcome
from sinks.websocket.envelope import framed, wrap_plain
from sinks.websocket.outbox import Offer
from sinks.websocket.principal import CLIENT_CHANNEL, Principal

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
    """A fired intervention: its user (None: everybody in the session), its end, and what was told of it."""

    session: str
    user: str | None
    until_ms: int
    revision: int
    offer: Offer | None
    told: set[tuple[str, str]] = field(default_factory=set)


class Offers:
    """The interventions that clients may get, bounded: of more than ``at_most`` the oldest are forgotten.

    What was told of them counts, too. Times are milliseconds since 1970 UTC.
    """

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._by_session: dict[tuple[str, str], dict[str, _Known]] = {}
        self._size = 0

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
        before = self._known.get((tenant, name))
        if before is not None and before.revision >= revision:
            return None  # a repeat after a restart
        if before is not None and head.status != "fired":
            before.offer, before.revision = None, revision
            return None
        if head.status != "fired" or head.for_organisers:
            return None
        until = head.expires_ts if head.expires_ts is not None else records.ts[i] + WAITS_MS
        offer = Offer(name, framed(wrap_plain(CLIENT_CHANNEL, records.payloads[i])))
        self._remember(tenant, name, _Known(session, head.user_id, until, revision, offer))
        return (offer, head.user_id) if until > now_ms else None

    def waiting(self, who: Principal, now_ms: int) -> list[Offer]:
        """Return what this client has neither acknowledged nor missed, oldest first."""
        if who.tenant is None or who.session is None:
            return []
        return [
            known.offer
            for known in self._by_session.get((who.tenant, who.session), {}).values()
            if known.offer is not None
            and known.user in (None, who.user)
            and known.until_ms > now_ms
            and not any((who.user, outcome) in known.told for outcome in SEEN)
        ]

    def tell(self, who: Principal, intervention_id: str, outcome: str) -> bool | None:
        """Note what became of an intervention; False: that was known, None: it is not meant for this client.

        One that is not known here (any more) must at least be of the client's own session, whose path its id begins
        with. The flow, which knows them all, decides on the rest.
        """
        if who.tenant is None or who.session is None:
            return None
        known = self._known.get((who.tenant, intervention_id))
        if known is None:
            return True if intervention_id.startswith(_path(who.tenant, who.session)) else None
        if known.session != who.session or known.user not in (None, who.user):
            return None
        return self._add(known, (who.user, outcome))

    def untell(self, event: InterventionOutcome) -> None:
        """Forget that an outcome was told: it could not be written."""
        known = self._known.get((event.tenant_id, event.intervention_id))
        if known is not None and (event.user_id, event.outcome) in known.told:
            known.told.remove((event.user_id, event.outcome))
            self._size -= 1

    def _note(self, tenant: str, payload: bytes) -> None:
        try:
            head = _outcomes.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        known = self._known.get((tenant, head.intervention_id))
        if known is not None:
            self._add(known, (head.user_id, head.outcome))

    def _add(self, known: _Known, told: tuple[str, str]) -> bool:
        if told in known.told:
            return False
        known.told.add(told)
        self._size += 1
        self._shrink()
        return True

    def _remember(self, tenant: str, name: str, known: _Known) -> None:
        if before := self._known.pop((tenant, name), None):
            known.told = before.told
            self._size -= 1
        self._known[tenant, name] = known
        self._by_session.setdefault((tenant, known.session), {})[name] = known
        self._size += 1
        self._shrink()

    def _shrink(self) -> None:
        while self._size > self._at_most:
            (tenant, name), gone = self._known.popitem(last=False)
            self._size -= 1 + len(gone.told)
            of_session = self._by_session[tenant, gone.session]
            del of_session[name]
            if not of_session:
                del self._by_session[tenant, gone.session]


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


def _path(tenant: str, session: str) -> str:
    """Return how the ids of a session's records begin."""
    return f"{_escaped(tenant)}/{_escaped(session)}/"


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")
