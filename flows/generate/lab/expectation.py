"""The noise-free course of a session: what the signals of every tick are expected to be, and how far chance moves them.

Given who is in the room when, acts are independent Poisson processes, so over the window [T - 60 s, T)

- messages and reactions are Poisson counts of the summed intensities;
- a person acts with probability 1 - exp(-intensity over his time in the room), times not having voted;
- who joined is present until he leaves; who is shown by acts alone is with the probability that he acted within 5 min;
- leaves are facts of the process: who goes when is drawn with the room, before any noise.

The score is the contract's (section 3) without its poll term. Mean and variance of the saturated counts are exact; the
active ratio's are of second order in 1/people where presence is a matter of chance, else exact. The score's clamp at 0
is applied to the mean.
"""

from dataclasses import dataclass

import numpy as np

from flows.generate.lab.rhythm import Flags, Floats, Ints, at
from flows.generate.lab.room import VOTE_PACE_MS, Poll, Room
from flows.generate.lab.saturated import term

TICK_MS = 5_000
WINDOW_MS = 60_000
PRESENCE_MS = 300_000
AUDIENCE_MS = 300_000
"""How far back the audience reaches: people present within the last 5 minutes (contract, section 4)."""
CHAT, ACTIVE, REACTIONS, LEAVES = 0.30, 0.25, 0.10, 0.10
CHAT_CEILING, REACTIONS_CEILING = 20, 10
_CHUNK = 1_000
"""People that are worked on at a time: bounds memory."""


@dataclass(frozen=True, eq=False)
class Course:
    """What is expected at every tick; each column of shape (ticks,), ``ts`` in ms since 1970.

    ``score`` is without its poll term, ``sd`` its standard deviation by counting noise, ``third`` its third central
    moment by that of the two counts. ``gone`` people left in the
    window and are not back; ``leave_rate`` is their share. ``audience`` counts who was present within the last 5
    minutes, ``audience_sd`` how far chance moves that.
    """

    start_ts: int
    ts: Ints
    score: Floats
    sd: Floats
    third: Floats
    chats: Floats
    reactions: Floats
    active: Floats
    active_ratio: Floats
    connected: Floats
    gone: Floats
    leave_rate: Floats
    audience: Floats
    audience_sd: Floats


@dataclass
class _Sums:
    """Sums over people at every tick."""

    chats: Floats
    reactions: Floats
    active: Floats
    active_variance: Floats
    there: Floats
    there_variance: Floats
    shared: Floats
    """Covariance of active and there."""
    connected: Floats
    chat_active: Floats
    """Covariance of the message count and active; below, of others."""
    chat_there: Floats
    reactions_active: Floats
    reactions_there: Floats
    gone: Floats
    ever: Floats
    audience: Floats
    audience_variance: Floats


def course(room: Room, start_ts: int, until: int | None = None) -> Course:
    """Return what is expected of a room from ``start_ts`` on, tick by tick, up to ``until`` (ms since its start)."""
    end = room.last + PRESENCE_MS + WINDOW_MS if until is None else until
    first = (start_ts // TICK_MS + 1) * TICK_MS
    ts = np.arange(first, start_ts + end + 1, TICK_MS)
    ticks = ts - start_ts
    sums = _Sums(*(np.zeros(len(ticks)) for _ in _Sums.__dataclass_fields__))
    for begin in range(0, room.people, _CHUNK):
        _add(sums, room, ticks, begin, min(begin + _CHUNK, room.people))
    chat, chat_variance, chat_third, chat_slope = term(CHAT_CEILING).at(sums.chats)
    reaction, reaction_variance, reaction_third, reaction_slope = term(REACTIONS_CEILING).at(sums.reactions)
    mean_ratio, ratio_variance = _ratio(sums)
    rate = np.divide(sums.gone, sums.ever, out=np.zeros(len(ticks)), where=sums.ever > 0)
    with_chats, with_reactions = _shared(sums)
    variance = (
        CHAT**2 * chat_variance
        + REACTIONS**2 * reaction_variance
        + ACTIVE**2 * ratio_variance
        + 2 * ACTIVE * (CHAT * chat_slope * with_chats + REACTIONS * reaction_slope * with_reactions)
    )
    score = CHAT * chat + ACTIVE * mean_ratio + REACTIONS * reaction - LEAVES * rate
    return Course(
        start_ts=start_ts,
        ts=ts,
        score=np.clip(score, 0.0, 1.0),
        sd=np.sqrt(np.maximum(0.0, variance)),
        third=CHAT**3 * chat_third + REACTIONS**3 * reaction_third,
        chats=sums.chats,
        reactions=sums.reactions,
        active=sums.active,
        active_ratio=mean_ratio,
        connected=sums.connected,
        gone=sums.gone,
        leave_rate=rate,
        audience=sums.audience,
        audience_sd=np.sqrt(sums.audience_variance),
    )


def _ratio(sums: _Sums) -> tuple[Floats, Floats]:
    """Return the active ratio A / U: its mean and its variance.

    The mean is expanded around the means to second order. That fails where the room is often empty, and the ratio
    then 0: there few of many are present, U is nearly Poisson, and E[1/(1 + U)] = (1 - exp(-m)) / m for a mean of m.
    """
    there = np.maximum(sums.there, 1e-9)
    ratio = sums.active / there
    expanded = ratio - sums.shared / there**2 + ratio * sums.there_variance / there**2
    sparse = sums.active * -np.expm1(-there) / there
    mean = np.clip(np.where(sums.there_variance < 0.25 * there**2, expanded, sparse), 0.0, 1.0)
    spread = sums.active_variance - 2 * ratio * sums.shared + ratio**2 * sums.there_variance
    return mean, np.clip(spread / there**2, 0.0, 0.25)


def _shared(sums: _Sums) -> tuple[Floats, Floats]:
    """Return the covariance of the active ratio A / U with the message count and the reaction count."""
    there = np.maximum(sums.there, 1e-9)
    ratio = sums.active / there
    return (
        (sums.chat_active - ratio * sums.chat_there) / there,
        (sums.reactions_active - ratio * sums.reactions_there) / there,
    )


class _Group:
    """Some people of a room, their stays, and the chance that they keep silent from one moment to another."""

    def __init__(self, room: Room, begin: int, end: int) -> None:
        stays = room.stays
        rows = slice(*np.searchsorted(stays.person, (begin, end)))
        self.person = stays.person[rows] - begin
        self.come, self.go, self.told = stays.come[rows], stays.go[rows], stays.told[rows]
        self.talk = room.talk[begin:end]
        self.joins = room.joins[begin:end]
        self.room = room
        self._weight = self.talk[self.person][:, None]
        self._starts = np.flatnonzero(np.concatenate(([True], np.diff(self.person) > 0)))

    def by_person(self, rows: Floats) -> Floats:
        """Add up rows of stays to rows of people."""
        added: Floats = np.add.reduceat(rows, self._starts, axis=0)
        return added

    def acts(self, grown: Floats, low: Ints, high: Ints) -> Floats:
        """Return the expected acts of each person in [low, high), by the integral of their rate: (people, ticks)."""
        floor, ceiling = at(grown, self.come)[:, None], at(grown, self.go)[:, None]
        within = np.clip(at(grown, high), floor, ceiling) - np.clip(at(grown, low), floor, ceiling)
        return self.by_person(self._weight * within)

    def votes(self, low: Ints, high: Ints) -> Floats:
        """Return -log of the chance that a person casts no vote in [low, high): (people, ticks)."""
        silence = np.zeros((len(self.person), len(high)))
        for poll in self.room.polls:
            reached = (high > poll.opened) & (low < poll.quiet)
            silence[:, reached] -= np.log1p(-self._voted(poll, low[reached], high[reached]))
        return self.by_person(silence)

    def _voted(self, poll: Poll, low: Ints, high: Ints) -> Floats:
        begin = np.clip(np.maximum(low, self.come[:, None]), poll.opened, poll.quiet) - poll.opened
        end = np.clip(np.minimum(high, self.go[:, None]), poll.opened, poll.quiet) - poll.opened
        chance = np.exp(-begin / VOTE_PACE_MS) - np.exp(-np.maximum(end, begin) / VOTE_PACE_MS)
        voted: Floats = poll.interest * chance
        return voted

    def silent(self, low: Ints, high: Ints) -> Floats:
        """Return the chance that a person does nothing in [low, high): (people, ticks)."""
        rhythm = self.room.rhythm
        quiet = self.acts(rhythm.chats, low, high) + self.acts(rhythm.reacted, low, high)
        return np.exp(-quiet - self.votes(low, high))

    def joined(self, ticks: Ints, within: int) -> Flags:
        """Tell whom joins and leaves show as there at some time of [tick - within, tick]: (people, ticks)."""
        lasting = (self.go[:, None] >= ticks - within) | ~self.told[:, None]
        there = (self.come[:, None] < ticks) & lasting & self.joins[self.person][:, None]
        return self.by_person(there.astype(np.float64)) > 0

    def left(self, ticks: Ints) -> Flags:
        """Tell whether a person's leave lies in the window of a tick."""
        go = self.go[:, None]
        left = (go < ticks) & (go >= ticks - WINDOW_MS) & (self.told & self.joins[self.person])[:, None]
        return self.by_person(left.astype(np.float64)) > 0


def _add(sums: _Sums, room: Room, ticks: Ints, begin: int, end: int) -> None:
    """Add the people ``begin`` to ``end`` to the sums."""
    group = _Group(room, begin, end)
    opens = ticks - WINDOW_MS
    chats = group.acts(room.rhythm.chats, opens, ticks)
    reactions = group.acts(room.rhythm.reacted, opens, ticks)
    silent = np.exp(-chats - reactions - group.votes(opens, ticks))
    active = 1.0 - silent
    present = group.joined(ticks, 0)
    ever, audience = (
        group.joined(ticks, WINDOW_MS).astype(np.float64),
        group.joined(ticks, AUDIENCE_MS).astype(np.float64),
    )
    connected = present.astype(np.float64)
    shown = ~group.joins
    if shown.any():
        for column, reach in ((connected, 0), (ever, WINDOW_MS), (audience, AUDIENCE_MS)):
            column[shown] = 1.0 - group.silent(ticks - PRESENCE_MS - reach, ticks)[shown]
    there = np.where(present, 1.0, np.where(shown[:, None], connected, active))
    sums.chats += chats.sum(0)
    sums.reactions += reactions.sum(0)
    sums.active += active.sum(0)
    sums.active_variance += (active * silent).sum(0)
    sums.there += there.sum(0)
    sums.there_variance += (there * (1 - there)).sum(0)
    sums.shared += (active * (1 - there)).sum(0)
    sums.connected += connected.sum(0)
    # Cov(N, 1[a person acted]) = his share of E N, times the chance that he did nothing; the same for being there.
    absent = 1.0 - there
    sums.chat_active += (chats * silent).sum(0)
    sums.chat_there += (chats * absent).sum(0)
    sums.reactions_active += (reactions * silent).sum(0)
    sums.reactions_there += (reactions * absent).sum(0)
    sums.gone += (group.left(ticks) & ~present).sum(0)
    sums.ever += ever.sum(0)
    sums.audience += audience.sum(0)
    sums.audience_variance += (audience * (1 - audience)).sum(0)


def steady(talk: Floats, joins: Flags, chat: float, reactions: float) -> float:
    """Return the score, without its poll term, of people who go on for ever at ``chat`` and ``reactions`` a minute."""
    acts = talk * (chat + reactions)
    active = -np.expm1(-acts)
    there = np.where(joins, 1.0, -np.expm1(-acts * (PRESENCE_MS / WINDOW_MS)))
    total = float(there.sum())
    said, _, _, _ = term(CHAT_CEILING).at(np.array(chat * talk.sum()))
    reacted, _, _, _ = term(REACTIONS_CEILING).at(np.array(reactions * talk.sum()))
    return float(CHAT * said + ACTIVE * (active.sum() / total if total > 0 else 0.0) + REACTIONS * reacted)
