"""Delivers events as a network does: each a little late, so that neighbours may change places."""

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from random import Random

from schemas.inbound import Event


def delayed(events: Iterable[Event], most_ms: float, seed: int) -> Iterator[Event]:
    """Yield events, which come in order of ``ts``, in the order in which they arrive: up to ``most_ms`` later.

    >>> from schemas.inbound import PresenceJoin
    >>> events = [PresenceJoin(str(ts), "t", "s", "u", ts) for ts in range(0, 6000, 1000)]
    >>> [event.ts for event in delayed(events, 3000, seed=1)]
    [0, 1000, 3000, 2000, 4000, 5000]
    """
    rng = Random(seed)  # noqa: S311 - data, not a secret
    under_way: list[tuple[float, int, Event]] = []
    for number, event in enumerate(events):
        while under_way and under_way[0][0] <= event.ts:
            yield heappop(under_way)[2]
        heappush(under_way, (event.ts + rng.random() * most_ms, number, event))
    while under_way:
        yield heappop(under_way)[2]
