"""Which partitions answer nothing, for whoever asks whether the flow is ready."""

from threading import Lock


class Status:
    """Thread-safe: every part of every worker reports to it, the health endpoint reads it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._stalled: dict[str, frozenset[str]] = {}

    def report(self, part: str, stalled: frozenset[str]) -> None:
        """Replace what a part says of itself: the names (``topic[partition]``) of what answers nothing."""
        with self._lock:
            self._stalled[part] = stalled

    def forget(self, part: str) -> None:
        """Take a part that was closed out of the account."""
        with self._lock:
            self._stalled.pop(part, None)

    def stalled(self) -> list[str]:
        """Return the names of all partitions that answer nothing, sorted; empty when all is well."""
        with self._lock:
            return sorted(name for names in self._stalled.values() for name in names)
