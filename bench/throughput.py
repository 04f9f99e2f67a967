"""Events in memory to encoded engagement records: events a second of processor time, beside others in the same run."""

import argparse
import statistics
import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, run_main

from bench import cluster, events, measure
from bench.events import Load
from bench.rivals import bare_loop, sliding_window
from bench.sinks import Counting
from flows.conductor import ConductorConfig, build
from flows.engine import tune_memory
from operators.anomalies.config import AnomalyConfig
from operators.emotions.rules import Rules, read_rules
from schemas.batches import RawBatch
from schemas.inbound import AnyEvent

NO_EPOCHS = timedelta(days=1)
BATCH = 65_536
"""Records in a batch: what the Kafka source hands on at most."""
RATES = (1.0, 4.0)
"""Events a second of a session of 20 people: one, and 0.2 of each. What a tick costs is shared by fewer or by more."""


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench throughput", description=__doc__)
    options.add_argument("--events", type=int, default=1_000_000)
    options.add_argument(
        "--sliding-events", type=int, default=300_000, help="how many of them the engine's own sliding window is given"
    )
    options.add_argument(
        "--rate",
        type=float,
        default=1.0,
        help="events a second of each of 1,000 sessions (the first table comes for 1 and 4 as well)",
    )
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--shards", type=int, default=4)
    return options


def run(options: argparse.Namespace) -> None:
    """Print the tables."""
    for rate in dict.fromkeys((options.rate, *RATES)):
        thousand(options, rate)
    shapes(options)
    detection(options)
    diagnosis(options)
    recovery(options)
    processes(options)


def thousand(options: argparse.Namespace, rate: float) -> None:
    """Compare for a thousand sessions with the bare loop and the engine's own window."""
    n, repeats = options.events, options.repeats
    lines, times = events.payloads(Load(1_000, 20, rate), n)
    few = lines[: options.sliding_events]
    batches = events.batches(lines, times, BATCH, ends=False)
    decoder = msgspec.json.Decoder(AnyEvent)
    contenders: list[tuple[str, int, Callable[[], Callable[[], object]]]] = [
        ("the engine's sliding fold_window", len(few), lambda: partial(run_flow, sliding_window(few, Counting()))),
        ("a bare Python loop", n, lambda: partial(bare_loop, lines)),
        ("typed decoding alone", n, lambda: partial(_decode, decoder, lines)),
    ]
    counted = {shards: Counting() for shards in sorted({1, options.shards})}
    for shards, sink in counted.items():
        name = f"Attune, {shards} shard{'s' if shards > 1 else ''}"
        contenders.append((name, n, partial(_built, batches, sink, shards)))
    rounds = [[count / measure.timed(build(), 1).cpu_s for _, count, build in contenders] for _ in range(repeats)]
    told = {sink.records for sink in counted.values()}
    assert len(told) == 1, f"the number of shards changed the number of records: {told}"
    minutes = len(few) / rate / 1_000 / 60
    rows = []
    for (name, _, _), *rates in zip(contenders, *rounds, strict=True):
        times_sliding = [one / round_[0] for one, round_ in zip(rates, rounds, strict=True)]
        rows.append([name, f"{statistics.median(rates):,.0f}", f"{statistics.median(times_sliding):.1f}"])
    measure.show(
        f"1,000 sessions of 20 people at {rate:g} events/s each, {n:,} events of {sum(map(len, lines)) / n:.0f} bytes, "
        "one worker",
        ["who", "events/s", "times the sliding window"],
        rows,
        f"Medians of {repeats} rounds, in each of which all take their turn; what is compared are those of one round. "
        f"The sliding window was given the first {len(few):,} events, {minutes:.1f} minutes of event time, the others "
        "all of them. "
        "Attune checks, orders, takes out repeats, knows presence and polls, scores and encodes; the others count.",
    )


def shapes(options: argparse.Namespace) -> None:
    """Compare one session of many users with many sessions of one user."""
    rows = []
    n = options.events
    for name, load in (
        ("1 session of 1,000 users", Load(1, 1_000, 2_000.0)),
        ("1 session of 100,000 users", Load(1, 100_000, 20_000.0)),
        ("1,000 sessions of 20 users", Load(1_000, 20, options.rate)),
        ("100,000 sessions of 1 user", Load(100_000, 1, 0.2)),
    ):
        batches = events.batches(*events.payloads(load, n), BATCH, ends=False)
        timing, records = _conduct(batches, options.shards, options.repeats)
        rows.append([name, f"{load.per_second:,g}", f"{n / timing.cpu_s:,.0f}", f"{records:,}"])
    measure.show("Shapes", ["what", "events/s of a session", "events/s handled", "records"], rows)


def detection(options: argparse.Namespace) -> None:
    """Tell what finding anomalies costs: the same flow with and without, in turns."""
    n = options.events
    batches = events.batches(*events.payloads(Load(1_000, 20, options.rate), n), BATCH, ends=False)
    plain, looking = [], []
    for _ in range(options.repeats):
        plain.append(_conduct(batches, options.shards, 1, anomalies=None)[0])
        looking.append(_conduct(batches, options.shards, 1, anomalies=AnomalyConfig())[0])
    without, using = measure.median(plain), measure.median(looking)
    rows = [["without", f"{n / without.cpu_s:,.0f}", ""]]
    rows.append(["with", f"{n / using.cpu_s:,.0f}", f"{100 * (1 - without.cpu_s / using.cpu_s):.1f} %"])
    measure.show(
        f"Anomalies, 1,000 sessions at {options.rate:g} events/s each, {n:,} events",
        ["looking for them", "events/s", "throughput lost"],
        rows,
    )


def diagnosis(options: argparse.Namespace) -> None:
    """Tell what emotions and interventions cost: the same flow with and without, in turns."""
    n = options.events // 2
    rows = []
    for name, share in (("a quarter", 0.25), ("half", 0.5), ("all", 1.0)):
        load = Load(1_000, 20, options.rate, telemetry=share)
        batches = events.batches(*events.payloads(load, n), BATCH, ends=False)
        plain, asking = [], []
        records = 0
        rules = read_rules()
        for _ in range(options.repeats):
            plain.append(_conduct(batches, options.shards, 1, anomalies=AnomalyConfig())[0])
            timing, told = _conduct(batches, options.shards, 1, anomalies=AnomalyConfig(), emotions=rules)
            asking.append(timing)
            records = max(records, told)
        without, using = measure.median(plain), measure.median(asking)
        lost = statistics.median(1 - a.cpu_s / b.cpu_s for a, b in zip(plain, asking, strict=True))
        rows.append(
            [name, f"{n / without.cpu_s:,.0f}", f"{n / using.cpu_s:,.0f}", f"{100 * lost:.1f} %", f"{records:,}"]
        )
    measure.show(
        f"Emotions and interventions, 1,000 sessions at {options.rate:g} events/s each, {n:,} events, anomalies on",
        ["telemetry", "without, events/s", "with, events/s", "throughput lost", "records"],
        rows,
    )


def recovery(options: argparse.Namespace) -> None:
    """Tell what recovery costs: the same flow with and without a store, in epochs of one second."""
    rows = []
    n = options.events // 2
    for load in (Load(1_000, 20, options.rate), Load(100_000, 1, 0.2)):
        batches = events.batches(*events.payloads(load, n), BATCH, ends=False)
        plain, stored = [], []
        for _ in range(options.repeats):  # in turns, so that both see the same company
            plain.append(_conduct(batches, options.shards, 1)[0])
            stored.append(measure.timed(lambda: _recovering(batches, options.shards), 1))  # noqa: B023 - called at once
        without, using = measure.median(plain), measure.median(stored)
        rows.append(
            [
                f"{load.sessions:,} sessions",
                f"{n / without.cpu_s:,.0f}",
                f"{n / using.cpu_s:,.0f}",
                f"{100 * (using.cpu_s / without.cpu_s - 1):.0f} %",
                f"{100 * (using.wall_s / without.wall_s - 1):.0f} %",
            ]
        )
    measure.show(
        f"Recovery, epochs of 1 s (the default is 30 s), {n:,} events",
        ["what", "without, events/s", "with, events/s", "costs, processor", "costs, wall clock"],
        rows,
    )


def processes(options: argparse.Namespace) -> None:
    """Compare two processes on a source of two partitions with one process on the same source."""
    job = cluster.Job(options.events, options.rate, options.shards)
    with cluster.started(1, job) as single, cluster.started(2, job) as pair:
        runs = [(single.run(), pair.run()) for _ in range(options.repeats)]  # in turns: both see the same company
    told = {run.records for pairs in runs for run in pairs}
    assert len(told) == 1, f"two processes wrote other records than one: {told}"
    rows = []
    cpu_s = {}
    for count, some in enumerate(zip(*runs, strict=True), 1):
        work_s = statistics.median(run.work_s for run in some)
        whole_s = statistics.median(run.whole_s for run in some)
        cpu_s[count] = [statistics.median(run.members[i].cpu_s for run in some) for i in range(count)]
        rows.append(
            [
                str(count),
                f"{options.events / work_s:,.0f}",
                f"{statistics.median(one.work_s / run.work_s for (one, _), run in zip(runs, some, strict=True)):.2f}",
                f"{statistics.median(run.connect_s for run in some):.2f} s",
                f"{options.events / whole_s:,.0f}",
                f"{statistics.median(one.whole_s / run.whole_s for (one, _), run in zip(runs, some, strict=True)):.2f}",
                " + ".join(f"{seconds:.2f}" for seconds in cpu_s[count]),
                " + ".join(f"{member.records:,}" for member in some[-1].members),
            ]
        )
    alone = cpu_s[1][0]
    measure.show(
        f"Processes: a source of two partitions, {options.shards} shards, by the wall clock",
        ["processes", "events/s", "ratio", "connecting", "with it", "ratio", "processor time, s", "records"],
        rows,
        f"Medians of {options.repeats}, in turns. The two's processor time together is {sum(cpu_s[2]) / alone:.2f} of "
        f"the one's. With a core for each, undisturbed, the ratio would be {alone / max(cpu_s[2]):.2f}: the one's "
        "processor time over the longer of the two's. A process whose first attempt to connect comes too early waits "
        "1 s for the next.",
    )


def _conduct(
    batches: list[RawBatch],
    shards: int,
    repeats: int,
    anomalies: AnomalyConfig | None = None,
    emotions: Rules | None = None,
) -> tuple[measure.Timing, int]:
    """Run the whole conductor over batches in memory; return the median time and the records of one run."""
    counted = Counting()
    built = [_built(batches, counted, shards, anomalies, emotions) for _ in range(repeats)]
    return measure.median([measure.timed(run, 1) for run in built]), counted.records // repeats


def _built(
    batches: list[RawBatch],
    counted: Counting,
    shards: int,
    anomalies: AnomalyConfig | None = None,
    emotions: Rules | None = None,
) -> Callable[[], None]:
    """Return what runs a flow that is built already: rules and phrases are read once, however many events come."""
    return partial(run_flow, _conductor(batches, counted, shards, anomalies, emotions))


def _conductor(
    batches: list[RawBatch],
    counted: Counting,
    shards: int,
    anomalies: AnomalyConfig | None = None,
    emotions: Rules | None = None,
) -> Dataflow:
    config = ConductorConfig(shards=shards, anomalies=anomalies, emotions=emotions)
    return build(config, TestingSource(batches), {"count": counted})


def _recovering(batches: list[RawBatch], shards: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        init_db_dir(Path(folder), 1)
        store = RecoveryConfig(Path(folder))
        run_main(_conductor(batches, Counting(), shards), epoch_interval=timedelta(seconds=1), recovery_config=store)


def run_flow(flow: Dataflow) -> None:
    """Run a flow without epochs."""
    tune_memory()  # as whoever runs it for real does
    run_main(flow, epoch_interval=NO_EPOCHS)


def _decode(decoder: msgspec.json.Decoder[AnyEvent], lines: list[bytes]) -> None:
    for start in range(0, len(lines), 1_024):
        decoder.decode_lines(b"\n".join(lines[start : start + 1_024]))
