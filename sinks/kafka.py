"""Write records to Kafka so that an epoch is only over when the brokers have confirmed every record of it."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from time import monotonic

import structlog
from bytewax.outputs import StatefulSinkPartition
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from prometheus_client import Counter

from schemas.batches import Records
from schemas.errors import AttuneError, ConfigError, TerminalError, TransientError
from schemas.registry import OUTBOUND
from sinks.parts import SpreadSink

SENT = Counter("attune_kafka_sent", "Records handed to a producer", ["topic"])
ERRORS = Counter("attune_kafka_sink_errors", "Errors that Kafka producers reported", ["code"])

LOG_EVERY_S = 10.0
SLICE_S = 0.2
"""How long a wait lasts before deliveries are looked at again."""

RawMessage = tuple[str, int | None, bytes | None, bytes | None]
"""Topic, partition (None: by key), key, value."""

Headers = list[tuple[str, str | bytes | None]]

_OURS = {
    "bootstrap.servers": "set bootstrap_servers instead",
    "enable.idempotence": "without it a retry may repeat and reorder",
    "acks": "a record counts as written when all replicas have it",
    "partitioner": "a session's records must lie where the other clients' partitioner puts them",
    "delivery.report.only.error": "the sink counts deliveries its own way",
}
_HINTS = {
    KafkaError.MSG_SIZE_TOO_LARGE: "raise max.message.bytes of the topic (a producer's own limit is message.max.bytes)",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant WRITE on the topic to this user",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant IDEMPOTENT_WRITE to this user",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check user, password and mechanism in the Kafka options",
    KafkaError._AUTHENTICATION: "check user, password and mechanism in the Kafka options",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create it with `attune topics create`",
    KafkaError._UNKNOWN_TOPIC: "create it with `attune topics create`",
    KafkaError._UNKNOWN_PARTITION: "the topic has fewer partitions",
    KafkaError.TOPIC_EXCEPTION: "that is no valid topic name",
    KafkaError.INVALID_RECORD: "the broker refuses the record: compare the topic's settings",
}


@dataclass(frozen=True, kw_only=True)
class KafkaSinkConfig:
    """Where records are written. ``options`` are librdkafka settings (SASL, TLS) and may hold secrets.

    ``delivery_timeout_s`` is how long a record may wait for its brokers before the flow gives up; 0: for ever, which
    is back-pressure on the source. ``queue_mib`` bounds what one sink part holds.
    """

    bootstrap_servers: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    delivery_timeout_s: float = 0.0
    queue_mib: int = 64

    def __post_init__(self) -> None:
        faults = [f"option {key!r} can't be set here: {why}" for key, why in _OURS.items() if key in self.options]
        if not self.bootstrap_servers.strip():
            faults.append("bootstrap_servers is empty: give host:port, several separated by commas")
        if self.delivery_timeout_s < 0:
            faults.append(f"delivery_timeout_s is {self.delivery_timeout_s}: can't be negative")
        if self.queue_mib <= 0:
            faults.append(f"queue_mib is {self.queue_mib}: must be above 0")
        if faults:
            raise ConfigError("Kafka sink settings: " + "; ".join(faults))

    def producer(self) -> dict[str, str | int | bool]:
        """Return the configuration of a producer."""
        return {
            # What is done about a visitor must not wait for company; a backlog fills batches all the same.
            "linger.ms": 1,
            "batch.num.messages": 10_000,
            "compression.type": "lz4",
            # A dead letter carries 64 KiB of payload, in which JSON may escape every byte as six.
            "message.max.bytes": 1_000_000,
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": self.queue_mib * 1024,
            "reconnect.backoff.max.ms": 2000,
            # Errors reach us through callbacks; librdkafka's own lines would repeat them at every reconnect.
            "log_level": 2,
            **self.options,
            "message.timeout.ms": int(self.delivery_timeout_s * 1000),
            "bootstrap.servers": self.bootstrap_servers,
            "enable.idempotence": True,
            "acks": "all",
            "partitioner": "murmur2_random",
            "delivery.report.only.error": True,
        }


class KafkaSink(SpreadSink):
    """Write ``(key, Records)`` items, each record to the topic of its type (or the one that ``topics`` names).

    A key of the engine always goes to the same part, and a part has one producer, so what shares a key keeps its
    order. ``clock`` gives seconds since 1970 UTC.
    """

    def __init__(
        self,
        config: KafkaSinkConfig,
        parts: int,
        topics: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(parts, digits=5)
        self._config = config
        self._topics = {kind: entry.topic for kind, entry in OUTBOUND.items()} | dict(topics or {})
        self._clock = clock

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "KafkaSinkPart":
        """Build a part; there is nothing to resume, since ids make repeats harmless."""
        return KafkaSinkPart(Delivery(self._config), self._topics, self._clock)


class KafkaSinkPart(StatefulSinkPartition[Records, None]):
    """Enqueue in `write_batch`, confirm in `snapshot`."""

    def __init__(self, delivery: "Delivery", topics: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._delivery = delivery
        self._topics = topics
        self._clock = clock

    def write_batch(self, values: list[Records]) -> None:
        """Enqueue records, waiting while the queue is full."""
        now_ms = int(self._clock() * 1000)
        headers: Headers = [("processed_ts", str(now_ms).encode())]
        for records in values:
            topic = self._topics[records.type]
            send = self._delivery.send
            for tenant, session, payload in zip(records.tenants, records.sessions, records.payloads, strict=True):
                send(topic, None, f"{tenant}/{session}".encode(), payload, now_ms, headers)
            SENT.labels(topic).inc(len(records))
        self._delivery.look()

    def snapshot(self) -> None:
        """Return when every record so far is confirmed.

        Raises:
            TerminalError, TransientError: a record could not be delivered.
        """
        self._delivery.confirm()

    def close(self) -> None:
        """Confirm what is left; the engine took its last snapshot before."""
        self._delivery.confirm()


class Delivery:
    """A producer whose failures are remembered until somebody looks. Used by one thread."""

    def __init__(self, config: KafkaSinkConfig) -> None:
        self._servers = config.bootstrap_servers
        self._failed: AttuneError | None = None
        self._last_error = ""
        self._log = structlog.get_logger(__name__)
        conf = config.producer() | {"error_cb": self._on_error, "on_delivery": self._on_delivery}
        self._producer = Producer(conf)

    def send(
        self,
        topic: str,
        partition: int | None,
        key: bytes | None,
        value: bytes | None,
        timestamp_ms: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Enqueue one record behind all others, waiting while the queue is full.

        Raises:
            TerminalError, TransientError: this record can't be sent, or an earlier one could not be delivered.
        """
        where = -1 if partition is None else partition
        waiting = _Waiting()
        while True:
            try:
                self._producer.produce(
                    topic, value=value, key=key, partition=where, timestamp=timestamp_ms, headers=headers
                )
            except BufferError:
                self._producer.poll(SLICE_S)
                self._raise()
                self._tell(waiting)
            except KafkaException as failure:
                raise _failure(failure.args[0], topic) from failure
            else:
                return

    def look(self) -> None:
        """Raise what has failed by now; don't wait."""
        self._producer.poll(0)
        self._raise()

    def confirm(self) -> None:
        """Wait until every record is confirmed, however long the brokers are away; raise if one failed for good."""
        waiting = _Waiting()
        while self._producer.flush(SLICE_S):
            self._raise()
            self._tell(waiting)
        self._raise()

    def _tell(self, waiting: "_Waiting") -> None:
        if waiting.due():
            self._log.warning(
                "kafka_sink_waits",
                servers=self._servers,
                unconfirmed=len(self._producer),
                waited_s=round(waiting.seconds(), 1),
                last_error=self._last_error,
            )

    def _raise(self) -> None:
        # Kept: after a failure the part must not confirm anything any more.
        if self._failed is not None:
            raise self._failed

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        # Called for failures only. librdkafka has retried what can be: a failure that gets here is final.
        if error is not None:
            ERRORS.labels(error.name()).inc()
            self._failed = self._failed or _failure(error, message.topic() or "?")

    def _on_error(self, error: KafkaError) -> None:
        ERRORS.labels(error.name()).inc()
        self._last_error = error.str()
        if error.fatal() or error.code() in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
            self._failed = self._failed or _failure(error, "any")


class _Waiting:
    """How long something has been waited for, and whether it is time to say so."""

    def __init__(self) -> None:
        self._since = self._told = monotonic()

    def seconds(self) -> float:
        return monotonic() - self._since

    def due(self) -> bool:
        if monotonic() - self._told < LOG_EVERY_S:
            return False
        self._told = monotonic()
        return True


def _failure(error: KafkaError, topic: str) -> TerminalError | TransientError:
    said = f"Kafka: a record could not be written to topic {topic}: {error.str()} ({error.name()})"
    if error.code() in _HINTS:
        return TerminalError(f"{said}: {_HINTS[error.code()]}")
    if error.fatal():
        return TerminalError(f"{said}: the producer can't go on: restart the flow")
    return TransientError(f"{said}: restart the flow, it goes on from its last epoch")


def produce_raw(config: KafkaSinkConfig, messages: Iterable[RawMessage]) -> int:
    """Write messages as they are, in their order; return how many, all of them confirmed.

    Raises:
        TerminalError, TransientError: one could not be written; those before it may have been.
    """
    delivery = Delivery(config)
    count = 0
    for topic, partition, key, value in messages:
        delivery.send(topic, partition, key, value)
        count += 1
    delivery.confirm()
    return count
