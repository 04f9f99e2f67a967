"""A source that ends when it is told to, around any other: how a flow that never ends is ended well.

The engine ends cleanly only when its sources do: then the last epoch is closed and every sink drains in its snapshot.
An interrupt inside the engine skips that snapshot.
"""

import threading
from datetime import datetime
from typing import Generic, TypeVar

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

X = TypeVar("X")
S = TypeVar("S")


class Stoppable(FixedPartitionedSource[X, S], Generic[X, S]):
    """Ends every part of ``source`` at its next batch once ``stop`` is set; positions and step ids are the source's."""

    def __init__(self, source: FixedPartitionedSource[X, S], stop: threading.Event) -> None:
        self._source = source
        self._stop = stop

    def list_parts(self) -> list[str]:
        """Return the source's parts."""
        return self._source.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: S | None) -> "_Part[X, S]":
        """Return the source's part, stoppable."""
        return _Part(self._source.build_part(step_id, for_part, resume_state), self._stop)


class _Part(StatefulSourcePartition[X, S]):
    def __init__(self, part: StatefulSourcePartition[X, S], stop: threading.Event) -> None:
        self._part = part
        self._stop = stop

    def next_batch(self) -> "list[X]":
        if self._stop.is_set():
            raise StopIteration
        return list(self._part.next_batch())

    def next_awake(self) -> datetime | None:
        return self._part.next_awake()

    def snapshot(self) -> S:
        return self._part.snapshot()

    def close(self) -> None:
        self._part.close()
