"""What a shard of visitors remembers, and how it is packed."""

from typing import Final

import msgspec

from operators.emotions.table import Kept
from schemas.errors import TerminalError

SNAPSHOT_VERSION: Final = 2


class Remembered(msgspec.Struct):
    """The whole state of a shard. ``columns`` are those of its sessions, packed, in the order of ``keys``; times in ms.

    ``rules`` tells the rules file that the visitors were followed by. ``clocks`` and what follows are by partition.
    """

    version: int = SNAPSHOT_VERSION
    shards: int = 1
    rules: str = ""
    keys: list[str] = msgspec.field(default_factory=list)
    columns: bytes = b""
    visitors: Kept = msgspec.field(default_factory=Kept)
    clocks: dict[int, int] = msgspec.field(default_factory=dict)
    swept: dict[int, int] = msgspec.field(default_factory=dict)
    wanted: dict[int, dict[str, dict[int, int]]] = msgspec.field(default_factory=dict)
    kept: dict[int, dict[str, dict[int, float]]] = msgspec.field(default_factory=dict)
    ended: dict[int, dict[str, tuple[int, int]]] = msgspec.field(default_factory=dict)
    recent: dict[int, list[tuple[int, bytes, list[str]]]] = msgspec.field(default_factory=dict)


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
            f"The recovery store holds emotions' state of version {found.version}; this release reads "
            f"{SNAPSHOT_VERSION}. Finish with the release that wrote it, or start with an empty recovery folder."
        )
    if found.shards != shards:
        raise TerminalError(
            f"The recovery store was made with {found.shards} shards, got {shards}: visitors would be in two places. "
            f"Set window.shards to {found.shards}, or start with an empty recovery folder."
        )
    return _decode(packed)
