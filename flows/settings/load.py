"""Reads the file and the environment, and tells every fault at once: key, expected, got, and where it came from.

Written over plain pydantic rather than a settings library because those drop what they do not know: an unknown
variable would be silence, a list that is not JSON would hide all other faults, and none says which file or variable
a bad value came from.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from flows.settings.fields import off
from flows.settings.model import Settings
from flows.settings.secrecy import MASK, is_secret_name, mask_text
from schemas.errors import ConfigError

PREFIX: Final = "ATTUNE_"
DEFAULT_FILE: Final = Path("attune.toml")
NOT_SETTINGS: Final = frozenset({"ATTUNE_CONFIG", "ATTUNE_DEBUG"})
"""Variables with the prefix that are for the command, not settings."""
FOR_TESTS: Final = "ATTUNE_TEST_"
"""Variables that tell the tests which servers and data to use."""

Key = tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: ``key`` is the dotted setting, ``where`` the file (and line) or the variable."""

    key: str
    problem: str
    where: str

    def __str__(self) -> str:
        return f"{self.key}: {self.problem} ({self.where})"


class SettingsError(ConfigError):
    """The settings cannot be used. ``faults`` has all reasons."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__("\n".join([f"{count} in the configuration", *(f"  {fault}" for fault in faults)]))


def config_file(chosen: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the file to read: the chosen one, ``ATTUNE_CONFIG``, or ``./attune.toml`` if there is one.

    Raises:
        SettingsError: the chosen one, or the one that the variable names, is not there.
    """
    named = chosen or (Path(environ["ATTUNE_CONFIG"]) if environ.get("ATTUNE_CONFIG") else None)
    if named is None:
        return DEFAULT_FILE if DEFAULT_FILE.is_file() else None
    if not named.is_file():
        where = "--config" if chosen else "ATTUNE_CONFIG"
        raise SettingsError([Fault("configuration file", f'expected a file that is there, got "{named}"', where)])
    return named


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the file, lay the environment over it, and check the whole.

    Raises:
        SettingsError: with every fault of both layers.
    """
    settings, faults = Layers.read(path, environ).settings()
    if settings is None or faults:
        raise SettingsError(faults)
    return settings


@dataclass(frozen=True)
class Layers:
    """The file with the environment over it: the ``tree`` of values, where each came from, and what was no layer."""

    tree: dict[str, Any]
    file: Path | None
    _lines: dict[Key, int]
    _origin: dict[Key, str]
    _faults: tuple[Fault, ...]

    @classmethod
    def read(cls, path: Path | None, environ: Mapping[str, str] | None) -> "Layers":
        """Read both.

        Raises:
            SettingsError: the file that was named is not there.
        """
        environ = os.environ if environ is None else environ
        file = config_file(path, environ)
        tree, lines, faults = _read(file) if file else ({}, {}, [])
        origin: dict[Key, str] = {}
        for name, key, value in _variables(environ):
            if _assign(tree, key, value):
                origin[key] = name
            else:
                faults.append(Fault(".".join(key), "expected a table above it, got a plain value", name))
        return cls(tree, file, lines, origin, tuple(faults))

    def settings(self) -> tuple[Settings | None, list[Fault]]:
        """Return the settings, None if there are none, and every fault of the layers."""
        try:
            return Settings.model_validate(self.tree), [*self._faults]
        except ValidationError as error:
            return None, [*self._faults, *(self._fault(detail) for detail in error.errors(include_url=False))]

    def where(self, key: Key) -> str:
        """Return the variables or the place in the file that a setting, or what a section contains, came from."""
        origin = self._origin.items()
        variables = [name for other, name in origin if other[: len(key)] == key or key[: len(other)] == other]
        if variables:
            return ", ".join(variables)
        if self.file is None:
            return "default"
        line = next((self._lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in self._lines), None)
        return f"{self.file}:{line}" if line else str(self.file)

    def _fault(self, detail: ErrorDetails) -> Fault:
        key = _real_key(tuple(str(part) for part in detail["loc"]), self.tree)
        if detail["type"] == "extra_forbidden":
            problem = f"unknown key, {_did_you_mean(key)}"
        elif detail["type"] == "missing":
            problem = "must be there: expected a value, got nothing"
        else:
            got = "" if isinstance(detail["input"], dict | BaseModel) else f", got {_shown(key, detail['input'])}"
            problem = f"expected {_expected(detail)}{_or_off(key)}{got}"
        return Fault(".".join(key) or "settings", problem, self.where(key))


def _read(file: Path) -> tuple[dict[str, Any], dict[Key, int], list[Fault]]:
    try:
        text = file.read_text(encoding="utf-8")
        return tomllib.loads(text), dict(_lines(text)), []
    except tomllib.TOMLDecodeError as error:
        return {}, {}, [Fault("configuration file", f"expected TOML, got {error}", str(file))]
    except (OSError, UnicodeDecodeError) as error:
        return {}, {}, [Fault("configuration file", f"expected readable UTF-8, got {error}", str(file))]


_HEADER = re.compile(r"^\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?$")
_PAIR = re.compile(r"""^\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def _lines(text: str) -> Iterator[tuple[Key, int]]:
    """Yield each key of a TOML text with its line; what stands inside a multi-line value does not matter."""
    section: Key = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            section = tuple(part.strip("\"'") for part in _PART.findall(header[1]))
            yield section, number
        elif pair := _PAIR.match(line):
            yield section + tuple(part.strip("\"'") for part in _PART.findall(pair[1])), number


_SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$")
"""Variables that Kubernetes sets for a service whose name begins with ``attune-``."""


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, Key, Any]]:
    """Yield ``variable, key, value`` of each setting in the environment, in the order of the names."""
    for name in sorted(environ):
        if _SERVICE_LINK.search(name) or (name.endswith("_PORT") and "://" in environ[name]):
            continue
        if name.startswith(PREFIX) and name not in NOT_SETTINGS and not name.startswith(FOR_TESTS):
            key = tuple(name[len(PREFIX) :].lower().split("__"))
            if len(key) == 3 and key[:2] == ("kafka", "options"):
                # A variable's name has no dots, librdkafka's options have nothing else.
                key = (*key[:2], key[2].replace("_", "."))
            yield name, key, _value(environ[name], key)


def _value(text: str, key: Key) -> Any:
    """Return lists and tables that are written as JSON as such, and everything else as the text it is."""
    if text[:1] in ("[", "{") and not is_secret_name(key[-1]):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _assign(tree: dict[str, Any], key: Key, value: Any) -> bool:
    """Put a value into the tree; False if a part of the key already holds a plain value."""
    table: Any = tree
    for part in key[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            return False
    if isinstance(value, dict) and isinstance(table.get(key[-1]), dict):
        table[key[-1]].update(value)
    else:
        table[key[-1]] = value
    return True


def _real_key(loc: Key, tree: Any) -> Key:
    """Cut off what pydantic adds to a location (the branches of a union), which is no key of the tree."""
    for depth, part in enumerate(loc):
        if not isinstance(tree, dict):
            return loc[:depth]
        tree = tree.get(part)
    return loc


_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,20}://", re.IGNORECASE)


def _shown(key: Key, value: object) -> str:
    """Return what was got, for the eyes: secrets masked, long values cut."""
    # What stands where a key's table belongs is most likely the key.
    if any(map(is_secret_name, key)) or _is_secret_field(key) or ("keys" in key and key[-1] != "origins"):
        # Of an address, what it begins with is no secret, and may be the fault.
        scheme = _SCHEME.match(value) if isinstance(value, str) and key[-1] == "url" else None
        return f'"{scheme[0]}{MASK}"' if scheme else MASK
    text = f'"{mask_text(value)}"' if isinstance(value, str) else mask_text(repr(value))
    return text if len(text) <= 80 else f"{text[:77]}..."


def _section(key: Key) -> type[BaseModel] | None:
    """Return the model that a section's key leads to, None if there is none. Names in a table of tables are free."""
    model: type[BaseModel] | None = Settings
    named: type[BaseModel] | None = None
    for part in key:
        if named is not None:
            model, named = named, None
            continue
        field = model.model_fields.get(part) if model else None
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()
        found = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if found is None:
            return None
        model, named = (found, None) if found is kinds[0] else (None, found)
    return model


def _field(key: Key) -> FieldInfo | None:
    section = _section(key[:-1]) if key else None
    return section.model_fields.get(key[-1]) if section else None


def _is_secret_field(key: Key) -> bool:
    field = _field(key)
    return field is not None and SecretStr in (field.annotation, *get_args(field.annotation))


def _or_off(key: Key) -> str:
    """Say that a setting may be switched off, where it may."""
    field = _field(key)
    return ', or "off"' if field and any(getattr(each, "func", None) is off for each in field.metadata) else ""


def _did_you_mean(key: Key) -> str:
    """Say which key was probably meant: one nearly of this name here, of this name elsewhere, or with one ``_``."""
    section = _section(key[:-1])
    names = list(section.model_fields) if section else []
    if near := difflib.get_close_matches(key[-1], names, n=1, cutoff=0.6):
        return f"did you mean {'.'.join((*key[:-1], near[0]))}?"
    for name in Settings.model_fields:
        inner = _section((name,))
        tail = key[-1].removeprefix(f"{name}_")
        if inner and tail in inner.model_fields:
            return f"did you mean {name}.{tail} ({PREFIX}{name.upper()}__{tail.upper()})?"
    return f"known are {', '.join(names)}" if names else "nothing is known below it"


_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "datetime_from_date_parsing": "a time such as 2025-01-31T12:00:00Z",
    "datetime_parsing": "a time such as 2025-01-31T12:00:00Z",
    "datetime_type": "a time such as 2025-01-31T12:00:00Z",
    "dict_type": "a table",
    "expected": "{what}",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "model_type": "a table",
    "path_type": "a path",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "a text that is not empty",
    "string_type": "a text",
    "tuple_type": "a list",
}
"""What was expected, by pydantic's type of error and filled from its context."""


def _expected(detail: ErrorDetails) -> str:
    """Return what was expected, in our words where we have any."""
    words = _EXPECTED.get(detail["type"])
    if words is None:
        return f"something else ({detail['msg']})"
    text = words.format_map(detail.get("ctx", {}))
    return text.replace("'", '"') if detail["type"] == "literal_error" else text
