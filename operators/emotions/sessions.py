"""When the sessions of a shard began and when something last came of them, in the order of their partitions."""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.chunk import SEPARATOR, Chunk
from operators.columns import Int32s, Int64s, first_of_runs
from operators.config import NEVER, WindowConfig
from operators.digests import digests
from operators.kinds import IS_END
from operators.lateness import running_maximum
from operators.presence import LONG_AGO
from operators.rows import NO_START, Keyed

_MIX = np.uint64(0x9E3779B97F4A7C15)


class Turn(IntEnum):
    """How a session turns at an event: it had been silent for too long, it follows on one that was ended, it ends."""

    AFTER_SILENCE = 0
    AFTER_END = 1
    END = 2


class Boundary(NamedTuple):
    """An event at which a session begins or ends; ``over`` is when the one before it was over (ms)."""

    place: int
    turn: Turn
    over: int


class Sessions(Keyed):
    """One row for each session that lives: ``start``, ``last`` event (ms), ``partition``, a ``number`` for its key."""

    LAYOUT: ClassVar[dict[str, tuple[Any, tuple[int, ...], Any]]] = {
        "start": (np.int64, (), NO_START),
        "last": (np.int64, (), LONG_AGO),
        "partition": (np.int32, (), 0),
        "number": (np.uint64, (), 0),
    }
    start: Int64s
    last: Int64s
    partition: npt.NDArray[np.int32]
    number: npt.NDArray[np.uint64]

    def rows(self, chunk: Chunk, places: Int64s) -> Int64s:
        """Return the row of each of the chunk's sessions; those without an accepted event get -1 if they have none."""
        rows = self.rows_of(chunk.sessions)
        if (rows < 0).any() and len(places):
            session, ts = chunk.session[places], chunk.ts[places]
            used = np.zeros(len(rows), np.bool_)
            used[session] = True
            new = np.flatnonzero(used & (rows < 0))
            names = [chunk.sessions[i] for i in new.tolist()]
            rows[new] = self.add(names)
            self.number[rows[new]] = digests([name.replace(SEPARATOR, " ") for name in names])
            first = np.zeros(len(rows), np.int64)
            first[session[::-1]] = ts[::-1]  # what is written last is what came first
            self.start[rows[new]] = first[new]
        return rows

    def boundaries(
        self, chunk: Chunk, places: Int64s, rows: Int64s, config: WindowConfig
    ) -> tuple[list[Boundary], list[int]]:
        """Return where sessions that were there before a chunk, or began in it, end and are followed by others.

        Beside them, the places of what came after its session's end but does not lie behind it in time.
        """
        if not len(places):
            return [], []
        session, ts = chunk.session[places], chunk.ts[places]
        ends = IS_END[chunk.kind[places]]
        last = self.last[rows]
        known = last[last != LONG_AGO]
        earliest = min(int(ts.min()), int(known.min(initial=ts.max())))
        found: list[Boundary] = []
        stray: list[int] = []
        if int(ts.max()) - earliest >= config.session_timeout_ms:
            found = self._after_silence(places, session, ts, last, config.session_timeout_ms)
        silent = {int(chunk.session[boundary.place]) for boundary in found}
        found = []
        for number in sorted(silent | set(session[ends].tolist())):
            mine = np.flatnonzero(session == number)
            found += _of_ended(
                zip(places[mine].tolist(), ts[mine].tolist(), ends[mine].tolist(), strict=True),
                int(last[number]),
                config.session_timeout_ms,
                stray,
            )
        return found, stray

    def _after_silence(
        self, places: Int64s, session: Int32s, ts: Int64s, last: Int64s, timeout_ms: int
    ) -> list[Boundary]:
        order = np.argsort(session, kind="stable")
        of, when = session[order], ts[order]
        first = first_of_runs(of)
        reached = np.roll(running_maximum(of, when), 1)
        reached[first] = last[of[first]]
        idle = (reached != LONG_AGO) & (when - reached >= timeout_ms)
        return [
            Boundary(int(places[order[i]]), Turn.AFTER_SILENCE, int(reached[i]) + timeout_ms)
            for i in np.flatnonzero(idle).tolist()
        ]

    def keys_of(self, rows: Int64s | int, users: npt.NDArray[np.uint64] | np.uint64) -> npt.NDArray[np.uint64]:
        """Return a number for each visitor: a session (row) and a user (digest)."""
        with np.errstate(over="ignore"):
            keys: npt.NDArray[np.uint64] = self.number[rows] * _MIX + users
        return keys

    def segments(self, chunk: Chunk, places: Int64s, boundaries: list[Boundary]) -> Int64s:
        """Return for each event how often its session had ended in this chunk before it."""
        segment = np.zeros(len(places), np.int64)
        for place, turn, _ in boundaries:
            if turn is not Turn.AFTER_END:
                mine = chunk.session[places] == chunk.session[place]
                segment += mine & (places > place if turn is Turn.END else places >= place)
        return segment

    def took(self, chunk: Chunk, places: Int64s, rows: Int64s) -> None:
        """Remember when something last came of each session."""
        row = rows[chunk.session[places]]
        np.maximum.at(self.last, row, chunk.ts[places])
        self.partition[row] = chunk.partition

    def idle(self, partition: int, until: int, config: WindowConfig) -> tuple[Int64s, int]:
        """Return the rows of a partition whose session is over by ``until`` (ms) because nothing came of it.

        Beside them, a time before which no other will be.
        """
        mine = np.flatnonzero((self.start != NO_START) & (self.partition == partition))
        over = self.last[mine] + config.session_timeout_ms
        return mine[over <= until], int(over[over > until].min(initial=NEVER))


def _of_ended(
    events: Iterable[tuple[int, int, bool]], last: int, timeout_ms: int, stray: list[int]
) -> Iterator[Boundary]:
    """Yield the boundaries of a session that ends: its events are places, times, and whether they say so."""
    ended, behind = False, LONG_AGO
    for place, ts, ends in events:
        if ts <= behind:
            stray.append(place)
            continue
        if ended:
            yield Boundary(place, Turn.AFTER_END, 0)
        elif last != LONG_AGO and ts - last >= timeout_ms:
            behind = last + timeout_ms - 1
            yield Boundary(place, Turn.AFTER_SILENCE, last + timeout_ms)
        last, ended = max(last, ts), ends
        if ends:
            behind = ts
            yield Boundary(place, Turn.END, ts)
