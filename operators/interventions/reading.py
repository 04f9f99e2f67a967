"""Reads a table of data that a person has written, and tells all of its faults, each with its key."""

import re
import tomllib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar, get_origin

import msgspec
from msgspec import Meta

FOLDER: Final = Path(__file__).parents[1] / "rules"
"""Where the rules and texts that come with Attune lie."""

S = TypeVar("S", bound=msgspec.Struct)
Tell = Callable[[str], None]
"""Takes a fault in."""

Clock = Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")]
Key = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-z0-9_.-]+$")]
"""The name of a rule, a pattern or an emotion."""
Name = Annotated[str, Meta(pattern="^[a-z][a-z0-9_]{0,63}$")]
"""The name of an intervention."""
_WORDS: Final = {
    "^([01][0-9]|2[0-3]):[0-5][0-9]$": 'a time of day such as "22:00"',
    "^[a-z0-9_.-]+$": "lower-case letters, digits, `_`, `.` or `-`",
    "^[a-z][a-z0-9_]{0,63}$": "at most 64 lower-case letters, digits and `_`, beginning with a letter",
}
"""The patterns of these in words."""

DEEPEST: Final = 16
"""Tables and lists in each other, at most."""
_TOO_DEEP: Final = f"expected at most {DEEPEST} tables and lists in each other"
_HEADER: Final = re.compile(r"\s*\[+\s*([^\[\]]+?)\s*\]")


def load(file: Path, tell: Tell) -> Mapping[str, Any] | None:
    """Return what a TOML file holds; None if it can't be read, which is told."""
    text = text_of(file, tell)
    return None if text is None else parsed(text, tell)


def text_of(file: Path, tell: Tell) -> str | None:
    """Return what is written in a file; None if it can't be read, which is told."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        tell(f"can't be read: {error.strerror}")
    except UnicodeDecodeError as error:
        tell(f"expected TOML in UTF-8: {error}")
    return None


def parsed(text: str, tell: Tell) -> Mapping[str, Any] | None:
    """Return what a text in TOML holds; None if it is none or has more than ``DEEPEST`` in each other, which is told.

    >>> parsed("a.b = [1", print)
    expected TOML in UTF-8: Unclosed array (at end of document)
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        tell(f"expected TOML in UTF-8: {error}")
        return None
    except RecursionError:
        tell(f"{_first_too_deep(text)}: {_TOO_DEEP}")
        return None
    deep = list(_too_deep(tree))
    for where in deep:
        tell(f"{where}: {_TOO_DEEP}")
    return None if deep else tree


def _too_deep(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield where a table or list stands in too many others."""
    open_: list[tuple[str, int, object]] = [("", 0, tree)]
    while open_:
        where, depth, found = open_.pop()
        if isinstance(found, Mapping):
            parts = [(f"{where}.{key}".removeprefix("."), value) for key, value in found.items()]
        else:
            parts = [(f"{where}[{at}]", value) for at, value in enumerate(found if isinstance(found, list) else ())]
        if parts and depth > DEEPEST:
            yield where
        else:
            open_ += [(here, depth + 1, part) for here, part in reversed(parts)]


def _first_too_deep(text: str) -> str:
    """Return the key that goes too deep to be read at all, and its line: the first that can't be left away."""
    lines = text.split("\n")
    at = bisect_left(range(len(lines)), True, key=lambda last: _goes_too_deep("\n".join(lines[: last + 1])))
    above = [found[1] for line in lines[:at] if (found := _HEADER.match(line))]
    key = lines[at].partition("=")[0].strip() if "=" in lines[at] else ""
    return f"line {at + 1}, {'.'.join([*above[-1:], key]) or 'a list'}"


def _goes_too_deep(text: str) -> bool:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return False
    except RecursionError:
        return True
    return False


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
    fits = fitting(struct, found, where, tell)
    for field in msgspec.structs.fields(struct):
        if field.required and field.encode_name not in found:
            tell(f"{where}.{field.encode_name}: missing")
            fits = False
    if fits:
        try:
            return msgspec.convert(found, struct)
        except msgspec.ValidationError as error:  # what a struct's own rule says of several values together
            tell(f"{where}{fault(error)}")
    return None


def fitting(struct: type[msgspec.Struct], found: Mapping[str, Any], where: str, tell: Tell) -> bool:
    """Return whether a table has nothing but keys of a struct with values that fit; some may be missing."""
    known = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    faults = [f"{where}.{key}: unknown; expected one of {', '.join(known)}" for key in found if key not in known]
    for key, kind in known.items():
        if key in found:
            faults += misfits(found[key], kind, f"{where}.{key}")
    for each in faults:
        tell(each)
    return not faults


def misfits(found: object, kind: Any, where: str) -> Iterator[str]:
    """Yield what is wrong with a value; of a table all entries, each by its name.

    >>> list(misfits({"a": 0.5, "b": 1.5}, dict[str, Annotated[float, Meta(le=1)]], "least"))
    ['least.b: Expected `float` <= 1.0']
    """
    parts: list[tuple[str, object]] = [(where, found)]
    if of_table := isinstance(found, Mapping) and get_origin(kind) is dict:
        parts = [(f"{where}.{key}", {key: value}) for key, value in found.items()]
    for here, part in parts:
        try:
            msgspec.convert(part, kind)
        except msgspec.ValidationError as error:
            yield here + fault(error, in_table=of_table)


def fault(error: msgspec.ValidationError, *, in_table: bool = False) -> str:
    """Return the path of a fault within its value, and what is wrong; ``in_table``: the value is a table's only one."""
    what, _, path = str(error).partition(" - at `")
    path = "" if path.startswith("key` in ") else path.strip("$`")
    path = path.removeprefix("[...]") if in_table else path
    for pattern, words in _WORDS.items():
        what = what.replace(f"Expected `str` matching regex {pattern!r}", f"expected {words}")
    return f"{path}: {what}"
