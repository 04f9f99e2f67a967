"""Hands each closing to the detector, and keeps which of its rows belongs to which session.

A session gets a row of the detector's with its first audience and gives it back when nothing is left to remember, so
that visitors who are alone take no room.
"""

import numpy as np

from operators.anomalies.detector import Detector, Reports
from operators.anomalies.state import Spells, Ticks
from operators.columns import Column, Int64s
from operators.config import PANE_MS
from operators.engagement import ScoreColumns, SignalColumns
from operators.span import Span

NOBODY = 0
"""The row of sessions that have none; it never holds anything."""


class Watch:
    """The sessions of a shard that have, or lately had, an audience."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self._table = detector.baselines()
        self._free: list[int] = []
        self._next = NOBODY + 1

    @property
    def kind(self) -> str:
        """What the rows hold depends on the trees: rows of another kind can't be read."""
        config = self._detector.config
        return f"{config.n_trees} trees of {config.tree_height} from {config.seed}, {config.window} ticks"

    def look(self, span: Span, signals: SignalColumns, scores: ScoreColumns) -> tuple[Reports | None, Int64s]:
        """Return what is to be told of a closing, if there is anything, and each session's row from now on."""
        held = np.where(span.kept, span.table.baseline[span.row], NOBODY).astype(np.int64)
        alive = np.flatnonzero(span.alive & (span.heads.audience >= self._detector.config.min_audience))
        wanted = np.zeros(len(held), np.bool_)
        wanted[span.tick_session[alive]] = True
        new = np.flatnonzero(wanted & (held == NOBODY))
        held[new] = self._take(len(new))
        mine = np.flatnonzero(held != NOBODY)
        if not len(mine):
            return None, held
        heads = span.heads
        ticks = Ticks(
            session=span.tick_session,
            ts=span.tick_ts,
            alive=span.alive,
            signals=signals,
            scores=scores,
            chats=span.newest(span.chats),
            reactions=span.newest(span.reactions),
            present_or_active=heads.present_or_active,
            present_in_window=heads.present_in_window,
            left=heads.left,
            audience=heads.audience,
            age=(span.tick_ts - span.start[span.tick_session]) // PANE_MS,
            leaves=span.leaves_so_far(),
        )
        reports = self._detector.detect(self._table, Spells(held, span.kept, span.finished, span.told_end), ticks)
        over = mine[span.finished[mine] | ~self._table.used[held[mine]]]
        self._free += held[over].tolist()
        held[over] = NOBODY
        return reports if len(reports) else None, held

    def _take(self, count: int) -> list[int]:
        rows = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = count - len(rows)
        rows += range(self._next, self._next + fresh)
        self._next += fresh
        if self._next > self._table.capacity:
            self._table.reach(max(self._next, self._table.capacity * 3 // 2))
        return rows

    def columns(self, rows: Int64s) -> dict[str, Column]:
        """Return what is kept in these rows, by name."""
        return self._table.columns(rows)

    def restore(self, columns: dict[str, Column]) -> Int64s:
        """Lay down what was kept, and return the rows."""
        rows = np.array(self._take(len(columns["used"])), np.int64)
        for name, column in columns.items():
            getattr(self._table, name)[rows] = column
        return rows
