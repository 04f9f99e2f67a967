"""Stamps events on the server: a device's clock says how far apart they are, ours says when that was.

A repeat must have the stamp of the first time, or it would count twice; and the first one may already be in Kafka when
its answer is lost. So the first stamp of an event is remembered for as long as it could still be in time. That memory
is one process's: an answer therefore tells the offset, and a sender that brings it with its next batches is stamped
equally by every collector, and by one that was started again.
"""

from hashlib import blake2b
from typing import Final

MEMORY_MS: Final = 60_000
KEPT: Final = 131_072
WAY_MS: Final = 2_000
"""How long a request may be on its way before it is taken for a clock that was set back."""


def offset(sent_at: int, brought: int | None, now: int) -> int:
    """Return what makes a device's times ours.

    What an earlier answer said (``brought``) holds while it agrees with the device's clock. It must not put the sending
    beyond now: then the earlier way was slower than this one. And not further back than a way takes: then the clock has
    been set.

    >>> offset(sent_at=1_000, brought=None, now=50_000)
    49000
    >>> offset(sent_at=1_000, brought=48_900, now=50_000)
    48900
    >>> offset(sent_at=1_000, brought=49_001, now=50_000)
    49000
    """
    fresh = now - sent_at
    return brought if brought is not None and fresh - WAY_MS <= brought <= fresh else fresh


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
