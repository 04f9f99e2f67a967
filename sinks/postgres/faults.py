"""What a database error means: the row is bad, the moment is bad, or nothing will help.

This alone decides what is done: a bad row is set aside, a bad moment is waited out, the rest ends the flow.
"""

from enum import Enum, auto

import psycopg

from schemas.errors import TerminalError, TransientError


class Fault(Enum):
    """What to do about an error."""

    DATA = auto()
    """This row can't be stored: set it aside."""
    PASSING = auto()
    """Try the same batch again, on a new connection."""
    LASTING = auto()
    """No retry mends it: end the flow."""


DATA_CLASSES = (
    "22",  # data exception: out of range, NUL in text, bad JSON
    "23",  # integrity constraint violation
    "54",  # program limit exceeded: too long for an index
)
PASSING_CLASSES = (
    "08",  # connection exception
    "40",  # transaction rollback: deadlock, serialization failure
    "53",  # insufficient resources: disk full, too many connections
    "57",  # operator intervention: shutdown, crash, starting up, statement timeout
    "58",  # system error: I/O
)
PASSING_STATES = (
    "25006",  # read-only transaction: this server is the standby at the moment
    "25P03",  # idle in transaction for too long
    "25P04",  # transaction timeout
    "55P03",  # lock not available in time
)
LASTING_STATES = (
    "57P04",  # database dropped
)
TOO_MUCH_STATES = (
    "53200",  # out of memory, that for locks included: each chunk of a hypertable needs several
    "53400",  # configuration limit exceeded: so many compressed rows may not be touched at once
)


OURS: tuple[tuple[tuple[type[Exception], ...], Fault], ...] = (
    ((psycopg.DataError, ArithmeticError, ValueError), Fault.DATA),
    ((psycopg.OperationalError, psycopg.InterfaceError), Fault.PASSING),
)
"""Errors without an SQLSTATE come from this side of the wire: a value that does not fit the binary format, or a
connection that is gone."""


def fault_of(error: BaseException) -> Fault:
    """Return what an error raised while writing means.

    >>> fault_of(psycopg.errors.NumericValueOutOfRange()), fault_of(psycopg.errors.DeadlockDetected())
    (<Fault.DATA: 1>, <Fault.PASSING: 2>)
    >>> fault_of(psycopg.errors.UndefinedTable()), fault_of(OverflowError())
    (<Fault.LASTING: 3>, <Fault.DATA: 1>)
    """
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if state is None:
        for errors, fault in OURS:
            if isinstance(error, errors):
                return fault
        return Fault.LASTING
    if state.startswith(DATA_CLASSES):
        return Fault.DATA
    passing = state.startswith(PASSING_CLASSES) or state in PASSING_STATES
    return Fault.PASSING if passing and state not in LASTING_STATES else Fault.LASTING


def is_too_much(error: psycopg.Error) -> bool:
    """Return whether fewer rows at once might pass where these did not.

    >>> is_too_much(psycopg.errors.OutOfMemory()), is_too_much(psycopg.errors.DiskFull())
    (True, False)
    """
    return error.sqlstate in TOO_MUCH_STATES


def message_of(error: BaseException) -> str:
    """Return what the database said, in one line and without the row's content that it may quote in its detail."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return f"{error.diag.message_primary} (SQLSTATE {error.sqlstate})"
    return " ".join(str(error).split()) or type(error).__name__


def meaning(error: psycopg.Error, doing: str) -> TransientError | TerminalError:
    """Return the error of ours that says what a database error means for who called."""
    told = f"{doing}: {message_of(error)}"
    if fault_of(error) is Fault.PASSING:
        return TransientError(told)
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        return TerminalError(f"{told}; the schema has changed under us: run `attune db migrate`")
    return TerminalError(told)
