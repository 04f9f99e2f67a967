"""How the benchmarks measure and print: medians and ratios of one run, beside what the machine is."""

import gc
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

console = Console(width=110)


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds of processor time (all threads of the process) and of the wall clock."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment on both clocks of this process."""

    cpu: float
    wall: float

    @classmethod
    def now(cls) -> "Moment":
        """Return this moment."""
        return cls(time.process_time(), time.perf_counter())

    def until_now(self) -> Timing:
        """Return what has gone by since."""
        return Timing(time.process_time() - self.cpu, time.perf_counter() - self.wall)


def median(timings: Iterable[Timing]) -> Timing:
    """Return the median of each clock.

    >>> median([Timing(1.0, 9.0), Timing(2.0, 5.0), Timing(4.0, 6.0)])
    Timing(cpu_s=2.0, wall_s=6.0)
    """
    timings = list(timings)
    return Timing(statistics.median(t.cpu_s for t in timings), statistics.median(t.wall_s for t in timings))


def timed(work: Callable[[], object], repeats: int = 3) -> Timing:
    """Run ``work`` a few times and return the medians. What stands on the heap before is not the collector's business.

    Rates are quoted by processor time: other work on the machine spoils the wall clock more.
    """
    gc.collect()
    gc.freeze()
    timings = []
    for _ in range(repeats):
        begin = Moment.now()
        work()
        timings.append(begin.until_now())
    gc.unfreeze()
    return median(timings)


def quantile(ascending: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 0.5), quantile([1.0, 2.0, 3.0, 4.0], 0.99)
    (2.0, 4.0)
    """
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def machine() -> str:
    """Return what the figures were measured on."""
    processors = Path("/proc/cpuinfo")
    lines = processors.read_text(encoding="utf-8").splitlines() if processors.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"


class Company:
    """How busy others keep the machine, from the moment that this is made."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._machine = _busy_s()
        self._own = _own_s()

    def told(self) -> str:
        """Say it; to be asked when all processes that were started have ended."""
        if self._machine is None or (now := _busy_s()) is None:
            return "what others did meanwhile is not known here"
        wall = time.perf_counter() - self._wall
        others = max(0.0, now - self._machine - (_own_s() - self._own)) / wall
        return f"{wall:.0f} s, in which other programs kept {others:.2f} of {os.cpu_count()} cores busy"


def _busy_s() -> float | None:
    """Return the processor time that all programs have used since the machine started, None where it is not told."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return None
    user, nice, system, _idle, _waiting, *interrupts = map(int, stat.read_text(encoding="ascii").split()[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def show(title: str, columns: list[str], rows: list[list[str]], notes: str = "") -> None:
    """Print a table. Words around it are not wrapped to the width of a small one."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(f"\n[bold]{title}[/bold]", highlight=False)
    console.print(table)
    if notes:
        console.print(notes, style="dim", highlight=False)
