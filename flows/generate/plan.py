"""What is asked of a scenario, and what every scenario gives."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from schemas.inbound import Event

DEFAULT_START = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1000)
"""Where recorded traffic begins unless told otherwise, so that a seed alone fixes every byte (ms since 1970)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much traffic of what kind. The same plan gives the same events, byte for byte.

    ``people`` is the mean audience of a session, ``minutes`` a session's length; None leaves them to the scenario.
    ``rate`` multiplies how much people chat and react. With ``repeat`` every session is followed by another one without
    end. ``truth`` off saves the counting when nobody asks for it.
    """

    sessions: int = 3
    people: int | None = None
    minutes: float | None = None
    seed: int = 1
    tenants: int = 1
    start_ts: int = DEFAULT_START
    rate: float = 1.0
    repeat: bool = False
    truth: bool = True

    def __post_init__(self) -> None:
        if min(self.sessions, self.tenants) < 1 or (self.people is not None and self.people < 1):
            raise ValueError("sessions, people and tenants are at least 1")
        if (self.minutes is not None and self.minutes <= 0) or self.rate < 0 or self.start_ts < 0:
            raise ValueError("minutes is more than 0, rate and start at least 0")


class Traffic(Protocol):
    """Generated traffic."""

    end_ts: int
    """When the last session ends (ms since 1970); for a repeating plan, when the first round does."""

    def events(self) -> Iterator[Event]:
        """Yield the events in order of ``ts``; those of a session also in order of ``event_id``."""
        ...

    def truth(self) -> msgspec.Struct:
        """Return what is known about the sessions that have ended; complete once ``events`` is exhausted."""
        ...
