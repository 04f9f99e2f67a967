"""Who was there: from joins, leaves and acts to head counts at every tick, for all sessions of a shard at once.

The events of a user cut time into pieces in which nothing about him changes but the clock. Within a piece, each count
takes him in over one run of ticks ("active" until 60 s after his last act, "present" until his presence runs out), so a
count over all ticks is the running sum of +1 where a run begins and -1 behind its end. Nothing loops over ticks or
users.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from operators.columns import (
    Column,
    Flags,
    Int64s,
    first_of_runs,
    group_by,
    last_where,
    offsets,
    one_before,
    one_behind,
)
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
        places = np.arange(1, len(order) + 1)
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

        def times(flags: Flags) -> Int64s:
            """Return the times of these elements, and ``LONG_AGO`` of all others."""
            out = self.ts.copy()
            out[np.flatnonzero(~flags)] = LONG_AGO  # np.where guesses wrong where flags are in no order
            return out

        # A user's first element counts as one of every sort, of long ago if it is none: nothing comes from another's.
        last_act = last_where(acts | self.starts, places)
        last_leave = last_where(leaves | self.starts, places)
        acted = times(acts)
        self.acted = of_states(states.acted, acted.copy())[last_act]
        self.left = of_states(states.left, times(leaves))[last_leave]
        self.valid = of_states(states.valid, acted)[np.maximum(last_act, last_leave)]
        self.touched = of_states(states.touched, self.ts.copy())
        if config.join_timeout_ms < NEVER:
            before = one_before(self.touched)
            lapsed = acts & ~self.starts & (self.ts > before + config.join_timeout_ms)
        else:
            lapsed = np.zeros(m, np.bool_)
        last_join = last_where(joins | lapsed | self.starts, places)
        self.joined = of_states(states.joined, joins)[np.maximum(last_join, last_leave)]
        self.present_until = self.valid + config.presence_timeout_ms
        joined = np.flatnonzero(self.joined)
        latest = NEVER - config.join_timeout_ms
        self.present_until[joined] = np.minimum(self.touched[joined], latest) + config.join_timeout_ms
        self.ends = np.ones(m, np.bool_)
        self.ends[:-1] = self.starts[1:]
        self.firsts, self.lasts = np.flatnonzero(self.starts), np.flatnonzero(self.ends)
        """Where each user's first and last element are, of shape (users,)."""
        self._audience_ticks = config.audience_ms // PANE_MS

    def head_counts(self, axis: Axis) -> HeadCounts:
        """Count heads at every tick; a tick T knows the events before T."""
        slot = axis.slots()
        size = int(slot[-1])
        is_tick = np.ones(size, np.bool_)
        is_tick[slot[1:] - 1] = False
        # All that follows counts in slots: a time is the slot behind its session's ticks that are at or before it.
        before = (axis.first - (slot[:-1] + 1) * PANE_MS)[self.session]
        lowest, highest = slot[:-1][self.session], (slot[1:] - 1)[self.session]

        def slots_until(time: Int64s) -> Int64s:
            return (time - before) // PANE_MS

        begun = slots_until(self.ts)
        last = one_behind(begun)  # exclusive
        last[self.lasts] = NEVER
        last = np.maximum(np.minimum(last, highest), lowest)
        first = np.minimum(np.maximum(begun, lowest), last)
        ups = np.bincount(first, minlength=size)

        def until(stop: Int64s) -> Int64s:
            """Count users over their runs [first, min(stop, last)); one that is over before it begins cancels out."""
            stop = np.minimum(stop, last)
            downs = np.bincount(np.maximum(stop, first, out=stop), minlength=size)
            counts: Int64s = np.cumsum(ups - downs)[is_tick]
            return counts

        absent, left = slots_until(self.present_until), slots_until(self.left)
        gone = np.maximum(absent, left)
        idle = slots_until(self.acted) + PANES
        # Few have left within the window: they alone are looked at.
        some = np.flatnonzero(left + PANES > first)
        leave = np.minimum(np.maximum(first[some], absent[some]), last[some])
        forgotten = np.maximum(np.minimum(left[some] + PANES, last[some]), leave)
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
        mine = slice(*np.searchsorted(self.session, (session, session + 1)).tolist())
        begin = self.position[mine]
        until = one_behind(begin)
        until[self.ends[mine]] = NEVER
        low, high = int(positions[0]), int(positions[-1]) + 1
        out = low + np.searchsorted(times[low:high], self.present_until[mine], side="right")
        end = np.maximum(np.minimum(until, out), begin)
        began = np.searchsorted(np.sort(begin), positions, side="right")
        ended = np.searchsorted(np.sort(end), positions, side="right")
        return began - ended
