"""Where a shard keeps its visitors: one row each, as columns; what only the matcher knows of one hangs on his row."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from operators.columns import Flags, Int32s, Int64s, pack, unpack
from operators.config import NEVER
from operators.emotions.idle import LASTING, Idle, nobody
from operators.emotions.marks import Began
from operators.emotions.recent import UInt64s
from operators.emotions.roles import Roles
from operators.emotions.visitor import Visitor
from operators.presence import LONG_AGO
from operators.rows import Columns

Objects = npt.NDArray[np.object_]
_WHATEVER_THE_RULES: Final = ("last", "page", "place", "before", "settled")
_NUMBERS: Final = ("key", "session", "user", *_WHATEVER_THE_RULES, "turned", "met", "due")
"""The columns that a snapshot keeps as they are; the others hold objects, or follow from them."""
_FEW: Final = 1_024
"""Rows up to which the table is left as large as it is."""
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Visitor).decode


class Kept(msgspec.Struct, array_like=True):
    """What a snapshot keeps of visitors: columns, packed; in their order, the matcher's, packed; and marks, row by row.

    ``reached`` has a bit for each of a visitor's slots in which a mark, if there is one, may still be asked for;
    ``put_by`` are what is there. ``armed`` are those of silences that have begun. ``idle`` are the columns of those of
    whom nothing is on its way.
    """

    columns: bytes = pack({}, {})
    visitors: list[bytes | None] = msgspec.field(default_factory=list)
    reached: bytes = b""
    put_by: list[bytes | None] = msgspec.field(default_factory=list)
    armed: list[Began | None] = msgspec.field(default_factory=list)
    idle: bytes = pack({}, {})


class Visitors(Columns):
    """One row for each visitor, by a number of his session and his own (``key``); who does nothing is in ``idle``.

    ``session`` is the row of his session, -1 where the row is free; ``last`` is the highest time of his watched events
    (ms). ``page`` is a number for the page viewed last, ``place`` and ``before`` for that and the one before, paths and
    all, 0 if there is none. ``settled``: he has ordered; of whom the matcher has seen, it knows better. By pattern that
    asks for a turn: ``turned``, a number for the value before, 0 if none. By slot of the roles: ``met``, the time
    of its last event or of one before it that was later, and the mark of the event that is ``put_by``, if the matcher
    has not seen it and another may still ask for it. By silence: when
    it runs out (``due``, ``NEVER``: not begun) and what began it (``armed``). ``visitor`` is what the matcher keeps,
    None as long as it has seen nothing, ``packed_visitor`` what a snapshot kept of that, None since it changed;
    ``waits``: some rule waits there; ``begun``: one of the lasting rules is on its way.

    ``restless`` are the rows, by key, of those who wait or of whom a silence has begun; ``unquiet`` how many there are
    of each session (row). No silence runs out before ``next_due``.
    """

    key: UInt64s
    session: Int32s
    user: UInt64s
    last: Int64s
    page: UInt64s
    place: UInt64s
    before: UInt64s
    settled: Flags
    turned: UInt64s
    met: Int64s
    due: Int64s
    waits: Flags
    begun: Flags
    put_by: Objects
    armed: Objects
    visitor: Objects
    packed_visitor: Objects

    def __init__(self, roles: Roles) -> None:
        slots, silences, turns = (len(roles.slots),), (len(roles.silences),), (len(roles.turns),)
        layout: dict[str, tuple[Any, tuple[int, ...], Any]] = {
            "key": (np.uint64, (), 0),
            "session": (np.int32, (), -1),
            "user": (np.uint64, (), 0),
            "last": (np.int64, (), LONG_AGO),
            "page": (np.uint64, (), 0),
            "place": (np.uint64, (), 0),
            "before": (np.uint64, (), 0),
            "settled": (np.bool_, (), False),
            "turned": (np.uint64, turns, 0),
            "met": (np.int64, slots, LONG_AGO),
            "due": (np.int64, silences, NEVER),
            "waits": (np.bool_, (), False),
            "begun": (np.bool_, (), False),
            "put_by": (np.object_, slots, None),
            "armed": (np.object_, silences, None),
            "visitor": (np.object_, (), None),
            "packed_visitor": (np.object_, (), None),
        }
        self.LAYOUT = layout  # type: ignore[misc]  # how wide they are depends on the rules
        super().__init__(16)
        self.row_by_key: dict[int, int] = {}
        self.restless: dict[int, int] = {}
        self.unquiet: dict[int, int] = {}
        self.next_due = 0
        self.idle = Idle(nobody(layout))
        self._lasting = roles.lasting
        self._windows = roles.windows
        self._used = 0
        self._free: list[int] = []

    def add(self, keys: UInt64s, session: Int64s, user: UInt64s) -> Int64s:
        """Take a fresh row for each visitor."""
        n = len(keys)
        reused = [self._free.pop() for _ in range(min(n, len(self._free)))]
        rows = np.array([*reused, *range(self._used, self._used + n - len(reused))], np.int64)
        self._used += n - len(reused)
        if self._used > self.capacity:
            self._grow(max(self._used, self.capacity * 3 // 2))
        self.key[rows], self.session[rows], self.user[rows] = keys, session, user
        self.row_by_key.update(zip(keys.tolist(), rows.tolist(), strict=True))
        return rows

    def remove(self, rows: Int64s) -> None:
        """Give rows back, and all that they held."""
        for row, key in zip(rows.tolist(), self.key[rows].tolist(), strict=True):
            if self.row_by_key.get(key) == row:  # else he has come again, in the next session of the name
                del self.row_by_key[key]
            if self.restless.get(key) == row:
                self._calm(row, key)
        for name, (_, _, fresh) in self.LAYOUT.items():
            getattr(self, name)[rows] = fresh
        self._free += rows.tolist()

    def wake(self, rows: Int64s) -> None:
        """Give fresh rows what was kept of their visitors while those did nothing."""
        found, kept = self.idle.take(self.key[rows])
        for name, column in kept.items():
            getattr(self, name)[rows[found]] = column

    def lay_by(self, rows: Int64s) -> None:
        """Give back the rows of visitors of whom nothing is on its way, and keep what matters all the same."""
        for row in rows[self.visitor[rows] != None].tolist():  # noqa: E711  each element is compared
            self.settled[row] = self.visitor[row].settled
        known = self.settled[rows] | (self.page[rows] != 0) | (self.place[rows] != 0)
        kept = rows[known | (self.turned[rows] != 0).any(axis=1)]
        self.idle.put({name: getattr(self, name)[kept] for name in ("key", "session", *LASTING)})
        self.remove(rows)
        if self.capacity > _FEW and len(self.row_by_key) * 4 < self.capacity:
            self._shrink()

    def _shrink(self) -> None:
        """Move all visitors to the front of smaller columns: a crowd that has gone leaves no room behind."""
        rows = np.flatnonzero(self.session >= 0)
        columns, self.capacity = self.columns(rows), 0
        self._grow(max(len(rows) * 3 // 2, 16))
        for name, column in columns.items():
            getattr(self, name)[: len(rows)] = column
        self.row_by_key = dict(zip(columns["key"].tolist(), range(len(rows)), strict=True))
        self.restless = {key: self.row_by_key[key] for key in self.restless}
        self._used, self._free = len(rows), []

    def of_sessions(self, sessions: Int64s) -> Int64s:
        """Return the rows of the visitors of sessions (rows), in the order of those."""
        if not len(sessions):
            return np.zeros(0, np.int64)
        mine = np.flatnonzero(np.isin(self.session[: self._used], sessions))
        return mine[np.argsort(self.session[mine], kind="stable")]

    def note(self, row: int, visitor: Visitor) -> None:
        """Note that a visitor changed, and what of him the columns have to know."""
        self.packed_visitor[row] = None
        self.begun[row] = bool(visitor.marks) and not self._lasting.isdisjoint(visitor.marks)
        waits = bool(visitor.waits)
        if waits != self.waits.item(row):
            self.waits[row] = waits
            self.settle(row)

    def wait(self, row: int) -> None:
        """Let a visitor be one of those who wait, until he is noted anew."""
        self.waits[row] = True
        self.settle(row)

    def arm(self, which: int, due: Mapping[int, tuple[int, Began | None]]) -> None:
        """Let silences of visitors (rows) run out some time (ms), because of what began them, or end (``NEVER``)."""
        times, marks = self.due[:, which], self.armed[:, which]
        for row, (until, began) in due.items():
            changes = (until < NEVER) != (times.item(row) < NEVER)
            times[row], marks[row] = until, began
            self.next_due = min(self.next_due, until)
            if changes:
                self.settle(row)

    def settle(self, row: int) -> None:
        """Note whether a visitor is restless."""
        key = self.key.item(row)
        known = self.restless.get(key)
        if not self.waits.item(row) and min(self.due[row].tolist(), default=NEVER) == NEVER:
            if known == row:
                self._calm(row, key)
        elif known is None or self.row_by_key.get(key) == row:  # else he has come again, in the next session
            self.restless[key] = row
            if known is None:
                session = self.session.item(row)
                self.unquiet[session] = self.unquiet.get(session, 0) + 1

    def _calm(self, row: int, key: int) -> None:
        del self.restless[key]
        session = self.session.item(row)
        self.unquiet[session] -= 1
        if not self.unquiet[session]:
            del self.unquiet[session]

    def packed(self, sessions: Int64s, oldest: int) -> Kept:
        """Return what a snapshot keeps of all visitors; sessions (rows, ascending) are named by their place.

        No event comes from before ``oldest`` (ms) any more, so what only such a one could ask for is left out.
        """
        rows = np.flatnonzero(self.session >= 0)
        columns = {name: getattr(self, name)[rows] for name in _NUMBERS}
        columns["session"] = np.searchsorted(sessions, columns["session"]).astype(np.int32)
        reached = columns["met"] >= oldest - self._windows
        row, slot = reached.nonzero()
        row_armed, silence = (columns["due"] < NEVER).nonzero()
        return Kept(
            pack({}, columns),
            self._packed_visitors(rows),
            np.packbits(reached).tobytes(),
            self.put_by[rows[row], slot].tolist(),
            self.armed[rows[row_armed], silence].tolist(),
            self.idle.packed(sessions),
        )

    def _packed_visitors(self, rows: Int64s) -> list[bytes | None]:
        """Return what is kept of visitors: most have not changed since the last snapshot."""
        packed: list[bytes | None] = self.packed_visitor[rows].tolist()
        visitors = self.visitor[rows].tolist()
        changed = [i for i, visitor in enumerate(visitors) if visitor is not None and packed[i] is None]
        fresh = list(map(_encode, [visitors[i] for i in changed]))
        self.packed_visitor[rows[changed]] = np.fromiter(fresh, object, len(fresh))
        for i, one in zip(changed, fresh, strict=True):
            packed[i] = one
        return packed

    def restore(self, kept: Kept, sessions: Int64s, *, same_rules: bool) -> list[int]:
        """Restore visitors; under other rules, without what they had done for those. Return whom the matcher knew."""
        _, columns = unpack(kept.columns)
        rows = self.add(columns["key"], sessions[columns["session"]], columns["user"])
        for name in _NUMBERS[3:] if same_rules else _WHATEVER_THE_RULES:
            getattr(self, name)[rows] = columns[name]
        if same_rules:
            self._restore_marks(kept, rows)
        for row in np.flatnonzero((self.due < NEVER).any(axis=1)).tolist():
            self.settle(row)
        self.idle.restore(kept.idle, sessions, same_rules=same_rules)
        met = []
        for row, packed in zip(rows.tolist(), kept.visitors, strict=True):
            if packed is not None:
                visitor = _decode(packed)
                if not same_rules:
                    visitor.forget()
                visitor.alarms = 0
                self.visitor[row] = visitor
                met.append(row)
        return met

    def _restore_marks(self, kept: Kept, rows: Int64s) -> None:
        reached = np.unpackbits(np.frombuffer(kept.reached, np.uint8), count=len(rows) * len(self._windows))
        row, slot = reached.reshape(len(rows), len(self._windows)).nonzero()
        self.put_by[rows[row], slot] = np.fromiter(kept.put_by, object, len(kept.put_by))
        row, silence = (self.due[rows] < NEVER).nonzero()
        self.armed[rows[row], silence] = np.fromiter(kept.armed, object, len(kept.armed))
