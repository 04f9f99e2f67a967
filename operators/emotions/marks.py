"""What is remembered of an event on its way to a rule: its time, its id, and what the rule compares."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from operators.emotions.patterns import short_path
from operators.emotions.rules import Rule

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


def mark_of(rule: Rule) -> Callable[[Any], bytes]:
    """Return what makes the mark of an event, packed, for a rule whose newest event may be put by.

    Most marks are replaced by another, or written by snapshots, and never looked at.
    """
    if rule.after:
        return lambda event: _encode(((event.ts, event.event_id),))
    mark = near if rule.gap_ms else counted(rule)
    return lambda event: _encode(mark(event))


def near(event: Any) -> Mark:
    """Return a mark with the place on the screen (px)."""
    try:
        return _with_place(event)
    except AttributeError:
        return event.ts, event.event_id, 0.0, 0.0


def counted(rule: Rule) -> Callable[[Any], Mark]:
    """Return what makes a mark with the value that has to be different each time, None if nothing has to."""
    if rule.distinct == "url":
        return lambda event: (event.ts, event.event_id, short_path(event.url))
    if rule.distinct:
        value = attrgetter(rule.distinct)
        return lambda event: (event.ts, event.event_id, value(event))
    return lambda event: (event.ts, event.event_id, None)
