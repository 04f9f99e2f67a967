"""A chunk on its way through the sieve: what goes in, what has been found out, and what is let through."""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from operators.chunk import Chunk
from operators.columns import Flags, Int64s
from operators.emotions.marks import Began
from operators.emotions.recent import UInt64s

_LOW: Final = np.uint64(0xFFFF)


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
    """A chunk with, for each of its n events, the number of its visitor (``keys``); and the rows of its sessions.

    ``accepted`` are those that count (None: all of them). ``segment`` counts for each how often its session had ended
    in the chunk before it (None: no session ends there).
    """

    chunk: Chunk
    accepted: Flags | None
    keys: UInt64s
    sessions: Int64s
    segment: Int64s | None = None


@dataclass(slots=True)
class Sifting:
    """A batch under way, and what has been found out so far.

    ``names`` are the numbers of its events' visitors: who comes again after an end of his session has another from
    then on; ``later`` are the rows of those, with the segment. ``taken`` are the events that count, without repeats
    (None: all). Of the watched, ``at`` are the places, ``rows`` the visitors', -1 where one does not count, and
    ``roles`` the numbers of what each is; ``by_row`` is their order row by row, without those that do not count.
    ``restless`` are rows by name, of those who wait, may wait, or of whom a silence begins since. Events are let
    through ``passes``, by place; ``between`` are the pages between which some return, ``arming`` by silence those of
    the watched that begin it. What comes behind this chunk is not before ``oldest`` (ms).
    """

    batch: Batch
    names: UInt64s
    taken: Flags | None
    oldest: int
    restless: dict[int, int] = field(default_factory=dict)
    at: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    rows: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    by_row: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    roles: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    later: dict[int, int] = field(default_factory=dict)
    passes: dict[int, Pass] = field(default_factory=dict)
    between: dict[int, tuple[int, int]] = field(default_factory=dict)
    arming: list[Int64s] = field(default_factory=list)

    def places(self, restless: Collection[int]) -> Int64s:
        """Return where events that count may be of those who are, or were, restless: all of theirs, few others'."""
        n = len(self.names)
        may = np.ones(n, np.bool_)
        if n > 4 * (len(self.restless) + len(restless)):
            marked = np.zeros(1 << 16, np.bool_)
            for names in (restless, self.restless):
                marked[np.fromiter(names, np.uint64, len(names)) & _LOW] = True
            may = marked[self.names & _LOW]
        places: Int64s = (may if self.taken is None else may & self.taken).nonzero()[0]
        return places
