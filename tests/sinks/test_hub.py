"""The hub alone: who gets what, in which order, and what it costs."""

import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from schemas.registry import CHANNELS, INBOUND, OUTBOUND
from sinks.websocket.client import Client
from sinks.websocket.hub import Hub
from sinks.websocket.limits import Limits
from sinks.websocket.principal import Principal
from tests.fix_websocket import batch, said, who

EVERYTHING = 1 << 30


def limits(**changes: Any) -> Limits:
    """Return small limits, so that tests reach them."""
    small = {"queue_records": 100, "queue_bytes": 100_000, "snapshot_records": 10, "snapshot_bytes": 10_000}
    small["history_records"] = 10
    return Limits(**{**small, **changes})


def say(hub: Hub, client: Client, message: object, now: float = 0.0) -> None:
    hub.receive(client, message if isinstance(message, str | bytes) else json.dumps(message), now)


def heard(hub: Hub, client: Client) -> list[dict[str, Any]]:
    """Take all that waits for a client."""
    return [said(frame) for frame in hub.take(client, EVERYTHING).frames]


def subscriber(hub: Hub, *channels: str, tenant: str | None = "t", sessions: list[str] | None = None) -> Client:
    """Return a client that has subscribed and has read what it was told at first."""
    client = hub.connect(who(tenant), 0.0)
    say(hub, client, {"op": "subscribe", "channels": channels, **({"sessions": sessions} if sessions else {})})
    assert [message["op"] for message in heard(hub, client)][:2] == ["hello", "subscribed"]
    return client


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [message["record"]["n"] for message in messages if message["op"] == "record"]


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"attune_websocket_{name}", labels) or 0.0


def test_a_client_is_greeted_with_what_it_must_know() -> None:
    hub = Hub(limits(sessions=7), run="r1")
    client = hub.connect(Principal("acme", "dashboard", "ann", channels=("engagement", "sessions"), expires=1.5), 0.0)
    assert hub.awake() == [client]
    assert heard(hub, client) == [
        {
            "op": "hello",
            "protocol": 2,
            "gateway": "r1",
            "tenant": "acme",
            "role": "dashboard",
            "user": "ann",
            "session": None,
            "channels": ["engagement", "sessions"],
            "expires_ts": 1_500,
            "limits": {"sessions": 7, "history": 10, "message_bytes": 16384, "messages_per_s": 10.0},
        }
    ]


def test_a_record_goes_out_as_it_came_in() -> None:
    hub = Hub()
    client = subscriber(hub, "anomalies")
    records = batch("anomaly", ("t", "s"))
    records.payloads[0] = b'{"type":"anomaly","x":1.10,"y":"\\u00e9"}'  # a second encoding would change both
    hub.publish(records, 0.0)
    (frame,) = hub.take(client, EVERYTHING).frames
    assert frame.endswith(b'{"op":"record","channel":"anomalies","offset":1,"record":%s}' % records.payloads[0])


@pytest.mark.parametrize("kind", sorted(OUTBOUND))
def test_each_type_reaches_its_channel_and_no_other(kind: str) -> None:
    hub = Hub()
    clients = {channel: subscriber(hub, channel) for channel in CHANNELS}
    hub.publish(batch(kind, ("t", "s")), 0.0)
    reached = {channel for channel, client in clients.items() if heard(hub, client)}
    assert reached == {OUTBOUND[kind].channel} - {None}


@pytest.mark.parametrize("kind", [*INBOUND, "dead_letter", "calibration", "engagement ", "Engagement", ""])
def test_what_has_no_channel_is_never_sent(kind: str) -> None:
    hub = Hub()
    client = subscriber(hub, *CHANNELS, tenant=None)
    hub.publish(batch(kind, ("t", "s")), 0.0)
    assert heard(hub, client) == []


@pytest.mark.parametrize(
    "name",
    ["*", "..", "engagement*", "Engagement", "engagement ", "\u0435ngagement", "engagement\u200b", "", "e" * 300],
)
def test_channel_names_are_taken_literally(name: str) -> None:
    hub = Hub()
    client = subscriber(hub, "sessions")
    say(hub, client, {"op": "subscribe", "channels": ["engagement", name]})
    assert [message["code"] for message in heard(hub, client)] == ["unknown_channel"]
    assert hub.subscribers["engagement"] == 0, "a message is taken as a whole or not at all"


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{",
        "null",
        "[]",
        '"subscribe"',
        "NaN",
        "1e999",
        b'{"op":"ping"}',
        '{"op":"ping","extra":1}',
        '{"op":"Ping"}',
        '{"op":"record","channel":"engagement"}',
        '{"op":"subscribe"}',
        '{"op":"subscribe","channels":[]}',
        '{"op":"subscribe","channels":"engagement"}',
        '{"op":"subscribe","channels":[null]}',
        '{"op":"subscribe","channels":["engagement"],"sessions":[]}',
        '{"op":"subscribe","channels":["engagement"],"sessions":[""]}',
        '{"op":"subscribe","channels":["engagement"],"sessions":["%s"]}' % ("s" * 129),
        '{"op":"subscribe","channels":["engagement"],"tenant":"other"}',
        '{"op":"subscribe","channels":["engagement"],"tenant_id":"other"}',
        "[" * 16_000,
        '{"op":"subscribe","channels":' + "[" * 16_000,
        '{"op":' * 3_000,
        "\ud800",
    ],
    ids=lambda message: repr(message)[:60],
)
def test_a_bad_message_is_answered_and_changes_nothing(message: str | bytes) -> None:
    hub = Hub()
    client = subscriber(hub, "sessions")
    say(hub, client, message)
    (answer,) = heard(hub, client)
    assert (answer["op"], answer["code"]) == ("error", "bad_message")
    assert len(answer["message"]) <= 200
    assert hub.subscribers == {channel: int(channel == "sessions") for channel in CHANNELS}
    say(hub, client, {"op": "ping"})
    assert heard(hub, client) == [{"op": "pong"}]


def test_too_many_bad_messages_close_the_client_after_the_answers() -> None:
    hub = Hub(limits(faults=3))
    client = subscriber(hub, "anomalies")
    for _ in range(5):
        say(hub, client, "?")
    assert client.close is not None
    assert (client.close.code, client.close.at_once) == (1008, False)
    assert [message["op"] for message in heard(hub, client)] == ["error"] * 3
    hub.publish(batch("anomaly", ("t", "s")), 0.0)
    assert heard(hub, client) == []


def test_messages_have_a_rate() -> None:
    hub = Hub(limits(messages_per_s=2.0, messages_burst=3, faults=100))
    client = hub.connect(who("t"), 0.0)
    heard(hub, client)
    for _ in range(5):
        say(hub, client, {"op": "ping"}, now=0.0)
    assert [message["op"] for message in heard(hub, client)] == ["pong"] * 3 + ["error"] * 2
    say(hub, client, {"op": "ping"}, now=0.5)
    assert heard(hub, client) == [{"op": "pong"}]


def test_snapshots_cost_message_rate() -> None:
    hub = Hub(Limits(messages_per_s=1.0, messages_burst=10, faults=1000))
    hub.publish(batch("engagement", *(("t", f"s{i}") for i in range(2_000))), 0.0)
    client = hub.connect(who("t"), 0.0)
    for _ in range(5):
        say(hub, client, {"op": "subscribe", "channels": ["engagement"]})
    assert sum(message["op"] == "subscribed" for message in heard(hub, client)) == 1


def test_sessions_in_a_subscription_are_bounded() -> None:
    hub = Hub(limits(sessions=2))
    client = hub.connect(who("t"), 0.0)
    heard(hub, client)
    for sessions in (["a", "b", "a"], ["a", "b", "c"]):
        say(hub, client, {"op": "subscribe", "channels": ["engagement"], "sessions": sessions})
    assert [message["op"] for message in heard(hub, client)] == ["subscribed", "error"]


def test_a_subscription_takes_the_place_of_an_earlier_one() -> None:
    hub = Hub()
    client = subscriber(hub, "anomalies", sessions=["a", "b"])
    say(hub, client, {"op": "subscribe", "channels": ["anomalies"], "sessions": ["b", "c"]})
    heard(hub, client)
    hub.publish(batch("anomaly", ("t", "a"), ("t", "b"), ("t", "c"), ("t", "d")), 0.0)
    assert numbers(heard(hub, client)) == [2, 3]
    say(hub, client, {"op": "subscribe", "channels": ["anomalies"]})
    assert heard(hub, client)[0] == {
        "op": "subscribed",
        "channels": ["anomalies"],
        "sessions": None,
        "snapshot": 4,
        "offsets": {"anomalies": 4},
        "resumed": {},
    }
    assert hub.subscribers["anomalies"] == 1


def test_the_same_session_name_of_another_tenant_is_another_session() -> None:
    hub = Hub()
    client = subscriber(hub, "engagement", tenant="t1", sessions=["s"])
    hub.publish(batch("engagement", ("t1", "s"), ("t2", "s")), 0.0)
    assert numbers(heard(hub, client)) == [1]


def test_a_snapshot_is_the_newest_of_every_session_and_the_latest_of_the_rest() -> None:
    hub = Hub(limits(history_records=3))
    hub.publish(batch("engagement", ("t", "a"), ("t", "b"), ("u", "a"), ("t", "a")), 0.0)
    hub.publish(batch("anomaly", *[("t", "a"), ("t", "b")] * 3), 0.0)
    client = hub.connect(who("t"), 0.0)
    say(hub, client, {"op": "subscribe", "channels": ["engagement", "anomalies"]})
    _, subscribed, *snapshot = heard(hub, client)
    assert subscribed["snapshot"] == 5
    assert [(m["channel"], m["offset"], m["record"]["n"]) for m in snapshot] == [
        ("engagement", 2, 2),
        ("engagement", 3, 4),
        ("anomalies", 4, 4),
        ("anomalies", 5, 5),
        ("anomalies", 6, 6),
    ]


def test_offsets_tell_nothing_of_other_tenants() -> None:
    hub = Hub()
    client = subscriber(hub, "anomalies", tenant="t")
    hub.publish(batch("anomaly", ("t", "a"), *[("u", "b")] * 50, ("t", "a")), 0.0)
    assert [message["offset"] for message in heard(hub, client)] == [1, 2]


def test_engagement_is_replaced_by_the_newest_and_the_rest_is_not() -> None:
    hub = Hub()
    client = subscriber(hub, "engagement", "anomalies")
    before = metric("replaced_records_total")
    for n in range(1, 40, 4):
        hub.publish(batch("engagement", ("t", "a"), ("t", "b"), first=n), 0.0)
        hub.publish(batch("anomaly", ("t", "a"), first=n + 2), 0.0)
        assert hub.awake() == ([client] if n == 1 else []), "told once, and lags from then on"
    got = heard(hub, client)
    assert numbers(got) == [1, 2, *range(3, 37, 4), 37, 38, 39]
    assert metric("replaced_records_total") - before == 16


def test_who_does_not_lag_gets_every_record() -> None:
    hub = Hub()
    client = subscriber(hub, "engagement")
    for n in range(1, 40):
        hub.publish(batch("engagement", ("t", "a"), first=n), 0.0)
    assert numbers(heard(hub, client)) == list(range(1, 40))


def test_a_client_that_lags_is_dropped_and_the_others_are_not() -> None:
    hub = Hub(limits())
    slow, quick = subscriber(hub, "anomalies"), subscriber(hub, "anomalies")
    before = metric("dropped_clients_total", reason="slow")
    got: list[int] = []
    for n in range(1, 151):
        hub.publish(batch("anomaly", ("t", "s"), first=n), 0.0)
        got += numbers(heard(hub, quick))
    assert slow.close is not None
    assert (slow.close.code, slow.close.at_once) == (4008, True)
    assert len(slow.outbox) == slow.outbox.size == 0
    assert slow in hub.awake()
    assert hub.subscribers["anomalies"] == 1
    assert (got, quick.close) == (list(range(1, 151)), None)
    assert metric("dropped_clients_total", reason="slow") - before == 1


def test_a_lagging_client_is_bounded_in_bytes_too() -> None:
    hub = Hub(limits())
    client = subscriber(hub, "decisions")
    for n in range(1, 5):
        hub.publish(batch("decision", ("t", "s"), first=n, pad=30_000), 0.0)
    assert client.close is not None
    assert client.close.code == 4008


@pytest.mark.parametrize("waiting", [95, 100], ids=["by what it is told first", "by the reply"])
def test_a_lagging_client_that_subscribes_again_is_bounded_too(waiting: int) -> None:
    hub = Hub(limits())
    client = subscriber(hub, "anomalies")
    for n in range(1, waiting + 1):
        hub.publish(batch("anomaly", ("t", "s"), first=n), 0.0)
    assert (len(client.outbox), client.close) == (waiting, None)
    say(hub, client, {"op": "subscribe", "channels": ["anomalies"]})
    assert client.close is not None
    assert client.close.code == 4008
    assert len(client.outbox) == client.outbox.size == 0


def test_engagement_alone_never_drops_a_client() -> None:
    hub = Hub(limits())
    client = subscriber(hub, "engagement")
    for n in range(1, 1_000):
        hub.publish(batch("engagement", ("t", "a"), ("t", "b"), first=n), 0.0)
        hub.awake()
    assert client.close is None
    assert len(client.outbox) == 4


def test_clients_are_counted_and_bounded() -> None:
    hub = Hub(limits(clients=2))
    before = metric("clients")
    first, second = (hub.connect(who("t"), 0.0) for _ in range(2))
    assert (hub.full, metric("clients") - before) == (True, 2)
    third = hub.connect(who("t"), 0.0)
    assert third.close is not None
    assert third.close.code == 1013
    for client in (first, second, third, first):
        hub.disconnect(client)
    assert (hub.full, metric("clients") - before) == (False, 0)


def test_nothing_of_a_client_is_left_when_it_is_gone() -> None:
    hub = Hub()
    clients = [subscriber(hub, *CHANNELS, tenant=t, sessions=s) for t in ("t", None) for s in (None, ["a", "b"])]
    hub.publish(batch("anomaly", ("t", "a")), 0.0)
    for client in clients:
        hub.disconnect(client)
    assert len(hub._audiences) == 0
    assert not hub._by_user
    assert hub._clients == set()
    assert hub.awake() == []
    assert set(hub.subscribers.values()) == {0}


def test_a_client_is_woken_once_for_all_that_waits() -> None:
    hub = Hub()
    client = subscriber(hub, "anomalies")
    hub.awake()
    hub.publish(batch("anomaly", *[("t", "s")] * 5), 0.0)
    assert hub.awake() == [client]
    assert hub.awake() == []


def test_take_hands_out_in_portions_and_counts() -> None:
    hub = Hub()
    client = subscriber(hub, "anomalies")
    before = metric("sent_records_total", channel="anomalies")
    hub.publish(batch("anomaly", *[("t", "s")] * 10, pad=1_000), 0.0)
    portions = []
    while frames := hub.take(client, 3_000).frames:
        portions.append(len(frames))
    assert portions == [3, 3, 3, 1]
    hub.awake()
    assert metric("sent_records_total", channel="anomalies") - before == 10
    assert client.outbox.size == 0
