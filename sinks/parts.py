"""A sink whose number of parts in use may change between a stop and a restart.

A recovery store names every part that was ever in use, and the engine refuses to resume without one of them. So more
are listed than are used, which costs nothing: the engine builds a part when it gets its first records.
"""

from typing import Final
from zlib import adler32

from bytewax.outputs import FixedPartitionedSink

from schemas.batches import Records
from schemas.errors import ConfigError

MOST: Final = 256


class SpreadSink(FixedPartitionedSink[Records, None]):
    """Spreads keys over ``parts`` of all that are listed, at most ``MOST``; names have ``digits``."""

    def __init__(self, parts: int, digits: int) -> None:
        if parts < 1:
            raise ConfigError(f"a sink needs at least one part, got {parts}")
        self._parts = min(parts, MOST)
        self._digits = digits

    def list_parts(self) -> list[str]:
        """Return the names of all parts that may ever be in use."""
        return [f"{part:0{self._digits}d}" for part in range(MOST)]

    def part_fn(self, item_key: str) -> int:
        """Return the part of a key: one of those in use."""
        return adler32(item_key.encode()) % self._parts
