"""The decoder against anything: received = used + set aside, to the record, and only what is bad is set aside."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.config import WindowConfig
from operators.deadletters import MAX_PAYLOAD
from operators.decode import BatchDecoder, Decoded
from operators.digests import digest, digests
from operators.emotions.roles import sorters_of
from operators.emotions.rules import read_rules
from operators.kinds import KIND
from operators.shards import shards_of
from schemas.batches import END_OF_TIME, RawBatch
from schemas.inbound import (
    AnyEvent,
    Canonical,
    ChatAnswer,
    ChatMessage,
    HandoffResolved,
    InterventionApproval,
    PollVote,
)
from schemas.outbound import DeadLetter
from tests.compare import decoded
from tests.model_input import Unusable, judge

GOOD = msgspec.json.encode(ChatMessage("e", "tenant", "session", "user", 1_000, "hello"))


def decode(values: list[bytes | None], shards: int = 1) -> Decoded:
    n = len(values)
    stamps, topic = np.full(n, 7_000), np.zeros(n, np.uint16)
    return BatchDecoder(shards, WindowConfig())(RawBatch(3, ("topic",), values, stamps, topic, np.arange(n), 0))


def used(found: Decoded) -> list[bytes]:
    return [chunk.payload(i) for _, chunk in found.chunks for i in range(len(chunk))]


def chat(found: Decoded) -> list[bytes]:
    return [msgspec.json.encode(event) for _, batch in found.chats for event in batch.events]


def letters(found: Decoded) -> list[DeadLetter]:
    return [record for record in decoded([found.dead]) if isinstance(record, DeadLetter)]


def only(value: bytes | None) -> DeadLetter:
    found = decode([GOOD, value, GOOD])
    assert used(found) == [GOOD, GOOD]
    (letter,) = letters(found)
    assert (letter.topic, letter.partition, letter.offset) == ("topic", 3, 1)
    return letter


def changed(**fields: Any) -> bytes:
    return json.dumps({**json.loads(GOOD), **fields}).encode()


@pytest.mark.parametrize(
    "value, reason, field",
    [
        (None, "empty", ""),
        (b"", "empty", ""),
        (b" \r\n\t", "empty", ""),
        (b"{", "malformed_json", ""),
        (GOOD[:-1], "malformed_json", ""),
        (GOOD + GOOD, "malformed_json", ""),
        (GOOD + b"\n" + GOOD, "malformed_json", ""),
        (b"\xff" + GOOD, "malformed_json", ""),
        (b"\xef\xbb\xbf" + GOOD, "malformed_json", ""),
        (GOOD.replace(b"1000", b"NaN"), "malformed_json", ""),
        (GOOD.replace(b"1000", b"Infinity"), "malformed_json", ""),
        (b"[" * 30_000, "malformed_json", ""),
        (b'{"a":' * 10_000, "malformed_json", ""),
        (b"[]", "not_an_object", ""),
        (b"null", "not_an_object", ""),
        (b'"text"', "not_an_object", ""),
        (b"{}", "unknown_type", "type"),
        (changed(type=None), "unknown_type", "type"),
        (changed(type=7), "unknown_type", "type"),
        (changed(type="chat.massage"), "unknown_type", "type"),
        (changed(ts=-1), "invalid_field", "ts"),
        (changed(ts=253402300800000), "invalid_field", "ts"),
        (changed(ts=1.5), "invalid_field", "ts"),
        (changed(ts="1000"), "invalid_field", "ts"),
        (changed(ts=True), "invalid_field", "ts"),
        (GOOD.replace(b"1000", b"9" * 5000), "invalid_field", "ts"),
        (GOOD.replace(b"1000", b"1e999"), "invalid_field", "ts"),
        (changed(user_id=""), "invalid_field", "user_id"),
        (changed(user_id="u" * 129), "invalid_field", "user_id"),
        (changed(user_id="a\tb"), "invalid_field", "user_id"),
        (changed(tenant_id="a\x7fb"), "invalid_field", "tenant_id"),
        (changed(session_id="a\x85b"), "invalid_field", "session_id"),
        (changed(text="t" * 4001), "invalid_field", "text"),
        (changed(text=None), "invalid_field", "text"),
        (b'{"type":"chat.message","ts":1}', "invalid_field", "event_id"),
        (changed(text="x" * 70_000), "too_large", ""),
        (b"x" * 10_000_000, "too_large", ""),
    ],
)
def test_each_reason(value: bytes | None, reason: str, field: str) -> None:
    letter = only(value)
    assert (letter.reason, letter.detail.field) == (reason, field)
    assert len(letter.payload.encode()) <= MAX_PAYLOAD
    if value is not None and len(value) <= MAX_PAYLOAD and letter.encoding is None:
        assert letter.payload.encode() == value


def test_a_record_of_just_64_kib_is_used() -> None:
    padded = GOOD[:-1] + b',"x":"' + b"y" * (65_536 - len(GOOD) - 7) + b'"}'
    assert len(padded) == 65_536
    assert used(decode([padded])) == [padded]
    assert only(padded[:-2] + b'y"}').reason == "too_large"


def test_ids_are_kept_where_they_can_be_read() -> None:
    letter = only(changed(text=5))
    assert (letter.tenant_id, letter.session_id, letter.ts) == ("tenant", "session", 1_000)
    assert (letter.detail.expected, letter.detail.got) == ("Expected `str`, got `int`", "5")
    letter = only(changed(text=5, tenant_id=[], ts="x"))
    assert (letter.tenant_id, letter.session_id, letter.ts) == ("", "session", 7_000)


def test_bytes_that_are_no_text_are_kept_as_base64() -> None:
    assert (only(b"\xff\x00").payload, only(b"\xff\x00").encoding) == ("/wA=", "base64")


def test_what_is_allowed_is_used() -> None:
    odd = [
        changed(event_id="line\nfeed", text='"\\ \u0000'),
        changed(user_id="ü\u00a0\u200b😀", unknown={"deep": [1, {"a": None}]}),
        b" \t" + GOOD + b"\r ",
        changed(ts=253402300799999),
        changed(user_id="u" * 128, text=""),
    ]
    assert used(decode([*odd])) == odd


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELD = st.sampled_from([*json.loads(GOOD), "conversation_id", "poll_id"])


@st.composite
def payloads(draw: st.DrawFn) -> bytes | None:
    whole: bytes = draw(
        st.one_of(
            st.just(GOOD),
            st.binary(max_size=40),
            JSON.map(lambda value: json.dumps(value).encode()),
            st.dictionaries(FIELD, JSON, max_size=3).map(lambda fields: changed(**fields)),
            st.sampled_from([",", "}", "{", "[", "\n", '{"type":"reaction"']).map(str.encode),
        )
    )
    cut = draw(st.none() | st.integers(0, 80))
    return draw(st.sampled_from([whole, whole[:cut], None if cut == 0 else whole]))


@given(st.lists(payloads(), max_size=30), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_received_is_used_plus_set_aside(values: list[bytes | None], shards: int) -> None:
    found = decode(values, shards)
    dead = letters(found)
    good = [value for value in values if not isinstance(judge(value), Unusable)]
    windowed = [value for value in good if b"chat.answer" not in (value or b"")]
    assert len(chat(found)) == len(good) - len(windowed)
    assert sorted(used(found)) == sorted(value or b"" for value in windowed)
    assert len(dead) + len(good) == len(values)
    for letter in dead:
        verdict = judge(values[letter.offset])
        assert isinstance(verdict, Unusable)
        assert letter.reason == verdict.reason or verdict.either_way


def test_chat_goes_to_its_tenants_shard_with_its_stream_time() -> None:
    """Whatever the session: a tenant's limits and calibration are in one place. Other types wait for nobody."""
    values: list[bytes | None] = []
    for i in range(600):
        about = (f"e{i}", f"tenant-{i % 7}", f"session-{i}", "user", i)
        values.append(msgspec.json.encode(ChatMessage(*about, "hello")))
        values.append(msgspec.json.encode(ChatAnswer(*about, "c", "a", "Why?", "So.", [0.5], Canonical("k", 0.5))))
        values.append(msgspec.json.encode(HandoffResolved(*about, "c", needed=True)))
        values.append(msgspec.json.encode(InterventionApproval(*about, "i", approved=True, by="boss")))
    values[100] = b"{"
    stamps = np.random.default_rng(1).integers(1_000, 9_000, len(values))
    batch = RawBatch(3, ("topic",), values, stamps, np.zeros(len(values), np.uint16), np.arange(len(values)), 2_000)
    decoder = BatchDecoder(4, WindowConfig())
    found = decoder(batch)
    assert sorted(chat(found)) == sorted(v for v in values if v and (b"chat.answer" in v or b"resolved" in v))
    stream_time = np.maximum(np.maximum.accumulate(stamps), 2_000).tolist()
    assert [shard for shard, _ in found.chats] == [0, 1, 2, 3]
    for shard, part in found.chats:
        assert (part.partition, part.clock) == (3, stream_time[-1])
        assert {int(shards_of([event.tenant_id], 4)[0]) for event in part.events} <= {shard}
        places = [values.index(msgspec.json.encode(event)) for event in part.events]
        assert places == sorted(places)
        assert part.stream_time == [stream_time[place] for place in places]
    assert [len(part) for _, part in decoder(batch).chats] == [len(part) for _, part in found.chats if len(part)]


def test_silent_shards_of_chat_learn_of_stream_time_at_each_tick() -> None:
    decoder, none = BatchDecoder(2, WindowConfig()), np.zeros(0, np.int64)
    clocks = (7_000, 11_999, 12_000, END_OF_TIME)
    told = [decoder(RawBatch(0, ("t",), [], none, none.astype(np.uint16), none, 0, clock)).chats for clock in clocks]
    assert [[(shard, part.clock) for shard, part in one] for one in told] == [
        [(0, clock), (1, clock)] if news else [] for clock, news in zip(clocks, (True, False, True, True), strict=True)
    ]


@pytest.mark.parametrize("rules, every_ms", [(None, 5_000), (sorters_of(read_rules()), 500)])
def test_silent_shards_learn_of_stream_time_sooner_where_rules_wait(rules: Any, every_ms: int) -> None:
    decoder = BatchDecoder(2, WindowConfig(), rules)
    none = np.zeros(0, np.int64)
    clocks = range(12_000, 30_000, 250)
    told = [decoder(RawBatch(0, ("t",), [], none, none.astype(np.uint16), none, 0, clock)).chunks for clock in clocks]
    assert [len(chunks) for chunks in told] == [0 if (clock - 2_000) % every_ms else 2 for clock in clocks]


def test_three_halves_do_not_make_a_whole() -> None:
    head, tail = GOOD[:40], GOOD[40:]
    for values in ([head, tail], [GOOD + b",", GOOD], [b"[" + GOOD, GOOD + b"]"], [GOOD + b"\n" + GOOD, b""]):
        found = decode([*values])
        assert len(letters(found)) + len(used(found)) == len(values)


def test_an_object_over_two_records_is_none() -> None:
    """Two halves that end and begin as objects may, beside a record of two events: the count alone would be right."""
    head = GOOD.replace(b'"ts"', b'"x":{},"ts"').split(b',"ts"')[0]
    tail = b',"ts"' + GOOD.split(b',"ts"')[1]
    assert json.loads(head + b"\n" + tail)["ts"] == 1_000
    found = decode([head, tail, GOOD + GOOD])
    assert not used(found)
    assert [letter.reason for letter in letters(found)] == ["malformed_json"] * 3


def test_one_bad_record_does_not_touch_its_neighbours() -> None:
    values = [msgspec.json.encode(ChatMessage(str(i), "t", f"s{i % 7}", "u", i, "x")) for i in range(2_000)]
    broken: list[bytes | None] = [*values]
    for i in (0, 255, 256, 1_000, 1_999):
        broken[i] = b"{"
    found = decode(broken, 4)
    assert [letter.offset for letter in letters(found)] == [0, 255, 256, 1_000, 1_999]
    assert sorted(used(found)) == sorted(value for value in broken if value != b"{")  # type: ignore[type-var]  # none is None


@pytest.mark.parametrize("form", ["ü{}", "ü{:03}"], ids=["of several lengths", "of one length"])
def test_columns_of_many_runs_are_those_of_each_event(form: str) -> None:
    """What windows don't take, and what can't be used, leaves no gap, whichever run it stands in."""
    values: list[bytes | None] = []
    for i in range(2_500):
        about = (f"e{i}", f"t{i // 1_100}", f"s{i % 7}", form.format(i % 150), i)
        vote, approval = PollVote(*about, f"p\0{i % 3}", "o"), InterventionApproval(*about, "i", approved=True, by="b")
        values.append(msgspec.json.encode(vote if i % 5 == 0 else approval if i % 9 == 0 else ChatMessage(*about, "x")))
    values[1_500] = b"{"
    chunks = [chunk for _, chunk in decode(values, 3).chunks]
    assert sum(map(len, chunks)) == sum(b"approval" not in value for value in values if value) - 1
    for chunk in chunks:
        for i in range(len(chunk)):
            event = msgspec.json.decode(chunk.payload(i), type=AnyEvent)
            poll = digest(event.poll_id.replace("\0", "\\0")) if isinstance(event, PollVote) else 0
            columns = (chunk.user[i], chunk.poll[i], chunk.kind[i], chunk.ts[i], chunk.place[i])
            assert columns == (digest(event.user_id), poll, KIND[type(event)], event.ts, event.ts)
            assert chunk.sessions[chunk.session[i]] == f"{event.tenant_id}\0{event.session_id}"
        assert chunk.event_ids.at(chunk.place.tolist()) == [f"e{ts}" for ts in chunk.ts.tolist()]


@pytest.mark.parametrize(
    "ids",
    [
        [f"c{course:07d}u{user:07d}" for course in range(60) for user in range(3_000)],
        [str(1_700_000_000_000_000 + i * 5_003) for i in range(150_000)],
        [f"user-{i}" for i in range(150_000)],
    ],
    ids=["course and user", "microseconds", "numbered"],
)
def test_ids_that_differ_in_few_digits_have_different_digests(ids: list[str]) -> None:
    assert len(np.unique(digests(ids))) == len(ids)


def test_a_session_is_always_in_the_same_shard_and_order() -> None:
    values: list[bytes | None] = [
        msgspec.json.encode(ChatMessage(str(i), "t", f"s{i % 50}", "u", i, "x")) for i in range(1_000)
    ]
    for shard, chunk in decode(values, 8).chunks:
        assert set(shards_of(chunk.sessions, 8).tolist()) <= {shard}
        assert (np.diff(chunk.offset) > 0).all()
        assert (chunk.kind == KIND[ChatMessage]).all()
