"""The matcher: takes a user's events one by one and tells which rules they complete."""

import functools
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from operators.emotions.rules import Rule, Rules
from operators.emotions.visitor import Visitor
from schemas.inbound import Event, PageView


@dataclass(frozen=True, slots=True)
class Shown:
    """A rule that was met at ``ts`` (ms), and the events it rests on, the oldest first."""

    rule: Rule
    ts: int
    confidence: float
    evidence: list[str]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an event of a mask has to go through, worked out once."""

    settles: bool
    stopped: tuple[int, ...]
    stepped: tuple[tuple[Rule, Callable[[Any], Any]], ...]
    steps: tuple[tuple[Rule, int], ...]


class Matcher:
    """Follows visitors by the rules. Holds no state but caches: what it returns depends on its arguments alone."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._history = tuple(rules.patterns.history.items())
        self._of_past = sum(rules.patterns.history)
        self._stopped_by_anything = tuple(rule.number for rule in rules.rules if rule.unless_anything)
        self._same_pages = tuple(rule.number for rule in rules.rules if rule.same_pages)
        self._plans: dict[int, _Plan] = {}
        self.memory_ms = max((max(r.within_ms, r.for_ms, r.cooldown_ms) for r in rules.rules), default=0)
        """How long what a user did can matter."""
        self.arming = self._bits_of(rule for rule in rules.rules if rule.unless_anything)
        """The bits of events after which any event of the user matters for a while."""

    def _bits_of(self, rules: Iterable[Rule]) -> int:
        bits = functools.reduce(operator.or_, (rule.on for rule in rules), 0)
        for bit, past in self._history:
            bits |= bit if past.bit & bits else 0
        return bits

    def feed(self, visitor: Visitor, event: Event, mask: int, start: int) -> list[Shown]:
        """Take an event that is no repeat; ``start`` is when the session began. Overdue waits are the caller's."""
        if mask & self._of_past:
            mask = self._with_past(visitor, event, mask)
        if type(event) is PageView:
            _track(visitor, event)
        plan = self._plans.get(mask) or self._plan(mask)
        visitor.last = max(visitor.last, event.ts)
        if visitor.waits:
            for number in plan.stopped:
                visitor.waits.pop(number, None)
        if plan.settles:
            self._settle(visitor)
        out: list[Shown] = []
        for rule, value in plan.stepped:
            if rule.until_settled and visitor.settled:
                continue
            evidence = self._evidence(rule, visitor, event, value)
            if evidence is None:
                continue
            if rule.for_ms:
                visitor.waits.setdefault(rule.number, [event.ts + rule.for_ms, evidence])
            else:
                self._show(rule, visitor, event.ts, evidence, start, out)
        for rule, stage in plan.steps:
            # An event that was used up by what it completed begins nothing of the same rule.
            if rule.after_lasts or all(found.rule is not rule for found in out):
                _step(visitor, rule, stage, event)
        return out

    def hear(self, visitor: Visitor, ts: int) -> None:
        """Take any other event of a user, of which no rule asks more than that it came."""
        for number in self._stopped_by_anything:
            visitor.waits.pop(number, None)
        visitor.last = max(visitor.last, ts)

    def wake(self, visitor: Visitor, until: int, start: int) -> list[Shown]:
        """Return what has failed to follow by ``until`` (ms, included), in the order of time."""
        due = [(when, number) for number, (when, _) in visitor.waits.items() if when <= until]
        out: list[Shown] = []
        for when, number in sorted(due):
            _, evidence = visitor.waits.pop(number)
            self._show(self.rules.rules[number], visitor, when, evidence, start, out)
        return out

    def _show(self, rule: Rule, visitor: Visitor, ts: int, evidence: list[str], start: int, out: list[Shown]) -> None:
        """Tell what a rule has found, unless it told so lately or the session is too young, and use its events up."""
        last = visitor.shown.get(rule.number)
        if last is not None and ts - last < rule.cooldown_ms:
            return
        confidence: float | None = rule.confidence
        if rule.cautious:
            confidence = self.rules.young.confidence(rule.confidence, ts - start)
            if confidence is None:
                return
        visitor.shown[rule.number] = ts
        out.append(Shown(rule, ts, confidence or 0.0, evidence))
        if rule.once_per_burst:
            visitor.bursts.append(rule.number)
        elif rule.count > 1:
            visitor.marks.pop(rule.number, None)
        elif rule.after and not rule.after_lasts:
            visitor.steps.pop(rule.number, None)

    def _evidence(self, rule: Rule, visitor: Visitor, event: Event, value: Callable[[Any], Any]) -> list[str] | None:
        """Return the events that complete a rule with this one; None if they don't."""
        if rule.count > 1:
            return _counted(rule, visitor, event, value)
        if not rule.after:
            return [event.event_id]
        steps = visitor.steps.get(rule.number)
        if steps is None or len(steps) < len(rule.after) or event.ts - steps[-1][0][0] > rule.within_ms:
            return None
        return [*(name for _, name in steps[-1]), event.event_id]

    def _settle(self, visitor: Visitor) -> None:
        visitor.settled = True
        for rule in self.rules.rules:
            if rule.until_settled:
                for kept in (visitor.marks, visitor.steps, visitor.waits):
                    kept.pop(rule.number, None)

    def _with_past(self, visitor: Visitor, event: Event, mask: int) -> int:
        """Turn the bits that depend on the past into those of their patterns, where they hold."""
        for bit, past in self._history:
            if not mask & bit:
                continue
            if past.kind == "came_from":
                holds = visitor.page in past.pages
            elif past.kind == "returned":
                place = _place(event)  # type: ignore[arg-type]  # only page views have this bit
                holds = place == visitor.before and place != visitor.place
                if not holds and place != visitor.place:
                    for number in self._same_pages:
                        visitor.marks.pop(number, None)
            else:
                value = getattr(event, past.field)
                holds = visitor.turned.get(bit, value) != value
                visitor.turned[bit] = value
            if holds:
                mask |= past.bit
        return mask & ~self._of_past

    def _plan(self, mask: int) -> _Plan:
        plan = self._plans[mask] = _Plan(
            settles=bool(mask & self.rules.settled_by),
            stopped=tuple(r.number for r in self.rules.rules if r.unless_anything or r.unless & mask),
            stepped=tuple((rule, _value_of(rule)) for rule in self.rules.rules if rule.on & mask),
            # The last step first: an event that is two steps of a rule is not both at once.
            steps=tuple(
                (rule, stage)
                for rule in self.rules.rules
                for stage in reversed(range(len(rule.after)))
                if rule.after[stage] & mask
            ),
        )
        return plan


def path_of(url: str) -> str:
    """Return a url without query, fragment and trailing slash: what makes two views views of the same page.

    >>> path_of("https://shop.example/shoes/?size=9#top")
    'https://shop.example/shoes'
    """
    return url.partition("?")[0].partition("#")[0].rstrip("/")


def _place(view: PageView) -> str:
    """Return what tells a page from others: its kind and its path."""
    return f"{view.page} {path_of(view.url)}"


def _track(visitor: Visitor, view: PageView) -> None:
    visitor.page = view.page
    place = _place(view)
    if place != visitor.place:
        visitor.before, visitor.place = visitor.place, place


def _step(visitor: Visitor, rule: Rule, stage: int, event: Event) -> None:
    """Take an event as one of a rule's ``after``, if those before it have come."""
    steps = visitor.steps.setdefault(rule.number, [])
    if stage > len(steps):
        return
    row = [*(steps[stage - 1] if stage else ()), [event.ts, event.event_id]]
    steps[stage : stage + 1] = [row]


def _counted(rule: Rule, visitor: Visitor, event: Event, value: Callable[[Any], Any]) -> list[str] | None:
    marks = visitor.marks.get(rule.number)
    if marks is None:
        marks = visitor.marks[rule.number] = []
    ts = event.ts
    compared = _pair(visitor) if rule.same_pages else value(event)
    if rule.gap_ms and marks:
        last = marks[-1]
        far = abs(ts - last[0]) > rule.gap_ms
        if far or abs(compared[0] - last[2][0]) + abs(compared[1] - last[2][1]) > rule.gap_px:
            marks.clear()
            if rule.number in visitor.bursts:
                visitor.bursts.remove(rule.number)
    if rule.within_ms and marks and ts - marks[0][0] > rule.within_ms:
        marks[:] = [mark for mark in marks if ts - mark[0] <= rule.within_ms]
    if rule.same_pages and marks and marks[-1][2] != compared:
        marks.clear()
    if rule.distinct:
        marks[:] = [mark for mark in marks if mark[2] != compared]
    marks.append([ts, event.event_id, compared])
    if len(marks) > rule.count:
        del marks[0]
    if len(marks) < rule.count or rule.number in visitor.bursts:
        return None
    return [mark[1] for mark in marks]


def _pair(visitor: Visitor) -> list[str]:
    """Return the two pages that a returning user goes between, whichever he is on."""
    return sorted((visitor.place, visitor.before))


def _value_of(rule: Rule) -> Callable[[Any], Any]:
    """Return what tells the value of an event that a rule's count compares."""
    if rule.gap_ms:
        return _where
    if rule.distinct == "url":
        return _path
    if rule.distinct:
        return attrgetter(rule.distinct)
    return _nothing


def _where(event: Any) -> tuple[float, float]:
    return (getattr(event, "x", 0.0), getattr(event, "y", 0.0))


def _path(event: Any) -> str:
    return path_of(event.url)


def _nothing(_: Any) -> None:
    return None
