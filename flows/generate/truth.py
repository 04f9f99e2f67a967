"""The truth about generated sessions: who was there when, and the signals of every tick, by definition.

It is counted from the script (who is in the room) and the acts that were played, a tick at a time and as literally as
the contract's section 3 says it, so that it can be held against what the flow found out from the events.
"""

import math
from collections import deque
from dataclasses import dataclass, field

import msgspec

from flows.generate.script import MS, Manner, Person, Poll, Script, Stay
from schemas import inbound
from schemas.inbound import Event

TICK_MS = 5 * MS
WINDOW_MS = 60 * MS
PRESENCE_MS = 300 * MS


class TickTruth(msgspec.Struct, frozen=True):
    """The signals of the window that ends at ``ts``, and the score they give with the default settings."""

    ts: int
    chat_per_min: int
    reactions_per_min: int
    connected_users: int
    active_users: int
    active_ratio: float
    poll_participation: float
    leave_rate: float
    score: float


class PersonTruth(msgspec.Struct, frozen=True):
    """When a person was in the room, and how his presence shows in the events."""

    user_id: str
    manner: str
    stays: list[tuple[int, int]]


class PollTruth(msgspec.Struct, frozen=True):
    """A poll; ``closed_ts`` is null where its close was not sent."""

    poll_id: str
    opened_ts: int
    closed_ts: int | None
    voters: int


class SessionTruth(msgspec.Struct, frozen=True):
    """A session: its people, its polls, its ticks up to its end, and its totals."""

    tenant_id: str
    session_id: str
    mood: str
    start_ts: int
    end_ts: int
    events: int
    chat_messages: int
    reactions: int
    votes: int
    joins: int
    leaves: int
    users: int
    peak_connected: int
    people: list[PersonTruth]
    polls: list[PollTruth]
    ticks: list[TickTruth]


class Truth(msgspec.Struct, frozen=True):
    """What is true of all the traffic."""

    scenario: str
    seed: int
    start_ts: int
    sessions: list[SessionTruth]


@dataclass
class TickCounter:
    """Follows one session's events and writes down each tick as soon as time has passed it."""

    script: Script
    _ticks: list[TickTruth] = field(default_factory=list)
    _window: deque[tuple[int, str, str]] = field(default_factory=deque)
    """The acts of the last 60 s: when, kind, who."""
    _last_act: dict[str, int] = field(default_factory=dict)
    _present_at_open: dict[str, int] = field(default_factory=dict)
    _totals: dict[str, int] = field(default_factory=dict)
    _users: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._next = (self.script.start_ts // TICK_MS + 1) * TICK_MS

    def add(self, event: Event) -> None:
        """Take in the next event, in order of ``ts``."""
        while self._next <= event.ts:
            self._ticks.append(self._tick(self._next))
            self._next += TICK_MS
        kind = str(event.__struct_config__.tag)
        self._totals[kind] = self._totals.get(kind, 0) + 1
        self._users.add(event.user_id)
        if isinstance(event, inbound.PollOpened):
            self._present_at_open[event.poll_id] = sum(self._present(p, event.ts) for p in self.script.people)
        elif isinstance(event, inbound.ChatMessage | inbound.Reaction | inbound.PollVote):
            self._window.append((event.ts, kind, event.user_id))
            self._last_act[event.user_id] = event.ts

    def finish(self) -> SessionTruth:
        """Return the truth about the session, which has ended."""
        script, totals = self.script, self._totals
        return SessionTruth(
            tenant_id=script.tenant_id,
            session_id=script.session_id,
            mood=script.mood.title,
            start_ts=script.start_ts,
            end_ts=script.end_ts,
            events=sum(totals.values()),
            chat_messages=totals.get("chat.message", 0),
            reactions=totals.get("reaction", 0),
            votes=totals.get("poll.vote", 0),
            joins=totals.get("presence.join", 0),
            leaves=totals.get("presence.leave", 0),
            users=len(self._users),
            peak_connected=max((tick.connected_users for tick in self._ticks), default=0),
            people=[
                PersonTruth(p.user_id, p.manner.value, [(stay.from_ts, stay.until_ts) for stay in p.stays])
                for p in script.people
            ],
            polls=[PollTruth(p.poll_id, p.opened_ts, p.closed_ts, len(p.votes)) for p in script.polls],
            ticks=self._ticks,
        )

    def _tick(self, ts: int) -> TickTruth:
        begin = ts - WINDOW_MS
        while self._window and self._window[0][0] < begin:
            self._window.popleft()
        chats = sum(kind == "chat.message" for _, kind, _ in self._window)
        reactions = sum(kind == "reaction" for _, kind, _ in self._window)
        active = {user for _, _, user in self._window}
        people = self.script.people
        present = {person.user_id for person in people if self._present(person, ts)}
        left = {p.user_id for p in people if any(s.left and begin <= s.until_ts < ts for s in _shown(p))} - present
        ratio = len(active) / len(active | present) if active or present else 0.0
        ever = sum(self._present_within(person, begin, ts) for person in people)
        rate = len(left) / ever if ever else 0.0
        poll = self._participation(ts)
        return TickTruth(
            ts=ts,
            chat_per_min=chats,
            reactions_per_min=reactions,
            connected_users=len(present),
            active_users=len(active),
            active_ratio=ratio,
            poll_participation=poll,
            leave_rate=rate,
            score=default_score(chats, reactions, ratio, poll, rate),
        )

    def _present(self, person: Person, ts: int) -> bool:
        """Tell whether the events before ``ts`` show the person as present at ``ts``."""
        if person.manner is Manner.DROPS_IN:
            return ts - PRESENCE_MS <= self._last_act.get(person.user_id, -PRESENCE_MS - 1)
        return any(stay.from_ts < ts and (ts <= stay.until_ts or not stay.left) for stay in person.stays)

    def _present_within(self, person: Person, begin: int, end: int) -> bool:
        """Tell whether the events before ``end`` show the person as present at any time from ``begin`` on."""
        if person.manner is Manner.DROPS_IN:
            return begin - PRESENCE_MS <= self._last_act.get(person.user_id, -PRESENCE_MS - WINDOW_MS - 1)
        return any(stay.from_ts < end and (begin <= stay.until_ts or not stay.left) for stay in person.stays)

    def _participation(self, ts: int) -> float:
        poll = self._running(ts)
        if poll is None:
            return 0.0
        voters = {voter.user_id for when, voter, _ in poll.votes if when < ts}
        return min(1.0, len(voters) / max(1, self._present_at_open[poll.poll_id]))

    def _running(self, ts: int) -> Poll | None:
        opened = [poll for poll in self.script.polls if poll.opened_ts < ts]
        if not opened or (opened[-1].closed_ts is not None and opened[-1].closed_ts < ts):
            return None
        return opened[-1]


def _shown(person: Person) -> tuple[Stay, ...]:
    """Return the stays that joins and leaves show."""
    return () if person.manner is Manner.DROPS_IN else person.stays


def default_score(chats: int, reactions: int, active: float, poll: float, leaves: float) -> float:
    """Return the contract's score of a window, with its default weights and ceilings.

    >>> round(default_score(20, 10, 1.0, 1.0, 0.0), 9)
    0.9
    """
    chat = 0.30 * min(1.0, math.log(1 + chats) / math.log(21))
    reaction = 0.10 * min(1.0, math.log(1 + reactions) / math.log(11))
    return min(1.0, max(0.0, chat + 0.25 * poll + 0.25 * active + reaction - 0.10 * leaves))
