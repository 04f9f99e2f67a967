"""When waits run out: the earliest first, one entry for each user and rule, however often the wait begins anew."""

import heapq
from collections.abc import Iterator
from typing import Final, NamedTuple

from operators.emotions.visitor import Visitor

_FEW: Final = 64
"""Entries of visitors who are gone that are let lie: to look for fewer costs more than they take."""


class Alarm(NamedTuple):
    """A wait of a user (by digest) of a session that runs out at ``due`` (ms), unless it has begun anew since.

    ``serial`` tells apart alarms that are otherwise the same: one left by a visitor who is gone, and a later one's.
    """

    due: int
    key: str
    digest: int
    rule: int
    serial: int
    visitor: Visitor


class Alarms:
    """The alarms of one partition's sessions. At most twice as many as visitors' waits, and a few."""

    def __init__(self) -> None:
        self._heap: list[Alarm] = []
        self._serial = 0
        self._gone = 0

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, key: str, visitor: Visitor) -> None:
        """See to it that every wait of a user has an alarm at its time or before."""
        for rule, wait in visitor.waits.items():
            if not visitor.alarms >> rule & 1:
                visitor.alarms |= 1 << rule
                self._serial += 1
                heapq.heappush(self._heap, Alarm(wait[0], key, visitor.digest, rule, self._serial, visitor))

    def ring(self, until: int) -> Iterator[Alarm]:
        """Take the alarms up to a time (ms, included); of whoever waits on, they have to be set anew."""
        while self._heap and self._heap[0].due <= until:
            alarm = heapq.heappop(self._heap)
            if _is_set(alarm):
                alarm.visitor.alarms &= ~(1 << alarm.rule)
                yield alarm
            else:
                self._gone -= 1

    def forget(self, visitor: Visitor) -> None:
        """Let go of the alarms of a visitor who is followed no more; the next of his name has his own."""
        self._gone += visitor.alarms.bit_count()
        visitor.alarms = 0
        if self._gone > _FEW and self._gone * 2 > len(self._heap):
            self._heap = [alarm for alarm in self._heap if _is_set(alarm)]
            heapq.heapify(self._heap)
            self._gone = 0


def _is_set(alarm: Alarm) -> bool:
    return bool(alarm.visitor.alarms >> alarm.rule & 1)
