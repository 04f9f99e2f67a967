"""Interventions on their way to clients, and what becomes of them."""

import json
import time
from typing import Any

import pytest

from schemas.batches import Records
from schemas.errors import TransientError
from sinks.websocket.hub import Hub
from sinks.websocket.offers import Offers, event
from sinks.websocket.principal import Principal
from sinks.websocket.receipts import HOLDS_MS, Receipts
from tests.fix_websocket import TOKENS, Browser, Running, StartGateway, Written, eventually, said, token

NOW = 1_000.0
ANN = Principal("t", "client", "ann", "s", ("interventions",))
BOB = Principal("t", "client", "bob", "s", ("interventions",))


def fired(
    end: str = "i",
    user: str | None = None,
    revision: int = 0,
    status: str = "fired",
    pad: int = 0,
    tenant: str = "t",
    **more: Any,
) -> Records:
    """Return an intervention of the session ``s``; ``end`` stands at the end of its id."""
    name = ident(end, tenant)
    head = {"type": "intervention", "id": name, "tenant_id": tenant, "session_id": "s", "ts": 1_000_000}
    what = {"intervention": "help_chat", "status": status, "user_id": user, "content": {"pad": "x" * pad}, **more}
    payload = json.dumps({**head, **what, "revision": revision}).encode()
    return Records("intervention", [name], [tenant], ["s"], [1_000_000], [payload], [revision])


def ident(end: str, tenant: str = "t") -> str:
    return f"{tenant}/s/1/intervention/{end}"


def outcome(ident: str, user: str, what: str) -> Records:
    payload = {"intervention_id": f"t/s/1/intervention/{ident}", "user_id": user, "outcome": what, "type": "outcome"}
    return Records("outcome", ["o"], ["t"], ["s"], [1], [json.dumps(payload).encode()])


def offered(hub: Hub, who: Principal, now: float = NOW) -> list[str]:
    """Connect, and return the ends of the ids of what is offered; goes away again."""
    client = hub.connect(who, now)
    _, *first = [said(frame) for frame in hub.take(client, 1 << 40).frames]
    hub.disconnect(client)
    return [message["record"]["id"].rpartition("/")[2] for message in first]


@pytest.mark.parametrize("name, to, for_clients", [
    ("heads_up", "organiser", False), ("heads_up", "audience", True), ("heads_up", None, True),
    ("notification", "organiser", False), ("notification", None, False), ("notification", "audience", True),
])  # fmt: skip
def test_what_is_for_the_organiser_reaches_no_client(name: str, to: str | None, for_clients: bool) -> None:
    hub = Hub()
    hub.publish(fired("a", intervention=name, content={"to": to} if to else {}), NOW)
    assert offered(hub, ANN) == (["a"] if for_clients else [])


def test_what_was_fired_before_waits() -> None:
    hub = Hub()
    for records in (fired("a", "ann"), fired("b", "bob"), fired("c"), fired("d", "ann", status="suppressed")):
        hub.publish(records, NOW)
    assert (offered(hub, ANN), offered(hub, BOB)) == (["a", "c"], ["b", "c"])


def test_it_waits_no_longer_than_it_holds() -> None:
    hub = Hub()
    hub.publish(fired("a", expires_ts=1_100_000), NOW)
    hub.publish(fired("b"), NOW)
    assert [offered(hub, ANN, at) for at in (1_000.0, 1_099.0, 1_100.0, 1_599.0, 1_600.0)] == [
        *(["a", "b"], ["a", "b"], ["b"], ["b"], []),
    ]
    client = hub.connect(ANN, NOW)
    hub.take(client, 1 << 40)
    hub.publish(fired("late", expires_ts=900_000), NOW)
    assert hub.take(client, 1 << 40).frames == [], "a gateway that catches up offers nothing that is over"


def test_a_change_of_status_takes_it_back_or_lets_it_go() -> None:
    hub = Hub()
    hub.publish(fired("a"), NOW)
    hub.publish(fired("a", revision=1, status="expired"), NOW)
    hub.publish(fired("b", status="pending"), NOW)
    assert offered(hub, ANN) == []
    hub.publish(fired("b", revision=1), NOW)
    hub.publish(fired("a"), NOW)
    assert offered(hub, ANN) == ["b"], "a repeat of what was taken back is none"


@pytest.mark.parametrize("what, again", [("delivered", True), ("shown", False), ("clicked", False), ("failed", True)])
def test_what_was_seen_is_not_offered_again(what: str, again: bool) -> None:
    hub = Hub()
    hub.publish(fired("a"), NOW)
    hub.publish(outcome("a", "ann", what), NOW)
    assert offered(hub, ANN) == ["a"] * again
    assert offered(hub, BOB) == ["a"], "he has not seen it"


def test_a_repeated_record_is_offered_once() -> None:
    hub = Hub()
    client = hub.connect(ANN, NOW)
    hub.take(client, 1 << 40)
    for _ in range(3):
        hub.publish(fired("a"), NOW)
    assert len(hub.take(client, 1 << 40).frames) == 1


def test_what_can_t_be_read_goes_to_dashboards_alone() -> None:
    hub = Hub()
    client, dashboard = hub.connect(ANN, NOW), hub.connect(Principal("t", "dashboard", "x"), NOW)
    hub.receive(dashboard, '{"op":"subscribe","channels":["interventions"]}', NOW)
    for each in (client, dashboard):
        hub.take(each, 1 << 40)
    for payload in (b'{"status":"fired"}', b"[]", b"\xff", b'{"intervention":"poll","status":"fired","user_id":7}'):
        hub.publish(Records("intervention", ["x"], ["t"], ["s"], [1], [payload], [0]), NOW)
    assert hub.take(client, 1 << 40).frames == []
    assert len(hub.take(dashboard, 1 << 40).frames) == 4


def test_what_is_remembered_is_bounded() -> None:
    offers = Offers(100)
    for n in range(1_000):
        offers.take(fired(str(n)), 0, 0)
        for who in (ANN, BOB):
            assert offers.delivered(who, ident(str(n)))
        assert offers.size <= 100
    tenant = offers._tenants["t"]
    assert (len(tenant.known), tenant.size) == (33, offers.size)
    assert sum(map(len, tenant.by_session.values())) == 33


def test_one_tenant_s_offers_push_out_no_other_s() -> None:
    offers = Offers(120)
    for tenant in ("quiet", "small"):
        for n in range(3):
            offers.take(fired(str(n), tenant=tenant), 0, 0)
    for n in range(1_000):
        offers.take(fired(str(n), tenant="loud"), 0, 0)
        offers.take(fired(str(n), tenant="louder"), 0, 0)
        assert offers.size <= 120

    def waiting(tenant: str) -> int:
        return len(offers.waiting(Principal(tenant, "client", "ann", "s", ("interventions",)), 0))

    assert (waiting("quiet"), waiting("small")) == (3, 3)
    assert waiting("loud") + waiting("louder") == 114
    assert waiting("loud") >= 30, "an equal share of all"


def test_of_more_tenants_than_there_is_room_for_each_gives_way() -> None:
    offers = Offers(10)
    for n in range(50):
        offers.take(fired("a", tenant=f"t{n}"), 0, 0)
        offers.take(fired("a", tenant=f"t{n}", revision=1), 0, 0)
        assert offers.size == sum(tenant.size for tenant in offers._tenants.values()) == min(n + 1, 10)


def test_an_event_says_the_same_whenever_it_is_told() -> None:
    one, later = event(ANN, "i", "shown", 1), event(ANN, "i", "shown", 2)
    assert one.event_id == later.event_id
    others = [event(BOB, "i", "shown", 1), event(ANN, "j", "shown", 1), event(ANN, "i", "clicked", 1)]
    assert len({one.event_id, *(other.event_id for other in others)}) == 4
    assert (one.tenant_id, one.session_id, one.user_id, one.ts) == ("t", "s", "ann", 1)


def client_of(running: Running, user: str = "ann", session: str = "s", tenant: str = "t") -> Browser:
    return running.browser(token(tenant, "client", user, session=session))


def test_delivered_and_acknowledged_over_real_sockets(start_gateway: StartGateway) -> None:
    written = Written()
    running = start_gateway(verify=TOKENS.verify, write=written)
    ann, bob, foreign = client_of(running), client_of(running, "bob"), client_of(running, session="else")
    dashboard = running.browser(token())
    dashboard.subscribe("interventions")
    running.gateway.publish(fired("one", "ann", expires_ts=1 << 50))
    running.gateway.publish(fired("all", expires_ts=1 << 50))
    assert [ann.read()["record"]["id"] for _ in range(2)] == [ident("one"), ident("all")]
    assert bob.read()["record"]["id"] == ident("all")
    assert [dashboard.read()["record"]["id"] for _ in range(2)] == [ident("one"), ident("all")]
    eventually(lambda: len(written.events) == 3, "three deliveries, none of them the dashboard's")
    assert sorted(written.told()) == [
        ("ann", "delivered", ident("all")),
        ("ann", "delivered", ident("one")),
        ("bob", "delivered", ident("all")),
    ]
    for _ in range(2):
        reply = ann.ask(op="acknowledge", intervention_id=ident("one"), outcome="shown")
        assert reply == {"op": "acknowledged", "intervention_id": ident("one"), "outcome": "shown"}
    assert written.told()[3:] == [("ann", "shown", ident("one"))], "said twice, counted once"
    for browser in (bob, foreign, client_of(running, tenant="other")):
        reply = browser.ask(op="acknowledge", intervention_id=ident("one"), outcome="shown")
        assert (reply["op"], reply["code"]) == ("error", "unknown_intervention")
    assert dashboard.ask(op="acknowledge", intervention_id=ident("one"), outcome="shown")["code"] == "forbidden"
    assert ann.ask(op="acknowledge", intervention_id=ident("one"), outcome="converted")["code"] == "bad_message"
    assert len(written.events) == 4


def made_up() -> list[dict[str, Any]]:
    """Return acknowledgements of what was never offered, with receipts of all kinds."""
    real = Receipts([b"another secret"]).write("t", "s", "ann", ident("one"), 1_000_000)
    receipts = [None, "", ".", "1.", "1000000.", real, "x" * 64, "\u0661.ab", f"{1 << 60}.{'0' * 32}", "1.\u00e4"]
    return [{} if receipt is None else {"receipt": receipt} for receipt in receipts]


@pytest.mark.parametrize("receipt", made_up())
def test_what_was_never_offered_is_not_acknowledged(start_gateway: StartGateway, receipt: dict[str, str]) -> None:
    written = Written()
    ann = client_of(start_gateway(verify=TOKENS.verify, write=written))
    reply = ann.ask(op="acknowledge", intervention_id=ident("one"), outcome="clicked", **receipt)
    about = {"intervention_id": ident("one"), "outcome": "clicked"}
    assert reply == {"op": "error", "code": "unknown_intervention", "message": reply["message"], **about}
    assert ann.ask(op="ping") == {"op": "pong"}
    assert written.events == []


def test_a_receipt_outlasts_the_gateway_and_is_good_for_its_holder_alone(start_gateway: StartGateway) -> None:
    now = int(time.time() * 1000)
    before = start_gateway(verify=TOKENS.verify, write=Written(), receipts=Receipts([b"shared by all"]))
    ann = client_of(before)
    for end, user, ts in (("one", "ann", now), ("all", None, now), ("old", "ann", now - HOLDS_MS)):
        records = fired(end, user, expires_ts=1 << 50)
        records.ts[0] = ts
        before.gateway.publish(records)
    said = [ann.read() for _ in range(3)]
    receipts = {message["record"]["id"]: message["receipt"] for message in said}
    before.stop()

    written = Written()
    after = start_gateway(verify=TOKENS.verify, write=written, receipts=Receipts([b"shared by all"]))

    def told(browser: Browser, end: str, receipt: str) -> str:
        reply = browser.ask(
            op="acknowledge", intervention_id=ident(end), outcome="shown", receipt=receipts[ident(receipt)]
        )
        return str(reply.get("code", reply["op"]))

    ann, bob = client_of(after), client_of(after, "bob")
    assert [told(ann, "one", "one"), told(ann, "all", "all"), told(ann, "old", "old")] == [
        *("acknowledged", "acknowledged", "unknown_intervention"),
    ]
    assert [told(bob, "one", "one"), told(bob, "all", "all"), told(bob, "one", "all")] == [
        *("unknown_intervention", "acknowledged", "unknown_intervention"),
    ]
    assert told(client_of(after, session="else"), "all", "all") == "unknown_intervention"
    assert told(client_of(after, tenant="other"), "all", "all") == "unknown_intervention"
    assert told(ann, "one", "one") == "acknowledged"
    assert sorted(written.told()) == sorted([
        *(("ann", "shown", ident(end)) for end in ("all", "one")), ("bob", "shown", ident("all")),
    ]), "said again, counted once"  # fmt: skip


def test_what_another_gateway_offered_is_known_when_its_record_comes() -> None:
    receipts = Receipts([b"shared by all"])
    offers = Offers(100, receipts)
    receipt = receipts.write("t", "s", None, ident("a"), 1_000_000)
    assert offers.tell(ANN, ident("a"), "shown", receipt, 1_000_000)
    assert not offers.tell(ANN, ident("a"), "shown", receipt, 1_000_000)
    offers.take(fired("a"), 0, 1_000_000)
    assert (offers.waiting(ANN, 0), len(offers.waiting(BOB, 0))) == ([], 1)
    assert not offers.tell(ANN, ident("a"), "shown")
    assert offers.size == 2


def test_what_a_socket_did_not_take_is_not_delivered(start_gateway: StartGateway) -> None:
    written = Written()
    running = start_gateway(verify=TOKENS.verify, write=written, stall_s=600.0, ping_interval_s=600.0)
    deaf = running.deaf(shown=token(role="client", user="ann", session="s"))
    eventually(lambda: running.gateway._hub._clients, "connected")
    for n in range(20):
        running.gateway.publish(fired(str(n), "ann", expires_ts=1 << 50, pad=100_000))
    running.gateway.drain()
    (client,) = running.gateway._hub._clients
    (link,) = running.gateway._server._links.values()
    eventually(lambda: client.outbox and link._wire.paused, "the socket is full")
    told = len(written.events)
    assert told < 15
    unread, deadline = b"", 2_000_000
    while len(unread) < deadline:
        unread += deaf.recv(1 << 20)
    eventually(lambda: len(written.events) == 20, "now it has taken all")


def test_a_broker_that_is_away_costs_nobody_his_word(start_gateway: StartGateway) -> None:
    written = Written()
    written.fault = TransientError("away")
    running = start_gateway(verify=TOKENS.verify, write=written)
    ann = client_of(running)
    running.gateway.publish(fired("one", "ann", expires_ts=1 << 50))
    ann.read()
    wish = {"op": "acknowledge", "intervention_id": ident("one"), "outcome": "shown"}
    assert ann.ask(**wish)["code"] == "unavailable"
    assert json.loads(running.http("/health/ready")[1])["outcomes"] == "can't be written"
    assert running.http("/health/ready")[0].status == 503
    written.fault = None
    assert ann.ask(**wish)["op"] == "acknowledged"
    eventually(lambda: len(written.events) == 2, "the delivery was tried again")
    assert sorted(what for _, what, _ in written.told()) == ["delivered", "shown"]
    assert running.http("/health/ready")[0].status == 200


def test_a_gateway_that_stops_writes_what_it_was_told(start_gateway: StartGateway) -> None:
    written = Written()
    running = start_gateway(verify=TOKENS.verify, write=written)
    ann = client_of(running)
    running.gateway.publish(fired("one", "ann", expires_ts=1 << 50))
    ann.read()
    running.gateway.drain()
    running.stop()
    assert written.told() == [("ann", "delivered", ident("one"))]


def test_without_a_place_to_write_acknowledging_is_answered(start_gateway: StartGateway) -> None:
    running = start_gateway(verify=TOKENS.verify)
    ann = client_of(running)
    running.gateway.publish(fired("one", "ann", expires_ts=1 << 50))
    ann.read()
    assert ann.ask(op="acknowledge", intervention_id=ident("one"), outcome="shown")["code"] == "unavailable"


def test_a_client_may_subscribe_to_its_own_again_and_unsubscribe(start_gateway: StartGateway) -> None:
    running = start_gateway(verify=TOKENS.verify)
    ann = client_of(running)
    assert (ann.hello["session"], ann.hello["channels"]) == ("s", ["interventions"])
    running.gateway.publish(fired("one", expires_ts=1 << 50))
    ann.read()
    assert [m["record"]["id"] for m in ann.subscribe("interventions", sessions=["s"])] == [ident("one")]
    assert ann.ask(op="unsubscribe", channels=["interventions"])["op"] == "unsubscribed"
    running.gateway.publish(fired("two", expires_ts=1 << 50))
    running.gateway.drain()
    assert ann.ask(op="ping") == {"op": "pong"}
