"""Anomalies of all sessions of a closing at once: what departs from a session's own baseline, and when it is over."""

from dataclasses import dataclass, fields, replace

import numpy as np

from operators.anomaly_config import HISTORY, WINDOW_TICKS, AnomalyConfig
from operators.anomaly_episodes import Episodes, Told, step
from operators.anomaly_past import FEATURES, Past, compared
from operators.anomaly_rules import GRADUAL_DECLINE, MASS_EXIT, NONE, Measures, candidates, judge, measure
from operators.anomaly_state import NEWEST, TYPES, UNITS, Baselines, Runs, Spells, Ticks
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

    def baselines(self, capacity: int = 16) -> Baselines:
        """Return room for the state of sessions."""
        return Baselines(self.config, capacity)

    def detect(self, table: Baselines, spells: Spells, ticks: Ticks) -> Reports:
        """Take a closing in: update the sessions' rows, free those of ended ones, and return what is to be told."""
        matter = self._matter(table, spells, ticks)
        count = np.bincount(ticks.session, minlength=len(matter))
        portion = np.cumsum(np.where(matter, count + HISTORY, 0)) // MOST_SLOTS
        session_at = np.searchsorted(portion, np.arange(int(portion[-1]) + 2 if len(portion) else 1))
        tick_at = offsets(count)[session_at]
        parts = []
        for i in range(len(session_at) - 1):
            sessions, places = slice(*session_at[i : i + 2]), slice(*tick_at[i : i + 2])
            if matter[sessions].any():
                part = self._detect(table, spells.take(sessions), ticks.take(places, sessions.start))
                parts.append(part.moved(int(sessions.start), int(places.start)))
        return _joined(parts)

    def _detect(self, table: Baselines, spells: Spells, ticks: Ticks) -> Reports:
        at = np.flatnonzero(ticks.alive & self._matter(table, spells, ticks)[ticks.session])
        past = self._past(table, spells, ticks, at)
        which = candidates(past, self.config)
        judged = judge(past, which, self.config) if len(which) else None
        told, episodes = self._follow(table, spells, ticks, at, judged)
        numbers, critical = self._numbers(table, spells, ticks, at, past, told)
        self._keep(table, spells, ticks, at, past, episodes)
        return _reports(told, numbers, critical)

    def trace(self, table: Baselines, spells: Spells, ticks: Ticks) -> Measures:
        """Return all that decides at every tick with an audience, in their order; changes nothing."""
        at = np.flatnonzero(ticks.alive & self._matter(table, spells, ticks)[ticks.session])
        past = self._past(table, spells, ticks, at)
        return judge(past, np.arange(len(past.runs.at)), self.config)

    def _past(self, table: Baselines, spells: Spells, ticks: Ticks, at: Int64s) -> Past:
        runs = Runs(table, spells, ticks, at, self.config)
        return Past(runs, table, ticks, self.forest, self.config, self.score_config)

    def _matter(self, table: Baselines, spells: Spells, ticks: Ticks) -> Flags:
        """Tell which sessions have, had or get an audience."""
        live = ticks.alive & (ticks.audience >= self.config.min_audience)
        matter = spells.kept & table.used[spells.row]
        matter[ticks.session[live]] = True
        return matter

    def _follow(
        self, table: Baselines, spells: Spells, ticks: Ticks, at: Int64s, judged: Measures | None
    ) -> tuple[Told, dict[int, Episodes]]:
        """Walk through the ticks of sessions where a type holds or is open, one by one; few are."""
        config = self.config
        told = Told()
        episodes: dict[int, Episodes] = {}
        held: dict[int, tuple[int, float]] = {}
        if judged is not None:
            found = np.flatnonzero(judged.kind != NONE)
            kinds = judged.kind[found]
            expected = np.where(kinds == GRADUAL_DECLINE, judged.line_start[found], judged.before[found])
            held = dict(
                zip(judged.tick[found].tolist(), zip(kinds.tolist(), expected.tolist(), strict=True), strict=True)
            )
        opened = spells.kept & table.open[spells.row].any(axis=1)
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

    def _numbers(
        self, table: Baselines, spells: Spells, ticks: Ticks, at: Int64s, past: Past, told: Told
    ) -> tuple[Floats, Flags]:
        """Return the newest numbers of what is told, of shape (n, NEWEST), and which of it is critical."""
        places = np.array(told.place, np.int64)
        if not len(places):
            return np.zeros((0, NEWEST)), np.zeros(0, np.bool_)
        numbers = np.zeros((len(places), NEWEST))
        ends = np.flatnonzero(places < 0)
        if len(ends):
            session = np.array(told.session, np.int64)[ends]
            numbers[ends] = table.newest[spells.row[session]]
            last = _last_place(ticks.session[at], at, len(spells.row))[session]
            places[ends] = last
        some = np.flatnonzero(places >= 0)
        numbers[some] = self._at(past, ticks, places[some])
        kind, raised = np.array(told.kind, np.int64), np.array(told.raised, np.bool_)
        critical = numbers[:, _COMBINED] >= self.config.critical
        exits = (kind == MASS_EXIT) & raised
        critical[exits] = numbers[exits, NEWEST - 1] >= self.config.exit_critical
        return numbers, critical

    def _at(self, past: Past, ticks: Ticks, places: Int64s) -> Floats:
        """Return the numbers that go with reports at some ticks of the closing, of shape (n, NEWEST)."""
        numbers = np.zeros((len(places), NEWEST))
        signals = ticks.signals
        numbers[:, _SCORE] = compared(ticks, places) / UNITS
        for i, name in enumerate(SignalColumns.__slots__):
            numbers[:, _SIGNALS + i] = getattr(signals, name)[places]
        mine = np.searchsorted(past.runs.at, places)
        mine = np.minimum(mine, max(len(past.runs.at) - 1, 0))
        known = np.flatnonzero(past.runs.at[mine] == places) if len(past.runs.at) else np.zeros(0, np.int64)
        if len(known):
            measures = measure(past, mine[known], self.config)
            ready = measures.ordinal >= self.config.min_baseline
            for column, values in (
                (_COMBINED, measures.combined),
                (_TREES, measures.trees),
                (_Z, measures.z),
                (_WEIGHT, measures.trees_weight),
            ):
                numbers[known, column] = np.where(ready, values, 0.0)
        return numbers

    def _keep(
        self, table: Baselines, spells: Spells, ticks: Ticks, at: Int64s, past: Past, episodes: dict[int, Episodes]
    ) -> None:
        """Write the state after the last tick back to the rows."""
        runs = past.runs
        table.reset(spells.row[spells.kept & spells.finished])
        last = _last_place(ticks.session[at], at, len(spells.row))
        lives = np.flatnonzero((last >= 0) & ~spells.finished)
        rows = spells.row[lives]
        table.used[rows] = True
        table.newest_ts[rows] = ticks.ts[last[lives]]
        table.ticks[rows] = 0
        final = np.cumsum(runs.count) - 1
        goes = np.flatnonzero((runs.at[final] == last[runs.session]) & ~spells.finished[runs.session])
        rows = runs.row[goes]
        table.ticks[rows] = past.ordinal[final[goes]] + 1
        for name, column, length in (
            ("score", past.score_column, HISTORY),
            ("chats", past.chat_column, HISTORY),
            ("reactions", past.reaction_column, HISTORY),
            ("active", past.active_column, HISTORY),
            ("there", past.there_column, HISTORY),
            ("leaves", past.leaf_column, HISTORY),
            ("masses", past.mass_column, HISTORY // 2),
            ("audience", past.audience_column, WINDOW_TICKS),
            ("connected", past.connected_column, WINDOW_TICKS),
            ("left", past.left_column, WINDOW_TICKS),
        ):
            getattr(table, name)[rows] = runs.tails(goes, column, length)
        table.churn[rows] = past.churn_after[final[goes]]
        table.crowd[rows] = past.crowd_after[final[goes]]
        table.poll_tick[rows], table.drop_tick[rows] = (numbers[goes] for numbers in past.last_ticks())
        for session, state in episodes.items():
            if not spells.finished[session]:
                row = spells.row[session]
                table.open[row], table.expected[row] = state.open, state.expected
                table.told[row], table.back[row] = state.told, state.back
        opened = lives[table.open[spells.row[lives]].any(axis=1)]
        if len(opened):
            table.newest[spells.row[opened]] = self._at(past, ticks, last[opened])
        rows = spells.row[lives]
        idle = (table.ticks[rows] == 0) & ~table.open[rows].any(axis=1)
        idle &= table.newest_ts[rows] - table.told[rows].max(axis=1, initial=LONG_AGO) >= self.config.repeat_ms
        table.reset(rows[idle])


def _joined(parts: list[Reports]) -> Reports:
    """Put the reports of portions one behind another."""
    if len(parts) == 1:
        return parts[0]
    parts = parts or [_reports(Told(), np.zeros((0, NEWEST)), np.zeros(0, np.bool_))]
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
