"""The windows of a shard: many sessions as columns, closed tick by tick, all that are due in one go."""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from prometheus_client import Counter

from operators.anomalies.detector import Detector
from operators.chunk import Chunk
from operators.columns import Column, Flags, Int64s, meta_of, pack, unpack
from operators.config import NEVER, PANE_MS, WindowConfig
from operators.engagement import Scorer
from operators.lateness import in_time, next_tick
from operators.polls import Polls
from operators.presence import LONG_AGO
from operators.rows import NO_START, Sessions, Users
from operators.settle import Closed, settle
from operators.snapshot import check
from operators.span import Span
from operators.texts import TextColumn, Texts
from operators.waiting import Events, Waiting, as_columns
from operators.watch import NOBODY, Watch

SNAPSHOT_VERSION = 4
MOST_TICKS = 200_000
"""Ticks that are closed together: bounds memory when hours are caught up at once."""
MOST_TICKS_OF_ONE = 4_096
ROOMY = 4_096
"""Rows from which on the tables are made anew when most of them are unused."""

_ACCEPTED = Counter("attune_events_accepted_total", "Windowed events that were in time, repeats among them")
_REPEATS = Counter("attune_events_repeated_total", "Accepted events that were there already, and counted once")


@dataclass(frozen=True, slots=True)
class Judged:
    """The places of a chunk's events that are early or late."""

    early: Int64s
    late: Int64s

    def accepted(self, count: int) -> Flags | None:
        """Return which of the chunk's ``count`` events are neither; None: all."""
        if not len(self.early) and not len(self.late):
            return None
        flags = np.ones(count, np.bool_)
        flags[self.early] = flags[self.late] = False
        return flags


class Shard:
    """The sessions of one shard. Feed it chunks, then close what is due.

    All that it returns depends on the events of its partitions' logs alone, not on how they were cut into chunks. Its
    state is bounded by the sessions that live and their users; a session's is freed when it ends.
    """

    def __init__(self, config: WindowConfig, scorer: Scorer, detector: Detector | None = None) -> None:
        """Without a detector there are no anomalies."""
        self.config = config
        self._scorer, self._detector = scorer, detector
        self._watch = Watch(detector) if detector else None
        self.sessions = Sessions()
        self.users = Users(self.sessions)
        self.polls: dict[int, Polls] = {}
        self._waiting = Waiting()
        self._clocks: dict[int, int] = {}
        self._swept: dict[int, int] = {}
        self._touched: list[Int64s] = []

    def feed(self, chunk: Chunk) -> Judged:
        """Accept what is in time; what is not is the caller's to set aside."""
        clock = self._clocks.get(chunk.partition, 0)
        judged = Judged(np.zeros(0, np.int64), np.zeros(0, np.int64))
        if len(chunk):
            rows = self.sessions.rows_of(chunk.sessions)
            early, late = in_time(chunk, self._watermarks(rows), clock, self.config)
            accepted = ~(early | late)
            judged = Judged(np.flatnonzero(early), np.flatnonzero(late))
            if accepted.all():
                self._accept(chunk, rows, slice(None))
            elif accepted.any():
                self._accept(chunk, rows, accepted)
        self._clocks[chunk.partition] = max(clock, chunk.clock)
        return judged

    def _watermarks(self, rows: Int64s) -> Int64s:
        """Return the rows' watermarks (-1: no row, long ago).

        A tick that is closed counts too: were a session's events to move to a partition whose stream time is behind,
        nothing else would keep them out of windows that are gone.
        """
        sessions = self.sessions
        closed = np.where(sessions.start[rows] == NO_START, LONG_AGO, sessions.next_tick[rows] - PANE_MS)
        marks = np.maximum(sessions.highest[rows] - self.config.lateness_ms, closed)
        return np.where(rows >= 0, marks, LONG_AGO)

    def _accept(self, chunk: Chunk, rows: Int64s, which: Flags | slice) -> None:
        session, ts = chunk.session[which], chunk.ts[which]
        if (rows < 0).any():
            used = np.zeros(len(rows), np.bool_)
            used[session] = True
            new = np.flatnonzero(used & (rows < 0))
            rows[new] = self.sessions.add([chunk.sessions[i] for i in new.tolist()])
        row = rows[session]
        events = Events(row, chunk.user[which], chunk.poll[which], chunk.kind[which], ts, chunk.place[which])
        self._waiting.add(events, chunk.event_ids)
        sessions = self.sessions
        np.maximum.at(sessions.highest, row, ts)
        np.minimum.at(sessions.due, row, next_tick(ts))
        sessions.partition[row] = chunk.partition
        np.add.at(sessions.waiting, row, 1)
        self._touched.append(rows[rows >= 0])
        _ACCEPTED.inc(len(ts))

    def close(self) -> Iterator[Closed]:
        """Close every tick that a session's watermark or its partition's stream time has reached."""
        idle = True
        while True:
            rows = self._due()
            if not len(rows):
                if idle:  # in a backlog each chunk closes ticks, and what comes next is sorted with the next ones
                    self._prepare()
                self._shrink()
                return
            idle = False
            for some, horizon in self._portions(rows):
                cut = some[horizon < self._horizon(some)]
                yield self._close(some, horizon)
                self._skip_silence(cut)

    def _prepare(self) -> None:
        """Sort what the next tick will close, when half of the time in which it can come is over."""
        if self._clocks:
            until = (min(self._clocks.values()) - self.config.lateness_ms // 2) // PANE_MS * PANE_MS
            _REPEATS.inc(self._waiting.sort(until, self.sessions.waiting))

    def _horizon(self, rows: Int64s) -> Int64s:
        """Return up to where the rows' ticks are closed: the later of watermark and stream time, both less delays."""
        sessions = self.sessions
        delay = self.config.stream_delay_ms
        clocks = np.full(max(self._clocks, default=0) + 1, LONG_AGO)
        for partition, clock in self._clocks.items():
            clocks[partition] = clock - delay
        reached = np.maximum(sessions.highest[rows] - self.config.lateness_ms, clocks[sessions.partition[rows]])
        horizon: Int64s = reached // PANE_MS * PANE_MS
        return horizon

    def _due(self) -> Int64s:
        """Return the rows that have something to close, ascending.

        Rows without new events move only when stream time passes a tick, so most calls look at the touched rows alone.
        """
        ticks = {p: (clock - self.config.stream_delay_ms) // PANE_MS for p, clock in self._clocks.items()}
        if ticks != self._swept:
            rows = np.flatnonzero(self.sessions.due < NEVER)
        else:
            rows = np.unique(np.concatenate([np.zeros(0, np.int64), *self._touched]))
        rows = rows[self.sessions.due[rows] <= self._horizon(rows)]
        if not len(rows):
            self._swept = ticks
            self._touched = []
        return rows

    def _portions(self, rows: Int64s) -> Iterator[tuple[Int64s, Int64s]]:
        """Cut rows into portions whose ticks fit into memory; what is left of a long row comes in the next round."""
        sessions = self.sessions
        begin = sessions.due[rows]
        horizon = np.minimum(self._horizon(rows), begin + MOST_TICKS_OF_ONE * PANE_MS)
        ends = np.maximum(begin, sessions.last[rows] + self.config.session_timeout_ms)
        latest = np.where(sessions.waiting[rows] > 0, horizon, np.minimum(horizon, ends))
        ticks = np.cumsum((latest - begin) // PANE_MS + 1)
        part = ticks // MOST_TICKS
        for which in range(int(part[-1]) + 1):
            mine = part == which
            if mine.any():
                yield rows[mine], horizon[mine]

    def _skip_silence(self, rows: Int64s) -> None:
        """Let rows whose portion ended in silence go on at their next event: a log may leap over years."""
        sessions = self.sessions
        none = sessions.start[rows] == NO_START
        rows = rows[(sessions.waiting[rows] > 0) & (none | sessions.silent[rows])]
        if not len(rows):
            return
        ends = sessions.last[rows] + self.config.session_timeout_ms
        ends = np.where(sessions.start[rows] == NO_START, NEVER, -(-ends // PANE_MS) * PANE_MS)
        sessions.due[rows] = np.minimum(next_tick(self._waiting.earliest(rows, sessions.capacity)), ends)

    def _close(self, rows: Int64s, horizon: Int64s) -> Closed:
        due = self._waiting.close(rows, horizon, self.sessions.waiting)
        _REPEATS.inc(due.repeats)
        span = Span(self.sessions, rows, horizon, due, self.config)
        signals = span.measure(self.users, self.polls)
        scores = self._scorer.score(signals)
        unwatched = np.zeros(len(span.row), np.int64)
        watched = self._watch.look(span, signals, scores) if self._watch else (None, unwatched)
        return settle(span, signals, scores, watched, self.users, self.polls, self._scorer.config)

    def _shrink(self) -> None:
        """Begin with small tables again when three quarters are unused: a rush is not paid for until the next start."""
        if self.sessions.capacity > ROOMY and 4 * len(self.sessions) < self.sessions.capacity:
            self.__dict__.update(
                Shard.restore(self.config, self._scorer, self.snapshot(), detector=self._detector).__dict__
            )

    def snapshot(self, shards: int = 1) -> bytes:
        """Pack the whole state into bytes; ``shards`` is how many there are, which a restored one must agree with.

        Rows are renumbered: their numbers mean nothing outside.
        """
        sessions = self.sessions
        rows = np.array(sorted(sessions.row_by_key.values()), np.int64)
        renumbered = np.zeros(max(sessions.capacity, 1), np.int64)
        renumbered[rows] = np.arange(len(rows))
        events, event_ids = self._waiting.packed()
        columns = {f"session.{name}": column for name, column in sessions.columns(rows).items()}
        columns |= {f"user.{name}": column for name, column in self.users.columns(self.users.of(rows)).items()}
        columns |= {f"event.{name}": column for name, column in as_columns(events).items()}
        columns["event.row"] = renumbered[events.row]
        if self._watch:
            baselines = sessions.baseline[rows]
            columns |= {f"baseline.{n}": c for n, c in self._watch.columns(baselines[baselines != NOBODY]).items()}
        meta = {
            "version": SNAPSHOT_VERSION,
            "keys": [sessions.keys[row] for row in rows.tolist()],
            "event_ids": event_ids,
            "clocks": self._clocks,
            "shards": shards,
            "baselines": self._watch.kind if self._watch else None,
            "polls": {int(renumbered[row]): polls for row, polls in self.polls.items()},
        }
        return pack(meta, columns)

    @classmethod
    def restore(
        cls, config: WindowConfig, scorer: Scorer, packed: bytes, shards: int = 1, detector: Detector | None = None
    ) -> "Shard":
        """Return the shard that a snapshot was taken of.

        Raises:
            TerminalError: the snapshot is another release's, or of another number of shards.
        """
        meta = meta_of(packed)
        check("sessions", meta["version"], meta["shards"], reads=SNAPSHOT_VERSION, wants=shards)
        meta, columns = unpack(packed)
        shard = cls(config, scorer, detector)
        keys = meta["keys"]
        shard.sessions = Sessions(max(16, len(keys)))
        shard.sessions.add(keys)
        for name in Sessions.LAYOUT:
            getattr(shard.sessions, name)[: len(keys)] = columns[f"session.{name}"]
        counts = shard.sessions.users_count[: len(keys)]
        shard.sessions.users_at[: len(keys)] = np.cumsum(counts) - counts
        shard.sessions.users_room[: len(keys)] = counts
        shard._restore_watch(columns, meta["baselines"])
        shard.users = Users(shard.sessions)
        shard.users.restore({name: columns[f"user.{name}"] for name in Users.LAYOUT})
        shard.polls = {int(row): msgspec.convert(polls, Polls) for row, polls in meta["polls"].items()}
        shard._clocks = {int(partition): clock for partition, clock in meta["clocks"].items()}
        if len(columns["event.row"]):
            plain = {name[6:]: column for name, column in columns.items() if name.startswith("event.")}
            shard._waiting.add(Events(**plain), TextColumn(Texts(*meta["event_ids"]).unpacked()))
        return shard

    def _restore_watch(self, columns: dict[str, Column], kind: str | None) -> None:
        """Give the sessions their baselines back; a detector that is off, or other trees than before, leaves none."""
        sessions = self.sessions
        had = np.flatnonzero(sessions.baseline)
        sessions.baseline[had] = NOBODY
        kept = {name.removeprefix("baseline."): c for name, c in columns.items() if name.startswith("baseline.")}
        if self._watch and kind == self._watch.kind:
            sessions.baseline[had] = self._watch.restore(kept)
