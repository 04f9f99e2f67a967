"""PostgreSQL and TimescaleDB: the tables, how records become rows, and how rows get there without loss."""

from sinks.postgres.inbox import Limits
from sinks.postgres.migrations import Applied, migrate
from sinks.postgres.retry import is_away
from sinks.postgres.schema import check_schema, preflight
from sinks.postgres.sink import PostgresConfig, PostgresSink
from sinks.postgres.writer import Writer, Written

__all__ = [
    "Applied",
    "Limits",
    "PostgresConfig",
    "PostgresSink",
    "Writer",
    "Written",
    "check_schema",
    "is_away",
    "migrate",
    "preflight",
]
