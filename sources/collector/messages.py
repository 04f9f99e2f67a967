"""What is said over HTTP: the requests, and the answers with a verdict for every event."""

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from schemas.diagnosis import CONTROL, locate, parse
from schemas.inbound import MAX_TS, CleanId, Id, Ts
from schemas.outbound import Reason
from sources.collector.config import MAX_EVENTS

Offset = Annotated[int, Meta(ge=-MAX_TS, le=MAX_TS, description="milliseconds")]
Confidence = Annotated[float, Meta(ge=0.0, le=100.0, description="0..1, or per cent if above 1")]


class Batch(Struct, frozen=True):
    """Telemetry of one user in one session; without events it asks for ``offset_ms`` alone.

    Times are of the device's clock. A repeat has the same events, and the same ``offset_ms``.
    """

    session_id: CleanId
    user_id: CleanId
    sent_at: Ts
    events: Annotated[list[Any], Meta(max_length=MAX_EVENTS)]
    offset_ms: Offset | None = None


class Observation(Struct, frozen=True):
    """An emotion that another system diagnosed, now."""

    session_id: CleanId
    user_id: CleanId
    event_id: Id
    emotion: Id
    confidence: Confidence


class Verdict(Struct, frozen=True, omit_defaults=True):
    """What became of one event; ``event_id`` is empty where it could not be read."""

    event_id: str
    status: Literal["accepted", "rejected"]
    reason: Reason | None = None
    field: str | None = None
    expected: str | None = None
    got: str | None = None


class Verdicts(Struct, frozen=True):
    """The answer to a batch, in the order of its events. ``offset_ms`` is what new events should be sent with."""

    accepted: int
    rejected: int
    offset_ms: int
    verdicts: list[Verdict]


class Fault(Struct, frozen=True, omit_defaults=True):
    """Why a request was not taken; nothing of it was."""

    error: str
    message: str
    field: str | None = None
    expected: str | None = None
    got: str | None = None


class RefusedError(Exception):
    """A request is turned away with an HTTP status. What it says goes to the client and holds no internals."""

    def __init__(self, status: int, fault: Fault, retry_after_s: float | None = None) -> None:
        super().__init__(fault.message)
        self.status = status
        self.fault = fault
        self.retry_after_s = retry_after_s


def refused(status: int, error: str, message: str, retry_after_s: float | None = None) -> RefusedError:
    """Return the error that turns a request away without naming a field."""
    return RefusedError(status, Fault(error, message), retry_after_s)


_WHOLE = ("sent_at", "offset_ms")

T = TypeVar("T", Batch, Observation)


def read_request(body: bytes, kind: type[T]) -> T:
    """Decode the body of a request; what a batch's events are is left to the judge.

    Raises:
        RefusedError: 400, it is no JSON; 422, a field is not as it should be.
    """
    try:
        found = parse(body)
    except (ValueError, RecursionError):
        raise refused(400, "malformed_json", "The body is no JSON in UTF-8.") from None
    for name in _WHOLE if isinstance(found, dict) else ():
        # 1.0 is an integer for JSON Schema, and so for whoever reads our document, but not for msgspec.
        if isinstance(value := found.get(name), float) and value.is_integer():
            found[name] = int(value)
    try:
        message = msgspec.convert(found, kind)
    except (ValueError, RecursionError) as error:
        raise _misfit(found, str(error)) from None
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if name in ("session_id", "user_id") and CONTROL.search(value):
            raise _misfit(found, f"Expected `str` without control characters - at `$.{name}`")
        if isinstance(value, str) and not is_text(value):
            raise _misfit(found, f"Expected whole characters - at `$.{name}`")
    return message


def _misfit(found: object, said: str) -> RefusedError:
    where = locate(found, said)
    told = "A field of the request is not as it should be."
    return RefusedError(422, Fault("invalid_field", told, where.field, where.expected, where.got))


def is_text(text: str) -> bool:
    r"""Return whether a text can be written as UTF-8: JSON's escapes can also make halves of surrogate pairs.

    >>> is_text("a"), is_text("\ud800")
    (True, False)
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)
