"""What a new subscriber is told first: the newest record of every session, the latest ones of every other channel."""

from collections import OrderedDict
from itertools import islice

from schemas.batches import Records
from schemas.registry import CHANNELS
from sinks.websocket.limits import Limits
from sinks.websocket.messages import Envelope, wrap
from sinks.websocket.outbox import REPLACED_CHANNEL

SESSION_END = "session"
"""The record type after which a session has no newest engagement any more."""
RECORD_OVERHEAD = 400
FEED_OVERHEAD = 1_000
"""About what Python's objects take besides the message itself (bytes), so that many small ones count too."""


class Feed:
    """What is kept of one channel of one tenant, oldest first, and how far its offsets have come."""

    __slots__ = ("kept", "newest_ts", "offset")

    def __init__(self, offset: int) -> None:
        self.kept: OrderedDict[str, Envelope] = OrderedDict()
        self.offset = offset
        self.newest_ts = 0


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
        data = wrap(channel, feed.offset, records.payloads[i])
        envelope = Envelope(channel, tenant, session, ts, self._arrivals, data)
        if channel == REPLACED_CHANNEL:
            self._keep_newest(feed, envelope)
        else:
            # By id, so that a repeat or a later revision takes the place of what it repeats.
            self._keep(feed, f"{records.type}/{records.ids[i]}", envelope, self._limits.history_records)
        if records.type == SESSION_END:
            self._session_ended(tenant, session, ts)
        self._shrink()
        return envelope

    def snapshot(self, channel: str, tenant: str | None, sessions: frozenset[str] | None) -> list[Envelope]:
        """Return what is kept for a tenant (None: for all) and these sessions (None: all), the newest last."""
        feeds = self._by_channel[channel]
        chosen = list(feeds.values()) if tenant is None else [feeds[tenant]] if tenant in feeds else []
        found: list[Envelope] = []
        for feed in chosen:
            if sessions is None:
                found += islice(reversed(feed.kept.values()), self._limits.snapshot_records)
            elif channel == REPLACED_CHANNEL:
                found += [feed.kept[session] for session in sessions if session in feed.kept]
            else:
                found += [envelope for envelope in feed.kept.values() if envelope.session in sessions]
        found.sort(key=lambda envelope: envelope.arrival, reverse=True)
        room = self._limits.snapshot_bytes
        newest: list[Envelope] = []
        for envelope in found[: self._limits.snapshot_records]:
            room -= len(envelope.data)
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
        older = feed.kept.get(envelope.session)
        if older is not None and older.ts > envelope.ts:
            return  # a repeat after a restart
        self._keep(feed, envelope.session, envelope, self._limits.history_sessions)
        feed.newest_ts = max(feed.newest_ts, envelope.ts)
        while feed.kept and next(iter(feed.kept.values())).ts < feed.newest_ts - self._limits.stale_ms:
            self._forget_oldest(feed)

    def _keep(self, feed: Feed, key: str, envelope: Envelope, at_most: int) -> None:
        self._forget(feed, key)
        feed.kept[key] = envelope
        self._size += len(envelope.data) + RECORD_OVERHEAD
        if len(feed.kept) > at_most:
            self._forget_oldest(feed)

    def _session_ended(self, tenant: str, session: str, ts: int) -> None:
        feed = self._by_channel[REPLACED_CHANNEL].get(tenant)
        if feed is not None and session in feed.kept and feed.kept[session].ts <= ts:
            self._forget(feed, session)

    def _forget(self, feed: Feed, key: str) -> None:
        gone = feed.kept.pop(key, None)
        if gone is not None:
            self._size -= len(gone.data) + RECORD_OVERHEAD

    def _forget_oldest(self, feed: Feed) -> None:
        self._size -= len(feed.kept.popitem(last=False)[1].data) + RECORD_OVERHEAD

    def _shrink(self) -> None:
        """Take from whoever was silent longest until the whole fits."""
        while self._size > self._limits.history_bytes:
            (channel, tenant), feed = next(iter(self._feeds.items()))
            if feed.kept:
                self._forget_oldest(feed)
            else:
                del self._feeds[channel, tenant], self._by_channel[channel][tenant]
                self._floor = max(self._floor, feed.offset)
                self._size -= FEED_OVERHEAD
