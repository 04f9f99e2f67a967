"""The reference's judgement of single records, and that generated faults are what they claim to be."""

import json

import msgspec
import pytest

from schemas.inbound import MAX_RECORD_BYTES, MAX_TS, AnyEvent
from schemas.registry import INBOUND
from tests.events import FIELDS, event
from tests.faults import DISPUTED, SPOILERS, UNUSABLE, dressed, spoiled
from tests.model_input import Event, Unusable, judge

VALID = event("reaction", 1_000)
REASONS = {"empty", "too_large", "malformed_json", "not_an_object", "unknown_type", "invalid_field"}


def reason(raw: bytes | None) -> tuple[str, str]:
    judged = judge(raw)
    assert isinstance(judged, Unusable)
    return judged.reason, judged.field


def with_(**fields: object) -> bytes:
    return json.dumps({**json.loads(VALID), **fields}).encode()


def test_every_inbound_type_has_a_valid_example() -> None:
    assert FIELDS.keys() == INBOUND.keys()
    for kind, entry in INBOUND.items():
        judged = judge(event(kind, 5, "me"))
        assert isinstance(judged, Event)
        assert (judged.kind, judged.ts, judged.user_id, judged.windowed) == (kind, 5, "me", entry.windowed)


def test_acts_are_messages_votes_reactions_and_telemetry() -> None:
    examples = [judge(event(kind, 0)) for kind in INBOUND]
    acts = {example.kind for example in examples if isinstance(example, Event) and example.is_act}
    telemetry = {kind for kind in INBOUND if kind.startswith("telemetry.")}
    assert acts == {"chat.message", "poll.vote", "reaction"} | telemetry


@pytest.mark.parametrize("raw", [None, b"", b" ", b"\r\n\t  "])
def test_empty(raw: bytes | None) -> None:
    assert reason(raw) == ("empty", "")


def test_the_limit_of_size_is_64_kib_whatever_it_holds() -> None:
    assert isinstance(judge(VALID + b" " * (MAX_RECORD_BYTES - len(VALID))), Event)
    assert reason(VALID + b" " * (MAX_RECORD_BYTES + 1 - len(VALID))) == ("too_large", "")
    assert reason(b"{" * (MAX_RECORD_BYTES + 1)) == ("too_large", "")


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b"nonsense",
        VALID + VALID,
        VALID[:-1] + b',"more":NaN}',
        VALID[:-1] + b',"more":"\xff"}',
        b"\xef\xbb\xbf" + VALID,
        b'{"type":"nonsense",',  # malformed comes before unknown
        b'{"type":"reaction","ts":"x",',  # and before invalid
    ],
)
def test_malformed(raw: bytes) -> None:
    assert reason(raw) == ("malformed_json", "")


@pytest.mark.parametrize("raw", [b"[]", b"null", b"1", b'"{}"', b"[" + VALID + b"]"])
def test_not_an_object(raw: bytes) -> None:
    assert reason(raw) == ("not_an_object", "")


@pytest.mark.parametrize("raw", [b"{}", with_(type=None), with_(type=1), with_(type="x"), with_(type="x", ts="y")])
def test_unknown_type(raw: bytes) -> None:
    assert reason(raw) == ("unknown_type", "type")


@pytest.mark.parametrize(
    "raw, field",
    [
        (with_(ts="1"), "ts"),
        (with_(ts=1.0), "ts"),
        (with_(ts=True), "ts"),
        (with_(ts=-1), "ts"),
        (with_(ts=MAX_TS + 1), "ts"),
        (VALID.replace(b'"ts": 1000', b'"ts": 1' + b"0" * 5_000), "ts"),
        (with_(user_id=""), "user_id"),
        (with_(user_id="x" * 129), "user_id"),
        (with_(tenant_id="\u0000"), "tenant_id"),
        (with_(session_id="a\u009f"), "session_id"),
        (with_(emoji=""), "emoji"),
        (b'{"type":"reaction"}', "event_id"),
        (event("telemetry.click", 0, x=8888).replace(b"8888", b"1e999"), "x"),
    ],
)
def test_invalid_field(raw: bytes, field: str) -> None:
    assert reason(raw) == ("invalid_field", field)


def test_limits_are_in_characters_and_included() -> None:
    assert isinstance(judge(with_(user_id="😀" * 128, ts=MAX_TS)), Event)
    assert isinstance(judge(with_(user_id="\u00a0", tenant_id="\u2028")), Event)  # odd, but no controls (Cc)


def test_numbers_beyond_every_type_do_no_harm_in_fields_that_nobody_knows() -> None:
    assert isinstance(judge(VALID[:-1] + b',"more":1e999}'), Event)
    assert isinstance(judge(VALID[:-1] + b',"more":1' + b"0" * 5_000 + b"}"), Event)


@pytest.mark.parametrize("text", [b'"\\ud800"', b'["\\udfff"]', b'{"\\ud800":1}'])
def test_a_lone_surrogate_may_be_called_either(text: bytes) -> None:
    assert judge(VALID[:-1] + b',"more":' + text + b"}") == Unusable("malformed_json", "", either_way=True)


def test_nesting_beyond_the_stack_may_be_called_either() -> None:
    deep = VALID[:-1] + b',"more":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
    assert judge(deep) == Unusable("malformed_json", "", either_way=True)


def test_faults_cover_every_reason_and_are_never_usable() -> None:
    judged = [judge(spoiled(event("poll.vote", ts), n)) for n in range(len(UNUSABLE) + len(SPOILERS)) for ts in (0, 7)]
    assert not [entry for entry in judged if isinstance(entry, Event)]
    assert {entry.reason for entry in judged if isinstance(entry, Unusable)} == REASONS


@pytest.mark.parametrize("pick", range(6))
def test_an_event_that_is_written_otherwise_is_the_same_event(pick: int) -> None:
    raw = event("poll.vote", 5, "ü")
    assert judge(dressed(raw, pick)) == judge(raw)
    assert (dressed(raw, pick) == raw) == (pick == 5)


def test_two_halves_of_an_event_make_one_when_joined_by_a_comma() -> None:
    halves = [raw for raw in (spoiler(VALID) for spoiler in SPOILERS) if raw in VALID and raw != VALID[:-1]]
    assert msgspec.json.decode(b",".join(halves), type=AnyEvent) == msgspec.json.decode(VALID, type=AnyEvent)


def test_what_is_disputed_is_judged_by_the_contracts_words() -> None:
    judged = {name: judge(raw) for name, raw in DISPUTED.items()}
    assert judged.keys() == DISPUTED.keys()
    assert judged["invalid UTF-8 in an unknown field"] == Unusable("malformed_json")
    assert isinstance(judged["control character in the event id"], Event)  # the contract names the other three ids
    assert isinstance(judged["a field twice, first wrong"], Event)  # the last one counts, as JSON parsers have it
