"""A chunk on its course through the diagnosis: what is told, and where among the chunk's events it stands."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from operators.chunk import SEPARATOR, Chunk
from operators.emotions.alarms import Alarms
from operators.emotions.wanted import Wanted
from operators.interventions.cues import Cue

AT_EVENT: Final = 1 << 62
"""Behind all times at which something becomes due at an event's place."""


class Place(NamedTuple):
    """Where a cue stands: the event that it comes before or belongs to, and among those when it became due (ms)."""

    at: int
    due: int


@dataclass(slots=True)
class Stream:
    """What is kept of a partition.

    ``ended`` are its sessions that ended lately: some of their ticks are to come. No session is over by silence before
    ``idle_at``.
    """

    clock: int = 0
    swept: int = 0
    alarms: Alarms = field(default_factory=Alarms)
    wanted: Wanted = field(default_factory=Wanted)
    ended: dict[str, int] = field(default_factory=dict)
    idle_at: int = 0


class Course:
    """One chunk on its way, what has been told so far, and where sessions ended; those that are gone began no more."""

    def __init__(self, chunk: Chunk, stream: Stream) -> None:
        self.chunk = chunk
        self.stream = stream
        self.ended: dict[str, int] = {}
        self.gone: dict[str, None] = {}
        self._told: list[tuple[int, int, bool, Cue]] = []
        self._sessions: dict[str, int] | None = None

    def tell(self, place: Place, cue: Cue, *, by_event: bool = True) -> None:
        """Tell a cue at its place; what became due there comes before what the event itself tells."""
        self._told.append((*place, by_event, cue))

    def in_order(self) -> list[Cue]:
        """Return what was told."""
        return [told[3] for told in sorted(self._told, key=_order)]

    def place_of(self, due: int) -> int:
        """Return the first event at which stream time reaches ``due`` (ms), the number of events if none does."""
        return int(np.searchsorted(self.chunk.stream_time, due))

    def time_at(self, place: int) -> int:
        """Return the stream time at an event; behind the last, that after the chunk."""
        return int(self.chunk.stream_time[place]) if place < len(self.chunk) else self.chunk.clock

    def session_of(self, key: str) -> int | None:
        """Return the chunk's number of a session, if it has events in it."""
        if self._sessions is None:
            self._sessions = {key: number for number, key in enumerate(self.chunk.sessions)}
        return self._sessions.get(key)


def _order(told: tuple[int, int, bool, Cue]) -> tuple[int, int, bool]:
    return told[:3]


def session_key(tenant: str, session: str) -> str:
    """Return the key of a session, as chunks name it."""
    return f"{tenant}{SEPARATOR}{session}"


def parts(key: str) -> tuple[str, str]:
    """Return tenant and session of a key."""
    tenant, session = key.split(SEPARATOR)
    return tenant, session
