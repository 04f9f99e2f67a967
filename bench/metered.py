"""A source that ends by itself when all was read, around one that does not: a run over Kafka that can be timed."""

import time
from datetime import datetime, timedelta
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.testing import run_main

from bench.measure import Moment, Timing
from schemas.batches import RawBatch

DEADLINE_S = 180.0
EPOCH_S = 10.0
"""The default of the settings."""


class Metered(FixedPartitionedSource[RawBatch, Any]):
    """Ends when ``count`` events were handed on; ``left`` were not yet. ``begun`` is when its first part was built."""

    def __init__(self, source: FixedPartitionedSource[RawBatch, Any], count: int) -> None:
        self._source = source
        self.left = count
        self.begun: Moment | None = None
        self.deadline = time.monotonic() + DEADLINE_S

    def list_parts(self) -> list[str]:
        """Return the source's parts."""
        return self._source.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> "_Part":
        """Return the source's part, which counts."""
        self.begun = self.begun or Moment.now()
        return _Part(self, self._source.build_part(step_id, for_part, resume_state))


class _Part(StatefulSourcePartition[RawBatch, Any]):
    def __init__(self, whole: Metered, part: StatefulSourcePartition[RawBatch, Any]) -> None:
        self._whole = whole
        self._part = part

    def next_batch(self) -> list[RawBatch]:
        if self._whole.left <= 0:
            raise StopIteration
        assert time.monotonic() < self._whole.deadline, f"{self._whole.left} events were not read"
        batches = list(self._part.next_batch())
        self._whole.left -= sum(map(len, batches))
        return batches

    def next_awake(self) -> datetime | None:
        return self._part.next_awake()

    def snapshot(self) -> Any:
        return self._part.snapshot()

    def close(self) -> None:
        self._part.close()


def run_to_end(flow: Dataflow, source: Metered) -> Timing:
    """Run a flow on a metered source; return how long it took, from the first part to the last record confirmed."""
    run_main(flow, epoch_interval=timedelta(seconds=EPOCH_S))
    assert source.begun is not None, "the engine asked for no part"
    assert source.left == 0, f"{-source.left} events too many"
    return source.begun.until_now()
