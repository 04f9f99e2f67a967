"""Stamps events on the server: a device's clock says how far apart they are, ours says when that was.

A repeat must have the stamp of the first time, or it would count twice; and the first one may already be in Kafka when
its answer is lost. Memory alone does not do: it is one process's, and the next collector knows nothing of it. So an
answer tells the offset, and what is sent with that offset has the same stamps at every collector, and at one that was
started again, however long each request was on its way. For a sender that brings none the first stamp of an event is
remembered for as long as it could still be in time.
"""

from hashlib import blake2b
from typing import Final

MEMORY_MS: Final = 60_000
KEPT: Final = 131_072
AHEAD_MS: Final = 2_000
"""How far an offset may put an event beyond now: the request that asked for it was on its way for a part of this, and
another collector's clock may be behind. The flow takes what is up to 5 s ahead."""


def offsets(sent_at: int, brought: int | None, now: int, late_after: int) -> tuple[int, int]:
    """Return what makes a device's times ours, and what its next batches should bring; all in milliseconds.

    What is ``brought`` is believed as long as by it what was sent at once is neither ahead nor late: this request is
    slow then, or the one that asked for the offset was. What is told is a fresh one as soon as the other is off: the
    device's clock may have been set.

    >>> offsets(sent_at=1_000, brought=None, now=50_000, late_after=7_000)
    (49000, 49000)
    >>> [offsets(1_000, 49_000, at, 7_000) for at in (48_000, 51_900, 54_000)]
    [(49000, 49000), (49000, 49000), (49000, 53000)]
    >>> [offsets(1_000, 49_000, at, 7_000) for at in (47_999, 57_001)]
    [(46999, 46999), (56001, 56001)]
    """
    fresh = now - sent_at
    if brought is None:
        return fresh, fresh
    used = brought if -AHEAD_MS <= fresh - brought <= max(late_after, AHEAD_MS) else fresh
    return used, brought if abs(fresh - brought) <= AHEAD_MS else fresh


class Stamps:
    """Remembers the first stamps of the latest events; ``now`` is milliseconds since 1970 UTC.

    >>> stamps = Stamps()
    >>> stamps.first(("t", "s", "u", "e1"), 5_000, now=5_100), stamps.first(("t", "s", "u", "e1"), 5_040, now=5_200)
    (5000, 5000)
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._given: dict[bytes, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._given)

    def first(self, event: tuple[str, ...], ts: int, now: int) -> int:
        """Return the stamp that an event was first given, which is this one if none was lately.

        ``event`` are tenant, session, user and ``event_id``: of these only the last may hold any character.
        """
        digest = blake2b("\0".join(event).encode(), digest_size=16).digest()
        if known := self._given.get(digest):
            return known[0]
        self._given[digest] = ts, now
        while len(self._given) > self._kept or self._oldest() <= now - MEMORY_MS:
            del self._given[next(iter(self._given))]
        return ts

    def _oldest(self) -> int:
        return self._given[next(iter(self._given))][1]
