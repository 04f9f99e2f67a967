"""The collector over HTTP before a real Kafka: what is accepted lies there, and what isn't says why."""

import json
import time
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from operators.config import WindowConfig
from operators.decode import BatchDecoder
from schemas.inbound import EmotionObserved
from schemas.outbound import DeadLetter, SessionSummary
from schemas.registry import INBOUND
from sources.collector import Key
from tests.compare import decoded
from tests.events import FIELDS, record
from tests.fix_collector import EMOTION, KEY, PARTITIONS, SHOP, STREAM, Collecting, StartCollector, batch, device
from tests.murmur2 import murmur2
from tests.running import raw_batches, run

TELEMETRY = sorted(kind for kind in INBOUND if kind.startswith("telemetry."))


def test_every_type_of_telemetry_lies_in_kafka_when_the_answer_comes(collecting: Collecting) -> None:
    before = int(time.time() * 1000)
    sent_at = 1_000_000  # a device that believes it is 1970
    events = [device(kind, at=sent_at - 10 * n) for n, kind in enumerate(TELEMETRY)]
    answer = collecting.send(*events, sent_at=sent_at, session_id="sé", user_id="ü")
    after = int(time.time() * 1000)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["accepted"], said["rejected"]) == (len(TELEMETRY), 0)
    assert [verdict["event_id"] for verdict in said["verdicts"]] == [event["event_id"] for event in events]
    messages = collecting.messages(len(TELEMETRY))
    assert len(messages) == len(TELEMETRY)
    for n, message in enumerate(messages):
        assert message.topic() == collecting.topics[0]
        assert message.key() == "acme/sé".encode()
        assert message.partition() == (murmur2("acme/sé".encode()) & 0x7FFFFFFF) % PARTITIONS
        found = json.loads(message.value() or b"")
        sent = events[n]
        assert found["type"] == sent["type"] == TELEMETRY[n]
        assert (found["tenant_id"], found["session_id"], found["user_id"]) == ("acme", "sé", "ü")
        assert found["ts"] == sent["at"] + said["offset_ms"]
        assert found["client_ts"] == sent["at"]
        assert before <= found["ts"] + 10 * n <= after
        assert {name: found[name] for name in FIELDS[sent["type"]]} == FIELDS[sent["type"]]


def test_the_senders_word_on_tenant_and_time_does_not_count_and_what_is_unknown_stays_behind(
    collecting: Collecting,
) -> None:
    claims: dict[str, Any] = {"tenant_id": "other", "session_id": "x", "user_id": "y", "ts": 1}
    claims |= {"secret": "what was typed", "key": [{}]}
    answer = collecting.send(device(**claims), tenant_id="other")
    assert answer.json()["accepted"] == 1
    (found,) = collecting.records(1)
    assert (found["tenant_id"], found["session_id"], found["user_id"]) == ("acme", "s", "u")
    assert found["ts"] > 1
    assert set(found) == {*INBOUND["telemetry.click"].struct.__struct_fields__, "type", "client_ts"}


def bad_events() -> list[tuple[str, Any, str, str]]:
    """Return what is wrong, the event, and the reason and field of its verdict."""
    return [
        ("wrong type of field", device(x="left"), "invalid_field", "x"),
        ("missing field", {k: v for k, v in device().items() if k != "element"}, "invalid_field", "element"),
        ("unknown page", device(page="kitchen"), "invalid_field", "page"),
        ("out of range", device("telemetry.scroll", depth=1.5), "invalid_field", "depth"),
        ("beyond a double", device(x=10**400), "malformed_json", ""),
        ("half a pair", device(element="\ud800"), "malformed_json", ""),
        ("no id", device(event_id=""), "invalid_field", "event_id"),
        ("long id", device(event_id="x" * 129), "invalid_field", "event_id"),
        ("no time", device() | {"at": None}, "invalid_field", "at"),
        ("time as text", device() | {"at": "now"}, "invalid_field", "at"),
        ("time as truth", device() | {"at": True}, "invalid_field", "at"),
        ("negative time", device() | {"at": -1}, "invalid_field", "at"),
        ("a minute ago", device() | {"at": int(time.time() * 1000) - 60_000}, "late", "at"),
        ("chat", device("chat.message", text="hi"), "unknown_type", "type"),
        ("emotion", device("emotion.observed"), "unknown_type", "type"),
        ("the platform's own", device("session.ended"), "unknown_type", "type"),
        ("no type", {"event_id": "e"}, "unknown_type", "type"),
        ("type as list", device() | {"type": ["telemetry.click"]}, "unknown_type", "type"),
        ("no object", 1, "not_an_object", ""),
        ("a list", [], "not_an_object", ""),
    ]


def test_what_is_rejected_says_why_and_takes_nothing_with_it(collecting: Collecting) -> None:
    good, cases = device(), bad_events()
    body = json.dumps(batch(*(bad for _, bad, _, _ in cases), good))
    answer = collecting.http.post(STREAM, content=body, headers={"Content-Type": "text/plain;charset=UTF-8"})
    said = answer.json()
    for (what, _, reason, field), verdict in zip(cases, said["verdicts"], strict=False):
        assert (verdict["status"], verdict["reason"], verdict["field"]) == ("rejected", reason, field), what
        assert verdict["expected"], what
        assert verdict["got"], what
    assert said["verdicts"][-1] == {"event_id": good["event_id"], "status": "accepted"}
    assert (said["accepted"], said["rejected"]) == (1, len(cases))
    assert [found["event_id"] for found in collecting.records(1)] == [good["event_id"]]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.builds(
            lambda kind, changes, drop: {k: v for k, v in (device(kind) | changes).items() if k not in drop},
            st.sampled_from(TELEMETRY),
            st.dictionaries(
                st.sampled_from(["x", "page", "element", "depth", "duration_ms", "filled", "query", "results"]),
                st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text(max_size=5),
                max_size=2,
            ),
            st.sets(st.sampled_from(["page", "element", "step", "query"]), max_size=1),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_verdict_is_what_the_flow_would_say(collecting: Collecting, events: list[dict[str, Any]]) -> None:
    said = collecting.send(*events).json()["verdicts"]
    whose = {"tenant_id": "acme", "session_id": "s", "user_id": "u", "ts": 1_000}
    for event, verdict in zip(events, said, strict=True):
        (raw,) = raw_batches([record(json.dumps(event | whose).encode(), 1_000)], ends=False)
        dead = decoded([BatchDecoder(1, WindowConfig())(raw).dead])
        assert (verdict["status"] == "accepted") is (not dead)
        if dead:
            assert isinstance(dead[0], DeadLetter)
            told = (verdict["reason"], verdict["field"], verdict["expected"], verdict["got"])
            assert told == (dead[0].reason, dead[0].detail.field, dead[0].detail.expected, dead[0].detail.got)


def test_a_repeat_counts_once(collecting: Collecting) -> None:
    message = batch(device(), device("telemetry.search"))
    for _ in range(3):
        assert collecting.http.post(STREAM, json=message).json()["accepted"] == 2
        time.sleep(0.01)
    messages = collecting.messages(6)
    assert len(messages) == 6
    log = [record(message.value(), message.timestamp()[1], offset=message.offset() or 0) for message in messages]
    outcome = run(raw_batches(log))
    assert outcome.dead == []
    assert [summary.telemetry for summary in outcome.told if isinstance(summary, SessionSummary)] == [2]


def test_an_emotion_is_stamped_and_its_confidence_is_a_share(collecting: Collecting) -> None:
    cases = {85: 0.85, 0.85: 0.85, 100: 1.0, 1: 1.0, 0: 0.0, 1.5: 0.015}
    before = int(time.time() * 1000)
    for said_to_be in cases:
        said: dict[str, Any] = {"session_id": "s", "user_id": "u", "event_id": str(said_to_be), "emotion": "joy"}
        said["confidence"] = said_to_be
        for _ in range(2):
            answer = collecting.http.post(EMOTION, json=said)
            assert (answer.status_code, answer.json()) == (200, {"event_id": str(said_to_be), "status": "accepted"})
    messages = collecting.messages(2 * len(cases))
    for (said_to_be, kept), first, again in zip(cases.items(), messages[::2], messages[1::2], strict=True):
        assert first.topic() == collecting.topics[1]
        assert first.value() == again.value()
        event = msgspec.json.decode(first.value() or b"", type=EmotionObserved)
        assert (event.event_id, event.confidence) == (str(said_to_be), kept)
        assert before <= event.ts <= int(time.time() * 1000)


EMOTION_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"confidence": 101}, "confidence"),
    ({"confidence": -0.1}, "confidence"),
    ({"confidence": "high"}, "confidence"),
    ({"emotion": ""}, "emotion"),
    ({"emotion": None}, "emotion"),
    ({"session_id": "a\nb"}, "session_id"),
    ({"user_id": "\ud800"}, "user_id"),
]
BATCH_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"events": [device() for _ in range(101)]}, "events"),
    ({"events": {}}, "events"),
    ({"session_id": "x" * 129}, "session_id"),
    ({"user_id": "a\u0000b"}, "user_id"),
    ({"sent_at": "now"}, "sent_at"),
    ({"sent_at": -1}, "sent_at"),
    ({"offset_ms": 0.5}, "offset_ms"),
]


def test_a_request_that_is_none_is_refused_with_the_field(collecting: Collecting) -> None:
    observation = {"session_id": "s", "user_id": "u", "event_id": "e1", "emotion": "joy", "confidence": 0.5}
    cases = [(EMOTION, observation | change, field) for change, field in EMOTION_FAULTS]
    cases += [(STREAM, batch(device()) | change, field) for change, field in BATCH_FAULTS]
    for path, said, field in cases:
        answer = collecting.http.post(path, content=json.dumps(said), headers={"Content-Type": "application/json"})
        found = answer.status_code, answer.json()["error"], answer.json()["field"]
        assert found == (422, "invalid_field", field), said


def test_a_batch_without_events_asks_for_the_offset(start_collector: StartCollector) -> None:
    key = Key("acme", frozenset({SHOP}), events_per_s=0.001, burst=100)
    collecting = start_collector(keys={KEY: key})
    now = int(time.time() * 1000)
    *_, said = [collecting.send(sent_at=now - 60_000).json() for _ in range(100)]
    assert 60_000 <= said.pop("offset_ms") <= 65_000
    assert said == {"accepted": 0, "rejected": 0, "verdicts": []}
    assert collecting.send().status_code == 429, "each costs as much as an event"


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_accepted_and_rejected_are_counted(collecting: Collecting) -> None:
    names = ("attune_collector_accepted_total", "attune_collector_rejected_total")
    confirmed, seconds = "attune_collector_kafka_confirmed_total", "attune_collector_seconds_count"
    before = [counted(names[0], type="telemetry.cart"), counted(names[1], reason="late"), counted(confirmed)]
    answered = counted(seconds)
    collecting.send(device("telemetry.cart"), device("telemetry.cart"), device(at=0))
    after = [counted(names[0], type="telemetry.cart"), counted(names[1], reason="late"), counted(confirmed)]
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1, 2]
    assert counted(seconds) == answered + 1


def test_health_document_and_snippet_are_served(collecting: Collecting) -> None:
    get = collecting.http.get
    assert get("/health/live").json() == {"live": "ok"}
    assert get("/health/ready").json() == {"collector": "ok", "kafka": "ok"}
    assert get("/openapi.json").json()["openapi"] == "3.1.0"
    script = get("/attune.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cross-origin-resource-policy"] == "cross-origin"
    assert "attune" in script.text


json_text = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
).map(lambda value: json.dumps(value).encode())
hostile = st.one_of(
    st.binary(max_size=300),
    json_text,
    st.dictionaries(
        st.sampled_from(["session_id", "user_id", "sent_at", "events", "offset_ms", "emotion", "confidence"]),
        st.none() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers() | st.text(max_size=3)),
    ).map(lambda value: json.dumps(value).encode()),
    st.integers(1, 60_000).map(lambda depth: b"[" * depth),
    st.integers(1, 30_000).map(lambda depth: b'{"events":' + b"[" * depth + b"]" * depth + b"}"),
    st.integers(1, 20_000).map(lambda digits: b'{"sent_at":' + b"9" * digits + b"}"),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hostile, st.sampled_from([STREAM, EMOTION]))
def test_no_body_makes_it_fail(collecting: Collecting, body: bytes, path: str) -> None:
    answer = collecting.http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert set(answer.json()) <= {"error", "message", "field", "expected", "got"}


def test_what_is_too_deep_is_refused_without_internals(collecting: Collecting) -> None:
    deep = '{"event_id":"e","type":"telemetry.click","x":' + "[" * 20_000 + "]" * 20_000 + "}"
    body = '{"session_id":"s","user_id":"u","sent_at":1,"events":[' + deep + "]}"
    answer = collecting.http.post(STREAM, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert SHOP not in answer.text
    assert KEY not in answer.text
