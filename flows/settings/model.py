"""The settings, section by section: what each means, its default and its limits.

Durations are seconds (``_s``). A validator raises ``expected(...)``, which says what would have been right; where the
value came from and what it was is added by ``flows.settings.load``.
"""

import dataclasses
import math
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationInfo,
    create_model,
    model_validator,
)
from pydantic import field_validator as validates

from flows.settings.collector import Collector
from flows.settings.fields import Host, Number, Port, Seconds, Section, Share, expected, off, split
from flows.settings.gateway import Gateway
from flows.settings.secrecy import is_secret_name
from operators.anomalies.config import AnomalyConfig
from schemas.registry import INBOUND_TOPICS, OUTBOUND_TOPICS

OWN_OPTIONS = {
    "bootstrap.servers": "kafka.bootstrap_servers",
    "metadata.broker.list": "kafka.bootstrap_servers",
    "group.id": "kafka.group_id",
    "auto.offset.reset": "kafka.start and kafka.on_data_loss",
    "enable.auto.commit": "nothing: offsets are committed after every sink has confirmed",
    "enable.auto.offset.store": "nothing: offsets are committed after every sink has confirmed",
    "enable.partition.eof": "nothing: the merge of the topics rests on it",
    "partitioner": "nothing: it is murmur2, so that a session stays in one partition",
    "enable.idempotence": "nothing: without it a retry may repeat and reorder",
    "acks": "nothing: a record counts as written when all replicas have it",
    "delivery.report.only.error": "nothing: the sink counts deliveries its own way",
}
"""librdkafka options that are not free, and what to set instead."""


def _addresses(value: str) -> str:
    for address in value.split(","):
        host, colon, port = address.strip().rpartition(":")
        if not (host and colon and port.isdecimal() and 0 < int(port) < 65536):
            raise expected('"host:port", several separated by commas')
    return ",".join(address.strip() for address in value.split(","))


Option = bool | int | float | str | SecretStr
"""The value of a librdkafka option. Secret ones are wrapped by their name."""
_SCALAR = (bool, int, float, str)


class Kafka(Section):
    """The brokers, where reading starts, and what happens when data is gone."""

    bootstrap_servers: Annotated[str, AfterValidator(_addresses)] = "localhost:9092"
    group_id: Annotated[str, Field(min_length=1, max_length=249)] = "attune"
    start: Literal["earliest", "latest", "committed", "timestamp"] = "committed"
    start_timestamp: datetime | None = None
    on_data_loss: Literal["stop", "oldest"] = "stop"
    preflight_timeout_s: Seconds = 10.0
    stall_after_s: Seconds = 30.0
    partitions: Annotated[int, Field(ge=1, le=10_000)] = 8
    replication_factor: Annotated[int, Field(ge=-1, le=100)] = -1
    topics: dict[str, str] = Field(default_factory=dict)
    options: dict[str, Option] = Field(default_factory=dict)

    @validates("start_timestamp")
    @classmethod
    def _timestamp_belongs_to_start(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is not None and info.data.get("start", "timestamp") != "timestamp":
            raise expected('nothing, unless kafka.start is "timestamp"')
        if value is not None and value.tzinfo is None:
            raise expected("a time with its zone, such as 2025-01-31T12:00:00Z")
        return value

    @validates("topics")
    @classmethod
    def _topics_are_known(cls, value: dict[str, str]) -> dict[str, str]:
        known = {*INBOUND_TOPICS, *OUTBOUND_TOPICS}
        unknown = sorted(set(value) - known)
        if unknown:
            raise expected(f"default topic names as keys; {_quoted(unknown)} is none of {', '.join(sorted(known))}")
        if len(set(value.values())) < len(value):
            raise expected("a different name for each topic")
        if taken := sorted(set(value.values()) & (known - set(value))):
            raise expected(f"names that no other topic has by default; {_quoted(taken)} is one")
        return value

    @validates("options", mode="before")
    @classmethod
    def _options_are_free(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if own := sorted(set(value) & set(OWN_OPTIONS)):
            raise expected("; ".join(f"no {key} here (set {OWN_OPTIONS[key]})" for key in own))
        return {k: SecretStr(str(v)) if is_secret_name(k) and isinstance(v, _SCALAR) else v for k, v in value.items()}

    @model_validator(mode="after")
    def _start_needs_its_timestamp(self) -> Self:
        if self.start == "timestamp" and self.start_timestamp is None:
            raise expected('kafka.start_timestamp beside start = "timestamp"')
        return self


Days = Annotated[int, Field(ge=1, le=36_500)]


class Database(Section):
    """PostgreSQL or TimescaleDB, how rows are gathered before they are written, and how long they are kept.

    No ``connections`` is one for each worker. Sums are refreshed as far back as rows are kept, less a chunk of seven
    days; TimescaleDB wants two whole buckets there and leaves out the newest, and ``effect_days`` has buckets of a day:
    hence ten days at least.
    """

    url: SecretStr | None = None
    connections: Annotated[int, Field(ge=0, le=64)] = 0
    max_rows: Annotated[int, Field(ge=1, le=100_000)] = 5_000
    max_age_s: Annotated[Number, Field(ge=0, le=60)] = 0.2
    close_s: Seconds = 10.0
    raw_retention_days: Annotated[int | None, Field(ge=10, le=36_500), BeforeValidator(off)] = 30
    rollup_retention_days: Annotated[Days | None, BeforeValidator(off)] = 730
    columnstore_after_days: Annotated[Days | None, BeforeValidator(off)] = 7

    @validates("rollup_retention_days")
    @classmethod
    def _rollups_outlast_rows(cls, value: int | None, info: ValidationInfo) -> int | None:
        raw = info.data.get("raw_retention_days")
        if value is not None and (raw is None or value < raw) and "raw_retention_days" in info.data:
            raise expected(f"at least database.raw_retention_days ({raw if raw else 'off'})")
        return value

    @validates("url")
    @classmethod
    def _url_is_a_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or not value.get_secret_value():
            return None
        scheme, separator, _ = value.get_secret_value().partition("://")
        if scheme not in ("postgresql", "postgres") if separator else "=" not in scheme:
            raise expected("postgresql://user:password@host:port/database or libpq's 'host=... dbname=...'")
        return value


class Metrics(Section):
    """The Prometheus endpoint. With several processes each takes the next port."""

    enabled: bool = True
    host: Host = "127.0.0.1"
    port: Port = 8004


class Window(Section):
    """How events are placed in time, and how long sessions and presence last."""

    lateness_s: Annotated[Number, Field(ge=0, le=3600)] = 2.0
    early_s: Annotated[Number, Field(ge=0, le=3600)] = 5.0
    session_timeout_s: Annotated[Number, Field(ge=60, le=7 * 86_400)] = 1800.0
    presence_timeout_s: Annotated[Number, Field(ge=5, le=86_400)] = 300.0
    audience_s: Annotated[Number, Field(ge=5, le=86_400)] = 300.0
    join_timeout_s: Annotated[Seconds | None, BeforeValidator(off)] = None
    poll_timeout_s: Seconds = 600.0
    shards: Annotated[int, Field(ge=1, le=1024)] = 4

    @validates("presence_timeout_s")
    @classmethod
    def _presence_within_session(cls, value: float, info: ValidationInfo) -> float:
        session = info.data.get("session_timeout_s", math.inf)
        if value > session:
            raise expected(f"at most window.session_timeout_s ({session:g})")
        return value

    @validates("join_timeout_s")
    @classmethod
    def _join_outlasts_presence(cls, value: float | None, info: ValidationInfo) -> float | None:
        presence = info.data.get("presence_timeout_s", 0.0)
        if value is not None and value < presence:
            raise expected(f"at least window.presence_timeout_s ({presence:g}): an act must not shorten a presence")
        return value


class Weights(Section):
    """The weights of the score's terms; the one of ``leaves`` is subtracted."""

    chat: Share = 0.30
    poll: Share = 0.25
    active: Share = 0.25
    reactions: Share = 0.10
    leaves: Share = 0.10

    @model_validator(mode="after")
    def _reach_a_score(self) -> Self:
        total = math.fsum((self.chat, self.poll, self.active, self.reactions))
        if not 0 < total <= 1 + 1e-9:
            raise expected(f"chat, poll, active and reactions that add up to more than 0 and at most 1, not {total:g}")
        return self


class Ceilings(Section):
    """The counts in 60 s at which a term of the score is full."""

    chat: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    reactions: Annotated[int, Field(ge=1, le=1_000_000)] = 10


class Boundaries(Section):
    """The least score of each category; below ``low`` it is VERY_LOW."""

    very_high: Share = 0.8
    high: Share = 0.6
    moderate: Share = 0.4
    low: Share = 0.2

    @model_validator(mode="after")
    def _fall(self) -> Self:
        if not 1 >= self.very_high > self.high > self.moderate > self.low > 0:
            raise expected("very_high > high > moderate > low > 0")
        return self


class Engagement(Section):
    """How a window becomes a score and a category, and which ticks are emitted."""

    weights: Weights = Field(default_factory=Weights)
    ceilings: Ceilings = Field(default_factory=Ceilings)
    boundaries: Boundaries = Field(default_factory=Boundaries)
    emit: Literal["every_tick", "on_change"] = "every_tick"
    min_delta: Share = 0.01
    heartbeat_s: Annotated[Number, Field(ge=5, le=86_400)] = 60.0


def _kind(field: dataclasses.Field[Any]) -> Any:
    """Return the type that a number of the detector's has here: a list may be written as a variable, too."""
    return Annotated[field.type, BeforeValidator(split)] if isinstance(field.default, tuple) else field.type


_NUMBERS: dict[str, Any] = {
    field.name: (_kind(field), field.default)
    for field in dataclasses.fields(AnomalyConfig)
    if field.name != "repeat_ms"
}
_Numbers = create_model("_Numbers", __base__=Section, **_NUMBERS)
"""Made of the detector's own table, so that there is one."""


class Anomalies(_Numbers):
    """Whether anomalies are looked for, and every number of it: see ``operators.anomalies.config``. Spans are in ticks.

    Other trees (``n_trees``, ``tree_height``, ``seed``, ``window``) make sessions forget their baselines at the start.
    """

    enabled: bool = True
    repeat_s: Annotated[Number, Field(ge=0, le=86_400)] = 30.0

    @model_validator(mode="after")
    def _fit(self) -> Self:
        try:
            self.detector()
        except ValueError as error:
            raise expected(str(error).replace(": expected", " in", 1)) from error
        return self

    def detector(self) -> AnomalyConfig:
        """Return the numbers as the detector takes them."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return AnomalyConfig(**numbers, repeat_ms=round(self.repeat_s * 1000))


class Chat(Section):
    """How long conversations with people and repeats are remembered, and how calibration is told."""

    conversation_timeout_s: Seconds = 7 * 86_400.0
    repeats_kept: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    calibration_interval_s: Annotated[Number, Field(ge=60, le=366 * 86_400)] = 3_600.0
    calibration_memory_s: Seconds = 90 * 86_400.0
    wanted_escalated: Share = 0.05
    wanted_reviewed: Share = 0.20


class Interventions(Section):
    """Whether emotions are diagnosed and answered, how long interventions are known and wait for approval, and rules.

    ``rules``: the folder with ``emotions.toml``, ``interventions.toml`` and ``content.toml``; without it, those that
    come with Attune.
    """

    enabled: bool = True
    rules: Path | None = None
    memory_s: Seconds = 86_400.0
    approval_s: Seconds = 1_800.0
    pending_most: Annotated[int, Field(ge=1, le=1_000_000)] = 1_000

    @model_validator(mode="after")
    def _remember_what_waits(self) -> Self:
        if self.approval_s > self.memory_s:
            raise expected("approval_s of at most memory_s")
        return self


class Tenants(Section):
    """Where tenants' own settings are; without ``path`` in ``./tenants.toml``, if it is there."""

    path: Path | None = None


class Recovery(Section):
    """Where positions and state are kept, and how often. Without ``path`` a restart begins at ``kafka.start``."""

    path: Path | None = None
    partitions: Annotated[int, Field(ge=1, le=256)] = 4
    epoch_interval_s: Annotated[Number, Field(ge=0.1, le=3600)] = 30.0
    backup_interval_s: Annotated[Number, Field(ge=0, le=30 * 86_400)] = 0.0


class Log(Section):
    """What is logged to standard error, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class Settings(Section):
    """All of it. ``environment`` decides how loudly an insecure connection is told."""

    environment: Literal["development", "production"] = "development"
    kafka: Kafka = Field(default_factory=Kafka)
    database: Database = Field(default_factory=Database)
    gateway: Gateway = Field(default_factory=Gateway)
    metrics: Metrics = Field(default_factory=Metrics)
    collector: Collector = Field(default_factory=Collector)
    window: Window = Field(default_factory=Window)
    engagement: Engagement = Field(default_factory=Engagement)
    anomalies: Anomalies = Field(default_factory=Anomalies)
    chat: Chat = Field(default_factory=Chat)
    interventions: Interventions = Field(default_factory=Interventions)
    tenants: Tenants = Field(default_factory=Tenants)
    recovery: Recovery = Field(default_factory=Recovery)
    log: Log = Field(default_factory=Log)

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        taken: dict[int, str] = {}
        for name in ("gateway", "metrics", "collector"):
            port = int(getattr(self, name).port)
            if port and port in taken:
                raise expected(f"different ports for {taken[port]} and {name}, not {port} for both")
            taken[port] = name
        return self


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
