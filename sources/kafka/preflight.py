"""Look at everything the source needs before it starts, and tell all that is wrong at once."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from time import monotonic
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, ClusterMetadata, ConfigResource, ResourceType

from schemas.errors import TerminalError
from sources.kafka.faults import Heard, opened
from sources.kafka.settings import Connection, SourceConfig

POLL_S = 0.1
FIRST_S = 0.5
"""How long the first question for a topic waits for its answer; each further one twice as long."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was found: the number of partitions of each topic, and what works less well than it could."""

    partitions: dict[str, int]
    warnings: tuple[str, ...]

    @property
    def parts(self) -> int:
        """The number of partition streams: the highest number of partitions."""
        return max(self.partitions.values())


def check(config: SourceConfig) -> Cluster:
    """Check brokers, topics, rights and partition counts. A question that gets no answer blocks for ``timeout_s``.

    Raises:
        ConfigError: librdkafka does not take the options.
        TransientError: the brokers do not answer.
        TerminalError: they and we refuse each other; topics are missing, may not be read, or don't have the same number
            of partitions; offsets may not be committed to the group: lists all.
    """
    found = _Found(config, config.group_id, config.topics, config.timeout_s)
    admin, partitions, faults = found.admin, found.partitions, found.faults
    if found.settings_known:
        faults += _rights(admin, list(partitions), AclOperation.READ, config.timeout_s)
        faults += _group_rights(admin, config)
    if config.equal_partitions and len(set(partitions.values())) > 1:
        counts = ", ".join(f"{topic} has {count}" for topic, count in sorted(partitions.items()))
        faults.append(
            "the topics must have the same number of partitions, because partition i of all is read as one stream, "
            f"but {counts}: create them again with `attune topics create`"
        )
    if faults:
        raise TerminalError(f"Kafka at {config.bootstrap_servers}: " + "; ".join(faults))
    if not found.settings_known:
        return Cluster(partitions, (_unknown_stamp(config.topics),))
    return Cluster(partitions, _timestamps(admin, config))


def check_writable(connection: Connection, group_id: str, topics: Sequence[str], timeout_s: float) -> None:
    """Check that topics exist and may be written. Takes as long as `check`; ``group_id`` is only a name to ask under.

    Raises:
        ConfigError: librdkafka does not take the options.
        TransientError: the brokers do not answer.
        TerminalError: they and we refuse each other, or topics are missing or may not be written; lists all.
    """
    found = _Found(connection, group_id, topics, timeout_s)
    faults = found.faults
    if found.settings_known:
        faults += _rights(found.admin, list(found.partitions), AclOperation.WRITE, timeout_s)
    if faults:
        raise TerminalError(f"Kafka at {connection.bootstrap_servers}: " + "; ".join(faults))


class _Found:
    """What the brokers know of topics: partitions of those that can be seen, faults of the others."""

    def __init__(self, connection: Connection, group_id: str, topics: Sequence[str], timeout_s: float) -> None:
        heard = Heard(connection)
        # A consumer's handle asks: a producer's may create the topic by asking.
        consumer = opened(Consumer, {**heard.conf(), "group.id": group_id, "allow.auto.create.topics": False})
        self.partitions: dict[str, int] = {}
        self.faults: list[str] = []
        self.settings_known = True
        for topic in topics:
            cluster = ask(consumer, heard, topic, timeout_s)
            # librdkafka's mock cluster names a controller that is not there: it knows no rights and no settings.
            self.settings_known = cluster.controller_id in cluster.brokers
            found = cluster.topics[topic]
            if found.error is None:
                self.partitions[topic] = len(found.partitions)
            else:
                self.faults.append(_missing(topic, found.error))
        consumer.close()
        self.admin = opened(AdminClient, connection.client())


def ask(consumer: Consumer, heard: Heard, topic: str, timeout_s: float) -> ClusterMetadata:
    """Return what the brokers know of a topic. A refusal is told at once, silence after ``timeout_s``.

    Raises:
        TransientError: no answer.
        TerminalError: one side refuses the other.
    """
    end = monotonic() + timeout_s
    patience = FIRST_S
    while True:
        left = end - monotonic()
        # Who is asked hears nothing else: short questions first, and at least half of the time for the last one.
        wait = left if left < 2 * patience else patience
        try:
            cluster: ClusterMetadata = consumer.list_topics(topic, timeout=max(POLL_S, wait))
        except KafkaException as failure:
            consumer.poll(POLL_S)  # Brings what the client has to say of the cause.
            # A broker that hangs up ends the question at once: it may be about to start.
            if heard.refused() or monotonic() >= end:
                raise heard.unanswered(failure.args[0], timeout_s) from failure
            patience *= 2
        else:
            return cluster


def _missing(topic: str, error: KafkaError) -> str:
    """Say why a topic can't be seen."""
    if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        return f"{topic} does not exist: create it with `attune topics create`"
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return f"{topic}: this user may not DESCRIBE it, or it does not exist"
    return f"{topic}: {error.str()} ({error.name()})"


def _rights(admin: AdminClient, topics: list[str], right: AclOperation, timeout_s: float) -> list[str]:
    """Return a fault for each topic that this user may see but not read (or write)."""
    if not topics:
        return []
    described = admin.describe_topics(
        TopicCollection(topics), include_authorized_operations=True, request_timeout=timeout_s
    )
    faults = []
    for topic, answer in described.items():
        try:
            allowed = answer.result().authorized_operations
        except KafkaException as failure:
            faults.append(f"{topic}: {failure.args[0].str()}")
            continue
        # None or empty: the broker does not say (no authorizer, or an old broker).
        if allowed and right not in allowed:
            faults.append(f"{topic}: this user may not {right.name} it")
    return faults


def _group_rights(admin: AdminClient, config: SourceConfig) -> list[str]:
    """Return a fault if this user may not commit to the group."""
    # Not left to the look-up of committed offsets: there a missing right shows as a coordinator that is never found.
    described = admin.describe_consumer_groups(
        [config.group_id], include_authorized_operations=True, request_timeout=config.timeout_s
    )
    try:
        allowed = described[config.group_id].result().authorized_operations
    except KafkaException as failure:
        # A coordinator that is away is waited for when offsets are looked up and committed.
        denied = failure.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED
    else:
        denied = bool(allowed) and AclOperation.READ not in allowed
    return [f"group {config.group_id}: this user may not READ it, and so not commit offsets to it"] if denied else []


def _timestamps(admin: AdminClient, config: SourceConfig) -> tuple[str, ...]:
    """Return a warning for each topic whose record timestamps are not the broker's own."""
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in config.topics]
    answers = admin.describe_configs(resources, request_timeout=config.timeout_s)
    types = {resource.name: _timestamp_type(answer) for resource, answer in answers.items()}
    unknown = sorted(topic for topic, kind in types.items() if kind is None)
    warnings = [
        f"{topic}: message.timestamp.type is {kind}, not LogAppendTime: a producer's clock drives what is late and "
        "early, and the order in which topics are merged"
        for topic, kind in sorted(types.items())
        if kind not in (None, "LogAppendTime")
    ]
    if unknown:
        warnings.append(_unknown_stamp(unknown))
    return tuple(warnings)


def _unknown_stamp(topics: Iterable[str]) -> str:
    return f"message.timestamp.type can't be read of {', '.join(topics)}: it should be LogAppendTime"


def _timestamp_type(answer: "Future[Any]") -> str | None:
    # The right to describe a topic's configuration is not needed to read it, and some brokers don't answer.
    try:
        return str(answer.result()["message.timestamp.type"].value)
    except (KafkaException, KeyError):
        return None
