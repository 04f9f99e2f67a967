"""Where a shard keeps its sessions and their users: one row each, as columns that grow and pack into bytes."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from operators.columns import Column, Flags, Int64s, ranges
from operators.config import NEVER, PANES
from operators.presence import LONG_AGO, UserStates

HISTORY = PANES - 1
"""Closed panes that the next tick's window still needs."""

TOTALS = ("events", "chat_messages", "reactions", "votes", "telemetry", "joins", "leaves")
"""What a session's summary counts, in the order of the column ``totals``."""

LEAVES = TOTALS.index("leaves")

NO_START = -1


class Columns:
    """Columns that grow together. ``LAYOUT`` gives each one's type, shape behind the first axis, and fresh value."""

    LAYOUT: ClassVar[dict[str, tuple[Any, tuple[int, ...], Any]]]

    def __init__(self, capacity: int) -> None:
        self.capacity = 0
        self._grow(capacity)

    def _grow(self, capacity: int) -> None:
        for name, (dtype, shape, fresh) in self.LAYOUT.items():
            column = np.full((capacity, *shape), fresh, dtype)
            if self.capacity:
                column[: self.capacity] = getattr(self, name)
            setattr(self, name, column)
        self.capacity = capacity

    def columns(self, rows: Int64s | slice) -> dict[str, Column]:
        """Return all columns at the rows, by name."""
        return {name: getattr(self, name)[rows] for name in self.LAYOUT}


class Keyed(Columns):
    """Columns with one row for each key."""

    def __init__(self, capacity: int = 16) -> None:
        super().__init__(capacity)
        self.row_by_key: dict[str, int] = {}
        self.keys: list[str] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self.row_by_key)

    def rows_of(self, keys: list[str]) -> Int64s:
        """Return the row of each key, -1 where it has none."""
        get = self.row_by_key.get
        return np.array([get(key, -1) for key in keys], np.int64)

    def add(self, keys: list[str]) -> Int64s:
        """Take a fresh row for each key."""
        rows = []
        for key in keys:
            if self._free:
                row = self._free.pop()
                self.keys[row] = key
            else:
                row = len(self.keys)
                self.keys.append(key)
            self.row_by_key[key] = row
            rows.append(row)
        if len(self.keys) > self.capacity:
            self._grow(max(len(self.keys), self.capacity * 3 // 2))
        return np.array(rows, np.int64)

    def remove(self, rows: Int64s) -> None:
        """Give rows back, and all that they held."""
        for name, (_, _, fresh) in self.LAYOUT.items():
            getattr(self, name)[rows] = fresh
        for row in rows.tolist():
            del self.row_by_key[self.keys[row]]
            self.keys[row] = ""
            self._free.append(row)


class Sessions(Keyed):
    """One row for each session key that has state. Times in ms, ticks as times.

    ``highest``: highest accepted ``ts``; ``partition``: where the last event came from; ``waiting``: accepted events
    that are not closed yet; ``due``: the horizon at which the row has something to do. The rest is the session's, as of
    its last closed tick: ``start`` (``NO_START``: none yet), ``last`` event, ``next_tick``, ``silent`` (the last tick
    was empty), the closed panes, and what its summary needs (``score_sum`` in millionths). ``emitted_*`` serve
    ``emit = on_change``. ``users_*`` are the row's block in ``Users``, ``baseline`` its row in ``Watch``, 0 if none.
    """

    LAYOUT: ClassVar[dict[str, tuple[Any, tuple[int, ...], Any]]] = {
        "highest": (np.int64, (), LONG_AGO),
        "partition": (np.int32, (), 0),
        "waiting": (np.int64, (), 0),
        "due": (np.int64, (), NEVER),
        "start": (np.int64, (), NO_START),
        "last": (np.int64, (), LONG_AGO),
        "next_tick": (np.int64, (), 0),
        "silent": (np.bool_, (), False),
        "chats": (np.uint32, (HISTORY,), 0),
        "reactions": (np.uint32, (HISTORY,), 0),
        "anything": (np.uint32, (HISTORY,), 0),
        "totals": (np.int64, (len(TOTALS),), 0),
        "ticks": (np.int64, (), 0),
        "score_sum": (np.int64, (), 0),
        "score_peak": (np.float64, (), 0.0),
        "peak_connected": (np.int64, (), 0),
        "emitted_score": (np.float64, (), -1.0),
        "emitted_ts": (np.int64, (), LONG_AGO),
        "users_at": (np.int64, (), 0),
        "users_count": (np.int64, (), 0),
        "users_room": (np.int64, (), 0),
        "baseline": (np.int32, (), 0),
    }
    highest: Int64s
    partition: npt.NDArray[np.int32]
    waiting: Int64s
    due: Int64s
    start: Int64s
    last: Int64s
    next_tick: Int64s
    silent: Flags
    chats: npt.NDArray[np.uint32]
    reactions: npt.NDArray[np.uint32]
    anything: npt.NDArray[np.uint32]
    totals: Int64s
    ticks: Int64s
    score_sum: Int64s
    score_peak: npt.NDArray[np.float64]
    peak_connected: Int64s
    emitted_score: npt.NDArray[np.float64]
    emitted_ts: Int64s
    users_at: Int64s
    users_count: Int64s
    users_room: Int64s
    baseline: npt.NDArray[np.int32]

    SESSION: ClassVar[tuple[str, ...]] = tuple(LAYOUT)[4:]
    """The columns that belong to one session of the key and start afresh with the next."""

    def reset(self, rows: Int64s) -> None:
        """Forget the rows' sessions (their users' blocks are the caller's to free first)."""
        for name in self.SESSION:
            getattr(self, name)[rows] = self.LAYOUT[name][2]


class Users(Columns):
    """One entry for each user of a session, in a block of neighbours for each session row."""

    LAYOUT: ClassVar[dict[str, tuple[Any, tuple[int, ...], Any]]] = {
        "user": (np.uint64, (), 0),
        "acted": (np.int64, (), LONG_AGO),
        "valid": (np.int64, (), LONG_AGO),
        "left": (np.int64, (), LONG_AGO),
        "joined": (np.bool_, (), False),
        "touched": (np.int64, (), LONG_AGO),
    }
    user: npt.NDArray[np.uint64]
    acted: Int64s
    valid: Int64s
    left: Int64s
    joined: Flags
    touched: Int64s

    def __init__(self, sessions: Sessions, capacity: int = 16) -> None:
        super().__init__(capacity)
        self._sessions = sessions
        self._tail = 0
        self._garbage = 0

    def of(self, rows: Int64s) -> Int64s:
        """Return the entries of the rows' users, row after row."""
        return ranges(self._sessions.users_at[rows], self._sessions.users_count[rows])

    def states(self, entries: Int64s) -> UserStates:
        """Return what is kept of these users."""
        return UserStates(
            self.acted[entries], self.valid[entries], self.left[entries], self.joined[entries], self.touched[entries]
        )

    def put(self, entries: Int64s, states: UserStates) -> None:
        """Replace what is kept of these users."""
        for name in ("acted", "valid", "left", "joined", "touched"):
            getattr(self, name)[entries] = getattr(states, name)

    def append(self, rows: Int64s, users: npt.NDArray[np.uint64], states: UserStates) -> None:
        """Add new users; ``rows`` (n,) names each one's session and is ascending."""
        if not len(rows):
            return
        sessions = self._sessions
        where, counts = np.unique(rows, return_counts=True)
        need = sessions.users_count[where] + counts
        self._make_room(where[need > sessions.users_room[where]], need[need > sessions.users_room[where]])
        entries = ranges(sessions.users_at[where] + sessions.users_count[where], counts)
        sessions.users_count[where] = need
        self.user[entries] = users
        self.put(entries, states)

    def free(self, rows: Int64s) -> None:
        """Give the rows' blocks back."""
        sessions = self._sessions
        self._garbage += int(sessions.users_room[rows].sum())
        for name in ("users_at", "users_count", "users_room"):
            getattr(sessions, name)[rows] = 0
        if self._garbage > 1024 and self._garbage > self._tail // 2:
            self._compact()

    def _make_room(self, rows: Int64s, need: Int64s) -> None:
        """Give blocks that are too small room to grow by a quarter: the last where it is, the others behind it."""
        if not len(rows):
            return
        sessions = self._sessions
        room = need + need // 4
        last = sessions.users_at[rows] + sessions.users_room[rows] == self._tail
        last &= sessions.users_room[rows] > 0
        self._tail += int((room - sessions.users_room[rows])[last].sum())
        sessions.users_room[rows[last]] = room[last]
        rows, room = rows[~last], room[~last]
        at = self._tail + np.cumsum(room) - room
        self._tail += int(room.sum())
        if self._tail > self.capacity:
            self._grow(max(self._tail, self.capacity * 5 // 4))
        self._move(rows, at)
        self._garbage += int(sessions.users_room[rows].sum())
        sessions.users_at[rows], sessions.users_room[rows] = at, room

    def _move(self, rows: Int64s, at: Int64s) -> None:
        old, new = self.of(rows), ranges(at, self._sessions.users_count[rows])
        for name in self.LAYOUT:
            column = getattr(self, name)
            column[new] = column[old]

    def _compact(self) -> None:
        sessions = self._sessions
        rows = np.flatnonzero(sessions.users_count)
        kept = self.columns(self.of(rows))
        counts = sessions.users_count[rows]
        self.capacity, self._garbage = 0, 0
        self._tail = int(counts.sum())
        self._grow(max(16, self._tail * 5 // 4))
        self.restore(kept)
        sessions.users_at[rows], sessions.users_room[rows] = np.cumsum(counts) - counts, counts

    def restore(self, columns: dict[str, Column]) -> None:
        """Lay columns down at the beginning, as a snapshot or a compaction left them."""
        self._tail = len(columns["user"])
        if self._tail > self.capacity:
            self._grow(self._tail)
        for name, column in columns.items():
            getattr(self, name)[: self._tail] = column
