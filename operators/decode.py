"""From bytes to columns: decode a batch at once, set aside only what is bad, and split the rest by shard."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from prometheus_client import Counter

from operators.chat.batch import CHAT, Chat, ChatBatch
from operators.chunk import Chunk, Int32s, Reply, UInt8s
from operators.config import PANE_MS, WindowConfig
from operators.deadletters import DeadLetters
from operators.digests import spelled
from operators.emotions.sorter import OBSERVED, Past, Sorter
from operators.gathering import Aside, Columns, Gathered
from operators.kinds import IS_POLL, KIND, WINDOWED
from operators.numbering import SessionNumbers, ShardNumbers
from operators.texts import TextColumn, Texts
from schemas.batches import Int64s, RawBatch, Records
from schemas.diagnosis import CONTROL, NO_CONTROLS, diagnose, read
from schemas.inbound import (
    MAX_RECORD_BYTES,
    AnyEvent,
    EmotionObserved,
    Event,
    InterventionApproval,
    InterventionOutcome,
)

_Sorted = tuple[Callable[[Any], int], int, Callable[[Any], Past | None]]
"""Tells the mask of an event of some type, and its past if its mask has any of these bits."""

_RUN = 1_024
"""Records that are decoded together, a multiple of 128: their objects stay in the cache until they are columns."""
_SMALL_RUN = 128
"""Records that are tried together when a run has a bad one; only a small run with a bad one is decoded one by one."""

_TOLD_MS = 500
"""How far stream time moves on before silent shards learn of it, in which a visitor may be due for help."""

_OPENING, _CLOSING = b"{}"

_WINDOWED = bytes(np.flatnonzero(WINDOWED).tolist())
_NOT_WINDOWED = bytes(np.flatnonzero(~WINDOWED).tolist())
_NOT_POLLS = bytes(np.flatnonzero(~IS_POLL).tolist())
"""Kinds of each sort, to be taken out of those of a run: a tenth of the time of looking each event up."""

_RECEIVED = Counter("attune_records_received_total", "Inbound records read")
_UNWINDOWED = Counter("attune_records_unwindowed_total", "Inbound records of types that belong to no window")


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of a batch: chunks and chat by shard, and what was set aside."""

    chunks: list[tuple[int, Chunk]]
    chats: list[tuple[int, ChatBatch]]
    dead: Records


@dataclass(frozen=True, slots=True)
class _Times:
    """Stream time at each record of a batch, of shape (n,), and after it; and whether that is news for all shards."""

    running: Int64s
    clock: int
    told: bool


class BatchDecoder:
    """Turns raw batches into chunks and chat. Holds caches only: what it returns depends on its argument alone.

    The one exception is when a silent shard is told of stream time: it gets a chunk, and a batch of chat, without
    events whenever stream time passes a tick, or half a second if rules of emotions wait for what fails to follow; and
    always the first time.
    """

    def __init__(self, shards: int, config: WindowConfig, sorters: Mapping[type[Event], Sorter] | None = None) -> None:
        """``sorters`` tell the events that rules of emotions ask for, by type; without them none are looked for."""
        self._config = config
        self._sorters: dict[type[Event], _Sorted] = {
            struct: (sorter.mask, sorter.of_past, sorter.past)
            for struct, sorter in (sorters or {}).items()
            if sorter.is_needed
        }
        if self._sorters:
            self._sorters[EmotionObserved] = (_observed, 0, _no_past)
        self._is_asked = np.zeros(256, np.bool_)
        self._is_asked[[KIND[struct] for struct in self._sorters]] = True
        self._decoder = msgspec.json.Decoder(AnyEvent)
        self._sessions = SessionNumbers(shards)
        self._shards = shards
        self._shard_of_tenant = ShardNumbers(shards)
        self._told: dict[int, int] = {}

    def __call__(self, batch: RawBatch) -> Decoded:
        """Decode one batch: received = in chunks + not windowed (chat among them) + dead letters, to the record."""
        _RECEIVED.inc(len(batch))
        self._sessions.forget_if_full()
        letters = DeadLetters()
        ids = TextColumn()
        aside = Aside()
        gathered = Gathered()
        for start in range(0, len(batch), _RUN):
            events, places = self._run(batch, start, letters)
            ids.extend(_by_place(events, places, start, min(_RUN, len(batch) - start)))
            self._gather(events, places, gathered, aside)
            del events  # before the next run is decoded: it gets this memory, which the processor still has at hand
        times = self._times(batch)
        chunks = list(self._split(batch, gathered.columns(), ids, times, aside))
        return Decoded(chunks, self._by_tenant(batch.partition, aside.chats, times), letters.records)

    def _run(self, batch: RawBatch, start: int, letters: DeadLetters) -> tuple[list[Event], Int64s]:
        """Return the usable events of a run of records, and their places in the batch.

        A run is decoded together; if that fails, in small runs; and only a small run that fails, one by one.
        """
        values = batch.values[start : start + _RUN]
        events = self._try(values)
        if events is not None:
            return events, np.arange(start, start + len(events))
        events = []
        places: list[int] = []
        for small in range(0, len(values), _SMALL_RUN):
            part = values[small : small + _SMALL_RUN]
            good = self._try(part)
            if good is not None:
                events += good
                places += range(start + small, start + small + len(good))
                continue
            for place, value in enumerate(part, start + small):
                event = self._one(batch, place, value, letters)
                if event is not None:
                    events.append(event)
                    places.append(place)
        return events, np.array(places, np.int64)

    def _try(self, values: list[bytes | None]) -> list[Event] | None:
        """Decode values together; None if any of them is bad.

        Joined by line feeds, not by commas in brackets: three malformed records can make three valid elements. The
        decoder does not stop at a line feed either: an object may go on behind it, and one record may hold two. But no
        string holds a line feed, and where one record ends with a closing brace and the next begins with an opening
        one, no object can be open between them. So every record holds whole events, and as many events as records means
        one of each.
        """
        try:
            lengths = np.fromiter(map(len, values), np.int64, len(values))  # type: ignore[arg-type]  # None: the TypeError below
            if lengths.min() < 2 or lengths.max() > MAX_RECORD_BYTES:
                return None
            joined = b"\n".join(values)  # type: ignore[arg-type]  # none is None by now
            text = np.frombuffer(joined, np.uint8)
            behind = np.cumsum(lengths + 1)
            if (text[behind - lengths - 1] != _OPENING).any() or (text[behind - 2] != _CLOSING).any():
                return None
            events: list[Event] = self._decoder.decode_lines(joined)
        except (TypeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if len(events) != len(values):
            return None
        # A control character inside a JSON string is escaped or, from U+007F on, one of these bytes.
        if b"\\" in joined or b"\x7f" in joined or b"\xc2" in joined:
            ids = "".join([getattr(event, name) for event in events for name in NO_CONTROLS])
            if not ids.isprintable() and CONTROL.search(ids):
                return None
        return events

    def _one(self, batch: RawBatch, place: int, value: bytes | None, letters: DeadLetters) -> Event | None:
        found = read(value)
        if isinstance(found, Event):
            return found
        reason, detail, ids, ts = diagnose(value, found)
        position = batch.topics[batch.topic[place]], batch.partition, int(batch.offset[place])
        letters.add(reason, detail, position, value or b"", ids, int(batch.record_ts[place]) if ts is None else ts)
        return None

    def _gather(self, events: list[Event], places: Int64s, gathered: Gathered, aside: Aside) -> None:
        """Take from the windowed events of a run what columns are made of, and put what goes beside them aside."""
        kinds = bytes([KIND[type(event)] for event in events])
        if kinds.translate(None, _WINDOWED):
            keep = WINDOWED[np.frombuffer(kinds, np.uint8)]
            others = np.flatnonzero(~keep)
            _UNWINDOWED.inc(len(others))
            for at, place in zip(others.tolist(), places[others].tolist(), strict=True):
                event = events[at]
                if isinstance(event, CHAT):
                    aside.chats.append((place, event))
                elif isinstance(event, InterventionOutcome | InterventionApproval):
                    aside.replies.append((place, event))
            events = [event for event, kept in zip(events, keep.tolist(), strict=True) if kept]
            places, kinds = places[keep], kinds.translate(None, _NOT_WINDOWED)
        if not events:
            return
        known = gathered.count
        kind = np.frombuffer(kinds, np.uint8)
        if self._sorters:
            self._watch(events, kind, aside, known)
        if kinds.translate(None, _NOT_POLLS):
            polls = np.flatnonzero(IS_POLL[kind]).tolist()
            gathered.polls += [(known + i, events[i].poll_id) for i in polls]  # type: ignore[attr-defined]  # polls have one
        gathered.places.append(places)
        gathered.numbers.append(self._sessions.numbers(events))
        gathered.users.append(spelled([event.user_id for event in events]))
        gathered.kinds.append(kinds)
        gathered.times.append(np.fromiter([event.ts for event in events], np.int64, len(events)))
        gathered.count += len(events)

    def _watch(self, events: list[Event], kind: UInt8s, aside: Aside, known: int) -> None:
        """Put aside what rules ask for."""
        sorters, masks, past = self._sorters, aside.masks, aside.past
        at: list[int] = []
        ids: list[str] = []
        for place in self._is_asked[kind].nonzero()[0].tolist():
            event = events[place]
            mask_of, of_past, past_of = sorters[type(event)]
            mask = mask_of(event)
            if mask:
                at.append(place)
                ids.append(event.event_id)
                masks.append(mask)
                past.append(past_of(event) if mask & of_past else None)
        aside.watched.append((np.array(at, np.int64) + known, Texts.of(ids)))

    def _times(self, batch: RawBatch) -> _Times:
        running = np.maximum.accumulate(batch.record_ts) if len(batch) else batch.record_ts
        running = np.maximum(running, batch.stream_time)
        clock = max(int(running[-1]) if len(batch) else batch.stream_time, batch.clock or 0)
        return _Times(running, clock, self._is_news(batch.partition, clock))

    def _split(
        self, batch: RawBatch, columns: Columns, ids: TextColumn, times: _Times, aside: Aside
    ) -> Iterator[tuple[int, Chunk]]:
        """Yield a chunk for every shard that has events or replies, or that has to learn of stream time."""
        shard = self._sessions.shards(columns.number)
        watched = aside.watched_events()
        watched_shard = shard[watched.at]
        reply_shard = self._sessions.shards(self._sessions.numbers([event for _, event in aside.replies]))
        for which in range(self._shards):
            mine = np.flatnonzero(shard == which)
            replies = np.flatnonzero(reply_shard == which).tolist()
            if not len(mine) and not replies and not times.told:
                continue
            place = columns.place[mine]
            chosen = np.flatnonzero(watched_shard == which)
            distinct, session = self._distinct(columns.number[mine])
            yield (
                which,
                Chunk(
                    batch.partition,
                    times.clock,
                    batch.topics,
                    [self._sessions.keys_by_number[i] for i in distinct],
                    session,
                    columns.user[mine],
                    columns.poll[mine],
                    columns.kind[mine],
                    columns.ts[mine],
                    batch.record_ts[place],
                    times.running[place],
                    batch.topic[place],
                    batch.offset[place],
                    place,
                    ids,
                    batch.values,
                    watched.some(chosen, np.searchsorted(mine, watched.at[chosen])),
                    [_reply(batch, place, times, *aside.replies[i]) for i in replies],
                    which,
                ),
            )

    def _by_tenant(self, partition: int, chats: list[tuple[int, Chat]], times: _Times) -> list[tuple[int, ChatBatch]]:
        """Return a batch for every shard that has chat, or that has to learn of stream time.

        A tenant's chat comes to one shard, whatever the session: limits and calibration are the tenant's.
        """
        if not chats and not times.told:
            return []
        events: list[list[Chat]] = [[] for _ in range(self._shards)]
        stream_time: list[list[int]] = [[] for _ in range(self._shards)]
        running = times.running[[place for place, _ in chats]].tolist() if chats else []
        for (_, event), reached in zip(chats, running, strict=True):
            shard = self._shard_of_tenant[event.tenant_id]
            events[shard].append(event)
            stream_time[shard].append(reached)
        return [
            (shard, ChatBatch(partition, times.clock, mine, stream_time[shard]))
            for shard, mine in enumerate(events)
            if mine or times.told
        ]

    def _distinct(self, number: Int32s) -> tuple[list[int], Int32s]:
        """Return the distinct numbers and where each event's stands among them, without sorting."""
        place = np.empty(len(self._sessions.keys_by_number), np.int32)
        order = np.arange(len(number), dtype=np.int32)
        place[number] = order
        distinct = number[place[number] == order]
        place[distinct] = np.arange(len(distinct), dtype=np.int32)
        return distinct.tolist(), place[number]

    def _is_news(self, partition: int, clock: int) -> bool:
        horizon = (clock - self._config.stream_delay_ms) // (_TOLD_MS if self._sorters else PANE_MS)
        if self._told.get(partition) == horizon:
            return False
        self._told[partition] = horizon
        return True


def _observed(_: Any) -> int:
    return OBSERVED


def _no_past(_: Any) -> None:
    return None


def _reply(
    batch: RawBatch, places: Int64s, times: _Times, place: int, event: InterventionOutcome | InterventionApproval
) -> Reply:
    """Return a reply with its place among the events of a chunk, which have these places in the batch."""
    return Reply(
        int(np.searchsorted(places, place)),
        event,
        int(times.running[place]),
        batch.topics[batch.topic[place]],
        int(batch.offset[place]),
        batch.values[place] or b"",
    )


def _by_place(events: list[Event], places: Int64s, start: int, count: int) -> list[str]:
    """Return the event ids of a run by their records' places; empty where there is no event."""
    if len(events) == count:
        return [event.event_id for event in events]
    ids = [""] * count
    for event, place in zip(events, places.tolist(), strict=True):
        ids[place - start] = event.event_id
    return ids
