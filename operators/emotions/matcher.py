"""The matcher: takes a user's events one by one and tells which rules they complete.

Every rule becomes a step, a function that looks at one event and the user's marks and returns the events that complete
the rule with it; and what a mask has to go through is worked out once (`_Plan`). So an event costs what its own rules
cost.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from operators.emotions.marks import Began, Mark, counted, near, unpacked
from operators.emotions.roles import Roles
from operators.emotions.rules import Rule, Rules
from operators.emotions.sorter import TRACKED
from operators.emotions.visitor import Visitor
from schemas.inbound import Event

Step = Callable[[Visitor, Any], list[str] | None]
"""Takes an event in; returns the ids of the events that complete the rule with it, the oldest first, or None."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A rule that was met at ``ts`` (ms), and the events it rests on, the oldest first."""

    rule: Rule
    ts: int
    confidence: float
    evidence: list[str]


@dataclass(frozen=True)
class _Plan:
    """What an event of a mask has to go through: which waits it stops, what it may complete, what it is a step of."""

    settles: bool
    stopped: tuple[int, ...]
    completes: tuple[tuple[Rule, Step], ...]
    follows: tuple[tuple[Rule, Callable[[Visitor, Any], None]], ...]

    @cached_property
    def idle(self) -> bool:
        """Whether it stops waits at most."""
        return not (self.settles or self.completes or self.follows)


class Matcher:
    """Follows visitors by the rules. Holds no state but caches: what it returns depends on its arguments alone."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.roles = Roles(rules)
        self._steps = {rule.number: _step_of(rule) for rule in rules.rules}
        self._stopped_by_anything = tuple(rule.number for rule in rules.rules if rule.unless_anything)
        self._same_pages = tuple(rule.number for rule in rules.rules if rule.same_pages)
        self._place_lasts = any(r.same_pages and not rules.patterns.only_return(r.on) for r in rules.rules)
        self._plans: dict[tuple[int, int], _Plan] = {}
        self.memory_ms = max((max(r.within_ms, r.for_ms, r.cooldown_ms) for r in rules.rules), default=0)
        """How long what a user did can matter."""

    def feed(
        self, visitor: Visitor, event: Event, mask: int, start: int, asked: int, owed: Iterable[tuple[int, bytes]]
    ) -> list[Shown] | None:
        """Take an event that is no repeat; ``start`` is when the session began. Overdue waits are the caller's.

        ``asked`` has a bit for each slot of the roles whose rule is to look at it, ``owed`` are the marks put by there.
        Returns what it completes; None or nothing if it completes nothing.
        """
        for slot, missed in owed:
            self._catch_up(visitor, self.roles.slots[slot].rule, missed)
        if mask & TRACKED:  # it leads elsewhere than back: no more to and fro
            for number in self._same_pages:
                visitor.marks.pop(number, None)
        plan = self._plans.get((mask, asked)) or self._plan(mask, asked)
        if visitor.waits:
            self._stop(visitor, plan.stopped, event.ts)
        return None if plan.idle else self._go_through(plan, visitor, event, start)

    def begin(self, visitor: Visitor, rule: Rule, began: Began) -> None:
        """Begin the wait of a silence that has run out already."""
        if not (rule.until_settled and visitor.settled):
            _wait(visitor, rule, began.ts, [began.event_id])

    def _catch_up(self, visitor: Visitor, rule: Rule, missed: bytes) -> None:
        """Take an event that was put by: whatever came before it of its rule is out of reach."""
        if rule.after or not (rule.until_settled and visitor.settled):
            visitor.marks[rule.number] = [unpacked(missed)]
        if not rule.after:
            visitor.bursts &= ~(1 << rule.number)

    def _go_through(self, plan: _Plan, visitor: Visitor, event: Event, start: int) -> list[Shown] | None:
        if plan.settles:
            self._settle(visitor)
        out: list[Shown] | None = None
        for rule, step in plan.completes:
            if rule.until_settled and visitor.settled:
                continue
            evidence = step(visitor, event)
            if evidence is None:
                continue
            if rule.for_ms:
                _wait(visitor, rule, event.ts, evidence)
            else:
                out = out or []
                self._show(rule, visitor, event.ts, evidence, start, out)
        for rule, follow in plan.follows:
            # An event that was used up by what it completed begins nothing of the same rule.
            if out is None or rule.after_lasts or all(found.rule is not rule for found in out):
                follow(visitor, event)
        return out

    def hear(self, visitor: Visitor, ts: int) -> None:
        """Take any other event of a user, of which no rule asks more than that it came."""
        self._stop(visitor, self._stopped_by_anything, ts)

    def is_done_with(self, visitor: Visitor, oldest: int) -> bool:
        """Return whether a visitor of whom nothing is on its way can be met anew from a time (ms) on.

        All that is known of him beside is whether he has ordered.
        """
        if self._place_lasts and visitor.place:
            return False
        rules = self.rules.rules
        return all(ts < oldest - rules[number].cooldown_ms for number, ts in visitor.shown.items())

    def _stop(self, visitor: Visitor, numbers: Iterable[int], ts: int) -> None:
        """End waits; what happened before one began, and only came later or again, does not follow on it."""
        for number in numbers:
            wait = visitor.waits.get(number)
            if wait is not None and ts >= wait[0] - self.rules.rules[number].for_ms:
                del visitor.waits[number]

    def wake(self, visitor: Visitor, until: int, start: int) -> list[Shown]:
        """Return what has failed to follow by ``until`` (ms, included), in the order of time."""
        out: list[Shown] = []
        if until < visitor.due:
            return out
        due = [(when, number) for number, (when, _) in visitor.waits.items() if when <= until]
        for when, number in sorted(due):
            _, evidence = visitor.waits.pop(number)
            self._show(self.rules.rules[number], visitor, when, evidence, start, out)
        visitor.due = min((when for when, _ in visitor.waits.values()), default=0)
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
            visitor.bursts |= 1 << rule.number
        elif rule.count > 1 or not rule.after_lasts:
            visitor.marks.pop(rule.number, None)

    def _settle(self, visitor: Visitor) -> None:
        visitor.settled = True
        for rule in self.rules.rules:
            if rule.until_settled:
                visitor.marks.pop(rule.number, None)
                visitor.waits.pop(rule.number, None)

    def _asked(self, rule: Rule, asked: int) -> bool:
        """Whether a rule looks at an event that fits: if the columns follow it, only where they ask for it."""
        slot = self.roles.slot_of.get(rule.number)
        return rule.number not in self.roles.silent and (slot is None or bool(asked >> slot & 1))

    def _plan(self, mask: int, asked: int) -> _Plan:
        rules = [rule for rule in self.rules.rules if self._asked(rule, asked)]
        plan = self._plans[mask, asked] = _Plan(
            settles=bool(mask & self.rules.settled_by),
            stopped=tuple(r.number for r in self.rules.rules if r.unless_anything or r.unless & mask),
            completes=tuple((rule, self._steps[rule.number]) for rule in rules if rule.on & mask),
            # The last step first: an event that is two steps of a rule is not both at once.
            follows=tuple(
                (rule, _follow(rule, stage))
                for rule in rules
                for stage in reversed(range(len(rule.after)))
                if rule.after[stage] & mask
            ),
        )
        return plan


def _wait(visitor: Visitor, rule: Rule, ts: int, evidence: list[str]) -> None:
    waits = visitor.waits
    due = ts + rule.for_ms
    if rule.number not in waits:
        visitor.due = min(due, visitor.due) if waits else due
        waits[rule.number] = [due, evidence]


def _follow(rule: Rule, stage: int) -> Callable[[Visitor, Any], None]:
    """Return what takes an event as one of a rule's ``after``, if those before it have come."""
    number = rule.number
    if len(rule.after) == 1:

        def first(visitor: Visitor, event: Event) -> None:
            visitor.marks[number] = [((event.ts, event.event_id),)]

        return first

    def next_(visitor: Visitor, event: Event) -> None:
        rows = visitor.marks.setdefault(number, [])
        if stage <= len(rows):
            row = (*(rows[stage - 1] if stage else ()), (event.ts, event.event_id))
            rows[stage : stage + 1] = [row]

    return next_


def _step_of(rule: Rule) -> Step:
    """Return what looks at an event that a rule asks for."""
    if rule.gap_ms:
        return partial(_near, rule)
    if rule.same_pages:
        return partial(_counted, rule, _pair)
    if rule.count > 1:
        mark = counted(rule)
        return partial(_counted, rule, lambda _, event: mark(event))
    if rule.after:
        return partial(_after, rule)
    return _alone


def _alone(_: Visitor, event: Event) -> list[str]:
    return [event.event_id]


def _after(rule: Rule, visitor: Visitor, event: Event) -> list[str] | None:
    rows = visitor.marks.get(rule.number)
    if rows is None or len(rows) < len(rule.after) or event.ts - rows[-1][0][0] > rule.within_ms:
        return None
    return [*(name for _, name in rows[-1]), event.event_id]


def _near(rule: Rule, visitor: Visitor, event: Event) -> list[str] | None:
    """Count events that follow close on each other, in time and on the screen."""
    ts, _, x, y = mark = near(event)
    marks = visitor.marks.get(rule.number)
    if marks is None:
        visitor.marks[rule.number] = [mark]
        return None
    then, _, at_x, at_y = marks[-1]
    if abs(ts - then) > rule.gap_ms or abs(x - at_x) + abs(y - at_y) > rule.gap_px:
        marks[:] = [mark]
        visitor.bursts &= ~(1 << rule.number)
        return None
    marks.append(mark)
    if len(marks) > rule.count:
        del marks[0]
    if len(marks) < rule.count or visitor.bursts >> rule.number & 1:
        return None
    return [mark[1] for mark in marks]


def _counted(rule: Rule, mark_of: Callable[[Visitor, Any], Mark], visitor: Visitor, event: Event) -> list[str] | None:
    """Count events within a time; what is compared has to be the same throughout, or different."""
    ts, _, value = mark = mark_of(visitor, event)
    marks = visitor.marks.get(rule.number)
    if marks is None:
        visitor.marks[rule.number] = [mark]
        return None
    if ts - marks[0][0] > rule.within_ms:
        marks[:] = [mark for mark in marks if ts - mark[0] <= rule.within_ms]
    if rule.same_pages:
        if marks and marks[-1][2] != value:
            marks.clear()
    elif rule.distinct:
        marks[:] = [mark for mark in marks if mark[2] != value]
    marks.append(mark)
    if len(marks) > rule.count:
        del marks[0]
    if len(marks) < rule.count:
        return None
    return [mark[1] for mark in marks]


def _pair(visitor: Visitor, event: Event) -> Mark:
    """Return a mark with the two pages that a returning user goes between, whichever he is on."""
    return event.ts, event.event_id, sorted((visitor.place, visitor.before))
