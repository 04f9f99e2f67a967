"""Ending a flow well: a stop flag that signals set and sources read.

The engine ends cleanly only when its sources end: then the last epoch is closed, every sink drains in its snapshot and
``close`` is called. (An interrupt inside the engine skips the last snapshot and panics with one worker.) So a signal
only sets a flag, and a source that sees it raises ``StopIteration`` at its next batch.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

_log = structlog.get_logger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[threading.Event]:
    """Set ``stop`` at the first SIGTERM or Ctrl-C; a second one ends the process at once.

    Nothing is lost by the second: positions and state have not moved on past what sinks confirmed. Only the main
    thread may enter.
    """

    def on_signal(number: int, _frame: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        stop.set()
        _log.info("stopping", signal=signal.Signals(number).name)

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_with_parent(stop: threading.Event, parent: int, poll_s: float = 1.0) -> threading.Thread:
    """Set ``stop`` when ``parent``, which started this process, is gone: no child outlives a killed parent."""

    def watch() -> None:
        while not stop.wait(poll_s):
            if os.getppid() != parent:
                stop.set()

    thread = threading.Thread(target=watch, name="parent-watch", daemon=True)
    thread.start()
    return thread
