"""The settings of the collector."""

from typing import Annotated

from pydantic import AfterValidator, Field

from flows.settings.fields import Host, Number, Origins, Port, Seconds, Section, Strings, expected
from schemas.diagnosis import CONTROL


def _clean(value: str) -> str:
    if CONTROL.search(value):
        raise expected("a text without control characters")
    return value


class CollectorKey(Section):
    """A publishable key: whose site it stands for, whose pages may use it, and how much it may send in all."""

    tenant: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_clean)]
    origins: Origins = ()
    events_per_s: Annotated[Number, Field(gt=0, le=1_000_000)] = 500.0
    burst: Annotated[int, Field(ge=100, le=10_000_000)] = 2_000


class Collector(Section):
    """The HTTP collector: its address, who may send, and how much."""

    host: Host = "127.0.0.1"
    port: Port = 8005
    behind_proxy: bool = False
    proxies: Strings = ()
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    body_bytes: Annotated[int, Field(ge=1_024, le=65_536)] = 65_536
    client_events_per_s: Annotated[Number, Field(gt=0, le=1_000_000)] = 50.0
    client_burst: Annotated[int, Field(ge=100, le=10_000_000)] = 200
    body_timeout_s: Annotated[Seconds, Field(le=300)] = 10.0
    confirm_timeout_s: Annotated[Seconds, Field(le=60)] = 5.0
    keys: dict[str, CollectorKey] = Field(default_factory=dict)
