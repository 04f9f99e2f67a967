"""Which sessions' scores are wanted at which ticks, so that the effect of an intervention can be told."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from operators.config import NEVER, PANE_MS
from operators.interventions.cues import EFFECT_MS
from operators.presence import LONG_AGO
from operators.settle import Closed

_KEPT_MS: Final = 4 * PANE_MS
"""How far back the scores of sessions in which somebody waits are kept: what he fails to do is told a little later."""

Answered = tuple[str, int, float, bool]
"""Session (by key), tick and score, and whether that was closed with an earlier chunk."""


class Wanted:
    """The ticks of one partition's sessions (by key) that somebody waits for, each with the time since when."""

    def __init__(
        self, ticks: dict[str, dict[int, int]] | None = None, kept: dict[str, dict[int, float]] | None = None
    ) -> None:
        self.ticks = ticks or {}
        self.kept = kept or {}
        self._count = Counter(tick for wanted in self.ticks.values() for tick in wanted)
        """How many sessions want each tick."""
        self._newly: dict[str, None] = {}
        self._tidied = LONG_AGO

    def add(self, key: str, tick: int, since: int) -> None:
        """Want the score of a session at a tick and 60 s later, because of something at ``since`` (ms)."""
        wanted = self.ticks.setdefault(key, {})
        for when in (tick, tick + EFFECT_MS):
            if when not in wanted:
                self._count[when] += 1
            wanted[when] = max(since, wanted.get(when, since))
        self._newly[key] = None

    def take(self, closed: Sequence[Closed], waits: Callable[[str], bool], clock: int) -> list[Answered]:
        """Return what is wanted and known; keep what those may want who wait: ``waits`` tells of a session if any do.

        An approval wants the tick behind the stream time (``clock``, ms), which events ahead of it may have closed, so
        such ticks are kept as well. What is not needed any more goes at one of the next closings.
        """
        answered: list[Answered] = []
        for closing in closed:
            ahead = closing.ts.max(initial=0) > clock
            named = [i for i, key in enumerate(closing.keys) if ahead or key in self.ticks or waits(key)]
            if not named:
                continue
            begins = np.searchsorted(closing.session, named).tolist()
            ends = np.searchsorted(closing.session, named, side="right").tolist()
            ticks, scores = closing.ts.tolist(), closing.scores.score.tolist()
            for i, begin, end in zip(named, begins, ends, strict=True):
                key = closing.keys[i]
                if key in self.ticks:  # before the newest push out of what is kept what was closed with them
                    places = _places(ticks, begin, end, self.ticks[key])
                    self._answer(key, {ticks[at]: scores[at] for at in places}, answered, earlier=False)
                    if key in self.kept:
                        self._answer(key, self.kept[key], answered, earlier=True)
                if begin < end and (ticks[end - 1] > clock or waits(key)):
                    self._keep(key, ticks[begin:end], scores[begin:end])
        if self._newly and self.kept:  # what was wanted before was answered when it was kept
            for key in self._newly:
                if key in self.kept:
                    self._answer(key, self.kept[key], answered, earlier=True)
        self._newly.clear()
        if closed and clock // PANE_MS != self._tidied:
            self._tidied = clock // PANE_MS
            for key in [key for key, kept in self.kept.items() if max(kept) <= clock and not waits(key)]:
                del self.kept[key]
        return answered

    def _keep(self, key: str, ticks: list[int], scores: list[float]) -> None:
        """Keep a session's newest scores; ticks are ascending."""
        oldest = ticks[-1] - _KEPT_MS
        newer = bisect_right(ticks, oldest)
        kept = self.kept.setdefault(key, {})
        kept.update(zip(ticks[newer:], scores[newer:], strict=True))
        while (first := next(iter(kept))) <= oldest:
            del kept[first]

    def missing(self, until: int) -> Iterator[tuple[str, int]]:
        """Yield session and tick of what was wanted by ``until`` (ms, included) and was not closed: silence."""
        if min(self._count, default=NEVER) > until:
            return
        for key in list(self.ticks):
            yield from ((key, tick) for tick in self._drop(key, [t for t in self.ticks[key] if t <= until]))

    def over(self, key: str, ended: int) -> Iterator[int]:
        """Yield the ticks that will not come any more because the session is over at ``ended`` (ms)."""
        yield from self._drop(key, [t for t, since in self.ticks.get(key, {}).items() if since <= ended < t])

    def _answer(self, key: str, found: dict[int, float], answered: list[Answered], *, earlier: bool) -> None:
        known = self.ticks.get(key)
        if known and found and (ticks := known.keys() & found.keys()):
            answered += [(key, tick, found[tick], earlier) for tick in self._drop(key, ticks)]

    def _drop(self, key: str, ticks: Iterable[int]) -> list[int]:
        dropped = sorted(ticks)
        for tick in dropped:
            del self.ticks[key][tick]
            self._count[tick] -= 1
            if not self._count[tick]:
                del self._count[tick]
        if dropped and not self.ticks[key]:
            del self.ticks[key]
        return dropped


def _places(ticks: list[int], begin: int, end: int, wanted: Collection[int]) -> list[int]:
    """Return where the wanted ticks stand in a part of all, which ascends there."""
    if end - begin <= len(wanted):
        return [at for at in range(begin, end) if ticks[at] in wanted]
    found = (bisect_left(ticks, tick, begin, end) for tick in wanted)
    return [at for at, tick in zip(found, wanted, strict=True) if at < end and ticks[at] == tick]
