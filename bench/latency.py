"""From an event into a real Kafka to the record that it makes due at a websocket client of a real conductor.

A tick T of a session is due as soon as the session's watermark, its highest time less 2 s, reaches T. So the latency
of a record is the moment of its arrival less the moment at which the first event of its session with a time of
T + 2 s or more was handed to the producer. Ticks that stream time closes, 7 s after T, are due to no event of their
session and are left out; so are those of the first seconds.
"""

import argparse
import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from bench import broker, conductor, measure, traffic
from bench.broker import Topics
from bench.conductor import Conductor
from bench.traffic import Handed, Plan
from operators.config import PANE_MS, WindowConfig

CONNECT_S = 20.0
LAST_S = 20.0
"""How long the last records may take."""

Key = tuple[int, int]
"""A record: the number of its session, and its tick."""


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench latency", description=__doc__)
    broker.add_option(options)
    options.add_argument("--sessions", type=int, default=1_000)
    options.add_argument("--rate", type=float, default=2_000.0, help="events a second in all")
    options.add_argument("--seconds", type=float, default=30.0, help="how long is measured")
    options.add_argument("--warm-up", type=float, default=6.0, help="seconds before that")
    options.add_argument("--clients", type=int, default=5, help="each is sent every record")
    options.add_argument("--partitions", type=int, default=4)
    options.add_argument("--workers", type=int, default=1)
    return options


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    with broker.running(options.kafka) as address:
        if address is None:
            return
        with broker.topics(address, options.partitions) as topics, tempfile.TemporaryDirectory() as folder:
            arguments = ("--workers", str(options.workers))
            with conductor.running(topics, Path(folder), arguments) as running:
                plan = Plan(options.sessions, options.rate, options.warm_up + options.seconds)
                seen = asyncio.run(_watch(topics, running, plan, options.clients))
    _tell(options, seen)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What each client got and when (`time.monotonic`), what was sent, and the conductor's use of processors."""

    handed: Handed
    arrived: list[dict[Key, float]]
    cores: float


@dataclass(slots=True)
class _Client:
    """A subscriber of ``engagement``."""

    arrived: dict[Key, float] = field(default_factory=dict)

    async def listen(self, connection: ClientConnection) -> None:
        """Note the arrival of every record, until the connection is closed."""
        decoder = msgspec.json.Decoder(_Message)
        try:
            while True:
                message = await connection.recv(decode=False)
                now = time.monotonic()
                record = decoder.decode(message).record
                if record is not None:
                    self.arrived.setdefault((int(record.session_id[-6:]), record.ts), now)
        except ConnectionClosed:
            return


class _Record(msgspec.Struct):
    session_id: str
    ts: int


class _Message(msgspec.Struct):
    op: str
    record: _Record | None = None


async def _watch(topics: Topics, running: Conductor, plan: Plan, count: int) -> _Seen:
    """Subscribe, let the traffic flow, and wait for what it makes due."""
    clients = [_Client() for _ in range(count)]
    async with AsyncExitStack() as stack:
        listening = []
        for client in clients:
            connection = await stack.enter_async_context(
                connect(f"ws://127.0.0.1:{running.port}/ws", compression=None, proxy=None, open_timeout=CONNECT_S)
            )
            await connection.send('{"op":"subscribe","channels":["engagement"]}')
            listening.append(asyncio.create_task(client.listen(connection)))
        cpu, begin = running.cpu_s(), time.monotonic()
        handed = await asyncio.to_thread(traffic.sent, topics, plan)
        cores = (running.cpu_s() - cpu) / (time.monotonic() - begin)
        wanted = due(handed).keys()
        deadline = time.monotonic() + LAST_S
        while any(wanted - client.arrived.keys() for client in clients) and time.monotonic() < deadline:
            for task in listening:
                assert not task.done(), "the gateway closed a client"
            await asyncio.sleep(0.1)
    await asyncio.gather(*listening)
    return _Seen(handed, [client.arrived for client in clients], cores)


def due(handed: Handed) -> dict[Key, float]:
    """Return every record that an event of its session made due, and the moment at which that was handed over."""
    window = WindowConfig()
    moments: dict[Key, float] = {}
    for session in np.unique(handed.session).tolist():
        mine = handed.session == session
        ts, at = np.maximum.accumulate(handed.ts[mine]), handed.at[mine]
        first = int(ts[0]) // PANE_MS * PANE_MS + PANE_MS
        ticks = np.arange(first, int(ts[-1]) - window.lateness_ms + 1, PANE_MS)
        cause = np.searchsorted(ts, ticks + window.lateness_ms)
        for tick, which in zip(ticks.tolist(), cause.tolist(), strict=True):
            if ts[which] < tick + window.stream_delay_ms:
                moments[session, tick] = float(at[which])
    return moments


def _tell(options: argparse.Namespace, seen: _Seen) -> None:
    handed = seen.handed
    begin, end = float(handed.at[0]) + options.warm_up, float(handed.at[-1])
    every = due(handed)
    wanted = {key: at for key, at in every.items() if at >= begin}
    latencies = sorted(one[key] - at for key, at in wanted.items() for one in seen.arrived if key in one)
    assert latencies, "no record arrived: measure longer"
    missed = len(wanted) * len(seen.arrived) - len(latencies)
    arrivals = np.array([at for one in seen.arrived for at in one.values() if begin <= at < end])
    by_stream_time = {key for one in seen.arrived for key, at in one.items() if begin <= at < end} - every.keys()
    busiest = int(np.bincount((arrivals - begin).astype(int)).max())
    measure.show(
        f"From an event into Kafka to a record at a socket: {options.sessions:,} sessions, {options.clients} clients, "
        f"{options.partitions} partitions",
        ["ms", "p50", "p95", "p99", "max", "deliveries", "not delivered"],
        [
            [
                "latency",
                *(f"{1_000 * measure.quantile(latencies, share):,.0f}" for share in (0.5, 0.95, 0.99, 1.0)),
                f"{len(latencies):,}",
                f"{missed:,}",
            ]
        ],
        f"{len(handed.at) / (end - float(handed.at[0])):,.0f} events/s sent, at most {1_000 * handed.behind_s:.0f} ms "
        f"behind plan; {len(wanted):,} records due in {end - begin:.0f} s ({len(by_stream_time):,} more were left out: "
        f"stream time closed them); {len(arrivals) / (end - begin):,.0f} deliveries/s, {busiest:,} in the busiest "
        f"second; the conductor used {seen.cores:.2f} of a core. Not delivered: a client that lags is sent a session's "
        "newest record only.",
    )
