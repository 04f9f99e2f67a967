"""An in-memory source of several partitions, for runs with several processes."""

import time

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from schemas.batches import RawBatch


class Partitions(FixedPartitionedSource[RawBatch, int]):
    """Batches by partition; each process is given its own.

    ``began`` is when the engine, after it had connected its processes, first asked for a part (`time.monotonic`).
    """

    def __init__(self, batches: dict[int, list[RawBatch]]) -> None:
        self._batches = batches
        self.began: float | None = None

    def list_parts(self) -> list[str]:
        """Return the partitions that this process holds."""
        return [str(part) for part in self._batches]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> "_Part":
        """Begin where the snapshot stands."""
        self.began = self.began or time.monotonic()
        return _Part(self._batches[int(for_part)], resume_state or 0)


class _Part(StatefulSourcePartition[RawBatch, int]):
    def __init__(self, batches: list[RawBatch], at: int) -> None:
        self._batches = batches
        self._at = at

    def next_batch(self) -> list[RawBatch]:
        if self._at >= len(self._batches):
            raise StopIteration
        self._at += 1
        return [self._batches[self._at - 1]]

    def snapshot(self) -> int:
        return self._at
