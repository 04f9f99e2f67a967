"""What a shard of chat answers remembers, and how it is packed: conversations with people, answers seen, tallies."""

from typing import Final

import msgspec

from operators.chat.calibration import Tally
from operators.chat.limits import Counts
from operators.snapshot import Snapshots

SNAPSHOT_VERSION: Final = 1


class Conversation(msgspec.Struct, array_like=True):
    """A conversation that a person was called into and has not resolved; one with the bot has no state.

    ``status``: ``waiting`` in the queue (path E), or with a ``human`` (path D). ``confidence`` is that of the answer
    that was handed over. ``touched`` is the stream time of its last answer (milliseconds) in that answer's
    ``partition``.
    """

    status: str
    confidence: float
    partition: int
    touched: int


class Remembered(msgspec.Struct):
    """The whole state of a shard. Its keys are ids joined by a NUL, which none but the last one of a key may hold.

    ``clocks`` (stream time, milliseconds) and ``seen`` (digests, one after another, the oldest first) are by partition.
    """

    version: int = SNAPSHOT_VERSION
    shards: int = 1
    clocks: dict[int, int] = msgspec.field(default_factory=dict)
    swept: int = 0
    conversations: dict[str, Conversation] = msgspec.field(default_factory=dict)
    counts: Counts = msgspec.field(default_factory=dict)
    tallies: dict[str, Tally] = msgspec.field(default_factory=dict)
    seen: dict[int, bytes] = msgspec.field(default_factory=dict)


SNAPSHOTS: Final = Snapshots(Remembered, "chat", SNAPSHOT_VERSION)
