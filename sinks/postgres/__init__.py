"""PostgreSQL and TimescaleDB: the tables, how records become rows, and how rows get there without loss."""

from sinks.postgres.inbox import Limits
from sinks.postgres.migrations import Applied, migrate
from sinks.postgres.retry import is_away
from sinks.postgres.schema import check_schema, preflight
from sinks.postgres.sink import PostgresConfig, PostgresSink
from sinks.postgres.upkeep import Touched, erase_person, erase_tenant, refresh, retain
from sinks.postgres.writer import Writer, Written

__all__ = [
    "Applied",
    "Limits",
    "PostgresConfig",
    "PostgresSink",
    "Touched",
    "Writer",
    "Written",
    "check_schema",
    "erase_person",
    "erase_tenant",
    "is_away",
    "migrate",
    "preflight",
    "refresh",
    "retain",
]
