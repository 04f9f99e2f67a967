"""Reads dead letters: from the file of a replay, or from the whole of their topic as it is now."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from schemas.errors import ConfigError, TerminalError, TransientError
from schemas.outbound import DeadLetter
from sources.kafka.faults import Heard, opened
from sources.kafka.preflight import ask
from sources.kafka.settings import Connection


def read_lines(file: Path) -> Iterator[DeadLetter]:
    """Yield the dead letters of a file of JSON lines.

    Raises:
        ConfigError: a line is none.
    """
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            yield _decode(line, f"{file}:{number}")


def read_topic(connection: Connection, topic: str, timeout_s: float) -> Iterator[DeadLetter]:
    """Yield the dead letters that lie in a topic now, from its beginning; nothing is committed.

    Raises:
        TransientError: the brokers do not answer.
        TerminalError: the topic is missing or may not be read.
    """
    # A group of its own that is never committed to: librdkafka wants a name even for reading by hand.
    heard = Heard(connection)
    consumer = opened(
        Consumer,
        {
            **heard.conf(),
            "group.id": f"attune-deadletters-{uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        },
    )
    try:
        filled = _filled(consumer, heard, topic, timeout_s)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in sorted(filled)])
        while filled:
            message = consumer.poll(timeout_s)
            if message is None:
                raise TransientError(f"topic {topic}: nothing for {timeout_s:g} s; is the broker up?")
            if (error := message.error()) is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise TransientError(f"topic {topic}: {error.str()}")
                filled.discard(message.partition())
            elif message.partition() in filled:
                yield _decode(message.value() or b"", f"{topic}[{message.partition()}]@{message.offset()}")
    except KafkaException as error:
        raise TransientError(f"topic {topic}: {error.args[0].str()}; is the broker up?") from error
    finally:
        consumer.close()


def _filled(consumer: Consumer, heard: Heard, topic: str, timeout_s: float) -> set[int]:
    """Return the partitions that hold anything."""
    found = ask(consumer, heard, topic, timeout_s).topics.get(topic)
    if found is None or found.error is not None:
        why = found.error.str() if found and found.error else "it does not exist"
        raise TerminalError(f"topic {topic}: {why}; run attune topics create, or check the rights of this user")
    marks = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=timeout_s) for p in found.partitions}
    return {partition for partition, (low, high) in marks.items() if high > low}


def _decode(line: bytes, where: str) -> DeadLetter:
    try:
        return msgspec.json.decode(line, type=DeadLetter)
    except msgspec.DecodeError as error:
        raise ConfigError(f"{where}: not a dead letter: {error}") from error
