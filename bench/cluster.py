"""Clusters of real processes over events in memory, each run timed from a common start to the last process's end."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import msgspec
import numpy as np
from bytewax.testing import cluster_main

from bench import events
from bench.partitions import Partitions
from bench.sinks import Counting
from flows.conductor import ConductorConfig, build
from flows.processes import loopback_addresses
from operators.chunk import SEPARATOR
from operators.shards import shards_of
from schemas.batches import RawBatch


class _Named(msgspec.Struct):
    tenant_id: str
    session_id: str


_NAMED = msgspec.json.Decoder(_Named)
PARTITIONS = 2
BATCH = 65_536
DEADLINE_S = 120.0


@dataclass(frozen=True, slots=True)
class Job:
    """What a cluster is to do, again and again: ``events`` in two partitions, at ``rate`` a second and session."""

    events: int
    rate: float
    shards: int


@dataclass(frozen=True, slots=True)
class Member:
    """What one process says of a run: moments of `time.monotonic`, its processor time, the records that it wrote."""

    start: float
    connected: float
    end: float
    cpu_s: float
    records: int


@dataclass(frozen=True, slots=True)
class Run:
    """One run. ``connect_s`` ends with the first process's first batch, ``work_s`` goes from there to the last end."""

    members: list[Member]

    @property
    def connect_s(self) -> float:
        """Seconds in which the processes found each other."""
        return min(m.connected for m in self.members) - min(m.start for m in self.members)

    @property
    def work_s(self) -> float:
        """Seconds from the first batch to the end."""
        return max(m.end for m in self.members) - min(m.connected for m in self.members)

    @property
    def whole_s(self) -> float:
        """Seconds of both."""
        return self.connect_s + self.work_s

    @property
    def records(self) -> int:
        """Records of all processes."""
        return sum(m.records for m in self.members)


class Cluster:
    """Processes that hold their events and wait to be told to run."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes
        for pipe in pipes:
            assert _receive(pipe) is None, "a process said more than that it is ready"

    def run(self) -> Run:
        """Run once, at addresses of its own. Flows are built before the clock starts."""
        addresses = loopback_addresses(len(self._pipes)) if len(self._pipes) > 1 else []
        for pipe in self._pipes:
            pipe.send(addresses)
        told = [_receive(pipe) for pipe in self._pipes]
        return Run([member for member in told if member is not None])


@contextmanager
def started(processes: int, job: Job) -> Iterator[Cluster]:
    """Start a cluster of one or two processes and have them make their events; they end with the context."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    pipes = [context.Pipe() for _ in range(processes)]
    parts = [[i] for i in range(PARTITIONS)] if processes > 1 else [list(range(PARTITIONS))]
    children = [
        context.Process(target=_member, args=(i, parts[i], job, barrier, pipes[i][1]), daemon=True)
        for i in range(processes)
    ]
    try:
        for child, (_, theirs) in zip(children, pipes, strict=True):
            child.start()
            theirs.close()  # so that a process that fails is the end of its pipe
        yield Cluster([ours for ours, _ in pipes])
    finally:
        for ours, _ in pipes:
            ours.close()
        for child in children:
            child.join(5)
            if child.is_alive():
                child.kill()
                child.join()


def _receive(pipe: Connection) -> Member | None:
    """Return what a process says of a run, or None: it is ready for the first."""
    assert pipe.poll(DEADLINE_S), f"a process of a cluster said nothing for {DEADLINE_S:g} s"
    told: Member | None = pipe.recv()
    return told


def _member(index: int, mine: list[int], job: Job, barrier: Barrier, pipe: Connection) -> None:
    """Be a process of a cluster, until the other end of the pipe is closed."""
    batches = {part: _half(part, job) for part in mine}
    pipe.send(None)
    while True:
        try:
            addresses: list[str] = pipe.recv()
        except EOFError:
            return
        source, counted = Partitions(batches), Counting()
        flow = build(ConductorConfig(shards=job.shards), source, {"count": counted})
        barrier.wait(DEADLINE_S)
        start, cpu = time.monotonic(), time.process_time()
        cluster_main(flow, addresses, index, epoch_interval=timedelta(days=1))
        end, used = time.monotonic(), time.process_time() - cpu
        assert source.began is not None, "the engine asked for no part"
        pipe.send(Member(start, source.began, end, used, counted.records))


def _half(part: int, job: Job) -> list[RawBatch]:
    """Return what Kafka would have in this partition: events keyed by session."""
    lines, times = events.payloads(events.Load(1_000, 20, job.rate), job.events)
    keys = [f"{named.tenant_id}{SEPARATOR}{named.session_id}" for named in map(_NAMED.decode, lines)]
    mine = np.flatnonzero(shards_of(keys, PARTITIONS) == part).tolist()
    return events.batches([lines[i] for i in mine], [times[i] for i in mine], BATCH, part, ends=False)
