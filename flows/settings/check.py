"""Tells everything that is wrong at once: in the settings, and what only the parts know that they are for.

The parts can judge only what is a setting. So what has a fault already stands at its default for them, alone or, where
the rest of its section does not do without it, with all of that. What they say of it then is not told.
"""

import copy
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from flows.settings import servers
from flows.settings.load import Fault, Layers, SettingsError
from flows.settings.model import Settings
from schemas.errors import ConfigError


def check(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of the file and the environment if they, and all that is made of them, are right.

    Raises:
        ConfigError: with every fault, those of tenants' settings and rules too.
    """
    layers = Layers.read(path, environ)
    settings, faults = layers.settings()
    told = [fault.key for fault in faults]
    others = []
    for line in servers.faults(settings or _usable(layers.tree, told)):
        key, separator, problem = line.partition(": ")
        setting = key.partition(".")[0] in Settings.model_fields and "\n" not in line
        if separator and setting:
            if not any(f"{one}.".startswith(f"{key}.") or f"{key}.".startswith(f"{one}.") for one in told):
                faults.append(Fault(key, problem, layers.where(_parts(key))))
        else:
            others.append(line)
    if faults:
        raise ConfigError("\n".join([str(SettingsError(faults)), *others]))
    if others:
        raise ConfigError("\n".join(others))
    assert settings is not None  # noqa: S101 - else there are faults
    return settings


def _parts(key: str) -> tuple[str, ...]:
    """Return the parts of a setting's name; the last may have dots, in quotation marks.

    >>> _parts('kafka.options."sasl.mechanism"'), _parts("gateway.keys.main")
    (('kafka', 'options', 'sasl.mechanism'), ('gateway', 'keys', 'main'))
    """
    head, quoted, name = key.partition('."')
    return (*head.split("."), name.removesuffix('"')) if quoted else tuple(head.split("."))


def _usable(tree: Mapping[str, Any], wrong: Iterable[str]) -> Settings:
    """Return settings of what has no fault: without the keys that are ``wrong``, or else without their sections."""
    rest = copy.deepcopy(dict(tree))
    for key in wrong:
        *path, last = key.split(".")
        table: Any = rest
        for part in path:
            table = table.get(part) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table.pop(last, None)
    sections: dict[str, Any] = {}
    for name, field in Settings.model_fields.items():
        model = field.annotation
        if isinstance(model, type) and issubclass(model, BaseModel):
            with suppress(ValidationError):
                sections[name] = model.model_validate(rest.get(name, {}))
    # Without the check of the whole, which may be what failed; what is missing is a default.
    return Settings.model_construct(**sections)
