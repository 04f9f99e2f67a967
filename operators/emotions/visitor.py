"""What is remembered of one user of a session for the rules: a few recent marks, bounded by the rules themselves."""

from typing import Any

import msgspec


class Visitor(msgspec.Struct, array_like=True, gc=False):
    """The state of one user. Times in ms; dictionaries are by the rule's number.

    ``digest`` is the user's number in the columns. ``place`` and ``before`` are numbers of the
    last two pages that were viewed, when he last returned to one.
    ``marks`` are what has come of a rule so far:
    events on their way to a count, as [ts, event_id, what is compared], or of its ``after`` for each pattern the newest
    row of events up to it. ``bursts`` has a bit for each rule whose row of events has been told of. ``waits`` are
    [due, event ids]. ``shown`` is when each rule last told something. ``alarms`` has a bit for each rule for whose wait
    an alarm is set, and no wait runs out before ``due``.
    """

    user_id: str
    digest: int
    place: int = 0
    before: int = 0
    settled: bool = False
    bursts: int = 0
    marks: dict[int, list[Any]] = msgspec.field(default_factory=dict)
    waits: dict[int, list[Any]] = msgspec.field(default_factory=dict)
    shown: dict[int, int] = msgspec.field(default_factory=dict)
    alarms: int = 0
    due: int = 0

    def forget(self) -> None:
        """Forget what is on its way to a rule; where the user is, and whether he has ordered, stays."""
        self.marks, self.shown, self.waits = {}, {}, {}
        self.bursts = 0
