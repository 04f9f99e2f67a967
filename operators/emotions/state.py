"""What a shard of visitors remembers, and how it is packed."""

from typing import Final

import msgspec

from operators.emotions.table import Kept
from operators.snapshot import Snapshots
from operators.texts import Texts

SNAPSHOT_VERSION: Final = 5


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
    recent: dict[int, list[tuple[int, bytes, Texts]]] = msgspec.field(default_factory=dict)


SNAPSHOTS: Final = Snapshots(Remembered, "emotions", SNAPSHOT_VERSION)
