"""The sieve: follows the visitors of a chunk, and lets only those events through that the matcher must see.

What is known of a visitor stands in the columns of the table. Gone through one by one are the events that rules ask
for; of the others those alone are looked at whose visitor waits, or of whom a silence has begun, and that in columns.
What is let through carries what the matcher has missed and needs.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Final, NamedTuple

import numpy as np

from operators.chunk import Chunk
from operators.columns import Flags, Int64s
from operators.config import NEVER, WindowConfig
from operators.digests import digest
from operators.emotions.marks import Began, mark_of
from operators.emotions.patterns import path_of
from operators.emotions.recent import Recent, UInt64s
from operators.emotions.roles import Role, Roles, Turning
from operators.emotions.table import Visitors

_LONG: Final = 128
"""Characters of a value up to which its number is remembered."""
_VALUES: Final = 50_000
"""Values of fields whose numbers are remembered; beyond that the table starts anew."""
_MIX: Final = np.uint64(0xFF51AFD7ED558CCD)
_LOW: Final = np.uint64(0xFFFF)


class Pass(NamedTuple):
    """An event that is let through: its place, its number among the watched (-1: none), and its visitor's row.

    ``mask`` is what it is, turns included; ``asked`` has a bit for each slot whose rule is to look at it, ``owed`` are
    the marks that were put by there before, ``ran_out`` the silences that ended with it too late, and what began them.
    ``between`` are the pages, by number, between which a view returns.
    """

    place: int
    item: int
    row: int
    mask: int = 0
    asked: int = 0
    owed: tuple[tuple[int, bytes], ...] = ()
    ran_out: tuple[tuple[int, Began], ...] = ()
    between: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A chunk with, for each of its n events, the number of its visitor (``keys``); and the rows of its sessions.

    ``accepted`` are those that count (None: all of them). ``segment`` counts for each how often its session had ended
    in the chunk before it (None: no session ends there).
    """

    chunk: Chunk
    accepted: Flags | None
    keys: UInt64s
    sessions: Int64s
    segment: Int64s | None = None


@dataclass(slots=True)
class _Sifting:
    """A batch under way, and what has been found out so far.

    ``names`` are the numbers of its events' visitors: who comes again after an end of his session has another from
    then on; ``later`` are the rows of those, with the segment. ``taken`` are the events that count, without repeats
    (None: all). Of the watched ``rows`` are the visitors', -1 where one does not count, and ``roles`` what each is.
    ``restless`` are rows by name, of those who wait, may wait, or of whom a silence has begun. Events are let through
    ``passes``, by place; ``between`` are the pages between which some return, ``arming`` by silence the events that
    begin it.
    """

    batch: Batch
    names: UInt64s
    taken: Flags | None
    restless: dict[int, int]
    roles: list[Role]
    rows: list[int] = field(default_factory=list)
    later: dict[int, int] = field(default_factory=dict)
    passes: dict[int, Pass] = field(default_factory=dict)
    between: dict[int, tuple[int, int]] = field(default_factory=dict)
    arming: list[dict[int, Any]] = field(default_factory=list)

    def places(self) -> Int64s:
        """Return where events that count may be of those who are restless: all of theirs, and seldom another's."""
        n = len(self.names)
        may = np.ones(n, np.bool_)
        if n > 4 * len(self.restless):
            marked = np.zeros(1 << 16, np.bool_)
            marked[np.fromiter(self.restless, np.uint64, len(self.restless)) & _LOW] = True
            may = marked[self.names & _LOW]
        places: Int64s = (may if self.taken is None else may & self.taken).nonzero()[0]
        return places


class _Numbers(dict[Any, int]):
    """Numbers for values, the same everywhere; how many are remembered is bounded, and none that is long."""

    def __missing__(self, value: Any) -> int:
        text = str(value).replace("\0", "\\0")
        number = 0 if value is None else digest(text)
        if len(text) <= _LONG:  # a page may send as many long texts as it likes
            if len(self) >= _VALUES:
                self.clear()
            self[value] = number
        return number


class _Pages(dict[tuple[str, str], int]):
    """Numbers for pages by page and url; what does not tell urls of a page apart is left out of them."""

    def __init__(self, numbers: _Numbers) -> None:
        super().__init__()
        self._numbers = numbers

    def __missing__(self, of: tuple[str, str]) -> int:
        page, url = of
        number = self._numbers[f"{page} {path_of(url)}"]
        if len(page) + len(url) <= _LONG:
            if len(self) >= _VALUES:
                self.clear()
            self[of] = number
        return number


class Sieve:
    """Lets events through. All its state is the table's, and what came lately of each partition."""

    def __init__(self, roles: Roles, table: Visitors, config: WindowConfig) -> None:
        self._roles = roles
        self._table = table
        self._config = config
        self._marks = [mark_of(slot.rule) for slot in roles.slots]
        self._numbers = _Numbers()
        self._pages = _Pages(self._numbers)
        self._came_from: dict[int, int] = {}
        for bit, entry in roles.past:
            for page in entry.pages:
                number = self._numbers[page]
                self._came_from[number] = self._came_from.get(number, 0) | bit

    def sift(self, batch: Batch, recent: Recent) -> tuple[list[Pass], dict[int, int]]:
        """Take a chunk in. Return what has to be looked at, in order, and the segments of rows not in the first."""
        watched, roles = batch.chunk.watched, self._roles
        names = batch.keys if batch.segment is None else batch.keys + batch.segment.astype(np.uint64) * _MIX
        under_way = _Sifting(
            batch, names, batch.accepted, self._table.restless.copy(), [roles[mask] for mask in watched.masks]
        )
        under_way.arming = [{} for _ in roles.silences]
        if watched.at:
            at = np.array(watched.at, np.int64)
            known = names[at].tolist()
            self._find(under_way, known)
            self._drop_repeats(under_way, at, recent)
            self._go_through(under_way, known)
        if under_way.restless:
            self._disturb(under_way)
        return sorted(under_way.passes.values()), under_way.later

    def _find(self, under_way: _Sifting, names: list[int]) -> None:
        """Find the rows of the watched events' visitors; who begins anew gets a row anew."""
        batch, table, at = under_way.batch, self._table, under_way.batch.chunk.watched.at
        get = table.row_by_key.get
        rows = [get(name, -1) for name in names]
        taken = None if batch.accepted is None else batch.accepted[at].tolist()
        if -1 in rows:
            new: dict[int, int] = {}
            for item, row in enumerate(rows):
                if row < 0 and (taken is None or taken[item]):
                    new.setdefault(names[item], at[item])
            self._meet(under_way, new)
            rows = [new.get(name, -1) if row < 0 else row for name, row in zip(names, rows, strict=True)]
        if taken is not None:
            rows = [row if counts else -1 for row, counts in zip(rows, taken, strict=True)]
        under_way.rows = rows

    def _meet(self, under_way: _Sifting, new: dict[int, int]) -> None:
        """Give rows to visitors, of whom by name the place of an event is given, and note those in its stead."""
        batch, table = under_way.batch, self._table
        if not new:
            return
        at = np.array([*new.values()])
        rows = table.add(batch.keys[at], batch.sessions[batch.chunk.session[at]], batch.chunk.user[at])
        if batch.segment is None:
            table.wake(rows)
        else:
            segments = batch.segment[at]
            table.wake(rows[segments == 0])
            under_way.later = {row: n for row, n in zip(rows.tolist(), segments.tolist(), strict=True) if n}
        new.update(zip(new, rows.tolist(), strict=True))

    def _drop_repeats(self, under_way: _Sifting, at: Int64s, recent: Recent) -> None:
        """Remember the watched events; those that are repeats count no more.

        A repeat has its first's time: what is later than all before of its visitor is none.
        """
        chunk, keys, rows, table = under_way.batch.chunk, under_way.batch.keys, under_way.rows, self._table
        times = chunk.ts[at].tolist()
        newest: dict[int, int] = {}
        doubtful: set[int] = set()
        for item, (row, ts, last) in enumerate(zip(rows, times, table.last[rows].tolist(), strict=True)):
            if ts > newest.get(row, last):
                newest[row] = ts
            elif row >= 0:
                doubtful.add(item)
        newest.pop(-1, None)
        table.last[[*newest]] = [*newest.values()]
        if doubtful:
            who = {rows[item] for item in doubtful}
            seen: set[tuple[int, int, str]] = set()
            for item, row in enumerate(rows):
                if row in who:
                    event = chunk.watched.events[item]
                    mark = row, event.ts, event.event_id
                    if mark in seen or (
                        item in doubtful and recent.holds(keys.item(at.item(item)), event.ts, event.event_id)
                    ):
                        rows[item] = -1
                    seen.add(mark)
        if -1 in rows:
            counts = np.array(rows) >= 0
            taken = np.ones(len(chunk), np.bool_) if under_way.taken is None else under_way.taken.copy()
            taken[at[~counts]] = False
            under_way.taken = taken
            at = at[counts]
        ids = [event.event_id for event, row in zip(chunk.watched.events, rows, strict=True) if row >= 0]
        recent.add(chunk.clock, keys[at], chunk.ts[at], ids)

    def _go_through(self, under_way: _Sifting, names: list[int]) -> None:
        """Find out what the watched events are, and which of them the matcher has to see."""
        begun, waiting, watched = self._table.begun, self._roles.waiting, under_way.batch.chunk.watched
        restless, passes, between = under_way.restless, under_way.passes, under_way.between
        found = zip(watched.at, under_way.rows, under_way.roles, watched.events, strict=True)
        for item, (place, row, raw, event) in enumerate(found):
            if row < 0:
                continue
            role = raw
            while role.turns:
                role = self._turn(role.turns, row, event)
            if role.looks_back:
                role = self._look_back(under_way, place, role, row, event)
            asked, owed = self._ask(role, row, event) if role.parts else (0, ())
            if role.begins:
                begun[row] = True  # he is noted anew when the matcher has seen it
            if role.waits or asked & waiting:
                self._table.wait(row)
                restless[names[item]] = row
            for which in role.arms:
                under_way.arming[which][place] = event
                restless[names[item]] = row
            if role.direct or asked or (role.goes_on and begun.item(row)):
                passes[place] = Pass(place, item, row, role.mask, asked, owed, (), between.get(place))
            if role is not raw:
                under_way.roles[item] = role

    def _turn(self, turns: Turning, row: int, event: Any) -> Role:
        """Find out whether an event turns from its visitor's one before; return its role then."""
        turned, value = self._table.turned, self._numbers[getattr(event, turns.field)]
        before = turned.item(row, turns.which)
        turned[row, turns.which] = value
        return self._roles[turns.does if before not in (0, value) else turns.does_not]

    def _look_back(self, under_way: _Sifting, place: int, role: Role, row: int, event: Any) -> Role:
        """Find out what holds in the light of the pages viewed before; return the event's role then."""
        table, numbers = self._table, self._numbers
        page = table.page.item(row)
        came = self._came_from.get(page, 0)
        returns = elsewhere = False
        if role.views:
            here, before = self._pages[event.page, event.url], table.place.item(row)
            if here != before:  # views of the same page again are one view
                returns = here == table.before.item(row)
                elsewhere = not returns
                if returns:
                    under_way.between[place] = here, before
                table.place[row], table.before[row] = here, before
            table.page[row] = numbers[event.page]
        return self._roles.looked_back(role, came, returns=returns, elsewhere=elsewhere)

    def _ask(self, role: Role, row: int, event: Any) -> tuple[int, tuple[tuple[int, bytes], ...]]:
        """Put by what nothing asks for yet; return which slots are asked by an event, and what it is owed there."""
        table, waiting, ts = self._table, self._roles.waiting, event.ts
        met, put_by = table.met, table.put_by
        asked = 0
        owed: tuple[tuple[int, bytes], ...] = ()
        for slot, window_ms, asks, counted in role.parts:
            before = met.item(row, slot)
            # While the rule waits, what comes is the matcher's to use up when the wait is over.
            waits = counted and bool(waiting >> slot & 1) and table.waits.item(row)
            if waits or (asks and ts - before <= window_ms):
                asked |= 1 << slot
                missed = put_by[row, slot]
                if missed is not None:
                    owed = (*owed, (slot, missed))
                    put_by[row, slot] = None
            elif counted:
                put_by[row, slot] = self._marks[slot](event)
            if counted and ts > before:
                met[row, slot] = ts
        return asked, owed

    def _disturb(self, under_way: _Sifting) -> None:
        """Look at all events of those who wait or of whom a silence has begun."""
        table = self._table
        places = under_way.places()
        row_of = map(under_way.restless.get, under_way.names[places].tolist(), repeat(-1))
        rows = np.fromiter(row_of, np.int64, len(places))
        places, rows = places[rows >= 0], rows[rows >= 0]
        for which in range(len(self._roles.silences)):
            self._fall_silent(under_way, which, places.tolist(), rows)
        waits = table.waits[rows]
        if waits.any():
            for place, row in zip(places[waits].tolist(), rows[waits].tolist(), strict=True):
                self._let(under_way, place, row)

    def _let(self, under_way: _Sifting, place: int, row: int, ran_out: tuple[tuple[int, Began], ...] = ()) -> None:
        """Let an event through, with one more silence that ended too late with it."""
        let = under_way.passes.get(place)
        if let is None:
            watched = under_way.batch.chunk.watched.at
            item = bisect_left(watched, place)
            item, mask = (item, under_way.roles[item].mask) if watched[item : item + 1] == [place] else (-1, 0)
            let = Pass(place, item, row, mask, between=under_way.between.get(place))
        under_way.passes[place] = let._replace(ran_out=(*let.ran_out, *ran_out))

    def _fall_silent(self, under_way: _Sifting, which: int, places: list[int], rows: Int64s) -> None:
        """Begin and end a silence at events; let those through that ended it too late."""
        chunk, table, for_ms = under_way.batch.chunk, self._table, self._roles.silences[which].for_ms
        arming, delay_ms = under_way.arming[which], self._config.stream_delay_ms
        known = table.due[rows, which]
        begun = (known < NEVER).nonzero()[0]
        due_of: dict[int, int] = dict(zip(rows[begun].tolist(), known[begun].tolist(), strict=True))
        before = {*due_of}
        since: dict[int, Any] = {}
        for place, row in zip(places, rows.tolist(), strict=True):
            due = due_of.get(row)
            if due is None and place not in arming:
                continue
            ts = chunk.ts.item(place)
            if due is not None:
                if ts > due or chunk.stream_time.item(place) >= due + delay_ms:
                    began = _began(since[row]) if row in since else table.armed[row, which]
                    self._let(under_way, place, row, ((which, began),))
                elif ts < due - for_ms:
                    continue  # it happened before the silence began, and only came later
                del due_of[row]
            since[row] = arming.get(place)
            if place in arming:
                due_of[row] = ts + for_ms
        changed: dict[int, tuple[int, Began | None]] = {}
        for row, event in since.items():
            if event is not None:
                changed[row] = due_of[row], _began(event)
            elif row in before:
                changed[row] = NEVER, None
        table.arm(which, changed)


def _began(event: Any) -> Began:
    return Began(event.ts, event.event_id, event.user_id)
