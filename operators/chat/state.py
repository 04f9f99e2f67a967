"""What a shard of chat answers remembers, and how it is packed: conversations with people, answers seen, tallies."""

from typing import Final

import msgspec

from operators.chat.calibration import Tally
from operators.chat.limits import Counts
from schemas.errors import TerminalError

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


class _Version(msgspec.Struct):
    version: int
    shards: int


_decode = msgspec.msgpack.Decoder(Remembered).decode
_decode_version = msgspec.msgpack.Decoder(_Version).decode
_encode = msgspec.msgpack.Encoder().encode


def pack(remembered: Remembered) -> bytes:
    """Pack the state; the same events give the same bytes."""
    return _encode(remembered)


def unpack(packed: bytes, shards: int) -> Remembered:
    """Return the packed state.

    Raises:
        TerminalError: it was written by another release, or with another number of shards.
    """
    found = _decode_version(packed)
    if found.version != SNAPSHOT_VERSION:
        raise TerminalError(
            f"The recovery store holds chat state of version {found.version}; this release reads {SNAPSHOT_VERSION}. "
            "Finish with the release that wrote it, or start with an empty recovery folder."
        )
    if found.shards != shards:
        raise TerminalError(
            f"The recovery store was made with {found.shards} shards of chat answers, got {shards}: conversations "
            f"would be in two places. Set it to {found.shards}, or start with an empty recovery folder."
        )
    return _decode(packed)
