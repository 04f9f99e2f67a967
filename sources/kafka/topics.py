"""Create the topics that Attune reads and writes, or tell where existing ones differ."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.errors import TerminalError, TransientError
from schemas.registry import INBOUND_TOPICS, OUTBOUND_TOPICS
from sources.kafka.faults import is_terminal, terminal
from sources.kafka.settings import Connection

STAMP = "message.timestamp.type"


def create_topics(
    connection: Connection,
    partitions: int,
    replication_factor: int,
    create_time: bool = False,
    inbound: Sequence[str] = INBOUND_TOPICS,
    outbound: Sequence[str] = OUTBOUND_TOPICS,
    timeout_s: float = 10.0,
) -> list[tuple[str, str]]:
    """Create what is missing; return for every topic ``created``, ``exists`` or ``differs: ...``. May be run again.

    Inbound topics are stamped by the broker (``LogAppendTime``), or, with ``create_time``, by who wrote a recorded log.
    Nothing that exists is changed: a partition more would send a session's later events elsewhere.

    Raises:
        TransientError: the brokers did not answer.
        TerminalError: they refused.
    """
    admin = AdminClient(connection.client())
    stamp = "CreateTime" if create_time else "LogAppendTime"
    wanted = {topic: {STAMP: stamp} for topic in inbound} | {topic: {} for topic in outbound if topic not in inbound}
    new = [
        NewTopic(topic, num_partitions=partitions, replication_factor=replication_factor, config=config)
        for topic, config in wanted.items()
    ]
    outcome: dict[str, str] = {}
    for topic, answer in admin.create_topics(new, request_timeout=timeout_s).items():
        try:
            answer.result()
            outcome[topic] = "created"
        except KafkaException as failure:
            if failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise _failure(topic, failure) from failure
            outcome[topic] = "exists"
    existing = [topic for topic, what in outcome.items() if what == "exists"]
    for topic, differences in _differences(admin, existing, wanted, partitions, timeout_s).items():
        if differences:
            outcome[topic] = "differs: " + "; ".join(differences)
    return [(topic, outcome[topic]) for topic in wanted]


def _differences(
    admin: AdminClient, topics: list[str], wanted: dict[str, dict[str, str]], partitions: int, timeout_s: float
) -> dict[str, list[str]]:
    """Return for each existing topic in what it is not as wanted."""
    if not topics:
        return {}
    described = admin.describe_topics(TopicCollection(topics), request_timeout=timeout_s)
    stamped = [topic for topic in topics if wanted[topic]]
    resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in stamped]
    configs = admin.describe_configs(resources, request_timeout=timeout_s) if resources else {}
    found: dict[str, list[str]] = {topic: [] for topic in topics}
    for topic, answer in described.items():
        count = len(_result(topic, answer, lambda value: value.partitions))
        if count != partitions:
            found[topic].append(f"it has {count} partitions, not {partitions}")
    for resource, answer in configs.items():
        stamp = _result(resource.name, answer, lambda value: value[STAMP].value)
        if stamp != wanted[resource.name][STAMP]:
            found[resource.name].append(f"{STAMP} is {stamp}, not {wanted[resource.name][STAMP]}")
    return found


def _result(topic: str, answer: "Future[Any]", read: Callable[[Any], Any]) -> Any:
    try:
        return read(answer.result())
    except KafkaException as failure:
        raise _failure(topic, failure) from failure


def _failure(topic: str, failure: KafkaException) -> TerminalError | TransientError:
    error = failure.args[0]
    if is_terminal(error):
        return terminal(error, f"topic {topic}")
    if error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
        return TransientError(f"Kafka did not answer about topic {topic} ({error.str()}): is the cluster up?")
    return TerminalError(f"Kafka refused to create topic {topic}: {error.str()} ({error.name()})")
