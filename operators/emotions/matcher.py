"""The matcher: takes a user's events one by one and tells which rules they complete.

Every rule becomes a step, a function that looks at one event and the user's marks and returns the events that complete
the rule with it; and what a mask has to go through is worked out once (`_Plan`). So an event costs what its own rules
cost.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any, Final

from operators.emotions.patterns import TRACKED, History
from operators.emotions.rules import Rule, Rules
from operators.emotions.visitor import Visitor
from schemas.inbound import Event, PageView

Step = Callable[[Visitor, Any], list[str] | None]
"""Takes an event in; returns the ids of the events that complete the rule with it, the oldest first, or None."""

_PATHS: Final = 50_000
"""Urls whose paths are remembered; beyond that the table starts anew."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A rule that was met at ``ts`` (ms), and the events it rests on, the oldest first."""

    rule: Rule
    ts: int
    confidence: float
    evidence: list[str]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an event of a mask has to go through: which waits it stops, what it may complete, what it is a step of."""

    settles: bool
    stopped: tuple[int, ...]
    completes: tuple[tuple[Rule, Step], ...]
    follows: tuple[tuple[Rule, int], ...]


class Matcher:
    """Follows visitors by the rules. Holds no state but caches: what it returns depends on its arguments alone."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._history = tuple(rules.patterns.history.items())
        self._of_past = sum(rules.patterns.history) | TRACKED
        self._past: dict[int, tuple[tuple[int, History], ...]] = {}
        self._steps = {rule.number: _step_of(rule) for rule in rules.rules}
        self._stopped_by_anything = tuple(rule.number for rule in rules.rules if rule.unless_anything)
        self._same_pages = tuple(rule.number for rule in rules.rules if rule.same_pages)
        self._plans: dict[int, _Plan] = {}
        self.memory_ms = max((max(r.within_ms, r.for_ms, r.cooldown_ms) for r in rules.rules), default=0)
        """How long what a user did can matter."""
        self.arming = self._bits_of(rule for rule in rules.rules if rule.unless_anything)
        """The bits of events after which any event of the user matters for a while."""

    def feed(self, visitor: Visitor, event: Event, mask: int, start: int) -> list[Shown] | None:
        """Take an event that is no repeat; ``start`` is when the session began. Overdue waits are the caller's.

        Returns what it completes; None or nothing if it completes nothing.
        """
        if mask & self._of_past:
            mask = self._with_past(visitor, event, mask)
        plan = self._plans.get(mask)
        if plan is None:
            plan = self._plan(mask)
        ts = event.ts
        if ts > visitor.last:  # noqa: PLR1730  half the time of a call of max, for every event
            visitor.last = ts
        waits = visitor.waits
        if waits:
            for number in plan.stopped:
                if number in waits:
                    del waits[number]
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
                if rule.number not in waits:
                    waits[rule.number] = [ts + rule.for_ms, evidence]
            else:
                out = out or []
                self._show(rule, visitor, ts, evidence, start, out)
        for rule, stage in plan.follows:
            # An event that was used up by what it completed begins nothing of the same rule.
            if out is None or rule.after_lasts or all(found.rule is not rule for found in out):
                _follow(visitor, rule.number, stage, event)
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

    def _settle(self, visitor: Visitor) -> None:
        visitor.settled = True
        for rule in self.rules.rules:
            if rule.until_settled:
                for kept in (visitor.marks, visitor.steps, visitor.waits):
                    kept.pop(rule.number, None)

    def _with_past(self, visitor: Visitor, event: Event, mask: int) -> int:
        """Turn the bits that depend on the past into those of their patterns, where they hold, and take the event in.

        Where they don't, ``returned`` interrupts the going to and fro between two pages.
        """
        found = self._past.get(mask)
        if found is None:
            found = self._past[mask] = tuple((bit, past) for bit, past in self._history if mask & bit)
        is_view = type(event) is PageView
        place = f"{event.page} {path_of(event.url)}" if is_view else ""  # type: ignore[attr-defined]  # its type says so
        for bit, past in found:
            if past.kind == "turned":
                value = getattr(event, past.field)
                if visitor.turned.get(bit, value) != value:
                    mask |= past.bit
                visitor.turned[bit] = value
            elif past.kind == "came_from":
                if visitor.page in past.pages:
                    mask |= past.bit
            elif place != visitor.place:
                if place == visitor.before:
                    mask |= past.bit
                else:
                    for number in self._same_pages:
                        visitor.marks.pop(number, None)
        if is_view:
            visitor.page = event.page  # type: ignore[attr-defined]  # as above
            if place != visitor.place:
                visitor.before, visitor.place = visitor.place, place
        return mask & ~self._of_past

    def _bits_of(self, rules: Iterable[Rule]) -> int:
        bits = 0
        for rule in rules:
            bits |= rule.on
        for bit, past in self._history:
            bits |= bit if past.bit & bits else 0
        return bits

    def _plan(self, mask: int) -> _Plan:
        plan = self._plans[mask] = _Plan(
            settles=bool(mask & self.rules.settled_by),
            stopped=tuple(r.number for r in self.rules.rules if r.unless_anything or r.unless & mask),
            completes=tuple((rule, self._steps[rule.number]) for rule in self.rules.rules if rule.on & mask),
            # The last step first: an event that is two steps of a rule is not both at once.
            follows=tuple(
                (rule, stage)
                for rule in self.rules.rules
                for stage in reversed(range(len(rule.after)))
                if rule.after[stage] & mask
            ),
        )
        return plan


_paths: dict[str, str] = {}


def path_of(url: str) -> str:
    """Return a url without query, fragment and trailing slash: what makes two views views of the same page.

    >>> path_of("https://shop.example/shoes/?size=9#top")
    'https://shop.example/shoes'
    """
    path = _paths.get(url)
    if path is None:
        if len(_paths) >= _PATHS:
            _paths.clear()
        path = _paths[url] = url.partition("?")[0].partition("#")[0].rstrip("/")
    return path


def _follow(visitor: Visitor, number: int, stage: int, event: Event) -> None:
    """Take an event as one of a rule's ``after``, if those before it have come."""
    steps = visitor.steps.get(number)
    if steps is None:
        steps = visitor.steps[number] = []
    if stage > len(steps):
        return
    row = [*(steps[stage - 1] if stage else ()), [event.ts, event.event_id]]
    steps[stage : stage + 1] = [row]


def _step_of(rule: Rule) -> Step:
    """Return what looks at an event that a rule asks for."""
    if rule.gap_ms:
        return partial(_near, rule)
    if rule.same_pages:
        return partial(_counted, rule, _pair)
    if rule.distinct:
        return partial(_counted, rule, _path if rule.distinct == "url" else partial(_field, attrgetter(rule.distinct)))
    if rule.count > 1:
        return partial(_counted, rule, None)
    if rule.after:
        return partial(_after, rule)
    return _alone


def _alone(_: Visitor, event: Event) -> list[str]:
    return [event.event_id]


def _after(rule: Rule, visitor: Visitor, event: Event) -> list[str] | None:
    steps = visitor.steps.get(rule.number)
    if steps is None or len(steps) < len(rule.after) or event.ts - steps[-1][0][0] > rule.within_ms:
        return None
    return [*(name for _, name in steps[-1]), event.event_id]


def _near(rule: Rule, visitor: Visitor, event: Event) -> list[str] | None:
    """Count events that follow close on each other, in time and on the screen."""
    ts, x, y = event.ts, getattr(event, "x", 0.0), getattr(event, "y", 0.0)
    marks = visitor.marks.get(rule.number)
    if marks is None:
        visitor.marks[rule.number] = [[ts, event.event_id, x, y]]
        return None
    then, _, at_x, at_y = marks[-1]
    if abs(ts - then) > rule.gap_ms or abs(x - at_x) + abs(y - at_y) > rule.gap_px:
        marks[:] = [[ts, event.event_id, x, y]]
        if rule.number in visitor.bursts:
            visitor.bursts.remove(rule.number)
        return None
    marks.append([ts, event.event_id, x, y])
    if len(marks) > rule.count:
        del marks[0]
    if len(marks) < rule.count or rule.number in visitor.bursts:
        return None
    return [mark[1] for mark in marks]


def _counted(
    rule: Rule, compared: Callable[[Visitor, Any], Any] | None, visitor: Visitor, event: Event
) -> list[str] | None:
    """Count events within a time; what is ``compared`` has to be the same throughout, or different."""
    ts = event.ts
    value = None if compared is None else compared(visitor, event)
    marks = visitor.marks.get(rule.number)
    if marks is None:
        visitor.marks[rule.number] = [[ts, event.event_id, value]]
        return None
    if ts - marks[0][0] > rule.within_ms:
        marks[:] = [mark for mark in marks if ts - mark[0] <= rule.within_ms]
    if rule.same_pages:
        if marks and marks[-1][2] != value:
            marks.clear()
    elif rule.distinct:
        marks[:] = [mark for mark in marks if mark[2] != value]
    marks.append([ts, event.event_id, value])
    if len(marks) > rule.count:
        del marks[0]
    if len(marks) < rule.count:
        return None
    return [mark[1] for mark in marks]


def _pair(visitor: Visitor, _: Event) -> list[str]:
    """Return the two pages that a returning user goes between, whichever he is on."""
    return sorted((visitor.place, visitor.before))


def _path(_: Visitor, event: Any) -> str:
    return path_of(event.url)


def _field(getter: Callable[[Any], Any], _: Visitor, event: Event) -> Any:
    return getter(event)
