"""Stamps events on the server: a device's clock says how far apart they are, ours says when that was.

A repeat must be stamped as the first time, or it would count twice. So what was decided for a batch is remembered under
its content (who sent it, and at what time of the device's clock) for as long as its events could still be in time. That
memory ends with the process; an answer therefore tells the offset, and a sender that gives it with its next batches is
stamped equally by every collector.
"""

from hashlib import blake2b
from typing import Final

MEMORY_S: Final = 60.0
KEPT: Final = 65_536


class Clocks:
    """Remembers the offsets (and stamps) that it gave. ``now`` is milliseconds since 1970 UTC.

    >>> clocks = Clocks(late_after_ms=7_000)
    >>> clocks.offset(("t", "s", "u"), sent_at=1_000, brought=None, now=50_000)
    49000
    >>> clocks.offset(("t", "s", "u"), sent_at=1_000, brought=None, now=53_000)
    49000
    """

    def __init__(self, late_after_ms: int, kept: int = KEPT) -> None:
        self._late_after_ms = late_after_ms
        self._kept = kept
        self._given: dict[bytes, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._given)

    def offset(self, sender: tuple[str, ...], sent_at: int, brought: int | None, now: int) -> int:
        """Return what makes the device's times ours, the same for a batch and its repeats.

        What an earlier answer said (``brought``) holds while the device's clock agrees with it: no later than now, and
        not so far behind that it must have been set since, as all events would be late.
        """
        fresh = now - sent_at
        if brought is not None and fresh - self._late_after_ms <= brought <= fresh:
            fresh = brought
        return self.once((*sender, str(sent_at)), fresh, now)

    def once(self, name: tuple[str, ...], value: int, now: int) -> int:
        """Return the value that was first given under a name, which is this one if none was lately."""
        digest = blake2b("\0".join(name).encode(), digest_size=16).digest()
        known = self._given.get(digest)
        if known is not None and now - known[1] < MEMORY_S * 1000:
            return known[0]
        self._given.pop(digest, None)
        self._given[digest] = value, now
        while len(self._given) > self._kept or self._is_over(now):
            del self._given[next(iter(self._given))]
        return value

    def _is_over(self, now: int) -> bool:
        return now - self._given[next(iter(self._given))][1] >= MEMORY_S * 1000
