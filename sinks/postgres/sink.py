"""The Bytewax sink: encoded records in, rows in PostgreSQL out, and no snapshot before they are committed.

A part of the sink is a bounded queue, a thread and a connection, so that a slow database does not hold up the worker
until the queue is full. It must be a ``FixedPartitionedSink``: recovery does not wait for a ``DynamicSink``.
"""

import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import structlog
from bytewax.outputs import StatefulSinkPartition
from prometheus_client import Counter, Gauge, Histogram

from schemas.batches import Records
from sinks.parts import SpreadSink
from sinks.postgres.inbox import Inbox, Limits
from sinks.postgres.retry import GivenUp, until_done
from sinks.postgres.writer import Writer, Written

log = structlog.get_logger(__name__)

ROWS = Counter("attune_postgres_rows_total", "Rows committed, repeats included.", ["table"])
REFUSED = Counter("attune_postgres_refused_total", "Records that the database refused and that became dead letters.")
WAITING = Gauge("attune_postgres_waiting_records", "Records that wait to be written or are being written.", ["part"])
COMMIT = Histogram(
    "attune_postgres_commit_seconds",
    "From the first attempt at a batch to its commit, waiting for an absent database included.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300),
)

OnRefused = Callable[[Records], None]


def _ignore(_dead_letters: Records) -> None:
    """Leave dead letters where they are anyway: in their table."""


@dataclass(frozen=True)
class PostgresConfig:
    """How to write. ``conninfo`` holds the password and is not shown.

    ``on_refused`` gets the dead letters of what the database refused, after the commit that stores them in their
    table and before the batch counts as written; it is called from the writing threads, and what it raises ends the
    flow. ``close_s``: how long a flow that ends may wait for a database that is away.
    """

    conninfo: str = field(repr=False)
    parts: int = 1
    limits: Limits = field(default_factory=Limits)
    on_refused: OnRefused = _ignore
    close_s: float = 10.0
    connect_timeout_s: float = 10.0
    statement_timeout_s: float = 60.0


class PostgresPart(StatefulSinkPartition[Records, None]):
    """One connection's share of the records. Writing and snapshots raise what ended its thread, if anything did."""

    def __init__(self, name: str, config: PostgresConfig) -> None:
        self._config = config
        self._inbox = Inbox(config.limits)
        # Asked for at a scrape, so that it is told while the worker waits in ``write_batch``.
        WAITING.labels(name).set_function(partial(getattr, self._inbox, "unconfirmed"))
        self._stop = threading.Event()
        writer = Writer(
            config.conninfo,
            connect_timeout_s=config.connect_timeout_s,
            statement_timeout_s=config.statement_timeout_s,
        )
        drain = _Drain(writer, self._inbox, self._stop, config.on_refused)
        self._thread = threading.Thread(target=drain.run, name=f"attune-postgres-{name}", daemon=True)
        self._thread.start()
        # The engine drops a part without closing it when the flow breaks off; its thread must not wait for ever.
        self._dropped = weakref.finalize(self, _abandon, self._inbox, self._stop)

    def write_batch(self, values: list[Records]) -> None:
        """Queue the records; waits while the queue is full."""
        for records in values:
            self._inbox.put(records)

    def snapshot(self) -> None:
        """Wait until all that was queued is committed. There is nothing to remember: a repeat changes nothing."""
        self._inbox.wait_confirmed()

    def close(self) -> None:
        """Write what is left, if the database takes it within ``close_s``, and end the thread; raise nothing.

        A flow that came to its end has had its last snapshot, and nothing is left. One that breaks off closes its
        sinks while the engine unwinds, where an exception would abort the process without a word; what is left then
        is told here, and written after a recovery.
        """
        self._inbox.close()
        try:
            if not self._inbox.wait_confirmed(self._config.close_s):
                log.error("the flow ends before the database took all", records=self._inbox.unconfirmed)
        except Exception as error:  # noqa: BLE001 - whatever it is, it was raised to the engine already
            log.error("the flow ends with records that are not in the database", error=str(error))  # noqa: TRY400 - as above
        self._stop.set()
        self._inbox.abandon()
        self._thread.join(self._config.close_s)


class PostgresSink(SpreadSink):
    """Write ``(key, Records)`` into the tables of ``schemas.registry``; a key's records keep their order."""

    def __init__(self, config: PostgresConfig) -> None:
        super().__init__(config.parts, digits=4)
        self._config = config

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> PostgresPart:
        """Start a part; there is never a state to resume from."""
        return PostgresPart(for_part, self._config)


class _Drain:
    """What the thread of a part does."""

    def __init__(self, writer: Writer, inbox: Inbox, stop: threading.Event, on_refused: OnRefused) -> None:
        self._writer = writer
        self._inbox = inbox
        self._stop = stop
        self._on_refused = on_refused

    def run(self) -> None:
        """Connect, then write batch after batch until the inbox is closed and empty, or something lasting fails."""
        try:
            until_done(self._writer.connect, self._stop)
            while batch := self._inbox.take():
                self._write(batch)
        except GivenUp:
            log.warning("gave up waiting for the database: the flow has ended")
        except BaseException as error:  # noqa: BLE001 - a thread's error belongs to the worker, whatever it is
            self._inbox.fail(error)
        finally:
            self._writer.close()

    def _write(self, batch: list[Records]) -> None:
        started = time.monotonic()
        written: Written = until_done(lambda: self._writer.write(batch), self._stop)
        COMMIT.observe(time.monotonic() - started)
        for table, rows in written.rows.items():
            ROWS.labels(table).inc(rows)
        if written.refused:
            REFUSED.inc(len(written.refused))
            self._on_refused(written.refused)
        self._inbox.confirm(batch)


def _abandon(inbox: Inbox, stop: threading.Event) -> None:
    stop.set()
    inbox.abandon()
