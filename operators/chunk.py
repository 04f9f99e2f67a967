"""The events of one batch that belong to one shard, as columns: what travels from the decoder to the window."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from operators.texts import TextColumn
from schemas.batches import Int64s, UInt16s
from schemas.inbound import AnyEvent, InterventionApproval, InterventionOutcome

UInt8s = npt.NDArray[np.uint8]
UInt64s = npt.NDArray[np.uint64]
Int32s = npt.NDArray[np.int32]

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[str]).decode

_decode_event = msgspec.json.Decoder(AnyEvent).decode

SEPARATOR = "\0"
"""Stands between tenant and session in a session's key; neither holds control characters, so it is unambiguous."""


@dataclass(frozen=True, slots=True)
class Watched:
    """The events of a chunk that rules of emotions ask for, in order: what is found out as they are decoded.

    ``at`` are their places in the chunk, ``ids`` their event ids; ``past`` is what others are held against, None where
    none are (``operators.emotions.sorter.Past``). The events themselves are let go: few are looked at again, which
    `Chunk.event` decodes anew.
    """

    at: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    masks: list[int] = field(default_factory=list)
    past: list[Any] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.at)

    def some(self, which: Int64s, at: Int64s) -> "Watched":
        """Return some of these, by number, which stand at other places then."""
        numbers = which.tolist()
        return Watched(at, *([column[i] for i in numbers] for column in (self.masks, self.past, self.ids)))


@dataclass(frozen=True, slots=True)
class Reply:
    """What people answered to an intervention: an outcome or an approval, which belong to no window.

    ``at`` is how many of the chunk's events came before; the rest is where its record stands and what it says.
    """

    at: int
    event: InterventionOutcome | InterventionApproval
    stream_time: int
    topic: str
    offset: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events of one partition stream for one shard, in stream order; every column has shape (n,), n may be 0.

    ``sessions`` are the distinct session keys, ``session`` indexes them. ``user`` and ``poll`` are 64-bit digests of
    the ids (``poll`` is 0 where the event has none). ``kind`` is a number of ``operators.kinds``. ``ts`` and
    ``record_ts`` are milliseconds; ``stream_time`` is the highest record timestamp up to and including each event.
    ``clock`` is the partition's stream time after the whole batch. ``topic`` (an index of ``topics``) and ``offset``
    say where each record stands. ``event_ids`` and ``payloads`` are those of the whole batch, which its chunks share:
    ``place`` says which belong to each event. ``watched`` and ``replies`` are what the rules of emotions and the
    interventions need beside the columns. ``shard`` is the one that it is for.
    """

    partition: int
    clock: int
    topics: tuple[str, ...]
    sessions: list[str]
    session: Int32s
    user: UInt64s
    poll: UInt64s
    kind: UInt8s
    ts: Int64s
    record_ts: Int64s
    stream_time: Int64s
    topic: UInt16s
    offset: Int64s
    place: Int64s
    event_ids: TextColumn
    payloads: list[bytes | None]
    watched: Watched = field(default_factory=Watched)
    replies: list[Reply] = field(default_factory=list)
    shard: int = 0

    def __len__(self) -> int:
        return len(self.ts)

    def payload(self, at: int) -> bytes:
        """Return the event's record as it was read."""
        return self.payloads[int(self.place[at])] or b""

    def event(self, at: int) -> Any:
        """Decode the event anew."""
        return _decode_event(self.payload(at))

    def __reduce__(self) -> tuple[Callable[..., "Chunk"], tuple[Any, ...]]:
        """Pickle only the events' own strings, each kind as one blob: a third of the time and size of one by one."""
        columns = [getattr(self, name) for name in _COLUMNS]
        places = self.place.tolist()
        payloads = [self.payloads[i] or b"" for i in places]
        return _unpickle, (
            (self.partition, self.clock, self.topics, self.shard),
            _encode(self.sessions),
            columns,
            _encode(self.event_ids.at(places)),
            np.fromiter(map(len, payloads), np.int32, len(payloads)),
            b"".join(payloads),
            self.watched,
            self.replies,
        )


_COLUMNS = ("session", "user", "poll", "kind", "ts", "record_ts", "stream_time", "topic", "offset")


def _unpickle(
    head: tuple[int, int, tuple[str, ...], int],
    sessions: bytes,
    columns: list[Any],
    event_ids: bytes,
    lengths: Int32s,
    payloads: bytes,
    watched: Watched,
    replies: list[Reply],
) -> Chunk:
    ends = np.cumsum(lengths, dtype=np.int64).tolist()
    partition, clock, topics, shard = head
    return Chunk(
        partition,
        clock,
        topics,
        _decode(sessions),
        *columns,  # type: ignore[call-arg]  # as many as _COLUMNS names, which a list's type can't say
        np.arange(len(lengths)),
        TextColumn(_decode(event_ids)),
        [payloads[start:end] for start, end in zip([0, *ends], ends, strict=False)],
        watched,
        replies,
        shard,
    )
