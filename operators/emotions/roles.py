"""What an event's mask means to the sieve: which rules it follows itself, and what is left to the matcher.

Three things make up most of what visitors do, and of each only the newest event can ever matter, unless another comes
close behind: an event of a count with none like it before it in its time, a single ``after``, and what makes silence
worth telling. Such an event is put by; the matcher sees it only when another asks for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from operators.columns import Flags, Int64s, offsets
from operators.emotions.patterns import History
from operators.emotions.rules import Rule, Rules
from operators.emotions.sorter import OBSERVED, TRACKED, Sorter, union
from schemas.inbound import Event


@dataclass(frozen=True, slots=True)
class Slot:
    """A rule of which the newest event is put by until another asks for it within ``window_ms``.

    ``distinct`` is which of the values that have to be different it compares, if any.
    """

    rule: Rule
    window_ms: int
    distinct: int | None


class Part(NamedTuple):
    """What an event is to a ``slot``: one that ``asks`` there, or one ``counted`` among those that others ask for."""

    slot: int
    window_ms: int
    asks: bool
    counted: bool


class Turning(NamedTuple):
    """What is meant by a mask once it is known whether a value turns; ``which`` of the turns that is."""

    which: int
    does: int
    does_not: int


class Traits(NamedTuple):
    """Roles as columns, by their number, of shape (roles,); what is said of their parts has shape (parts,).

    ``looked_at``: the matcher may have to see its events, whatever came before. ``arms`` has shape (roles, silences).
    ``of_past``: what its events are depends on those before. Its parts are those from ``parts_at``, ``parts`` of them.
    """

    looked_at: Flags
    begins: Flags
    goes_on: Flags
    of_past: Flags
    arms: npt.NDArray[np.bool_]
    parts: Int64s
    parts_at: Int64s
    part: list[Part]
    slot: Int64s
    asks: Flags
    counted: Flags


@dataclass(frozen=True, slots=True)
class Role:
    """What events of one mask are to the sieve; roles are numbered as they are met.

    ``parts`` are theirs in slots. ``arms`` are the silences that they begin. ``direct``: the matcher has to
    see them; ``waits``: something may be waited for then; ``begins``: one of the lasting rules may be on its way then;
    ``goes_on``: the matcher has to see them if one is.

    Of a mask of which some depends on the past: what it ``turns`` on first, and whether it ``looks_back`` on pages.
    """

    mask: int
    number: int = 0
    parts: tuple[Part, ...] = ()
    arms: tuple[int, ...] = ()
    direct: bool = False
    waits: bool = False
    begins: bool = False
    goes_on: bool = False
    turns: Turning | None = None
    looks_back: bool = False


class Roles(dict[int, Role]):
    """The roles of masks, each worked out when it is met first."""

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self._rules = rules
        self.turns: tuple[tuple[int, History], ...] = tuple(
            (bit, entry) for bit, entry in rules.patterns.history.items() if entry.kind == "turned"
        )
        self.past: tuple[tuple[int, History], ...] = tuple(
            (bit, entry) for bit, entry in rules.patterns.history.items() if entry.kind != "turned"
        )
        self._returned = union(bit for bit, entry in self.past if entry.kind == "returned")
        self.of_past = union(bit for bit, _ in self.past) | TRACKED
        distinct = {field: at for at, field in enumerate(_distinct(rules))}
        self.slots = tuple(
            Slot(rule, rule.gap_ms or rule.within_ms, distinct.get(rule.distinct))
            for rule in rules.rules
            if _is_slot(rule)
        )
        self.silences = tuple(r for r in rules.rules if r.unless_anything and r.count == 1 and not r.after)
        self.windows: Int64s = np.array([slot.window_ms for slot in self.slots], np.int64)
        self.waiting = union(1 << at for at, slot in enumerate(self.slots) if slot.rule.for_ms)
        """A bit for each slot whose rule waits for what fails to follow."""
        self.slot_of = {slot.rule.number: at for at, slot in enumerate(self.slots)}
        self.silent = frozenset(rule.number for rule in self.silences)
        self.by_number: list[Role] = []
        self._traits: Traits | None = None
        self._looked_back: dict[tuple[int, int, bool, bool], Role] = {}
        self.lasting = frozenset(r.number for r in rules.rules if r.same_pages or len(r.after) > 1)
        """The rules of which several events are on their way, whatever comes between: of them the matcher sees all."""

    def __missing__(self, mask: int) -> Role:
        role = self[mask] = self._role(mask)
        self.by_number.append(role)
        self._traits = None
        return role

    @property
    def traits(self) -> Traits:
        """Return the roles that were met as columns."""
        if self._traits is None:
            self._traits = self._columns()
        return self._traits

    def _columns(self) -> Traits:
        roles = self.by_number
        parts = [part for role in roles for part in role.parts]
        counts = np.array([len(role.parts) for role in roles], np.int64)
        return Traits(
            looked_at=np.array([role.direct or role.waits or role.begins for role in roles], np.bool_),
            begins=np.array([role.begins for role in roles], np.bool_),
            goes_on=np.array([role.goes_on for role in roles], np.bool_),
            of_past=np.array([role.looks_back or role.turns is not None for role in roles], np.bool_),
            arms=np.array([[at in role.arms for at in range(len(self.silences))] for role in roles], np.bool_),
            parts=counts,
            parts_at=offsets(counts)[:-1],
            part=parts,
            slot=np.array([part.slot for part in parts], np.int64),
            asks=np.array([part.asks for part in parts], np.bool_),
            counted=np.array([part.counted for part in parts], np.bool_),
        )

    def looked_back(self, role: Role, came: int, *, returns: bool, elsewhere: bool) -> Role:
        """Return the role of an event once it is known what holds of the past.

        ``came`` has the bits of the patterns that ask for the page viewed before. ``TRACKED`` is left where a view
        leads ``elsewhere`` than back.
        """
        asked = role.mask, came, returns, elsewhere
        found = self._looked_back.get(asked)
        if found is None:
            found = self._looked_back[asked] = self[self._past(*asked)]
        return found

    def _past(self, mask: int, came: int, returns: bool, elsewhere: bool) -> int:
        out = mask & ~self.of_past
        if elsewhere and mask & self._returned:
            out |= TRACKED
        for bit, entry in self.past:
            if mask & bit and (returns if entry.kind == "returned" else came & bit):
                out |= entry.bit
        return out

    def _role(self, mask: int) -> Role:
        if mask == OBSERVED:
            return Role(mask, len(self.by_number), direct=True)
        parts: list[Part] = []
        direct = bool(mask & self._rules.settled_by)
        waits = begins = False
        goes_on = bool(mask & TRACKED)
        for rule in self._rules.rules:
            slot = self.slot_of.get(rule.number)
            on = bool(rule.on & mask)
            if rule.number in self.silent:
                continue
            if slot is None:
                waits |= bool(rule.for_ms) and on
                first = bool(rule.after and rule.after[0] & mask)
                direct |= on or first
                begins |= rule.number in self.lasting and (on or first)
                goes_on |= bool(union(rule.after) & mask)
            elif on or union(rule.after) & mask:
                counted = rule.count > 1 or bool(rule.after[0] & mask)
                parts.append(Part(slot, self.slots[slot].window_ms, on, counted))
        return Role(
            mask,
            len(self.by_number),
            tuple(parts),
            tuple(at for at, rule in enumerate(self.silences) if rule.on & mask),
            direct,
            waits,
            begins,
            goes_on,
            turns=next(self._turnings(mask), None),
            looks_back=bool(mask & self.of_past),
        )

    def _turnings(self, mask: int) -> Iterator[Turning]:
        for which, (bit, entry) in enumerate(self.turns):
            if mask & bit:
                rest = mask & ~bit
                yield Turning(which, rest | entry.bit, rest)


def sorters_of(rules: Rules) -> dict[type[Event], Sorter]:
    """Return what tells the events apart that rules ask for, by type."""
    return rules.patterns.sorters(_distinct(rules), union(rule.on for rule in rules.rules if rule.gap_ms))


def _is_slot(rule: Rule) -> bool:
    return (rule.count > 1 and not rule.same_pages) or len(rule.after) == 1


def _distinct(rules: Rules) -> dict[str, int]:
    """Return the fields whose values have to be different, each with the bits of the patterns of whose events."""
    out: dict[str, int] = {}
    for rule in rules.rules:
        if rule.distinct:
            out[rule.distinct] = out.get(rule.distinct, 0) | rule.on
    return out
