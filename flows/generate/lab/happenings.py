"""What can happen in a session of the lab: each happening changes a draft, and writes down what it changed.

Depths are drawn as a fall of the expected score (without its poll term) and solved for: the rate at which the people
who are there have a score that is so much lower.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from flows.generate.lab.crowd import Crowd
from flows.generate.lab.expectation import steady
from flows.generate.lab.rhythm import Floats
from flows.generate.lab.room import EXIT, LONGEST_EXIT_MS, Change, Poll, Stays

RATES = (1e-5, 3.0)
"""Messages a minute of an average person: the range in which a level is looked for."""


@dataclass(eq=False)
class Draft:
    """A session while it is drawn. ``energy`` (seconds,) multiplies the base rate."""

    rng: np.random.Generator
    crowd: Crowd
    chat: float
    reactions: float
    energy: Floats
    polls: list[Poll] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)

    @property
    def over(self) -> int:
        """When the programme ends."""
        return self.crowd.over

    def moment(self, low: float = 0.15, high: float = 0.7) -> int:
        """Draw when something happens: a share of the programme, but not within its first 75 s."""
        return int(self.rng.uniform(max(75_000, low * self.over), max(76_000, high * self.over)))

    def level(self, moment: int, factor: float) -> float:
        """Return the steady score of those who are there at a moment, at ``factor`` times the base rate."""
        who = self.crowd.at(moment)
        return steady(self.crowd.talk[who], self.crowd.joins[who], factor * self.chat, factor * self.reactions)

    def factor(self, moment: int, fall: float) -> float:
        """Return what to multiply the rate with for the steady score to fall by the share ``fall``."""
        now = float(self.energy[moment // 1000])
        goal = (1.0 - fall) * self.level(moment, now)
        return bisect(lambda factor: self.level(moment, factor), goal, 0.0, now) / max(now, 1e-12)

    def change(self, what: str, start: int, end: int | None = None) -> None:
        """Write a change down."""
        self.changes.append(Change(what, start, end))

    def scale(self, factors: Floats, start: int) -> None:
        """Multiply the energy from ``start`` on by factors for each second; the last one holds on."""
        at = start // 1000
        n = len(self.energy) - at
        self.energy[at:] *= np.concatenate((factors[:n], np.full(max(0, n - len(factors)), factors[-1])))


def bisect(grows: Callable[[float], float], goal: float, low: float, high: float) -> float:
    """Return where a growing function reaches a goal, or the nearer end.

    >>> round(bisect(lambda x: x * x, 2.0, 0.0, 2.0), 6)
    1.414214
    """
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if grows(middle) < goal else (low, middle)
    return (low + high) / 2


def base_rate(crowd: Crowd, level: float, share: float) -> float:
    """Return an average person's messages a minute at which the score has a level; ``share`` reactions for each."""
    who = crowd.at(min(90_000, crowd.over // 2))
    talk, joins = crowd.talk[who], crowd.joins[who]
    found = bisect(lambda x: steady(talk, joins, np.exp(x), share * np.exp(x)), level, *np.log(RATES))
    return float(np.exp(found))


def settled(draft: Draft) -> None:
    """Let nothing happen."""


def breathe(draft: Draft) -> None:
    """Let the room be now livelier, now quieter, by up to a fifth, over minutes."""
    seconds = np.arange(len(draft.energy))
    period = draft.rng.uniform(180, 600)
    draft.energy *= 1.0 + draft.rng.uniform(0.05, 0.2) * np.sin(2 * np.pi * (seconds / period + draft.rng.random()))


def vote(draft: Draft) -> None:
    """Open a poll every few minutes; it dies, is closed or forgotten, and applauded."""
    rng = draft.rng
    opened = int(rng.uniform(20_000, 120_000))
    while opened + 60_000 < draft.over:
        quiet = min(opened + int(rng.uniform(30_000, 110_000)), draft.over - 2_000)
        closed = quiet if rng.random() < 0.7 else None
        draft.polls.append(Poll(opened, quiet, closed, rng.uniform(0.15, 0.8)))
        opened = quiet + int(rng.uniform(60_000, 240_000))


def rush(draft: Draft) -> None:
    """Let newcomers pour in: a third to twice as many as are there, within a minute."""
    rng, start = draft.rng, draft.moment()
    number = max(2, round(len(draft.crowd.at(start)) * rng.uniform(0.35, 2.0)))
    lasts = int(rng.uniform(10_000, 60_000))
    come = start + rng.uniform(0, lasts, number).astype(np.int64)
    draft.crowd = draft.crowd.with_newcomers(rng, np.minimum(come, draft.over - 2_000))
    draft.change("rush", start, start + lasts)


def drop(draft: Draft, low: float = 0.4, high: float = 0.8, start: int | None = None, lasts: int | None = None) -> None:
    """Let the room fall silent by a share of its score, at once or within 15 s; half of the rooms recover."""
    rng = draft.rng
    start = draft.moment() if start is None else start
    factor = draft.factor(start, rng.uniform(low, high))
    ramp = int(rng.choice((1, 1, 5, 15)))
    if lasts is None and rng.random() < 0.5:
        lasts = int(rng.uniform(120_000, 400_000))
    draft.scale(np.geomspace(1.0, max(factor, 1e-6), ramp + 1)[1:], start)
    end = None
    if lasts is not None and start + lasts < draft.over - 60_000:
        end = start + lasts
        draft.scale(np.array([1.0 / max(factor, 1e-6)]), end)
    draft.change("drop", start, end)


def silence(draft: Draft) -> None:
    """Let the score fall under 0.20."""
    start = draft.moment()
    now = draft.level(start, float(draft.energy[start // 1000]))
    goal = draft.rng.uniform(0.0, 0.1)
    fall = max(0.0, 1.0 - goal / max(now, 1e-9))
    drop(draft, fall, fall, start)


def decline(draft: Draft) -> None:
    """Let the score sink by 35 to 75 % along a straight line, at 5 to 10 % of where it was a minute."""
    rng = draft.rng
    start = draft.moment(0.1, 0.5)
    fall = rng.uniform(0.35, 0.75)
    lasts = int(min(fall / rng.uniform(0.0009, 0.0017) * 1000, draft.over - start - 30_000))
    knots = np.linspace(0.0, 1.0, 25)
    factors = [draft.factor(start, share * fall) for share in knots]
    seconds = np.linspace(0.0, 1.0, max(2, lasts // 1000))
    draft.scale(np.interp(seconds, knots, factors), start)
    draft.change("decline", start, start + lasts)


def leave_together(draft: Draft, low: float = 0.2, high: float = 0.85) -> None:
    """Let a share of the people leave within 5 to 45 s; in every third room most of them come back."""
    rng, start = draft.rng, draft.moment()
    stays = draft.crowd.stays
    inside = np.flatnonzero(draft.crowd.inside(start))
    share = rng.uniform(low, high)
    leavers = inside[rng.random(len(inside)) < share]
    go, told = stays.go.copy(), stays.told.copy()
    away = start + rng.uniform(0, rng.uniform(5_000, LONGEST_EXIT_MS), len(leavers)).astype(np.int64)
    go[leavers], told[leavers] = np.minimum(go[leavers], away), True
    gone = Stays(stays.person, stays.come, go, told)
    end = None
    if rng.random() < 1 / 3 and start + 400_000 < draft.over:
        end = start + int(rng.uniform(90_000, 240_000))
        back = leavers[rng.random(len(leavers)) < rng.uniform(0.5, 1.0)]
        come = end + rng.exponential(10_000, len(back)).clip(0, 60_000).astype(np.int64)
        stay = np.full(len(back), draft.over)
        gone = gone.plus(stays.person[back], come, stay, np.zeros(len(back), np.bool_))
    draft.crowd = draft.crowd.with_stays(gone)
    draft.change(EXIT, start, end)


def weaken(draft: Draft) -> None:
    """Let something happen that is no anomaly: a fall of up to a tenth, or a handful who leave together."""
    if draft.rng.random() < 0.5:
        drop(draft, 0.02, 0.1)
    else:
        leave_together(draft, 0.0, 0.015)


def relapse(draft: Draft) -> None:
    """Let the room fall silent, recover, and fall silent again."""
    first = draft.moment(0.1, 0.25)
    lasts = int(draft.rng.uniform(120_000, 200_000))
    drop(draft, 0.4, 0.9, first, lasts)
    again = first + lasts + int(draft.rng.uniform(240_000, 400_000))
    if again + 60_000 < draft.over:
        drop(draft, 0.4, 0.9, again)
