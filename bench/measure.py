"""How the benchmarks measure and print: medians and ratios of one run, beside what the machine is."""

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

console = Console(width=110)


@dataclass(frozen=True)
class Timing:
    """Seconds of processor time and of the wall clock, medians of the repeats."""

    cpu_s: float
    wall_s: float


def timed(work: Callable[[], object], repeats: int = 3) -> Timing:
    """Run ``work`` a few times and return the medians. What stands on the heap before is not the collector's business.

    Rates are quoted by processor time: other work on the machine spoils the wall clock more.
    """
    gc.collect()
    gc.freeze()
    cpu, wall = [], []
    for _ in range(repeats):
        cpu_before, wall_before = time.process_time(), time.perf_counter()
        work()
        cpu.append(time.process_time() - cpu_before)
        wall.append(time.perf_counter() - wall_before)
    gc.unfreeze()
    return Timing(statistics.median(cpu), statistics.median(wall))


def machine() -> str:
    """Return what the figures were measured on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),  # noqa: SIM115, PTH123
        platform.machine(),
    )
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}"


def show(title: str, columns: list[str], rows: list[list[str]], notes: str = "") -> None:
    """Print a table."""
    table = Table(title=title, caption=notes or None, caption_justify="left", title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
