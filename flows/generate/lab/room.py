"""What the lab knows of a session before anybody has said a word: who is there when, how lively, which polls.

This is the generating process. The labels are made from it alone; ``acts`` plays it with counting noise.
All times are ms since the session's start.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from flows.generate.lab.rhythm import Flags, Floats, Ints, Rhythm

VOTE_PACE_MS = 15_000.0
"""Mean time that a voter takes: votes pour in when a poll opens, then it dies."""
EXIT = "exit"
"""What a change is called in which people leave together."""
LONGEST_EXIT_MS = 45_000


def _none() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Poll:
    """A poll that each in the room answers with probability ``interest`` until ``quiet``; ``closed``: when told so."""

    opened: int
    quiet: int
    closed: int | None
    interest: float


@dataclass(frozen=True, slots=True)
class Change:
    """A change of the process: what, from when, until when it is undone (None: it stays)."""

    what: str
    start: int
    end: int | None = None


@dataclass(frozen=True, eq=False)
class Stays:
    """Stretches of time in the room, shape (n,), sorted by person. ``told``: a leave event ends the stay."""

    person: Ints
    come: Ints
    go: Ints
    told: Flags

    def sorted(self) -> "Stays":
        """Return them in order of person and time."""
        order = np.lexsort((self.come, self.person))
        return Stays(self.person[order], self.come[order], self.go[order], self.told[order])

    def plus(self, person: Ints, come: Ints, go: Ints, told: Flags) -> "Stays":
        """Return these and others."""
        return Stays(
            np.concatenate((self.person, person)),
            np.concatenate((self.come, come)),
            np.concatenate((self.go, go)),
            np.concatenate((self.told, told)),
        ).sorted()


@dataclass(frozen=True, eq=False)
class Room:
    """A session. ``talk`` (people,): how much each says, 1 being the average; ``joins`` (people,): shown by a join.

    ``troubled``: something bad is meant to happen in it. ``churn`` is the share of people that leaves in a minute of
    its own accord. The programme ends at ``over``;
    ``ended`` is when ``session.ended`` is sent, if it is. ``browses`` makes visits of a page out of messages.
    ``aftermath`` (k,): leaves that clients send after ``session.ended``, with ``aftermath_by`` the people.
    """

    kind: str
    troubled: bool
    talk: Floats
    joins: Flags
    stays: Stays
    rhythm: Rhythm
    churn: float
    over: int
    ended: int | None
    polls: tuple[Poll, ...] = ()
    changes: tuple[Change, ...] = ()
    browses: bool = False
    aftermath: Ints = field(default_factory=_none)
    aftermath_by: Ints = field(default_factory=_none)

    @property
    def people(self) -> int:
        """Everybody who ever comes."""
        return len(self.talk)

    @property
    def last(self) -> int:
        """When nobody says anything any more."""
        return len(self.rhythm.chat) * 1000

    def calm(self) -> "Room":
        """Return the same room without its polls: no votes, no applause."""
        rhythm = self.rhythm
        return replace(self, polls=(), rhythm=Rhythm(rhythm.chat, rhythm.calm, rhythm.calm))
