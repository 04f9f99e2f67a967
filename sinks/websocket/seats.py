"""How many connections each address has: who is many must not take everybody's place."""

from collections import Counter


class Seats:
    """Counts by name, at most so many each. ``take`` and ``free`` go in pairs."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._taken: Counter[object] = Counter()

    def __len__(self) -> int:
        return len(self._taken)

    def is_full(self, name: object) -> bool:
        """Return whether this one has all that it may have."""
        return self._taken[name] >= self._at_most if name in self._taken else False

    def take(self, name: object) -> None:
        """Count one more."""
        self._taken[name] += 1

    def free(self, name: object) -> None:
        """Count one less, and forget the name at the last."""
        self._taken[name] -= 1
        if not self._taken[name]:
            del self._taken[name]
