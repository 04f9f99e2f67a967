"""The source itself: as many parts as the topics have partitions."""

import time
from collections.abc import Callable
from threading import Lock

import structlog
from bytewax.inputs import FixedPartitionedSource

from schemas.batches import RawBatch
from sources.kafka.ends import Ends
from sources.kafka.part import KafkaPart, Position
from sources.kafka.preflight import Cluster, check
from sources.kafka.reader import Reader
from sources.kafka.settings import SourceConfig
from sources.kafka.start import starting_offsets
from sources.kafka.status import Status

ENDS_TIMEOUT_S = 2.0
"""How long a question for the ends of partitions may take; while one waits, no other part hears of its own."""


class KafkaSource(FixedPartitionedSource[RawBatch, Position]):
    """Read Kafka topics, partition i of all as one stream in the order of (record timestamp, topic, offset).

    A part resumes exactly after the last record that it handed on before its snapshot. ``clock`` gives seconds since
    1970 UTC. What goes wrong is told in `check` (before the start) or raised by the part, always as an `AttuneError`.
    """

    def __init__(
        self, config: SourceConfig, status: Status | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._status = status or Status()
        self._clock = clock
        self._ends = Ends(config.consumer(), clock, min(config.timeout_s, ENDS_TIMEOUT_S))
        self._lock = Lock()
        self._cluster: Cluster | None = None
        self._log = structlog.get_logger(__name__)

    def list_parts(self) -> list[str]:
        """Check the cluster, once for all workers of the process, and return the names of the parts."""
        return [f"{i:05d}" for i in range(self._checked().parts)]

    def build_part(self, step_id: str, for_part: str, resume_state: Position | None) -> KafkaPart:
        """Begin to read a partition where its snapshot ends, and what has none by the start policy."""
        partition = int(for_part)
        counts = self._checked().partitions
        topics = [topic for topic in self._config.topics if counts[topic] > partition]
        resumed = dict(resume_state.offsets) if resume_state else {}
        known = {topic: resumed[topic] for topic in topics if topic in resumed}
        if gone := sorted(set(resumed) - set(topics)):
            self._log.warning("kafka_topics_no_longer_read", partition=partition, topics=gone)
        reader = Reader(self._config, partition)
        new = [topic for topic in topics if topic not in known]
        offsets = known | starting_offsets(self._config, reader.consumer, new, partition)
        self._log.info(
            "kafka_part_starts",
            step=step_id,
            partition=partition,
            resumed=sorted(known),
            start=self._config.start,
            new=new,
        )
        start = Position(resume_state.stream_time if resume_state else 0, tuple(sorted(offsets.items())))
        return KafkaPart(self._config, partition, reader, self._ends, self._status, self._clock, start)

    def _checked(self) -> Cluster:
        with self._lock:
            if self._cluster is None:
                self._cluster = check(self._config)
                for warning in self._cluster.warnings:
                    self._log.warning("kafka_topic_setting", warning=warning)
            return self._cluster
