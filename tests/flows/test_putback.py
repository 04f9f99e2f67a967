"""Dead letters on their way back: what goes where, and what stays."""

import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flows.letters import read_lines
from flows.putback import Refusal, Return, plan, wanted
from schemas.errors import ConfigError
from schemas.inbound import MAX_RECORD_BYTES
from schemas.outbound import DeadLetter, Detail

CHAT = "platform.events.chat.message.v1"


def letter(**fields: Any) -> DeadLetter:
    given: dict[str, Any] = {
        "id": "dead_letter/x/0/1",
        "tenant_id": "t",
        "session_id": "s",
        "ts": 1,
        "reason": "refused_by_database",
        "detail": Detail("", "", ""),
        "topic": CHAT,
        "partition": 0,
        "offset": 1,
        "payload": '{"type": "reaction"}',
    }
    return DeadLetter(**(given | fields))


def returned(found: Return | Refusal) -> Return:
    assert isinstance(found, Return)
    return found


def test_a_letter_goes_back_to_its_topic_under_its_sessions_key() -> None:
    found = returned(plan(letter(), {}))
    assert (found.topic, found.key, found.payload) == (CHAT, b"t/s", b'{"type": "reaction"}')


def test_bytes_that_were_no_text_come_back_as_they_were() -> None:
    payload = b"\xff\x00\xfe"
    found = returned(plan(letter(payload=base64.b64encode(payload).decode(), encoding="base64"), {}))
    assert found.payload == payload


def test_without_a_readable_session_there_is_no_key() -> None:
    assert returned(plan(letter(session_id="", tenant_id=""), {})).key is None


def test_a_replays_letter_goes_where_its_type_belongs() -> None:
    of_file = letter(topic="events.jsonl")
    assert returned(plan(of_file, {})).topic == "platform.events.live.sync.v1"
    assert returned(plan(of_file, {"platform.events.live.sync.v1": "sync"})).topic == "sync"
    assert returned(plan(letter(topic="events.jsonl", payload="what"), {}, to="x")).topic == "x"
    outbound = letter(topic="events.jsonl", payload='{"type": "engagement"}')
    assert returned(plan(outbound, {})).topic == "attune.engagement.v1"


def test_a_renamed_topic_is_known_by_its_name() -> None:
    assert returned(plan(letter(topic="chat"), {CHAT: "chat"})).topic == "chat"


@pytest.mark.parametrize(
    "stays, why",
    [
        (letter(reason="too_large"), "beginning"),
        (letter(payload='"' + "x" * MAX_RECORD_BYTES), "beginning"),
        (letter(payload=""), "no payload"),
        (letter(payload="###", encoding="base64"), "base64"),
        (letter(topic="events.jsonl", payload="{"), "--to"),
        (letter(topic="events.jsonl", payload='{"type": "unheard.of"}'), "--to"),
        (letter(topic="events.jsonl", payload="[1]"), "--to"),
    ],
)
def test_what_cannot_go_back_stays_and_says_why(stays: DeadLetter, why: str) -> None:
    found = plan(stays, {})
    assert isinstance(found, Refusal)
    assert why in found.why


def test_a_whole_payload_of_the_greatest_size_is_not_taken_for_a_cut_one() -> None:
    payload = '"' + "x" * (MAX_RECORD_BYTES - 2) + '"'
    assert returned(plan(letter(payload=payload), {})).payload == payload.encode()


def test_each_letter_is_chosen_once_and_by_all_that_is_asked() -> None:
    letters = [
        letter(id="1"),
        letter(id="1"),
        letter(id="2", reason="late"),
        letter(id="3", topic="other"),
    ]
    none: frozenset[str] = frozenset()
    assert [each.id for each in wanted(letters, none, none, none)] == ["1", "2", "3"]
    assert [each.id for each in wanted(letters, frozenset({"late"}), none, none)] == ["2"]
    assert [each.id for each in wanted(letters, none, frozenset({"other"}), none)] == ["3"]
    assert [each.id for each in wanted(letters, frozenset({"late"}), frozenset({"other"}), none)] == []
    assert [each.id for each in wanted(letters, none, none, frozenset({"1", "3"}))] == ["1", "3"]


def test_a_line_that_is_no_letter_is_named(tmp_path: Path) -> None:
    file = tmp_path / "letters.jsonl"
    file.write_bytes(msgspec.json.encode(letter()) + b'\n{"type": "engagement"}\n')
    found = read_lines(file)
    assert next(found) == letter()
    with pytest.raises(ConfigError, match=r"letters\.jsonl:2: not a dead letter"):
        next(found)
