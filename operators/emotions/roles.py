"""What an event's mask means to the columns: which rules they follow themselves, and what is left to the matcher.

Three things make up most of what visitors do, and of each only the newest event can ever matter, unless another comes
close behind: an event of a count with none like it before it in its time, a single ``after``, and what makes silence
worth telling. Such an event is put by; the matcher sees it only when another asks for it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.columns import Flags, Int64s
from operators.emotions.patterns import OBSERVED, TRACKED, History
from operators.emotions.rules import Rule, Rules


@dataclass(frozen=True, slots=True)
class Slot:
    """A rule of which the newest event is put by until another asks for it within ``window_ms``."""

    rule: Rule
    window_ms: int


@dataclass(frozen=True, slots=True)
class _Role:
    """What events of one mask are to the columns.

    ``slots`` are theirs: they ask there, or are ``counted`` among those that others ask for. ``arms`` has a bit for
    each silence that they begin. ``direct``: the matcher has to see them; ``waits``: something may be waited for then;
    ``begins``: one of the lasting rules may be on its way then; ``goes_on``: the matcher has to see them if one is.
    """

    slots: tuple[int, ...]
    asks: tuple[bool, ...]
    counted: tuple[bool, ...]
    arms: int
    direct: bool
    waits: bool = False
    begins: bool = False
    goes_on: bool = False


class Roles:
    """The roles of masks, by numbers that are given as masks are met."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.turns: tuple[tuple[int, History], ...] = tuple(
            (bit, entry) for bit, entry in rules.patterns.history.items() if entry.kind == "turned"
        )
        self.past: tuple[tuple[int, History], ...] = tuple(
            (bit, entry) for bit, entry in rules.patterns.history.items() if entry.kind != "turned"
        )
        self._returned = _any(bit for bit, entry in self.past if entry.kind == "returned")
        self.of_past = _any(bit for bit, _ in self.past) | TRACKED
        self.slots = tuple(
            Slot(rule, rule.gap_ms or rule.within_ms)
            for rule in rules.rules
            if (rule.count > 1 and not rule.same_pages) or len(rule.after) == 1
        )
        self.silences = tuple(r for r in rules.rules if r.unless_anything and r.count == 1 and not r.after)
        self.windows = np.array([slot.window_ms for slot in self.slots], np.int64)
        self.waiting: Flags = np.array([slot.rule.for_ms > 0 for slot in self.slots], np.bool_)
        self.slot_of = {slot.rule.number: at for at, slot in enumerate(self.slots)}
        self.silent = frozenset(rule.number for rule in self.silences)
        self.lasting = frozenset(r.number for r in rules.rules if r.same_pages or len(r.after) > 1)
        """The rules of which several events are on their way, whatever comes between: of them the matcher sees all."""
        self.masks: list[int] = []
        self._codes: dict[int, int] = {}
        self._turned: list[dict[int, int]] = [{} for _ in self.turns]
        self._looked_back: dict[int, int] = {}
        self._roles: list[_Role] = []
        self._tables()

    def codes(self, masks: list[int]) -> Int64s:
        """Return the number of each mask."""
        known = self._codes
        try:
            return np.array([known[mask] for mask in masks], np.int64)
        except KeyError:
            for mask in masks:
                if mask not in known:
                    known[mask] = len(self.masks)
                    self.masks.append(mask)
                    self._roles.append(self._role(mask))
            self._tables()
            return np.array([known[mask] for mask in masks], np.int64)

    def _tables(self) -> None:
        roles = self._roles
        self.direct: Flags = np.array([role.direct for role in roles], np.bool_)
        self.begins: Flags = np.array([role.begins for role in roles], np.bool_)
        self.goes_on: Flags = np.array([role.goes_on for role in roles], np.bool_)
        self.views: Flags = np.array([mask != OBSERVED and bool(mask & TRACKED) for mask in self.masks], np.bool_)
        self.looks_back: Flags = np.array(
            [mask != OBSERVED and bool(mask & self.of_past) for mask in self.masks], np.bool_
        )
        self.waits: Flags = np.array([role.waits for role in roles], np.bool_)
        self.arms: Int64s = np.array([role.arms for role in roles], np.int64)
        self.counts: Int64s = np.array([len(role.slots) for role in roles], np.int64)
        self.starts: Int64s = np.cumsum(self.counts) - self.counts
        self.slot: Int64s = np.array([slot for role in roles for slot in role.slots], np.int64)
        self.asks: Flags = np.array([ask for role in roles for ask in role.asks], np.bool_)
        self.counted: Flags = np.array([is_ for role in roles for is_ in role.counted], np.bool_)
        self.turning: list[Flags] = [
            np.array([mask != OBSERVED and bool(mask & bit) for mask in self.masks], np.bool_) for bit, _ in self.turns
        ]

    def turned(self, which: int, code: Int64s, does: Flags) -> Int64s:
        """Return the numbers of masks once it is known whether their events turn."""
        return self._once_known(self._turned[which], code * 2 + does, partial(self._of_turn, which))

    def looked_back(self, code: Int64s, holds: list[Flags], elsewhere: Flags) -> Int64s:
        """Return the numbers of masks once it is known what holds of the past.

        ``TRACKED`` is left where a view leads ``elsewhere`` than back.
        """
        mixed = code
        for flags in (*holds, elsewhere):
            mixed = mixed * 2 + flags
        return self._once_known(self._looked_back, mixed, self._seen)

    def _once_known(self, known: dict[int, int], mixed: Int64s, mask_of: Callable[[int], int]) -> Int64s:
        """Return the number of the mask that is meant by each of ``mixed``, which ``known`` remembers."""
        numbers = mixed.tolist()
        try:
            return np.array([known[number] for number in numbers], np.int64)
        except KeyError:
            new = [number for number in dict.fromkeys(numbers) if number not in known]
            known.update(zip(new, self.codes([mask_of(number) for number in new]).tolist(), strict=True))
            return np.array([known[number] for number in numbers], np.int64)

    def _of_turn(self, which: int, mixed: int) -> int:
        bit, entry = self.turns[which]
        mask = self.masks[mixed >> 1] & ~bit
        return mask | entry.bit if mixed & 1 else mask

    def _seen(self, mixed: int) -> int:
        mask = self.masks[mixed >> len(self.past) + 1]
        out = mask & ~self.of_past
        if mixed & 1 and mask & self._returned:
            out |= TRACKED
        for at, (bit, entry) in enumerate(reversed(self.past), 1):
            if mask & bit and mixed >> at & 1:
                out |= entry.bit
        return out

    def _role(self, mask: int) -> _Role:
        if mask == OBSERVED:
            return _Role((), (), (), 0, direct=True)
        slots: list[int] = []
        asks: list[bool] = []
        counted: list[bool] = []
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
                goes_on |= bool(_any(rule.after) & mask)
            elif on or _any(rule.after) & mask:
                slots.append(slot)
                asks.append(on)
                counted.append(rule.count > 1 or bool(rule.after[0] & mask))
        arms = sum(1 << at for at, rule in enumerate(self.silences) if rule.on & mask)
        return _Role(tuple(slots), tuple(asks), tuple(counted), arms, direct, waits, begins, goes_on)


def _any(bits: Iterable[int]) -> int:
    out = 0
    for bit in bits:
        out |= bit
    return out


def objects(items: list[Any]) -> npt.NDArray[np.object_]:
    """Return a column of objects."""
    out = np.empty(len(items), np.object_)
    out[:] = items
    return out
