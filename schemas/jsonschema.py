"""JSON Schema (2020-12) files for whoever writes or reads the wire in another language, made from the structs.

One file for each type, with its version in its path: ``schemas/json/inbound/chat.message/1.json``. A breaking change
of a type gets a new number, and the old file stays. A record is decoded exactly if its file accepts it, but for what
JSON Schema can't say; each of these is tested in ``tests/schemas/test_jsonschema.py``:

- ``1.0`` and ``1e3`` are integers for JSON Schema, but not for the decoder;
- the decoder refuses numbers beyond a double's range, escaped halves of surrogate pairs, and records of more than
  ``schemas.inbound.MAX_RECORD_BYTES``.

``python -m schemas.jsonschema`` writes the files, ``--check`` compares them with the code.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from schemas import inbound
from schemas.registry import INBOUND, OUTBOUND

DIALECT = "https://json-schema.org/draft/2020-12/schema"
VERSION = 1
"""The version of every type so far."""

FOLDER = Path(__file__).parent / "json"
CONTROL = "[\\u0000-\\u001f\\u007f-\\u009f]"
"""A regular expression, the same in ECMA 262 and Python, that finds a control character."""

_CLEAN_ID = msgspec.json.schema(inbound.CleanId)
"""How msgspec describes an id without control characters; that rule is the decoder's, and added here."""

_GLOSSARY = Path(__file__).with_name("glossary.toml")
_REF = "#/$defs/"

Schema = dict[str, Any]
Glossary = Mapping[str, Mapping[str, str]]


def read_glossary() -> Glossary:
    """Return what the fields mean: by struct, then field; ``common`` stands for every struct."""
    glossary: Glossary = tomllib.loads(_GLOSSARY.read_text(encoding="utf-8"))
    return glossary


def types() -> Iterator[tuple[str, str, type[msgspec.Struct]]]:
    """Yield the direction, name and struct of every type on the wire."""
    yield from (("inbound", name, entry.struct) for name, entry in INBOUND.items())
    yield from (("outbound", name, entry.struct) for name, entry in OUTBOUND.items())


def schema_of(direction: str, name: str, struct: type[msgspec.Struct], glossary: Glossary) -> Schema:
    """Return the complete schema document of one type.

    >>> schema = schema_of("inbound", "reaction", inbound.Reaction, {})
    >>> schema["$id"], schema["properties"]["emoji"]
    ('urn:attune:inbound:reaction:1', {'type': 'string', 'maxLength': 64, 'minLength': 1})
    """
    _, components = msgspec.json.schema_components((struct,), ref_template=_REF + "{name}")
    for title, component in components.items():
        component["description"] = _plain(component.get("description", ""))
        for field, node in component["properties"].items():
            rule = {"not": {"pattern": CONTROL}} if node == _CLEAN_ID else {}
            component["properties"][field] = _described(node, _meaning(glossary, title, field)) | rule
    top = components.pop(struct.__name__)
    head = {"$schema": DIALECT, "$id": f"urn:attune:{direction}:{name}:{VERSION}"}
    return {**head, **top, **({"$defs": dict(sorted(components.items()))} if components else {})}


def documents() -> dict[Path, str]:
    """Return the text of every file by its path below ``FOLDER``."""
    glossary = read_glossary()
    return {
        Path(direction, name, f"{VERSION}.json"): _text(schema_of(direction, name, struct, glossary))
        for direction, name, struct in types()
    }


def stale(folder: Path = FOLDER) -> list[str]:
    """Return what is wrong with the files in a folder, one line for each that is missing or differs.

    Files of other versions are history and left alone; files of unknown types are not.
    """
    wanted = documents()
    faults = []
    for path, text in wanted.items():
        file = folder / path
        if not file.exists():
            faults.append(f"{path}: missing")
        elif file.read_text(encoding="utf-8") != text:
            faults.append(f"{path}: differs from the code")
    known = {path.parent for path in wanted}
    found = sorted(file.relative_to(folder) for file in folder.rglob("*.json"))
    return faults + [f"{path}: of a type that the registry doesn't know" for path in found if path.parent not in known]


def write(folder: Path = FOLDER) -> None:
    """Write every file."""
    for path, text in documents().items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _meaning(glossary: Glossary, struct: str, field: str) -> str | None:
    return glossary.get(struct, {}).get(field) or glossary.get("common", {}).get(field)


def _described(node: Schema, meaning: str | None) -> Schema:
    """Put a field's meaning before what its type says of itself (``0..1``, ``milliseconds since 1970 UTC``)."""
    if meaning is None:
        return node
    of_type = node.get("description", "")
    rest = {key: value for key, value in node.items() if key != "description"}
    return {"description": f"{meaning.removesuffix('.')} ({of_type})." if of_type else meaning, **rest}


def _plain(docstring: str) -> str:
    """Turn a docstring into plain text: one line, without the marks for code.

    >>> _plain("Told by ``id``,   and once.")
    'Told by id, and once.'
    """
    return " ".join(docstring.replace("``", "").split())


def _text(schema: Schema) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER) -> int:
    """Write the files, or with ``--check`` compare them; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m schemas.jsonschema", description="Write the JSON Schema files.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs from the code")
    if not parser.parse_args(arguments).check:
        write(folder)
        return 0
    faults = stale(folder)
    for fault in faults:
        sys.stderr.write(f"{folder / fault}\n")
    if faults:
        sys.stderr.write("Run `make schemas`. If the change breaks readers, raise the type's version instead.\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
