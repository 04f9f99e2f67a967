"""Prints settings as the TOML that would give them, secrets masked."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from flows.settings.model import Settings
from flows.settings.secrecy import MASK


def as_toml(settings: Settings) -> str:
    """Return all settings, defaults included, as TOML. What is off stands there as a comment.

    >>> "lateness_s = 2.0" in as_toml(Settings())
    True
    """
    return "\n".join(_table((), settings)).strip() + "\n"


def as_tree(settings: BaseModel) -> dict[str, Any]:
    """Return all settings as plain values that JSON can hold, secrets masked."""
    return {name: _plain(value) for name, value in settings}


def secrets(settings: BaseModel) -> frozenset[str]:
    """Return every secret that the settings hold, so that a log can be kept free of them."""
    return frozenset(secret for secret in _secrets(settings) if secret)


def _secrets(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, BaseModel):
        for _, inner in value:
            yield from _secrets(inner)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _secrets(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _secrets(inner)


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return as_tree(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, SecretStr):
        return MASK if value.get_secret_value() else ""
    if isinstance(value, Path):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else value


def _table(path: tuple[str, ...], section: BaseModel | Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a table, plain values first, as TOML wants it."""
    items = list(section.items()) if isinstance(section, Mapping) else list(section)
    tables = [(key, value) for key, value in items if isinstance(value, BaseModel | Mapping)]
    plain = [(key, value) for key, value in items if not isinstance(value, BaseModel | Mapping)]
    if path and (plain or not tables):
        yield f"[{'.'.join(map(_key, path))}]"
    for key, value in plain:
        yield f"# {_key(key)} is off" if value is None else f"{_key(key)} = {_toml(value)}"
    yield ""
    for key, value in tables:
        yield from _table((*path, key), value)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else json.dumps(name)


def _toml(value: object) -> str:
    plain = _plain(value)
    if isinstance(value, datetime):
        return str(plain)
    # JSON's texts, numbers, truth values and lists of them are TOML's too.
    return json.dumps(plain, ensure_ascii=False)
