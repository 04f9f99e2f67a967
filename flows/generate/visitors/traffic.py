"""The scenarios ``visitors``, ``visitors-calm`` and ``visitors-live``: visits side by side as events, and the truth."""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush, merge
from itertools import count
from operator import attrgetter
from random import Random

from flows.generate.lab.traffic import LabTraffic
from flows.generate.plan import Plan, Traffic
from flows.generate.visitors.personas import CALM, MOVED, Persona, draw_visit
from flows.generate.visitors.truth import Visitor, VisitorsTruth
from flows.generate.visitors.visit import Visit
from schemas.errors import ConfigError
from schemas.inbound import Event

APART_MS = 1_700
"""Visits begin one after another: some 100 are under way at a time."""
LONGEST_MS = 15 * 60_000
"""No visit lasts longer; its last timer has run out by then, too."""
PAUSE_MS = 60_000
COUPLES = 25
"""Every so many sessions there are two visitors in one."""
ROOMS = ("drop", "silence", "exit", "relapse", "decline")
"""The live sessions of ``visitors-live``: kinds of the lab in which something goes wrong."""
ROOM_PEOPLE, ROOM_MINUTES = 120, 15.0
ROOMS_LEAST = 3
"""Of each kind, so that every answer to an anomaly comes: most sessions have only one or two of the four."""


def mixed(slot: int) -> Persona:
    """Choose a persona for a place: calm ones and others in turn."""
    kinds = MOVED if slot % 2 else CALM
    return kinds[slot // 2 % len(kinds)]


def calm(slot: int) -> Persona:
    """Choose a calm persona for a place."""
    return CALM[slot % len(CALM)]


class VisitorsTraffic:
    """Visits. Each is drawn from the seed and its place alone."""

    def __init__(self, plan: Plan, name: str = "visitors", choose: Callable[[int], Persona] = mixed) -> None:
        if plan.people is not None or plan.minutes is not None or plan.rate != 1.0:
            raise ConfigError(f"{name}: visits have lengths and paces of their own; leave people, minutes and rate out")
        self._plan, self._name, self._choose = plan, name, choose
        self._told: list[Visitor] = []
        last = range(max(0, plan.sessions - 1 - LONGEST_MS // APART_MS), plan.sessions)
        self.end_ts = max(visit.end_ts for slot in last for visit, _ in self._visits(slot, 1))

    def events(self) -> Iterator[Event]:
        """Yield the events of all visits in order of ``ts``."""
        heap: list[tuple[int, int, Event, Iterator[Event]]] = []
        for slot in range(self._plan.sessions):
            yield from _until(heap, self._start(slot))
            _push(heap, slot, self._slot(slot))
        yield from _until(heap, None)

    def truth(self) -> VisitorsTruth:
        """Return what is known about the visits that are over."""
        return VisitorsTruth(self._name, self._plan.seed, self._plan.start_ts, list(self._told))

    def _start(self, slot: int) -> int:
        return self._plan.start_ts + slot * APART_MS

    def _visits(self, slot: int, turn: int, start: int | None = None) -> list[tuple[Visit, Persona]]:
        """Draw the visits of a session: one, or two of which the second begins a little later."""
        rng = Random(f"{self._plan.seed}/{slot}/{turn}")  # noqa: S311 - data, not a secret
        begin = self._start(slot) if start is None else start
        couple = slot % COUPLES == COUPLES - 1
        visits = []
        for number in range(2 if couple else 1):
            # The second of a couple is of the next place's kind.
            persona = self._choose(slot + number)
            visits.append((draw_visit(persona, rng, begin, shared=couple), persona))
            begin += rng.randint(1_000, 20_000)
        return visits

    def _slot(self, slot: int) -> Iterator[Event]:
        """Play a session and, if the plan repeats, the ones that follow in its place."""
        start: int | None = None
        tenant = f"tenant-{slot % self._plan.tenants + 1}"
        for turn in count(1):
            session = f"visit-{slot + 1}" + (f"-{turn}" if turn > 1 else "")
            visits = self._visits(slot, turn, start)
            yield from _named(visits, tenant, session)
            if self._plan.truth:
                self._told += [_told(visit, persona, tenant, session, n) for n, (visit, persona) in enumerate(visits)]
            if not self._plan.repeat:
                return
            start = max(visit.end_ts for visit, _ in visits) + PAUSE_MS


class LiveVisitorsTraffic:
    """Visits, and beside them a few live sessions in trouble, taken from the lab."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._visitors = VisitorsTraffic(plan, "visitors-live")
        rooms = Plan(
            max(ROOMS_LEAST, plan.sessions // 200), ROOM_PEOPLE, ROOM_MINUTES, plan.seed, plan.tenants, plan.start_ts,
            repeat=plan.repeat, truth=plan.truth,
        )  # fmt: skip
        self._rooms = [LabTraffic(rooms, kind) for kind in ROOMS]
        self._all: list[Traffic] = [self._visitors, *self._rooms]
        self.end_ts = max(traffic.end_ts for traffic in self._all)

    def events(self) -> Iterator[Event]:
        """Yield the events of visits and live sessions in order of ``ts``."""
        return merge(*(traffic.events() for traffic in self._all), key=attrgetter("ts"))

    def truth(self) -> VisitorsTruth:
        """Return what is known about the visits and live sessions that are over."""
        told = self._visitors.truth()
        rooms = [session for traffic in self._rooms for session in traffic.truth().sessions]
        return VisitorsTruth(told.scenario, told.seed, told.start_ts, told.visitors, rooms)


def _named(visits: list[tuple[Visit, Persona]], tenant: str, session: str) -> Iterator[Event]:
    """Yield the events of a session's visits in order of ``ts``, numbered in that order."""
    cues = [(ts, make, fields, user) for user, (visit, _) in enumerate(visits) for ts, make, fields in visit.cues]
    for number, (ts, make, fields, user) in enumerate(sorted(cues, key=lambda cue: cue[0]), 1):
        yield make(f"{session}-{number:05d}", tenant, session, _user(session, user), ts, **fields)


def _told(visit: Visit, persona: Persona, tenant: str, session: str, user: int) -> Visitor:
    shown = sorted(visit.shown, key=lambda shown: (shown.ts, shown.rule))
    return Visitor(
        tenant, session, _user(session, user), persona.name, persona.calm, visit.cues[0][0], visit.end_ts, shown
    )


def _user(session: str, number: int) -> str:
    return f"{session}-{'ab'[number]}"


_Heap = list[tuple[int, int, Event, Iterator[Event]]]


def _push(heap: _Heap, slot: int, events: Iterator[Event]) -> None:
    event = next(events, None)
    if event is not None:
        heappush(heap, (event.ts, slot, event, events))


def _until(heap: _Heap, ts: int | None) -> Iterator[Event]:
    """Yield what comes before ``ts`` (None: all), from the sessions that have begun."""
    while heap and (ts is None or heap[0][0] < ts):
        _, slot, event, events = heappop(heap)
        yield event
        _push(heap, slot, events)
