"""The websocket gateway: how many deliveries it makes, and what clients that do not read or reconnect cost the others.

The gateway runs in this process, its clients in another one; on two cores each has its own. Latency is from the moment
a record is handed to the gateway to the moment a client has read it, so it holds the clients' own work, too.
"""

import argparse
import gc
import multiprocessing
import resource
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np
import numpy.typing as npt

from bench import crowd, measure
from bench.crowd import Plan, Tally
from schemas.batches import Records
from sinks.websocket.config import GatewayConfig
from sinks.websocket.gateway import Gateway
from sinks.websocket.limits import Limits
from sinks.websocket.tokens import Tokens, read_key, sign

KIND = "anomaly"


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench gateway", description=__doc__)
    options.add_argument("--clients", type=int, default=2_000)
    options.add_argument("--bytes", type=int, default=224, help="of a record")
    options.add_argument("--rate", type=float, default=50_000.0, help="deliveries a second in sum")
    options.add_argument("--seconds", type=float, default=15.0, help="how long each is measured")
    options.add_argument("--reconnect", type=float, default=60.0, help="how long clients reconnect")
    options.add_argument("--repeats", type=int, default=3, help="of the comparison with a client that never reads")
    return options


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one run: how long it took, latencies (ascending, ms), processor time of both sides (s)."""

    wall_s: float
    deliveries: int
    latencies: npt.NDArray[np.float64]
    tally: Tally
    behind: int
    gateway_s: float
    clients_s: float
    memory_mib: float

    def ms(self, share: float) -> float:
        """Return the latency that this share does not exceed."""
        return float(self.latencies[int(share * (len(self.latencies) - 1))]) if len(self.latencies) else 0.0


class House:
    """A gateway, and the tokens that it takes."""

    def __init__(self, clients: int) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        key = read_key("bench", "HS256", secrets.token_bytes(32))
        now = int(time.time())
        who = {"iss": "bench", "aud": "bench", "nbf": now - 1, "exp": now + 3_600, "sub": "u", "tenant": "t"}
        self.token = sign(key, {**who, "role": "dashboard"})
        many = 2 * clients + 100
        limits = Limits(clients=many, clients_per_user=many, clients_per_address=many)
        self.gateway = Gateway(GatewayConfig(port=0, limits=limits), verify=Tokens([key], "bench", "bench").verify)


@contextmanager
def _house(clients: int) -> Iterator[House]:
    house = House(clients)
    house.gateway.start()
    try:
        yield house
    finally:
        house.gateway.stop()


def run(options: argparse.Namespace) -> None:
    """Print the tables."""
    rate = options.rate / options.clients
    columns = ["", "deliveries/s", "p50 ms", "p99 ms", "max ms", "µs gateway", "µs clients", "missing"]
    rows = []
    for name, per_s in ((f"{options.rate:,.0f}/s asked", rate), ("as fast as it goes", 0.0)):
        with _house(options.clients) as house:
            rows.append(_row(name, _run(house, options, Plan(0, "", options.clients), per_s, options.seconds)))
    measure.show(
        f"{options.clients:,} clients, every record of {options.bytes} bytes to each",
        columns,
        rows,
        "µs: processor time of either side for each delivery.",
    )
    _compare_deaf(options, rate, columns)
    _reconnect(options, rate, columns)


def _compare_deaf(options: argparse.Namespace, rate: float, columns: list[str]) -> None:
    """Run with and without a client that never reads, in turn."""
    rows: list[list[str]] = []
    p99s: tuple[list[float], list[float]] = ([], [])
    memory: tuple[list[float], list[float]] = ([], [])
    for _ in range(options.repeats):
        for deaf in (0, 1):
            with _house(options.clients) as house:
                seen = _run(house, options, Plan(0, "", options.clients, deaf), rate, options.seconds)
            rows.append(_row("one never reads" if deaf else "all read", seen))
            p99s[deaf].append(seen.ms(0.99))
            memory[deaf].append(seen.memory_mib)
    without, with_one = (float(np.median(values)) for values in p99s)
    grown = float(np.median(memory[1])) - float(np.median(memory[0]))
    measure.show(
        "One client that never reads",
        columns,
        rows,
        f"medians: p99 {without:.1f} ms without it, {with_one:.1f} ms with it ({with_one / without - 1:+.0%}); the "
        f"process grew by {grown:+.1f} MiB more with it, its queue may hold {Limits().queue_bytes / 2**20:.0f} MiB",
    )


def _reconnect(options: argparse.Namespace, rate: float, columns: list[str]) -> None:
    """Let a tenth of the clients reconnect every second."""
    per_s = max(1, options.clients // 10)
    with _house(options.clients) as house:
        seen = _run(house, options, Plan(0, "", options.clients, 0, per_s), rate, options.reconnect)
    tally, back = seen.tally, sorted(ms / 1_000 for ms in seen.tally.catch_up)
    assert back, "nobody reconnected"
    measure.show(
        f"A tenth of the clients reconnects every second ({per_s}/s, for {options.reconnect:.0f} s)",
        columns,
        [_row("reconnecting", seen)],
        f"{tally.reconnects:,} reconnects ({tally.not_back:,} more were due from clients that were not back yet), "
        f"{tally.not_resumed} of them not resumed; {tally.gaps} gaps and "
        f"{tally.repeats} repeats by offset, {tally.lost} connections lost; connected and resumed after "
        f"{measure.quantile(back, 0.5):.0f} ms (p50), {measure.quantile(back, 0.99):.0f} ms (p99). Latencies hold what "
        "came while a client was away.",
    )


def _run(house: House, options: argparse.Namespace, plan: Plan, rate: float, seconds: float) -> Seen:
    """Start the clients, publish ``rate`` records a second (0: as many as are taken), and hear what they saw."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    plan = Plan(house.gateway.port, house.token, plan.count, plan.deaf, plan.per_s)
    process = context.Process(target=crowd.attend, args=(plan, theirs))
    process.start()
    theirs.close()
    try:
        _expect(ours)
        gc.collect()
        memory, begin = _memory_mib(), measure.Moment.now()
        count = _publish(house.gateway, options.bytes, rate, seconds)
        house.gateway.drain()
        timing = begin.until_now()
        grown = _memory_mib() - memory
        ours.send(count)
        tally, latencies, behind, cpu = _expect(ours)
        return Seen(timing.wall_s, len(latencies), latencies / 1_000, tally, behind, timing.cpu_s, cpu, grown)
    finally:
        process.join(crowd.SOON_S)
        if process.is_alive():
            process.kill()


def _publish(gateway: Gateway, size: int, rate: float, seconds: float) -> int:
    """Publish until the time is over; returns how many records. As fast as it goes means five at a time, each taken."""
    begin = time.monotonic()
    count = 0
    while (now := time.monotonic()) < begin + seconds:
        due = int((now - begin) * rate) - count if rate else 5
        if due > 0:
            gateway.publish(_records(count, due, size))
            count += due
            if not rate:
                gateway.drain()
        if rate:
            time.sleep(max(0.0, begin + (count + 1) / rate - time.monotonic()))
    return count


def _records(first: int, count: int, size: int) -> Records:
    at = time.monotonic_ns() // 1_000
    payloads = []
    for number in range(first, first + count):
        head = b'{"type":"%s","at":%d,"n":%d,"pad":"' % (KIND.encode(), at, number)
        payloads.append(head + b"x" * (size - len(head) - 2) + b'"}')
    ids = [str(number) for number in range(first, first + count)]
    return Records(KIND, ids, ["t"] * count, ["s"] * count, [1] * count, payloads)


def _expect(pipe: Connection) -> tuple[Tally, npt.NDArray[np.int64], int, float]:
    assert pipe.poll(4 * crowd.SOON_S), "the clients say nothing"
    told: tuple[Tally, npt.NDArray[np.int64], int, float] = pipe.recv()
    return told


def _memory_mib() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no file of ours
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def _row(name: str, seen: Seen) -> list[str]:
    return [
        name,
        f"{seen.deliveries / seen.wall_s:,.0f}",
        *(f"{seen.ms(share):,.1f}" for share in (0.5, 0.99, 1.0)),
        f"{1e6 * seen.gateway_s / seen.deliveries:.1f}",
        f"{1e6 * seen.clients_s / seen.deliveries:.1f}",
        f"{seen.behind:,}",
    ]
