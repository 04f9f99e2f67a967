"""Migrations are applied once and in order, by several at once too, and a changed one is refused."""

import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from flows.local.postgres import LocalPostgres
from schemas.errors import ConfigError, TerminalError, TransientError
from sinks.postgres import Writer, migrate, preflight
from sinks.postgres.migrations import FOLDER, LOCK, read
from tests.fix_postgres import ask, batch_of, do, name_of
from tests.postgres_records import decision, engagement, intervention

ONE_OF_SEVERAL = """
import sys
from functools import partial
from sinks.postgres import migrate
print(len(migrate(sys.argv[1], report=partial(print, flush=True))))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE one (id int);\nCREATE TABLE two (id int);\n")
    (tmp_path / "0002_second.sql").write_text("ALTER TABLE one ADD name text;\n")
    return tmp_path


def test_all_is_applied_in_order_and_told(empty_db: str, folder: Path) -> None:
    lines: list[str] = []
    assert [one.name for one in migrate(empty_db, folder, lines.append)] == ["0001_first.sql", "0002_second.sql"]
    told = [line.split(" in ")[0] for line in lines if not line.startswith("TimescaleDB is there but")]
    assert told == ["applied 0001_first.sql", "applied 0002_second.sql"]
    assert ask(empty_db, "SELECT number, name FROM attune_migrations ORDER BY 1") == [
        (1, "0001_first.sql"),
        (2, "0002_second.sql"),
    ]


def test_a_second_run_applies_nothing(db: str) -> None:
    before = ask(db, "SELECT * FROM attune_migrations ORDER BY 1")
    assert migrate(db) == []
    assert ask(db, "SELECT * FROM attune_migrations ORDER BY 1") == before


def test_what_was_added_is_applied_alone(empty_db: str, folder: Path) -> None:
    migrate(empty_db, folder)
    (folder / "0003_third.sql").write_text("CREATE TABLE three (id int)")
    assert [one.number for one in migrate(empty_db, folder)] == [3]


def test_several_at_once_apply_each_file_once(empty_db: str) -> None:
    command = [sys.executable, "-c", ONE_OF_SEVERAL, empty_db]
    root = Path(__file__).parents[2]
    with psycopg.connect(empty_db) as gate:
        gate.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        running = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting for another migrate to finish\n"
    outs = [process.communicate(timeout=60)[0].splitlines() for process in running]
    assert sorted(int(lines[-1]) for lines in outs) == [0, 0, len(read(FOLDER))]
    preflight(empty_db)


def test_who_waits_for_another_says_so_and_gives_up(empty_db: str, folder: Path) -> None:
    lines: list[str] = []
    with psycopg.connect(empty_db) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        with pytest.raises(TransientError, match="another migrate"):
            migrate(empty_db, folder, lines.append, wait_s=0.3)
    assert lines == ["waiting for another migrate to finish"]
    assert len(migrate(empty_db, folder)) == 2


def test_a_changed_file_is_refused(empty_db: str, folder: Path) -> None:
    migrate(empty_db, folder)
    (folder / "0001_first.sql").write_text("CREATE TABLE one (id bigint);\n")
    with pytest.raises(TerminalError, match=r"0001_first\.sql: changed after it was applied"):
        migrate(empty_db, folder)


def test_line_ends_of_another_system_are_no_change(empty_db: str, folder: Path) -> None:
    migrate(empty_db, folder)
    path = folder / "0001_first.sql"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert migrate(empty_db, folder) == []


def test_a_newer_database_is_refused(empty_db: str, folder: Path) -> None:
    migrate(empty_db, folder)
    (folder / "0002_second.sql").unlink()
    with pytest.raises(TerminalError, match=r"has had 0002_second\.sql, which this release does not know"):
        migrate(empty_db, folder)


def test_a_file_whose_turn_is_over_is_refused(empty_db: str, folder: Path) -> None:
    (folder / "0002_second.sql").rename(folder / "0003_second.sql")
    migrate(empty_db, folder)
    (folder / "0002_late.sql").write_text("CREATE TABLE late (id int)")
    with pytest.raises(TerminalError, match=r"0002_late\.sql: its turn is over"):
        migrate(empty_db, folder)


def test_a_failing_file_leaves_nothing_behind_and_is_named(empty_db: str, folder: Path) -> None:
    (folder / "0003_bad.sql").write_text("CREATE TABLE three (id int);\nCREATE TABLE one (id int);\n")
    with pytest.raises(TerminalError, match=r'0003_bad\.sql: not applied: relation "one" already exists'):
        migrate(empty_db, folder)
    assert ask(empty_db, "SELECT to_regclass('three')::text, max(number) FROM attune_migrations") == [(None, 2)]


def test_a_file_may_run_outside_a_transaction(empty_db: str, folder: Path) -> None:
    text = "-- attune: no transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS idx_one ON one (id);\n"
    (folder / "0003_index.sql").write_text(text)
    assert len(migrate(empty_db, folder)) == 3
    assert ask(empty_db, "SELECT to_regclass('idx_one')::text") == [("idx_one",)]


@pytest.mark.parametrize("name", ["1_short.sql", "0003 space.sql", "0003_Upper.sql", "0001_taken.sql"])
def test_a_file_that_has_no_place_is_refused(empty_db: str, folder: Path, name: str) -> None:
    (folder / name).write_text("SELECT 1")
    with pytest.raises(ConfigError, match=name):
        migrate(empty_db, folder)


def test_an_empty_folder_is_refused(empty_db: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no migrations in"):
        migrate(empty_db, tmp_path)


def test_repeated_files_run_every_time(empty_db: str, folder: Path) -> None:
    (folder / "repeat_count.sql").write_text("INSERT INTO one (id) VALUES (1)")
    migrate(empty_db, folder)
    migrate(empty_db, folder)
    assert ask(empty_db, "SELECT count(*) FROM one") == [(2,)]


@pytest.mark.parametrize("state", ["XX000", "40P01"])
def test_a_repeated_file_that_meets_anothers_work_is_run_again(empty_db: str, folder: Path, state: str) -> None:
    (folder / "0003_tries.sql").write_text("CREATE SEQUENCE tries")
    meets = "RAISE EXCEPTION 'tuple concurrently updated' USING ERRCODE = '{}'"
    (folder / "repeat_met.sql").write_text(
        f"DO $$ BEGIN IF nextval('tries') < 3 THEN {meets.format(state)}; END IF; END $$"
    )
    migrate(empty_db, folder)
    assert ask(empty_db, "SELECT last_value FROM tries") == [(3,)]
    (folder / "repeat_met.sql").write_text(f"DO $$ BEGIN {meets.format(state)}; END $$")
    with pytest.raises(TransientError, match=r"repeat_met\.sql: tuple concurrently updated .*run migrate again"):
        migrate(empty_db, folder)


def test_a_database_is_brought_on_from_every_earlier_state(postgres: str, empty_db: str, tmp_path: Path) -> None:
    for migration in read(FOLDER):
        shutil.copy(migration.path, tmp_path)
        assert [one.number for one in migrate(empty_db, tmp_path)] == [migration.number]
    assert migrate(empty_db) == []
    preflight(empty_db)


def test_a_login_without_rights_is_told_which_it_lacks(login: str) -> None:
    with pytest.raises(TerminalError, match=r"may not INSERT in engagement_metrics: GRANT it, or membership"):
        preflight(login)


def check_writing(conninfo: str) -> None:
    """Write new rows, rows that are there, other content for them, and what is refused."""
    writer = Writer(conninfo)
    for score in (0.1, 0.1, 0.9):
        rows = [engagement(n, score=score) for n in range(0, 100_000, 10_000)]  # one every 14 hours: several chunks
        ledger, decisions = [intervention(0, "pending")], [decision(1, "fine"), decision(2, "\0")]
        written = writer.write([batch_of(rows), batch_of(ledger), batch_of(decisions)])
        assert (written.total, len(written.refused)) == (12, 1)
    writer.close()
    assert ask(conninfo, "SELECT count(*), min(score) FROM engagement_metrics") == [(10, 0.9)]
    assert ask(conninfo, "SELECT count(*) FROM dead_letters") == [(1,)]


def test_the_owner_of_a_database_prepares_it_without_being_superuser(empty_db: str, stranger: str) -> None:
    name = ask(empty_db, "SELECT current_database()")[0][0]
    do(empty_db, f"ALTER DATABASE {name} OWNER TO {name_of(stranger)}")
    assert len(migrate(stranger)) == len(read(FOLDER))
    assert migrate(stranger) == []
    preflight(stranger)
    check_writing(stranger)


def test_a_server_that_starts_is_waited_for(stoppable: LocalPostgres) -> None:
    stoppable.stop()
    lines: list[str] = []
    with pytest.raises(TransientError, match="can't reach the database"):
        migrate(stoppable.conninfo, report=lines.append, start_s=0)
    assert lines == []
    with ThreadPoolExecutor() as pool:
        migrating = pool.submit(migrate, stoppable.conninfo, report=lines.append)
        time.sleep(1)
        assert not migrating.done()
        stoppable.start()
        assert migrating.result(60) == []
    assert len([line for line in lines if line.endswith("; waiting up to 30 s for the server to start")]) == 1


def test_what_no_start_mends_is_told_at_once(db: str) -> None:
    lines: list[str] = []
    with pytest.raises(ConfigError):
        migrate(make_conninfo(db, dbname="not_there"), report=lines.append)
    assert lines == []
