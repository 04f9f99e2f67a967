"""Which partitions answer nothing and where nothing moves, for whoever asks whether the flow is ready."""

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from time import monotonic


@dataclass(slots=True)
class _Part:
    """What a part last said: who is silent, how much lies before it, where it is; and when it said so, and moved."""

    stalled: frozenset[str]
    lag: int
    position: int
    heard: float
    moved: float


class Status:
    """Thread-safe: every part of every worker reports to it, the health endpoint reads it. ``clock`` is in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._parts: dict[str, _Part] = {}

    def report(self, part: str, stalled: frozenset[str], *, lag: int = 0, position: int = 0) -> None:
        """Replace what a part says of itself.

        ``stalled`` are the names (``topic[partition]``) of what answers nothing; ``lag`` counts the records before it,
        ``position`` those behind it.
        """
        now = self._clock()
        with self._lock:
            before = self._parts.get(part)
            moves = before is None or lag == 0 or position != before.position
            moved = now if moves or before is None else before.moved
            self._parts[part] = _Part(stalled, lag, position, now, moved)

    def forget(self, part: str) -> None:
        """Take a part that was closed out of the account."""
        with self._lock:
            self._parts.pop(part, None)

    def stalled(self) -> list[str]:
        """Return the names of all partitions that answer nothing, sorted; empty when all is well."""
        with self._lock:
            return sorted(name for part in self._parts.values() for name in part.stalled)

    def stuck(self, after_s: float) -> list[str]:
        """Return the parts that have records before them and hand none on, or that nobody asks for any, for this long.

        The second is what a sink that waits looks like from here.
        """
        since = self._clock() - after_s
        with self._lock:
            return sorted(name for name, part in self._parts.items() if min(part.heard, part.moved) <= since)
