"""Every benchmark runs, with sizes so small that only its working is tested, and prints its tables."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bench import latency, measure, traffic
from bench.__main__ import NAMES
from bench.traffic import Handed

ROOT = Path(__file__).parents[2]


def start(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ``python -m bench``."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**environment, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def bench(*arguments: str) -> str:
    """Run a benchmark; return what it prints."""
    done = start(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_help_names_every_benchmark() -> None:
    assert all(name in bench("--help") for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_has_help(name: str) -> None:
    assert f"python -m bench {name}" in bench(name, "--help")


def test_an_unknown_one_is_refused() -> None:
    done = start("nonsense")
    assert done.returncode == 2
    assert all(name in done.stdout for name in NAMES)


@pytest.mark.parametrize("module", [measure, traffic])
def test_examples(module: ModuleType) -> None:
    failed, attempted = doctest.testmod(module)
    assert attempted > 0
    assert failed == 0


def test_throughput() -> None:
    told = bench("throughput", "--events", "20000", "--sliding-events", "5000", "--repeats", "1")
    for title in ("1,000 sessions at 1 events/s each", "Shapes", "Recovery", "Processes"):
        assert title in told
    assert "cores, load" in told
    assert "other programs" in told


def test_memory() -> None:
    told = bench("memory", "--sessions", "3000", "--users", "20000", "--day-sessions", "600", "--visitors", "40")
    for what in ("a session of one visitor at", "a further user of one session"):
        (line,) = (line for line in told.splitlines() if line.startswith(what))
        busy, settled = (int(number.replace(",", "")) for number in re.findall(r"-?[\d,]+", line)[-2:])
        assert busy > 0
        assert settled > 0
    assert "With anomalies, emotions and interventions on" in told
    assert "a tick of all" in told
    assert "24 h" in told


def test_kafka(kafka: str) -> None:
    told = bench("kafka", "--kafka", kafka, "--events", "20000", "--repeats", "1", "--partitions", "2")
    assert "bare consume()" in told
    assert "Kafka, conductor, Kafka" in told


def test_latency(kafka: str) -> None:
    sizes = ("--sessions", "20", "--rate", "100", "--seconds", "8", "--warm-up", "3", "--clients", "2")
    told = bench("latency", "--kafka", kafka, "--partitions", "2", *sizes)
    assert "p99" in told
    assert "deliveries/s" in told


def test_beacon() -> None:
    told = bench("beacon", "--visitors", "2", "--pages", "2", "--warm-up", "3")
    assert "help_chat at the socket" in told
    assert "0 of 2 got nothing" in told
    assert "0 of 2 saw nothing" in told or "no Chromium on this machine" in told


def test_answers() -> None:
    assert "confidence and routing" in bench("answers", "--answers", "400", "--long-answers", "2", "--repeats", "1")


def test_interventions() -> None:
    assert "most are suppressed" in bench("interventions", "--moments", "500", "--repeats", "1")


def test_database() -> None:
    printed = bench("database", "--rows", "200", "--rounds", "1", "--sizes", "50")
    assert "bare COPY" in printed
    assert "rows a batch" in printed


def test_what_makes_a_record_due() -> None:
    """The first event of the session 2 s beyond the tick, unless stream time was there 5 s later at the latest."""
    ts = np.array([1_000, 6_999, 7_000, 20_000, 7_001])
    handed = Handed(np.array([0, 0, 0, 0, 1]), ts, np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 0.0)
    assert latency.due(handed) == {(0, 5_000): 3.0, (0, 15_000): 4.0}


def test_reaction(kafka: str) -> None:
    told = bench("reaction", "--kafka", kafka, "--rate", "300", "--seconds", "3", "--warm-up", "1", "--troubled", "30")
    assert re.search(r"in Kafka +\d", told)
    assert re.search(r" 0\s*$", next(line for line in told.splitlines() if line.startswith("in Kafka")))
