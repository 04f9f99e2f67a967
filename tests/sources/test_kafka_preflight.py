"""What is looked at before the start, and what `attune topics create` makes."""

from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from schemas.errors import TerminalError, TransientError
from schemas.registry import INBOUND_TOPICS, OUTBOUND_TOPICS
from sources.kafka import Connection, KafkaSource, check, create_topics
from tests.fix_kafka import Broker, make_topics
from tests.sources.kafka_parts import config


def test_everything_that_is_wrong_is_told_at_once(kafka: str, topic: str) -> None:
    a, b, gone = f"{topic}-a", f"{topic}-b", f"{topic}-gone"
    make_topics(kafka, a)
    make_topics(kafka, b, partitions=3)
    with pytest.raises(TerminalError) as caught:
        KafkaSource(config(kafka, a, b, gone, f"{gone}-too")).list_parts()
    told = str(caught.value)
    assert f"{gone} does not exist" in told
    assert f"{gone}-too does not exist" in told
    assert f"{a} has 1, {b} has 3" in told


def test_looking_creates_nothing(kafka: str, topic: str) -> None:
    for _ in range(2):
        with pytest.raises(TerminalError, match="does not exist"):
            check(config(kafka, topic))


def test_a_producers_clock_is_warned_of(kafka: str, topic: str) -> None:
    a, b = f"{topic}-a", f"{topic}-b"
    make_topics(kafka, a, partitions=2)
    make_topics(kafka, b, partitions=2, stamp="CreateTime")
    found = check(config(kafka, a, b))
    assert found.partitions == {a: 2, b: 2}
    assert found.parts == 2
    assert len(found.warnings) == 1
    assert b in found.warnings[0]
    assert "late and early" in found.warnings[0]


def test_topics_are_made_once_and_differences_told(kafka_broker: Broker) -> None:
    connection = Connection(bootstrap_servers=kafka_broker.address)
    inbound = list(INBOUND_TOPICS)
    first = create_topics(connection, 2, 1)
    assert first == [(name, "created") for name in (*inbound, *OUTBOUND_TOPICS)]
    assert set(dict(create_topics(connection, 2, 1)).values()) == {"exists"}
    assert check(config(kafka_broker.address, *inbound)).warnings == ()
    other = dict(create_topics(connection, 3, 1, create_time=True))
    assert other[OUTBOUND_TOPICS[0]] == "differs: it has 2 partitions, not 3"
    assert other[inbound[0]] == (
        "differs: it has 2 partitions, not 3; message.timestamp.type is LogAppendTime, not CreateTime"
    )


def test_rights_that_are_missing_are_named(tmp_path: Path, kafka: str) -> None:
    guarded = Broker(
        tmp_path,
        {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
        },
    )
    guarded.start()
    try:
        make_topics(guarded.address, "open", "seen", "hidden")
        rule(guarded.address, "seen", AclPermissionType.ALLOW)
        rule(guarded.address, "hidden", AclPermissionType.DENY)
        with pytest.raises(TerminalError) as caught:
            check(config(guarded.address, "open", "seen", "hidden"))
    finally:
        guarded.kill()
    told = str(caught.value)
    assert "open" not in told
    assert "seen: this user may not READ it" in told
    assert "hidden: this user may not DESCRIBE it" in told


def rule(address: str, topic: str, permission: AclPermissionType) -> None:
    """Allow everybody to describe a topic, and thereby no more, or deny it."""
    binding = AclBinding(
        ResourceType.TOPIC,
        topic,
        ResourcePatternType.LITERAL,
        "User:ANONYMOUS",
        "*",
        AclOperation.DESCRIBE,
        permission,
    )
    admin = AdminClient({"bootstrap.servers": address})
    for answer in admin.create_acls([binding]).values():
        answer.result()


def test_topics_can_not_be_made_without_a_broker() -> None:
    with pytest.raises(TransientError, match="did not answer"):
        create_topics(Connection(bootstrap_servers="127.0.0.1:1"), 1, 1, timeout_s=1.0)
