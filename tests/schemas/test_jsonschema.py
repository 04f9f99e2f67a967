"""The JSON Schema files say what the code does: generated from it, and judging documents as the decoder does."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from operators.config import WindowConfig
from operators.decode import BatchDecoder
from schemas import inbound, jsonschema, outbound
from schemas.batches import RawBatch
from tests.schemas.strategies import structs

TYPES = {(direction, name): struct for direction, name, struct in jsonschema.types()}
every_type = pytest.mark.parametrize("direction, name", TYPES, ids=str)
some_examples = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

CLEAN_IDS = ("tenant_id", "session_id", "user_id")
JUNK_TEXT = ["", "x", "x" * 129, "é" * 4001, "a\x00", "a\n", "\x85"]
JUNK = [None, True, *JUNK_TEXT, 0, -1, 2.5, -0.5, 10**30, [], [0.5], [None], {}, {"id": 1}]

REACTION: dict[str, Any] = {
    "type": "reaction",
    "event_id": "e",
    "tenant_id": "t",
    "session_id": "s",
    "user_id": "u",
    "ts": 1,
    "emoji": "👏",
}
CLICK: dict[str, Any] = {
    **{key: value for key, value in REACTION.items() if key != "emoji"},
    "type": "telemetry.click",
    "element": "buy",
    "x": 1,
    "y": 2.5,
    "page": "cart",
}


def file_of(direction: str, name: str) -> Any:
    return json.loads((jsonschema.FOLDER / direction / name / "1.json").read_text(encoding="utf-8"))


VALIDATORS = {key: Draft202012Validator(file_of(*key)) for key in TYPES}


def schema_accepts(direction: str, name: str, raw: bytes) -> bool:
    return bool(VALIDATORS[direction, name].is_valid(json.loads(raw)))


def decoder_accepts(direction: str, name: str, raw: bytes) -> bool:
    """Ask what the flow asks: the batch decoder for inbound records, msgspec for outbound ones."""
    if json.loads(raw).get("type") != name:
        return False
    if direction == "inbound":
        one = np.ones(1, np.int64)
        batch = RawBatch(0, ("events",), [raw], one, np.zeros(1, np.uint16), one, stream_time=0)
        return not len(BatchDecoder(1, WindowConfig())(batch).dead)
    try:
        msgspec.json.decode(raw, type=outbound.AnyRecord)
    except msgspec.ValidationError:
        return False
    return True


def objects_in(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value, *(found for inner in value.values() for found in objects_in(inner))]
    return [found for inner in value for found in objects_in(inner)] if isinstance(value, list) else []


@st.composite
def mutated(draw: st.DrawFn, struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Draw a valid document with up to three changes: a field missing, of another type, or unknown."""
    document: dict[str, Any] = msgspec.to_builtins(draw(structs(struct)))
    junk = st.sampled_from(JUNK).map(deepcopy)  # a later change may be made inside it
    for _ in range(draw(st.integers(1, 3))):
        target = draw(st.sampled_from(objects_in(document)))
        change = draw(st.sampled_from(["remove", "replace", "replace", "add"]))
        if change == "add" or not target:
            target[draw(st.sampled_from(["unknown", "Type", "id "]))] = draw(junk)
            continue
        field = draw(st.sampled_from(sorted(target)))
        if change == "remove":
            del target[field]
        else:
            target[field] = draw(junk)
    return document


def test_files_are_current() -> None:
    assert jsonschema.stale() == [], "run `make schemas`"


def test_stale_files_are_named(tmp_path: Path) -> None:
    jsonschema.write(tmp_path)
    assert jsonschema.stale(tmp_path) == []
    (tmp_path / "inbound/reaction/1.json").unlink()
    (tmp_path / "outbound/anomaly/1.json").write_text("{}", encoding="utf-8")
    (tmp_path / "inbound/gone").mkdir()
    (tmp_path / "inbound/gone/1.json").write_text("{}", encoding="utf-8")
    (tmp_path / "outbound/session/0.json").write_text("{}", encoding="utf-8")  # an older version: history
    assert jsonschema.stale(tmp_path) == [
        "inbound/reaction/1.json: missing",
        "outbound/anomaly/1.json: differs from the code",
        "inbound/gone/1.json: of a type that the registry doesn't know",
    ]


def test_the_command_checks_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert jsonschema.main(["--check"], tmp_path) == 1
    assert f"{tmp_path}/inbound/chat.message/1.json: missing\n" in capsys.readouterr().err
    assert jsonschema.main([], tmp_path) == 0
    assert jsonschema.main(["--check"], tmp_path) == 0
    assert capsys.readouterr().err == ""


@every_type
def test_every_file_is_a_schema(direction: str, name: str) -> None:
    schema = file_of(direction, name)
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == jsonschema.DIALECT
    assert schema["$id"] == f"urn:attune:{direction}:{name}:1"
    assert schema["properties"]["type"]["enum"] == [name]
    assert schema["title"]
    assert schema["description"]


@every_type
def test_every_field_is_described(direction: str, name: str) -> None:
    schema = file_of(direction, name)
    for part in (schema, *schema.get("$defs", {}).values()):
        bare = [field for field, node in part["properties"].items() if not node.get("description")]
        assert bare == [], f"{part['title']}: add them to schemas/glossary.toml"


def test_glossary_has_no_entry_without_a_field() -> None:
    fields: dict[str, set[str]] = {}
    for key in TYPES:
        schema = file_of(*key)
        for part in (schema, *schema.get("$defs", {}).values()):
            fields.setdefault(part["title"], set()).update(part["properties"])
    fields["common"] = set().union(*fields.values())
    entries = {struct: set(meanings) for struct, meanings in jsonschema.read_glossary().items()}
    assert {struct: names - fields.get(struct, set()) for struct, names in entries.items()} == {
        struct: set() for struct in entries
    }


@every_type
@some_examples
@given(data=st.data())
def test_what_is_encoded_is_valid(direction: str, name: str, data: st.DataObject) -> None:
    raw = msgspec.json.encode(data.draw(structs(TYPES[direction, name])))
    VALIDATORS[direction, name].validate(json.loads(raw))
    assert decoder_accepts(direction, name, raw)


@every_type
@some_examples
@given(data=st.data())
def test_decoder_and_schema_agree(direction: str, name: str, data: st.DataObject) -> None:
    raw = msgspec.json.encode(data.draw(mutated(TYPES[direction, name])))
    assert decoder_accepts(direction, name, raw) == schema_accepts(direction, name, raw), raw


@pytest.mark.parametrize("field", CLEAN_IDS)
@pytest.mark.parametrize("text", ["\x00", "a\x1fb", "a\n", "\x7f", "\x80", "\u009f"])
def test_both_refuse_control_characters_in_clean_ids(field: str, text: str) -> None:
    raw = json.dumps({**REACTION, field: text}).encode()
    assert not schema_accepts("inbound", "reaction", raw)
    assert not decoder_accepts("inbound", "reaction", raw)


def test_other_ids_may_hold_control_characters() -> None:
    raw = json.dumps({**REACTION, "event_id": "a\n"}).encode()
    assert schema_accepts("inbound", "reaction", raw)
    assert decoder_accepts("inbound", "reaction", raw)


@pytest.mark.parametrize("field", [*CLEAN_IDS, "event_id"])
@pytest.mark.parametrize("text", [" ", "~", "\u00a0", "\u2028", "\u200b", "😀" * 128])
def test_both_accept_other_characters(field: str, text: str) -> None:
    raw = json.dumps({**REACTION, field: text}, ensure_ascii=False).encode()
    assert schema_accepts("inbound", "reaction", raw)
    assert decoder_accepts("inbound", "reaction", raw)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(json.dumps({**REACTION, "ts": 1.0}), id="an integer with a fraction of zero"),
        pytest.param(json.dumps(REACTION).replace('"ts": 1', '"ts": 1e3'), id="an integer with an exponent"),
        pytest.param(json.dumps(CLICK).replace('"x": 1', '"x": 1e400'), id="a number beyond a double's range"),
        pytest.param(json.dumps({**REACTION, "emoji": "\ud800"}), id="half of a surrogate pair"),
        pytest.param(json.dumps({**REACTION, "unknown": "x" * inbound.MAX_RECORD_BYTES}), id="too long a record"),
    ],
)
def test_what_only_the_decoder_refuses(raw: str) -> None:
    """Each of these is named in the docstring of ``schemas.jsonschema``."""
    name = json.loads(raw)["type"]
    assert schema_accepts("inbound", name, raw.encode())
    assert not decoder_accepts("inbound", name, raw.encode())
