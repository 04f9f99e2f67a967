"""Which poll runs, and how much of the audience takes part. Polls are rare and depend on order: one event at a time."""

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from operators.kinds import POLL_CLOSED, POLL_OPENED
from operators.presence import LONG_AGO

ENDED_KEPT = 32
"""Ended polls that a session remembers, so that a straggling vote does not start one of them again."""


class PollEvent(NamedTuple):
    """A poll's event: ``kind`` of ``operators.kinds``, digests of poll and user, time, heads present right after."""

    kind: int
    poll: int
    user: int
    ts: int
    present: int


class Change(NamedTuple):
    """From just after ``ts`` on, participation is ``value``, until ``expires`` (ms, exclusive) or the next change."""

    ts: int
    value: float
    expires: int


class Polls(msgspec.Struct):
    """The polls of one session: the running one (0: none), its audience and voters, and those that ended."""

    running: int = 0
    base: int = 0
    expires: int = LONG_AGO
    voters: set[int] = msgspec.field(default_factory=set)
    ended: list[int] = msgspec.field(default_factory=list)

    def value(self) -> float:
        """Return distinct voters by those present when the poll began, 0..1; 0 when none runs."""
        return min(1.0, len(self.voters) / max(1, self.base)) if self.running else 0.0

    def take(self, events: Iterable[PollEvent], timeout_ms: int) -> list[Change]:
        """Apply events in order; return what participation was, beginning with what it is before them.

        A poll runs from its opening or, unless it ran before, its first vote, until it is closed, another begins, or
        ``timeout_ms`` went by without a vote for it.
        """
        changes = [Change(LONG_AGO, self.value(), self.expires)]
        for event in events:
            if self.running and event.ts >= self.expires:
                self._end()
            if event.kind == POLL_CLOSED:
                self._close(event.poll)
            elif event.kind == POLL_OPENED:
                if event.poll != self.running:
                    self._begin(event, timeout_ms)
            else:
                if event.poll != self.running and event.poll not in self.ended:
                    self._begin(event, timeout_ms)
                if event.poll == self.running:
                    self.voters.add(event.user)
                    self.expires = event.ts + timeout_ms
            changes.append(Change(event.ts, self.value(), self.expires))
        return changes

    def _begin(self, event: PollEvent, timeout_ms: int) -> None:
        if self.running:
            self._end()
        self.running, self.base, self.expires = event.poll, event.present, event.ts + timeout_ms

    def _close(self, poll: int) -> None:
        if poll == self.running:
            self._end()
        else:
            self._remember(poll)

    def _end(self) -> None:
        self._remember(self.running)
        self.running, self.voters = 0, set()

    def _remember(self, poll: int) -> None:
        if poll in self.ended:
            self.ended.remove(poll)
        self.ended.append(poll)
        del self.ended[:-ENDED_KEPT]
