"""Reads a table of data that a person has written, and tells all of its faults, each with its key."""

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

FOLDER: Final = Path(__file__).parents[1] / "rules"
"""Where the rules and texts that come with Attune lie."""

S = TypeVar("S", bound=msgspec.Struct)
Tell = Callable[[str], None]
"""Takes a fault in."""


def load(file: Path, tell: Tell) -> Mapping[str, Any] | None:
    """Return what a TOML file holds; None if it can't be read, which is told."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        tell(f"can't be read: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        tell(f"expected TOML in UTF-8: {error}")
    return None


def table(found: object, where: str, tell: Tell) -> Mapping[str, Any]:
    """Return a table; an empty one, and a fault told, where something else stands."""
    if isinstance(found, Mapping):
        return found
    tell(f"{where}: expected a table, got {found!r}")
    return {}


def tables(found: object, where: str, tell: Tell) -> list[Mapping[str, Any]]:
    """Return a list of tables; without what is none, which is told."""
    if not isinstance(found, list):
        tell(f"{where}: expected a list of tables, got {found!r}")
        return []
    return [table(each, f"{where}[{at}]", tell) for at, each in enumerate(found)]


def checked(struct: type[S], found: Mapping[str, Any], where: str, tell: Tell) -> S | None:
    """Return a table as a struct; None if it has faults: unknown and missing keys, and values that don't fit.

    >>> class Pair(msgspec.Struct):
    ...     one: int
    ...     two: int
    >>> told = []
    >>> checked(Pair, {"one": "x", "tow": 2}, "pair", told.append), told
    (None, ['pair.tow: unknown; expected one of one, two', 'pair.one: Expected `int`, got `str`', 'pair.two: missing'])
    """
    known = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    faults = [f"{where}.{key}: unknown; expected one of {', '.join(known)}" for key in found if key not in known]
    for key, field in known.items():
        if key in found:
            try:
                msgspec.convert(found[key], field.type)
            except msgspec.ValidationError as error:
                faults.append(f"{where}.{key}{fault(error)}")
        elif field.required:
            faults.append(f"{where}.{key}: missing")
    if not faults:
        try:
            return msgspec.convert(found, struct)
        except msgspec.ValidationError as error:  # what a struct's own rule says of several values together
            faults.append(f"{where}{fault(error)}")
    for each in faults:
        tell(each)
    return None


def fault(error: msgspec.ValidationError) -> str:
    """Return the path of a fault within its value, and what is wrong."""
    what, _, path = str(error).partition(" - at `$")
    return f"{path.rstrip('`')}: {what}"
