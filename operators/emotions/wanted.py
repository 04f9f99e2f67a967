"""Which sessions' scores are wanted at which ticks, so that the effect of an intervention can be told."""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

import numpy as np

from operators.config import NEVER, PANE_MS
from operators.interventions.cues import EFFECT_MS
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
        self._next = min((tick for wanted in self.ticks.values() for tick in wanted), default=NEVER)
        self._newly: dict[str, None] = {}

    def add(self, key: str, tick: int, since: int) -> None:
        """Want the score of a session at a tick and 60 s later, because of something at ``since`` (ms)."""
        wanted = self.ticks.setdefault(key, {})
        for when in (tick, tick + EFFECT_MS):
            wanted[when] = max(since, wanted.get(when, since))
        self._next = min(self._next, tick)
        self._newly[key] = None

    def take(self, closed: Sequence[Closed], waiting: Collection[str], clock: int) -> list[Answered]:
        """Return what is wanted and known; keep what those may want who wait, who matter only if something is closed.

        An approval wants the tick behind the stream time (``clock``, ms), which events ahead of it may have closed, so
        such ticks are kept as well. What is not needed any more goes at the next closing.
        """
        answered: list[Answered] = []
        for closing in closed:
            ahead = closing.ts.max(initial=0) > clock
            named = [i for i, key in enumerate(closing.keys) if ahead or key in waiting or key in self.ticks]
            if not named:
                continue
            begins = np.searchsorted(closing.session, named).tolist()
            ends = np.searchsorted(closing.session, named, side="right").tolist()
            ticks, scores = closing.ts.tolist(), closing.scores.score.tolist()
            for i, begin, end in zip(named, begins, ends, strict=True):
                key = closing.keys[i]
                if key in self.ticks:  # before the newest push out of what is kept what was closed with them
                    places = ((tick, bisect_left(ticks, tick, begin, end)) for tick in self.ticks[key])
                    found = {tick: scores[at] for tick, at in places if at < end and ticks[at] == tick}
                    self._answer(key, found, answered, earlier=False)
                    if key in self.kept:
                        self._answer(key, self.kept[key], answered, earlier=True)
                if begin < end and (key in waiting or ticks[end - 1] > clock):
                    self._keep(key, ticks[begin:end], scores[begin:end])
        if self._newly and self.kept:  # what was wanted before was answered when it was kept
            for key in self._newly:
                if key in self.kept:
                    self._answer(key, self.kept[key], answered, earlier=True)
        self._newly.clear()
        if closed:
            for key in self.kept.keys() - waiting:
                if max(self.kept[key]) <= clock:
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
        if until < self._next:
            return
        for key in list(self.ticks):
            yield from ((key, tick) for tick in self._drop(key, [t for t in self.ticks[key] if t <= until]))
        self._next = min((tick for wanted in self.ticks.values() for tick in wanted), default=NEVER)

    def over(self, key: str, ended: int) -> Iterator[int]:
        """Yield the ticks that will not come any more because the session is over at ``ended`` (ms)."""
        yield from self._drop(key, [t for t, since in self.ticks.get(key, {}).items() if since <= ended < t])

    def _answer(self, key: str, found: dict[int, float], answered: list[Answered], *, earlier: bool) -> None:
        known = self.ticks.get(key)
        if known and (ticks := known.keys() & found.keys()):
            answered += [(key, tick, found[tick], earlier) for tick in self._drop(key, ticks)]

    def _drop(self, key: str, ticks: Iterable[int]) -> list[int]:
        dropped = sorted(ticks)
        for tick in dropped:
            del self.ticks[key][tick]
        if dropped and not self.ticks[key]:
            del self.ticks[key]
        return dropped
