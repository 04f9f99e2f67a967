"""The gateway's core: who wants what, and what each client is to be sent. Does no I/O and reads no clock.

A shell around it feeds in connects, messages, batches and disconnects, asks ``awake`` whom it has something for, and
sends what ``take`` gives until a client's ``close`` is set.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client import Counter, Gauge

from schemas.batches import Records
from schemas.registry import CHANNELS
from sinks.websocket.budget import Budget
from sinks.websocket.history import History
from sinks.websocket.limits import Limits
from sinks.websocket.messages import (
    CHANNEL_OF,
    PROTOCOL,
    Envelope,
    Error,
    FaultCode,
    FaultError,
    Hello,
    HelloLimits,
    Ping,
    Pong,
    Reply,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    decode,
    encode,
    known,
)
from sinks.websocket.outbox import Outbox
from sinks.websocket.principal import Principal

POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013
SNAPSHOT_RECORDS_A_MESSAGE: Final = 200
"""A snapshot of this many records costs a client as much of its message rate as one more message."""

CLIENTS = Gauge("attune_websocket_clients", "Clients that are connected.")
SENT = Counter("attune_websocket_sent_records", "Records handed to clients' sockets.", ["channel"])
DROPPED = Counter("attune_websocket_dropped_clients", "Clients that the gateway closed.", ["reason"])
REPLACED = Counter("attune_websocket_replaced_records", "Engagement records replaced by a newer one while waiting.")

_sent = {channel: SENT.labels(channel) for channel in CHANNELS}


@dataclass(frozen=True, slots=True)
class Close:
    """Why a client is closed; ``at_once``: without sending what still waits for it."""

    code: int
    reason: str
    at_once: bool


class Client:
    """A connection as the hub sees it. ``close`` is set when the shell has to close it."""

    __slots__ = ("budget", "close", "faults", "filters", "outbox", "tenant")

    def __init__(self, tenant: str | None, budget: Budget) -> None:
        self.tenant = tenant
        self.budget = budget
        self.filters: dict[str, frozenset[str] | None] = {}
        self.outbox = Outbox()
        self.faults = 0
        self.close: Close | None = None


@dataclass(slots=True)
class Audience:
    """The subscribers of one channel that see one tenant: of all its sessions, and of single ones."""

    of_all: dict[Client, None] = field(default_factory=dict)
    of_session: dict[str, dict[Client, None]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.of_all or self.of_session)


class Hub:
    """Routes records to clients. ``run`` names this run of the gateway: offsets compare only within one."""

    def __init__(self, limits: Limits | None = None, run: str = "") -> None:
        self._limits = limits or Limits()
        self._run = run
        self._clients: set[Client] = set()
        self._audiences: dict[tuple[str, str | None], Audience] = {}
        self._subscribers: Tally[str] = Tally()
        self._history = History(self._limits)
        self._awake: dict[Client, None] = {}

    @property
    def full(self) -> bool:
        """Whether no more clients are taken."""
        return len(self._clients) >= self._limits.clients

    @property
    def subscribers(self) -> dict[str, int]:
        """How many clients are subscribed to each channel."""
        return {channel: self._subscribers[channel] for channel in CHANNELS}

    def connect(self, principal: Principal, now: float) -> Client:
        """Take a new client, which is bound to its principal's tenant for good, and greet it."""
        limits = self._limits
        client = Client(principal.tenant, Budget(limits.messages_per_s, limits.messages_burst, now))
        self._clients.add(client)
        CLIENTS.inc()
        what = HelloLimits(limits.sessions, limits.message_bytes, limits.messages_per_s)
        self._reply(client, Hello(PROTOCOL, self._run, principal.tenant, principal.role, CHANNELS, what))
        if len(self._clients) > limits.clients:
            self._drop(client, "full", Close(TRY_AGAIN_LATER, "the gateway is full", at_once=True))
        return client

    def disconnect(self, client: Client) -> None:
        """Forget a client and all that waited for it; again is harmless."""
        if client in self._clients:
            self._clients.remove(client)
            CLIENTS.dec()
        self._leave(client, tuple(client.filters))
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
                case Subscribe(channels, sessions):
                    self._subscribe(client, channels, sessions)
                case Unsubscribe(channels):
                    self._unsubscribe(client, channels)
                case Ping():
                    self._reply(client, Pong())
        except FaultError as fault:
            self._reply(client, Error(fault.code, fault.message))
            client.faults += 1
            if client.faults >= self._limits.faults:
                self._drop(client, "faults", Close(POLICY_VIOLATION, "too many bad messages", at_once=False))

    def publish(self, records: Records) -> None:
        """Give records to all who subscribed to them; those of a type without a channel go nowhere."""
        channel = CHANNEL_OF.get(records.type)
        if channel is None:
            return
        for i in range(len(records)):
            envelope = self._history.add(channel, records, i)
            lagging = [client for client in self._recipients(envelope) if not self._give(client, envelope)]
            for client in lagging:
                self.give_up(client)

    def give_up(self, client: Client) -> None:
        """Drop a client that does not read what it subscribed to as fast as it comes."""
        self._drop(client, "slow", Close(TRY_AGAIN_LATER, "too slow: reconnect for a new snapshot", at_once=True))

    def awake(self) -> list[Client]:
        """Return the clients that have got something to be sent, or are to be closed, since the last call."""
        woken = list(self._awake)
        self._awake.clear()
        return woken

    def take(self, client: Client, at_most: int) -> list[bytes]:
        """Take about ``at_most`` bytes of what waits for a client, in order: text messages, JSON in UTF-8."""
        messages: list[bytes] = []
        sent: dict[str, int] = {}
        for message in client.outbox.take(at_most):
            if isinstance(message, Envelope):
                sent[message.channel] = sent.get(message.channel, 0) + 1
                messages.append(message.data)
            else:
                messages.append(message)
        for channel, count in sent.items():
            _sent[channel].inc(count)
        return messages

    def _subscribe(self, client: Client, asked: list[str], sessions: list[str] | None) -> None:
        channels = known(asked)
        wanted = None if sessions is None else frozenset(sessions)
        if wanted is not None and len(wanted) > self._limits.sessions:
            raise FaultError(FaultCode.TOO_MANY_SESSIONS, f"expected at most {self._limits.sessions} sessions")
        self._leave(client, channels)
        for channel in channels:
            client.filters[channel] = wanted
            self._subscribers[channel] += 1
            audience = self._audiences.setdefault((channel, client.tenant), Audience())
            if wanted is None:
                audience.of_all[client] = None
            else:
                for session in wanted:
                    audience.of_session.setdefault(session, {})[client] = None
        snapshot = [e for channel in channels for e in self._history.snapshot(channel, client.tenant, wanted)]
        client.budget.charge(len(snapshot) / SNAPSHOT_RECORDS_A_MESSAGE)
        named = None if sessions is None else tuple(dict.fromkeys(sessions))
        self._reply(client, Subscribed(channels, named, len(snapshot)))
        if not all(self._give(client, envelope) for envelope in snapshot):
            self.give_up(client)

    def _unsubscribe(self, client: Client, asked: list[str]) -> None:
        channels = known(asked)
        self._leave(client, channels)
        self._reply(client, Unsubscribed(channels))

    def _recipients(self, envelope: Envelope) -> Iterator[Client]:
        for tenant in (envelope.tenant, None):
            if audience := self._audiences.get((envelope.channel, tenant)):
                yield from audience.of_all
                yield from audience.of_session.get(envelope.session, ())

    def _leave(self, client: Client, channels: Iterable[str]) -> None:
        for channel in channels:
            if channel not in client.filters:
                continue
            wanted = client.filters.pop(channel)
            self._subscribers[channel] -= 1
            audience = self._audiences[channel, client.tenant]
            if wanted is None:
                del audience.of_all[client]
            else:
                for session in wanted:
                    del audience.of_session[session][client]
                    if not audience.of_session[session]:
                        del audience.of_session[session]
            if not audience:
                del self._audiences[channel, client.tenant]

    def _give(self, client: Client, envelope: Envelope) -> bool:
        """Put a record into a client's queue; False if that is now longer than it may be."""
        outbox = client.outbox
        if not outbox:
            self._awake[client] = None
        if outbox.record(envelope):
            REPLACED.inc()
        return outbox.size <= self._limits.queue_bytes and len(outbox) <= self._limits.queue_records

    def _reply(self, client: Client, reply: Reply) -> None:
        self._awake[client] = None
        client.outbox.reply(encode(reply))
        if client.outbox.size > self._limits.queue_bytes or len(client.outbox) > self._limits.queue_records:
            self.give_up(client)

    def _drop(self, client: Client, reason: str, close: Close) -> None:
        if client.close:
            return
        client.close = close
        self._leave(client, tuple(client.filters))
        if close.at_once:
            client.outbox.clear()
        self._awake[client] = None
        DROPPED.labels(reason).inc()
