"""The gateway's core: who wants what, and what each client is to be sent. Does no I/O and reads no clock.

A shell around it feeds in connects, messages, batches and disconnects, asks ``awake`` whom it has something for, sends
what ``take`` gives until a client's ``close`` is set, and has what ``outcomes`` gives written down. ``now`` is in
seconds since 1970 UTC everywhere.
"""

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from prometheus_client import Counter, Gauge

from schemas.batches import Records
from schemas.inbound import InterventionOutcome
from schemas.registry import CHANNELS
from sinks.websocket import client as codes
from sinks.websocket import offers, subscribing
from sinks.websocket.access import Verify
from sinks.websocket.audiences import Audiences
from sinks.websocket.budget import Budget
from sinks.websocket.client import Client, Close
from sinks.websocket.envelope import CHANNEL_OF, Envelope
from sinks.websocket.history import History
from sinks.websocket.limits import Limits
from sinks.websocket.outbox import Offer
from sinks.websocket.principal import CLIENT_CHANNEL, Principal
from sinks.websocket.receipts import Receipts
from sinks.websocket.replies import (
    PROTOCOL,
    Acknowledged,
    AnyReply,
    Authenticated,
    Error,
    Hello,
    HelloLimits,
    Pong,
    Subscribed,
    Unsubscribed,
    encode,
)
from sinks.websocket.requests import (
    Acknowledge,
    Authenticate,
    FaultCode,
    FaultError,
    Ping,
    Subscribe,
    Unsubscribe,
    decode,
    known,
)
from sinks.websocket.tokens import TokenError

SNAPSHOT_RECORDS_A_MESSAGE: Final = 200
"""A snapshot of this many records costs a client as much of its message rate as one more message."""

CLIENTS = Gauge("attune_websocket_clients", "Clients that are connected.")
SENT = Counter("attune_websocket_sent_records", "Records handed to clients' sockets.", ["channel"])
DROPPED = Counter("attune_websocket_dropped_clients", "Clients that the gateway closed.", ["reason"])
REFUSED = Counter("attune_websocket_refused", "Handshakes that were refused.", ["code"])
REPLACED = Counter("attune_websocket_replaced_records", "Engagement records replaced by a newer one while waiting.")

_sent = {channel: SENT.labels(channel) for channel in CHANNELS}


class Portion(NamedTuple):
    """Frames to be written to a client, in order, and the interventions that are delivered once they are."""

    frames: list[bytes]
    offered: list[str]


class Report(NamedTuple):
    """An outcome that is to be written down; ``waited``: a client waits to hear that it was."""

    event: InterventionOutcome
    waited: bool


class Hub:
    """Routes records to clients. ``run`` names this run of the gateway: offsets compare only within one.

    ``verify`` tells whose a fresh token is; without it nobody is authenticated. ``receipts`` are those of all gateways
    whose clients may come here.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        run: str = "",
        verify: Verify | None = None,
        receipts: Receipts | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._run = run
        self._verify = verify
        self._clients: set[Client] = set()
        self._by_user: Tally[tuple[str | None, str]] = Tally()
        self._audiences = Audiences()
        self._history = History(self._limits)
        self._offers = offers.Offers(self._limits.offers, receipts)
        self._reports: list[Report] = []
        self._waiting: dict[tuple[str, ...], list[Client]] = {}
        """Who waits for an outcome that is under way, to be answered when it is written or could not be."""
        self._awake: dict[Client, None] = {}
        self._sent: Tally[str] = Tally()

    @property
    def full(self) -> bool:
        """Whether no more clients are taken."""
        return len(self._clients) >= self._limits.clients

    @property
    def subscribers(self) -> dict[str, int]:
        """How many clients are subscribed to each channel."""
        return self._audiences.subscribers

    def has_many(self, who: Principal) -> bool:
        """Return whether this user has all the connections that one may have. Developers are one and all."""
        return bool(who.user) and self._by_user[who.tenant, who.user] >= self._limits.clients_per_user

    def connect(self, who: Principal, now: float) -> Client:
        """Take a new client, greet it, and offer a page what waits for it."""
        limits = self._limits
        client = Client(who, Budget(limits.messages_per_s, limits.messages_burst, now))
        full, many = self.full, self.has_many(who)
        self._clients.add(client)
        self._by_user[who.tenant, who.user] += 1
        CLIENTS.inc()
        if full:
            self._drop(client, "full", Close(codes.TRY_AGAIN_LATER, "the gateway is full", at_once=True))
        elif many:
            self._drop(client, "user", Close(codes.TOO_MANY, "too many connections of this user", at_once=True))
        else:
            what = HelloLimits(limits.sessions, limits.history_records, limits.message_bytes, limits.messages_per_s)
            place = (who.tenant, who.role, who.user, who.session)
            self._reply(client, Hello(PROTOCOL, self._run, *place, who.channels, _expiry(who), what))
            if client.is_page:
                self._audiences.join(client, who.channels, frozenset((who.session or "",)))
                self._put_all(client, self._offers.waiting(who, ms(now)))
        return client

    def disconnect(self, client: Client) -> None:
        """Forget a client and all that waited for it; again is harmless."""
        if client in self._clients:
            self._clients.remove(client)
            CLIENTS.dec()
            user = (client.principal.tenant, client.principal.user)
            self._by_user[user] -= 1
            if not self._by_user[user]:
                del self._by_user[user]
        self._audiences.leave(client, tuple(client.filters))
        client.outbox.clear()
        self._awake.pop(client, None)

    def receive(self, client: Client, message: str | bytes, now: float) -> None:
        """Answer a client's message; every message gets one reply, until there were too many bad ones."""
        if client.close:
            return
        try:
            if not client.budget.take(1, now):
                raise FaultError(
                    FaultCode.TOO_FAST, f"expected at most {self._limits.messages_per_s:g} messages a second"
                )
            match decode(message):
                case Subscribe() as wish:
                    self._subscribe(client, wish, now)
                case Unsubscribe(channels):
                    self._unsubscribe(client, channels)
                case Acknowledge() as said:
                    self._acknowledge(client, said, now)
                case Authenticate(token):
                    self._renew(client, token)
                case Ping():
                    self._reply(client, Pong())
        except FaultError as fault:
            self._refuse(client, fault)

    def publish(self, records: Records, now: float) -> int:
        """Give records to all who may have them and want them; returns how many deliveries that makes.

        Those of a type without a channel go nowhere.
        """
        channel = CHANNEL_OF.get(records.type)
        if channel is None:
            return 0
        deliveries = 0
        for i in range(len(records)):
            envelope = self._history.add(channel, records, i)
            offered = self._offers.take(records, i, ms(now)) if channel == CLIENT_CHANNEL else None
            lagging = []
            for client in self._audiences.recipients(channel, envelope.tenant, envelope.session):
                message: Envelope | Offer = envelope
                if client.is_page:
                    if offered is None or offered[1] not in (None, client.principal.user):
                        continue
                    message = offered[0]
                    if self._offers.seen(client.principal, message.intervention_id):
                        continue
                deliveries += 1
                if not self._give(client, message):
                    lagging.append(client)
            for client in lagging:
                self.give_up(client)
        return deliveries

    def give_up(self, client: Client) -> None:
        """Drop a client that does not read what it subscribed to as fast as it comes."""
        self._drop(client, "slow", Close(codes.TOO_SLOW, "too slow", at_once=True))

    def sweep(self, now: float, revoked: Callable[[Principal], bool] = lambda _who: False) -> None:
        """Drop all whose token has expired or was revoked."""
        for client in self._clients:
            expires = client.principal.expires
            if expires is not None and expires <= now:
                self._drop(client, "expired", Close(codes.TOKEN_EXPIRED, "the token has expired", at_once=True))
            elif revoked(client.principal):
                self._drop(client, "revoked", Close(codes.TOKEN_REVOKED, "the token was revoked", at_once=True))

    def awake(self) -> list[Client]:
        """Return the clients that have got something to be sent, or are to be closed, since the last call."""
        woken = list(self._awake)
        self._awake.clear()
        for channel, count in self._sent.items():
            _sent[channel].inc(count)
        self._sent.clear()
        return woken

    def take(self, client: Client, at_most: int) -> Portion:
        """Take about ``at_most`` bytes of what waits for a client, in order."""
        frames: list[bytes] = []
        offered: list[str] = []
        for message in client.outbox.take(at_most):
            if isinstance(message, Envelope):
                self._sent[message.channel] += 1
                frames.append(message.frame)
            elif isinstance(message, Offer):
                self._sent[CLIENT_CHANNEL] += 1
                frames.append(message.frame)
                offered.append(message.intervention_id)
            else:
                frames.append(message)
        return Portion(frames, offered)

    def delivered(self, client: Client, offered: list[str], now: float) -> None:
        """Note that a client's socket has taken these interventions."""
        for intervention_id in offered:
            if self._offers.delivered(client.principal, intervention_id):
                event = offers.event(client.principal, intervention_id, "delivered", ms(now))
                self._reports.append(Report(event, waited=False))

    def outcomes(self) -> list[Report]:
        """Return what is to be written down since the last call."""
        reports, self._reports = self._reports, []
        return reports

    def written(self, report: Report, *, well: bool) -> None:
        """Tell all who wait for it that an outcome was written down, or that it was not and may be told again."""
        event = report.event
        about = (event.intervention_id, event.outcome)
        reply: AnyReply = Acknowledged(*about)
        if well:
            self._offers.written(event.tenant_id, event.intervention_id, event.user_id, event.outcome)
        else:
            self._offers.untell(event)
            reply = Error(FaultCode.UNAVAILABLE, "the outcome could not be written now", *about)
        for client in self._waiting.pop(_name(event), ()):
            if client in self._clients and not client.close:
                self._reply(client, reply)

    def _subscribe(self, client: Client, wish: Subscribe, now: float) -> None:
        who = client.principal
        channels = subscribing.permitted(wish, who, self._limits)
        named = None if wish.sessions is None else tuple(dict.fromkeys(wish.sessions))
        messages: Sequence[Envelope | Offer]
        if client.is_page:
            self._audiences.join(client, channels, frozenset((who.session or "",)))
            messages = self._offers.waiting(who, ms(now))
            reply = Subscribed(channels, named, len(messages), {}, {})
        else:
            self._audiences.join(client, channels, None if named is None else frozenset(named))
            messages, offsets, resumed = subscribing.first(wish, channels, who.tenant, self._history, self._run)
            reply = Subscribed(channels, named, len(messages), offsets, resumed)
        client.budget.charge(len(messages) / SNAPSHOT_RECORDS_A_MESSAGE)
        self._reply(client, reply)
        self._put_all(client, messages)

    def _unsubscribe(self, client: Client, asked: list[str]) -> None:
        channels = known(asked)
        self._audiences.leave(client, channels)
        self._reply(client, Unsubscribed(channels))

    def _acknowledge(self, client: Client, said: Acknowledge, now: float) -> None:
        if not client.is_page:
            raise FaultError(FaultCode.FORBIDDEN, "expected a client: others acknowledge nothing", said)
        about = (said.intervention_id, said.outcome)
        told = self._offers.tell(client.principal, *about, said.receipt, ms(now))
        if told is None:
            why = "expected an intervention that was offered to this client; after a restart, with its receipt"
            raise FaultError(FaultCode.UNKNOWN_INTERVENTION, why, said)
        event = offers.event(client.principal, *about, ms(now))
        if waiting := self._waiting.get(_name(event)):
            waiting.append(client)  # perhaps the same page, over a new connection
        elif told:
            self._waiting[_name(event)] = [client]
            self._reports.append(Report(event, waited=True))
        else:
            self._reply(client, Acknowledged(*about))

    def _renew(self, client: Client, token: str) -> None:
        """Let a client stay for as long as its fresh token holds."""
        if self._verify is None:
            raise FaultError(FaultCode.BAD_TOKEN, "expected no token: nobody is authenticated here")
        try:
            who = self._verify(token)
        except TokenError as error:
            raise FaultError(FaultCode.BAD_TOKEN, str(error)) from None
        if not who.is_same(client.principal):
            raise FaultError(FaultCode.BAD_TOKEN, "the token is for another user, tenant, role, session or channels")
        client.principal = who
        self._reply(client, Authenticated(_expiry(who)))

    def _refuse(self, client: Client, fault: FaultError) -> None:
        about = (fault.about.intervention_id, fault.about.outcome) if fault.about else ()
        self._reply(client, Error(fault.code, fault.message, *about))
        client.faults += 1
        if client.faults >= self._limits.faults:
            self._drop(client, "faults", Close(codes.POLICY_VIOLATION, "too many bad messages", at_once=False))

    def _give(self, client: Client, message: bytes | Envelope | Offer) -> bool:
        """Put a message into a client's queue; False if that is now longer than it may be."""
        outbox = client.outbox
        if not outbox:
            self._awake[client] = None
        # It lags if the shell knows that something waits, and has not taken it yet.
        if isinstance(message, Envelope) and client not in self._awake:
            if outbox.replace(message):
                REPLACED.inc()
        else:
            outbox.put(message)
        return self._fits(client)

    def _fits(self, client: Client) -> bool:
        return client.outbox.size <= self._limits.queue_bytes and len(client.outbox) <= self._limits.queue_records

    def _put_all(self, client: Client, messages: Sequence[Envelope | Offer]) -> None:
        """Put messages into a client's queue behind a reply, to be kept, unless that is or becomes too long."""
        if client.close:
            return
        for message in messages:
            client.outbox.put(message)
        if not self._fits(client):
            self.give_up(client)

    def _reply(self, client: Client, reply: AnyReply) -> None:
        if not self._give(client, encode(reply)):
            self.give_up(client)

    def _drop(self, client: Client, reason: str, close: Close) -> None:
        if client.close:
            return
        client.close = close
        self._audiences.leave(client, tuple(client.filters))
        if close.at_once:
            client.outbox.clear()
        self._awake[client] = None
        DROPPED.labels(reason).inc()


def ms(seconds: float) -> int:
    """Return seconds as whole milliseconds."""
    return int(seconds * 1000)


def _name(event: InterventionOutcome) -> tuple[str, ...]:
    return event.tenant_id, event.session_id, event.event_id


def _expiry(who: Principal) -> int | None:
    return None if who.expires is None else ms(who.expires)
