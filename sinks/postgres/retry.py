"""Wait out a database that is away: longer each time, not all at the same moment, and without filling the log."""

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import structlog
from prometheus_client import Counter, Gauge

from schemas.errors import TransientError

Result = TypeVar("Result")

log = structlog.get_logger(__name__)

RETRIES = Counter("attune_postgres_retries_total", "Attempts at a batch that failed and were repeated.")
AWAY = Gauge("attune_postgres_away", "Connections that wait for a database that is away.")

_away: set[int] = set()
"""The threads that wait. Adding and discarding are atomic, and each thread does so for itself alone."""
AWAY.set_function(lambda: len(_away))

FIRST_S = 0.1
LONGEST_S = 10.0
LOG_EVERY_S = 5.0


class GivenUp(Exception):  # noqa: N818 - no fault: somebody asked to stop
    """The wait was ended from outside."""


def delay_s(attempt: int, chance: float) -> float:
    """Return how long to wait after the attempt of this number (from 0); ``chance`` is a random number in 0..1.

    Doubles up to ``LONGEST_S``; half of it is chance, so that many writers do not come back in step.

    >>> [delay_s(n, 1.0) for n in (0, 1, 2, 20)]
    [0.1, 0.2, 0.4, 10.0]
    >>> delay_s(1, 0.0)
    0.1
    """
    most: float = min(LONGEST_S, FIRST_S * 2.0 ** min(attempt, 30))
    return most * (0.5 + chance / 2)


def is_away() -> bool:
    """Return whether anybody in this process waits for a database that is away."""
    return bool(_away)


def until_done(attempt: Callable[[], Result], stop: threading.Event) -> Result:
    """Call until it does not raise TransientError; raise GivenUp when ``stop`` is set meanwhile."""
    try:
        return _retried(attempt, stop)
    finally:
        _away.discard(threading.get_ident())


def _retried(attempt: Callable[[], Result], stop: threading.Event) -> Result:
    failures = 0
    since = told = time.monotonic()
    while True:
        try:
            result = attempt()
        except TransientError as error:
            RETRIES.inc()
            _away.add(threading.get_ident())
            now = time.monotonic()
            if failures == 0 or now - told >= LOG_EVERY_S:
                told = now
                log.warning("the database is away, will try again", error=str(error), away_s=round(now - since, 1))
            if stop.wait(delay_s(failures, random.random())):  # noqa: S311 - spreads load, protects nothing
                raise GivenUp from error
            failures += 1
        else:
            if failures:
                log.info("the database is back", away_s=round(time.monotonic() - since, 1), attempts=failures + 1)
            return result
