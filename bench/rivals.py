"""What Attune's window is measured against: a bare Python loop, and the engine's own sliding window.

Both do less than Attune: three counts and the distinct users of 60 s every 5 s. Neither checks a field, orders events,
drops repeats, knows presence or polls, scores or writes a record.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource

from bench.sinks import Counting

PANE_MS, PANES = 5_000, 12
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COUNTS = {"chat.message": 0, "reaction": 1, "presence.join": 2}


def bare_loop(lines: Iterable[bytes]) -> int:
    """Count panes of each session in dictionaries and sum the last twelve at every tick; return the windows closed."""
    sessions: dict[tuple[str, str], dict[int, list[Any]]] = {}
    reached: dict[tuple[str, str], int] = {}
    closed = 0
    for line in lines:
        event = orjson.loads(line)
        key = (event["tenant_id"], event["session_id"])
        pane = event["ts"] // PANE_MS
        panes = sessions.setdefault(key, {})
        counts = panes.get(pane)
        if counts is None:
            before = reached.get(key, pane)
            for tick in range(before, pane):
                window = [panes[p] for p in range(tick - PANES + 1, tick + 1) if p in panes]
                [sum(c[i] for c in window) for i in range(3)]
                len(set().union(*(c[3] for c in window)))
                closed += 1
                panes.pop(tick - PANES, None)
            reached[key] = max(before, pane)
            counts = panes[pane] = [0, 0, 0, set()]
        counts[_COUNTS[event["type"]]] += 1
        counts[3].add(event["user_id"])
    return closed


def sliding_window(lines: list[bytes], counted: Counting) -> Dataflow:
    """Return the engine's own way: a sliding ``fold_window`` by event time."""
    flow = Dataflow("sliding")
    raw = op.input("source", flow, TestingSource(lines, batch_size=1_000))
    events = op.map("decode", raw, orjson.loads)
    keyed = op.key_on("key", events, lambda event: event["tenant_id"] + "/" + event["session_id"])
    clock: win.EventClock[dict[str, Any]] = win.EventClock(
        lambda event: _EPOCH + timedelta(milliseconds=event["ts"]),
        wait_for_system_duration=timedelta(seconds=2),
        # The default reading of the system's clock makes the window spin (bytewax issue 578).
        now_getter=lambda: _EPOCH,
        to_system_utc=lambda _: None,
    )
    windower = win.SlidingWindower(timedelta(seconds=60), timedelta(seconds=5), _EPOCH)
    windows = win.fold_window("window", keyed, clock, windower, lambda: [0, 0, 0, set()], _fold, _merge)
    op.output("sink", windows.down, counted)
    return flow


def _fold(counts: list[Any], event: dict[str, Any]) -> list[Any]:
    counts[_COUNTS[event["type"]]] += 1
    counts[3].add(event["user_id"])
    return counts


def _merge(one: list[Any], other: list[Any]) -> list[Any]:
    return [one[0] + other[0], one[1] + other[1], one[2] + other[2], one[3] | other[3]]
