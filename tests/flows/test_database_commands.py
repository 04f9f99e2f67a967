"""``attune db``: what it says, what it refuses, and that it does what it says."""

from pathlib import Path

import pytest

from tests.fix_postgres import ask, do
from tests.fix_views import Filled
from tests.flows.running import attune


def run(day: Filled, folder: Path, arguments: str, **extra: str) -> str:
    """Run a command on the day's database; return what it prints."""
    done = attune("db", *arguments.split(), cwd=folder, ATTUNE_DATABASE__URL=day.owner, **extra)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_refresh_and_retain(own_day: Filled, tmp_path: Path) -> None:
    if own_day.timescale:
        pytest.skip("optional: there each refresh takes as many steps as there are rollups")
    assert run(own_day, tmp_path, "refresh") == "nothing has changed\n"
    do(own_day.owner, "UPDATE emotions SET confidence = 0.5 WHERE tenant_id = 'acme'")
    assert run(own_day, tmp_path, "refresh").endswith("steps done\n")
    query = "SELECT DISTINCT confidence_sum / emotions FROM emotion_hours WHERE tenant_id = 'acme'"
    assert ask(own_day.owner, query) == [(0.5,)]
    far = "36500"
    keep = {"ATTUNE_DATABASE__RAW_RETENTION_DAYS": far, "ATTUNE_DATABASE__ROLLUP_RETENTION_DAYS": far}
    assert run(own_day, tmp_path, "retain", **keep) == "nothing is that old\n"
    off = {"ATTUNE_DATABASE__RAW_RETENTION_DAYS": "10", "ATTUNE_DATABASE__ROLLUP_RETENTION_DAYS": "off"}
    told = run(own_day, tmp_path, "retain", **off)
    assert "emotions: " in told
    assert "engagement_hours" not in told
    assert ask(own_day.owner, "SELECT count(*) FROM emotions") == [(0,)]


def test_erase(own_day: Filled, tmp_path: Path) -> None:
    ((user,),) = ask(own_day.owner, "SELECT min(user_id) FROM emotions WHERE tenant_id = 'acme'")
    would = run(own_day, tmp_path, f"erase --user acme/{user} --dry-run")
    assert "emotions: " in would
    assert "would be removed" in would
    assert run(own_day, tmp_path, f"erase --user acme/{user}") == would.replace("would be ", "")
    assert run(own_day, tmp_path, f"erase --user acme/{user}") == "nothing to erase\n"
    assert "emotions: 0 removed" in run(own_day, tmp_path, f"erase --user acme/{other(own_day)} --mode pseudonymise")
    assert "sessions: " in run(own_day, tmp_path, "erase --tenant acme")
    assert ask(own_day.owner, "SELECT count(*) FROM sessions WHERE tenant_id = 'acme'") == [(0,)]


def other(day: Filled) -> str:
    return str(ask(day.owner, "SELECT max(user_id) FROM emotions WHERE tenant_id = 'acme'")[0][0])


@pytest.mark.parametrize(
    "arguments, told",
    [
        ("erase", "expected one of --user TENANT/USER and --tenant TENANT"),
        ("erase --user acme/u --tenant acme", "expected one of"),
        ("erase --user acme", "expected TENANT/USER"),
        ("erase --user acme/", "expected TENANT/USER"),
        ("erase --tenant acme --mode pseudonymise", "a tenant is no person"),
        ("erase --user acme/u --mode forget", "remove"),
    ],
)
def test_erase_used_wrongly(tmp_path: Path, arguments: str, told: str) -> None:
    done = attune("db", *arguments.split(), cwd=tmp_path, ATTUNE_DATABASE__URL="host=127.0.0.1 port=1")
    assert done.returncode == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())


def test_the_dictionary_is_printed(day: Filled, tmp_path: Path) -> None:
    assert run(day, tmp_path, "dictionary").startswith("# Data dictionary\n")


def test_migrate_tells_the_database_how_long_rows_are_kept(own_day: Filled, tmp_path: Path) -> None:
    off = {"ATTUNE_DATABASE__RAW_RETENTION_DAYS": "36000", "ATTUNE_DATABASE__ROLLUP_RETENTION_DAYS": "36500"}
    assert run(own_day, tmp_path, "migrate", **off) == "the database is up to date\n"
    if own_day.timescale:
        jobs = (
            "SELECT count(*), max(config->>'drop_after') FROM timescaledb_information.jobs "
            "WHERE config ? 'drop_after' AND job_id >= 1000"  # those below are its own
        )
        assert ask(own_day.owner, jobs) == [(16, "36500 days")]
        assert run(own_day, tmp_path, "migrate", **dict.fromkeys(off, "off")) == "the database is up to date\n"
        assert ask(own_day.owner, jobs) == [(0, None)]
