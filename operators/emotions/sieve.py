"""The sieve: follows the visitors of a chunk, and lets only those events through that the matcher must see.

What is known of a visitor stands in the columns of the table. The events that rules ask for are gone through in
columns; one by one only those that depend on what came before them, that may ask for others or be asked for, and where
there are few. Of all other events those alone are looked at whose visitor waits, or of whom a silence has begun. What
is let through carries what the matcher has missed and needs.
"""

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any, Final

import numpy as np

from operators.columns import Flags, Int64s, first_of_runs, one_before, order_of, ranges
from operators.config import NEVER, PANE_MS, WindowConfig
from operators.emotions.marks import Began, mark_of
from operators.emotions.recent import Recent
from operators.emotions.roles import Part, Role, Roles
from operators.emotions.sifting import Batch, Pass, Sifting
from operators.emotions.sorter import Past, number_of
from operators.emotions.table import Visitors

_MIX: Final = np.uint64(0xFF51AFD7ED558CCD)
_FEW: Final = 96
"""Events that are sooner looked at one by one than in columns."""


class Sieve:
    """Lets events through. All its state is the table's, and what came lately of each partition."""

    def __init__(self, roles: Roles, table: Visitors, config: WindowConfig) -> None:
        self._roles = roles
        self._table = table
        self._config = config
        self._marks = [mark_of(slot) for slot in roles.slots]
        self._waits = np.array([slot.rule.for_ms > 0 for slot in roles.slots], np.bool_)
        self._came_from: dict[int, int] = {}
        for bit, entry in roles.past:
            for page in entry.pages:
                number = number_of(page)
                self._came_from[number] = self._came_from.get(number, 0) | bit

    def sift(self, batch: Batch, recent: Recent) -> tuple[list[Pass], dict[int, int]]:
        """Take a chunk in. Return what has to be looked at, in order, and the segments of rows not in the first."""
        names = batch.keys if batch.segment is None else batch.keys + batch.segment.astype(np.uint64) * _MIX
        # An event may still lie a pane behind the ticks that are closed.
        oldest = batch.chunk.clock - self._config.stream_delay_ms - PANE_MS
        under_way = Sifting(batch, names, batch.accepted, oldest)
        under_way.arming = [np.zeros(0, np.int64) for _ in self._roles.silences]
        watched = batch.chunk.watched
        if len(watched):
            under_way.at = watched.at
            self._find(under_way)
            self._drop_repeats(under_way, recent)
            roles = [self._roles[mask].number for mask in watched.masks]
            under_way.roles = np.fromiter(roles, np.int64, len(roles))
            self._go_through(under_way)
        if under_way.restless or self._table.restless:
            self._disturb(under_way)
        return sorted(under_way.passes.values()), under_way.later

    def _find(self, under_way: Sifting) -> None:
        """Find the rows of the watched events' visitors; who begins anew gets a row anew."""
        batch, at = under_way.batch, under_way.at
        taken = np.ones(len(at), np.bool_) if batch.accepted is None else batch.accepted[at]
        names = under_way.names[at]
        rows = np.fromiter(map(self._table.row_by_key.get, names.tolist(), repeat(-1)), np.int64, len(at))
        new = (taken & (rows < 0)).nonzero()[0]
        if len(new):
            newcomers = names[new].tolist()
            # By each one's first place, in the order of their last: a visitor is found by the last row that he gets.
            first_at = dict(reversed(dict(zip(newcomers[::-1], at[new[::-1]].tolist(), strict=True)).items()))
            met = self._meet(under_way, np.fromiter(first_at.values(), np.int64, len(first_at)))
            row_of = dict(zip(first_at, met.tolist(), strict=True))
            rows[new] = [row_of[name] for name in newcomers]
        rows[~taken] = -1
        under_way.rows = rows
        under_way.by_row = order_of(rows + 1)

    def _meet(self, under_way: Sifting, at: Int64s) -> Int64s:
        """Give rows to visitors, each named by the place of an event of his, and return them."""
        batch, table = under_way.batch, self._table
        rows = table.add(batch.keys[at], batch.sessions[batch.chunk.session[at]], batch.chunk.user[at])
        if batch.segment is None:
            table.wake(rows)
        else:
            segments = batch.segment[at]
            table.wake(rows[segments == 0])
            under_way.later = {row: n for row, n in zip(rows.tolist(), segments.tolist(), strict=True) if n}
        return rows

    def _drop_repeats(self, under_way: Sifting, recent: Recent) -> None:
        """Leave out repeats, and remember the watched events of which repeats may still come.

        A repeat has its first's time: what is later than all before of its visitor is none.
        """
        batch, at, rows, order, table = under_way.batch, under_way.at, under_way.rows, under_way.by_row, self._table
        chunk = batch.chunk
        row, ts = rows[order], chunk.ts[at[order]]
        first = first_of_runs(row)
        before = one_before(ts)
        before[first] = table.last[row[first]]
        who = set(row[ts <= before].tolist()) - {-1}
        if who:
            self._look_for_repeats(under_way, who, recent)
        np.maximum.at(table.last, row[row >= 0], ts[row >= 0])
        counts = rows >= 0
        if not counts.all():
            taken = np.ones(len(chunk), np.bool_) if under_way.taken is None else under_way.taken.copy()
            taken[at[~counts]] = False
            under_way.taken = taken
            under_way.by_row = order[counts[order]]
        new = (counts & (chunk.ts[under_way.at] >= under_way.oldest)).nonzero()[0]
        at, ids = under_way.at[new], chunk.watched.ids
        recent.add(chunk.clock, batch.keys[at], chunk.ts[at], [ids[item] for item in new.tolist()])

    def _look_for_repeats(self, under_way: Sifting, who: set[int], recent: Recent) -> None:
        """Leave out the repeats of visitors (rows) of whom something came that is not later than all before."""
        batch, rows, at = under_way.batch, under_way.rows, under_way.at
        newest = {row: self._table.last.item(row) for row in who}
        seen: set[tuple[int, int, str]] = set()
        for item in np.isin(rows, [*who]).nonzero()[0].tolist():
            row, place, event_id = rows.item(item), at.item(item), batch.chunk.watched.ids[item]
            ts = batch.chunk.ts.item(place)
            mark = row, ts, event_id
            if ts > newest[row]:
                newest[row] = ts
            elif mark in seen or recent.holds(batch.keys.item(place), ts, event_id):
                rows[item] = -1
            seen.add(mark)

    def _go_through(self, under_way: Sifting) -> None:
        """Find out what the watched events are, and which of them the matcher has to see."""
        self._look_back(under_way)
        asking = self._put_by(under_way)
        self._look_closer(under_way, asking)
        traits = self._roles.traits
        for which in range(len(self._roles.silences)):
            arming = (traits.arms[under_way.roles, which] & (under_way.rows >= 0)).nonzero()[0]
            under_way.arming[which] = arming
            names = under_way.names[under_way.at[arming]]
            under_way.restless.update(zip(names.tolist(), under_way.rows[arming].tolist(), strict=True))

    def _look_back(self, under_way: Sifting) -> None:
        """Find out what events are in the light of those of their visitors before them."""
        roles, rows, numbers, turned = self._roles, under_way.rows, under_way.roles, self._table.turned
        past: list[Any] = under_way.batch.chunk.watched.past  # of these none is None
        for item in (roles.traits.of_past[numbers] & (rows >= 0)).nonzero()[0].tolist():
            role, row = roles.by_number[numbers[item]], rows.item(item)
            while role.turns:
                which, does, does_not = role.turns
                before, value = turned.item(row, which), past[item].turns[which]
                turned[row, which] = value
                role = roles[does if before not in (0, value) else does_not]
            if role.looks_back:
                role = self._in_the_light(under_way, under_way.at.item(item), role, row, past[item])
            numbers[item] = role.number

    def _in_the_light(self, under_way: Sifting, at: int, role: Role, row: int, past: Past) -> Role:
        """Return the role of a view (its place in the chunk is ``at``) in the light of those before."""
        table, here = self._table, past.place
        came, before = self._came_from.get(table.page.item(row), 0), table.place.item(row)
        returns = elsewhere = False
        if here != before:  # views of the same page again are one view
            returns = here == table.before.item(row)
            elsewhere = not returns
            if returns:
                under_way.between[at] = here, before
            table.place[row], table.before[row] = here, before
        table.page[row] = past.page
        return self._roles.looked_back(role, came, returns=returns, elsewhere=elsewhere)

    def _put_by(self, under_way: Sifting) -> Mapping[int, Sequence[Part]]:
        """Put by what nothing asks for; return the parts of the events that may ask or be asked for: of few, all.

        Of a slot in which nothing comes close behind another only the last event is put by.
        """
        traits, table, items = self._roles.traits, self._table, under_way.by_row
        if len(items) <= _FEW:
            by_number = self._roles.by_number
            return {i: parts for i in items.tolist() if (parts := by_number[under_way.roles[i]].parts)}
        role = under_way.roles[items]
        counts = traits.parts[role]
        part, item = ranges(traits.parts_at[role], counts), np.repeat(items, counts)
        order = order_of(under_way.rows[item] * len(self._roles.slots) + traits.slot[part])
        part, item = part[order], item[order]
        row, slot, ts = under_way.rows[item], traits.slot[part], under_way.batch.chunk.ts[under_way.at[item]]
        first = first_of_runs(row, slot)
        before = one_before(ts)
        before[first] = table.met[row[first], slot[first]]
        # While its rule waits, what comes is the matcher's to use up when the wait is over.
        close = self._waits[slot] | (traits.asks[part] & (ts - before <= self._roles.windows[slot]))
        of_slot = np.cumsum(first) - 1
        is_close = np.bincount(of_slot, close)[of_slot] > 0
        counted = (traits.counted[part] & ~is_close).nonzero()[0]
        last = counted[np.append(np.diff(of_slot[counted]) > 0, True)[: len(counted)]]
        table.met[row[last], slot[last]], table.put_by[row[last], slot[last]] = ts[last], None
        last = last[ts[last] >= under_way.oldest - self._roles.windows[slot[last]]]
        watched, mark_of = under_way.batch.chunk.watched, self._marks
        marks = [
            mark_of[at](when, watched.ids[i], watched.past[i])
            for at, when, i in zip(slot[last].tolist(), ts[last].tolist(), item[last].tolist(), strict=True)
        ]
        table.put_by[row[last], slot[last]] = np.fromiter(marks, np.object_, len(marks))
        asking: dict[int, list[Part]] = {}
        for i, number in zip(item[is_close].tolist(), part[is_close].tolist(), strict=True):
            asking.setdefault(i, []).append(traits.part[number])
        return asking

    def _look_closer(self, under_way: Sifting, asking: Mapping[int, Sequence[Part]]) -> None:
        """Let those events through that the matcher has to see; ``asking`` are parts of some."""
        begun, waiting, by_number = self._table.begun, self._roles.waiting, self._roles.by_number
        traits, roles, rows = self._roles.traits, under_way.roles, under_way.rows
        begins = traits.begins[roles]
        goes_on = begun[rows] | np.isin(rows, rows[begins]) if begins.any() else begun[rows]
        closer = traits.looked_at[roles] | (traits.goes_on[roles] & goes_on)
        closer[[*asking]] = True
        for item in (closer & (rows >= 0)).nonzero()[0].tolist():
            place, row, role = under_way.at.item(item), rows.item(item), by_number[roles[item]]
            asked, owed = self._ask(under_way, asking[item], row, item) if item in asking else (0, ())
            if role.begins:
                begun[row] = True  # he is noted anew when the matcher has seen it
            if role.waits or asked & waiting:
                self._table.wait(row)
                under_way.restless[under_way.names.item(place)] = row
            if role.direct or asked or (role.goes_on and begun.item(row)):
                between = under_way.between.get(place)
                under_way.passes[place] = Pass(place, item, row, role.mask, asked, owed, (), between)

    def _ask(
        self, under_way: Sifting, parts: Sequence[Part], row: int, item: int
    ) -> tuple[int, tuple[tuple[int, bytes], ...]]:
        """Put by what nothing asks for yet; return which slots are asked by an event, and what it is owed there."""
        table, waiting, chunk = self._table, self._roles.waiting, under_way.batch.chunk
        watched, ts = chunk.watched, chunk.ts.item(under_way.at.item(item))
        met, put_by = table.met, table.put_by
        asked = 0
        owed: tuple[tuple[int, bytes], ...] = ()
        for slot, window_ms, asks, counted in parts:
            before = met.item(row, slot)
            waits = counted and bool(waiting >> slot & 1) and table.waits.item(row)
            if waits or (asks and ts - before <= window_ms):
                asked |= 1 << slot
                missed = put_by[row, slot]
                if missed is not None:
                    owed = (*owed, (slot, missed))
                    put_by[row, slot] = None
            elif counted:
                put_by[row, slot] = self._marks[slot](ts, watched.ids[item], watched.past[item])
            if counted and ts > before:
                met[row, slot] = ts
        return asked, owed

    def _disturb(self, under_way: Sifting) -> None:
        """Look at all events of those who wait or of whom a silence has begun."""
        table = self._table
        places = under_way.places(table.restless)
        names = under_way.names[places].tolist()
        rows = np.fromiter(map(table.restless.get, names, repeat(-1)), np.int64, len(places))
        if under_way.restless:
            now = np.fromiter(map(under_way.restless.get, names, repeat(-1)), np.int64, len(places))
            rows = np.where(now >= 0, now, rows)
        places, rows = places[rows >= 0], rows[rows >= 0]
        order = order_of(rows)
        for which in range(len(self._roles.silences)):
            self._fall_silent(under_way, which, places[order], rows[order])
        waits = table.waits[rows]
        if waits.any():
            for place, row in zip(places[waits].tolist(), rows[waits].tolist(), strict=True):
                self._let(under_way, place, row)

    def _let(self, under_way: Sifting, place: int, row: int, ran_out: tuple[tuple[int, Began], ...] = ()) -> None:
        """Let an event through, with one more silence that ended too late with it."""
        let = under_way.passes.get(place)
        if let is None:
            item = int(under_way.at.searchsorted(place))
            item = item if item < len(under_way.at) and under_way.at.item(item) == place else -1
            mask = 0 if item < 0 else self._roles.by_number[under_way.roles[item]].mask
            let = Pass(place, item, row, mask, between=under_way.between.get(place))
        under_way.passes[place] = let._replace(ran_out=(*let.ran_out, *ran_out))

    def _fall_silent(self, under_way: Sifting, which: int, places: Int64s, rows: Int64s) -> None:
        """Begin and end a silence at events, given row by row; let those through that ended it too late."""
        chunk, table, silence = under_way.batch.chunk, self._table, self._roles.silences[which]
        begins_at = np.zeros(len(chunk), np.bool_)
        begins_at[under_way.at[under_way.arming[which]]] = True
        if len(places) <= _FEW:
            table.arm(which, self._one_by_one(under_way, which, places.tolist(), rows.tolist(), begins_at))
            return
        begins, ts = begins_at[places], chunk.ts[places]
        first = first_of_runs(rows)
        due = np.where(one_before(begins), one_before(ts) + silence.for_ms, NEVER)
        due[first] = table.due[rows[first], which]
        late = (ts > due) | (chunk.stream_time[places] >= due + self._config.stream_delay_ms)
        late &= due < NEVER
        only_now = (ts < due - silence.for_ms) & (due < NEVER) & ~late
        changed: dict[int, tuple[int, Began | None]] = {}
        last = np.append(first[1:], True)
        if only_now.any():
            apart = np.isin(rows, rows[only_now])
            changed = self._one_by_one(under_way, which, places[apart].tolist(), rows[apart].tolist(), begins_at)
            last, late = last & ~apart, late & ~apart
        for i in late.nonzero()[0].tolist():
            began = table.armed[rows[i], which] if first[i] else Began.of(chunk.event(places.item(i - 1)))
            self._let(under_way, places.item(i), rows.item(i), ((which, began),))
        ends = last & (begins | (table.due[rows, which] < NEVER))
        for row, again, at in zip(rows[ends].tolist(), begins[ends].tolist(), places[ends].tolist(), strict=True):
            changed[row] = (chunk.ts.item(at) + silence.for_ms, Began.of(chunk.event(at))) if again else (NEVER, None)
        table.arm(which, changed)

    def _one_by_one(
        self, under_way: Sifting, which: int, places: list[int], rows: list[int], begins_at: Flags
    ) -> dict[int, tuple[int, Began | None]]:
        """Do so for few events, or for rows of which something comes only now that happened before a silence.

        ``begins_at`` tells which places' events begin it. Returns what changes, by row.
        """
        chunk, table, silence = under_way.batch.chunk, self._table, self._roles.silences[which]
        before = {row: due for row in dict.fromkeys(rows) if (due := table.due.item(row, which)) < NEVER}
        due_of: dict[int, int] = {**before}
        since: dict[int, Began | None] = {}
        for place, row in zip(places, rows, strict=True):
            due, begins = due_of.get(row, NEVER), begins_at.item(place)
            if due == NEVER and not begins:
                continue
            ts = chunk.ts.item(place)
            if due < NEVER:
                if ts > due or chunk.stream_time.item(place) >= due + self._config.stream_delay_ms:
                    self._let(under_way, place, row, ((which, since.get(row) or table.armed[row, which]),))
                elif ts < due - silence.for_ms:
                    continue  # it happened before the silence began, and only came later
                del due_of[row]
            since[row] = Began.of(chunk.event(place)) if begins else None
            if begins:
                due_of[row] = ts + silence.for_ms
        return {
            row: (due_of[row], began) if began else (NEVER, None)
            for row, began in since.items()
            if began or row in before
        }
