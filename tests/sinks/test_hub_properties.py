"""The hub against a simple model, over random subscriptions, records and reading."""

import json
from collections import defaultdict
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from schemas.registry import CHANNELS, OUTBOUND
from sinks.websocket.client import Client
from sinks.websocket.history import FEED_OVERHEAD, RECORD_OVERHEAD
from sinks.websocket.hub import Hub
from sinks.websocket.limits import Limits
from tests.fix_websocket import batch, said, who

TENANTS = ("t1", "t2", "t3")
SESSIONS = ("a", "b", "c")
KINDS = tuple(sorted(OUTBOUND))

channel_sets = st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=4, unique=True)
session_sets = st.none() | st.lists(st.sampled_from(SESSIONS), min_size=1, unique=True)
places = st.lists(st.tuples(st.sampled_from(TENANTS), st.sampled_from(SESSIONS)), min_size=1, max_size=6)


class Expectation:
    """What one client should get: the model keeps everything in plain lists."""

    def __init__(self, tenant: str | None) -> None:
        self.tenant = tenant
        self.filters: dict[str, list[str] | None] = {}
        self.told = False
        self.waiting: list[tuple[str, Any]] = []

    def wants(self, channel: str, tenant: str, session: str) -> bool:
        """Tell whether a record is for this client."""
        sessions = self.filters.get(channel, [])
        return self.tenant in (None, tenant) and (sessions is None or session in sessions)

    def put(self, op: str, record: Any = None) -> None:
        """Let a message wait, for somebody who has not been told yet if it is the first."""
        self.told = self.told and bool(self.waiting)
        self.waiting.append((op, record))

    def add(self, record: dict[str, Any]) -> None:
        """Let a new record wait. Of one who lags only the newest engagement of a session does; what came before stays.

        Whoever does not read although it was told that something waits lags.
        """
        if not (self.waiting and self.told):
            self.put("kept", record)
            return
        if record["channel"] == "engagement":
            place = (record["tenant"], record["session"])
            self.waiting = [
                (op, r)
                for op, r in self.waiting
                if not (op == "new" and r["channel"] == "engagement" and (r["tenant"], r["session"]) == place)
            ]
        self.waiting.append(("new", record))


class HubMachine(RuleBasedStateMachine):
    """Every client gets what the model says, in that order, and nothing else."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub(Limits(messages_burst=1_000_000))
        self.expected: dict[Client, Expectation] = {}
        self.published: list[dict[str, Any]] = []
        self.count = 0

    @rule(target=clients, tenant=st.sampled_from((*TENANTS, None)))
    def connect(self, tenant: str | None) -> Client:
        """Take a client of any tenant."""
        client = self.hub.connect(who(tenant), 0.0)
        self.expected[client] = Expectation(tenant)
        self.expected[client].put("hello")
        return client

    @rule(client=clients, channels=channel_sets, sessions=session_sets)
    def subscribe(self, client: Client, channels: list[str], sessions: list[str] | None) -> None:
        """Subscribe anew or once more."""
        message = {"op": "subscribe", "channels": channels, **({"sessions": sessions} if sessions else {})}
        self.hub.receive(client, json.dumps(message), 0.0)
        expectation = self.expected[client]
        expectation.put("subscribed")
        for channel in channels:
            expectation.filters[channel] = sessions
            for record in self._kept(channel):
                if expectation.wants(channel, record["tenant"], record["session"]):
                    expectation.put("kept", record)

    @rule(client=clients, channels=channel_sets)
    def unsubscribe(self, client: Client, channels: list[str]) -> None:
        """Unsubscribe, also from what was never wanted."""
        self.hub.receive(client, json.dumps({"op": "unsubscribe", "channels": channels}), 0.0)
        for channel in channels:
            self.expected[client].filters.pop(channel, None)
        self.expected[client].put("unsubscribed")

    @rule(kind=st.sampled_from(KINDS), places=places)
    def publish(self, kind: str, places: list[tuple[str, str]]) -> None:
        """Publish records of any type."""
        records = batch(kind, *places, first=self.count + 1)
        self.count += len(places)
        self.hub.publish(records, 0.0)
        channel = OUTBOUND[kind].channel
        if channel is None:
            return
        for (tenant, session), n in zip(places, records.ts, strict=True):
            record = {"channel": channel, "kind": kind, "tenant": tenant, "session": session, "n": n}
            self.published.append(record)
            for expectation in self.expected.values():
                if expectation.wants(channel, tenant, session):
                    expectation.add(record)

    @rule()
    def wake(self) -> None:
        """Let all know that something waits for them."""
        woken = self.hub.awake()
        for client, expectation in self.expected.items():
            assert not expectation.waiting or (client in woken) != expectation.told
            expectation.told = bool(expectation.waiting)

    @rule(client=clients, at_most=st.integers(1, 2_000))
    def read(self, client: Client, at_most: int) -> None:
        """Read a little."""
        for message in map(said, self.hub.take(client, at_most).frames):
            op, record = self.expected[client].waiting.pop(0)
            assert message["op"] == ("record" if record else op)
            if record:
                assert message["channel"] == record["channel"]
                got = message["record"]
                assert (got["type"], got["tenant_id"], got["session_id"], got["n"]) == (
                    *(record["kind"], record["tenant"], record["session"], record["n"]),
                )

    @rule(client=consumes(clients))
    def disconnect(self, client: Client) -> None:
        """Lose a client."""
        self.hub.disconnect(client)
        del self.expected[client]

    @invariant()
    def nothing_waits_that_should_not(self) -> None:
        """Compare the lengths of the queues and the counts."""
        for client, expectation in self.expected.items():
            assert len(client.outbox) == len(expectation.waiting)
            assert client.close is None
        counts = {channel: sum(channel in e.filters for e in self.expected.values()) for channel in CHANNELS}
        assert self.hub.subscribers == counts

    def _kept(self, channel: str) -> list[dict[str, Any]]:
        """Return what a snapshot of all tenants holds, oldest first."""
        found = [record for record in self.published if record["channel"] == channel]
        if channel != "engagement":
            return found
        newest: dict[tuple[str, str], dict[str, Any]] = {}
        for record in self.published:
            place = (record["tenant"], record["session"])
            if record["channel"] == "engagement":
                newest[place] = record
            elif record["kind"] == "session":
                newest.pop(place, None)
        return sorted(newest.values(), key=lambda record: int(record["n"]))


class BoundsMachine(RuleBasedStateMachine):
    """Whatever is sent and however little is read, nothing grows beyond its limit."""

    limits = Limits(
        clients=3,
        queue_records=30,
        queue_bytes=30_000,
        snapshot_records=3,
        snapshot_bytes=2_000,
        history_sessions=4,
        history_records=3,
        history_bytes=20_000,
    )

    def __init__(self) -> None:
        super().__init__()
        self.hub = Hub(self.limits)
        self.clients: list[Client] = []
        self.count = 0
        self.offsets: dict[tuple[str, str], int] = defaultdict(int)

    @rule(tenant=st.sampled_from(("t0", None)), channels=channel_sets, now=st.floats(0, 100))
    def come(self, tenant: str | None, channels: list[str], now: float) -> None:
        """Connect and subscribe."""
        client = self.hub.connect(who(tenant), now)
        self.hub.receive(client, json.dumps({"op": "subscribe", "channels": channels}), now)
        self.clients.append(client)

    @rule(message=st.sampled_from(['{"op":"ping"}', "?", '{"op":"subscribe","channels":["engagement","anomalies"]}']))
    def say(self, message: str) -> None:
        """Let all say something, good or bad."""
        for client in self.clients:
            self.hub.receive(client, message, 1_000.0)

    @rule(kind=st.sampled_from(KINDS), tenant=st.integers(0, 40), many=st.integers(1, 20), pad=st.integers(0, 3_000))
    def publish(self, kind: str, tenant: int, many: int, pad: int) -> None:
        """Publish records of any type."""
        self.hub.publish(
            batch(kind, *((f"t{tenant}", f"s{i}") for i in range(many)), first=self.count + 1, pad=pad), 0.0
        )
        self.count += many

    @rule(at_most=st.integers(1, 5_000))
    def read(self, at_most: int) -> None:
        """Read a little."""
        for client in self.clients:
            self.hub.take(client, at_most)

    @rule()
    def go(self) -> None:
        """Lose a client."""
        if self.clients:
            self.hub.disconnect(self.clients.pop())

    @invariant()
    def all_is_bounded(self) -> None:
        """Measure what is held."""
        history = self.hub._history
        assert history.size <= self.limits.history_bytes
        assert history.feeds <= self.limits.history_bytes / FEED_OVERHEAD
        kept = [[*feed.log, *feed.newest.values()] for feed in history._feeds.values()]
        real = sum(len(envelope.frame) + RECORD_OVERHEAD for feed in kept for envelope in feed)
        assert history.size == real + FEED_OVERHEAD * history.feeds
        for client in self.clients:
            assert len(client.outbox) <= self.limits.queue_records
            assert client.outbox.size <= self.limits.queue_bytes
        open_clients = [client for client in self.clients if not client.close]
        assert len(open_clients) <= self.limits.clients


common = settings(deadline=None, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])
HubMachine.TestCase.settings = settings(common, max_examples=60)
BoundsMachine.TestCase.settings = settings(common, max_examples=40)
test_hub_against_its_model = HubMachine.TestCase
test_bounds = BoundsMachine.TestCase
