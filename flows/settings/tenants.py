"""Reads ``tenants.toml``: what a tenant, or one of its agents, has otherwise than all others.

    [defaults.chat]                      # for every tenant
    [tenants.acme.chat]                  # for one
    [tenants.acme.chat.agents.billing]   # for one of its agents
    [defaults.interventions]
    [tenants.acme.interventions]
    [[tenants.acme.interventions.changes]]
    from = 2026-03-01T00:00:00Z          # from this event time on

Keys that are not named are as above them, and in the end as by default.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from operators.chat.config import AGENTS, Policies, Policy, overlay
from operators.interventions.policies import Policies as InterventionPolicies
from operators.interventions.policies import Policy as InterventionPolicy
from operators.interventions.reading import FOLDER
from operators.interventions.rules import collect_rules
from schemas.errors import ConfigError

DEFAULT_FILE: Final = Path("tenants.toml")

DEFAULTS: Final = "defaults"
TENANTS: Final = "tenants"
CHAT: Final = "chat"
"""The part of a tenant's entry that is about chat answers."""
INTERVENTIONS: Final = "interventions"
"""The part that is about interventions."""
_PARTS: Final = (CHAT, INTERVENTIONS)


@dataclass(frozen=True)
class Tenants:
    """What holds for each tenant."""

    chat: Policies = field(default_factory=Policies)
    interventions: InterventionPolicies = field(default_factory=InterventionPolicies)


class CurrentTenants:
    """What holds for each tenant now: operators ask it, and whoever watches the file changes it for all of them.

    >>> current = CurrentTenants(Tenants())
    >>> current.become(Tenants(interventions=InterventionPolicies({"enabled": False})))
    >>> current.interventions.of("acme", 0).enabled
    False
    """

    def __init__(self, tenants: Tenants) -> None:
        self.now = tenants
        self.chat = _CurrentChat(self)
        self.interventions = _CurrentInterventions(self)

    def become(self, tenants: Tenants) -> None:
        """Let something else hold from now on; for all threads, and for all of it at once."""
        self.now = tenants


class _CurrentChat:
    def __init__(self, current: CurrentTenants) -> None:
        self._current = current

    def of(self, tenant: str, agent: str) -> Policy:
        return self._current.now.chat.of(tenant, agent)


class _CurrentInterventions:
    def __init__(self, current: CurrentTenants) -> None:
        self._current = current

    def of(self, tenant: str, ts: int) -> InterventionPolicy:
        return self._current.now.interventions.of(tenant, ts)


def tenants_file(path: Path | None) -> Path:
    """Return the file to read: the one that is set, or ``./tenants.toml``."""
    return path or DEFAULT_FILE


def read_tenants(path: Path | None, rules: Path | None = None) -> Tenants:
    """Read the file (None: ``./tenants.toml`` if it is there; without one all tenants are as by default).

    ``rules`` is the folder with the mapping of interventions (None: the one that comes with Attune); which ones there
    are is not checked where it can't be read, for that is told where the flow begins.

    Raises:
        ConfigError: it can't be read, or does not fit: the faults of all entries, each with its key.
    """
    if path is None and not DEFAULT_FILE.is_file():
        return Tenants()
    path = tenants_file(path)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"tenants.path: expected readable UTF-8 in {path}, got {error}") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: expected TOML, got {error}") from error
    faults = list(_misplaced(tree))
    default = Policy()
    try:
        changes = {key: value for key, value in _table(_table(tree, DEFAULTS), CHAT).items() if key != AGENTS}
        default = overlay(default, changes, f"{DEFAULTS}.{CHAT}")
    except ConfigError as error:
        faults += str(error).splitlines()
    entries = {tenant: _table(_table(tree, TENANTS), tenant) for tenant in _table(tree, TENANTS)}
    policies = Policies()
    try:
        policies = Policies(default, {name: _table(entry, CHAT) for name, entry in entries.items()}, _where_chat)
    except ConfigError as error:
        faults += str(error).splitlines()
    mapping = collect_rules(rules or FOLDER, None, lambda fault: None)
    interventions = InterventionPolicies()
    try:
        interventions = InterventionPolicies(
            _table(_table(tree, DEFAULTS), INTERVENTIONS),
            {name: _table(entry, INTERVENTIONS) for name, entry in entries.items()},
            None if mapping is None else mapping.cooldowns,
            _where_interventions,
        )
    except ConfigError as error:
        faults += str(error).splitlines()
    if faults:
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in faults))
    return Tenants(policies, interventions)


def _where_chat(tenant: str) -> str:
    return f"{TENANTS}.{tenant}.{CHAT}"


def _where_interventions(tenant: str | None) -> str:
    return f"{DEFAULTS}.{INTERVENTIONS}" if tenant is None else f"{TENANTS}.{tenant}.{INTERVENTIONS}"


def _misplaced(tree: Mapping[str, Any]) -> Iterator[str]:
    """Yield what stands where nothing is known, or is no table where one has to be."""
    yield from _unknown(tree, (DEFAULTS, TENANTS), "")
    yield from _unknown(tree.get(DEFAULTS, {}), _PARTS, DEFAULTS)
    if AGENTS in _table(_table(tree, DEFAULTS), CHAT):
        yield f"{DEFAULTS}.{CHAT}.{AGENTS}: agents belong to a tenant, as {TENANTS}.NAME.{CHAT}.{AGENTS}"
    tenants = tree.get(TENANTS, {})
    if not isinstance(tenants, Mapping):
        yield f"{TENANTS}: expected a table, got {tenants!r}"
        return
    for tenant, entry in tenants.items():
        yield from _unknown(entry, _PARTS, f"{TENANTS}.{tenant}")


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
