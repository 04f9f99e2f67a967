"""A token bucket: how a steady rate with short bursts is told from a flood."""


class Budget:
    """So much a second, saved up to ``burst``; ``now`` is any clock in seconds. When it is set back, nothing is saved.

    >>> budget = Budget(rate=1.0, burst=2.0, now=0.0)
    >>> [budget.take(1.0, now=0.0) for _ in range(3)], budget.take(1.0, now=1.5)
    ([True, True, False], True)
    """

    __slots__ = ("_burst", "_rate", "_saved", "_then")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._saved = burst
        self._then = now

    def take(self, amount: float, now: float) -> bool:
        """Spend ``amount`` if that much is there."""
        if self.left(now) < amount:
            return False
        self._saved -= amount
        return True

    def charge(self, amount: float) -> None:
        """Spend ``amount`` whether it is there or not; a debt is worked off by time."""
        self._saved -= amount

    def left(self, now: float) -> float:
        """Return what is there now, below 0 for a debt."""
        self._saved = min(self._burst, self._saved + max(0.0, now - self._then) * self._rate)
        self._then = now
        return self._saved
