"""The scenarios ``lab`` and ``lab-KIND``: sessions of the lab side by side, as events in order, with their labels."""

from collections.abc import Iterator
from heapq import merge
from itertools import count
from random import Random

import numpy as np

from flows.generate.lab.acts import Names, draw_cues, events
from flows.generate.lab.episodes import LabSession, LabTruth, tell
from flows.generate.lab.falls import LabelRules
from flows.generate.lab.kinds import MIX, Wish, draw_room
from flows.generate.lab.room import Room
from flows.generate.plan import Plan
from schemas.inbound import Event

APART_MS = 700
"""Sessions begin one after another, at moments that fall differently between two ticks."""
PAUSE_MS = 15_000


class LabTraffic:
    """Labelled sessions, of one kind or of all in turn. Each is drawn from the seed and its place alone."""

    def __init__(self, plan: Plan, kind: str | None = None, rules: LabelRules | None = None) -> None:
        self._plan = plan
        self._kinds = MIX if kind is None else (kind,)
        self._name = "lab" if kind is None else f"lab-{kind}"
        self._rules = rules or LabelRules()
        self._told: dict[int, list[LabSession]] = {slot: [] for slot in range(plan.sessions)}
        self._first = [self.room(slot, 1) for slot in range(plan.sessions)]
        self.end_ts = max(self._start(slot) + _end(room) for slot, room in enumerate(self._first))

    def events(self) -> Iterator[Event]:
        """Yield the events of all sessions in order of ``ts``."""
        return (event for _, _, event in merge(*(self._slot(slot) for slot in range(self._plan.sessions))))

    def truth(self) -> LabTruth:
        """Return the labels of the sessions that have ended."""
        told = [session for sessions in self._told.values() for session in sessions]
        return LabTruth(self._name, self._plan.seed, self._plan.start_ts, told)

    def room(self, slot: int, turn: int) -> Room:
        """Draw the room of a place, without noise."""
        plan = self._plan
        wish = Wish(plan.people, plan.minutes, plan.rate)
        return draw_room(_generator(plan.seed, slot, turn, "room"), self._kinds[slot % len(self._kinds)], wish)

    def _start(self, slot: int) -> int:
        return self._plan.start_ts + slot * APART_MS

    def _slot(self, slot: int) -> Iterator[tuple[int, int, Event]]:
        plan = self._plan
        start, room = self._start(slot), self._first[slot]
        for turn in count(1):
            name = f"{room.kind}-{slot + 1}" + (f"-{turn}" if turn > 1 else "")
            names = Names(f"tenant-{slot % plan.tenants + 1}", name, start)
            cues = draw_cues(room, _generator(plan.seed, slot, turn, "noise"))
            yield from ((event.ts, slot, event) for event in events(room, cues, names))
            if plan.truth:
                self._told[slot].append(tell(room, names, self._rules))
            if not plan.repeat:
                return
            start += _end(room) + PAUSE_MS
            room = self.room(slot, turn + 1)


def _end(room: Room) -> int:
    """Return when the last of a room's events may come."""
    return max(room.last, int(room.aftermath.max(initial=0)))


def _generator(seed: int, slot: int, turn: int, what: str) -> np.random.Generator:
    # Any integer is a seed, negative ones too; numpy's generators take none below 0.
    return np.random.default_rng(Random(f"{seed}/{slot}/{turn}/{what}").getrandbits(128))  # noqa: S311 - data, not a secret
