"""Turns the sections of the settings into the configurations of sources, sinks and the gateway."""

import difflib
from collections.abc import Callable, Iterable
from typing import Final

from confluent_kafka import Producer
from pydantic import SecretStr

from flows.settings.convert import conductor_config, emotion_rules, ms, window_config
from flows.settings.gateway import Gateway, TokenKey
from flows.settings.model import Database, Kafka, Settings
from flows.settings.secrecy import mask_text
from flows.settings.show import secrets
from operators.interventions.content import read_interventions
from operators.interventions.reading import FOLDER
from schemas.batches import Records
from schemas.errors import ConfigError
from schemas.registry import INBOUND_TOPICS, OUTBOUND, OUTBOUND_TOPICS
from sinks.kafka import KafkaSinkConfig
from sinks.postgres import Limits as BatchLimits
from sinks.postgres import PostgresConfig
from sinks.websocket.access import check_exposure, networks
from sinks.websocket.config import GatewayConfig
from sinks.websocket.limits import Limits
from sinks.websocket.receipts import Receipts
from sinks.websocket.revoked import Revoked
from sinks.websocket.tokens import Key, Tokens, read_key
from sources.collector.config import TOPICS as COLLECTED
from sources.collector.config import CollectorConfig
from sources.collector.config import Key as CollectorKey
from sources.kafka.faults import opened
from sources.kafka.settings import Connection, SourceConfig

TOGETHER: Final = "Failed to create producer: "
"""How librdkafka begins what it finds wrong only as it makes a client of all options."""
USUAL_OPTIONS: Final = (
    "batch.size",
    "broker.address.family",
    "client.id",
    "client.rack",
    "compression.type",
    "debug",
    "enable.ssl.certificate.verification",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.wait.max.ms",
    "linger.ms",
    "log_level",
    "max.poll.interval.ms",
    "message.max.bytes",
    "metadata.max.age.ms",
    "reconnect.backoff.max.ms",
    "reconnect.backoff.ms",
    "request.timeout.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.token.endpoint.url",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "session.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.location",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "statistics.interval.ms",
)
"""Options that people set: librdkafka does not tell the names of its own."""


def check(settings: Settings) -> None:
    """Make every configuration once, so that what only the rooms below know to be wrong is told before a start.

    Raises:
        ConfigError: with everything that is wrong.
    """
    if found := faults(settings):
        raise ConfigError("\n".join(found))


def faults(settings: Settings) -> list[str]:
    """Return what only the rooms below know to be wrong, each as ``setting: what`` where a setting is at fault."""
    gateway = settings.gateway
    made: Iterable[Callable[[], object]] = (
        lambda: conductor_config(settings),
        lambda: _check_rules(settings),
        lambda: source_config(settings.kafka, inbound_topics(settings.kafka)),
        lambda: sink_config(settings.kafka),
        lambda: gateway_config(gateway),
        lambda: networks(gateway.proxies),
        lambda: Revoked(gateway.revoked),
        lambda: check_exposure(
            gateway.host, gateway.origins, authenticated=bool(gateway.keys), behind_proxy=gateway.behind_proxy
        ),
        lambda: tokens(gateway),
        # Without keys there is no collector: only who wants to run one must make some.
        lambda: collector_config(settings) if settings.collector.keys else None,
    )
    told: list[str] = []
    for make in made:
        try:
            make()
        except ConfigError as error:
            told.append(str(error))
    # A fault that goes on in indented lines is one; else each line is.
    lines = (line for text in told for line in ([text] if "\n " in text else text.splitlines()))
    return list(dict.fromkeys(lines))


def _check_rules(settings: Settings) -> None:
    """Check what is done about emotions; which there are is not checked where their own rules can't be read."""
    try:
        rules = emotion_rules(settings)
    except ConfigError:  # told with the conductor's
        rules = None
    read_interventions(settings.interventions.rules or FOLDER, rules.emotions if rules else None)


def gateway_config(gateway: Gateway) -> GatewayConfig:
    """Return where the gateway listens."""
    return GatewayConfig(
        host=gateway.host,
        port=gateway.port,
        behind_proxy=gateway.behind_proxy,
        proxies=gateway.proxies,
        origins=gateway.origins,
        limits=Limits(
            clients=gateway.max_clients,
            clients_per_user=gateway.max_clients_per_user,
            clients_per_address=gateway.max_clients_per_address,
        ),
    )


def token_key(name: str, key: TokenKey) -> Key:
    """Return a key for tokens, read from its file if it has one.

    Raises:
        ConfigError: the file can't be read, or holds no such key.
    """
    if key.secret is not None:
        return read_key(name, key.algorithm, key.secret.get_secret_value().encode())
    assert key.file is not None  # noqa: S101 - the settings see to it that there is one of both
    try:
        material = key.file.read_bytes()
    except OSError as error:
        raise ConfigError(f"gateway.keys.{name}.file: {key.file} can't be read ({error.strerror})") from error
    return read_key(name, key.algorithm, material.strip())


def tokens(gateway: Gateway) -> Tokens | None:
    """Return what checks tokens; None without a key: nobody is authenticated.

    Raises:
        ConfigError: a key can't be used.
    """
    if not gateway.keys:
        return None
    keys = [token_key(name, key) for name, key in gateway.keys.items()]
    return Tokens(keys, gateway.issuer, gateway.audience)


def receipts(gateway: Gateway) -> Receipts:
    """Return what proves which interventions were offered: after a restart too, if there is any secret.

    Raises:
        ConfigError: a key can't be used.
    """
    if gateway.receipt_secrets:
        return Receipts([secret.get_secret_value().encode() for secret in gateway.receipt_secrets])
    keys = [token_key(name, key) for name, key in gateway.keys.items() if key.algorithm == "HS256"]
    return Receipts([key.verifying for key in keys])


def collector_config(settings: Settings) -> CollectorConfig:
    """Return where the collector listens and who may send.

    Raises:
        ConfigError: there is no key, or the address can be reached from outside without a proxy in front.
    """
    section = settings.collector
    names = settings.kafka.topics
    return CollectorConfig(
        keys={
            name: CollectorKey(key.tenant, frozenset(key.origins), key.events_per_s, key.burst)
            for name, key in section.keys.items()
        },
        topics={kind: names.get(topic, topic) for kind, topic in COLLECTED.items()},
        late_after_ms=window_config(settings.window).stream_delay_ms,
        **section.model_dump(exclude={"keys"}),
    )


def conninfo(database: Database) -> str:
    """Return how the database is reached; holds the password.

    Raises:
        ConfigError: none is configured.
    """
    if database.url is None:
        raise ConfigError(
            "database.url: expected postgresql://user:password@host:port/database, got nothing; set it in the settings "
            "file or as ATTUNE_DATABASE__URL"
        )
    return database.url.get_secret_value()


def connection(kafka: Kafka) -> Connection:
    """Return how the cluster is reached."""
    return Connection(bootstrap_servers=kafka.bootstrap_servers, options=_options(kafka))


def source_config(kafka: Kafka, topics: tuple[str, ...], group_id: str | None = None) -> SourceConfig:
    """Return how these topics are read; ``group_id`` stands in for the configured one."""
    return SourceConfig(
        bootstrap_servers=kafka.bootstrap_servers,
        options=_options(kafka),
        topics=topics,
        group_id=group_id or kafka.group_id,
        start=kafka.start,
        start_ts=ms(kafka.start_timestamp.timestamp()) if kafka.start_timestamp else None,
        on_data_loss=kafka.on_data_loss,
        stall_after_s=kafka.stall_after_s,
        timeout_s=kafka.preflight_timeout_s,
    )


def sink_config(kafka: Kafka, delivery_timeout_s: float = 0.0) -> KafkaSinkConfig:
    """Return how records are written; by default a flow waits for brokers that are away for as long as it takes."""
    return KafkaSinkConfig(
        bootstrap_servers=kafka.bootstrap_servers, options=_options(kafka), delivery_timeout_s=delivery_timeout_s
    )


def topics_by_type(kafka: Kafka) -> dict[str, str]:
    """Return the topic in use for every outbound type."""
    return {kind: kafka.topics.get(entry.topic, entry.topic) for kind, entry in OUTBOUND.items()}


def postgres_config(database: Database, on_refused: Callable[[Records], None], workers: int) -> PostgresConfig:
    """Return how rows are written; ``on_refused`` gets the dead letters of those that the database refused."""
    return PostgresConfig(
        conninfo=conninfo(database),
        parts=database.connections or workers,
        limits=BatchLimits(max_rows=database.max_rows, max_age_s=database.max_age_s),
        on_refused=on_refused,
        close_s=database.close_s,
    )


def inbound_topics(kafka: Kafka) -> tuple[str, ...]:
    """Return the inbound topics in use."""
    return tuple(sorted(kafka.topics.get(topic, topic) for topic in INBOUND_TOPICS))


def outbound_topics(kafka: Kafka) -> tuple[str, ...]:
    """Return the outbound topics in use, in the contract's order."""
    return tuple(kafka.topics.get(topic, topic) for topic in OUTBOUND_TOPICS)


def _options(kafka: Kafka) -> dict[str, str]:
    """Return librdkafka's options as it takes them: all texts, secrets laid open.

    Raises:
        ConfigError: it does not take them.
    """
    options = {key: _text(value) for key, value in kafka.options.items()}
    if whole := _refused(options):
        # Of names and values librdkafka tells the first that it does not know. What is wrong only together it tells as
        # it makes a client, often beginning with an option; then none can be judged alone.
        each = {name: said for name, value in options.items() if (said := _refused({name: value}))}
        told = [f'kafka.options."{name}": {_named(name, s)}' for name, s in each.items() if not s.startswith(TOGETHER)]
        about = next((f'."{name}"' for name in options if whole.startswith(f"{TOGETHER}{name} ")), "")
        whole = whole.removeprefix(TOGETHER)
        raise ConfigError(mask_text("\n".join(told) or f"kafka.options{about}: {whole}", secrets(kafka)))
    return options


def _refused(options: dict[str, str]) -> str:
    """Return what librdkafka says against names, values and files of options; empty if it takes them."""
    try:
        # A client without servers connects to nothing.
        opened(Producer, {"log_level": 0, **options})
    except ConfigError as error:
        return str(error).removeprefix("Kafka options: ").strip()
    return ""


def _named(name: str, said: str) -> str:
    """Say which option was probably meant, if librdkafka has none of this name."""
    if not said.startswith("No such configuration property"):
        return said
    near = difflib.get_close_matches(name, USUAL_OPTIONS, n=1, cutoff=0.6)
    return f"librdkafka has no such option{f', did you mean {near[0]}?' if near else ''}"


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value).lower() if isinstance(value, bool) else str(value)
