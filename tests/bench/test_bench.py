"""Every benchmark runs, with sizes so small that only its working is tested, and prints its tables."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import NAMES

ROOT = Path(__file__).parents[2]


def bench(*arguments: str) -> str:
    """Run ``python -m bench``; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**environment, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_help_names_every_benchmark() -> None:
    assert all(name in bench("--help") for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_help(name: str) -> None:
    assert f"python -m bench {name}" in bench(name, "--help")


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(AssertionError, match="one of"):
        bench("nonsense")


def test_throughput() -> None:
    told = bench("throughput", "--events", "20000", "--sliding-events", "5000", "--repeats", "1")
    for title in ("1,000 sessions at 1 events/s each", "Shapes", "Recovery", "Processes"):
        assert title in told
    assert "cores, load" in told
    assert "other programs" in told


def test_memory() -> None:
    told = bench("memory", "--sessions", "3000", "--users", "5000", "--day-sessions", "600")
    assert "a session of one visitor" in told
    assert "a further user" in told
    assert "a tick of all" in told
    assert "24 h" in told
    assert " -" not in told.split("Resident memory")[1].split("live sessions")[0]  # nothing takes less than nothing


def test_kafka(kafka: str) -> None:
    told = bench("kafka", "--kafka", kafka, "--events", "20000", "--repeats", "1", "--partitions", "2")
    assert "bare consume()" in told
    assert "Kafka, conductor, Kafka" in told


def test_latency(kafka: str) -> None:
    sizes = ("--sessions", "20", "--rate", "100", "--seconds", "8", "--warm-up", "3", "--clients", "2")
    told = bench("latency", "--kafka", kafka, "--partitions", "2", *sizes)
    assert "p99" in told
    assert "deliveries/s" in told
