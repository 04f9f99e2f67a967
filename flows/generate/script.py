"""The script of a live session, drawn before it is played: who comes and goes when, the polls, the mood.

This is what the generator knows and the flow has to find out. No two joins, leaves and poll events of a session share
a millisecond, so the truth needs no rule for ties.
"""

from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum
from random import Random

MS = 1000
FIRST_POLL_MS = 25 * MS
POLL_EVERY_MS = 180 * MS
POLL_LASTS_MS = (45 * MS, 110 * MS)
APPLAUSE_MS = 15 * MS
"""How long people react to the outcome of a poll."""

Curve = tuple[tuple[float, float], ...]
"""Points of (share of the session gone by, energy), joined by straight lines."""


@dataclass(frozen=True, slots=True)
class Mood:
    """How a session goes: its energy over time, and from which share on how many leave early.

    ``exodus``: at which share how many go together, within seconds.
    """

    title: str
    energy: Curve
    leaving_from: float
    leaving_share: float
    exodus: tuple[float, float] | None = None


MOODS: tuple[Mood, ...] = (
    Mood("keynote", ((0, 0.9), (0.08, 1), (0.4, 0.9), (0.5, 0.2), (0.6, 0.25), (0.68, 1), (1, 0.6)), 0.7, 0.3),
    Mood("fading-webinar", ((0, 0.8), (0.1, 1), (0.3, 0.7), (0.6, 0.25), (1, 0.05)), 0.25, 0.8),
    Mood("workshop", ((0, 0.15), (0.3, 0.4), (0.6, 1.1), (1, 1.2)), 0.85, 0.15),
    Mood("panel", ((0, 0.7), (0.15, 1.1), (0.3, 0.3), (0.45, 1.1), (0.6, 0.3), (0.75, 1.1), (1, 0.3)), 0.5, 0.5),
)


class Manner(Enum):
    """How a person's presence shows in the events."""

    JOINS = "joins"
    """A join when he comes, a leave when he goes before the end."""
    VANISHES = "vanishes"
    """A join, but his leave is lost: he counts as present until the session ends."""
    DROPS_IN = "drops_in"
    """Neither: only his acts tell that he is there."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A stretch of time in the room, ``from_ts`` to ``until_ts`` (ms); ``left`` if a leave ends it."""

    from_ts: int
    until_ts: int
    left: bool

    def spans(self, begin: int, end: int) -> bool:
        """Tell whether the person was in the room before ``begin`` and stays until ``end``."""
        return self.from_ts < begin and end <= self.until_ts


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the audience; ``talk`` is how much he says, 1 being the average."""

    user_id: str
    manner: Manner
    talk: float
    stays: tuple[Stay, ...]


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll; ``closed_ts`` is None where no close is sent and the next poll ends it."""

    poll_id: str
    opened_ts: int
    closed_ts: int | None
    quiet_ts: int
    votes: tuple[tuple[int, Person, str], ...]
    """Each vote: when, whose, for which option."""


@dataclass(frozen=True, slots=True)
class Script:
    """A session from ``start_ts`` to ``end_ts``. The host is the first of ``people``."""

    tenant_id: str
    session_id: str
    start_ts: int
    end_ts: int
    mood: Mood
    people: tuple[Person, ...]
    polls: tuple[Poll, ...]

    @property
    def host(self) -> Person:
        """Who opens the polls and ends the session."""
        return self.people[0]

    def energy(self, ts: int) -> float:
        """Return how lively the room is, about 0..1."""
        return along(self.mood.energy, (ts - self.start_ts) / (self.end_ts - self.start_ts))

    def applause(self, ts: int) -> bool:
        """Tell whether a poll has just ended."""
        return any(poll.quiet_ts <= ts < poll.quiet_ts + APPLAUSE_MS for poll in self.polls)


def along(curve: Curve, x: float) -> float:
    """Return the height of a curve at ``x``, its ends going on flat.

    >>> along(((0, 0.0), (1, 10.0)), 0.25), along(((0, 0.0), (1, 10.0)), 7)
    (2.5, 10.0)
    """
    right = bisect_right(curve, x, key=lambda point: point[0])
    if right in (0, len(curve)):
        return curve[0 if right == 0 else -1][1]
    (x0, y0), (x1, y1) = curve[right - 1], curve[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


class _Moments:
    """Hands out each millisecond once."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self, ts: float) -> int:
        moment = int(ts)
        while moment in self._taken:
            moment += 1
        self._taken.add(moment)
        return moment


def write_script(
    rng: Random, tenant_id: str, session_id: str, mood: Mood, span: tuple[int, int], people: int
) -> Script:
    """Draw a session that lasts over ``span`` (ms) with about ``people`` in its audience, the host included."""
    start, end = span
    moments = _Moments()
    first = moments.take(start)
    moments.take(end)
    host = Person(f"{session_id}-host", Manner.JOINS, 0.5, (Stay(first, end, left=False),))
    audience = max(1, round(people * rng.uniform(0.75, 1.25)) - 1)
    room = (host, *(_draw_person(rng, f"{session_id}-u{n:03d}", mood, span, moments) for n in range(1, audience + 1)))
    return Script(tenant_id, session_id, start, end, mood, room, _draw_polls(rng, mood, span, room, moments))


def _draw_person(rng: Random, user_id: str, mood: Mood, span: tuple[int, int], moments: _Moments) -> Person:
    start, end = span
    length = end - start
    # Most are there within the first seconds, the others trickle in.
    come = start + min(rng.expovariate(1 / min(0.1 * length, 8 * MS)), 0.5 * length)
    if rng.random() < 0.2:
        come = start + rng.uniform(0.05, 0.6) * length
    go = float(end)
    if rng.random() < mood.leaving_share:
        go = start + length * rng.uniform(mood.leaving_from, 1.0)
    if mood.exodus and rng.random() < mood.exodus[1]:
        go = min(go, start + length * mood.exodus[0] + rng.expovariate(1 / (3 * MS)))
    go = max(go, min(come + 0.1 * length, end))
    manner = rng.choices((Manner.JOINS, Manner.VANISHES, Manner.DROPS_IN), (0.8, 0.05, 0.15))[0]
    talk = rng.gammavariate(2.0, 0.5)
    arrived = moments.take(come)
    if go >= end:
        return Person(user_id, manner, talk, (Stay(arrived, end, left=False),))
    if manner is not Manner.JOINS:
        return Person(user_id, manner, talk, (Stay(arrived, int(go), left=False),))
    stays = [Stay(arrived, moments.take(go), left=True)]
    back = go + rng.uniform(10 * MS, 60 * MS)
    if rng.random() < 0.2 and back < end - 30 * MS:
        stays.append(Stay(moments.take(back), end, left=False))
    return Person(user_id, manner, talk, tuple(stays))


def _draw_polls(
    rng: Random, mood: Mood, span: tuple[int, int], room: tuple[Person, ...], moments: _Moments
) -> tuple[Poll, ...]:
    start, end = span
    polls: list[Poll] = []
    begin = start + FIRST_POLL_MS + rng.uniform(-10, 10) * MS
    while begin + 20 * MS < end:
        lasts = min(rng.uniform(*POLL_LASTS_MS), end - 5 * MS - begin)
        last_one = begin + POLL_EVERY_MS + 40 * MS >= end
        opened, quiet = moments.take(begin), int(begin + lasts)
        # A host who forgets to close a poll is taken for granted; the last one is always closed.
        closed = moments.take(quiet) if last_one or rng.random() < 0.8 else None
        interest = rng.uniform(0.35, 0.9) * min(1.0, 0.4 + along(mood.energy, (begin - start) / (end - start)))
        votes = []
        for person in room[1:]:
            when = int(opened + 500 + rng.expovariate(1 / (15 * MS)))
            if rng.random() < interest and when < quiet and any(stay.spans(when, when + 1) for stay in person.stays):
                votes.append((when, person, rng.choice("abc")))
        polls.append(Poll(f"poll-{len(polls) + 1}", opened, closed, quiet, tuple(votes)))
        begin += POLL_EVERY_MS + rng.uniform(-20, 20) * MS
    return tuple(polls)
