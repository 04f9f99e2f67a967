"""A chunk on its course through the diagnosis: what is told, and where among the chunk's events it stands."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from operators.chunk import SEPARATOR, Chunk
from operators.columns import Flags, Int64s
from operators.config import NEVER, WindowConfig
from operators.emotions.alarms import Alarms
from operators.emotions.recent import Recent
from operators.emotions.wanted import Wanted
from operators.interventions.cues import EFFECT_MS, Cue, Felt, Scored
from operators.presence import LONG_AGO

AT_EVENT: Final = 1 << 62
"""Behind all times at which something becomes due at an event's place."""

NEVER_ENDED: Final = (NEVER, LONG_AGO)
"""Start and end of a session that has not ended."""


class Place(NamedTuple):
    """Where a cue stands: the event that it comes before or belongs to, and among those when it became due (ms)."""

    at: int
    due: int


BEFORE_ALL: Final = Place(-1, 0)
"""Before all of a chunk: where something was wanted, or closed, with an earlier one."""


@dataclass(slots=True)
class Stream:
    """What is kept of a partition.

    ``ended`` are start and end of its sessions that ended lately: some of their ticks are to come. No session is over
    by silence before ``idle_at``. ``recent`` are the events that were watched lately.
    """

    clock: int = 0
    swept: int = 0
    alarms: Alarms = field(default_factory=Alarms)
    wanted: Wanted = field(default_factory=Wanted)
    ended: dict[str, tuple[int, int]] = field(default_factory=dict)
    idle_at: int = 0
    recent: Recent = field(default_factory=Recent)


class Course:
    """One chunk on its way, and what has been told so far; sessions that are ``gone`` ended in it and began no more.

    ``segments`` counts how often each session has ended so far, ``later`` names the visitors (rows) who came after such
    an end, and which.
    """

    def __init__(self, chunk: Chunk, accepted: Flags | None, stream: Stream, config: WindowConfig) -> None:
        """Begin a chunk of which some events were ``accepted`` (None: all)."""
        self.chunk = chunk
        self._accepted = accepted
        self._config = config
        self.stream = stream
        self.gone: dict[str, None] = {}
        self.starts: list[int] = []
        self.segments: dict[int, int] = {}
        self.later: dict[int, int] = {}
        self._told: list[tuple[int, int, bool, tuple[str, ...], Cue]] = []
        self._wanted: dict[tuple[str, int], list[Place]] = {}
        self._sessions: dict[str, int] | None = None
        self._place_of: dict[int, int] = {}
        self._reaches: dict[int, list[int]] = {}

    def begin(self, starts: list[int]) -> None:
        """Note when each of the chunk's sessions began (ms)."""
        self.starts = starts

    def leave(self, rows: Int64s, session: int) -> Int64s:
        """Return which of a session's visitors (rows) leave with it where it ends next in the chunk."""
        segment = self.segments.get(session, 0)
        self.segments[session] = segment + 1
        return rows[[self.later.get(row, 0) == segment for row in rows.tolist()]]

    def tell(self, place: Place, cue: Cue, *, first: bool | None = None) -> None:
        """Tell a cue at its place; what became due by then comes ``first``, then what the event there tells."""
        if first is None:
            first = place.due != AT_EVENT
        self._told.append((*place, not first, _among_equals(cue, first=first), cue))

    def in_order(self) -> list[Cue]:
        """Return what was told."""
        return [told[4] for told in sorted(self._told, key=_order)]

    def place_of(self, due: int) -> int:
        """Return the first event at which stream time reaches ``due`` (ms), the number of events if none does."""
        found = self._place_of.get(due)  # a tick is the same for many sessions
        if found is None:
            found = self._place_of[due] = int(self.chunk.stream_time.searchsorted(due))
        return found

    def time_at(self, place: int) -> int:
        """Return the stream time at an event; behind the last, that after the chunk."""
        return self.chunk.stream_time.item(place) if place < len(self.chunk) else self.chunk.clock

    def time_of(self, place: Place) -> int:
        """Return the stream time at which a cue is told: wherever a chunk is cut, when it became due."""
        return min(place.due, self.time_at(place.at))

    def reaches(self, session: int, tick: int) -> int:
        """Return the first accepted event that moves a session's (number) watermark to a tick, or stream time to it.

        It is the number of events if neither gets there.
        """
        found = self._reaches.get(tick)  # a tick is the same for many sessions
        if found is None:
            chunk, config, time = self.chunk, self._config, tick + self._config.lateness_ms
            before = self.place_of(tick + config.stream_delay_ms)
            # What is accepted is not further than that ahead of stream time.
            some = slice(self.place_of(time - config.early_ms), before)
            reached = chunk.ts[some] >= time
            if self._accepted is not None:
                reached &= self._accepted[some]
            places = reached.nonzero()[0][::-1] + some.start
            first = np.full(len(chunk.sessions), before)
            first[chunk.session[places]] = places  # the last one assigned stays
            found = self._reaches[tick] = first.tolist()
        return found[session]

    def want(self, place: Place, key: str, tick: int, since: int) -> None:
        """Want a score at a tick and 60 s later, because of what is told at a place."""
        before = self.stream.wanted.ticks.get(key, {})
        for when in (tick, tick + EFFECT_MS):
            places = self._wanted.setdefault((key, when), [])
            if not places and when in before:
                places.append(BEFORE_ALL)
            places.append(place)
        self.stream.wanted.add(key, tick, since)

    def scored(self, place: Place, key: str, tick: int, score: float | None, *, first: bool | None = None) -> None:
        """Tell a score that was wanted, and again behind each place at which it was wanted only later."""
        places = self._wanted.pop((key, tick), None)
        if places is None:
            self.tell(place, Scored(*parts(key), tick, score, self.time_of(place)), first=first)
            return
        if min(places) <= place:
            self.tell(place, Scored(*parts(key), tick, score, self.time_of(place)), first=first)
        for later in sorted({wanted for wanted in places if wanted > place}):
            self.tell(later, Scored(*parts(key), tick, score, self.time_of(later)))

    def session_of(self, key: str) -> int | None:
        """Return the chunk's number of a session, if it has events in it."""
        if self._sessions is None:
            self._sessions = {key: number for number, key in enumerate(self.chunk.sessions)}
        return self._sessions.get(key)


def _order(told: tuple[int, int, bool, tuple[str, ...], Cue]) -> tuple[int, int, bool, tuple[str, ...]]:
    return told[:4]


def _among_equals(cue: Cue, *, first: bool) -> tuple[str, ...]:
    """Return where a cue stands among those of the same place: what several failed to do at once, by their names.

    Whose turn it is to be told of depends on how the chunk was cut: an event of his own, or the ring of an alarm.
    """
    if first and isinstance(cue, Felt):
        return "", cue.emotions[0].session_id, cue.emotions[0].user_id
    return ("then",)


def session_key(tenant: str, session: str) -> str:
    """Return the key of a session, as chunks name it."""
    return f"{tenant}{SEPARATOR}{session}"


def parts(key: str) -> tuple[str, str]:
    """Return tenant and session of a key."""
    tenant, session = key.split(SEPARATOR)
    return tenant, session
