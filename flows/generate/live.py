"""Plays scripts of live sessions: turns who is there and how lively it is into events, in order of time.

Memory is bounded by the sessions' people, not by the length of the traffic: a session is played in steps of 2 s.
"""

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import accumulate, count
from operator import itemgetter
from random import Random

from flows.generate.plan import Plan
from flows.generate.script import MOODS, MS, Manner, Mood, Person, Script, write_script
from flows.generate.truth import SessionTruth, TickCounter, Truth
from schemas import inbound
from schemas.inbound import Event

STEP_MS = 2 * MS
PEOPLE = 20
MINUTES = 10.0
"""Audience and length of a session where the plan leaves them open."""
CHATS_PER_MIN = 0.8
"""What an average person writes in a lively room."""
REACTIONS_PER_MIN = 0.5
APPLAUSE = 5.0
"""How much more people react when a poll has just ended."""

TEXTS = (
    "hello everyone", "good morning from Lisbon", "can you share the slides?", "that makes sense", "+1",
    "could you go over that again?", "we do the same", "great question", "how does it scale?", "love this",
    "is there a recording?", "what about the costs?", "I disagree, but I see why", "ha, been there", "thank you!",
)  # fmt: skip
EMOJIS = ("👍", "👏", "❤️", "😂", "🎉", "🤔")

Item = tuple[int, int, Event]
"""``ts``, a rank that settles ties between sessions, and the event."""


class LiveTraffic:
    """The scenario ``live``: several sessions side by side, each with a mood of its own, in turn."""

    def __init__(self, plan: Plan, moods: tuple[Mood, ...] = MOODS) -> None:
        self._plan = plan
        self._moods = moods
        self._ended: dict[int, list[SessionTruth]] = {slot: [] for slot in range(plan.sessions)}
        self._length = max(int((plan.minutes or MINUTES) * 60 * MS), 1 * MS)
        self._starts = [self._first_start(slot) for slot in range(plan.sessions)]
        self.end_ts = max(self._starts) + self._length

    def events(self) -> Iterator[Event]:
        """Yield the events of all sessions in order of ``ts``."""
        return (event for _, _, event in merge(*(self._slot(slot) for slot in range(self._plan.sessions))))

    def truth(self) -> Truth:
        """Return what is known about the sessions that have ended."""
        plan = self._plan
        return Truth(
            scenario="live",
            seed=plan.seed,
            start_ts=plan.start_ts,
            sessions=[session for ended in self._ended.values() for session in ended],
        )

    def _first_start(self, slot: int) -> int:
        """Let the sessions begin one after another within the first 4 s."""
        return self._plan.start_ts + int(min(4 * MS, 0.1 * self._length) * slot / self._plan.sessions)

    def _slot(self, slot: int) -> Iterator[Item]:
        """Play a session and, if the plan repeats, the ones that follow in its place."""
        start = self._starts[slot]
        mood = self._moods[slot % len(self._moods)]
        tenant = f"tenant-{slot % self._plan.tenants + 1}"
        for turn in count(1):
            name = f"{mood.title}-{slot + 1}" + (f"-{turn}" if turn > 1 else "")
            rng = Random(f"{self._plan.seed}/{slot}/{turn}")  # noqa: S311 - data, not a secret
            script = write_script(rng, tenant, name, mood, (start, start + self._length), self._plan.people or PEOPLE)
            counter = TickCounter(script) if self._plan.truth else None
            for event in play(script, rng, self._plan.rate):
                if counter:
                    counter.add(event)
                yield event.ts, slot, event
            if counter:
                self._ended[slot].append(counter.finish())
            if not self._plan.repeat:
                return
            start = script.end_ts + 15 * MS


Cue = tuple[int, Callable[..., Event], Person, dict[str, str]]
"""When, what, who, and the fields that only this type has."""


def play(script: Script, rng: Random, rate: float) -> Iterator[Event]:
    """Yield a session's events in order of ``ts``, ``event_id``."""
    written = sorted(_written(script), key=itemgetter(0), reverse=True)
    number = count(1)
    for begin in range(script.start_ts, script.end_ts, STEP_MS):
        end = min(begin + STEP_MS, script.end_ts)
        cues = []
        while written and written[-1][0] < end:
            cues.append(written.pop())
        # Sorting is stable: what the script says comes first in its millisecond, which the truth relies on.
        for cue in sorted([*cues, *_acts(script, rng, rate, begin, end)], key=itemgetter(0)):
            yield _event(script, cue, next(number))
    yield _event(script, (script.end_ts, inbound.SessionEnded, script.host, {}), next(number))


def _event(script: Script, cue: Cue, number: int) -> Event:
    ts, make, person, fields = cue
    return make(
        event_id=f"{script.session_id}-{number:07d}",
        tenant_id=script.tenant_id,
        session_id=script.session_id,
        user_id=person.user_id,
        ts=ts,
        **fields,
    )


def _written(script: Script) -> Iterator[Cue]:
    """Yield what the script says word for word: joins, leaves and polls, in no order."""
    for person in script.people:
        for stay in person.stays if person.manner is not Manner.DROPS_IN else ():
            yield stay.from_ts, inbound.PresenceJoin, person, {}
            if stay.left:
                yield stay.until_ts, inbound.PresenceLeave, person, {}
    for poll in script.polls:
        yield poll.opened_ts, inbound.PollOpened, script.host, {"poll_id": poll.poll_id}
        if poll.closed_ts is not None:
            yield poll.closed_ts, inbound.PollClosed, script.host, {"poll_id": poll.poll_id}
        for ts, voter, option in poll.votes:
            yield ts, inbound.PollVote, voter, {"poll_id": poll.poll_id, "option_id": option}


def _acts(script: Script, rng: Random, rate: float, begin: int, end: int) -> Iterator[Cue]:
    """Yield what people say and how they react within a step: two Poisson processes over those in the room."""
    room = [person for person in script.people if any(stay.spans(begin, end) for stay in person.stays)]
    if not room:
        return
    talk = list(accumulate(person.talk for person in room))
    lively = rate * script.energy(begin) * talk[-1] / (60 * MS)
    for ts in _arrivals(rng, lively * CHATS_PER_MIN, begin, end):
        person = rng.choices(room, cum_weights=talk)[0]
        yield ts, inbound.ChatMessage, person, {"text": rng.choice(TEXTS)}
    for ts in _arrivals(rng, lively * REACTIONS_PER_MIN * (APPLAUSE if script.applause(begin) else 1), begin, end):
        person = rng.choices(room, cum_weights=talk)[0]
        yield ts, inbound.Reaction, person, {"emoji": rng.choice(EMOJIS)}


def _arrivals(rng: Random, per_ms: float, begin: int, end: int) -> Iterator[int]:
    """Yield the moments of a Poisson process of ``per_ms`` arrivals a millisecond."""
    at = begin + rng.expovariate(per_ms) if per_ms > 0 else end
    while at < end:
        yield int(at)
        at += rng.expovariate(per_ms)
