"""What a page is told of what it acknowledges: written is what is written, and not what is on its way there."""

import json
import threading
from collections.abc import Sequence

import pytest

from schemas.errors import TransientError
from schemas.inbound import InterventionOutcome
from sinks.websocket.client import Client
from sinks.websocket.hub import Hub
from sinks.websocket.limits import Limits
from sinks.websocket.receipts import Receipts
from tests.fix_websocket import TOKENS, StartGateway, Written, eventually, said, token
from tests.sinks.test_websocket_offers import ANN, BOB, NOW, fired, ident, outcome

RECEIPTS = Receipts([b"shared by all"])
RECEIPT = RECEIPTS.write("t", "s", None, ident("a"), 1_000_000)


def acknowledge(hub: Hub, client: Client, what: str = "dismissed", receipt: str | None = None) -> None:
    message = {"op": "acknowledge", "intervention_id": ident("a"), "outcome": what}
    hub.receive(client, json.dumps(message | ({"receipt": receipt} if receipt else {})), NOW)


def heard(hub: Hub, client: Client) -> list[str]:
    """Return what a client is told: names of replies, codes of errors, ends of the ids of offers."""
    messages = map(said, hub.take(client, 1 << 20).frames)
    return [
        message["record"]["id"].rpartition("/")[2] if "record" in message else message.get("code", message["op"])
        for message in messages
    ]


@pytest.mark.parametrize("receipt", [None, RECEIPT])
@pytest.mark.parametrize("well", [True, False])
def test_a_repeat_of_what_is_under_way_waits_for_the_same(receipt: str | None, well: bool) -> None:
    hub = Hub(receipts=RECEIPTS)
    if receipt is None:
        hub.publish(fired("a"), NOW)
    first, other = hub.connect(ANN, NOW), hub.connect(BOB, NOW)
    acknowledge(hub, first, receipt=receipt)
    acknowledge(hub, other, receipt=receipt)
    reports = hub.outcomes()
    assert len(reports) == 2
    hub.disconnect(first)
    again = hub.connect(ANN, NOW)
    acknowledge(hub, again, receipt=receipt)
    acknowledge(hub, again, receipt=receipt)
    assert heard(hub, again) == ["hello"], "seen, so not offered, and not written, so not answered"
    assert hub.outcomes() == []
    hub.written(reports[0], well=well)
    answer = "acknowledged" if well else "unavailable"
    assert heard(hub, again) == [answer] * 2
    assert not {"acknowledged", "unavailable"} & set(heard(hub, other)), "his own is under way"
    acknowledge(hub, again, receipt=receipt)
    assert (heard(hub, again), len(hub.outcomes())) == ((["acknowledged"], 0) if well else ([], 1))


def test_what_was_heard_from_the_topic_is_written_whatever_becomes_of_the_attempt() -> None:
    hub = Hub()
    hub.publish(fired("a"), NOW)
    client = hub.connect(ANN, NOW)
    acknowledge(hub, client)
    (report,) = hub.outcomes()
    hub.publish(outcome("a", "ann", "dismissed"), NOW)
    hub.written(report, well=False)
    heard(hub, client)
    acknowledge(hub, client)
    assert (heard(hub, client), hub.outcomes()) == (["acknowledged"], [])


def test_what_is_forgotten_while_it_is_under_way_is_still_written_once() -> None:
    hub = Hub(Limits(offers=2), receipts=RECEIPTS)
    client = hub.connect(ANN, NOW)
    acknowledge(hub, client, receipt=RECEIPT)
    (report,) = hub.outcomes()
    for end in "bcd":
        hub.publish(fired(end), NOW)
    acknowledge(hub, client, receipt=RECEIPT)
    assert hub.outcomes() == []
    hub.written(report, well=True)
    assert heard(hub, client).count("acknowledged") == 2


def test_what_was_dismissed_is_not_offered_when_its_record_comes_after_that() -> None:
    hub = Hub(receipts=RECEIPTS)
    client, other = hub.connect(ANN, NOW), hub.connect(BOB, NOW)
    acknowledge(hub, client, receipt=RECEIPT)
    for report in hub.outcomes():
        hub.written(report, well=True)
    assert heard(hub, client) == ["hello", "acknowledged"]
    hub.publish(fired("a"), NOW)
    assert (heard(hub, client), heard(hub, other)) == ([], ["hello", "a"])


def test_an_outcome_is_not_lost_when_the_connection_and_the_brokers_go(start_gateway: StartGateway) -> None:
    away, go = True, threading.Event()
    written = Written()

    def write(events: Sequence[InterventionOutcome]) -> None:
        go.wait(20)
        if away:
            raise TransientError("away")
        written(events)

    running = start_gateway(verify=TOKENS.verify, write=write)
    shown = token(role="client", user="ann", session="s")
    wish = {"op": "acknowledge", "intervention_id": ident("one"), "outcome": "dismissed"}
    page = running.browser(shown)
    running.gateway.publish(fired("one", "ann", expires_ts=1 << 50))
    page.read()
    page.say(**wish)
    eventually(lambda: running.gateway._hub._waiting, "it is under way")
    page.connection.close()
    page = running.browser(shown)
    page.say(**wish)
    go.set()
    assert page.read()["code"] == "unavailable"
    away = False
    assert page.ask(**wish)["op"] == "acknowledged"
    assert ("ann", "dismissed", ident("one")) in written.told()
