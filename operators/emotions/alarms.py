"""When waits run out: the earliest first, one entry for each user and rule, however often the wait begins anew."""

import heapq
from collections.abc import Iterator
from typing import NamedTuple

from operators.emotions.visitor import Visitor


class Alarm(NamedTuple):
    """A wait of a user (by digest) of a session that runs out at ``due`` (ms), unless it has begun anew since."""

    due: int
    key: str
    digest: int
    rule: int


class Alarms:
    """The alarms of one partition's sessions."""

    def __init__(self) -> None:
        self._heap: list[Alarm] = []

    def set(self, key: str, visitor: Visitor) -> None:
        """See to it that every wait of a user has an alarm at its time or before."""
        for rule, wait in visitor.waits.items():
            if not visitor.alarms >> rule & 1:
                visitor.alarms |= 1 << rule
                heapq.heappush(self._heap, Alarm(wait[0], key, visitor.digest, rule))

    def ring(self, until: int) -> Iterator[Alarm]:
        """Take the alarms up to a time (ms, included); of whoever waits on, they have to be set anew."""
        while self._heap and self._heap[0].due <= until:
            yield heapq.heappop(self._heap)
