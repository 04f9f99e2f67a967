"""What a tenant allows: mode, kill switch, thresholds, quiet hours, budget, holdout, rate limits; and from when on."""

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from operators.interventions.reading import Clock, Name, Tell, checked, tables
from operators.interventions.rules import Share
from schemas.errors import ConfigError
from schemas.inbound import MAX_TS

CHANGES: Final = "changes"
"""The key under which an entry holds what changes, each from a time on."""
FROM: Final = "from"
MOST_TIMES: Final = 100
LONGEST_LIMIT_MS: Final = 3_600_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS: Final = 86_400_000


class QuietHours(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"start": FROM, "end": "to"}
):
    """From ``start`` on and before ``end``, as clocks in ``zone`` show it; over midnight if ``end`` is the earlier."""

    start: Clock
    end: Clock
    zone: str = "UTC"

    def __post_init__(self) -> None:
        if self.start == self.end:
            raise ValueError("expected from and to to differ")
        try:
            _zone(self.zone)
        except (KeyError, ValueError, OSError) as error:  # as zoneinfo tells unknown, malformed and unreadable names
            raise ValueError(f'expected a time zone such as "Europe/Berlin", got "{self.zone}"') from error

    def hold(self, ts: int) -> bool:
        """Return whether a time (milliseconds since 1970 UTC) lies within.

        >>> night = QuietHours(start="22:00", end="07:00", zone="Europe/Berlin")
        >>> [night.hold(hour * 3_600_000) for hour in (20, 21, 5, 6)]
        [False, True, True, False]
        """
        now = local_clock(ts, self.zone)
        if self.start < self.end:
            return self.start <= now < self.end
        return now >= self.start or now < self.end


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most so many ``times`` within a span of time, for one recipient."""

    times: Annotated[int, Meta(ge=1, le=MOST_TIMES)]
    within_s: Annotated[float, Meta(gt=0, le=LONGEST_LIMIT_MS / 1000)]


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the governor goes by for one tenant.

    ``enabled`` is the kill switch. ``thresholds`` are least confidences by intervention, in place of those of the
    mapping. ``holdout`` is the share of recipients to whom nothing is shown, for comparison. In mode SEMI_AUTO what has
    at least the confidence ``semi_auto`` needs no approval.
    """

    enabled: bool = True
    mode: Literal["AUTO", "SEMI_AUTO", "MANUAL"] = "AUTO"
    semi_auto: Share = 0.75
    allowed: tuple[Name, ...] | Literal["all"] = "all"
    thresholds: dict[Name, Share] = {}
    quiet_hours: QuietHours | Literal["off"] = "off"
    budget_per_hour: Annotated[int, Meta(ge=0, le=1_000_000_000)] | Literal["off"] = "off"
    holdout: Share = 0.0
    rate_limits: tuple[RateLimit, ...] = (RateLimit(times=1, within_s=30), RateLimit(times=10, within_s=300))


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def local_clock(ts: int, zone: str) -> str:
    """Return what clocks in a zone show at a time (milliseconds since 1970 UTC).

    >>> local_clock(0, "Asia/Kolkata")
    '05:30'
    """
    return _clock(ts // 60_000, zone)


@lru_cache(maxsize=4_096)
def _clock(minute: int, zone: str) -> str:
    # The last days of the year 9999 have no local time in zones east of Greenwich: any day before shows the same.
    ms = min(minute * 60_000, MAX_TS // 60_000 * 60_000 - 2 * _DAY_MS)
    ms += (minute * 60_000 - ms) % _DAY_MS if ms != minute * 60_000 else 0
    return f"{(_EPOCH + timedelta(milliseconds=ms)).astimezone(_zone(zone)):%H:%M}"


class _Timeline:
    """The policies of one tenant, each from a time on."""

    def __init__(self, policies: Mapping[int, Policy]) -> None:
        self._times = sorted(policies)
        self._policies = [policies[time] for time in self._times]

    def at(self, ts: int) -> Policy:
        return self._policies[bisect_right(self._times, ts) - 1]


class Policies:
    """Which policy holds for a tenant at a time.

    ``default`` and each of ``tenants`` hold keys of `Policy` and, under ``changes``, a list of what changes, each
    ``from`` an event time on. A tenant's own keys go before the default's, and later changes before earlier ones.
    ``interventions`` are those that there are (None: not checked); ``where`` gives the name of a tenant's entry (None:
    the default's), for faults.

    >>> policies = Policies({"holdout": 0.1}, {"acme": {"mode": "MANUAL"}})
    >>> policies.of("acme", 0).mode, policies.of("acme", 0).holdout, policies.of("other", 0).mode
    ('MANUAL', 0.1, 'AUTO')

    Raises:
        ConfigError: all faults of all entries.
    """

    def __init__(
        self,
        default: Mapping[str, Any] | None = None,
        tenants: Mapping[str, Mapping[str, Any]] | None = None,
        interventions: Collection[str] | None = None,
        where: Callable[[str | None], str] = lambda tenant: tenant or "default",
    ) -> None:
        faults: list[str] = []
        base = _Entry(default or {}, where(None), interventions, faults.append)
        entries = {
            tenant: _Entry(entry, where(tenant), interventions, faults.append)
            for tenant, entry in (tenants or {}).items()
        }
        if faults:
            raise ConfigError("\n".join(faults))
        nothing = _Entry({}, "", None, faults.append)
        self._default = _timeline(base, nothing)
        self._tenants = {tenant: _timeline(base, entry) for tenant, entry in entries.items()}

    def of(self, tenant: str, ts: int) -> Policy:
        """Return the policy of a tenant at a time (milliseconds since 1970 UTC)."""
        return self._tenants.get(tenant, self._default).at(ts)


class _Entry:
    """What the file says of one tenant, or of all: keys, and keys from a time on."""

    def __init__(self, entry: Mapping[str, Any], where: str, interventions: Collection[str] | None, tell: Tell) -> None:
        self.keys = {key: value for key, value in entry.items() if key != CHANGES}
        _check(self.keys, where, interventions, tell)
        self.changes: dict[int, Mapping[str, Any]] = {}
        for at, change in enumerate(tables(entry.get(CHANGES, []), f"{where}.{CHANGES}", tell)):
            here = f"{where}.{CHANGES}[{at}]"
            _check({key: value for key, value in change.items() if key != FROM}, here, interventions, tell)
            moment = change.get(FROM)
            if not isinstance(moment, datetime) or moment.tzinfo is None:
                tell(f"{here}.{FROM}: expected a time with its zone, such as 2026-03-01T00:00:00Z, got {moment}")
                continue
            ts = (moment - _EPOCH) // timedelta(milliseconds=1)
            if ts in self.changes:
                tell(f"{here}.{FROM}: there is a change from {moment} already")
            self.changes[ts] = {key: value for key, value in change.items() if key != FROM}

    def at(self, ts: int) -> dict[str, Any]:
        """Return the keys that hold at a time."""
        keys = self.keys
        for moment in sorted(self.changes):
            if moment <= ts:
                keys = _laid(keys, self.changes[moment])
        return dict(keys)


def _check(keys: Mapping[str, Any], where: str, interventions: Collection[str] | None, tell: Tell) -> None:
    checked(Policy, keys, where, tell)
    if interventions is None:
        return
    for key in ("allowed", "thresholds"):
        names = keys.get(key)
        for name in names if isinstance(names, list | dict) else ():  # whatever else is wrong with it
            if isinstance(name, str) and name not in interventions:
                tell(f'{where}.{key}: there is no intervention "{name}"; expected {", ".join(interventions)}')


def _laid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return one table laid over another, tables within tables."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(under, Mapping)
        merged[key] = _laid(under, value) if both else value  # type: ignore[arg-type]  # both are tables here
    return merged


def _timeline(base: _Entry, entry: _Entry) -> _Timeline:
    times = {-1, *base.changes, *entry.changes}  # -1: from the beginning on
    return _Timeline({ts: msgspec.convert(_laid(base.at(ts), entry.at(ts)), Policy) for ts in times})
