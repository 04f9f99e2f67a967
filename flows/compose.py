"""The composition root: wires a flow to the configured Kafka, database and gateway, and takes it all down again."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import structlog
from bytewax.dataflow import Dataflow
from bytewax.outputs import Sink

from flows import conductor, fanout, metrics
from flows.engine import Placement
from flows.settings import Settings, convert, servers
from flows.settings.advice import unproven
from flows.settings.tenants import CurrentTenants
from flows.stoppable import Stoppable
from flows.tenants import TenantsWatcher
from schemas.batches import RawBatch, Records
from schemas.errors import ConfigError, TransientError
from schemas.inbound import InterventionOutcome
from schemas.registry import OUTBOUND, OUTCOMES
from sinks.kafka import Delivery, KafkaSink
from sinks.postgres import PostgresSink, is_away, preflight
from sinks.websocket import handout
from sinks.websocket.access import own_origins
from sinks.websocket.gateway import Gateway
from sinks.websocket.pages import OK, Answer
from sinks.websocket.revoked import Revoked
from sinks.websocket.sink import WebsocketSink
from sources.kafka import KafkaSource, Position, Status, check_writable

_log = structlog.get_logger(__name__)

RecordSink = Sink[tuple[str, Records]]

SINKS: Final = ("kafka", "database", "gateway")
"""Where a conductor can write."""

OUTCOME_TIMEOUT_S: Final = 10.0
"""How long an outcome may wait for the brokers before whoever told it hears that it could not be written."""

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
    hand_out: tuple[str, ...] = (),
) -> Iterator[Composed]:
    """Give the flow ``name`` (conductor, archive or gateway), with its servers running until the context ends.

    ``stop`` ends its sources. ``sinks`` are those of a conductor (empty: Kafka, the gateway, and the database if one
    is configured); ``extra`` are added to them. ``hand_out``: whoever sits at this machine gets tokens from the
    gateway, for one of these tenants, the first unless another one is asked for.

    Raises:
        AttuneError: an address is taken, the database does not fit, a setting is missing.
    """
    with ExitStack() as stack:
        house = _House(settings, placement, stop, stack, hand_out)
        if name == "conductor":
            flow = _conductor(house, sinks, extra or {})
        elif name == "archive":
            topics = servers.outbound_topics(settings.kafka)
            flow = fanout.build(name, house.source(topics, "archive"), house.database())
        elif name == "gateway":
            names = settings.kafka.topics
            topics = tuple(names.get(e.topic, e.topic) for e in OUTBOUND.values() if e.topic not in NO_CHANNEL)
            recent = datetime.now(UTC) - timedelta(seconds=settings.gateway.lookback_s)
            flow = fanout.build(name, house.source(tuple(dict.fromkeys(topics)), "gateway", recent), house.gateway())
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

    def __init__(
        self,
        settings: Settings,
        placement: Placement,
        stop: threading.Event,
        stack: ExitStack,
        hand_out: tuple[str, ...],
    ) -> None:
        self.settings = settings
        self.told: list[str] = []
        self._hand_out = hand_out
        self._has_database = False
        self.origins: tuple[str, ...] = ()
        self._placement = placement
        self._stop = stop
        self._stack = stack
        self._status = Status()

    @property
    def workers(self) -> int:
        """Workers of all processes."""
        return self._placement.workers * max(1, len(self._placement.addresses))

    def source(
        self, topics: tuple[str, ...], reader: str = "", since: datetime | None = None
    ) -> Stoppable[RawBatch, Position]:
        """Return the source of these topics; a ``reader`` has a consumer group of its own, and may begin ``since``."""
        kafka = self.settings.kafka
        if since is not None:
            kafka = kafka.model_copy(update={"start": "timestamp", "start_timestamp": since})
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
        self._has_database = True
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
        section = self.settings.gateway
        tokens = servers.tokens(section)
        if tokens is None:
            _log.warning("websocket gateway: no gateway.keys: whoever is on this machine sees all tenants")
        for each in unproven(self.settings):
            _log.warning("websocket gateway: what it offers is not known after a restart", why=each)
        gateway = Gateway(
            servers.gateway_config(section),
            ready=self._ready,
            verify=tokens.verify if tokens else None,
            revoked=Revoked(section.revoked),
            write=_Outcomes(self.settings) if tokens else None,
            receipts=servers.receipts(section),
            pages=self._handout(),
        )
        gateway.start()
        self._stack.callback(gateway.stop)
        self.told.append(f"dashboard  {gateway.url}")
        self.origins = own_origins(self.settings.gateway.host, gateway.port)
        return WebsocketSink(gateway)

    def _handout(self) -> dict[str, Answer]:
        """Return the page that hands out tokens, if there is to be one."""
        section = self.settings.gateway
        if not self._hand_out:
            return {}
        name, key = next(iter(section.keys.items()))
        what = (servers.token_key(name, key), section.issuer, section.audience, self._hand_out)
        return {handout.PATH: handout.Handout(*what, section.origins)}

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
        stalled, stuck = self._status.stalled(), self._status.stuck(self.settings.gateway.idle_after_s)
        parts = {
            "gateway": OK,
            "kafka": f"no answer from {', '.join(stalled)}" if stalled else OK,
            "flow": f"no progress in partition {', '.join(stuck)}" if stuck else OK,
        }
        if self._has_database:
            parts["database"] = "away" if is_away() else OK
        return parts


class _Outcomes:
    """Writes outcomes of interventions to their topic and returns when they are there; called by the recorder."""

    def __init__(self, settings: Settings) -> None:
        self._config = servers.sink_config(settings.kafka, OUTCOME_TIMEOUT_S)
        self._topic = settings.kafka.topics.get(OUTCOMES, OUTCOMES)
        self._delivery: Delivery | None = None

    def __call__(self, events: Sequence[InterventionOutcome]) -> None:
        delivery = self._delivery or Delivery(self._config)
        # A producer that has failed stays failed: the next attempt makes a new one.
        self._delivery = None
        for event in events:
            key = f"{event.tenant_id}/{event.session_id}".encode()
            delivery.send(self._topic, None, key, msgspec.json.encode(event))
        delivery.confirm()
        self._delivery = delivery


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
