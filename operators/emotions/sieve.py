"""The sieve: follows all visitors of a chunk in columns, and lets only those events through that the matcher must see.

Within a chunk an event depends on its visitor's event before alone: sorted by visitor, that is its neighbour, and for
each visitor's first what was kept of him. What is let through carries what the matcher has missed and needs.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from operators.chunk import Chunk
from operators.columns import Flags, Int64s, first_of_runs, group_by, last_of_runs, last_where, one_before, ranges
from operators.config import NEVER, WindowConfig
from operators.digests import digests
from operators.emotions.marks import Began, mark_of
from operators.emotions.patterns import path_of
from operators.emotions.recent import Recent, UInt64s
from operators.emotions.roles import Roles, objects
from operators.emotions.table import Visitors
from operators.lateness import running_maximum
from operators.presence import LONG_AGO

_LONG: Final = 128
"""Characters of a value up to which its number is remembered."""
_VALUES: Final = 50_000
"""Values of fields whose numbers are remembered; beyond that the table starts anew."""


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
    """The accepted events of a chunk, of shape (n,): places, numbers of their visitors, and rows of their sessions.

    ``segment`` counts how often each one's session had ended in the chunk before it.
    """

    chunk: Chunk
    places: Int64s
    keys: UInt64s
    sessions: Int64s
    segment: Int64s


@dataclass(frozen=True, slots=True)
class _Watched:
    """The watched events, sorted by visitor: their numbers, where they stand among all, rows, times, codes of masks."""

    item: Int64s
    at: Int64s
    row: Int64s
    ts: Int64s
    code: Int64s
    events: list[Any]


class Sieve:
    """Lets events through. All its state is the table's, and what came lately of each partition."""

    def __init__(self, roles: Roles, table: Visitors, config: WindowConfig) -> None:
        self._roles = roles
        self._table = table
        self._config = config
        self._marks = [mark_of(slot.rule) for slot in roles.slots]
        self._values: dict[Any, int] = {None: 0}

    def sift(self, batch: Batch, recent: Recent) -> tuple[list[Pass], dict[int, int]]:
        """Take a chunk in. Return what has to be looked at, in order, and the segments of rows not in the first."""
        chunk, table = batch.chunk, self._table
        number = np.full(len(chunk), -1, np.int64)
        number[chunk.watched.at] = np.arange(len(chunk.watched))
        order, segment, key = group_by(batch.segment, batch.keys)
        item = number[batch.places[order]]
        first = first_of_runs(segment, key)
        firsts = np.flatnonzero(first)
        rows, later = self._rows(batch, order, segment, key, firsts, np.logical_or.reduceat(item >= 0, firsts))
        row = rows[np.cumsum(first) - 1]
        mine = np.flatnonzero(row >= 0)
        place, item, row = batch.places[order[mine]], item[mine], row[mine]
        fresh = self._fresh(chunk, place, item, row, key[mine], recent)
        if fresh is not None:
            place, item, row = place[fresh], item[fresh], row[fresh]
        at = np.flatnonzero(item >= 0)
        items = item[at]
        masks = chunk.watched.masks
        codes = self._roles.codes(masks)[items] if masks else np.zeros(0, np.int64)
        watched = _Watched(items, at, row[at], chunk.ts[place[at]], codes, chunk.watched.events)
        np.maximum.at(table.last, watched.row, watched.ts)
        self._turn(watched)
        between = self._look_back(watched)
        asked, owed, awaited = self._ask(watched)
        ran_out = self._fall_silent(chunk, place, item, row, watched)
        through = np.zeros(len(place), np.bool_)
        roles = self._roles
        through[at[roles.direct[codes]]] = True
        begins = roles.begins[codes]
        if begins.any() or table.begun.any():
            begun = table.begun.copy()
            begun[watched.row[begins]] = True
            through[at[begun[watched.row] & roles.goes_on[codes]]] = True
        waits = self._roles.waits[codes]
        if waits.any() or awaited or table.waits.any():
            busy = table.waits.copy()
            busy[awaited] = True
            busy[watched.row[waits]] = True
            through |= busy[row]
        through[list(asked)] = True
        through[list(ran_out)] = True
        let = np.flatnonzero(through)
        code = np.full(len(place), -1, np.int64)
        code[at] = codes
        found = zip(*(c[let].tolist() for c in (np.arange(len(place)), place, item, row, code)), strict=True)
        meant = roles.masks
        extras: tuple[tuple[dict[int, Any], Any], ...] = ((asked, 0), (owed, ()), (ran_out, ()), (between, None))
        passes = [
            Pass(at, what, who, meant[c] if c >= 0 else 0, *(given.get(i, none) for given, none in extras))
            for i, at, what, who, c in found
        ]
        passes.sort()
        return passes, later

    def _rows(
        self, batch: Batch, order: Int64s, segment: Int64s, key: UInt64s, firsts: Int64s, wanted: Flags
    ) -> tuple[Int64s, dict[int, int]]:
        """Return the row of each group, -1 where nothing has to be known of it; who begins anew gets a row anew."""
        rows = self._table.find(key[firsts].tolist())
        rows[segment[firsts] > 0] = -1
        new = np.flatnonzero((rows < 0) & wanted)
        if not len(new):
            return rows, {}
        new = new[np.argsort(segment[firsts[new]], kind="stable")]
        at = order[firsts[new]]
        rows[new] = self._table.add(batch.keys[at], batch.sessions[at], batch.chunk.user[batch.places[at]])
        self._table.wake(rows[new[segment[firsts[new]] == 0]])
        pairs = zip(rows[new].tolist(), segment[firsts[new]].tolist(), strict=True)
        return rows, {row: number for row, number in pairs if number}

    def _fresh(
        self, chunk: Chunk, place: Int64s, item: Int64s, row: Int64s, key: UInt64s, recent: Recent
    ) -> Int64s | None:
        """Remember the watched events; return what is left without repeats, None if there are none.

        A repeat has its first's time: what is later than all before of its visitor is none.
        """
        at = np.flatnonzero(item >= 0)
        who, when = row[at], chunk.ts[place[at]]
        doubtful = when <= _highest_before(first_of_runs(who), when, self._table.last[who]) if len(at) else at > 0
        again: list[int] = []
        events = chunk.watched.events
        if doubtful.any():
            seen: set[tuple[int, int, str]] = set()
            for i in np.flatnonzero(np.isin(who, who[doubtful])).tolist():
                event = events[item[at[i]]]
                mark = int(who[i]), event.ts, event.event_id
                if mark in seen or (doubtful[i] and recent.holds(int(key[at[i]]), event.ts, event.event_id)):
                    again.append(int(at[i]))
                seen.add(mark)
        kept = np.setdiff1d(at, again) if again else at
        kept_at = place[kept]
        recent.add(chunk.clock, key[kept], chunk.ts[kept_at], [events[i].event_id for i in item[kept].tolist()])
        return np.setdiff1d(np.arange(len(item)), again) if again else None

    def _turn(self, watched: _Watched) -> None:
        """Find out which events turn from their visitor's one before."""
        turned = self._table.turned
        for which, (_, entry) in enumerate(self._roles.turns):
            mine = np.flatnonzero(self._roles.turning[which][watched.code])
            if not len(mine):
                continue
            row = watched.row[mine]
            value = self._numbers([getattr(watched.events[i], entry.field) for i in watched.item[mine].tolist()])
            first = first_of_runs(row)
            before = one_before(value)
            before[first] = turned[row[first], which]
            watched.code[mine] = self._roles.turned(which, watched.code[mine], (before != 0) & (before != value))
            last = last_of_runs(first)
            turned[row[last], which] = value[last]

    def _look_back(self, watched: _Watched) -> dict[int, tuple[int, int]]:
        """Find out what holds in the light of the pages viewed before; return between which pages a view returns."""
        roles, table = self._roles, self._table
        between: dict[int, tuple[int, int]] = {}
        mine = np.flatnonzero(roles.looks_back[watched.code])
        if not len(mine):
            return between
        row, code = watched.row[mine], watched.code[mine]
        at = np.flatnonzero(roles.views[code])
        views = [watched.events[i] for i in watched.item[mine[at]].tolist()]
        page = self._numbers([view.page for view in views])
        place = self._numbers([(view.page, view.url) for view in views])
        who = row[at]
        first = first_of_runs(who)
        came = np.zeros(len(mine), np.uint64)  # the page viewed before, as each event finds it
        came[at] = page
        places = np.arange(len(mine), dtype=np.int32)
        starts = first_of_runs(row)
        last = one_before(last_where(roles.views[code], places))
        known = (last >= last_where(starts, places)) & ~starts
        came = np.where(known, came[last], table.page[row])
        before = one_before(place)
        before[first] = table.place[who[first]]
        moved = np.flatnonzero(before != place)  # views of the same page again are one view
        mover, to, since = who[moved], place[moved], before[moved]
        began = first_of_runs(mover)
        earlier = one_before(since)
        earlier[began] = table.before[mover[began]]
        returns = (to == earlier) & (earlier != 0)
        holds, elsewhere = np.zeros((2, len(mine)), np.bool_)
        holds[at[moved[returns]]] = True
        elsewhere[at[moved[~returns]]] = True
        ends = last_of_runs(began)
        table.place[mover[ends]], table.before[mover[ends]] = to[ends], since[ends]
        table.page[who[last_of_runs(first)]] = page[last_of_runs(first)]
        watched.code[mine] = roles.looked_back(
            code,
            [holds if entry.kind == "returned" else self._is_one_of(came, entry.pages) for _, entry in roles.past],
            elsewhere,
        )
        back = moved[returns]
        pairs = zip(to[returns].tolist(), since[returns].tolist(), strict=True)
        return dict(zip(watched.at[mine[at[back]]].tolist(), pairs, strict=True))

    def _is_one_of(self, came: UInt64s, pages: Iterable[str]) -> Flags:
        found = np.zeros(len(came), np.bool_)
        for number in self._numbers(list(pages)):  # one or two: `np.isin` is for many
            found |= came == number
        return found

    def _numbers(self, values: list[Any]) -> UInt64s:
        """Return a number for each value, the same everywhere."""
        known = self._values
        try:
            return np.array([known[value] for value in values], np.uint64)
        except KeyError:
            new = [value for value in dict.fromkeys(values) if value not in known]
            if len(known) + len(new) > _VALUES:
                known.clear()
                known[None], new = 0, list(dict.fromkeys(values))
            texts = [_text(value).replace("\0", "\\0") for value in new]
            found = dict(zip(new, digests(texts).tolist(), strict=True))
            known.update((value, number) for value, number in found.items() if number and _is_short(value))
            return np.array([known.get(value, found.get(value, 0)) for value in values], np.uint64)

    def _ask(self, watched: _Watched) -> tuple[dict[int, int], dict[int, tuple[tuple[int, bytes], ...]], list[int]]:
        """Put by what nothing asks for yet; return which slots are asked by which events, and what they are owed.

        Beside that, the rows of those who may wait then.
        """
        roles, table = self._roles, self._table
        count = roles.counts[watched.code]
        pair = np.repeat(np.arange(len(count)), count)
        asked: dict[int, int] = {}
        owed: dict[int, tuple[tuple[int, bytes], ...]] = {}
        if not len(pair):
            return asked, owed, []
        which = ranges(roles.starts[watched.code], count)
        group = watched.row[pair] * len(roles.slots) + roles.slot[which]
        order = np.argsort(group, kind="stable")
        pair, which, group = pair[order], which[order], group[order]
        row, slot, ts = watched.row[pair], roles.slot[which], watched.ts[pair]
        met = np.where(roles.counted[which], ts, LONG_AGO)
        before = _highest_before(first_of_runs(group), met, table.met[row, slot])
        asks = roles.asks[which] & (ts - before <= roles.windows[slot])
        some = np.flatnonzero(asks | roles.counted[which])  # the others have nothing to ask for
        if not len(some):
            return asked, owed, []
        pair, group, row, slot, asks = pair[some], group[some], row[some], slot[some], asks[some]
        met = np.maximum(before, met)[some]
        first = first_of_runs(group)
        last = np.flatnonzero(last_of_runs(first))
        for i in np.flatnonzero(asks).tolist():
            at, of = int(watched.at[pair[i]]), int(slot[i])
            asked[at] = asked.get(at, 0) | 1 << of
            if first[i]:
                missed = table.put_by[row[i], of]
            else:
                missed = None if asks[i - 1] else self._marks[of](watched.events[watched.item[pair[i - 1]]])
            if missed is not None:
                owed[at] = (*owed.get(at, ()), (of, missed))
        ends = zip(watched.item[pair[last]].tolist(), slot[last].tolist(), asks[last].tolist(), strict=True)
        table.met[row[last], slot[last]] = met[last]
        table.put_by[row[last], slot[last]] = objects(
            [None if ask else self._marks[of](watched.events[i]) for i, of, ask in ends]
        )
        return asked, owed, row[asks & roles.waiting[slot]].tolist()

    def _fall_silent(
        self, chunk: Chunk, place: Int64s, item: Int64s, row: Int64s, watched: _Watched
    ) -> dict[int, tuple[tuple[int, Began], ...]]:
        """Begin and end silences; return which events ended one too late, and what began it."""
        table = self._table
        out: dict[int, tuple[tuple[int, Began], ...]] = {}
        first = first_of_runs(row) if len(row) else np.zeros(0, np.bool_)
        last = np.flatnonzero(last_of_runs(first))
        ts = chunk.ts[place]
        until = np.minimum(np.maximum(chunk.stream_time[place] - self._config.stream_delay_ms, ts - 1), NEVER - 1)
        for which, rule in enumerate(self._roles.silences):
            due = np.full(len(place), NEVER)
            arms = watched.at[(self._roles.arms[watched.code] >> which & 1).astype(np.bool_)]
            due[arms] = ts[arms] + rule.for_ms
            source = np.arange(len(place))  # which event began what holds after each; -1: the one that was kept
            before = one_before(due)
            before[first] = table.due[row[first], which]
            stray = (before < NEVER) & (ts < before - rule.for_ms) & (until < before)
            if stray.any():
                _carry(due, source, before, first, np.isin(row, row[stray]), ts, until, rule.for_ms)
            since = one_before(source)
            since[first] = -1
            for i in np.flatnonzero(until >= before).tolist():
                began = table.armed[row[i], which] if since[i] < 0 else _began(watched.events[item[since[i]]])
                out[i] = (*out.get(i, ()), (which, began))
            armed = due[last] < NEVER
            changed = np.where(armed, source[last] >= 0, table.due[row[last], which] < NEVER)
            table.due[row[last], which] = due[last]
            kept = last[changed]
            ends = zip(item[source[kept]].tolist(), armed[changed].tolist(), strict=True)
            table.armed[row[kept], which] = objects([_began(watched.events[i]) if yes else None for i, yes in ends])
        return out


def _carry(
    due: Int64s, source: Int64s, before: Int64s, first: Flags, some: Flags, ts: Int64s, until: Int64s, for_ms: int
) -> None:
    """Let silences go on over events that happened before they began and only came later, for some visitors."""
    for i in np.flatnonzero(some).tolist():
        if not first[i]:
            before[i] = due[i - 1]
        if before[i] < NEVER and ts[i] < before[i] - for_ms and until[i] < before[i]:
            due[i], source[i] = before[i], -1 if first[i] else source[i - 1]


def _began(event: Any) -> Began:
    return Began(event.ts, event.event_id, event.user_id)


def _is_short(value: Any) -> bool:
    """Return whether a value may be remembered: a page may send as many long texts as it likes."""
    text = value[1] if isinstance(value, tuple) else value
    return not isinstance(text, str) or len(text) <= _LONG


def _text(value: Any) -> str:
    """Return a value as text; of a page and its url, what tells the page from others: its kind and its path."""
    return f"{value[0]} {path_of(value[1])}" if isinstance(value, tuple) else str(value)


def _highest_before(first: Flags, ts: Int64s, known: Int64s) -> Int64s:
    """Return the highest time before each element of its run, and of what was known of the run."""
    if first.all():
        return known
    run = np.cumsum(first)
    low = int(ts.min())
    span = int(ts.max()) - low + 1
    if int(run[-1]) * span < NEVER:
        lift = run * span - low
        reached = np.maximum.accumulate(ts + lift) - lift
    else:
        reached = running_maximum(run.astype(np.int32), ts)
    before = one_before(reached)
    before[first] = LONG_AGO
    highest: Int64s = np.maximum(before, known)
    return highest
