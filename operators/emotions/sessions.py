"""When the sessions of a shard began and when something last came of them, in the order of their partitions."""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from operators.chunk import SEPARATOR, Chunk, UInt8s, UInt64s
from operators.columns import Flags, Int32s, Int64s, first_of_runs
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


class Accepted(NamedTuple):
    """The events of a chunk that were accepted: columns of shape (n,), and which they are (``flags``, None: all)."""

    flags: Flags | None
    places: Int64s
    session: Int32s
    ts: Int64s
    kind: UInt8s


def accepted(chunk: Chunk, flags: Flags | None) -> Accepted:
    """Return the events of a chunk of which the flag is set."""
    if flags is None:
        return Accepted(None, np.arange(len(chunk)), chunk.session, chunk.ts, chunk.kind)
    places = flags.nonzero()[0]
    return Accepted(flags, places, chunk.session[places], chunk.ts[places], chunk.kind[places])


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
    number: UInt64s

    def rows(self, names: list[str], events: Accepted) -> Int64s:
        """Return the row of each of a chunk's sessions; those without an accepted event get -1 if they have none."""
        rows = self.rows_of(names)
        session, ts = events.session, events.ts
        if len(ts) and rows.min() < 0:
            used = np.zeros(len(rows), np.bool_)
            used[session] = True
            new = np.flatnonzero(used & (rows < 0))
            begun = [names[i] for i in new.tolist()]
            rows[new] = self.add(begun)
            self.number[rows[new]] = digests([name.replace(SEPARATOR, " ") for name in begun])
            first = np.zeros(len(rows), np.int64)
            first[session[::-1]] = ts[::-1]  # what is written last is what came first
            self.start[rows[new]] = first[new]
        return rows

    def boundaries(self, events: Accepted, rows: Int64s, config: WindowConfig) -> tuple[list[Boundary], list[int]]:
        """Return where sessions that were there before a chunk, or began in it, end and are followed by others.

        Beside them, the places of what came after its session's end but does not lie behind it in time.
        """
        session, ts = events.session, events.ts
        found: list[Boundary] = []
        stray: list[int] = []
        if not len(ts):
            return found, stray
        ends = IS_END[events.kind]
        last = self.last[rows]
        latest = int(ts.max())
        known = last if last.min() != LONG_AGO else last[last != LONG_AGO]
        silent: set[int] = set()
        if latest - min(int(ts.min()), int(known.min(initial=latest))) >= config.session_timeout_ms:
            silent = self._after_silence(session, ts, last, config.session_timeout_ms)
        for number in sorted(silent | set(session[ends].tolist())):
            mine = np.flatnonzero(session == number)
            found += _of_ended(
                zip(events.places[mine].tolist(), ts[mine].tolist(), ends[mine].tolist(), strict=True),
                int(last[number]),
                config.session_timeout_ms,
                stray,
            )
        return found, stray

    def _after_silence(self, session: Int32s, ts: Int64s, last: Int64s, timeout_ms: int) -> set[int]:
        """Return the sessions (numbers in the chunk) that were silent for too long before one of their events."""
        order = np.argsort(session, kind="stable")
        of, when = session[order], ts[order]
        first = first_of_runs(of)
        reached = np.roll(running_maximum(of, when), 1)
        reached[first] = last[of[first]]
        return set(of[(reached != LONG_AGO) & (when - reached >= timeout_ms)].tolist())

    def keys_of(self, rows: Int64s, session: Int32s | Int64s, users: UInt64s) -> UInt64s:
        """Return a number for each visitor: ``rows[session]`` is his session's row, and a digest names him."""
        keys: UInt64s = (self.number[rows] * _MIX)[session] + users
        return keys

    def segments(self, chunk: Chunk, boundaries: list[Boundary]) -> Int64s | None:
        """Return for each event how often its session had ended in this chunk before it; None: no session ends."""
        if not boundaries:
            return None
        segment, places = np.zeros(len(chunk), np.int64), np.arange(len(chunk))
        for place, turn, _ in boundaries:
            if turn is not Turn.AFTER_END:
                mine = chunk.session == chunk.session[place]
                segment += mine & (places > place if turn is Turn.END else places >= place)
        return segment

    def took(self, partition: int, events: Accepted, rows: Int64s) -> None:
        """Remember when something last came of each session."""
        row = rows[events.session]
        np.maximum.at(self.last, row, events.ts)
        self.partition[row] = partition

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
