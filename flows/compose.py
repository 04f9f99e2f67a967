"""The composition root: wires a flow to the configured Kafka, database and gateway, and takes it all down again."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from bytewax.dataflow import Dataflow
from bytewax.outputs import Sink

from flows import conductor, fanout, metrics
from flows.engine import Placement
from flows.settings import Settings, convert, servers
from flows.settings.tenants import CurrentTenants
from flows.stoppable import Stoppable
from flows.tenants import TenantsWatcher
from schemas.batches import RawBatch, Records
from schemas.errors import ConfigError, TransientError
from schemas.registry import OUTBOUND
from sinks.kafka import Delivery, KafkaSink
from sinks.postgres import PostgresSink, preflight
from sinks.websocket.access import own_origins
from sinks.websocket.gateway import Gateway
from sinks.websocket.sink import WebsocketSink
from sources.kafka import KafkaSource, Position, Status, check_writable

_log = structlog.get_logger(__name__)

RecordSink = Sink[tuple[str, Records]]

SINKS: Final = ("kafka", "database", "gateway")
"""Where a conductor can write."""

NO_CHANNEL: Final = frozenset(entry.topic for entry in OUTBOUND.values() if entry.channel is None)
"""Topics that no websocket may see, so that the flow ``gateway`` does not even read them."""


@dataclass(frozen=True, slots=True)
class Composed:
    """A flow that is ready to run, what to tell whoever started it, and the origins of the gateway's own page."""

    flow: Dataflow
    told: tuple[str, ...]
    origins: tuple[str, ...] = ()


@contextmanager
def compose(
    name: str,
    settings: Settings,
    placement: Placement,
    stop: threading.Event,
    sinks: frozenset[str] = frozenset(),
    extra: Mapping[str, RecordSink] | None = None,
) -> Iterator[Composed]:
    """Give the flow ``name`` (conductor, archive or gateway), with its servers running until the context ends.

    ``stop`` ends its sources. ``sinks`` are those of a conductor (empty: Kafka, the gateway, and the database if one
    is configured); ``extra`` are added to them.

    Raises:
        AttuneError: an address is taken, the database does not fit, a setting is missing.
    """
    with ExitStack() as stack:
        house = _House(settings, placement, stop, stack)
        if name == "conductor":
            flow = _conductor(house, sinks, extra or {})
        elif name == "archive":
            topics = servers.outbound_topics(settings.kafka)
            flow = fanout.build(name, house.source(topics, "archive"), house.database())
        elif name == "gateway":
            names = settings.kafka.topics
            topics = tuple(names.get(e.topic, e.topic) for e in OUTBOUND.values() if e.topic not in NO_CHANNEL)
            flow = fanout.build(name, house.source(tuple(dict.fromkeys(topics)), "gateway"), house.gateway())
        else:
            raise ConfigError(f"flow {name!r}: expected conductor, archive or gateway")
        house.metrics()
        yield Composed(flow, tuple(house.told), house.origins)


def _conductor(house: "_House", wanted: frozenset[str], extra: Mapping[str, RecordSink]) -> Dataflow:
    settings = house.settings
    if unknown := wanted - set(SINKS):
        raise ConfigError(f"sinks {sorted(unknown)}: expected some of {', '.join(SINKS)}")
    if not wanted:
        wanted = frozenset(("kafka", "gateway", *(("database",) if settings.database.url else ())))
    make: dict[str, Callable[[], RecordSink]] = {
        "kafka": house.kafka,
        "database": house.database,
        "gateway": house.gateway,
    }
    sinks: dict[str, RecordSink] = {name: make[name]() for name in SINKS if name in wanted}
    tenants = house.tenants()
    config = convert.conductor_config(settings, tenants)
    if config.shards < house.workers:
        _log.warning("some workers have nothing to do", shards=config.shards, workers=house.workers)
    source = house.source(servers.inbound_topics(settings.kafka))
    return conductor.build(config, source, {**sinks, **extra})


class _House:
    """Makes the parts of a flow in one process; what must be stopped again is put on the stack."""

    def __init__(self, settings: Settings, placement: Placement, stop: threading.Event, stack: ExitStack) -> None:
        self.settings = settings
        self.told: list[str] = []
        self.origins: tuple[str, ...] = ()
        self._placement = placement
        self._stop = stop
        self._stack = stack
        self._status = Status()

    @property
    def workers(self) -> int:
        """Workers of all processes."""
        return self._placement.workers * max(1, len(self._placement.addresses))

    def source(self, topics: tuple[str, ...], reader: str = "") -> Stoppable[RawBatch, Position]:
        """Return the source of these topics; a ``reader`` has a consumer group of its own."""
        kafka = self.settings.kafka
        group = f"{kafka.group_id}-{reader}" if reader else kafka.group_id
        return Stoppable(KafkaSource(servers.source_config(kafka, topics, group), self._status), self._stop)

    def tenants(self) -> CurrentTenants:
        """Return what holds for each tenant, read again when its file changes."""
        watcher = TenantsWatcher(self.settings.tenants.path, self.settings.interventions.rules)
        watcher.start()
        self._stack.callback(watcher.stop)
        return watcher.current

    def kafka(self) -> RecordSink:
        """Return the sink that writes to the output topics, which must be there and may be written."""
        kafka = self.settings.kafka
        topics = tuple(servers.topics_by_type(kafka).values())
        check_writable(servers.connection(kafka), kafka.group_id, topics, kafka.preflight_timeout_s)
        return KafkaSink(servers.sink_config(kafka), self.workers, servers.topics_by_type(kafka))

    def database(self) -> RecordSink:
        """Return the sink that writes to the database, which must fit; that it is away now is only told."""
        try:
            if waiting := preflight(servers.conninfo(self.settings.database)):
                _log.warning("migrations are waiting: run `attune db migrate`", names=waiting)
        except TransientError as error:
            _log.warning("the database is away: the flow waits for it", error=str(error))
        return PostgresSink(servers.postgres_config(self.settings.database, _Refused(self.settings), self.workers))

    def gateway(self) -> RecordSink:
        """Return the sink that writes to websockets; the gateway is hosted by the first process."""
        if self._placement.process_id != 0:
            return WebsocketSink(None, local=False)
        gateway = Gateway(servers.gateway_config(self.settings.gateway), ready=self._ready)
        gateway.start()
        self._stack.callback(gateway.stop)
        self.told.append(f"dashboard  {gateway.url}")
        self.origins = own_origins(self.settings.gateway.host, gateway.port)
        return WebsocketSink(gateway)

    def metrics(self) -> None:
        """Answer scrapes; each process of a cluster on the port after the one before it."""
        section = self.settings.metrics
        if section.enabled:
            port = section.port and section.port + self._placement.process_id
            server = metrics.serve(section.host, port)
            self._stack.callback(server.close)
            self.told.append(f"metrics    {server.url}")

    def _ready(self) -> Mapping[str, str]:
        """Tell the health check what works."""
        stalled = self._status.stalled()
        return {"gateway": "ok", "kafka": f"no answer from {', '.join(stalled)}" if stalled else "ok"}


class _Refused:
    """Writes the dead letters of rows that the database refused to their topic; called from the writing threads."""

    def __init__(self, settings: Settings) -> None:
        self._config = servers.sink_config(settings.kafka)
        self._topic = servers.topics_by_type(settings.kafka)["dead_letter"]
        self._lock = threading.Lock()
        self._delivery: Delivery | None = None

    def __call__(self, letters: Records) -> None:
        with self._lock:
            self._delivery = self._delivery or Delivery(self._config)
            for tenant, session, payload in zip(letters.tenants, letters.sessions, letters.payloads, strict=True):
                self._delivery.send(self._topic, None, f"{tenant}/{session}".encode(), payload)
            self._delivery.confirm()
