"""What is remembered of an event on its way to a rule: its time, its id, and what the rule compares."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from operators.emotions.roles import Slot
from operators.emotions.rules import Rule
from operators.emotions.sorter import Past, short_path

_with_place = attrgetter("ts", "event_id", "x", "y")

Mark = tuple[Any, ...]
"""Time (ms), event id, and what is compared; of a rule's first ``after`` a row of one pair of time and id."""


_encode = msgspec.msgpack.Encoder().encode

unpacked: Callable[[bytes], Mark] = msgspec.msgpack.Decoder(tuple[Any, ...]).decode
"""Return the mark of an event that was put by."""


class Began(NamedTuple):
    """The event that began a silence: time (ms), event id, and whose it is."""

    ts: int
    event_id: str
    user_id: str

    @classmethod
    def of(cls, event: Any) -> "Began":
        """Return what is kept of an event."""
        return cls(event.ts, event.event_id, event.user_id)


def mark_of(slot: Slot) -> Callable[[int, str, Past | None], bytes]:
    """Return what makes the mark of an event that may be put by, packed, from its time (ms), its id and its past.

    Most marks are replaced by another, or written by snapshots, and never looked at.
    """
    rule, at = slot.rule, slot.distinct
    if rule.after:
        return lambda ts, event_id, _: _encode(((ts, event_id),))
    if rule.gap_ms:
        return lambda ts, event_id, past: _encode((ts, event_id, *((past and past.near) or _CORNER)))
    if at is not None:
        return lambda ts, event_id, past: _encode((ts, event_id, past and past.distinct[at]))
    return lambda ts, event_id, _: _encode((ts, event_id, None))


_CORNER = 0.0, 0.0
"""Where events are that have no place on the screen."""


def near(event: Any) -> Mark:
    """Return a mark with the place on the screen (px)."""
    try:
        return _with_place(event)
    except AttributeError:
        return event.ts, event.event_id, *_CORNER


def counted(rule: Rule) -> Callable[[Any], Mark]:
    """Return what makes a mark with the value that has to be different each time, None if nothing has to."""
    if rule.distinct == "url":
        return lambda event: (event.ts, event.event_id, short_path(event.url))
    if rule.distinct:
        value = attrgetter(rule.distinct)
        return lambda event: (event.ts, event.event_id, value(event))
    return lambda event: (event.ts, event.event_id, None)
