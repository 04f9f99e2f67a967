"""One closing: the sessions of some rows, and their ticks from where they stand to their horizons, as one flat axis.

A row is a session's key; between two horizons its session may end and others begin, so a row has none, one or several
sessions here. All arrays over sessions stand row after row, each row's in order of time, the one that was there before
(``kept``) first; all arrays over ticks stand session after session.
"""

import numpy as np

from operators.columns import Flags, Int64s, first_of_runs, offsets, one_before, ranges
from operators.config import NEVER, PANE_MS, PANES, WindowConfig
from operators.engagement import Floats, SignalColumns, ratio
from operators.kinds import IS_ACT, IS_CHAT, IS_END, IS_JOIN, IS_LEAVE, IS_PERSONAL, IS_POLL, IS_REACTION
from operators.lateness import next_tick
from operators.polls import PollEvent, Polls
from operators.presence import ACT, JOIN, LEAVE, STATE, Axis, HeadCounts, Pieces
from operators.rows import HISTORY, LEAVES, NO_START, Sessions, Users
from operators.waiting import Due
from schemas.inbound import MAX_TS

_ELEMENT = np.full(256, LEAVE, np.int8)
"""What an event of each kind is to the presence of its user, if it is anything."""
_ELEMENT[IS_ACT] = ACT
_ELEMENT[IS_JOIN] = JOIN

_OTHERS, _CHATS, _REACTIONS, _LEAVES = range(4)
_COUNTED_AS = np.full(256, _OTHERS)
"""What an event of each kind is to the panes."""
_COUNTED_AS[IS_CHAT], _COUNTED_AS[IS_REACTION], _COUNTED_AS[IS_LEAVE] = _CHATS, _REACTIONS, _LEAVES


class Span:
    """Where sessions begin and end, which ticks they have, and what every tick's window holds."""

    def __init__(self, table: Sessions, rows: Int64s, horizon: Int64s, due: Due, config: WindowConfig) -> None:
        """``rows`` are ascending; ``due`` are their events before their horizons."""
        self.table, self.rows, self.horizon, self.config = table, rows, horizon, config
        self.events, self._outdone = due.events, due.outdone
        events = due.events
        had = table.start[rows] != NO_START
        place_of = np.zeros(table.capacity, np.int64)
        place_of[rows] = np.arange(len(rows))
        place = place_of[events.row]
        opens = self._opens(had, place)
        opened = np.bincount(place[opens], minlength=len(rows))
        base = offsets(had + opened)
        n = int(base[-1])
        self.row_place = np.repeat(np.arange(len(rows)), had + opened)
        """The place in ``rows`` of each session's row."""
        self.row = rows[self.row_place]
        self.kept = np.zeros(n, np.bool_)
        self.kept[base[:-1][had]] = True
        before = base[:-1] + had - 1 - offsets(opened)[:-1]
        self.of_event = before[place] + np.cumsum(opens)
        """The session of each event."""

        self.start = np.where(self.kept, table.start[self.row], 0)
        self.start[self.of_event[opens]] = events.ts[opens]
        self.last = np.where(self.kept, table.last[self.row], 0)
        firsts = np.flatnonzero(first_of_runs(self.of_event)) if len(events) else np.zeros(0, np.int64)
        lasts = np.append(firsts[1:] - 1, len(events) - 1)[: len(firsts)]
        busy = self.of_event[lasts]
        self.last[busy] = events.ts[lasts]
        self.by_event = np.zeros(n, np.bool_)
        self.by_event[busy] = self._told_over[lasts]
        self.end = np.where(self.by_event, self.last, self.last + config.session_timeout_ms)
        """When each session ended, or will if nothing more comes."""
        self.told_end = np.minimum(self.end, MAX_TS)
        self.finished = self.by_event | (self.end <= horizon[self.row_place])

        self.silent = self.kept & table.silent[self.row]
        first_tick = np.where(self.kept, table.next_tick[self.row], next_tick(self.start))
        # Nothing is to be told of a silent session until the tick behind its next event.
        awake = np.full(n, NEVER)
        awake[busy] = next_tick(events.ts[firsts])
        first_tick = np.where(self.silent, np.maximum(first_tick, awake), first_tick)
        last_tick = np.minimum(horizon[self.row_place], self.end // PANE_MS * PANE_MS)
        count = np.maximum((last_tick - first_tick) // PANE_MS + 1, 0)
        self.axis = Axis(np.where(count > 0, first_tick, 0), count)
        self.tick_at = offsets(count)
        """Where each session's ticks begin, with the total at the end."""
        self.tick_session = np.repeat(np.arange(n), count)
        self.tick_ts = ranges(np.zeros(n, np.int64), count) * PANE_MS + self.axis.first[self.tick_session]
        self._panes_at = offsets(np.where(count > 0, count + HISTORY + 1, 0))
        self._first_pane = np.arange(len(self.tick_ts)) + (self._panes_at[:-1] - self.tick_at[:-1])[self.tick_session]
        """Where each tick's window begins among the panes."""

    def _opens(self, had: Flags, place: Int64s) -> Flags:
        """Return which events open a session: there is none, it is over, or it fell asleep before.

        What has the very time of ``session.ended`` belongs to the session that it ends, whatever the event ids: two
        sessions of a key never begin at the same time.
        """
        events, table = self.events, self.table
        self._told_over = np.zeros(len(events), np.bool_)
        if not len(events):
            return self._told_over
        first = first_of_runs(events.row)
        if IS_END.take(events.kind).any():
            moment = np.cumsum(first_of_runs(events.row, events.ts)) - 1
            self._told_over = np.bincount(moment[IS_END[events.kind]], minlength=len(events))[moment] > 0
        before = one_before(events.ts)
        before[first] = table.last[events.row[first]]
        over = one_before(self._told_over) & (events.ts > before)
        over[first] = ~had[place[first]]
        return over | (events.ts >= before + self.config.session_timeout_ms)

    def measure(self, users: Users, polls: dict[int, Polls]) -> SignalColumns:
        """Return the seven signals of every tick, and remember what the state after the last tick needs."""
        self.pieces = self._pieces(users)
        self.heads = heads = self.pieces.head_counts(self.axis)
        self.polls: dict[int, Polls] = {}
        participation = self._participation(polls)
        self._count_panes()
        self.nobody = (heads.connected == 0) & (self._windows(self.anything) == 0)
        """Whether a tick has nobody present and an empty window."""
        before = one_before(self.nobody)
        ticking = self.axis.count > 0
        before[self.tick_at[:-1][ticking]] = self.silent[ticking]
        self.alive = ~(self.nobody & before) & (self.tick_ts <= MAX_TS)
        """Whether a tick is one that is told: the first of a silence is the last, and none is beyond the year 9999."""
        return self._signals(heads, participation)

    def _signals(self, heads: HeadCounts, participation: Floats) -> SignalColumns:
        return SignalColumns(
            chat_per_min=self._windows(self.chats),
            reactions_per_min=self._windows(self.reactions),
            connected_users=heads.connected,
            active_users=heads.active,
            active_ratio=ratio(heads.active, heads.present_or_active),
            poll_participation=participation,
            leave_rate=ratio(heads.left, heads.present_in_window),
        )

    def _pieces(self, users: Users) -> Pieces:
        events = self.events
        kept = np.flatnonzero(self.kept)
        self.entries = users.of(self.row[kept])
        owners = np.repeat(kept, self.table.users_count[self.row[kept]])
        personal = np.flatnonzero(self._personal())
        what = _ELEMENT.take(events.kind[personal])
        none = np.zeros(len(owners), np.int64)
        return Pieces(
            np.concatenate([owners, self.of_event[personal]]),
            np.concatenate([users.user[self.entries], events.user[personal]]),
            np.concatenate([np.full(len(owners), STATE, np.int8), what]),
            np.concatenate([none, events.ts[personal]]),
            np.concatenate([none - 1, personal]),
            users.states(self.entries),
            self.config,
        )

    def _personal(self) -> Flags:
        """Return which events say something about their user's presence that another does not say as well.

        Of a row of acts the last says it all, but to polls, which ask in between, and where a session ends or a join
        runs out in between.
        """
        kind = self.events.kind
        personal = IS_PERSONAL.take(kind)
        if self._outdone is not None and not self._told_over.any() and self.config.join_timeout_ms == NEVER:
            polls = np.zeros(len(self.row), np.bool_)
            polls[self.of_event[IS_POLL[kind]]] = True
            personal &= polls[self.of_event] | ~self._outdone
        return personal

    def _count_panes(self) -> None:
        """Count events by pane: for each session with ticks its history, the ticks' new panes, a place for the rest."""
        ticking = self.axis.count[self.of_event]
        pane = (self.events.ts - self.axis.first[self.of_event]) // PANE_MS + 1
        pane = self._panes_at[self.of_event] + HISTORY + np.minimum(pane, ticking)
        size = int(self._panes_at[-1])
        if not ticking.all():
            pane[ticking == 0] = size
        cell = _COUNTED_AS[self.events.kind] * (size + 1) + pane
        panes = np.bincount(cell, minlength=4 * (size + 1)).reshape(4, size + 1)[:, :size]
        self.chats, self.reactions, self._leaves = panes[_CHATS], panes[_REACTIONS], panes[_LEAVES]
        self.anything = panes.sum(axis=0)
        known = np.flatnonzero(self.kept & (self.axis.count > 0) & ~self.silent)
        history_at = ranges(self._panes_at[known], np.full(len(known), HISTORY))
        for name in ("chats", "reactions", "anything"):
            getattr(self, name)[history_at] = getattr(self.table, name)[self.row[known]].ravel()

    def leaves_so_far(self) -> Int64s:
        """Return how many leaves each tick's session has had before it."""
        sums = offsets(self._leaves)
        before = np.where(self.kept, self.table.totals[self.row, LEAVES], 0) - sums[self._panes_at[:-1]]
        total: Int64s = sums[self._first_pane + PANES] + before[self.tick_session]
        return total

    def newest(self, panes: Int64s) -> Int64s:
        """Return what the newest pane of each tick's window counts."""
        counts: Int64s = panes[self._first_pane + HISTORY]
        return counts

    def _windows(self, panes: Int64s) -> Int64s:
        """Return each tick's sum over the window's panes."""
        sums = offsets(panes)
        totals: Int64s = sums[self._first_pane + PANES] - sums[self._first_pane]
        return totals

    def history(self, panes: Int64s, which: Int64s) -> Int64s:
        """Return the last closed panes of some sessions that have ticks, of shape (n, HISTORY)."""
        ends = self._panes_at[which + 1] - 1
        closed: Int64s = panes[ends[:, None] + np.arange(-HISTORY, 0)]
        return closed

    def _participation(self, polls: dict[int, Polls]) -> Floats:
        """Return the poll participation at every tick; one session with polls after the other."""
        out = np.zeros(len(self.tick_ts))
        at = np.flatnonzero(IS_POLL.take(self.events.kind))
        session = self.of_event[at]
        asked = set(session.tolist())
        if polls:
            asked |= {i for i in np.flatnonzero(self.kept).tolist() if int(self.row[i]) in polls}
        poll_at = np.searchsorted(session, np.arange(len(self.row) + 1))
        for i in sorted(asked):
            state = polls.get(int(self.row[i])) if self.kept[i] else None
            state = state or Polls()
            changes = state.take(self._poll_events(i, at[poll_at[i] : poll_at[i + 1]]), self.config.poll_timeout_ms)
            ticks = slice(self.tick_at[i], self.tick_at[i + 1])
            times = self.tick_ts[ticks]
            which = np.searchsorted([c.ts for c in changes], times, side="left") - 1
            values, expires = np.array([c.value for c in changes]), np.array([c.expires for c in changes])
            out[ticks] = np.where(times < expires[which], values[which], 0.0)
            self.polls[i] = state
        return out

    def _poll_events(self, session: int, at: Int64s) -> list[PollEvent]:
        if not len(at):
            return []
        events = self.events
        present = self.pieces.present_after(session, at, events.ts)
        columns = (events.kind[at], events.poll[at], events.user[at], events.ts[at], present)
        return [PollEvent(*values) for values in zip(*(c.tolist() for c in columns), strict=True)]
