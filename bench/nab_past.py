"""What a detector of one raw series remembers of it: ordered values, times of day, patterns and heights of alerts."""

from bisect import bisect_left, insort
from collections import deque

import numpy as np
import numpy.typing as npt

DAY_S = 86_400


class Ordered:
    """The newest ``size`` values, kept in order of size beside their order in time.

    >>> past = Ordered(3)
    >>> for value in (9.0, 1.0, 2.0, 4.0):
    ...     past.add(value)
    >>> past.quantile(0.0), past.quantile(0.75), past.quantile(1.0)
    (1.0, 3.0, 4.0)
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._in_time: deque[float] = deque()
        self._in_order: list[float] = []

    def __len__(self) -> int:
        return len(self._in_order)

    def add(self, value: float) -> None:
        """Take a value in; the oldest one makes room for it."""
        if len(self._in_time) == self._size:
            del self._in_order[bisect_left(self._in_order, self._in_time.popleft())]
        self._in_time.append(value)
        insort(self._in_order, value)

    def quantile(self, share: float) -> float:
        """Return the value that this share of the others lies below, on the line between the two next to it."""
        at = share * (len(self._in_order) - 1)
        low = int(at)
        below, above = self._in_order[low], self._in_order[min(low + 1, len(self._in_order) - 1)]
        return below + (at - low) * (above - below)


class TimeOfDay:
    """What was seen at this time of earlier days: the newest ``kept`` values of each slot of ``slot_s`` seconds.

    >>> usual = TimeOfDay(slot_s=3_600, kept=5)
    >>> usual.learn(7_200, 4.0)
    >>> usual.expected(7_300), usual.expected(18_000)
    (4.0, None)
    """

    def __init__(self, slot_s: int, kept: int) -> None:
        self._slot_s = slot_s
        self._seen: list[deque[float]] = [deque(maxlen=kept) for _ in range(-(-DAY_S // slot_s))]

    def expected(self, second: int) -> float | None:
        """Return the median over the slot of this second of the day and its two neighbours; None for a new slot."""
        slot = second // self._slot_s
        if not self._seen[slot]:
            return None
        around = sorted([*self._seen[slot - 1], *self._seen[slot], *self._seen[(slot + 1) % len(self._seen)]])
        half = len(around) // 2
        return around[half] if len(around) % 2 else (around[half - 1] + around[half]) / 2

    def learn(self, second: int, value: float) -> None:
        """Take in what was seen at this second of the day."""
        self._seen[second // self._slot_s].append(value)


class Patterns:
    """The newest ``size`` patterns that looked like alerts, none of them younger than ``lag`` rows.

    The lag keeps a lasting event from silencing itself. That what has been alerted before is no news is the idea of
    the contextual detector of Smirnov, "CAD OSE" (github.com/smirmik/CAD), which compares contexts of bits.
    """

    def __init__(self, features: int, size: int, lag: int) -> None:
        self._lag = lag
        self._waiting: deque[tuple[int, list[float]]] = deque()
        self._stored = np.empty((size, features))
        self._count = 0

    def novelty(self, row: int, pattern: list[float]) -> float:
        """Return the distance to the nearest pattern stored, as a share of this one's own length; 1 if none is."""
        while self._waiting and self._waiting[0][0] <= row - self._lag:
            self._stored[self._count % len(self._stored)] = self._waiting.popleft()[1]
            self._count += 1
        here: npt.NDArray[np.float64] = np.array(pattern)
        length = float((here**2).sum())
        if not self._count or not length:
            return 1.0
        apart = ((self._stored[: self._count] - here) ** 2).sum(axis=1)
        return float(np.sqrt(apart.min() / length))

    def learn(self, row: int, pattern: list[float]) -> None:
        """Store a pattern, to be compared with those of rows at least ``lag`` later."""
        self._waiting.append((row, pattern))


class Heights:
    """The highest score among the newest rows, as many as ``share`` of all rows so far.

    To beat them is to be in the topmost part of the series' own scores, whatever their distribution; and what is asked
    grows with the series, as does the span that one event can take.

    >>> heights = Heights(0.5)
    >>> [heights.beaten_by(score) for score in (3.0, 1.0, 4.0, 2.0, 3.0)]
    [True, True, True, False, False]
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._row = 0
        self._falling: deque[tuple[int, float]] = deque()
        """Rows with a score that no later one has reached: the first is the highest."""

    def beaten_by(self, score: float) -> bool:
        """Return whether this score is above all of those, and take it in."""
        first = self._row - int(self._share * self._row)
        while self._falling and self._falling[0][0] < first:
            self._falling.popleft()
        highest = not self._falling or score > self._falling[0][1]
        while self._falling and self._falling[-1][1] <= score:
            self._falling.pop()
        self._falling.append((self._row, score))
        self._row += 1
        return highest
