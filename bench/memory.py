"""What a live session and its users take, what a tick of 100,000 sessions costs, and whether the recovery folder grows."""

import argparse
import gc
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSource, run_main

from bench import events, measure
from bench.sinks import Counting
from flows.conductor import ConductorConfig, build
from operators import records
from operators.config import ScoreConfig, WindowConfig
from operators.decode import BatchDecoder
from operators.engagement import Scorer
from operators.window import Shard
from schemas.batches import RawBatch
from schemas.inbound import PageView

BATCH = 65_536


def main(arguments: list[str]) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="bench memory", description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=4)
    options = parser.parse_args(arguments)
    sizes(options)
    churn(options)


class _Held:
    """A decoder and its shards, fed by hand."""

    def __init__(self, shards: int) -> None:
        self._scorer = Scorer(ScoreConfig())
        self._decoder = BatchDecoder(shards, WindowConfig())
        self.shards = [Shard(WindowConfig(), self._scorer) for _ in range(shards)]

    def feed(self, batch: RawBatch) -> int:
        """Take a batch in; return the records that it led to, encoded and forgotten."""
        told = 0
        for which, chunk in self._decoder(batch).chunks:
            self.shards[which].feed(chunk)
            for closed in self.shards[which].close():
                told += len(records.engagement(closed, self._scorer)) + len(records.summaries(closed))
        return told


def sizes(options: argparse.Namespace) -> None:
    """Fill shards with live sessions and look at the process's memory."""
    rows = []
    before = _resident()
    held = _Held(options.shards)
    lines, times = events.payloads(options.sessions * 12, options.sessions, 1, 0.2)
    for batch in events.batches(lines, times, BATCH, ends=False):
        held.feed(batch)
    del lines, batch
    gc.collect()
    live = sum(len(shard.sessions) for shard in held.shards)
    rows.append(["a session of one visitor at 0.2 events/s", f"{live:,}", f"{(_resident() - before) / live:,.0f} bytes"])
    packed = sum(len(shard.snapshot()) for shard in held.shards)
    rows.append(["its snapshot", f"{live:,}", f"{packed / live:,.0f} bytes"])
    ticks = []
    for k in range(1, 4):
        begin = time.perf_counter()
        told = held.feed(events.tidings(times[-1] + 7_000 + k * 5_000))
        ticks.append((told, time.perf_counter() - begin))
    told, seconds = max(ticks)
    rows.append(["a tick of all of them, encoded", f"{told:,} records", f"{seconds:.2f} s"])
    begin = time.perf_counter()
    for shard in held.shards:
        shard.snapshot()
    rows.append(["a snapshot of all of them", f"{packed / 1e6:.0f} MB", f"{time.perf_counter() - begin:.2f} s"])
    del held
    gc.collect()
    before = _resident()
    held = _Held(1)
    lines, times = events.payloads(options.users * 4, 1, options.users, 10_000.0)
    for batch in events.batches(lines, times, BATCH, ends=False):
        held.feed(batch)
    del lines, batch
    gc.collect()
    users = int(held.shards[0].sessions.users_count.sum())
    rows.append(["a further user of one session", f"{users:,}", f"{(_resident() - before) / users:,.0f} bytes"])
    measure.show("Memory and ticks", ["what", "how many", "each"], rows)


def churn(options: argparse.Namespace) -> None:
    """A day of visitors who come and go, with recovery on: the folder's size must not grow with the day."""
    grown: list[tuple[float, int]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        init_db_dir(folder, 1)  # type: ignore[no-untyped-call]
        batches: list[RawBatch] = []
        for part, more in enumerate(_day()):
            batches += more
            # The source is given the day so far; it goes on from the store, behind what earlier runs have read.
            flow = build(ConductorConfig(shards=options.shards), TestingSource(batches), {"count": Counting()})
            store = RecoveryConfig(folder)  # type: ignore[no-untyped-call]
            run_main(flow, epoch_interval=timedelta(milliseconds=200), recovery_config=store)  # type: ignore[no-untyped-call]
            grown.append(((part + 1) * 4, sum(file.stat().st_size for file in folder.iterdir())))
    measure.show(
        "Recovery folder over a day of 43,200 sessions of a visitor each, about 900 of them live at a time",
        ["hours", "folder"],
        [[f"{hours:.0f}", f"{size / 1e6:.2f} MB"] for hours, size in grown],
    )


def _day() -> Iterator[list[RawBatch]]:
    """Yield six times four hours: every two seconds a new visitor, who looks at three pages and is idle to the end."""
    for part in range(6):
        rows = []
        for i in range(7_200):
            number = part * 7_200 + i
            for page in range(3):
                ts = events.START + number * 2_000 + page * 20_000
                about = (f"{number}-{page}", "shop", f"visit-{number}", f"visitor-{number}", ts)
                rows.append((ts, msgspec.json.encode(PageView(*about, "/", "home"))))
        rows.sort()
        batches = events.batches([line for _, line in rows], [ts for ts, _ in rows], 2_048, ends=False)
        yield batches


def _resident() -> int:
    """Return the process's resident memory in bytes."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4_096
