"""Plays a scenario through the whole conductor flow, as ``attune replay`` does, for an evaluation."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec

from flows.conductor import ConductorConfig
from flows.evaluate import read
from flows.evaluate.jitter import delayed
from flows.evaluate.judge import Report
from flows.generate import SCENARIOS, Plan
from flows.generate.lab.episodes import LabTruth
from flows.generate.write import Lines, batches
from flows.replay import replay
from schemas.registry import OUTBOUND

EVALUATION_SEED = 9_001
"""Seeds from 9,000 on are for evaluation alone; whoever tunes a detector uses smaller ones."""
EVENTS, LABELS = "events.jsonl", "events.jsonl.truth.json"

Told = Callable[[float, float | None, str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a lab came to: its labels, the reports, and where the engagement records are."""

    labels: LabTruth
    reports: list[Report]
    engagement: Path


class Workshop:
    """The folder of an evaluation: the given one, whose files stay, or one that vanishes at the end."""

    def __init__(self, keep: Path | None) -> None:
        self._keep = keep
        self._stack = ExitStack()

    def __enter__(self) -> Path:
        """Make the folder."""
        if self._keep is None:
            return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="attune-evaluate-")))
        self._keep.mkdir(parents=True, exist_ok=True)
        return self._keep

    def __exit__(self, *_: object) -> None:
        """Remove the folder, unless it was given."""
        self._stack.close()


def play(
    scenario: str, plan: Plan, folder: Path, config: ConductorConfig, workers: int, generating: Told, replaying: Told
) -> Outcome:
    """Generate a lab into ``folder``, replay it there, and read what came of it; both steps tell their progress."""
    labels, out = produce(scenario, plan, folder, config, workers, generating, replaying)
    return Outcome(cast(LabTruth, labels), read.reports(topic(out, "anomaly")), topic(out, "engagement"))


def produce(
    scenario: str,
    plan: Plan,
    folder: Path,
    config: ConductorConfig,
    workers: int,
    generating: Told,
    replaying: Told,
    jitter_ms: float = 0.0,
) -> tuple[msgspec.Struct, Path]:
    """Generate a scenario into ``folder`` and replay it there; return its truth and the folder of the records.

    ``jitter_ms``: every event is delivered up to so much later than it happens.
    """
    traffic = SCENARIOS[scenario].make(plan)
    events = folder / EVENTS
    with events.open("wb") as stream:
        to, count = Lines(stream), 0
        for batch in batches(delayed(traffic.events(), jitter_ms, plan.seed) if jitter_ms else traffic.events()):
            to.send(batch)
            count += len(batch)
            generating(batch[-1].ts - plan.start_ts, traffic.end_ts - plan.start_ts, f"{count:,} events")
    truth = traffic.truth()
    (folder / LABELS).write_bytes(msgspec.json.encode(truth) + b"\n")
    out = folder / "out"
    replay([str(events)], out, workers, config, lambda done, phase: replaying(done, count, f"{done:,} events, {phase}"))
    return truth, out


def topic(folder: Path, kind: str) -> Path:
    """Return the file of a replay that holds records of a type."""
    return folder / f"{OUTBOUND[kind].topic}.jsonl"
