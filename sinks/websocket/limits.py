"""Every bound of the gateway in one place, because what a stranger can connect to must not be able to grow."""

from dataclasses import dataclass, fields

from schemas.errors import ConfigError
from schemas.registry import CHANNELS

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Limits:
    """What the hub allows; all of it for one client unless said otherwise.

    ``clients``: connections in all; ``clients_per_user`` and ``clients_per_address``: of each; ``strangers``: that have
    not shown a token yet, in all. ``sessions``: named in one subscription. ``message_bytes``: a message from a client.
    ``messages_per_s`` and ``messages_burst``: how often it may say something; ``inbound_bytes_per_s`` and
    ``inbound_bytes_burst``: how much, whatever it is. ``faults``: bad messages before it is closed. ``queue_records``
    and ``queue_bytes``: what may wait for it. ``snapshot_records`` and ``snapshot_bytes``: what it is told first, for
    each channel; ``latest_records``: of those, of a channel other than engagement, of each tenant. ``history_sessions``
    and ``history_records``: what is kept for each tenant, newest engagement and records of every channel (of these at
    most ``snapshot_bytes``); ``history_bytes``: kept in all. ``stale_ms``: engagement this much older (event time) than
    its tenant's newest is of a session that ended unseen. ``offers``: interventions, and outcomes of them, that are
    remembered in all.

    Raises:
        ConfigError: a limit is not positive, or two of them contradict each other.
    """

    clients: int = 10_000
    clients_per_user: int = 20
    clients_per_address: int = 1_000
    strangers: int = 1_000
    sessions: int = 100
    message_bytes: int = 16 * KIB
    messages_per_s: float = 10.0
    messages_burst: int = 30
    inbound_bytes_per_s: int = 32 * KIB
    inbound_bytes_burst: int = 64 * KIB
    faults: int = 10
    queue_records: int = 20_000
    queue_bytes: int = 10 * MIB
    snapshot_records: int = 2_000
    snapshot_bytes: int = 1 * MIB
    latest_records: int = 200
    history_sessions: int = 20_000
    history_records: int = 1_000
    history_bytes: int = 64 * MIB
    stale_ms: int = 35 * 60 * 1000
    offers: int = 50_000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigError(f"gateway limit {field.name}: expected a number above 0, got {value}")
        if self.inbound_bytes_burst < 2 * self.message_bytes:
            raise ConfigError(
                f"gateway limit inbound_bytes_burst: expected at least twice message_bytes ({self.message_bytes}), got"
                f" {self.inbound_bytes_burst}: a client would be closed for a message that is allowed"
            )
        first = {"records": max(self.snapshot_records, self.history_records), "bytes": self.snapshot_bytes}
        for what, at_most in first.items():
            queue = getattr(self, f"queue_{what}")
            if at_most * len(CHANNELS) >= queue:
                raise ConfigError(
                    f"gateway limit queue_{what}: expected more than {len(CHANNELS)} channels times what is told first"
                    f" of each ({at_most}), got {queue}: a client would be dropped for that"
                )
