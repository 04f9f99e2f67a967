"""Who sees what: every cell of channel, role, tenant and session, and canaries among many tenants."""

import itertools
import json
import random
from typing import Any

import pytest

from schemas.batches import Records
from schemas.registry import CHANNELS, INBOUND, OUTBOUND
from sinks.websocket.client import Client
from sinks.websocket.envelope import CHANNEL_OF
from sinks.websocket.hub import Hub
from sinks.websocket.limits import Limits
from sinks.websocket.principal import DEVELOPER, Principal
from tests.fix_websocket import said

EVERYTHING = 1 << 40
KIND_OF = {channel: kind for kind, channel in reversed(CHANNEL_OF.items())}


def say(hub: Hub, client: Client, **message: Any) -> None:
    hub.receive(client, json.dumps(message), 0.0)


def heard(hub: Hub, client: Client) -> list[dict[str, Any]]:
    return [said(frame) for frame in hub.take(client, EVERYTHING).frames]


def record(kind: str, tenant: str, session: str, number: int = 1, **fields: object) -> Records:
    """Return one record; an intervention is fired for everybody in the session unless ``fields`` say otherwise."""
    ident = f"{tenant}/{session}/{kind}/{number}"
    head = {"type": kind, "id": ident, "tenant_id": tenant, "session_id": session, "ts": number}
    fired = {"intervention": "poll", "status": "fired"} if kind == "intervention" else {}
    payload = json.dumps({**head, **fired, **fields}).encode()
    return Records(kind, [ident], [tenant], [session], [number], [payload], [0] if kind == "intervention" else [])


def principal(role: str) -> Principal:
    if role == "client":
        return Principal("t", "client", "u", "s", ("interventions",))
    if role == "dashboard of one channel":
        return Principal("t", "dashboard", "u", None, ("effects",))
    return DEVELOPER if role == "developer" else Principal("t", "dashboard", "u")


def may(role: str, channel: str, tenant: str, session: str) -> bool:
    """Return what the document says."""
    match role:
        case "developer":
            return True
        case "dashboard":
            return tenant == "t"
        case "dashboard of one channel":
            return tenant == "t" and channel == "effects"
        case _:
            return (tenant, session, channel) == ("t", "s", "interventions")


ROLES = ("dashboard", "dashboard of one channel", "client", "developer")
CELLS = list(itertools.product(ROLES, CHANNELS, ("t", "other"), ("s", "foreign"), ("all", "own", "foreign")))


@pytest.mark.parametrize("role, channel, tenant, session, asked", CELLS, ids=map("-".join, CELLS))
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_matrix(role: str, channel: str, tenant: str, session: str, asked: str, when: str) -> None:
    hub = Hub()
    if when == "before":
        hub.publish(record(KIND_OF[channel], tenant, session), 0.0)
    client = hub.connect(principal(role), 0.0)
    offered = role == "client" and may(role, channel, tenant, session)
    assert len([m for m in heard(hub, client) if m["op"] == "record"]) == (offered and when == "before")
    sessions = {"all": {}, "own": {"sessions": ["s"]}, "foreign": {"sessions": ["foreign"]}}[asked]
    say(hub, client, op="subscribe", channels=[channel], **sessions)
    allowed = channel in principal(role).channels and not (role == "client" and asked == "foreign")
    reply, *first = heard(hub, client)
    assert (reply["op"], reply.get("code")) == (("subscribed", None) if allowed else ("error", "forbidden"))
    if when == "after":
        assert not first
        hub.publish(record(KIND_OF[channel], tenant, session), 0.0)
        first = heard(hub, client)
    # A client that asks for another session still has what it was given at the start.
    wanted = asked == "all" or {"own": "s", "foreign": "foreign"}[asked] == session or role == "client"
    expected = may(role, channel, tenant, session) and wanted and (allowed or when == "after" or role != "client")
    assert [m["op"] for m in first] == ["record"] * expected
    for message in first:
        assert (message["channel"], message["record"]["session_id"]) == (channel, session)
        assert ("offset" in message) == (role != "client")


@pytest.mark.parametrize("kind", sorted(OUTBOUND))
@pytest.mark.parametrize("status", ["fired", "suppressed", "pending", "refused", "expired"])
@pytest.mark.parametrize("intervention", ["poll", "notification", "help_chat"])
@pytest.mark.parametrize("user", [None, "u", "other"])
def test_a_client_gets_what_is_fired_for_it_and_nothing_else(
    kind: str, status: str, intervention: str, user: str | None
) -> None:
    hub = Hub()
    before = hub.connect(principal("client"), 0.0)
    heard(hub, before)
    hub.publish(record(kind, "t", "s", intervention=intervention, status=status, user_id=user), 0.0)
    after = hub.connect(principal("client"), 0.0)
    mine = kind == "intervention" and status == "fired" and user in (None, "u")
    mine = mine and not (user is None and intervention == "notification")
    for client in (before, after):
        got = [m for m in heard(hub, client) if m["op"] == "record"]
        assert [m["record"]["type"] for m in got] == ["intervention"] * mine


@pytest.mark.parametrize("kind", [*INBOUND, "dead_letter", "calibration"])
def test_what_is_read_is_never_sent(kind: str) -> None:
    hub = Hub()
    clients = [hub.connect(principal(role), 0.0) for role in ROLES]
    for client in clients:
        say(hub, client, op="subscribe", channels=list(client.principal.channels))
        heard(hub, client)
    hub.publish(record(kind, "t", "s"), 0.0)
    assert [heard(hub, client) for client in clients] == [[]] * len(ROLES)


@pytest.mark.parametrize(
    "more",
    [
        {"tenant": "other"},
        {"tenant_id": "other"},
        {"session": "foreign"},
        {"user": "other"},
        {"role": "dashboard"},
        {"sessions": ["s", "foreign"]},
        {"resume": {"gateway": "r", "offsets": {"interventions": 0}, "tenant": "other"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("role", ["client", "dashboard"])
def test_who_it_is_comes_from_the_token(role: str, more: dict[str, Any]) -> None:
    hub = Hub(run="r")
    hub.publish(record("intervention", "other", "s"), 0.0)
    client = hub.connect(principal(role), 0.0)
    heard(hub, client)
    say(hub, client, op="subscribe", channels=["interventions"], **more)
    (reply, *rest) = heard(hub, client)
    assert rest == []
    assert reply["op"] == ("subscribed" if role == "dashboard" and "sessions" in more else "error")


def test_canaries_of_20_tenants_in_100_000_records() -> None:
    """Whatever subscribes, resumes, leaves and comes back: nobody ever sees another tenant's canary."""
    chance = random.Random(20)
    tenants = [f"tenant-{n}" for n in range(20)]
    sessions = ["one", "two", "three"]
    canary = {tenant: f"canary-{chance.getrandbits(64):x}" for tenant in tenants}
    owner = {name: tenant for tenant, name in canary.items()}
    kinds = sorted(CHANNEL_OF)
    hub = Hub(Limits(history_records=50, history_bytes=2_000_000, messages_burst=1_000_000), run="r")
    clients = [hub.connect(Principal(t, "dashboard", "u"), 0.0) for t in tenants]
    clients += [hub.connect(Principal(t, "client", "u", "one", ("interventions",)), 0.0) for t in tenants]
    records = seen = 0

    def listen() -> int:
        count = 0
        for client in clients:
            who = client.principal
            for frame in hub.take(client, EVERYTHING).frames:
                start = frame.find(b'"canary-')
                if start >= 0:
                    count += 1
                    assert frame.count(b'"canary-') == 1
                    name = frame[start + 1 : frame.index(b'"', start + 1)].decode()
                    assert owner[name] == who.tenant, f"{who} sees a record of {owner[name]}"
        return count

    while records < 100_000:
        kind = chance.choice(kinds)
        places = [(chance.choice(tenants), chance.choice(sessions)) for _ in range(100)]
        extra = {"intervention": "poll", "status": "fired"} if kind == "intervention" else {}
        payloads = [
            json.dumps({"type": kind, "tenant_id": t, "session_id": s, "ts": records, "canary": canary[t], **extra})
            for t, s in places
        ]
        ids = [f"{t}/{s}/{records + n}" for n, (t, s) in enumerate(places)]
        ts = [records] * len(places)
        parts = ([t for t, _ in places], [s for _, s in places], ts, [text.encode() for text in payloads])
        hub.publish(Records(kind, ids, *parts), 0.0)
        records += len(places)
        client = chance.choice(clients)
        wish: dict[str, Any] = {"op": "subscribe", "channels": list(client.principal.channels)}
        if not client.is_page and chance.random() < 0.7:
            offsets = {channel: chance.randrange(2_000) for channel in chance.sample(CHANNELS, 3)}
            wish["resume"] = {"gateway": "r", "offsets": offsets}
            wish["history"] = chance.randrange(1, 50)
        say(hub, client, **wish)
        if chance.random() < 0.1:
            say(hub, client, op="unsubscribe", channels=chance.sample(CHANNELS, 2))
        if chance.random() < 0.1:
            hub.disconnect(client)
            clients.remove(client)
            clients.append(hub.connect(client.principal, 0.0))
        hub.awake()
        seen += listen()
    assert seen > 100_000
