"""When waits run out: the earliest first, one entry for each user and rule, however often the wait begins anew."""

import heapq
from collections.abc import Iterator
from typing import NamedTuple


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
        self._set: set[tuple[str, int, int]] = set()

    def set(self, key: str, digest: int, waits: dict[int, list[object]]) -> None:
        """See to it that every wait of a user has an alarm at its time or before."""
        for rule, wait in waits.items():
            name = (key, digest, rule)
            if name not in self._set:
                self._set.add(name)
                heapq.heappush(self._heap, Alarm(int(wait[0]), *name))  # type: ignore[call-overload]  # a time

    def ring(self, until: int) -> Iterator[Alarm]:
        """Take the alarms up to a time (ms, included); whoever still waits has to set his anew."""
        while self._heap and self._heap[0].due <= until:
            alarm = heapq.heappop(self._heap)
            self._set.discard(alarm[1:])
            yield alarm
