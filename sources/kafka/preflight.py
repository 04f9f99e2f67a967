"""Look at everything the source needs before it starts, and tell all that is wrong at once."""

from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient, ConfigResource, ResourceType

from schemas.errors import TerminalError, TransientError
from sources.kafka.settings import SourceConfig


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
    """Check brokers, topics, rights and partition counts. Blocks for ``timeout_s`` twice at most.

    Raises:
        TransientError: the brokers do not answer.
        TerminalError: topics are missing, may not be read, or don't have the same number of partitions; lists all.
    """
    heard: list[KafkaError] = []
    client = {**config.client(), "error_cb": heard.append}
    # A consumer's handle asks: a producer's may create the topic by asking.
    consumer = Consumer({**client, "group.id": config.group_id, "allow.auto.create.topics": False})
    partitions: dict[str, int] = {}
    faults: list[str] = []
    settings_known = True
    for topic in config.topics:
        try:
            cluster = consumer.list_topics(topic, timeout=config.timeout_s)
        except KafkaException as failure:
            consumer.poll(0)  # Brings what the callback has to say of the cause.
            raise _unanswered(config, failure.args[0], heard) from failure
        # librdkafka's mock cluster names a controller that is not there: it knows no rights and no settings.
        settings_known = cluster.controller_id in cluster.brokers
        found = cluster.topics[topic]
        if found.error is None:
            partitions[topic] = len(found.partitions)
        else:
            faults.append(_missing(topic, found.error))
    consumer.close()
    admin = AdminClient(client)
    if settings_known:
        faults += _rights(admin, config, list(partitions))
    if config.equal_partitions and len(set(partitions.values())) > 1:
        counts = ", ".join(f"{topic} has {count}" for topic, count in sorted(partitions.items()))
        faults.append(
            "the topics must have the same number of partitions, because partition i of all is read as one stream, "
            f"but {counts}: create them again with `attune topics create`"
        )
    if faults:
        raise TerminalError(f"Kafka at {config.bootstrap_servers}: " + "; ".join(faults))
    if not settings_known:
        return Cluster(partitions, (_unknown_stamp(config.topics),))
    return Cluster(partitions, _timestamps(admin, config))


def _missing(topic: str, error: KafkaError) -> str:
    """Say why a topic can't be seen."""
    if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        return f"{topic} does not exist: create it with `attune topics create`"
    if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return f"{topic}: this user may not DESCRIBE it, or it does not exist"
    return f"{topic}: {error.str()} ({error.name()})"


def _unanswered(config: SourceConfig, error: KafkaError, heard: list[KafkaError]) -> TransientError | TerminalError:
    """Say why the brokers did not answer, as far as the client knows."""
    refused = [e for e in heard if e.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL)]
    if refused:
        return TerminalError(
            f"Kafka at {config.bootstrap_servers} refused us: {refused[-1].str()}: check the Kafka options"
        )
    causes = "; ".join(dict.fromkeys(e.str() for e in heard if e.code() != KafkaError._ALL_BROKERS_DOWN))
    return TransientError(
        f"Kafka at {config.bootstrap_servers} did not answer within {config.timeout_s:g} s "
        f"({causes or error.str()}): check the address, its security settings, and that it runs"
    )


def _rights(admin: AdminClient, config: SourceConfig, topics: list[str]) -> list[str]:
    """Return a fault for each topic that this user may see but not read."""
    if not topics:
        return []
    described = admin.describe_topics(
        TopicCollection(topics), include_authorized_operations=True, request_timeout=config.timeout_s
    )
    faults = []
    for topic, answer in described.items():
        try:
            allowed = answer.result().authorized_operations
        except KafkaException as failure:
            faults.append(f"{topic}: {failure.args[0].str()}")
            continue
        # None or empty: the broker does not say (no authorizer, or an old broker).
        if allowed and AclOperation.READ not in allowed:
            faults.append(f"{topic}: this user may not READ it")
    return faults


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
