"""Anomalies of all sessions of a closing at once: what departs from a session's own baseline, and when it is over."""

from dataclasses import dataclass, fields, replace

import numpy as np

from operators.anomalies.config import HISTORY, AnomalyConfig
from operators.anomalies.episodes import Episodes, Told, step
from operators.anomalies.history import compared
from operators.anomalies.past import Past
from operators.anomalies.rules import GRADUAL_DECLINE, MASS_EXIT, NONE, Measures, candidates, judge, measure
from operators.anomalies.state import NEWEST, TYPES, UNITS, Baselines, Runs, Spells, Ticks
from operators.anomalies.trees import FEATURES, Features
from operators.columns import Flags, Int64s, offsets
from operators.config import ScoreConfig
from operators.engagement import Floats, SignalColumns
from operators.half_space_trees import Forest
from operators.presence import LONG_AGO

MOST_SLOTS = 1 << 17
"""Ticks that are looked at together, their baselines included: bounds memory, and keeps it near the processor."""

_COMBINED, _TREES, _Z, _WEIGHT, _SCORE, _SIGNALS = 0, 1, 2, 3, 4, 5


@dataclass(frozen=True, slots=True)
class Reports:
    """What is to be told, by session and in order of time; each column of shape (n,), ``signals`` too.

    ``session`` indexes the closing's sessions. ``place`` is the tick's among the closing's ticks, -1 where an open
    anomaly is resolved because its session ends; ``ts`` is then the end, and the rest is the newest tick's. ``kind``
    indexes ``TYPES``. ``combined``, ``trees``, ``z`` and ``trees_weight`` are 0 at ticks without an audience.
    """

    session: Int64s
    place: Int64s
    ts: Int64s
    kind: Int64s
    critical: Flags
    raised: Flags
    combined: Floats
    current: Floats
    expected: Floats
    trees: Floats
    z: Floats
    trees_weight: Floats
    signals: SignalColumns

    def __len__(self) -> int:
        return len(self.ts)

    def moved(self, sessions: int, places: int) -> "Reports":
        """Return the same with sessions and places counted from further on."""
        place = np.where(self.place < 0, -1, self.place + places)
        return replace(self, session=self.session + sessions, place=place)

    @property
    def deviation(self) -> Floats:
        """How far the score is below what was expected."""
        return self.expected - self.current


class Detector:
    """Finds anomalies. It holds configuration and the forest; what is kept of the sessions is the caller's.

    The reports of a session depend on its own ticks alone: neither on how they were cut into closings nor on which
    other sessions share one.
    """

    def __init__(self, config: AnomalyConfig, score: ScoreConfig) -> None:
        self.config, self.score_config = config, score
        self.forest = Forest.grow(
            FEATURES,
            n_trees=config.n_trees,
            height=config.tree_height,
            window_size=config.window,
            seed=config.seed,
        )
        self.features = Features(score)

    def baselines(self, capacity: int = 16) -> Baselines:
        """Return room for the state of sessions."""
        return Baselines(self.config, capacity)

    def detect(self, table: Baselines, spells: Spells, ticks: Ticks) -> Reports:
        """Take a closing in: update the sessions' rows, free those of ended ones, and return what is to be told."""
        matter = self._matter(table, spells, ticks)
        if len(ticks.ts) + HISTORY * len(matter) <= MOST_SLOTS:
            return self._detect(table, spells, ticks, matter)
        count = np.bincount(ticks.session, minlength=len(matter))
        portion = np.cumsum(np.where(matter, count + HISTORY, 0)) // MOST_SLOTS
        session_at = np.searchsorted(portion, np.arange(int(portion[-1]) + 2))
        tick_at = offsets(count)[session_at]
        parts = []
        for i in range(len(session_at) - 1):
            sessions, places = slice(*session_at[i : i + 2]), slice(*tick_at[i : i + 2])
            if matter[sessions].any():
                some = ticks.take(places, sessions.start)
                part = self._detect(table, spells.take(sessions), some, matter[sessions])
                parts.append(part.moved(int(sessions.start), int(places.start)))
        return _joined(parts)

    def _detect(self, table: Baselines, spells: Spells, ticks: Ticks, matter: Flags) -> Reports:
        at = np.flatnonzero(ticks.alive & matter[ticks.session])
        past = self._past(table, spells, ticks, at)
        last = _last_place(ticks.session[at], at, len(spells.row))
        opened = spells.kept & table.open[spells.row].any(axis=1)
        which = candidates(past, self.config)
        if opened.any():
            # What is told of them, and what is kept of their newest ticks, is measured along with the rest.
            which = np.union1d(which, past.runs.where(last[opened]))
        judged = judge(past, which, self.config) if len(which) else None
        told, episodes = self._follow(table, spells, ticks, at, opened, judged)
        reports = self._tell(table, spells, ticks, past, last, judged, told) if len(told.ts) else _NOTHING
        self._keep(table, spells, ticks, past, last, judged, episodes)
        return reports

    def trace(self, table: Baselines, spells: Spells, ticks: Ticks) -> Measures:
        """Return all that decides at every tick with an audience, in their order; changes nothing."""
        at = np.flatnonzero(ticks.alive & self._matter(table, spells, ticks)[ticks.session])
        past = self._past(table, spells, ticks, at)
        return judge(past, np.arange(len(past.runs.at)), self.config)

    def _past(self, table: Baselines, spells: Spells, ticks: Ticks, at: Int64s) -> Past:
        runs = Runs(table, spells, ticks, at, self.config)
        return Past(runs, table, ticks, self.forest, self.features, self.config, self.score_config)

    def _matter(self, table: Baselines, spells: Spells, ticks: Ticks) -> Flags:
        """Tell which sessions have, had or get an audience."""
        live = ticks.alive & (ticks.audience >= self.config.min_audience)
        matter = spells.kept & table.used[spells.row]
        matter[ticks.session[live]] = True
        return matter

    def _follow(
        self, table: Baselines, spells: Spells, ticks: Ticks, at: Int64s, opened: Flags, judged: Measures | None
    ) -> tuple[Told, dict[int, Episodes]]:
        """Walk through the ticks of sessions where a type holds or is open, one by one; few are."""
        config = self.config
        told = Told()
        episodes: dict[int, Episodes] = {}
        if judged is None and not opened.any():
            return told, episodes
        held: dict[int, tuple[int, float]] = {}
        if judged is not None:
            found = np.flatnonzero(judged.kind != NONE)
            kinds = judged.kind[found]
            expected = np.where(kinds == GRADUAL_DECLINE, judged.line_start[found], judged.before[found])
            held = dict(
                zip(judged.tick[found].tolist(), zip(kinds.tolist(), expected.tolist(), strict=True), strict=True)
            )
        busy = opened.copy()
        busy[ticks.session[list(held)]] = True
        ended = opened & spells.finished
        walk = at[busy[ticks.session[at]]]
        scores = (compared(ticks, walk) / UNITS).tolist()
        for session in np.flatnonzero(busy).tolist():
            row = spells.row[session] if spells.kept[session] else None
            episodes[session] = _episodes(table, row)
        for session, place, ts, score in zip(
            ticks.session[walk].tolist(), walk.tolist(), ticks.ts[walk].tolist(), scores, strict=True
        ):
            state = episodes[session]
            kind, wanted = held.get(place, (NONE, 0.0))
            if kind == NONE and not any(state.open):
                continue
            over, raised = step(state, score, kind, ts, wanted, config)
            for resolved in over:
                told.add(session, place, ts, resolved, False, state.expected[resolved])
            if raised:
                told.add(session, place, ts, kind, True, wanted)
        for session in np.flatnonzero(spells.finished & (ended | busy)).tolist():
            for kind, is_open in enumerate(episodes[session].open):
                if is_open:
                    end = int(spells.end[session])
                    told.add(session, -1, end, kind, False, episodes[session].expected[kind])
        return told, episodes

    def _tell(
        self,
        table: Baselines,
        spells: Spells,
        ticks: Ticks,
        past: Past,
        last: Int64s,
        judged: Measures | None,
        told: Told,
    ) -> Reports:
        """Put numbers and severity to what is told."""
        places, session = np.array(told.place, np.int64), np.array(told.session, np.int64)
        ends = places < 0
        places[ends] = last[session[ends]]
        numbers = table.newest[spells.row[session]]
        here = places >= 0
        numbers[here] = self._at(past, ticks, places[here], judged)
        kind, raised = np.array(told.kind, np.int64), np.array(told.raised, np.bool_)
        exits = (kind == MASS_EXIT) & raised
        critical = numbers[:, _COMBINED] >= self.config.critical
        critical[exits] = numbers[exits, NEWEST - 1] >= self.config.exit_critical
        return _reports(told, numbers, critical)

    def _at(self, past: Past, ticks: Ticks, places: Int64s, judged: Measures | None) -> Floats:
        """Return the numbers that go with reports at some ticks of the closing, of shape (n, NEWEST)."""
        numbers = np.zeros((len(places), NEWEST))
        signals = ticks.signals
        numbers[:, _SCORE] = compared(ticks, places) / UNITS
        for i, name in enumerate(SignalColumns.__slots__):
            numbers[:, _SIGNALS + i] = getattr(signals, name)[places]
        known = np.zeros(len(places), np.bool_)
        if judged is not None:
            known = self._copy(judged, places, numbers)
        rest = past.runs.where(np.unique(places[~known]))
        if len(rest):
            self._copy(measure(past, rest, self.config), places, numbers)
        return numbers

    def _copy(self, measures: Measures, places: Int64s, numbers: Floats) -> Flags:
        """Copy what decided at some places to their numbers, and tell which of them were measured."""
        found = np.minimum(np.searchsorted(measures.tick, places), len(measures.tick) - 1)
        known: Flags = measures.tick[found] == places
        found = found[known]
        columns = (measures.combined, measures.trees, measures.z, measures.trees_weight)
        ready = measures.ordinal[found] >= self.config.min_baseline
        for i, values in zip((_COMBINED, _TREES, _Z, _WEIGHT), columns, strict=True):
            numbers[known, i] = np.where(ready, values[found], 0.0)
        return known

    def _keep(
        self,
        table: Baselines,
        spells: Spells,
        ticks: Ticks,
        past: Past,
        last: Int64s,
        judged: Measures | None,
        episodes: dict[int, Episodes],
    ) -> None:
        """Write the state after the last tick back to the rows."""
        runs = past.runs
        table.reset(spells.row[spells.kept & spells.finished])
        lives = np.flatnonzero((last >= 0) & ~spells.finished)
        rows = spells.row[lives]
        table.used[rows] = True
        table.newest_ts[rows] = ticks.ts[last[lives]]
        table.ticks[rows] = 0
        final = runs.at[runs.tick_at[1:] - 1]
        past.keep(np.flatnonzero((final == last[runs.session]) & ~spells.finished[runs.session]))
        for session, state in episodes.items():
            if not spells.finished[session]:
                row = spells.row[session]
                table.open[row], table.expected[row] = state.open, state.expected
                table.told[row], table.back[row] = state.told, state.back
        is_open = table.open[rows].any(axis=1)
        opened = lives[is_open]
        if len(opened):
            table.newest[spells.row[opened]] = self._at(past, ticks, last[opened], judged)
        idle = np.flatnonzero((table.ticks[rows] == 0) & ~is_open)
        if len(idle):
            told = table.told[rows[idle]].max(axis=1, initial=LONG_AGO)
            table.reset(rows[idle][table.newest_ts[rows[idle]] - told >= self.config.repeat_ms])


def _joined(parts: list[Reports]) -> Reports:
    """Put the reports of portions one behind another."""
    parts = [part for part in parts if len(part)] or [_NOTHING]
    if len(parts) == 1:
        return parts[0]
    columns = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(Reports)
        if field.name != "signals"
    }
    signals = SignalColumns(
        *(np.concatenate([getattr(part.signals, field.name) for part in parts]) for field in fields(SignalColumns))
    )
    return Reports(**columns, signals=signals)


def _last_place(session: Int64s, at: Int64s, n: int) -> Int64s:
    """Return the last of the places of each of n sessions, -1 where it has none."""
    last = np.full(n, -1, np.int64)
    last[session] = at  # the last one assigned stays
    return last


def _episodes(table: Baselines, row: int | None) -> Episodes:
    if row is None:
        return Episodes([False] * len(TYPES), [0.0] * len(TYPES), [LONG_AGO] * len(TYPES), [0] * len(TYPES))
    return Episodes(
        table.open[row].tolist(), table.expected[row].tolist(), table.told[row].tolist(), table.back[row].tolist()
    )


def _reports(told: Told, numbers: Floats, critical: Flags) -> Reports:
    """Put what is told in order of session; within one it is in order of time."""
    session = np.array(told.session, np.int64)
    order = np.argsort(session, kind="stable")
    numbers = numbers[order]
    counts = numbers[:, _SIGNALS : _SIGNALS + 4].astype(np.int64)
    return Reports(
        session=session[order],
        place=np.array(told.place, np.int64)[order],
        ts=np.array(told.ts, np.int64)[order],
        kind=np.array(told.kind, np.int64)[order],
        critical=critical[order],
        raised=np.array(told.raised, np.bool_)[order],
        combined=numbers[:, _COMBINED],
        current=numbers[:, _SCORE],
        expected=np.array(told.expected, np.float64)[order],
        trees=numbers[:, _TREES],
        z=numbers[:, _Z],
        trees_weight=numbers[:, _WEIGHT],
        signals=SignalColumns(
            counts[:, 0], counts[:, 1], counts[:, 2], counts[:, 3], numbers[:, 9], numbers[:, 10], numbers[:, 11]
        ),
    )


_NOTHING = _reports(Told(), np.zeros((0, NEWEST)), np.zeros(0, np.bool_))
