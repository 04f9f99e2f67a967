"""The picture of an evaluation: for each type a find, the worst truth, a false report, and how long finding took.

A panel shows the score (without its poll term) around a tick, over what is expected of it without noise; where the type
is open, since when it can be asked for, and what was reported.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flows.evaluate.figures import Figures, TypeFigures
from flows.evaluate.judge import Judged, Judgement, Key, Truth
from flows.evaluate.svg import Svg
from flows.generate.lab.episodes import LabSession
from flows.generate.lab.expectation import TICK_MS

# Colours that people who see few of them can tell apart (Okabe and Ito, 2008).
BLUE, ORANGE, GREEN, RED, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#8a8a8a"
COLOURS = {"right": GREEN, "repeat": GREEN, "ambiguous": GREY, "false": RED}
PANEL_W, PANEL_H, GAP, LEFT, TOP, ROW = 320, 150, 44, 44, 74, 212
BEFORE_MS, AFTER_MS = 240_000, 360_000
Scores = Mapping[Key, Sequence[tuple[int, float]]]


@dataclass(frozen=True, slots=True)
class Panel:
    """What a panel shows: a type in a session, around a tick."""

    title: str
    session: LabSession
    anomaly_type: str
    ts: int
    onset_ts: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """The panels of a type; None where there is nothing to show."""

    figures: TypeFigures
    panels: tuple[Panel | None, Panel | None, Panel | None]
    delays: tuple[int, ...]


COLUMNS = ("a typical find", "the worst truth", "a false report", "delay from the onset, ticks")
NOTHING = ("no truth was found", "no truth", "no report is false")


def rows(judgement: Judgement, figures: Figures) -> list[Row]:
    """Choose what is worth a look, type by type."""
    return [_row(judgement, row) for row in figures.types]


def _row(judgement: Judgement, figures: TypeFigures) -> Row:
    name = figures.anomaly_type
    truths = sorted((t for t in judgement.truths if t.anomaly_type == name), key=_badness)
    found = [truth for truth in truths if truth.report is not None]
    typical = _truth_panel(found[(len(found) - 1) // 2]) if found else None
    worst = _truth_panel(truths[-1]) if truths else None
    false = next(
        (j for j in judgement.reports if j.report.anomaly_type == name and j.verdict == "false" and j.session), None
    )
    wrong = None
    if false is not None and false.session is not None:
        wrong = Panel(f"{false.session.session_id}, {_people(false.session)}", false.session, name, false.report.ts)
    delays = tuple(delay for truth in truths if (delay := truth.delay_ticks) is not None)
    return Row(figures, (typical, worst, wrong), delays)


def _badness(truth: Truth) -> tuple[bool, int, int]:
    return truth.report is None, truth.delay_ticks or 0, truth.onset_ts


def _truth_panel(truth: Truth) -> Panel:
    delay = truth.delay_ticks
    told = "missed" if delay is None else f"{delay:+d} ticks"
    title = f"{truth.session.session_id}, {_people(truth.session)}: {told}"
    return Panel(title, truth.session, truth.anomaly_type, truth.onset_ts, truth.onset_ts)


def _people(session: LabSession) -> str:
    return f"{session.people:,} people" + (", acts alone" if session.by_acts_alone else "")


def wanted_sessions(chosen: Sequence[Row]) -> set[Key]:
    """Return the sessions whose scores the panels show."""
    return {(p.session.tenant_id, p.session.session_id) for row in chosen for p in row.panels if p is not None}


def draw(title: str, chosen: Sequence[Row], judgement: Judgement, scores: Scores) -> Svg:
    """Draw the rows; ``scores`` may lack a session, which then shows the expectation alone."""
    width = LEFT + 4 * (PANEL_W + GAP)
    svg = Svg(width, TOP + ROW * len(chosen) + 30)
    svg.text(LEFT, 26, title, 16)
    _legend(svg, LEFT, 46)
    by_session: dict[Key, list[Judged]] = {}
    for judged in judgement.reports:
        by_session.setdefault(judged.report.key, []).append(judged)
    for number, row in enumerate(chosen):
        top = TOP + ROW * number
        svg.text(LEFT, top + 14, _headline(row.figures), 13)
        for column, panel in enumerate(row.panels):
            x, y = LEFT + column * (PANEL_W + GAP), top + 40
            if panel is None:
                svg.text(x, y - 8, COLUMNS[column], 11, fill=GREY)
                svg.text(x + PANEL_W / 2, y + PANEL_H / 2, NOTHING[column], 11, "middle", GREY)
                continue
            svg.text(x, y - 8, f"{COLUMNS[column]}: {panel.title}", 11)
            key = panel.session.tenant_id, panel.session.session_id
            _Course(svg, panel, x, y).draw(scores.get(key, ()), by_session.get(key, []))
        _histogram(svg, row.delays, LEFT + 3 * (PANEL_W + GAP), top + 40)
    return svg


def _headline(figures: TypeFigures) -> str:
    def percent(value: float | None) -> str:
        return "none" if value is None else f"{100 * value:.1f} %"

    false = (
        "" if figures.false_per_hour is None else f", {figures.false_per_hour:.3f} false an hour of healthy sessions"
    )
    return (
        f"{figures.anomaly_type}: recall {percent(figures.recall)} of {figures.truths}, "
        f"precision {percent(figures.precision)}, within two ticks {percent(figures.prompt)}{false}"
    )


def _legend(svg: Svg, x: float, y: float) -> None:
    marks = (
        ("score without poll term", BLUE), ("expected, 2 sd of counting noise", GREY), ("type is open", ORANGE),
        ("report right", GREEN), ("report false", RED), ("report that counts neither way, or of another type", GREY),
    )  # fmt: skip
    for words, colour in marks:
        if words.startswith("report"):
            _marker(svg, x + 8, y - 4, colour)
        else:
            svg.rectangle(x, y - 8, 16, 8, colour, 0.35 if colour != BLUE else 1.0)
        svg.text(x + 22, y, words, 11)
        x += 40 + 6.3 * len(words)
    svg.line([(x, y - 4), (x + 18, y - 4)], RED, 1, "4 3")
    svg.text(x + 24, y, "can be asked for", 11)


def _marker(svg: Svg, x: float, y: float, colour: str, size: float = 5) -> None:
    svg.area([(x - size, y - size), (x + size, y - size), (x, y + size)], colour)


class _Course:
    """A panel with the course of a score."""

    def __init__(self, svg: Svg, panel: Panel, x: float, y: float) -> None:
        self._svg, self._panel, self._left, self._top = svg, panel, x, y
        self._begin, self._end = panel.ts - BEFORE_MS, panel.ts + AFTER_MS
        session = panel.session
        ticks = range(session.first_tick, session.first_tick + TICK_MS * len(session.expected), TICK_MS)
        self._expected = [
            point for point in zip(ticks, session.expected, session.sd, strict=True) if self._shown(point[0])
        ]

    def _shown(self, ts: int) -> bool:
        return self._begin <= ts <= self._end

    def _x(self, ts: int) -> float:
        return self._left + PANEL_W * (min(max(ts, self._begin), self._end) - self._begin) / (self._end - self._begin)

    def _y(self, score: float) -> float:
        return self._top + PANEL_H * (1.0 - min(max(score, 0.0), 0.7) / 0.7)

    def draw(self, scores: Sequence[tuple[int, float]], reports: Sequence[Judged]) -> None:
        """Draw labels, expectation, score and reports, one over another."""
        svg, panel = self._svg, self._panel
        for episode in panel.session.episodes:
            for truth in episode.types:
                if truth.anomaly_type == panel.anomaly_type:
                    for first, last in truth.spans:
                        left, right = self._x(first - TICK_MS), self._x(last)
                        svg.rectangle(
                            left, self._top, right - left, PANEL_H, ORANGE, 0.35 if not episode.ambiguous else 0.15
                        )
        for level in (0.0, 0.2, 0.4, 0.6):
            svg.line([(self._left, self._y(level)), (self._left + PANEL_W, self._y(level))], "#dddddd", 0.7)
            svg.text(self._left - 4, self._y(level) + 4, f"{level:g}", 9, "end", GREY)
        if self._expected:
            upper = [(self._x(ts), self._y(mean + 2 * sd)) for ts, mean, sd in self._expected]
            lower = [(self._x(ts), self._y(mean - 2 * sd)) for ts, mean, sd in self._expected]
            svg.area([*upper, *reversed(lower)], GREY, 0.25)
            svg.line([(self._x(ts), self._y(mean)) for ts, mean, _ in self._expected], GREY, 1.2)
        svg.line([(self._x(ts), self._y(score)) for ts, score in scores if self._shown(ts)], BLUE, 1.5)
        if panel.onset_ts is not None:
            x = self._x(panel.onset_ts)
            svg.line([(x, self._top), (x, self._top + PANEL_H)], RED, 1, "4 3")
        for judged in reports:
            if self._shown(judged.report.ts):
                own = judged.report.anomaly_type == panel.anomaly_type
                colour = COLOURS[judged.verdict] if own else GREY
                _marker(svg, self._x(judged.report.ts), self._top + (8 if own else 20), colour, 5 if own else 3)
        for minute in range(-4, 7, 2):
            svg.text(
                self._x(panel.ts + minute * 60_000), self._top + PANEL_H + 12, f"{minute:+d} min", 9, "middle", GREY
            )


def _histogram(svg: Svg, delays: Sequence[int], x: float, y: float) -> None:
    svg.text(x, y - 8, COLUMNS[3], 11)
    if not delays:
        svg.text(x + PANEL_W / 2, y + PANEL_H / 2, NOTHING[0], 11, "middle", GREY)
        return
    low, high = -12, 12
    counts = Counter(min(max(delay, low), high) for delay in delays)
    step, most = PANEL_W / (high - low + 1), max(counts.values())
    for delay in range(low, high + 1):
        height = (PANEL_H - 14) * counts[delay] / most
        left = x + (delay - low) * step
        svg.rectangle(left + 1, y + PANEL_H - height, step - 2, height, GREEN if delay <= 2 else RED)
        if counts[delay]:
            svg.text(left + step / 2, y + PANEL_H - height - 3, str(counts[delay]), 9, "middle")
        if delay % 4 == 0:
            edge = "≤" if delay == low else "≥" if delay == high else ""
            svg.text(left + step / 2, y + PANEL_H + 12, f"{edge}{delay}", 9, "middle", GREY)
    svg.line([(x, y + PANEL_H), (x + PANEL_W, y + PANEL_H)], GREY, 1)
