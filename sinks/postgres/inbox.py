"""The bounded queue between a worker of the engine and the thread that writes.

The worker puts, and waits when the queue is full: that is the back-pressure. The thread takes batches of a certain
size or age, and confirms each when it is committed; the worker can wait until all that it put is confirmed.
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.batches import Records


@dataclass(frozen=True)
class Limits:
    """When a batch is written, and how much may wait. Ages in seconds; ``max_bytes`` counts payloads.

    Up to ``backlog`` full batches wait, beside the one that is being written.
    """

    max_rows: int = 5000
    max_bytes: int = 8 * 1024 * 1024
    max_age_s: float = 0.2
    backlog: int = 4

    def __post_init__(self) -> None:
        """Refuse limits under which nothing would move."""
        if min(self.max_rows, self.max_bytes, self.backlog) < 1 or self.max_age_s < 0:
            raise ValueError(f"every limit must be positive: {self}")


class Inbox:
    """One producer's queue to one consumer. After ``fail`` every call of the producer raises the error given."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Records, int, float]] = deque()
        self._rows = 0
        self._bytes = 0
        self._in_hand = 0
        self._put = 0
        self._taken = 0
        self._confirmed = 0
        self._wanted = 0
        """Up to this number of what was put, nothing waits for its age."""
        self._closed = False
        self._error: BaseException | None = None

    def put(self, records: Records) -> None:
        """Queue records, once there is room; what is larger than a batch is divided."""
        for part in divide(records, self._limits.max_rows):
            size = sum(map(len, part.payloads))
            with self._changed:
                self._wait_until_room(len(part), size)
                self._waiting.append((part, size, time.monotonic()))
                self._rows += len(part)
                self._bytes += size
                self._put += 1
                self._changed.notify_all()

    def wait_confirmed(self, timeout_s: float | None = None) -> bool:
        """Wait until all that was put is confirmed; return whether it is."""
        with self._changed:
            self._wanted = self._put
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._confirmed >= self._wanted or self._error is not None, timeout_s)
            self._raise_error()
            return self._confirmed >= self._wanted

    @property
    def unconfirmed(self) -> int:
        """How many records wait, or are taken and not confirmed."""
        with self._changed:
            return self._rows + self._in_hand

    def take(self) -> list[Records]:
        """Wait for a batch that is full or old enough, and return it; empty once closed and drained."""
        with self._changed:
            while not self._due():
                self._changed.wait(self._until_due())
            batch: list[Records] = []
            rows = size = 0
            while self._waiting and rows < self._limits.max_rows and size < self._limits.max_bytes:
                part, part_size, _ = self._waiting[0]
                if batch and rows + len(part) > self._limits.max_rows:
                    break
                self._waiting.popleft()
                batch.append(part)
                rows += len(part)
                size += part_size
            self._rows -= rows
            self._bytes -= size
            self._taken += len(batch)
            self._in_hand += rows
            self._changed.notify_all()
            return batch

    def confirm(self, batch: list[Records]) -> None:
        """Say that a batch that was taken is committed."""
        with self._changed:
            self._confirmed += len(batch)
            self._in_hand -= sum(map(len, batch))
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """End it: the producer gets the error from now on."""
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def close(self) -> None:
        """Let the consumer take what is left, then nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Forget what is left: the engine has dropped its end, and will send it again."""
        with self._changed:
            self._waiting.clear()
            self._rows = self._bytes = 0
            self._closed = True
            self._changed.notify_all()

    def _wait_until_room(self, rows: int, size: int) -> None:
        limits = self._limits

        def room() -> bool:
            fits = self._rows + rows <= limits.max_rows * limits.backlog
            fits = fits and self._bytes + size <= limits.max_bytes * limits.backlog
            return fits or not self._waiting or self._error is not None

        self._changed.wait_for(room)
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _due(self) -> bool:
        if not self._waiting:
            return self._closed
        full = self._rows >= self._limits.max_rows or self._bytes >= self._limits.max_bytes
        return full or self._closed or self._taken < self._wanted or self._until_due() == 0

    def _until_due(self) -> float | None:
        """Return the seconds until the oldest is old enough, None if there is none."""
        if not self._waiting:
            return None
        return max(0.0, self._waiting[0][2] + self._limits.max_age_s - time.monotonic())


def divide(records: Records, most: int) -> Iterator[Records]:
    """Yield the records in parts of at most ``most``; nothing for none.

    >>> three = Records("engagement", ["a", "b", "c"], ["t"] * 3, ["s"] * 3, [1, 2, 3], [b"{}"] * 3)
    >>> [part.ids for part in divide(three, 2)]
    [['a', 'b'], ['c']]
    """
    if 0 < len(records) <= most:
        yield records
        return
    for start in range(0, len(records), most):
        part = slice(start, start + most)
        yield Records(
            type=records.type,
            ids=records.ids[part],
            tenants=records.tenants[part],
            sessions=records.sessions[part],
            ts=records.ts[part],
            payloads=records.payloads[part],
            revisions=records.revisions[part],
        )
