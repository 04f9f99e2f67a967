"""Plays a room with counting noise: everybody's Poisson processes and votes, as events in order of time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flows.generate.lab.rhythm import Floats, Ints, at, moments
from flows.generate.lab.room import VOTE_PACE_MS, Room
from flows.generate.live import EMOJIS, TEXTS
from schemas import inbound
from schemas.inbound import Event

JOIN, OPEN, CHAT, REACTION, VOTE, CLOSE, LEAVE, END = range(8)
"""What happens, in the order within a millisecond: a join before what its person does, a leave after it."""
PAGES = ("home", "product", "pricing", "cart", "help", "search")
OPTIONS = "abc"


@dataclass(frozen=True, slots=True)
class Names:
    """What the events of a session carry; ``start_ts`` is in ms since 1970."""

    tenant_id: str
    session_id: str
    start_ts: int


@dataclass(frozen=True, eq=False)
class Cues:
    """What happens, in order: when (ms since the start), what, whose (-1: the host's), and a detail of it."""

    ms: Ints
    what: Ints
    person: Ints
    detail: Ints


def draw_cues(room: Room, rng: np.random.Generator) -> Cues:
    """Draw everything that happens in a room, in order of time."""
    stays = room.stays
    shown = room.joins[stays.person]
    gone = shown & stays.told
    columns = [
        _fixed(JOIN, stays.come[shown], stays.person[shown]),
        _fixed(LEAVE, stays.go[gone], stays.person[gone]),
        _fixed(LEAVE, room.aftermath, room.aftermath_by),
        _acts(room, rng, CHAT, room.rhythm.chats, len(TEXTS)),
        _acts(room, rng, REACTION, room.rhythm.reacted, len(EMOJIS)),
    ]
    for number, poll in enumerate(room.polls):
        columns += [_host(OPEN, poll.opened, number), _votes(room, rng, number)]
        if poll.closed is not None:
            columns.append(_host(CLOSE, poll.closed, number))
    if room.ended is not None:
        columns.append(_host(END, room.ended, 0))
    ms, what, person, detail = np.concatenate(columns, axis=1)
    order = np.lexsort((person, what, ms))
    return Cues(ms[order], what[order], person[order], detail[order])


def _fixed(what: int, ms: Ints, person: Ints) -> Ints:
    return np.stack((ms, np.full(len(ms), what), person, np.zeros(len(ms), np.int64)))


def _host(what: int, ms: int, detail: int) -> Ints:
    return np.array([[ms], [what], [-1], [detail]])


def _acts(room: Room, rng: np.random.Generator, what: int, grown: Floats, details: int) -> Ints:
    """Draw a Poisson process for each stay: the number by the rate's integral, the moments by its inverse."""
    stays = room.stays
    low, high = at(grown, stays.come), at(grown, stays.go)
    number = rng.poisson(room.talk[stays.person] * np.maximum(0.0, high - low))
    row = np.repeat(np.arange(len(number)), number)
    ms = moments(grown, rng.uniform(low[row], high[row]))
    return np.stack((np.clip(ms, stays.come[row], stays.go[row]), np.full(len(row), what), stays.person[row],
                     rng.integers(0, details, len(row))))  # fmt: skip


def _votes(room: Room, rng: np.random.Generator, number: int) -> Ints:
    """Draw who votes when; a vote counts only if its person is in the room at that moment."""
    poll, stays = room.polls[number], room.stays
    ms = poll.opened + rng.exponential(VOTE_PACE_MS, room.people).astype(np.int64)
    votes = (rng.random(room.people) < poll.interest) & (ms < poll.quiet)
    there = votes[stays.person] & (stays.come <= ms[stays.person]) & (ms[stays.person] < stays.go)
    who = stays.person[there]
    option = number * len(OPTIONS) + rng.integers(0, len(OPTIONS), len(who))
    return np.stack((ms[who], np.full(len(who), VOTE), who, option))


def events(room: Room, cues: Cues, names: Names) -> Iterator[Event]:
    """Yield the events in order of ``ts``, ``event_id``."""
    make = _Maker(room, names)
    rows = zip(cues.ms.tolist(), cues.what.tolist(), cues.person.tolist(), cues.detail.tolist(), strict=True)
    for number, (ms, what, person, detail) in enumerate(rows, 1):
        yield make(number, ms, what, person, detail)


class _Maker:
    def __init__(self, room: Room, names: Names) -> None:
        self._names = names
        self._browses = room.browses
        self._users = [f"{names.session_id}-u{number:04d}" for number in range(room.people)]
        self._host = f"{names.session_id}-host"

    def __call__(self, number: int, ms: int, what: int, person: int, detail: int) -> Event:
        names = self._names
        user = self._users[person] if person >= 0 else self._host
        common = (f"{names.session_id}-{number:07d}", names.tenant_id, names.session_id, user, names.start_ts + ms)
        if what == CHAT and self._browses:
            page = PAGES[detail % len(PAGES)]
            return inbound.PageView(*common, f"/{page}", page)  # type: ignore[arg-type]  # PAGES are pages of the contract
        if what == CHAT:
            return inbound.ChatMessage(*common, TEXTS[detail])
        if what == REACTION:
            return inbound.Reaction(*common, EMOJIS[detail])
        if what == VOTE:
            poll, option = divmod(detail, len(OPTIONS))
            return inbound.PollVote(*common, f"poll-{poll + 1}", OPTIONS[option])
        if what in (OPEN, CLOSE):
            struct = inbound.PollOpened if what == OPEN else inbound.PollClosed
            return struct(*common, f"poll-{detail + 1}")
        return {JOIN: inbound.PresenceJoin, LEAVE: inbound.PresenceLeave, END: inbound.SessionEnded}[what](*common)
