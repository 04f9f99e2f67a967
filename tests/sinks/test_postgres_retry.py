import threading
from collections.abc import Callable

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors

from schemas.errors import TerminalError, TransientError
from sinks.postgres.faults import Fault, fault_of
from sinks.postgres.retry import FIRST_S, LONGEST_S, GivenUp, delay_s, until_done


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [error] * times

    def attempt() -> str:
        if left:
            raise left.pop()
        return "done"

    return attempt


def test_what_passes_by_is_tried_again() -> None:
    assert until_done(failing(2, TransientError("away")), threading.Event()) == "done"


def test_what_lasts_is_not_tried_again() -> None:
    with pytest.raises(TerminalError):
        until_done(failing(1, TerminalError("gone")), threading.Event())


def test_the_wait_ends_when_asked_to() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(GivenUp):
        until_done(failing(1, TransientError("away")), stop)


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_the_wait_is_between_half_and_all_of_its_bound(attempt: int, chance: float) -> None:
    assert FIRST_S / 2 <= delay_s(attempt, chance) <= LONGEST_S
    assert delay_s(attempt, chance) <= delay_s(attempt + 1, 1.0)


@pytest.mark.parametrize(
    "error, fault",
    [
        (errors.NumericValueOutOfRange(), Fault.DATA),
        (errors.CharacterNotInRepertoire(), Fault.DATA),
        (errors.CheckViolation(), Fault.DATA),
        (errors.NotNullViolation(), Fault.DATA),
        (errors.ProgramLimitExceeded(), Fault.DATA),
        (psycopg.DataError("too large"), Fault.DATA),
        (OverflowError("int too big to convert"), Fault.DATA),
        (psycopg.OperationalError("the connection is lost"), Fault.PASSING),
        (psycopg.InterfaceError("the connection is closed"), Fault.PASSING),
        (errors.AdminShutdown(), Fault.PASSING),
        (errors.CrashShutdown(), Fault.PASSING),
        (errors.CannotConnectNow(), Fault.PASSING),
        (errors.TooManyConnections(), Fault.PASSING),
        (errors.DiskFull(), Fault.PASSING),
        (errors.OutOfMemory(), Fault.PASSING),
        (errors.DeadlockDetected(), Fault.PASSING),
        (errors.SerializationFailure(), Fault.PASSING),
        (errors.QueryCanceled(), Fault.PASSING),
        (errors.LockNotAvailable(), Fault.PASSING),
        (errors.ReadOnlySqlTransaction(), Fault.PASSING),
        (errors.DatabaseDropped(), Fault.LASTING),
        (errors.UndefinedTable(), Fault.LASTING),
        (errors.UndefinedColumn(), Fault.LASTING),
        (errors.InsufficientPrivilege(), Fault.LASTING),
        (errors.InternalError_(), Fault.LASTING),
        (TypeError("a fault in the program"), Fault.LASTING),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.name,
)
def test_what_an_error_means(error: Exception, fault: Fault) -> None:
    assert fault_of(error) is fault
