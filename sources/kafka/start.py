"""Find the offsets to start from where there is no snapshot, as offsets and not as "the end" or "the beginning".

A snapshot must hold what was decided: "latest" decided again after a crash would skip what came in between.
"""

import structlog
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaException, TopicPartition

from schemas.errors import TransientError
from sources.kafka.faults import is_terminal, terminal
from sources.kafka.settings import SourceConfig


def starting_offsets(config: SourceConfig, consumer: Consumer, topics: list[str], partition: int) -> dict[str, int]:
    """Return by the start policy where to begin in ``partition`` of each of ``topics``. Blocks up to ``timeout_s``.

    Raises:
        TransientError: the brokers did not answer.
        TerminalError: they refused.
    """
    if not topics:
        return {}
    try:
        return _Finder(config, consumer, partition).find(topics)
    except KafkaException as failure:
        error = failure.args[0]
        where = f"finding where to start in partition {partition} of {', '.join(topics)}"
        if is_terminal(error):
            raise terminal(error, where) from failure
        raise TransientError(f"Kafka, {where}: {error.str()}: is the cluster up?") from failure


class _Finder:
    def __init__(self, config: SourceConfig, consumer: Consumer, partition: int) -> None:
        self._config = config
        self._consumer = consumer
        self._partition = partition

    def find(self, topics: list[str]) -> dict[str, int]:
        start = self._config.start
        if start == "committed":
            return self._committed(topics)
        if start == "timestamp":
            found = self._listed(topics, self._config.start_ts or 0)
            # -1: no record is as late as that; the first one to come will be.
            return found | self._listed([topic for topic in topics if found[topic] < 0], OFFSET_END)
        return self._listed(topics, OFFSET_BEGINNING if start == "earliest" else OFFSET_END)

    def _committed(self, topics: list[str]) -> dict[str, int]:
        places = [TopicPartition(topic, self._partition) for topic in topics]
        found = self._offsets(self._consumer.committed(places, self._config.timeout_s))
        missing = [topic for topic in topics if found[topic] < 0]
        if missing:
            structlog.get_logger(__name__).warning(
                "kafka_group_has_no_commit",
                group=self._config.group_id,
                partition=self._partition,
                topics=missing,
                starting_from="earliest",
            )
        return found | self._listed(missing, OFFSET_BEGINNING)

    def _listed(self, topics: list[str], when: int) -> dict[str, int]:
        """Return the first offset at or after ``when`` (ms), where the protocol's -2 and -1 are beginning and end."""
        if not topics:
            return {}
        places = [TopicPartition(topic, self._partition, when) for topic in topics]
        return self._offsets(self._consumer.offsets_for_times(places, self._config.timeout_s))

    @staticmethod
    def _offsets(places: list[TopicPartition]) -> dict[str, int]:
        for place in places:
            if place.error is not None:
                raise KafkaException(place.error)
        return {place.topic: place.offset for place in places}
