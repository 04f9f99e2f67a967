"""What is kept of late: what a new subscriber is told first, and what one that was away has missed."""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Literal

from schemas.batches import Records
from schemas.registry import CHANNELS
from sinks.websocket.envelope import REPLACED_CHANNEL, Envelope, framed, wrap
from sinks.websocket.limits import Limits

SESSION_END = "session"
"""The record type after which a session has no newest engagement any more."""
RECORD_OVERHEAD = 400
FEED_OVERHEAD = 1_200
"""About what Python's objects take besides the message itself (bytes), so that many small ones count too."""

Sessions = frozenset[str] | None
"""The sessions that are wanted, None for all."""


class Feed:
    """What is kept of one channel of one tenant.

    ``log`` holds its latest records in a row, the last of which has ``offset``; ``newest`` of engagement the newest of
    each session, longest silent first.
    """

    __slots__ = ("log", "log_size", "newest", "newest_ts", "offset")

    def __init__(self, offset: int) -> None:
        self.log: deque[Envelope] = deque()
        self.log_size = 0
        self.newest: OrderedDict[str, Envelope] = OrderedDict()
        self.newest_ts = 0
        self.offset = offset


class History:
    """The records of late, bounded for each tenant and in all; also gives every record its offset.

    Offsets rise by one with each record of a channel and tenant, whoever is subscribed. A tenant of which nothing is
    kept any more is forgotten with its offsets; should it come back they go on above the highest forgotten one, so
    they rise always, and no table grows with the number of tenants ever seen.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._feeds: OrderedDict[tuple[str, str], Feed] = OrderedDict()  # least recently written first
        self._by_channel: dict[str, dict[str, Feed]] = {channel: {} for channel in CHANNELS}
        self._floor = 0
        self._arrivals = 0
        self._size = 0

    @property
    def size(self) -> int:
        """About how many bytes all that is kept takes."""
        return self._size

    @property
    def feeds(self) -> int:
        """How many pairs of channel and tenant something is kept of."""
        return len(self._feeds)

    def add(self, channel: str, records: Records, i: int) -> Envelope:
        """Keep the record ``i`` of a batch; returns the message that subscribers get."""
        tenant, session, ts = records.tenants[i], records.sessions[i], records.ts[i]
        feed = self._feed(channel, tenant)
        feed.offset += 1
        self._arrivals += 1
        frame = framed(wrap(channel, feed.offset, records.payloads[i]))
        key = f"{records.type}/{records.ids[i]}"
        envelope = Envelope(channel, tenant, session, key, ts, self._arrivals, frame)
        feed.log.append(envelope)
        feed.log_size += len(frame)
        self._size += _cost(envelope)
        while len(feed.log) > self._limits.history_records or feed.log_size > self._limits.snapshot_bytes:
            self._shorten(feed)
        if channel == REPLACED_CHANNEL:
            self._keep_newest(feed, envelope)
        if records.type == SESSION_END:
            self._session_ended(tenant, session, ts)
        self._shrink()
        return envelope

    def offset(self, channel: str, tenant: str) -> int:
        """Return the offset of a tenant's last record, whether that is kept or not."""
        feed = self._by_channel[channel].get(tenant)
        return feed.offset if feed else self._floor

    def since(
        self, channel: str, tenant: str, offset: int, sessions: Sessions
    ) -> list[Envelope] | Literal["too_old", "unknown_offset"]:
        """Return all records after this offset, oldest first, or why that is not possible."""
        missed = self.offset(channel, tenant) - offset
        if missed < 0:
            return "unknown_offset"
        feed = self._by_channel[channel].get(tenant)
        if missed > (len(feed.log) if feed else 0):
            return "too_old"
        latest = islice(reversed(feed.log), missed) if feed else ()
        return [envelope for envelope in latest if _wanted(envelope, sessions)][::-1]

    def latest(self, channel: str, tenant: str | None, sessions: Sessions, at_most: int) -> list[Envelope]:
        """Return the latest records of a tenant (None: of all), oldest first; ``at_most`` of each tenant."""
        found: list[Envelope] = []
        for feed in self._chosen(channel, tenant):
            found += islice((e for e in reversed(feed.log) if _wanted(e, sessions)), at_most)
        return self._bounded(found, min(at_most, self._limits.snapshot_records))

    def snapshot(self, channel: str, tenant: str | None, sessions: Sessions) -> list[Envelope]:
        """Return what is known now: the newest engagement of every session, the latest records of other channels."""
        found: list[Envelope] = []
        for feed in self._chosen(channel, tenant):
            if channel != REPLACED_CHANNEL:
                found += islice(_distinct(reversed(feed.log), sessions), self._limits.latest_records)
            elif sessions is None:
                found += islice(reversed(feed.newest.values()), self._limits.snapshot_records)
            else:
                found += [feed.newest[session] for session in sessions if session in feed.newest]
        return self._bounded(found, self._limits.snapshot_records)

    def _chosen(self, channel: str, tenant: str | None) -> list[Feed]:
        feeds = self._by_channel[channel]
        if tenant is None:
            return list(feeds.values())
        return [feeds[tenant]] if tenant in feeds else []

    def _bounded(self, found: list[Envelope], at_most: int) -> list[Envelope]:
        """Return the newest that may be sent at once, oldest first."""
        found.sort(key=lambda envelope: envelope.arrival, reverse=True)
        room = self._limits.snapshot_bytes
        newest: list[Envelope] = []
        for envelope in found[:at_most]:
            room -= len(envelope.frame)
            if room < 0:
                break
            newest.append(envelope)
        return newest[::-1]

    def _feed(self, channel: str, tenant: str) -> Feed:
        feed = self._feeds.get((channel, tenant))
        if feed is None:
            feed = self._feeds[channel, tenant] = self._by_channel[channel][tenant] = Feed(self._floor)
            self._size += FEED_OVERHEAD
        else:
            self._feeds.move_to_end((channel, tenant))
        return feed

    def _keep_newest(self, feed: Feed, envelope: Envelope) -> None:
        older = feed.newest.get(envelope.session)
        if older is not None and older.ts > envelope.ts:
            return  # a repeat after a restart
        self._forget(feed, envelope.session)
        feed.newest[envelope.session] = envelope
        self._size += _cost(envelope)
        if len(feed.newest) > self._limits.history_sessions:
            self._forget_oldest(feed)
        feed.newest_ts = max(feed.newest_ts, envelope.ts)
        while feed.newest and next(iter(feed.newest.values())).ts < feed.newest_ts - self._limits.stale_ms:
            self._forget_oldest(feed)

    def _session_ended(self, tenant: str, session: str, ts: int) -> None:
        feed = self._by_channel[REPLACED_CHANNEL].get(tenant)
        if feed is not None and session in feed.newest and feed.newest[session].ts <= ts:
            self._forget(feed, session)

    def _forget(self, feed: Feed, session: str) -> None:
        gone = feed.newest.pop(session, None)
        if gone is not None:
            self._size -= _cost(gone)

    def _forget_oldest(self, feed: Feed) -> None:
        self._size -= _cost(feed.newest.popitem(last=False)[1])

    def _shorten(self, feed: Feed) -> None:
        gone = feed.log.popleft()
        feed.log_size -= len(gone.frame)
        self._size -= _cost(gone)

    def _shrink(self) -> None:
        """Take from whoever was silent longest until the whole fits."""
        while self._size > self._limits.history_bytes:
            (channel, tenant), feed = next(iter(self._feeds.items()))
            if feed.log:
                self._shorten(feed)
            elif feed.newest:
                self._forget_oldest(feed)
            else:
                del self._feeds[channel, tenant], self._by_channel[channel][tenant]
                self._floor = max(self._floor, feed.offset)
                self._size -= FEED_OVERHEAD


def _cost(envelope: Envelope) -> int:
    return len(envelope.frame) + RECORD_OVERHEAD


def _wanted(envelope: Envelope, sessions: Sessions) -> bool:
    return sessions is None or envelope.session in sessions


def _distinct(envelopes: Iterable[Envelope], sessions: Sessions) -> Iterator[Envelope]:
    """Yield what is wanted, newest first, and of repeats and revisions of one record the latest alone."""
    seen: set[str] = set()
    for envelope in envelopes:
        if envelope.key not in seen and _wanted(envelope, sessions):
            seen.add(envelope.key)
            yield envelope
