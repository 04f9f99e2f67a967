"""The reference for anomalies: one session, plain lists and floats, every tick from scratch, with River's own trees.

Straight from the contract's section 4 and what was decided where it leaves a choice. There are no columns, no running
sums, no slots and no closings; a session is a list of ticks, and what holds at one is computed from the list of those
before it. Whatever is fast must agree with this.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from river import anomaly

from operators.anomalies.config import AnomalyConfig

MASS_EXIT, LOW_ENGAGEMENT, SUDDEN_DROP, GRADUAL_DECLINE = (
    "MASS_EXIT",
    "LOW_ENGAGEMENT",
    "SUDDEN_DROP",
    "GRADUAL_DECLINE",
)
WINDOW = 12
FIVE_MINUTES = 60
NO_SCORES: tuple[float, ...] = (0.0,) * 4


class Tick(NamedTuple):
    """What a tick is known by.

    ``chats`` and ``reactions`` are those of its last 5 s. ``age``: ticks since its session began; ``leaves``: all that
    it has had before.
    """

    ts: int
    alive: bool
    chats: int
    reactions: int
    chat_per_min: int
    reactions_per_min: int
    connected: int
    active: int
    there: int
    inside: int
    left: int
    audience: int
    poll: float
    age: int
    leaves: int

    @property
    def features(self) -> dict[str, float]:
        """c, active ratio, r and leave rate."""
        return {
            "chat": min(1.0, math.log(1 + self.chat_per_min) / math.log(21)),
            "active": min(1.0, self.active / max(self.there, 1)),
            "reactions": min(1.0, math.log(1 + self.reactions_per_min) / math.log(11)),
            "leaves": min(1.0, self.left / max(self.inside, 1)),
        }

    @property
    def score(self) -> float:
        """The score without its poll term, in whole millionths."""
        f = self.features
        value = 0.30 * f["chat"] + 0.25 * f["active"] + 0.10 * f["reactions"] - 0.10 * f["leaves"]
        return round(min(1.0, max(0.0, value)) * 1_000_000) / 1_000_000


class Report(NamedTuple):
    """What is told."""

    ts: int
    anomaly_type: str
    severity: str
    state: str
    combined: float
    current: float
    expected: float
    trees: float
    z: float
    trees_weight: float


@dataclass
class Audience:
    """A run of ticks with an audience, and what is known of it."""

    ticks: list[Tick] = field(default_factory=list)
    tree_scores: list[float | None] = field(default_factory=list)
    trees: Any = None
    churn: float = 0.0
    crowd: float = 0.0
    grown: bool = False
    drops: list[int] = field(default_factory=list)


@dataclass
class Open:
    """An anomaly that is open."""

    expected: float
    back: int = 0


def reference(ticks: Sequence[Tick], config: AnomalyConfig, end: int | None = None) -> list[Report]:
    """Return what is told of a session; ``end`` is when it ended, if it did."""
    reports: list[Report] = []
    audience: Audience | None = None
    opened: dict[str, Open] = {}
    told: dict[str, int] = {}
    newest: tuple[float, ...] = (0.0,) * 5
    before: Tick | None = None
    for tick in ticks:
        if not tick.alive:
            continue
        kind, expected, scores = None, 0.0, NO_SCORES
        if tick.audience < config.min_audience:
            audience = None
        else:
            if audience is None or before is None or tick.ts != before.ts + 5_000:
                audience = Audience(trees=_trees(config))
            kind, expected, scores = _judge(audience, tick, config)
        before = tick
        newest = (*scores, tick.score)
        for name in (MASS_EXIT, LOW_ENGAGEMENT, SUDDEN_DROP, GRADUAL_DECLINE):
            if name in opened:
                level = config.low_resolved if name == LOW_ENGAGEMENT else config.resolved_share * opened[name].expected
                back = tick.score >= level and name != kind
                opened[name].back = opened[name].back + 1 if back else 0
                if opened[name].back == config.resolved_ticks:
                    reports.append(_report(tick.ts, name, "resolved", newest, opened.pop(name).expected, config, None))
        if kind and tick.ts - told.get(kind, -(1 << 61)) >= config.repeat_ms:
            reports.append(_report(tick.ts, kind, "raised", newest, expected, config, tick))
            opened.setdefault(kind, Open(expected))
            told[kind] = tick.ts
    if end is not None:
        names = [name for name in (MASS_EXIT, LOW_ENGAGEMENT, SUDDEN_DROP, GRADUAL_DECLINE) if name in opened]
        reports += [_report(end, name, "resolved", newest, opened[name].expected, config, None) for name in names]
    return reports


def _report(
    ts: int, name: str, state: str, newest: tuple[float, ...], expected: float, config: AnomalyConfig, tick: Tick | None
) -> Report:
    combined, trees, z, weight, score = newest
    critical = combined >= config.critical
    if tick is not None and name == MASS_EXIT:
        critical = tick.features["leaves"] >= config.exit_critical
    return Report(ts, name, "CRITICAL" if critical else "WARNING", state, combined, score, expected, trees, z, weight)


def _trees(config: AnomalyConfig) -> Any:
    return anomaly.HalfSpaceTrees(
        n_trees=config.n_trees, height=config.tree_height, window_size=config.window, seed=config.seed
    )


def _judge(audience: Audience, tick: Tick, config: AnomalyConfig) -> tuple[str | None, float, tuple[float, ...]]:
    """Return the type that holds, what was expected, and (combined, trees, z, weight); then learn the tick."""
    past = audience.ticks
    n = len(past)
    point = tick.features | {"score": tick.score}
    tree_score = audience.trees.score_one(point) if n >= config.window else None
    if n == 0:
        audience.grown = tick.age >= config.exit_age
        earlier = max(tick.leaves - tick.left, 0) * WINDOW / max(tick.age, 1)
        audience.churn, audience.crowd = earlier if audience.grown else float(tick.left), float(tick.inside)
    kind, expected, scores = None, 0.0, NO_SCORES
    if n >= config.min_baseline:
        kind, expected, scores = _decide(audience, tick, tree_score, config)
    elif audience.grown and _left_together(audience, tick, config):
        kind, expected = MASS_EXIT, _before(past, config)
    share = 1 / min(_known(audience, tick), config.exit_memory)
    if n >= WINDOW:
        usual = audience.churn
        most = usual + 3 * math.sqrt(usual + 1) + 1
        audience.churn = usual + (min(float(past[-WINDOW].left), most) - usual) * share
    audience.crowd += (tick.inside - audience.crowd) * share
    audience.trees.learn_one(point)
    audience.tree_scores.append(tree_score)
    past.append(tick)
    return kind, expected, scores


def _decide(
    audience: Audience, tick: Tick, tree_score: float | None, config: AnomalyConfig
) -> tuple[str | None, float, tuple[float, ...]]:
    past, score = audience.ticks, tick.score
    n = len(past)
    lately = past[-config.window :]
    window = [t.score for t in lately]
    mean = math.fsum(window) / len(window)
    spread = math.sqrt(max(0.0, math.fsum((s - mean) ** 2 for s in window) / len(window)))
    # The first tick stands for the 60 s before it, each later one for its 5 s.
    minutes = (len(lately) + (WINDOW - 1 if len(lately) == n else 0)) / WINDOW
    there = sum(t.there for t in lately)
    active = sum(t.active for t in lately)
    counting = _deviation(
        sum(_chats(past, n - 1 - i) for i in range(len(lately))) / minutes,
        sum(_reactions(past, n - 1 - i) for i in range(len(lately))) / minutes,
        (active + 1) / (there + 2),
        there / len(lately),
        audience.churn,
    )
    blur = _deviation(
        tick.chat_per_min + 0.5,
        tick.reactions_per_min + 0.5,
        (tick.active + 1) / (tick.there + 2),
        tick.there,
        audience.churn,
    )
    z = min(1.0, max(0.0, (mean - score) / (config.z_full * max(spread, counting))))
    recent = [s for s in audience.tree_scores[-config.window :] if s is not None]
    trees = 0.0
    if recent and tree_score is not None:
        same = sum(abs(s - tree_score) < 1e-12 for s in recent)
        trees = (sum(s < tree_score - 1e-12 for s in recent) + 0.5 * same) / len(recent)
    weight = config.trees_weight if len(recent) >= config.least_tree_scores else 0.0
    combined = weight * trees + (1 - weight) * z
    scores = (combined, trees, z, weight)

    before = _before(past, config)
    line = _line([*(t.score for t in past), score], config)
    polled = any(t.poll > 0 for t in [*past, tick][-FIVE_MINUTES:])
    written, done, fewer_active = _evidence([*past, tick], config)
    evidence = written if polled else max(done, fewer_active)
    least = min(t.audience for t in past[-config.growth_ticks :])
    grew = tick.audience > least and tick.audience >= (1 + config.growth) * least
    may_fall = combined >= config.warning and not grew and evidence >= config.evidence
    above = any(s > config.low_from for s in window)
    low = may_fall and above and score < config.low - config.low_margin * blur
    limit = (1 - config.sudden_fall) * before - config.sudden_margin * blur
    sudden = may_fall and before - score >= config.least_fall and score <= limit
    if low or sudden:
        audience.drops.append(n)
    quiet = not any(n - drop <= FIVE_MINUTES for drop in audience.drops)
    decline = may_fall and quiet and line is not None and line - score >= config.least_fall
    if line is not None:
        decline = decline and score <= (1 - config.decline_fall) * line - config.decline_margin * blur
    if _left_together(audience, tick, config):
        return MASS_EXIT, before, scores
    if low or sudden:
        return (LOW_ENGAGEMENT if low else SUDDEN_DROP), before, scores
    return (GRADUAL_DECLINE, line or 0.0, scores) if decline else (None, 0.0, scores)


def _before(past: Sequence[Tick], config: AnomalyConfig) -> float:
    """Return the mean of the window before the last ticks, 0 if there is none."""
    base = [t.score for t in past[: max(len(past) - config.sudden_recent + 1, 0)][-config.window :]]
    return math.fsum(base) / len(base) if base else 0.0


def _known(audience: Audience, tick: Tick) -> int:
    """Return how many ticks are behind what is known of churn, this one included."""
    return (tick.age if audience.grown else len(audience.ticks)) + 1


def _chats(ticks: Sequence[Tick], i: int) -> int:
    return ticks[i].chat_per_min if i == 0 else ticks[i].chats


def _reactions(ticks: Sequence[Tick], i: int) -> int:
    return ticks[i].reactions_per_min if i == 0 else ticks[i].reactions


def _deviation(chats: float, reactions: float, ratio: float, people: float, churn: float) -> float:
    people = max(people, 1.0)
    chat = 0.30 * math.sqrt(chats) / ((1 + chats) * math.log(21))
    reaction = 0.10 * math.sqrt(reactions) / ((1 + reactions) * math.log(11))
    leaves = 0.10 * math.sqrt(churn) / people
    return math.hypot(chat, reaction, leaves) + 0.25 * math.sqrt(ratio * (1 - ratio) / people)


def _line(scores: list[float], config: AnomalyConfig) -> float | None:
    """Return where the decline over the longest span that shows one began."""
    found = None
    for span in config.decline_spans:
        if len(scores) <= span:
            continue
        part = scores[-span - 1 :]
        middle_x, mean = span / 2, math.fsum(part) / len(part)
        slope = math.fsum((x - middle_x) * s for x, s in enumerate(part)) / math.fsum(
            (x - middle_x) ** 2 for x in range(len(part))
        )
        third = span // 3
        lead = (span - third) // 2 + 1
        first = math.fsum(part[:third]) / third
        middle = math.fsum(part[::-1][lead : lead + third]) / third
        last = math.fsum(part[-third:]) / third
        start = min(mean - slope * middle_x, first)
        falls = slope < 0 and -slope * span >= config.decline_fall * start
        falls = falls and part[-1] <= (1 - config.decline_fall) * start
        whole = config.decline_balance * (first - last)
        if falls and first - middle >= whole and middle - last >= whole:
            found = start
    return found


def _evidence(ticks: list[Tick], config: AnomalyConfig) -> tuple[float, float, float]:
    """Return the evidence, in nats, that less is written, that less is done, and that fewer are active."""
    known = min(len(ticks), FIVE_MINUTES)
    first = len(ticks) - known
    exposure = known + (WINDOW - 1 if first == 0 else 0)
    written = done = active = 0.0
    for span in config.recent_spans:
        if len(ticks) <= span:
            continue
        begin = len(ticks) - span
        chat, reaction = (
            _fewer(
                sum(count(ticks, i) for i in range(begin, len(ticks))),
                span,
                sum(count(ticks, i) for i in range(first, begin)),
                exposure - span,
            )
            for count in (_chats, _reactions)
        )
        written, done = max(written, chat), max(done, chat + reaction)
    apart = ticks[::-1][:FIVE_MINUTES:WINDOW]
    for windows in range(1, max(1, config.recent_spans[-1] // WINDOW) + 1):
        now, then = apart[:windows], apart[windows:]
        if windows == 1 and not then:
            then = [ticks[0]]
        active = max(
            active,
            _smaller(
                sum(t.active for t in now),
                sum(t.there for t in now),
                sum(t.active for t in then),
                sum(t.there for t in then),
            ),
        )
    return written, done, active


def _fewer(count: float, exposure: float, earlier: float, earlier_exposure: float) -> float:
    rate = (count + earlier) / (exposure + earlier_exposure)
    if count >= rate * exposure:
        return 0.0
    return _log_ratio(count, rate * exposure) + _log_ratio(earlier, rate * earlier_exposure)


def _smaller(part: float, whole: float, earlier: float, earlier_whole: float) -> float:
    if whole + earlier_whole == 0:
        return 0.0
    share = (part + earlier) / (whole + earlier_whole)
    if part >= share * whole:
        return 0.0
    return (
        _log_ratio(part, share * whole)
        + _log_ratio(whole - part, (1 - share) * whole)
        + _log_ratio(earlier, share * earlier_whole)
        + _log_ratio(earlier_whole - earlier, (1 - share) * earlier_whole)
    )


def _log_ratio(count: float, expected: float) -> float:
    return count * math.log(count / expected) if count > 0 else 0.0


def _left_together(audience: Audience, tick: Tick, config: AnomalyConfig) -> bool:
    past = audience.ticks
    gone = tick.left
    if tick.age < config.exit_age:
        gone = min(gone, max(t.connected for t in past[-WINDOW:]))
    if gone < config.exit_people or gone <= min([0, 0, *(t.left for t in past)][-2:]):
        return False
    inside = max(tick.inside, gone)
    windows = min(max(_known(audience, tick), WINDOW), config.exit_memory) / WINDOW
    churn, crowd = audience.churn, max(audience.crowd, audience.churn)
    evidence = min(
        _fewer(churn * windows, windows, gone, 1),
        _smaller(churn * windows, crowd * windows, gone, max(tick.inside, gone)),
    )
    times = min(
        gone / max(churn, 1e-9),
        gone / max(tick.inside, gone) / max(churn / max(crowd, 1.0), 1e-9),
    )
    needed = config.exit_evidence
    if gone / inside >= config.exit_most:
        needed = config.exit_most_evidence * math.log(1 + windows) / math.log(1 + config.exit_memory / WINDOW)
    if audience.crowd < config.exit_known * inside:
        needed = config.exit_unknown_evidence
    return gone / inside >= config.exit_rate and evidence >= needed and times >= config.exit_times
