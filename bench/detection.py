"""What scoring and finding anomalies take, for each session and tick, when many sessions are due at once."""

import argparse
import statistics
import time
from collections.abc import Iterator

from bench import events, measure
from bench.events import Load
from operators.anomalies.config import AnomalyConfig
from operators.anomalies.detector import Detector
from operators.chunk import Chunk
from operators.config import PANE_MS, ScoreConfig, WindowConfig
from operators.decode import BatchDecoder
from operators.engagement import Scorer
from operators.window import Shard

PEOPLE = 8
EACH_PER_S = 1.0
"""Events a second of each session: 8 people who act every 8 s."""
WARM_TICKS = 40
"""Ticks before anything is timed: the trees have seen their window."""
TICKS = 12


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench detection", description=__doc__)
    options.add_argument("--sessions", type=int, nargs="+", default=[1, 100, 1_000, 10_000], help="due at one tick")
    options.add_argument("--warm-ticks", type=int, default=WARM_TICKS, help="before anything is timed")
    return options


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    rows = []
    for sessions in options.sessions:
        without, using = _per_tick(sessions, options.warm_ticks)
        rows.append([f"{sessions:,}", f"{without:.1f}", f"{using:.1f}", f"{using - without:.1f}"])
    measure.show(
        f"Sessions of {PEOPLE} people, all due at one tick, one shard: microseconds a session and tick",
        ["sessions", "windows and score", "with anomalies", "anomalies alone"],
        rows,
        f"Medians of {TICKS} ticks behind {options.warm_ticks}, with and without in turns. Windows and score: order, "
        "repeats, presence, signals, score, state. Records are not encoded here.",
    )


def _per_tick(sessions: int, warm_ticks: int) -> tuple[float, float]:
    """Return the median microseconds of a session's tick, without and with detection."""
    window, score = WindowConfig(), ScoreConfig()
    shards = [Shard(window, Scorer(score), detector) for detector in (None, Detector(AnomalyConfig(), score))]
    taken: list[list[float]] = [[], []]
    for number, (before, due) in enumerate(_ticks(sessions, warm_ticks + TICKS, window)):
        for shard, times in zip(shards, taken, strict=True):
            for chunk in before:
                shard.feed(chunk)
                for _ in shard.close():
                    pass
            shard.feed(due)
            begin = time.perf_counter()
            ticks = sum(len(closed.ts) for closed in shard.close())
            if number >= warm_ticks and ticks:
                times.append((time.perf_counter() - begin) / ticks * 1e6)
    return statistics.median(taken[0]), statistics.median(taken[1])


def _ticks(sessions: int, count: int, window: WindowConfig) -> Iterator[tuple[list[Chunk], Chunk]]:
    """Yield for each tick the chunks of its events, and the one that makes all sessions due."""
    decoder = BatchDecoder(1, window)
    stream = events.stream(
        Load(sessions, PEOPLE, EACH_PER_S), round(sessions * EACH_PER_S * (count + 2) * PANE_MS / 1000)
    )
    tick = events.START + PANE_MS
    held: list[tuple[bytes, int]] = []
    for line, ts in stream:
        if ts >= tick:
            before = [chunk for batch in events.batched(iter(held), len(held)) for _, chunk in decoder(batch).chunks]
            ((_, due),) = decoder(events.tidings(tick + window.stream_delay_ms)).chunks
            yield before, due
            held, tick = [], tick + PANE_MS
            count -= 1
            if not count:
                return
        held.append((line, ts))
