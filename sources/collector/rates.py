"""How much each of many may send: a rate with short bursts, kept as one number for each."""

from typing import Final

KEPT: Final = 65_536
"""Names that are remembered; the one that was quiet for longest is forgotten first."""


class Rates:
    """The generic cell rate algorithm (ITU-T I.371): each name has a time at which its burst is whole again.

    A name whose time has come is as good as unknown, so the table holds only who sent lately. ``now`` is any clock in
    seconds that only goes forward.

    >>> rates = Rates(kept=2)
    >>> [rates.take("a", 1, per_s=1.0, burst=2, now=0.0) for _ in range(3)]
    [0.0, 0.0, 1.0]
    >>> rates.take("a", 1, per_s=1.0, burst=2, now=1.0)
    0.0
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._whole_at: dict[str, float] = {}
        self._kept = kept

    def __len__(self) -> int:
        return len(self._whole_at)

    def take(self, name: str, amount: float, per_s: float, burst: float, now: float) -> float:
        """Spend ``amount`` (at most ``burst``) and return 0, or spend nothing and return the seconds to wait."""
        whole_at = max(now, self._whole_at.get(name, now)) + amount / per_s
        if (wait := whole_at - now - burst / per_s) > 1e-9:
            return wait
        # Put behind all others: the first ones are those that were quiet for longest.
        self._whole_at.pop(name, None)
        self._whole_at[name] = whole_at
        while len(self._whole_at) > self._kept or self._whole_at[next(iter(self._whole_at))] <= now:
            del self._whole_at[next(iter(self._whole_at))]
        return 0.0
