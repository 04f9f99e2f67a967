"""How a Kafka cluster is reached and read: frozen settings, checked when they are made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.errors import ConfigError

Start = Literal["earliest", "latest", "committed", "timestamp"]
OnDataLoss = Literal["stop", "oldest"]

OURS = {
    "bootstrap.servers": "set bootstrap_servers instead",
    "group.id": "set group_id instead",
    "enable.auto.commit": "offsets are committed only after every sink has confirmed",
    "enable.auto.offset.store": "offsets are committed only after every sink has confirmed",
    "auto.offset.reset": "a lost offset must stop the flow or be counted: set on_data_loss instead",
    "enable.partition.eof": "the merge of topics needs it",
}
"""librdkafka settings that belong to the source, and why nobody else may set them."""


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where the cluster is, and any librdkafka setting on top (SASL, TLS, fetch sizes).

    ``options`` may hold secrets and is therefore left out of the representation.
    """

    bootstrap_servers: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if faults := self._faults():
            raise ConfigError("Kafka settings: " + "; ".join(faults))

    def _faults(self) -> list[str]:
        faults = [f"option {key!r} can't be set here: {why}" for key, why in OURS.items() if key in self.options]
        if not self.bootstrap_servers.strip():
            faults.append("bootstrap_servers is empty: give host:port, several separated by commas")
        return faults

    def client(self) -> dict[str, Any]:
        """Return what every client of this cluster is configured with."""
        # What goes wrong reaches us through callbacks and is counted; librdkafka's own lines on stderr would repeat
        # it at every reconnect, so only what is critical passes.
        return {"log_level": 2, **self.options, "bootstrap.servers": self.bootstrap_servers}


@dataclass(frozen=True, kw_only=True)
class SourceConfig(Connection):
    """What is read, from where, and how far it may be trusted.

    ``topics`` are kept sorted: the order in which records of the same timestamp are merged. ``start`` (with
    ``start_ts``, milliseconds, for ``timestamp``) counts only for what has no snapshot. ``on_data_loss`` decides about
    offsets that the broker no longer has. With ``equal_partitions`` all topics must have the same number of
    partitions; without it part i reads partition i of those topics that have one.

    ``batch_size`` is in records, ``buffer_mib`` bounds what one part holds back while it waits for a topic that is
    behind. ``clock_margin_s`` is how far the wall clock stays back when it stands in for stream time.
    """

    topics: tuple[str, ...]
    group_id: str
    start: Start = "earliest"
    start_ts: int | None = None
    on_data_loss: OnDataLoss = "stop"
    equal_partitions: bool = True
    batch_size: int = 65_536
    buffer_mib: int = 64
    poll_s: float = 0.02
    clock_every_s: float = 0.25
    clock_margin_s: float = 1.0
    stall_after_s: float = 30.0
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "topics", tuple(sorted(set(self.topics))))
        super().__post_init__()

    def _faults(self) -> list[str]:
        faults = super()._faults()
        if not self.topics:
            faults.append("topics is empty: name at least one")
        if not self.group_id.strip():
            faults.append("group_id is empty: offsets are committed under it")
        if self.start not in ("earliest", "latest", "committed", "timestamp"):
            faults.append(f"start is {self.start!r}: expected earliest, latest, committed or timestamp")
        if (self.start == "timestamp") != (self.start_ts is not None):
            faults.append("start = timestamp and start_ts (milliseconds since 1970 UTC) go together")
        if self.on_data_loss not in ("stop", "oldest"):
            faults.append(f"on_data_loss is {self.on_data_loss!r}: expected stop or oldest")
        for name in ("batch_size", "buffer_mib", "poll_s", "clock_every_s", "stall_after_s", "timeout_s"):
            if getattr(self, name) <= 0:
                faults.append(f"{name} is {getattr(self, name)}: must be above 0")
        if self.clock_margin_s < 0:
            faults.append(f"clock_margin_s is {self.clock_margin_s}: can't be negative")
        return faults

    def consumer(self) -> dict[str, Any]:
        """Return the configuration of a part's consumer."""
        return {
            # One consumer a part: librdkafka's defaults (64 MiB and 100,000 messages ahead) would be paid that often.
            "queued.max.messages.kbytes": 16 * 1024,
            "queued.min.messages": 4 * self.batch_size,
            "fetch.max.bytes": 16 * 1024 * 1024,
            # Small helpings keep the topics in step, so that few must be held (a held topic's queue is fetched again):
            # three topics were read at 800,000 records/s by 512 KiB, at 600,000 by 2 MiB. Larger records still come.
            "fetch.message.max.bytes": 512 * 1024,
            "fetch.wait.max.ms": 100,
            # A full queue is looked at again after a second by default: a pause of that length in every backlog.
            "fetch.queue.backoff.ms": 10,
            "fetch.error.backoff.ms": 100,
            "reconnect.backoff.max.ms": 2000,
            **self.client(),
            "group.id": self.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
        }
