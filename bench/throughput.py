"""Events in memory to encoded engagement records: events a second of processor time, beside others in the same run."""

import argparse
import multiprocessing
import socket
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, cluster_main, run_main

from bench import events, measure
from bench.partitions import Partitions
from bench.rivals import bare_loop, sliding_window
from bench.sinks import Counting
from flows.conductor import ConductorConfig, build
from schemas.batches import RawBatch
from schemas.inbound import AnyEvent

NO_EPOCHS = timedelta(days=1)
BATCH = 65_536


def conductor(batches: list[RawBatch], counted: Counting, shards: int) -> Dataflow:
    """Return the whole conductor over batches in memory, into a sink that counts."""
    return build(ConductorConfig(shards=shards), TestingSource(batches), {"count": counted})


def main(arguments: list[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="bench throughput", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=5.0, help="events a second of each of the 1,000 sessions")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shards", type=int, default=4)
    options = parser.parse_args(arguments)
    thousand(options)
    shapes(options)
    recovery(options)
    processes(options)


def thousand(options: argparse.Namespace) -> None:
    """A thousand sessions, against the bare loop and the engine's own window."""
    n = options.events
    lines, times = events.payloads(n, 1_000, 20, options.rate)
    batches = events.batches(lines, times, BATCH, ends=False)
    decoder = msgspec.json.Decoder(AnyEvent)
    few = lines[: max(1, n // 4)]
    counted = Counting()
    sliding = n // 4 / measure.timed(lambda: run(sliding_window(few, counted)), 1).cpu_s
    rows = [
        ["the engine's sliding fold_window", sliding],
        ["a bare Python loop", n / measure.timed(lambda: bare_loop(lines), options.repeats).cpu_s],
        ["typed decoding alone", n / measure.timed(lambda: _decode(decoder, lines), options.repeats).cpu_s],
    ]
    for shards in (1, options.shards):
        rate = n / measure.timed(lambda s=shards: run(conductor(batches, counted, s)), options.repeats).cpu_s  # type: ignore[misc]
        rows.append([f"Attune, {shards} shard{'s' if shards > 1 else ''}", rate])
    size = sum(map(len, lines)) / n
    measure.show(
        f"1,000 sessions at {options.rate:g} events/s each, {n:,} events of {size:.0f} bytes, one worker",
        ["who", "events/s", "times the sliding window"],
        [[name, f"{rate:,.0f}", f"{rate / sliding:.1f}"] for name, rate in rows],
        "Attune checks, orders, takes out repeats, knows presence and polls, scores and encodes; the others count.",
    )


def shapes(options: argparse.Namespace) -> None:
    """One session, many users; many sessions, one user."""
    rows = []
    n = options.events
    for name, sessions, users, rate in (
        ("1 session of 1,000 users", 1, 1_000, 2_000.0),
        ("1 session of 100,000 users", 1, 100_000, 150_000.0),
        ("1,000 sessions of 20 users", 1_000, 20, options.rate),
        ("100,000 sessions of 1 user", 100_000, 1, 0.2),
    ):
        lines, times = events.payloads(n, sessions, users, rate)
        batches = events.batches(lines, times, BATCH, ends=False)
        counted = Counting()
        timing = measure.timed(lambda b=batches, c=counted: run(conductor(b, c, options.shards)), options.repeats)  # type: ignore[misc]
        rows.append([name, f"{rate:g}", f"{n / timing.cpu_s:,.0f}", f"{counted.records // options.repeats:,}"])
    measure.show("Shapes", ["what", "events/s of a session", "events/s handled", "records"], rows)


def recovery(options: argparse.Namespace) -> None:
    """What recovery costs: the same flow with and without a store, in epochs of one second."""
    rows = []
    for sessions, users, rate in ((1_000, 20, options.rate), (100_000, 1, 0.2)):
        n = options.events
        lines, times = events.payloads(n, sessions, users, rate)
        batches = events.batches(lines, times, BATCH, ends=False)
        counted = Counting()
        plain = measure.timed(lambda b=batches: run(conductor(b, counted, options.shards)), options.repeats)  # type: ignore[misc]  # noqa: B023
        stored = measure.timed(lambda b=batches: _recovering(b, options.shards), options.repeats)  # type: ignore[misc]
        rows.append(
            [f"{sessions:,} sessions", f"{n / plain.wall_s:,.0f}", f"{n / stored.wall_s:,.0f}",
             f"{100 * (stored.wall_s / plain.wall_s - 1):.0f} %"]
        )
    measure.show(
        "Recovery, epochs of 1 s (the default is 10 s), by the wall clock",
        ["what", "without, events/s", "with, events/s", "cost"],
        rows,
    )


def _recovering(batches: list[RawBatch], shards: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        init_db_dir(Path(folder), 1)  # type: ignore[no-untyped-call]
        store = RecoveryConfig(Path(folder))  # type: ignore[no-untyped-call]
        run_main(  # type: ignore[no-untyped-call]
            conductor(batches, Counting(), shards), epoch_interval=timedelta(seconds=1), recovery_config=store
        )


def processes(options: argparse.Namespace) -> None:
    """Two processes on a source of two partitions, against one process on the same source."""
    n = options.events
    one = _clustered(1, n, options.rate)
    two = _clustered(2, n, options.rate)
    measure.show(
        "Processes, a source of two partitions, 16 shards, by the wall clock",
        ["processes", "events/s", "ratio"],
        [["1", f"{n / one:,.0f}", "1.00"], ["2", f"{n / two:,.0f}", f"{one / two:.2f}"]],
    )


def _clustered(count: int, n: int, rate: float) -> float:
    """Return the seconds from the moment that all processes are ready until all are done."""
    context = multiprocessing.get_context("spawn")
    addresses = [f"127.0.0.1:{_free_port()}" for _ in range(count)] if count > 1 else []
    ready, go = context.Barrier(count + 1), context.Event()
    workers = [context.Process(target=_member, args=(i, addresses, n, rate, ready, go)) for i in range(count)]
    for worker in workers:
        worker.start()
    ready.wait()
    begin = time.perf_counter()
    go.set()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0, "a process of the cluster failed"
    return time.perf_counter() - begin


def _member(index: int, addresses: list[str], n: int, rate: float, ready: Any, go: Any) -> None:
    mine = range(2) if not addresses else (index,)
    source = Partitions({part: _half(part, n // 2, rate) for part in mine})
    flow = build(ConductorConfig(shards=16), source, {"count": Counting()})
    ready.wait()
    go.wait()
    cluster_main(flow, addresses, index, epoch_interval=NO_EPOCHS)  # type: ignore[no-untyped-call]


def _half(part: int, n: int, rate: float) -> list[RawBatch]:
    lines, times = events.payloads(n, 500, 20, rate, seed=part, prefix=f"p{part}-")
    return events.batches(lines, times, BATCH, part, ends=False)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(flow: Dataflow) -> None:
    """Run a flow without epochs."""
    run_main(flow, epoch_interval=NO_EPOCHS)  # type: ignore[no-untyped-call]


def _decode(decoder: msgspec.json.Decoder[AnyEvent], lines: list[bytes]) -> None:
    for start in range(0, len(lines), 1_024):
        decoder.decode_lines(b"\n".join(lines[start : start + 1_024]))
