"""What is remembered of one user of a session for the rules: a few recent marks, bounded by the rules themselves."""

from typing import Any, Final

import msgspec

from operators.config import PANE_MS

MOST_SEEN: Final = 512
"""Event ids that are remembered of a user to take out repeats, where he sends so many within the lateness."""
_FEW: Final = 16


class Visitor(msgspec.Struct, array_like=True, gc=False):
    """The state of one user. Times in ms; dictionaries are by the rule's number.

    ``digest`` is the user's number in the columns. ``place`` and ``before`` are the last two pages that
    were viewed.
    ``turned`` holds the last value of a field that a pattern watches. ``marks`` are events on their way to a count, as
    [ts, event_id, what is compared], ``bursts`` the rules whose row of events has been told of. ``steps`` are how
    far a rule's ``after`` has come: for each of its patterns the newest row of events up to it, as [ts, event_id].
    ``waits`` are [due, event ids]. ``shown`` is when each rule last told something.
    """

    user_id: str
    digest: int
    last: int = 0
    page: str = ""
    place: str = ""
    before: str = ""
    settled: bool = False
    seen: dict[str, int] = msgspec.field(default_factory=dict)
    turned: dict[int, Any] = msgspec.field(default_factory=dict)
    marks: dict[int, list[Any]] = msgspec.field(default_factory=dict)
    bursts: list[int] = msgspec.field(default_factory=list)
    steps: dict[int, list[Any]] = msgspec.field(default_factory=dict)
    waits: dict[int, list[Any]] = msgspec.field(default_factory=dict)
    shown: dict[int, int] = msgspec.field(default_factory=dict)

    def is_repeat(self, event_id: str, ts: int, lateness_ms: int) -> bool:
        """Remember an event; True if it was there already.

        A repeat has the same time, so an id is needed only while an event of its time would still be accepted.
        """
        seen = self.seen
        if seen.get(event_id) == ts:
            return True
        if len(seen) >= _FEW:
            oldest = max(ts, self.last) - lateness_ms - PANE_MS
            self.seen = seen = {name: when for name, when in seen.items() if when >= oldest}
            if len(seen) >= MOST_SEEN:
                del seen[next(iter(seen))]
        seen[event_id] = ts
        return False

    def forget(self) -> None:
        """Forget what is on its way to a rule; where the user is, and whether he has ordered, stays."""
        self.seen, self.marks, self.steps, self.shown, self.waits = {}, {}, {}, {}, {}
        self.bursts = []
