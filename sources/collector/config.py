"""Where the collector listens, who may send, and every bound on what a stranger can make it do."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Final

from schemas.errors import ConfigError
from schemas.exposure import check_origins, check_plain
from schemas.inbound import MAX_RECORD_BYTES
from schemas.registry import INBOUND

SNIPPET: Final = Path(__file__).parents[2] / "dashboard" / "attune.js"
MAX_EVENTS: Final = 100
"""Events of one batch."""

TOPICS: Final[Mapping[str, str]] = {
    kind: entry.topic for kind, entry in INBOUND.items() if kind.startswith("telemetry.") or kind == "emotion.observed"
}
"""The types that are collected, with their default topics. All others are the platform's own to tell."""

_KEY = re.compile(r"[A-Za-z0-9_.-]{8,128}")


@dataclass(frozen=True, slots=True)
class Key:
    """A publishable key: whose site it stands for, whose pages may use it, and how much it may send in all."""

    tenant: str
    origins: frozenset[str] = frozenset()
    events_per_s: float = 500.0
    burst: int = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectorConfig:
    """The settings of one collector; durations in seconds.

    ``topics`` by type. ``proxies`` are the addresses and networks whose ``X-Forwarded-For`` is believed.
    ``client_events_per_s`` and ``client_burst`` hold for each address that sends (each /64 of IPv6). ``late_after_ms``:
    what lies so far behind the stream when its tick is over can't be counted any more. A body must be there within
    ``body_timeout_s``, Kafka's confirmation within ``confirm_timeout_s``.

    Raises:
        ConfigError: lists everything that is wrong.
    """

    keys: Mapping[str, Key]
    topics: Mapping[str, str] = field(default_factory=lambda: TOPICS)
    host: str = "127.0.0.1"
    port: int = 8005
    behind_proxy: bool = False
    proxies: tuple[str, ...] = ()
    max_connections: int = 1_000
    body_bytes: int = MAX_RECORD_BYTES
    client_events_per_s: float = 50.0
    client_burst: int = 200
    late_after_ms: int = 7_000
    body_timeout_s: float = 10.0
    confirm_timeout_s: float = 5.0
    snippet: Path = SNIPPET

    def __post_init__(self) -> None:
        faults = []
        for check in (self._check_keys, self._check_proxies, self._check_host):
            try:
                check()
            except ConfigError as error:
                faults.append(str(error))
        if faults:
            raise ConfigError("\n".join(faults))

    def _check_keys(self) -> None:
        if not self.keys:
            raise ConfigError(
                "collector.keys: expected at least one key, got none: nobody could send. Make one up and say whose it"
                ' is:\n    [collector.keys."pk-4f2a90c1"]\n    tenant = "acme"\n'
                '    origins = ["https://shop.example.org"]'
            )
        for name, key in self.keys.items():
            if not _KEY.fullmatch(name):
                raise ConfigError(f'collector.keys: expected 8 to 128 of letters, digits and "_.-", got "{name}"')
            check_origins(f"collector.keys.{name}.origins", sorted(key.origins))
        least = min(self.client_burst, *(key.burst for key in self.keys.values()))
        if least < MAX_EVENTS:
            raise ConfigError(f"collector: expected bursts of at least a batch ({MAX_EVENTS} events), got {least}")

    def _check_proxies(self) -> None:
        for proxy in self.proxies:
            try:
                ip_network(proxy)
            except ValueError:
                raise ConfigError(f'collector.proxies: expected an address or a network, got "{proxy}"') from None
        if self.behind_proxy and not self.proxies:
            raise ConfigError(
                "collector.proxies: behind a proxy all clients seem to have its address: name it here, so that"
                " the X-Forwarded-For that it writes is believed"
            )

    def _check_host(self) -> None:
        check_plain("collector", self.host, behind_proxy=self.behind_proxy)
