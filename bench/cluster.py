"""A cluster of one or two real processes over events in memory, timed from a common start to the last one's end."""

import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

from bytewax.testing import cluster_main

from bench import events
from bench.partitions import Partitions
from bench.sinks import Counting
from flows.conductor import ConductorConfig, build
from flows.processes import loopback_addresses
from schemas.batches import RawBatch

PARTITIONS = 2
BATCH = 16_384
DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True)
class Job:
    """What every process of a cluster is to do: ``rounds`` runs over the same events, each at addresses of its own."""

    events: int
    rate: float
    shards: int
    rounds: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Member:
    """One process in one round: moments of `time.monotonic`, seconds of processor time, records that it wrote."""

    start: float
    connected: float
    end: float
    cpu_s: float
    records: int


@dataclass(frozen=True, slots=True)
class Result:
    """Medians of the rounds (seconds), and of the last round each process's share of the records."""

    connect_s: float
    work_s: float
    cpu_s: list[float]
    records: list[int]


def measure(processes: int, count: int, rate: float, shards: int, repeats: int) -> Result:
    """Run a cluster. Interpreters are started, flows built and events made before the clock starts.

    ``connect_s`` goes from there to the first process's first batch, ``work_s`` from then to the last one's end.
    """
    context = multiprocessing.get_context("spawn")
    rounds = [loopback_addresses(processes) if processes > 1 else [] for _ in range(repeats)]
    job = Job(count, rate, shards, rounds)
    start = context.Barrier(processes)
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    children = [context.Process(target=_member, args=(i, job, start, pipes[i][1])) for i in range(processes)]
    try:
        for child in children:
            child.start()
        for child in children:
            child.join(DEADLINE_S)
            assert child.exitcode == 0, "a process of the cluster failed or took too long"
        members: list[list[Member]] = [receive.recv() for receive, _ in pipes]
    finally:
        for child in children:
            if child.is_alive():
                child.kill()
    each_round = list(zip(*members, strict=True))
    return Result(
        statistics.median(min(m.connected for m in round_) - min(m.start for m in round_) for round_ in each_round),
        statistics.median(max(m.end for m in round_) - min(m.connected for m in round_) for round_ in each_round),
        [statistics.median(m.cpu_s for m in mine) for mine in members],
        [mine[-1].records for mine in members],
    )


def _member(index: int, job: Job, start: Barrier, send: Connection) -> None:
    mine = [index] if job.rounds[0] else list(range(PARTITIONS))
    batches = {part: _half(part, job) for part in mine}
    told = []
    for addresses in job.rounds:
        source, counted = Partitions(batches), Counting()
        flow = build(ConductorConfig(shards=job.shards), source, {"count": counted})
        start.wait(DEADLINE_S)
        begin, cpu = time.monotonic(), time.process_time()
        cluster_main(flow, list(addresses), index, epoch_interval=timedelta(days=1))
        end, used = time.monotonic(), time.process_time() - cpu
        assert source.began is not None, "the engine asked for no part"
        told.append(Member(begin, source.began, end, used, counted.records))
    send.send(told)


def _half(part: int, job: Job) -> list[RawBatch]:
    load = events.Load(500, 20, job.rate, prefix=f"p{part}-", seed=part)
    lines, times = events.payloads(load, job.events // PARTITIONS)
    return events.batches(lines, times, BATCH, part, ends=False)
