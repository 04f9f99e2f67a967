"""From bytes to columns: decode a batch at once, set aside only what is bad, and split the rest by shard."""

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
from prometheus_client import Counter

from operators.chunk import SEPARATOR, Chunk, UInt64s
from operators.config import PANE_MS, WindowConfig
from operators.deadletters import CONTROL, DeadLetters, diagnose
from operators.kinds import IS_POLL, KIND, WINDOWED
from schemas.batches import Int64s, RawBatch, Records
from schemas.inbound import MAX_RECORD_BYTES, AnyEvent, Event

_RUN = 256
"""Records that are tried together when a batch has a bad one; only a run with a bad one is decoded one by one."""

_CACHE = 200_000
"""Digests kept of users, and numbers of sessions; beyond that the table starts anew."""

_NO_CONTROLS = ("tenant_id", "session_id", "user_id")
_RECEIVED = Counter("attune_records_received_total", "Inbound records read")
_UNWINDOWED = Counter("attune_records_unwindowed_total", "Inbound records of types that belong to no window")


def digest(text: str) -> int:
    """Return 64 bits that stand for an id, the same in every process and run.

    Two of a session's 100,000 users share one with a probability of 3e-10.
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


class _Digests(dict[str, int]):
    def __missing__(self, text: str) -> int:
        if len(self) >= _CACHE:
            self.clear()
        value = self[text] = digest(text)
        return value


class _Sessions(dict[str, int]):
    """Numbers the session keys that a decoder has seen, and remembers the shard of each."""

    def __init__(self, shards: int) -> None:
        super().__init__()
        self.shards = shards
        self.keys_by_number: list[str] = []
        self.shard_by_number: list[int] = []

    def __missing__(self, key: str) -> int:
        number = self[key] = len(self.keys_by_number)
        self.keys_by_number.append(key)
        self.shard_by_number.append(shard_of(key, self.shards))
        return number

    def forget_if_full(self) -> None:
        if len(self) >= _CACHE:
            self.clear()
            self.keys_by_number.clear()
            self.shard_by_number.clear()


def shard_of(key: str, shards: int) -> int:
    """Return the shard that a session belongs to, 0..shards-1; the same in every process and run."""
    return zlib.crc32(key.encode()) % shards


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch: chunks by shard, and what was set aside."""

    chunks: list[tuple[int, Chunk]]
    dead: Records


class BatchDecoder:
    """Turns raw batches into chunks. Holds caches only: what it returns depends on its argument alone.

    The one exception is when a silent shard is told of stream time: it gets a chunk without events whenever stream
    time passes a tick, and always the first time.
    """

    def __init__(self, shards: int, config: WindowConfig) -> None:
        self._config = config
        self._decoder = msgspec.json.Decoder(AnyEvent)
        self._users = _Digests()
        self._sessions = _Sessions(shards)
        self._shards = shards
        self._told: dict[int, int] = {}

    def __call__(self, batch: RawBatch) -> Decoded:
        """Decode one batch: received = in chunks + not windowed + dead letters, to the record."""
        _RECEIVED.inc(len(batch))
        letters = DeadLetters()
        events, at = self._decode(batch, letters)
        return Decoded(list(self._split(batch, events, at)), letters.records)

    def _decode(self, batch: RawBatch, letters: DeadLetters) -> tuple[list[Event], Int64s]:
        """Return the usable events and their places in the batch."""
        if not batch.values:
            return [], np.zeros(0, np.int64)
        events = self._try(batch.values)
        if events is not None:
            return events, np.arange(len(events))
        events = []
        at: list[int] = []
        for start in range(0, len(batch), _RUN):
            run = batch.values[start : start + _RUN]
            good = self._try(run)
            if good is not None:
                events += good
                at += range(start, start + len(good))
                continue
            for place, value in enumerate(run, start):
                event = self._one(batch, place, value, letters)
                if event is not None:
                    events.append(event)
                    at.append(place)
        return events, np.array(at, np.int64)

    def _try(self, values: list[bytes | None]) -> list[Event] | None:
        """Decode values together; None if any of them is bad.

        Joined by line feeds, not by commas in brackets: three malformed records can make three valid elements, but no
        two lines make one, as long as no record brings a line feed of its own. Lines that are blank are skipped by the
        decoder, hence the count.
        """
        try:
            joined = b"\n".join(values)  # type: ignore[arg-type]  # a None raises the TypeError below
            if joined.count(b"\n") != len(values) - 1 or max(map(len, values)) > MAX_RECORD_BYTES:  # type: ignore[arg-type]
                return None
            events: list[Event] = self._decoder.decode_lines(joined)
        except (TypeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if len(events) != len(values):
            return None
        # A control character inside a JSON string is escaped or, from U+007F on, one of these bytes.
        if b"\\" in joined or b"\x7f" in joined or b"\xc2" in joined:
            text = "".join([getattr(event, name) for event in events for name in _NO_CONTROLS])
            if not text.isprintable() and CONTROL.search(text):
                return None
        return events

    def _one(self, batch: RawBatch, place: int, value: bytes | None, letters: DeadLetters) -> Event | None:
        fault = ""
        if value is not None and len(value) <= MAX_RECORD_BYTES:
            try:
                event: Event = self._decoder.decode(value)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                fault = str(error)
            else:
                unclean = next((name for name in _NO_CONTROLS if CONTROL.search(getattr(event, name))), None)
                if unclean is None:
                    return event
                fault = f"Expected `str` without control characters - at `$.{unclean}`"
        reason, detail, ids, ts = diagnose(value, fault)
        position = batch.topics[batch.topic[place]], batch.partition, int(batch.offset[place])
        letters.add(reason, detail, position, value or b"", ids, int(batch.record_ts[place]) if ts is None else ts)
        return None

    def _split(self, batch: RawBatch, events: list[Event], at: Int64s) -> Iterator[tuple[int, Chunk]]:
        """Yield a chunk for every shard that has events, or that has to learn of stream time."""
        running = np.maximum.accumulate(batch.record_ts) if len(batch) else batch.record_ts
        running = np.maximum(running, batch.stream_time)
        clock = max(int(running[-1]) if len(batch) else batch.stream_time, batch.clock or 0)
        silent = set(range(self._shards)) if self._passes_a_tick(batch.partition, clock) else set()
        n = len(events)
        kind = np.fromiter(map(KIND.__getitem__, map(type, events)), np.uint8, n)
        keep = WINDOWED[kind]
        if not keep.all():
            _UNWINDOWED.inc(n - int(keep.sum()))
            events = [event for event, kept in zip(events, keep, strict=True) if kept]
            at, kind, n = at[keep], kind[keep], len(events)
        if n:
            self._sessions.forget_if_full()
            number = np.fromiter(
                map(self._sessions.__getitem__, [e.tenant_id + SEPARATOR + e.session_id for e in events]), np.int32, n
            )
            user = np.fromiter(map(self._users.__getitem__, [e.user_id for e in events]), np.uint64, n)
            ts = np.fromiter([e.ts for e in events], np.int64, n)
            poll = self._polls(events, kind)
            shard = np.array(self._sessions.shard_by_number, np.int32)[number] if self._shards > 1 else None
            for which in range(self._shards) if shard is not None else (0,):
                mine = np.flatnonzero(shard == which) if shard is not None else np.arange(n)
                if not len(mine):
                    continue
                silent.discard(which)
                rows = mine.tolist()
                places = at[mine]
                raw = places.tolist()
                distinct, session = self._distinct(number[mine])
                yield (
                    which,
                    Chunk(
                        batch.partition,
                        clock,
                        batch.topics,
                        [self._sessions.keys_by_number[i] for i in distinct.tolist()],
                        session,
                        user[mine],
                        poll[mine],
                        kind[mine],
                        ts[mine],
                        batch.record_ts[places],
                        running[places],
                        [events[i].event_id for i in rows],
                        [batch.values[i] or b"" for i in raw],
                        batch.topic[places],
                        batch.offset[places],
                    ),
                )
        for which in sorted(silent):
            yield which, _tidings(batch, clock)

    def _polls(self, events: list[Event], kind: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> UInt64s:
        poll = np.zeros(len(events), np.uint64)
        for i in np.flatnonzero(IS_POLL[kind]).tolist():
            poll[i] = self._users[events[i].poll_id]  # type: ignore[attr-defined]  # every poll type has one
        return poll

    def _distinct(self, number: np.ndarray[tuple[int], np.dtype[np.int32]]) -> tuple[Int64s, np.ndarray[tuple[int], np.dtype[np.int32]]]:
        """Return the distinct numbers and where each event's stands among them, without sorting."""
        place = np.zeros(len(self._sessions.keys_by_number), np.int32)
        order = np.arange(len(number), dtype=np.int32)
        place[number] = order
        distinct = number[place[number] == order]
        place[distinct] = np.arange(len(distinct), dtype=np.int32)
        return distinct.astype(np.int64), place[number]

    def _passes_a_tick(self, partition: int, clock: int) -> bool:
        horizon = (clock - self._config.stream_delay_ms) // PANE_MS
        if self._told.get(partition) == horizon:
            return False
        self._told[partition] = horizon
        return True


def _tidings(batch: RawBatch, clock: int) -> Chunk:
    """Return a chunk without events, which tells a shard how far stream time is."""
    none = np.zeros(0, np.int64)
    u64, i32, u8, u16 = (none.astype(t) for t in (np.uint64, np.int32, np.uint8, np.uint16))
    return Chunk(batch.partition, clock, batch.topics, [], i32, u64, u64, u8, none, none, none, [], [], u16, none)

