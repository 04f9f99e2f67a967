"""A sink that counts and forgets, so that a benchmark measures what comes before it."""

from typing import Any

from bytewax.outputs import DynamicSink, StatelessSinkPartition


class Counting(DynamicSink[Any]):
    """Counts items, and the records in them where they are batches."""

    def __init__(self) -> None:
        self.items = 0
        self.records = 0

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Part":
        """Return a worker's part; all count together."""
        return _Part(self)


class _Part(StatelessSinkPartition[Any]):
    def __init__(self, counting: Counting) -> None:
        self._counting = counting

    def write_batch(self, items: list[Any]) -> None:
        self._counting.items += len(items)
        self._counting.records += sum(len(batch) for _, batch in items)
