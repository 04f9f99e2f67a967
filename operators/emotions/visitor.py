"""What is remembered of one user of a session for the rules: a few recent marks, bounded by the rules themselves."""

from typing import Any, Final

import msgspec

from operators.config import PANE_MS

MOST_SEEN: Final = 512
"""Event ids that are remembered of a user to take out repeats, where he sends so many within the lateness."""
_FEW: Final = 16


class Visitor(msgspec.Struct, array_like=True, gc=False):
    """The state of one user. Times in ms; dictionaries are by the rule's number.

    ``digest`` is the user's number in the columns. ``place`` and ``before`` are the last two pages that were viewed.
    ``turned`` holds the last value of a field that a pattern watches. ``marks`` are what has come of a rule so far:
    events on their way to a count, as [ts, event_id, what is compared], or of its ``after`` for each pattern the newest
    row of events up to it. ``bursts`` has a bit for each rule whose row of events has been told of. ``waits`` are
    [due, event ids]. ``shown`` is when each rule last told something. ``alarms`` has a bit for each rule for whose wait
    an alarm is set, and no wait runs out before ``due``.
    """

    user_id: str
    digest: int
    last: int = 0
    page: str = ""
    place: str = ""
    before: str = ""
    settled: bool = False
    bursts: int = 0
    seen: dict[str, int] = msgspec.field(default_factory=dict)
    turned: dict[int, Any] = msgspec.field(default_factory=dict)
    marks: dict[int, list[Any]] = msgspec.field(default_factory=dict)
    waits: dict[int, list[Any]] = msgspec.field(default_factory=dict)
    shown: dict[int, int] = msgspec.field(default_factory=dict)
    alarms: int = 0
    due: int = 0

    def prune(self, ts: int, lateness_ms: int) -> None:
        """Keep the ids of those events alone of whose time another would still be accepted: a repeat has the same."""
        oldest = max(ts, self.last) - lateness_ms - PANE_MS
        self.seen = {name: when for name, when in self.seen.items() if when >= oldest}
        if len(self.seen) >= MOST_SEEN:
            del self.seen[next(iter(self.seen))]

    def is_repeat(self, event_id: str, ts: int, lateness_ms: int) -> bool:
        """Remember an event; True if it was there already."""
        seen = self.seen
        if event_id in seen and seen[event_id] == ts:
            return True
        if len(seen) >= _FEW:
            self.prune(ts, lateness_ms)
            seen = self.seen
        seen[event_id] = ts
        return False

    def forget(self) -> None:
        """Forget what is on its way to a rule; where the user is, and whether he has ordered, stays."""
        self.seen, self.marks, self.shown, self.waits = {}, {}, {}, {}
        self.bursts = 0
