"""Create the topics that Attune reads and writes, or tell where existing ones differ."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.errors import AttuneError, TerminalError, TransientError
from schemas.registry import INBOUND_TOPICS, OUTBOUND_TOPICS
from sources.kafka.faults import Heard, is_terminal, opened, terminal
from sources.kafka.preflight import ask
from sources.kafka.settings import Connection

STAMP = "message.timestamp.type"
RETRY_S = 0.1
GROUP = "attune-topics"
"""The group that librdkafka wants a name of even for asking; it is never joined."""

T = TypeVar("T")

_SILENT = (KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)
_DENIED = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)


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
        ConfigError: librdkafka does not take the options.
        TransientError: the brokers did not answer.
        TerminalError: they refused, or are not trusted.
    """
    stamp = "CreateTime" if create_time else "LogAppendTime"
    wanted = {topic: {STAMP: stamp} for topic in inbound} | {topic: {} for topic in outbound if topic not in inbound}
    admin = _Admin(connection, next(iter(wanted)), timeout_s)
    new = [
        NewTopic(topic, num_partitions=partitions, replication_factor=replication_factor, config=config)
        for topic, config in wanted.items()
    ]
    outcome = admin.create(new)
    existing = [topic for topic, what in outcome.items() if what == "exists"]
    for topic, differences in _differences(admin, existing, wanted, partitions).items():
        if differences:
            outcome[topic] = "differs: " + "; ".join(differences)
    return [(topic, outcome[topic]) for topic in wanted]


def _differences(
    admin: "_Admin", topics: list[str], wanted: dict[str, dict[str, str]], partitions: int
) -> dict[str, list[str]]:
    """Return for each existing topic in what it is not as wanted."""
    found: dict[str, list[str]] = {topic: [] for topic in topics}
    for topic, count in admin.partitions(topics).items():
        if count != partitions:
            found[topic].append(f"it has {count} partitions, not {partitions}")
    for topic, stamp in admin.stamps([topic for topic in topics if wanted[topic]]).items():
        if stamp != wanted[topic][STAMP]:
            found[topic].append(f"{STAMP} is {stamp}, not {wanted[topic][STAMP]}")
    return found


class _Admin:
    """The admin client, whose failures say what is wrong and which right is missing."""

    def __init__(self, connection: Connection, topic: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._at = connection.bootstrap_servers
        self._heard = Heard(connection)
        # A consumer's handle asks whether there is anybody: the admin client's waits, and tells no cause.
        consumer = opened(Consumer, {**self._heard.conf(), "group.id": GROUP, "allow.auto.create.topics": False})
        ask(consumer, self._heard, topic, timeout_s)
        consumer.close()
        self._client = opened(AdminClient, connection.client())

    def create(self, new: list[NewTopic]) -> dict[str, str]:
        """Create topics; return for each ``created`` or ``exists``."""
        outcome: dict[str, str] = {}
        failed: dict[str, KafkaException] = {}
        for topic, answer in self._client.create_topics(new, request_timeout=self._timeout_s).items():
            try:
                answer.result()
                outcome[topic] = "created"
            except KafkaException as failure:
                if failure.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                    outcome[topic] = "exists"
                else:
                    failed[topic] = failure
        if failed:
            first = next(iter(failed.values()))
            alike = [topic for topic, other in failed.items() if other.args[0].code() == first.args[0].code()]
            raise self._fault(alike, first.args[0], "CREATE") from first
        return outcome

    def partitions(self, topics: list[str]) -> dict[str, int]:
        """Return the number of partitions of topics that exist."""
        if not topics:
            return {}

        def describe() -> dict[str, int]:
            answers = self._client.describe_topics(TopicCollection(topics), request_timeout=self._timeout_s)
            return {topic: len(self._result(topic, answer, "DESCRIBE").partitions) for topic, answer in answers.items()}

        return self._once_known(describe)

    def stamps(self, topics: list[str]) -> dict[str, str]:
        """Return whose timestamps the records of topics have."""
        if not topics:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]

        def describe() -> dict[str, str]:
            answers = self._client.describe_configs(resources, request_timeout=self._timeout_s)
            return {
                resource.name: str(self._result(resource.name, answer, "DESCRIBE_CONFIGS")[STAMP].value)
                for resource, answer in answers.items()
            }

        return self._once_known(describe)

    def _once_known(self, describe: Callable[[], T]) -> T:
        """Ask about topics that exist until the broker asked knows them: it learns of new ones a little later."""
        until = time.monotonic() + self._timeout_s
        while True:
            try:
                return describe()
            except TerminalError as error:
                cause = error.__cause__
                unknown = isinstance(cause, KafkaException) and cause.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART
                if not unknown or time.monotonic() > until:
                    raise
                time.sleep(RETRY_S)

    def _result(self, topic: str, answer: "Future[Any]", right: str) -> Any:
        try:
            return answer.result()
        except KafkaException as failure:
            raise self._fault([topic], failure.args[0], right) from failure

    def _fault(self, topics: list[str], error: KafkaError, right: str) -> AttuneError:
        """Return what to say when ``topics`` could not be dealt with; ``right`` is the one that it takes."""
        where = f"topic{'s' if len(topics) > 1 else ''} {', '.join(topics)}"
        if "waiting for controller" in error.str():
            return TransientError(
                f"Kafka at {self._at} answers, but names no controller, which alone could {right} {where}, within "
                f"{self._timeout_s:g} s: is one elected? librdkafka's mock broker, as `attune demo` runs it, never has "
                "one; the demo's topics are there already"
            )
        if error.code() in _SILENT:
            return self._heard.unanswered(error, self._timeout_s)
        if error.code() in _DENIED:
            return TerminalError(f"Kafka, {where}: this user may not {right}: grant it on topics of these names")
        if is_terminal(error):
            return terminal(error, where)
        return TerminalError(f"Kafka refused to {right} {where}: {error.str()} ({error.name()})")
