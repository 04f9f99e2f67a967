"""Has outcomes written down, on a thread of its own, so that a broker that is away holds up no client."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
TRIES: Final = 3
"""How often one report may fail alone while others are written."""
ANSWER_S: Final = 10.0
"""How long a client waits behind what fails before it is told to come again."""

OUTCOMES = Counter("attune_websocket_outcomes", "Outcomes of interventions, by what became of them.", ["result"])
FAULTS = Counter("attune_websocket_outcome_faults", "Failed attempts to write outcomes: away, or unexpected.", ["kind"])


@dataclass(slots=True, eq=False)
class _Entry:
    """A report in the queue: since when, and how often it has failed alone; ``then`` is how much was written then."""

    report: Report
    since: float
    tries: int = 0
    then: int = -1


class Recorder:
    """A bounded queue in front of ``write``. ``put`` never waits.

    What a client waits for is told to it when the brokers are away, and not tried again, since the client may; what
    nobody waits for is tried until it is written, and lost only when more than ``at_most`` wait or the process ends.
    After a failure that nobody expected all are put back and written one by one. One that fails alone goes to the end;
    it is given up once it has failed ``TRIES`` times while others were written. While none can be written nothing is
    given up, but no client waits for longer than ``ANSWER_S`` and one attempt.
    """

    def __init__(self, write: Write, done: Done, at_most: int = AT_MOST) -> None:
        self._write = write
        self._done = done
        self._at_most = at_most
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._stopping = threading.Event()
        self._fault = ""
        self._at_once = AT_ONCE
        self._written = 0
        self._suspect = ""
        """The event that failed alone since something was written: if another one does, the fault is not theirs."""
        self._traced: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="attune-outcomes", daemon=True)

    @property
    def fault(self) -> str:
        """Why outcomes can't be written; empty when all is well, or one of them alone is at fault."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self._stopping.is_set():
            return "the thread that writes them has ended"
        return self._fault

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, reports: Sequence[Report]) -> list[Report]:
        """Take reports; returns those that there is no room for."""
        now = time.monotonic()
        with self._changed:
            room = max(0, self._at_most - len(self._waiting))
            self._waiting.extend(_Entry(report, now) for report in reports[:room])
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
        while entries := self._next():
            if not self._attempt(entries) and self._stopping.wait(RETRY_S):
                return

    def _attempt(self, entries: list[_Entry]) -> bool:
        """Write reports down, and tell what became of them; whatever goes wrong, this thread goes on."""
        try:
            self._write([entry.report.event for entry in entries])
        except AttuneError as error:
            FAULTS.labels("away").inc()
            self._failed(str(error))
            self._put_back(entries, refuse=True)
        except Exception as error:  # noqa: BLE001 - told with its traceback by _unexpected
            FAULTS.labels("unexpected").inc()
            self._unexpected(entries, error)
        else:
            self._fault = self._suspect = ""
            self._written += len(entries)
            self._at_once = min(AT_ONCE, 2 * self._at_once)
            OUTCOMES.labels("written").inc(len(entries))
            self._tell(entries, well=True)
            return True
        self._dismiss()
        return False

    def _next(self) -> list[_Entry]:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping.is_set())
            count = min(self._at_once, len(self._waiting))
            return [self._waiting.popleft() for _ in range(count)]

    def _unexpected(self, entries: list[_Entry], error: Exception) -> None:
        """Find out whether one report is at fault, or none of them."""
        kind = type(error).__name__
        if kind not in self._traced:
            self._traced.add(kind)
            log.error("outcomes of interventions: unexpected failure", kind=kind, exc_info=error)
        self._at_once = 1
        if len(entries) > 1:
            self._put_back(entries)
            return
        (entry,) = entries
        name = entry.report.event.event_id
        if self._suspect not in ("", name):
            self._failed(f"unexpected {kind}")
        self._suspect = self._suspect or name
        if entry.then < self._written:
            entry.tries, entry.then = entry.tries + 1, self._written
        if entry.tries < TRIES or entry.report.waited:
            self._put_back(entries, refuse=True, last=True)
        else:
            log.error("an outcome of an intervention was given up", event_id=name, kind=kind, tries=entry.tries)
            OUTCOMES.labels("given_up").inc()
            self._tell(entries, well=False)

    def _failed(self, fault: str) -> None:
        if fault != self._fault:
            log.error("outcomes of interventions can't be written", fault=fault)
        self._fault = fault

    def _put_back(self, entries: list[_Entry], *, refuse: bool = False, last: bool = False) -> None:
        """Put back in front, or behind what came since (``last``); ``refuse`` those that a client waits for."""
        again = [entry for entry in entries if not (refuse and entry.report.waited)]
        with self._changed:
            room = max(0, self._at_most - len(self._waiting))
            if last:
                self._waiting.extend(again[:room])
            else:
                self._waiting.extendleft(reversed(again[:room]))
        self._refuse([*(entry for entry in entries if refuse and entry.report.waited), *again[room:]])

    def _dismiss(self) -> None:
        """Let no client wait for long behind what fails."""
        before = time.monotonic() - ANSWER_S
        with self._changed:
            tired = [entry for entry in self._waiting if entry.report.waited and entry.since <= before]
            if tired:
                self._waiting = deque(
                    entry for entry in self._waiting if not entry.report.waited or entry.since > before
                )
        self._refuse(tired)

    def _refuse(self, entries: list[_Entry]) -> None:
        if entries:
            OUTCOMES.labels("refused").inc(len(entries))
            self._tell(entries, well=False)

    def _tell(self, entries: list[_Entry], *, well: bool) -> None:
        try:
            self._done([entry.report for entry in entries], well)
        except Exception:  # whoever waits for it says it again
            log.exception("what became of outcomes could not be told", count=len(entries))
