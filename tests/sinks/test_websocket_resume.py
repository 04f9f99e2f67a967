"""History and resume: who comes back misses nothing and gets nothing twice, or is told why not."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.websocket.client import Client
from sinks.websocket.hub import Hub
from sinks.websocket.limits import Limits
from tests.fix_websocket import TOKENS, Running, StartGateway, batch, said, token, who

EVERYTHING = 1 << 40
SMALL = Limits(history_records=10, snapshot_records=10, latest_records=5)


def say(hub: Hub, client: Client, **message: Any) -> list[dict[str, Any]]:
    """Say something; returns what is told then."""
    hub.receive(client, json.dumps(message), 0.0)
    return [said(frame) for frame in hub.take(client, EVERYTHING).frames]


def resumed(hub: Hub, offsets: dict[str, int], run: str = "r", **more: Any) -> tuple[dict[str, Any], list[int]]:
    """Connect, resume, and return the reply and the offsets of what follows."""
    client = hub.connect(who("t"), 0.0)
    wish = {"op": "subscribe", "channels": list(offsets), "resume": {"gateway": run, "offsets": offsets}, **more}
    _, reply, *first = say(hub, client, **wish)
    assert reply["snapshot"] == len(first)
    return reply, [message["offset"] for message in first]


def test_what_was_missed_comes_once_and_in_order() -> None:
    hub = Hub(SMALL, "r")
    hub.publish(batch("anomaly", *[("t", "s"), ("other", "s")] * 8), 0.0)
    reply, offsets = resumed(hub, {"anomalies": 3})
    assert (reply["resumed"], reply["offsets"]) == ({"anomalies": "resumed"}, {"anomalies": 8})
    assert offsets == [4, 5, 6, 7, 8]
    assert resumed(hub, {"anomalies": 8})[1] == [], "up to date"


def test_missed_engagement_is_told_in_full() -> None:
    hub = Hub(SMALL, "r")
    hub.publish(batch("engagement", *[("t", "s")] * 8), 0.0)
    assert resumed(hub, {"engagement": 2})[1] == [3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize(
    "offset, run, says",
    [
        (29, "r", "resumed"),
        (20, "r", "resumed"),
        (19, "r", "too_old"),
        (0, "r", "too_old"),
        (31, "r", "unknown_offset"),
        (2**53 - 1, "r", "unknown_offset"),
        (25, "another", "other_gateway"),
        (25, "", "other_gateway"),
    ],
)
def test_a_resume_that_can_t_be_is_told_and_becomes_a_snapshot(offset: int, run: str, says: str) -> None:
    hub = Hub(SMALL, "r")
    hub.publish(batch("anomaly", *[("t", "s")] * 30), 0.0)
    reply, offsets = resumed(hub, {"anomalies": offset}, run)
    assert reply["resumed"] == {"anomalies": says}
    assert offsets == (list(range(offset + 1, 31)) if says == "resumed" else [26, 27, 28, 29, 30])


def test_each_channel_is_judged_by_itself() -> None:
    hub = Hub(SMALL, "r")
    hub.publish(batch("anomaly", *[("t", "s")] * 30), 0.0)
    hub.publish(batch("decision", *[("t", "s")] * 3), 0.0)
    reply, offsets = resumed(hub, {"anomalies": 1, "decisions": 1, "sessions": 0})
    assert reply["resumed"] == {"anomalies": "too_old", "decisions": "resumed", "sessions": "resumed"}
    assert offsets == [26, 27, 28, 29, 30, 2, 3]


def test_history_comes_instead_of_the_snapshot() -> None:
    hub = Hub(SMALL, "r")
    hub.publish(batch("engagement", *[("t", "a"), ("t", "b")] * 10), 0.0)
    for client, sessions, expected in (
        (hub.connect(who("t"), 0.0), None, [17, 18, 19, 20]),
        (hub.connect(who("t"), 0.0), ["a"], [13, 15, 17, 19]),
        (hub.connect(who(None), 0.0), None, [17, 18, 19, 20]),
    ):
        wish: dict[str, Any] = {"op": "subscribe", "channels": ["engagement"], "history": 4}
        _, _, *first = say(hub, client, **wish, **({"sessions": sessions} if sessions else {}))
        assert [message["offset"] for message in first] == expected
    (answer,) = say(hub, client, op="subscribe", channels=["engagement"], history=11)
    assert answer["code"] == "bad_message"


def test_a_developer_has_no_offsets() -> None:
    hub = Hub(SMALL, "r")
    client = hub.connect(who(None), 0.0)
    _, reply = say(
        hub, client, op="subscribe", channels=["anomalies"], resume={"gateway": "r", "offsets": {"anomalies": 0}}
    )
    assert (reply["offsets"], reply["resumed"]) == ({}, {"anomalies": "unknown_offset"})


@pytest.mark.parametrize(
    "resume",
    [
        {"gateway": "r", "offsets": {"decisions": 1}},
        {"gateway": "r", "offsets": {}},
        {"gateway": "r", "offsets": {"anomalies": -1}},
        {"gateway": "r", "offsets": {"anomalies": 1.5}},
        {"gateway": "r", "offsets": {"anomalies": 2**63}},
        {"gateway": "r"},
        {"gateway": None, "offsets": {"anomalies": 1}},
        {"gateway": "r" * 100, "offsets": {"anomalies": 1}},
    ],
    ids=str,
)
def test_a_resume_without_sense_is_refused(resume: dict[str, Any]) -> None:
    hub = Hub(SMALL, "r")
    client = hub.connect(who("t"), 0.0)
    _, answer = say(hub, client, op="subscribe", channels=["anomalies"], resume=resume)
    assert answer["code"] == "bad_message"


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), history=st.integers(1, 12))
def test_no_gap_and_no_repeat_however_often_one_comes_back(seed: int, history: int) -> None:
    """A subscriber that is cut off at any moment, even within what it is told first, ends up with every record once."""
    chance = random.Random(seed)
    hub = Hub(Limits(history_records=history, snapshot_records=12, latest_records=12), "r")
    client: Client | None = None
    at: int | None = None
    published, got = 0, list[int]()
    for _ in range(80):
        match chance.choice(["publish", "publish", "read", "cut", "come"]):
            case "publish":
                count = chance.randrange(1, 4)
                hub.publish(batch("anomaly", *[("t", "s"), ("u", "s")] * count, first=published + 1), 0.0)
                hub.awake()
                published += 2 * count
            case "read" if client is not None:
                for frame in hub.take(client, chance.randrange(1, 900)).frames:
                    message = said(frame)
                    if message["op"] == "subscribed":
                        if message["resumed"] != {"anomalies": "resumed"}:
                            assert at is None or message["resumed"] == {"anomalies": "too_old"}
                            at, got = message["offsets"]["anomalies"] - message["snapshot"], []
                    elif message["op"] == "record":
                        assert at is not None
                        assert message["offset"] == at + 1
                        at = message["offset"]
                        got.append(message["record"]["n"])
            case "cut" if client is not None:
                hub.disconnect(client)
                client = None
            case "come" if client is None:
                client = hub.connect(who("t"), 0.0)
                wish: dict[str, Any] = {"op": "subscribe", "channels": ["anomalies"]}
                if at is not None:
                    wish["resume"] = {"gateway": "r", "offsets": {"anomalies": at}}
                hub.receive(client, json.dumps(wish), 0.0)
    assert got == sorted(set(got)), "in order and none twice"


def test_over_real_sockets_while_records_come(start_gateway: StartGateway) -> None:
    running: Running = start_gateway(verify=TOKENS.verify)
    browser = running.browser(token())
    browser.subscribe("anomalies")
    run, offsets = browser.hello["gateway"], []
    for turn in range(10):
        running.gateway.publish(batch("anomaly", *[("t", "s")] * 20, first=20 * turn + 1))
        offsets += [browser.read()["offset"] for _ in range(7)]
        browser.connection.socket.close()  # without a word
        browser = running.browser(token())
        wish = {"gateway": run, "offsets": {"anomalies": offsets[-1]}}
        reply = browser.ask(op="subscribe", channels=["anomalies"], resume=wish)
        assert reply["resumed"] == {"anomalies": "resumed"}
        running.gateway.drain()
        offsets += [browser.read()["offset"] for _ in range(13)]
    assert offsets == list(range(1, 201))
