"""The kinds of sessions of the lab: healthy ones of all sorts, and troubles; and how a session of a kind is drawn.

A kind draws a room: a crowd, a base rate at which the expected score (without its poll term) has a drawn level, and
what happens.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flows.generate.lab.crowd import (
    BY_ACTS_ALONE,
    ENDING_CHANCES,
    ENDINGS,
    LENGTH_MIN,
    SIZES,
    Crowd,
    Ending,
    draw_crowd,
    log_uniform,
    trickle,
)
from flows.generate.lab.happenings import (
    Draft,
    base_rate,
    breathe,
    decline,
    drop,
    leave_together,
    relapse,
    rush,
    settled,
    silence,
    vote,
    weaken,
)
from flows.generate.lab.rhythm import Floats, Rhythm
from flows.generate.lab.room import Poll, Room, Stays

SHORTEST_MS = 180_000
"""In a shorter programme nothing happens: there would be no time to see it."""
APPLAUSE_MS = 15_000
APPLAUSE = 5.0
"""How much more people react when a poll has just ended."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a session; None: drawn. ``rate`` multiplies what people say."""

    people: int | None = None
    minutes: float | None = None
    rate: float = 1.0


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of session: what happens in it, in which range its level lies, what else is fixed about it."""

    summary: str
    happens: Callable[[Draft], None]
    weight: int
    level: tuple[float, float] = (0.3, 0.58)
    sizes: tuple[int, int] = SIZES
    ending: Ending | None = None
    single: bool = False
    troubled: bool = False
    chat: float | None = None
    """Messages a minute of an average person, in place of a level."""


KINDS: dict[str, Kind] = {
    "steady": Kind("nothing happens", settled, 5),
    "small": Kind("10 people at 5 messages a minute in all", settled, 2, sizes=(10, 10), chat=0.5),
    "quiet": Kind("quiet but healthy: a low rate that stays", settled, 4, level=(0.06, 0.3)),
    "breathing": Kind("livelier and quieter by up to a fifth", breathe, 3),
    "polls": Kind("polls open, die, are closed or forgotten", vote, 4),
    "rush": Kind("newcomers pour in", rush, 3),
    "ending": Kind("people trickle out at the end", settled, 2, ending=ENDINGS[2]),
    "weak": Kind("a change too weak to be an anomaly", weaken, 4),
    "single": Kind("a single visitor browses", settled, 2, single=True),
    "drop": Kind("the room falls silent at once", drop, 8, level=(0.4, 0.58), sizes=(50, SIZES[1]), troubled=True),
    "silence": Kind("the score falls under 0.20", silence, 6, level=(0.35, 0.58), troubled=True),
    "decline": Kind(
        "the score sinks over minutes", decline, 9, level=(0.48, 0.58), sizes=(200, SIZES[1]), troubled=True
    ),
    "exit": Kind("many leave together", leave_together, 7, troubled=True),
    "relapse": Kind(
        "silence, recovery, silence again", relapse, 3, level=(0.38, 0.58), sizes=(50, SIZES[1]), troubled=True
    ),
}
"""Every kind by its name; ``weight`` is how often it comes in the mix."""

MIX: tuple[str, ...] = tuple(
    name
    for turn in range(max(kind.weight for kind in KINDS.values()))
    for name, kind in KINDS.items()
    if turn < kind.weight
)
"""The mix: session i is of kind ``MIX[i % len(MIX)]``, so that numbers of sessions don't depend on luck."""


def draw_room(rng: np.random.Generator, name: str, wish: Wish) -> Room:
    """Draw a session of a kind."""
    kind = KINDS[name]
    minutes = wish.minutes or rng.uniform(*LENGTH_MIN)
    over = max(2_000, int(minutes * 60_000))
    size = 1 if kind.single else wish.people or round(log_uniform(rng, *kind.sizes))
    ending = kind.ending or ENDINGS[rng.choice(len(ENDINGS), p=ENDING_CHANCES)]
    by_acts = kind.single or bool(rng.random() < BY_ACTS_ALONE and kind.chat is None)
    crowd = draw_crowd(rng, size, over, by_acts)
    if kind.single:
        crowd = crowd.with_stays(_only(crowd.stays, over))
    share = rng.uniform(0.2, 1.0)
    chat = kind.chat or (rng.uniform(1.0, 6.0) if kind.single else base_rate(crowd, rng.uniform(*kind.level), share))
    chat *= wish.rate
    draft = Draft(rng, crowd, chat, share * chat, np.ones(-(-over // 1000)))
    if over >= SHORTEST_MS:
        kind.happens(draft)
    if kind.happens is not vote and not kind.single and rng.random() < 0.3:
        vote(draft)
    return _room(draft, name, kind, ending)


def _only(stays: Stays, over: int) -> Stays:
    """Keep the first person alone, until the end."""
    one = stays.person == 0
    return Stays(stays.person[one], stays.come[one], np.array([over]), np.zeros(1, np.bool_))


def _room(draft: Draft, name: str, kind: Kind, ending: Ending) -> Room:
    crowd, rng = draft.crowd, draft.rng
    energy = draft.energy
    ended = crowd.over if ending.told else None
    if ending.trickle and not kind.single:
        crowd = trickle(rng, crowd)
        energy = np.concatenate((energy, energy[-1] * np.exp(-np.arange(480) / 60.0)))
        ended = len(energy) * 1000 if ending.told else None
    calm = draft.reactions * energy
    crowd = _without_absent(crowd)
    staying = crowd.stays.person[(crowd.stays.go >= crowd.over) & ~crowd.stays.told]
    who = staying[crowd.joins[staying]] if ending.after and not kind.single else np.zeros(0, np.int64)
    return Room(
        kind=name,
        troubled=kind.troubled and bool(draft.changes),
        talk=crowd.talk,
        joins=crowd.joins,
        stays=crowd.stays,
        rhythm=Rhythm(draft.chat * energy, calm * _applause(draft.polls, len(energy)), calm),
        churn=crowd.churn,
        over=crowd.over,
        ended=ended,
        polls=tuple(draft.polls),
        changes=tuple(draft.changes),
        browses=kind.single,
        aftermath=crowd.over + 1 + rng.exponential(20_000, len(who)).astype(np.int64),
        aftermath_by=who,
    )


def _without_absent(crowd: Crowd) -> Crowd:
    """Leave out people who have no stay at all, and number the others anew."""
    known = np.zeros(len(crowd.talk), np.bool_)
    known[crowd.stays.person] = True
    number = np.cumsum(known) - 1
    stays = crowd.stays
    person = number[stays.person]
    renamed = Stays(person, stays.come, stays.go, stays.told)
    return Crowd(crowd.talk[known], crowd.joins[known], renamed, crowd.churn, crowd.over)


def _applause(polls: list[Poll], seconds: int) -> Floats:
    more = np.ones(seconds)
    for poll in polls:
        if poll.closed is not None:
            more[poll.quiet // 1000 : (poll.quiet + APPLAUSE_MS) // 1000] = APPLAUSE
    return more
