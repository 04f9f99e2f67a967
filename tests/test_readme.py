"""What the README tells a user to type does what it says."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_postgres import ask

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
TARGETS = re.compile(r"^([a-z-]+):.*##", re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def block_with(language: str, text: str) -> str:
    (found,) = (block for block in blocks(language) if text in block)
    return str(found)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return an environment in which ``attune`` is this checkout's, as after ``source .venv/bin/activate``."""
    attune = folder / "bin" / "attune"
    attune.parent.mkdir()
    attune.write_text(f'#!/bin/sh\nexec {sys.executable} -m flows.cli "$@"\n', encoding="ascii")
    attune.chmod(0o755)
    plain = {key: value for key, value in os.environ.items() if not key.startswith("ATTUNE_")}
    return {**plain, "PATH": f"{attune.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), **more}


def test_the_two_commands_are_in_the_makefile() -> None:
    targets = set(TARGETS.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    commands = [block.split()[1] for block in blocks("sh") if block.startswith("make ")]
    assert commands == ["demo", "test"]
    assert set(commands) <= targets


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", TEXT):
        assert (ROOT / link).exists(), link


def test_the_data_engineers_first_minutes(tmp_path: Path) -> None:
    script = block_with("sh", "attune replay events.jsonl")
    script = script.replace("source .venv/bin/activate\n", "set -e -o pipefail\n")
    command = ["bash", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "score" in done.stdout
    assert (tmp_path / "out" / "attune.engagement.v1.jsonl").stat().st_size > 10_000
    assert (tmp_path / "out" / "attune.deadletters.v1.jsonl").stat().st_size == 0


def test_the_lab_is_made_and_evaluated(tmp_path: Path) -> None:
    script = "set -e\n" + block_with("sh", "attune evaluate anomalies")
    command = ["bash", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "SUDDEN_DROP" in done.stdout
    assert (tmp_path / "lab.jsonl.truth.json").stat().st_size > 1_000
    assert (tmp_path / "anomalies.svg").read_bytes().startswith(b"<svg")


def test_visitors_are_replayed_and_explained(tmp_path: Path) -> None:
    script = "set -e -o pipefail\n" + block_with("sh", "--scenario visitors")
    command = ["bash", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "attune.interventions.v1.jsonl" in done.stdout
    assert "governor" in done.stdout
    assert "rage_click" in done.stdout


def test_the_recorded_conversation_goes_as_shown(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    script = "set -e -o pipefail\n" + block_with("sh", "--conversation")
    command = ["bash", "-c", script]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(block_with("text", "/decision/"))
    handoffs = (tmp_path / "chat" / "attune.handoffs.v1.jsonl").read_text(encoding="utf-8")
    assert handoffs.count("\n") == 2


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[int]:
    """Run a demo and return its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings = {"ATTUNE_GATEWAY__PORT": str(port), "ATTUNE_METRICS__ENABLED": "false", "ATTUNE_COLLECTOR__PORT": "0"}
    with (tmp_path / "demo.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", "exec attune demo"],
            cwd=tmp_path,
            env=environment(tmp_path, **settings),
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + 60
        while not listening(port):
            assert process.poll() is None, (tmp_path / "demo.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "demo.log").read_text()
            time.sleep(0.2)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, (tmp_path / "demo.log").read_text()


def test_the_dashboard_authors_first_minutes(demo: int, tmp_path: Path) -> None:
    """The page's script shows scores, and they move, within 15 s of the demo's address; and an intervention arrives."""
    script = block_with("python", "websockets").replace("127.0.0.1:8003", f"127.0.0.1:{demo}")
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, "-u", "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        seen: dict[str, set[str]] = {}
        done: set[str] = set()
        moved: float | None = None
        for line in process.stdout:
            session, what, how = line.split()
            if how in {"fired", "suppressed", "pending", "refused", "expired"}:
                done.add(f"{what} {how}")
            else:
                assert how in {"VERY_HIGH", "HIGH", "MODERATE", "LOW", "VERY_LOW"}
                seen.setdefault(session, set()).add(what)
                moved = moved or (time.monotonic() - begin if len(seen[session]) > 1 else None)
            if moved and any(each.endswith(" fired") for each in done):
                break
        assert moved is not None
        assert moved < 30
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def test_the_analysts_query_runs(db: str) -> None:
    assert ask(db, block_with("sql", "engagement_metrics").rstrip().rstrip(";").replace("%", "%%")) == []
