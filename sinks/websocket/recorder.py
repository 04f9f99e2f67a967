"""Has outcomes written down, on a thread of its own, so that a broker that is away holds up no client."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from prometheus_client import Counter

from schemas.errors import AttuneError
from schemas.inbound import InterventionOutcome
from sinks.websocket.hub import Report

log = structlog.get_logger(__name__)

Write = Callable[[Sequence[InterventionOutcome]], None]
"""Writes outcomes down; returns when that is certain. Called on one thread, and again after whatever it raises."""
Done = Callable[[Sequence[Report], bool], None]
"""Is told which reports were written (True) or could not be."""

AT_MOST: Final = 20_000
AT_ONCE: Final = 1_000
RETRY_S: Final = 1.0

OUTCOMES = Counter("attune_websocket_outcomes", "Outcomes of interventions, by what became of them.", ["result"])
FAULTS = Counter("attune_websocket_outcome_faults", "Failed attempts to write outcomes: away, or unexpected.", ["kind"])


class Recorder:
    """A bounded queue in front of ``write``. ``put`` never waits.

    What a client waits for is told to it and not tried again, since the client may; what nobody waits for is tried
    until it is written, and lost only when more than ``at_most`` wait or the process ends. After a failure that nobody
    expected outcomes are written one by one, and the one that failed goes to the end: if it is at fault, it holds up no
    other.
    """

    def __init__(self, write: Write, done: Done, at_most: int = AT_MOST) -> None:
        self._write = write
        self._done = done
        self._at_most = at_most
        self._changed = threading.Condition()
        self._waiting: deque[Report] = deque()
        self._stopping = threading.Event()
        self._fault = ""
        self._at_once = AT_ONCE
        self._thread = threading.Thread(target=self._run, name="attune-outcomes", daemon=True)

    @property
    def fault(self) -> str:
        """Why the last attempt failed; empty when all is well."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self._stopping.is_set():
            return "the thread that writes them has ended"
        return self._fault

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, reports: Sequence[Report]) -> list[Report]:
        """Take reports; returns those that there is no room for."""
        with self._changed:
            room = max(0, self._at_most - len(self._waiting))
            self._waiting.extend(reports[:room])
            self._changed.notify()
        refused = list(reports[room:])
        OUTCOMES.labels("refused").inc(len(refused))
        return refused

    def stop(self, timeout_s: float) -> None:
        """Write what waits, for at most this long, and end."""
        self._stopping.set()
        with self._changed:
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._waiting:
            log.error("outcomes of interventions were not written", count=len(self._waiting), fault=self._fault)

    def _run(self) -> None:
        while reports := self._next():
            if not self._attempt(reports) and self._stopping.wait(RETRY_S):
                return

    def _attempt(self, reports: list[Report]) -> bool:
        """Write reports down, and tell what became of them; whatever goes wrong, this thread goes on."""
        try:
            self._write([report.event for report in reports])
        except AttuneError as error:
            FAULTS.labels("away").inc()
            self._failed(reports, str(error))
            return False
        except Exception as error:  # noqa: BLE001 - told with its traceback by _failed
            FAULTS.labels("unexpected").inc()
            self._at_once = 1
            self._failed(reports, f"unexpected {type(error).__name__}", last=len(reports) == 1, trace=True)
            return False
        self._fault = ""
        self._at_once = min(AT_ONCE, 2 * self._at_once)
        OUTCOMES.labels("written").inc(len(reports))
        self._tell(reports, well=True)
        return True

    def _next(self) -> list[Report]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping.is_set())
            count = min(self._at_once, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _failed(self, reports: list[Report], fault: str, *, last: bool = False, trace: bool = False) -> None:
        """Keep what nobody waits for: in front, or behind what came since (``last``)."""
        if fault != self._fault:
            log.error("outcomes of interventions can't be written", fault=fault, exc_info=trace)
        self._fault = fault
        again = [report for report in reports if report.client is None]
        with self._changed:
            room = max(0, self._at_most - len(self._waiting))
            if last:
                self._waiting.extend(again[:room])
            else:
                self._waiting.extendleft(reversed(again[:room]))
        lost = [*(report for report in reports if report.client is not None), *again[room:]]
        OUTCOMES.labels("refused").inc(len(lost))
        self._tell(lost, well=False)

    def _tell(self, reports: list[Report], *, well: bool) -> None:
        try:
            self._done(reports, well)
        except Exception:  # whoever waits for it says it again
            log.exception("what became of outcomes could not be told", count=len(reports))
