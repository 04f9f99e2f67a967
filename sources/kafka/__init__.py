"""Read Kafka without losing, skipping or reordering: the source, its settings, and the topics' administration.

- `settings`: what is configured; `preflight`: what is checked before the start; `topics`: what is created;
- `merge`: the order of records (no I/O); `ends`: how far a partition is proven to be read;
- `reader`: the consumer; `start`: where it begins; `faults`: what its errors mean; `status`: who is silent;
- `part`, `source`: the above, wired for the engine.
"""

from sources.kafka.part import Position
from sources.kafka.preflight import Cluster, check, check_writable
from sources.kafka.settings import Connection, SourceConfig
from sources.kafka.source import KafkaSource
from sources.kafka.status import Status
from sources.kafka.topics import create_topics

__all__ = [
    "Cluster",
    "Connection",
    "KafkaSource",
    "Position",
    "SourceConfig",
    "Status",
    "check",
    "check_writable",
    "create_topics",
]
