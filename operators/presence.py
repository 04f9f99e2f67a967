"""Who was there: from joins, leaves and acts to head counts at every tick, for all sessions of a shard at once.

The events of a user cut time into pieces in which nothing about him changes but the clock. Within a piece, each count
takes him in over one run of ticks ("active" until 60 s after his last act, "present" until his presence runs out), so a
count over all ticks is the running sum of +1 where a run begins and -1 behind its end. Nothing loops over ticks or
users.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.columns import Column, Flags, Int64s, first_of_runs, group_by, last_where, offsets, one_before
from operators.config import NEVER, PANE_MS, PANES, WindowConfig

LONG_AGO = -NEVER

STATE, ACT, JOIN, LEAVE = range(4)
"""What an element is: a user as an earlier call left him, or one of his events."""


@dataclass(frozen=True, slots=True)
class UserStates:
    """What is kept of a user between calls; every column has shape (n,), times in ms (``LONG_AGO``: never).

    ``acted`` is the last act, ``valid`` the last act that no leave has voided, ``left`` the last leave, ``joined``
    whether a join holds, ``touched`` the last event that a join's time-out counts from.
    """

    acted: Int64s
    valid: Int64s
    left: Int64s
    joined: Flags
    touched: Int64s


@dataclass(frozen=True, slots=True)
class Axis:
    """The ticks of several sessions, run after run: session i has ticks ``first[i] + 5 s * (0..count[i]-1)``."""

    first: Int64s
    count: Int64s

    def slots(self) -> Int64s:
        """Return where each session's run begins when each has one slot more than ticks, with the total at the end."""
        return offsets(self.count + 1)


@dataclass(frozen=True, slots=True)
class HeadCounts:
    """Distinct users at every tick of an axis, each of shape (ticks,).

    ``left``: left within the window and not present now. ``audience``: present within ``audience_ms``.
    """

    connected: Int64s
    active: Int64s
    present_or_active: Int64s
    present_in_window: Int64s
    left: Int64s
    audience: Int64s


class Pieces:
    """The elements of all users, each user's side by side in order of time, and what holds after each of them."""

    def __init__(
        self,
        session: Int64s,
        user: npt.NDArray[np.uint64],
        what: npt.NDArray[np.int8],
        ts: Int64s,
        position: Int64s,
        states: UserStates,
        config: WindowConfig,
    ) -> None:
        """Take elements of shape (m,): first the states (``states`` covers just them), then events in order of time.

        ``session`` indexes the axis; ``position`` is an event's place among all events, -1 for a state.
        """
        order, self.session, self.user = group_by(session, user)
        self.order = order
        places = np.arange(len(order), dtype=np.int32)
        self.ts, self.position = ts[order], position[order]
        what = what[order]
        m = len(order)
        self.starts = first_of_runs(self.session, self.user)
        self.is_state = what == STATE
        acts, joins, leaves = what == ACT, what == JOIN, what == LEAVE

        at_states = np.flatnonzero(self.is_state)
        from_states = order[at_states]

        def of_states(column: Column, other: Column) -> Column:
            """Return a column over all elements: the state's value at states, ``other`` elsewhere."""
            other[at_states] = column[from_states]
            return other

        # A user's first element counts as one of every sort, of long ago if it is none: nothing comes from another's.
        last_act = last_where(acts | self.starts, places)
        last_leave = last_where(leaves | self.starts, places)
        acted = np.where(acts, self.ts, LONG_AGO)
        self.acted = of_states(states.acted, acted.copy())[last_act]
        self.left = of_states(states.left, np.where(leaves, self.ts, LONG_AGO))[last_leave]
        self.valid = of_states(states.valid, acted)[np.maximum(last_act, last_leave)]
        self.touched = of_states(states.touched, self.ts.copy())
        if config.join_timeout_ms < NEVER:
            before = one_before(self.touched)
            lapsed = acts & ~self.starts & (self.ts > before + config.join_timeout_ms)
        else:
            lapsed = np.zeros(m, np.bool_)
        last_join = last_where(joins | lapsed | self.starts, places)
        self.joined = of_states(states.joined, joins)[np.maximum(last_join, last_leave)]
        self.present_until = np.where(
            self.joined,
            np.minimum(self.touched, NEVER - config.join_timeout_ms) + config.join_timeout_ms,
            self.valid + config.presence_timeout_ms,
        )
        self.ends = np.ones(m, np.bool_)
        self.ends[:-1] = self.starts[1:]
        self.firsts, self.lasts = np.flatnonzero(self.starts), np.flatnonzero(self.ends)
        """Where each user's first and last element are, of shape (users,)."""
        self._next = np.arange(1, m + 1)
        self._next[-1:] = 0
        self._audience_ticks = config.audience_ms // PANE_MS
        self._by_session: Int64s | None = None
        self._session_at = np.zeros(0, np.int64)

    def head_counts(self, axis: Axis) -> HeadCounts:
        """Count heads at every tick; a tick T knows the events before T."""
        base = axis.first[self.session]
        count = axis.count[self.session]

        def ticks_until(time: Int64s) -> Int64s:
            """Return how many of the session's ticks are at or before a time (negative: long before the first)."""
            return (time - base) // PANE_MS + 1

        begun = ticks_until(self.ts)
        begin = np.where(self.is_state, 0, np.maximum(begun, 0))
        end = np.where(self.ends, count, np.minimum(begun[self._next], count))  # exclusive
        end = np.maximum(end, 0)
        begin = np.minimum(begin, end)
        slot = axis.slots()
        at = slot[self.session]
        size = int(slot[-1])
        is_tick = np.ones(size, np.bool_)
        is_tick[slot[1:] - 1] = False

        first, last = at + begin, at + end
        ups = np.bincount(first, minlength=size)

        def until(stop: Int64s) -> Int64s:
            """Count users over their runs [begin, min(stop, end)); one that is over before it begins cancels out."""
            stop = stop + at
            downs = np.bincount(np.maximum(np.minimum(stop, last, out=stop), first, out=stop), minlength=size)
            counts: Int64s = np.cumsum(ups - downs)[is_tick]
            return counts

        absent, left = ticks_until(self.present_until), ticks_until(self.left)
        gone = np.maximum(absent, left)
        idle = ticks_until(self.acted) + PANES
        # Few have left within the window: they alone are looked at.
        some = np.flatnonzero(left + PANES > begin)
        leave = np.minimum(at[some] + np.maximum(begin[some], absent[some]), last[some])
        forgotten = np.maximum(np.minimum(at[some] + left[some] + PANES, last[some]), leave)
        lefts = np.bincount(leave, minlength=size) - np.bincount(forgotten, minlength=size)
        return HeadCounts(
            connected=until(absent),
            active=until(idle),
            present_or_active=until(np.maximum(absent, idle)),
            present_in_window=until(gone + PANES),
            left=np.cumsum(lefts)[is_tick],
            audience=until(gone + self._audience_ticks),
        )

    def present_after(self, session: int, positions: Int64s, times: Int64s) -> Int64s:
        """Count who is present right after the events at ``positions`` of one session (ascending).

        ``times`` are the times of all events by position, in which a presence that runs out between two events finds
        its place.
        """
        if self._by_session is None:
            self._by_session = np.argsort(self.session, kind="stable")
            last = int(self.session.max(initial=-1))
            self._session_at = np.searchsorted(self.session[self._by_session], np.arange(last + 2))
        if session + 1 >= len(self._session_at):
            return np.zeros(len(positions), np.int64)
        mine = self._by_session[self._session_at[session] : self._session_at[session + 1]]
        begin = self.position[mine]
        until = np.where(self.ends[mine], NEVER, self.position[self._next[mine]])
        low, high = int(positions[0]), int(positions[-1]) + 1
        out = low + np.searchsorted(times[low:high], self.present_until[mine], side="right")
        end = np.maximum(np.minimum(until, out), begin)
        began = np.searchsorted(np.sort(begin), positions, side="right")
        ended = np.searchsorted(np.sort(end), positions, side="right")
        return began - ended
