"""What crosses between the rooms: batches, not records, because every hand-over to the engine costs."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
UInt16s = npt.NDArray[np.uint16]

END_OF_TIME = 1 << 62
"""The stream time at the end of a replay: beyond every event (milliseconds)."""


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Consecutive records of one partition stream as a source read them, of shape (n,) each; n may be 0.

    ``values`` are the payloads (None: a record without one). ``record_ts`` are Kafka's record timestamps in
    milliseconds, ``topic`` indexes ``topics``, ``offset`` is the position in that topic's partition (a replay: the
    line). ``partition`` is the stream's index. ``stream_time`` is the highest record timestamp before this batch;
    ``clock``, where given, stands in for stream time after it (the wall clock at the end of all partitions, or
    ``END_OF_TIME``).
    """

    partition: int
    topics: tuple[str, ...]
    values: list[bytes | None]
    record_ts: Int64s
    topic: UInt16s
    offset: Int64s
    stream_time: int
    clock: int | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Records:
    """Encoded outbound records of one type on their way to the sinks; all lists have the same length.

    ``payloads`` are complete JSON objects, encoded once; no sink encodes them again. ``revisions`` is empty where the
    type has none (all 0).
    """

    type: str
    ids: list[str]
    tenants: list[str]
    sessions: list[str]
    ts: list[int]
    payloads: list[bytes]
    revisions: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)
