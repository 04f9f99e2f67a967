"""The bounded hand-over from worker threads to the gateway's event loop."""

import threading
from collections import deque
from collections.abc import Callable

from schemas.batches import Records
from schemas.errors import TransientError


class HandOver:
    """A queue between threads that counts records, not batches. ``wake`` is called after each put, from its thread."""

    def __init__(self, at_most: int, wake: Callable[[], None]) -> None:
        self._at_most = at_most
        self._wake = wake
        self._changed = threading.Condition()
        self._batches: deque[Records] = deque()
        self._put = 0
        self._done = 0
        self._waiters = 0
        self._closed: str | None = None

    def put(self, records: Records, timeout: float) -> None:
        """Hand a batch over; waits while the queue is full.

        Raises:
            TransientError: the other side took nothing in time, or is gone.
        """
        with self._changed:
            # A batch larger than the whole queue goes alone.
            self._wait(lambda: self._put == self._done or self.waiting + len(records) <= self._at_most, timeout)
            self._batches.append(records)
            self._put += len(records)
        self._wake()

    def drain(self, timeout: float) -> None:
        """Wait until everything that was put before this call has been taken in.

        Raises:
            TransientError: as for ``put``.
        """
        with self._changed:
            goal = self._put
            self._wait(lambda: self._done >= goal, timeout)

    def next(self) -> Records | None:
        """Return the oldest batch, None if there is none; to be called by the taking side alone."""
        with self._changed:
            return self._batches.popleft() if self._batches else None

    def done(self, records: Records) -> None:
        """Say that a batch from ``next`` has been taken in."""
        with self._changed:
            self._done += len(records)
            self._changed.notify_all()

    def close(self, why: str) -> None:
        """Let nobody wait any more: the taking side is gone."""
        with self._changed:
            self._closed = self._closed or why
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many records were put and are not taken in."""
        return self._put - self._done

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for records to be taken in."""
        return self._waiters > 0

    def _wait(self, condition: Callable[[], bool], timeout: float) -> None:
        self._waiters += 1
        try:
            self._changed.wait_for(lambda: self._closed is not None or condition(), timeout)
        finally:
            self._waiters -= 1
        if self._closed is not None:
            raise TransientError(f"websocket gateway: {self._closed}; {self.waiting} records were not taken")
        if not condition():
            raise TransientError(
                f"websocket gateway: it took nothing for {timeout:g} s and {self.waiting} records wait: the machine is"
                " overloaded or the gateway's thread hangs"
            )
