"""Reads ``tenants.toml``: what a tenant, or one of its agents, has otherwise than all others.

    [defaults.chat]                      # for every tenant
    [tenants.acme.chat]                  # for one
    [tenants.acme.chat.agents.billing]   # for one of its agents

Keys that are not named are as above them, and in the end as by default.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from operators.chat.config import AGENTS, Policies, Policy, overlay
from schemas.errors import ConfigError

DEFAULT_FILE: Final = Path("tenants.toml")

DEFAULTS: Final = "defaults"
TENANTS: Final = "tenants"
CHAT: Final = "chat"
"""The part of a tenant's entry that is about chat answers."""


@dataclass(frozen=True)
class Tenants:
    """What holds for each tenant."""

    chat: Policies = field(default_factory=Policies)


def read_tenants(path: Path | None) -> Tenants:
    """Read the file (None: ``./tenants.toml`` if it is there; without one all tenants are as by default).

    Raises:
        ConfigError: it can't be read, or does not fit: the faults of all entries, each with its key.
    """
    if path is None:
        if not DEFAULT_FILE.is_file():
            return Tenants()
        path = DEFAULT_FILE
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"tenants.path: expected readable UTF-8 in {path}, got {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: expected TOML, got {error}") from error
    faults = list(_misplaced(tree))
    default = Policy()
    try:
        changes = {key: value for key, value in _table(_table(tree, DEFAULTS), CHAT).items() if key != AGENTS}
        default = overlay(default, changes, f"{DEFAULTS}.{CHAT}")
    except ConfigError as error:
        faults.append(str(error))
    entries = {tenant: _table(_table(tree, TENANTS), tenant) for tenant in _table(tree, TENANTS)}
    policies = Policies()
    try:
        policies = Policies(default, {name: _table(entry, CHAT) for name, entry in entries.items()}, _where)
    except ConfigError as error:
        faults += str(error).splitlines()
    if faults:
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in faults))
    return Tenants(policies)


def _where(tenant: str) -> str:
    return f"{TENANTS}.{tenant}.{CHAT}"


def _misplaced(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield what stands where nothing is known, or is no table where one has to be."""
    yield from _unknown(tree, (DEFAULTS, TENANTS), "")
    yield from _unknown(tree.get(DEFAULTS, {}), (CHAT,), DEFAULTS)
    if AGENTS in _table(_table(tree, DEFAULTS), CHAT):
        yield f"{DEFAULTS}.{CHAT}.{AGENTS}: agents belong to a tenant, as {TENANTS}.NAME.{CHAT}.{AGENTS}"
    tenants = tree.get(TENANTS, {})
    if not isinstance(tenants, Mapping):
        yield f"{TENANTS}: expected a table, got {tenants!r}"
        return
    for tenant, entry in tenants.items():
        yield from _unknown(entry, (CHAT,), f"{TENANTS}.{tenant}")


def _unknown(table: object, known: tuple[str, ...], where: str) -> Iterator[str]:
    if not isinstance(table, Mapping):
        yield f"{where}: expected a table, got {table!r}"
        return
    for key, value in table.items():
        name = f"{where}.{key}" if where else key
        if key not in known:
            yield f"{name}: unknown; expected one of {', '.join(known)}"
        elif not isinstance(value, Mapping):
            yield f"{name}: expected a table, got {value!r}"


def _table(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the table at a key; an empty one where there is none, or something else, which is told apart."""
    found = tree.get(key, {})
    return found if isinstance(found, Mapping) else {}
