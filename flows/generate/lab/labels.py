"""Labels: which anomaly a detector can be asked for at which tick, decided on the noise-free course of a session.

Three readings of each rule of the contract's section 4, all on expected values, never on a detector's output:

- *plain*: the expected score does what the rule says;
- *sure*: it does so by a margin, and the change is so far beyond counting noise that it can be asked for;
- *open*: it nearly does, or noise can do the rest: a report is not wrong.

Where a type is not open a report of it is false. An *episode* is a run of open ticks, of whatever type. A type is
*wanted* in it, from its *onset* on, if it is sure on 3 ticks running (MASS_EXIT: one) before a type ahead of it in the
contract's order takes its place there: MASS_EXIT from its first open tick, LOW_ENGAGEMENT where it is sure, and before
a GRADUAL_DECLINE also LOW_ENGAGEMENT and SUDDEN_DROP where they are plain. In an episode with a wanted type every type
is *accepted* where it is open. An episode in which nothing is wanted is *ambiguous*: what is reported there at open
ticks counts neither way. Never wanted is what has an innocent cause: newcomers who dilute a ratio, the end of the
programme, a poll. Votes are acts, so a poll moves the active ratio, and a fall that is due to it alone is open only
where it is plain; all else that is reported of a poll is false.
"""

from dataclasses import dataclass

import numpy as np

from flows.generate.lab.expectation import TICK_MS, WINDOW_MS, Course
from flows.generate.lab.falls import MINUTE, Fall, LabelRules, noise_of_mean
from flows.generate.lab.rhythm import Flags, Floats
from flows.generate.lab.room import EXIT, LONGEST_EXIT_MS, Room

MASS_EXIT, LOW_ENGAGEMENT, SUDDEN_DROP, GRADUAL_DECLINE = TYPES = (
    "MASS_EXIT",
    "LOW_ENGAGEMENT",
    "SUDDEN_DROP",
    "GRADUAL_DECLINE",
)
"""In the contract's order: at a tick the first that holds."""

LEAST_AUDIENCE = 5 - 1e-9
BASELINE, SKIPPED, LEAST_BASELINE = 30, 2, 5
STILL = 1e-4
"""A rise of the expected score from tick to tick that is none."""
SLOPES = (6, 9, 12, 18, 24, 30, 36, 42, 48, 54, 60)
"""Ticks over which a decline is looked for: 30 s to 5 min."""


@dataclass(frozen=True, eq=False)
class Held:
    """Where each type is sure, plain and open, shape (ticks,) each, by type."""

    sure: dict[str, Flags]
    plain: dict[str, Flags]
    open: dict[str, Flags]


def before(values: Floats, ticks: int) -> Floats:
    """Return the values of so many ticks earlier, the first one standing in where there is none.

    >>> before(np.array([1.0, 2.0, 3.0]), 1).tolist()
    [1.0, 1.0, 2.0]
    """
    return np.concatenate((np.full(min(ticks, len(values)), values[:1]), values[: max(0, len(values) - ticks)]))


def hold(course: Course, room: Room, rules: LabelRules) -> Held:
    """Apply the rules to a course, all three ways."""
    count = len(course.ts)
    reach = rules.edge_sds * course.audience_sd
    maybe, surely = course.audience + reach >= LEAST_AUDIENCE, course.audience - reach >= LEAST_AUDIENCE
    begun = int(np.argmax(maybe)) if maybe.any() else count
    seen = surely & (np.arange(count) - begun >= SKIPPED + LEAST_BASELINE)
    growth = course.connected / np.maximum(before(course.connected, MINUTE), 1e-9)
    lately = np.max([before(growth, ticks) for ticks in range(BASELINE + SKIPPED + 1)], axis=0)
    calm, crowded = lately <= rules.growth[0], growth > rules.growth[1]
    fall = _since_baseline(course, begun)
    ways = {
        LOW_ENGAGEMENT: _lows(course, fall, rules),
        SUDDEN_DROP: (fall.sure(rules.fall, rules), fall.plain(rules.fall), fall.open(rules.fall, rules)),
        GRADUAL_DECLINE: _declines(course, begun, rules),
    }
    exits = _exits(course, room, rules, 0) & maybe
    held = Held({MASS_EXIT: _exits(course, room, rules, 1) & surely}, {MASS_EXIT: exits}, {MASS_EXIT: exits})
    for name, (sure, plain, opened) in ways.items():
        held.sure[name] = sure & seen & calm
        held.plain[name] = plain & maybe & ~crowded
        held.open[name] = (opened & maybe & ~crowded) | held.sure[name]
    return held


def _since_baseline(course: Course, begun: int) -> Fall:
    """Return the fall against the mean of the 30 ticks before the last two, as far as an audience was there."""
    index = np.arange(len(course.ts))
    high = np.maximum(index - SKIPPED, 0)
    low = np.maximum(high - BASELINE, np.minimum(begun, high))
    ticks = np.maximum(high - low, 1)
    total = np.concatenate(([0.0], np.cumsum(course.score)))
    spread = np.concatenate(([0.0], np.cumsum(course.sd**2)))
    some = high > low
    base = np.where(some, (total[high] - total[low]) / ticks, course.score)
    base_sd = np.where(some, np.sqrt((spread[high] - spread[low]) / ticks), course.sd)
    skewed = np.concatenate(([0.0], np.cumsum(course.third)))
    third = np.where(some, (skewed[high] - skewed[low]) / ticks, course.third)
    return Fall(base, course.score, base_sd, third, noise_of_mean(ticks.astype(np.float64)), course.sd)


def _lows(course: Course, fall: Fall, rules: LabelRules) -> tuple[Flags, Flags, Flags]:
    edge = rules.edge_sds * course.sd
    sure = (course.score + edge < rules.low) & (_highest(course.score - edge) >= rules.low) & fall.far(rules)
    peak = _highest(course.score)
    plain = (course.score < rules.low) & (peak >= rules.low) & fall.plain(rules.fall)
    reached = (course.score - edge < rules.low) & (_highest(course.score + edge) >= rules.low)
    return sure, plain, reached & (peak - course.score >= rules.faint * rules.fall * peak)


def _highest(values: Floats) -> Floats:
    """Return the highest of the 30 ticks before each."""
    highest: Floats = np.max([before(values, ticks) for ticks in range(1, BASELINE + 1)], axis=0)
    return highest


def _declines(course: Course, begun: int, rules: LabelRules) -> tuple[Flags, Flags, Flags]:
    ways = np.zeros((3, len(course.ts)), np.bool_)
    rises = np.cumsum(np.diff(course.score, prepend=course.score[:1]) > STILL).astype(np.float64)
    whole = np.ones(len(course.ts))
    for ticks in SLOPES:
        inside = np.arange(len(course.ts)) >= begun + ticks
        earlier, sd, third = (before(column, ticks) for column in (course.score, course.sd, course.third))
        fall = Fall(earlier, course.score, sd, third, whole, course.sd)
        straight = rises == before(rises, ticks)
        ways[0] |= inside & straight & fall.sure(rules.decline, rules)
        ways[1] |= inside & fall.plain(rules.decline)
        ways[2] |= inside & fall.open(rules.decline, rules)
    return ways[0], ways[1], ways[2]


def _exits(course: Course, room: Room, rules: LabelRules, sure: int) -> Flags:
    """Hold the people gone against those who leave a minute of their own accord; both are facts, not noisy counts."""
    own = room.churn * (course.gone + course.connected)
    times = rules.exit_times_churn[sure]
    far = (
        (course.gone >= own + rules.exit_sds[sure] * np.sqrt(own) + rules.exit_more[sure])
        & (course.gone >= times * own)
        & (course.leave_rate >= max(rules.exit_rate[sure], times * room.churn))
    )
    if not sure:
        # While people do leave faster than of their own accord, whoever sees it early is not wrong.
        far |= _leaving(course, room) & (course.gone >= own + rules.edge_sds * np.sqrt(own))
    return (course.gone >= rules.gone) & far


def _leaving(course: Course, room: Room) -> Flags:
    """Tell at which ticks an exit is under way in the window, or the programme is over."""
    since = course.ts - course.start_ts
    exits = [change.start for change in room.changes if change.what == EXIT]
    under_way = [(since > start) & (since <= start + LONGEST_EXIT_MS + WINDOW_MS) for start in exits]
    leaving: Flags = np.any([since > room.over, *under_way], axis=0)
    return leaving


def until_ms(room: Room) -> int:
    """Return until when anything can be asked about a room (ms since its start)."""
    return room.ended if room.ended is not None else room.last + 6 * MINUTE * TICK_MS
