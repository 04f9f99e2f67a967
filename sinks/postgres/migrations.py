"""The database's schema, brought up to date by numbered SQL files that are applied once, in order.

``NNNN_name.sql`` is applied once, in one transaction, and recorded with its checksum: a file that was changed after it
was applied is refused, because no one could say what the database holds. A file whose first line is
``-- attune: no transaction`` holds one statement that PostgreSQL does not allow in a transaction, and must be
repeatable. ``before_name.sql`` runs at every migrate before the others: it says as whom they run. ``repeat_name.sql``
runs at every migrate after them: it adapts to what the server offers and to the settings.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psycopg

from schemas.errors import ConfigError, TerminalError, TransientError
from sinks.postgres.connection import Connection, connect
from sinks.postgres.faults import Fault, fault_of, message_of

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "sql"
NUMBERED = re.compile(r"(?P<number>\d{4})_[a-z0-9_]+\.sql")
BEFORE = "before_*.sql"
REPEATED = "repeat_*.sql"
ALONE = b"-- attune: no transaction"

LOCK = 0x61747475_6E65
"""The advisory lock that one migrate holds: "attune" in ASCII."""

TRIES = 5
"""How often a file that may be repeated is run before what stands in its way is told."""

LEDGER = """
CREATE TABLE IF NOT EXISTS attune_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""

STARTING = (
    "Connection refused",
    "Is the server running locally",
    "Connection reset",
    "server closed the connection unexpectedly",
    "the database system is starting up",
    "the database system is not yet accepting connections",
    "the database system is shutting down",
)
"""How libpq words that a server is on its way: not listening yet, behind a container's proxy that listens already, or
in its recovery."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Migration:
    """One numbered file."""

    number: int
    path: Path

    @cached_property
    def sql(self) -> bytes:
        """The file's content, with line ends as on Linux: git may change them."""
        return self.path.read_bytes().replace(b"\r\n", b"\n")

    @cached_property
    def checksum(self) -> str:
        """SHA-256 of ``sql``, in hexadecimal."""
        return hashlib.sha256(self.sql).hexdigest()


@dataclass(frozen=True)
class Applied:
    """A migration that was applied now, and how long it took in seconds."""

    number: int
    name: str
    seconds: float


def migrate(
    conninfo: str,
    folder: Path = FOLDER,
    report: Report = lambda _line: None,
    wait_s: float = 600.0,
    settings: Mapping[str, str] | None = None,
    start_s: float = 30.0,
) -> list[Applied]:
    """Apply what has not been applied yet, and return it; may run twice, and by several at once.

    ``report`` is told what happens, a line at a time. ``settings`` reach the repeated files as ``attune.name``. Raises
    ConfigError for a folder that can't be read in order, TerminalError for a changed or failing migration,
    TransientError when another migrate takes longer than ``wait_s``, or a server longer than ``start_s`` to start.
    """
    migrations = read(folder)
    _await_start(conninfo, start_s, report)
    with connect(conninfo, autocommit=True) as gate, _alone(gate, wait_s, report):
        _offer_timescale(conninfo, report)
        # Another connection than the lock's, and a new one: what loads TimescaleDB may only be there now.
        with connect(conninfo, statement_timeout_s=None, autocommit=True) as connection:
            connection.add_notice_handler(lambda notice: report(notice.message_primary or ""))
            for name, value in (settings or {}).items():
                connection.execute("SELECT set_config('attune.' || %s, %s, false)", [name, value])
            _run_all(connection, folder, BEFORE)
            applied = _apply_all(connection, migrations, report)
            _run_all(connection, folder, REPEATED)
    return applied


def _await_start(conninfo: str, start_s: float, report: Report) -> None:
    """Wait until a server that is starting takes connections: migrate is what one does right after starting it."""
    deadline = time.monotonic() + start_s
    told = False
    while True:
        try:
            connect(conninfo, autocommit=True).close()
        except TransientError as error:
            if time.monotonic() >= deadline or not any(phrase in str(error) for phrase in STARTING):
                raise
            if not told:
                report(f"{error}; waiting up to {start_s:.0f} s for the server to start")
                told = True
            time.sleep(0.5)
        else:
            return


def pending(connection: Connection, folder: Path = FOLDER) -> list[str] | None:
    """Return the names of the migrations that this database has not had, in order; None if this user can't know."""
    if not _ledger_exists(connection):
        known = {}
    elif connection.execute("SELECT has_table_privilege('attune_migrations', 'SELECT')").fetchone() == (True,):
        known = _known(connection)
    else:
        return None
    return [migration.path.name for migration in read(folder) if migration.number not in known]


def read(folder: Path) -> list[Migration]:
    """Return the folder's numbered migrations in order."""
    migrations: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        if path.match(REPEATED) or path.match(BEFORE):
            continue
        named = NUMBERED.fullmatch(path.name)
        if named is None:
            raise ConfigError(f"{path}: expected NNNN_name.sql, {BEFORE} or {REPEATED} (lower case), got {path.name!r}")
        number = int(named["number"])
        if number in migrations:
            raise ConfigError(f"{path}: number {number:04d} is taken by {migrations[number].path.name}; take the next")
        migrations[number] = Migration(number, path)
    if not migrations:
        raise ConfigError(f"no migrations in {folder}: expected files named NNNN_name.sql")
    return [migrations[number] for number in sorted(migrations)]


def _ledger_exists(connection: Connection) -> bool:
    row = connection.execute("SELECT to_regclass('attune_migrations') IS NOT NULL").fetchone()
    return row is not None and bool(row[0])


def _known(connection: Connection) -> dict[int, tuple[str, str]]:
    """Return name and checksum of every migration the database has had, by number."""
    rows = connection.execute("SELECT number, name, checksum FROM attune_migrations ORDER BY number")
    return {number: (name, checksum) for number, name, checksum in rows}


def _check_history(migrations: list[Migration], known: dict[int, tuple[str, str]]) -> None:
    """Raise TerminalError unless what was applied is a beginning of what there is."""
    here = {migration.number: migration for migration in migrations}
    for number, (name, checksum) in known.items():
        if number not in here:
            raise TerminalError(
                f"the database has had {name}, which this release does not know: it is newer; use that release"
            )
        if here[number].checksum != checksum:
            raise TerminalError(
                f"{here[number].path}: changed after it was applied as {name} (SHA-256 was {checksum[:12]}..., is "
                f"{here[number].checksum[:12]}...); restore it, and put the change into a new file"
            )
    newest = max(known, default=0)
    for migration in migrations:
        if migration.number < newest and migration.number not in known:
            raise TerminalError(f"{migration.path}: its turn is over, {newest:04d} was applied already; renumber it")


def _apply_all(connection: Connection, migrations: list[Migration], report: Report) -> list[Applied]:
    with _told("attune_migrations"):
        connection.execute("SET client_min_messages = 'notice'")
        if not _ledger_exists(connection):
            connection.execute(LEDGER)
        known = _known(connection)
    _check_history(migrations, known)
    applied = []
    for migration in migrations:
        if migration.number not in known:
            applied.append(_apply(connection, migration))
            report(f"applied {applied[-1].name} in {applied[-1].seconds:.2f} s")
    return applied


def _run_all(connection: Connection, folder: Path, pattern: str) -> None:
    """Run every file of a pattern, each in a transaction; one that meets another's work, a job's say, is run again."""
    for path in sorted(folder.glob(pattern)):
        for left in reversed(range(TRIES)):
            try:
                with _told(path.name), connection.transaction():
                    connection.execute(path.read_bytes())
                break
            except TransientError:
                if connection.broken or not left:
                    raise
                time.sleep(0.2)


def _apply(connection: Connection, migration: Migration) -> Applied:
    started = time.monotonic()
    with _told(migration.path.name):
        if migration.sql.startswith(ALONE):
            connection.execute(migration.sql)
            _record(connection, migration)
        else:
            with connection.transaction():
                connection.execute(migration.sql)
                _record(connection, migration)
    return Applied(migration.number, migration.path.name, time.monotonic() - started)


def _record(connection: Connection, migration: Migration) -> None:
    connection.execute(
        "INSERT INTO attune_migrations (number, name, checksum) VALUES (%s, %s, %s)",
        [migration.number, migration.path.name, migration.checksum],
    )


@contextmanager
def _alone(connection: Connection, wait_s: float, report: Report) -> Iterator[None]:
    """Hold the lock of which there is one for each database.

    It is asked for again and again rather than waited for: a statement that waits holds a snapshot, for which a
    migration outside a transaction (an index built concurrently) would wait in turn.
    """
    deadline = time.monotonic() + wait_s
    told = False
    while not _locked(connection):
        if time.monotonic() > deadline:
            raise TransientError(f"another migrate has held the database for {wait_s:.0f} s; see pg_stat_activity")
        if not told:
            report("waiting for another migrate to finish")
            told = True
        time.sleep(0.1)
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _locked(connection: Connection) -> bool:
    with _told("the lock of attune_migrations"):
        return connection.execute("SELECT pg_try_advisory_lock(%s)", [LOCK]).fetchone() == (True,)


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what the database says into an error that names the file."""
    try:
        yield
    except psycopg.Error as error:
        hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
        # XX000: two changed the same object's rights or state, and PostgreSQL does not let the second wait.
        if fault_of(error) is Fault.PASSING or error.diag.message_primary == "tuple concurrently updated":
            raise TransientError(f"{what}: {message_of(error)}{hint}; run migrate again") from error
        line = f" at character {error.diag.statement_position}" if error.diag.statement_position else ""
        raise TerminalError(f"{what}: not applied: {message_of(error)}{line}{hint}") from error


def _offer_timescale(conninfo: str, report: Report) -> None:
    """Create the extension where the server has it and we may; tell if it can't be had.

    On a connection of its own: a server that has the files but does not preload the library ends the connection.
    """
    try:
        with connect(conninfo, autocommit=True) as connection:
            offered = connection.execute(
                "SELECT FROM pg_available_extensions WHERE name = 'timescaledb' AND installed_version IS NULL"
            ).fetchone()
            if offered is not None:
                connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except psycopg.Error as error:
        report(f"TimescaleDB is there but can't be used, the tables stay ordinary: {message_of(error)}")
