"""How often a user was escalated, by event day and week, for as long as the week lasts."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from operators.chat.routing import Used
from schemas.inbound import MAX_TS

DAY_MS: Final = 86_400_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MONDAY: Final = 4
"""1970-01-05, in days since 1970-01-01."""

Counts = dict[str, dict[int, int]]
"""Escalations by who (tenant, user and agent) and day."""


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local_day(ts: int, zone: str) -> int:
    """Return the day of a time (milliseconds since 1970 UTC) in a zone, counted from 1970-01-01.

    >>> local_day(DAY_MS - 1, "UTC"), local_day(DAY_MS - 1, "Europe/Berlin")
    (0, 1)
    """
    if zone == "UTC":
        return ts // DAY_MS
    # The last days of the year 9999 have no local time in zones east of Greenwich.
    at = _EPOCH + timedelta(milliseconds=min(ts, MAX_TS - 2 * DAY_MS))
    offset = _zone(zone).utcoffset(at.astimezone(_zone(zone))) or timedelta()
    return (ts + int(offset.total_seconds() * 1000)) // DAY_MS


def week_of(day: int) -> int:
    """Return the week of a day; weeks begin on Monday.

    >>> week_of(3), week_of(4), week_of(10), week_of(11)
    (-1, 0, 0, 1)
    """
    return (day - _FIRST_MONDAY) // 7


class Quotas:
    """Counts escalations. Bounded by who was escalated in this week and, for a day, the last one.

    An answer counts on the day of its own ``ts``. One that is dated beyond tomorrow or before last week's grace of a
    day, by stream time, counts as of today: such a ``ts`` is wrong, and must neither hold state nor slip past a limit.
    """

    def __init__(self, counts: Counts | None = None) -> None:
        self._counts: Counts = counts or {}

    def day(self, ts: int, stream_time: int, zone: str) -> int:
        """Return the day that an answer counts on."""
        day, today = local_day(ts, zone), local_day(min(stream_time, MAX_TS), zone)
        return day if day <= today + 1 and week_of(day) >= week_of(today - 1) else today

    def __contains__(self, who: str) -> bool:
        return who in self._counts

    def used(self, who: str, day: int) -> Used:
        """Return how often ``who`` was escalated on that day and in its week."""
        days = self._counts.get(who)
        if not days:
            return Used()
        week = week_of(day)
        return Used(days.get(day, 0), sum(count for at, count in days.items() if week_of(at) == week))

    def count(self, who: str, day: int) -> None:
        """Count one escalation."""
        days = self._counts.setdefault(who, {})
        days[day] = days.get(day, 0) + 1

    def free(self, stream_time: int) -> None:
        """Forget the weeks that are over everywhere on earth, and that no answer can count in any more."""
        oldest = week_of(min(stream_time, MAX_TS) // DAY_MS - 2)
        kept = {who: {d: n for d, n in days.items() if week_of(d) >= oldest} for who, days in self._counts.items()}
        self._counts = {who: days for who, days in kept.items() if days}

    def packed(self) -> Counts:
        """Return the counts, to be packed."""
        return self._counts

    def __len__(self) -> int:
        return len(self._counts)
