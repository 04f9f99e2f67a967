"""What a client may say: six messages, checked while they are decoded."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.registry import CHANNELS

Names = Annotated[list[str], Meta(min_length=1, max_length=64)]
SessionIds = Annotated[list[Annotated[str, Meta(min_length=1, max_length=128)]], Meta(min_length=1)]
Offset = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Resume(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a subscriber stood in a run of the gateway: the offset of each channel."""

    gateway: Annotated[str, Meta(max_length=64)]
    offsets: Annotated[dict[str, Offset], Meta(min_length=1, max_length=64)]


class Request(msgspec.Struct, frozen=True, tag_field="op", tag=str.lower, forbid_unknown_fields=True):
    """A message of a client. What is not listed is an error."""


class Authenticate(Request, frozen=True):
    """Says who it is, in the first message or with a fresh token."""

    token: str


class Subscribe(Request, frozen=True):
    """Wants these channels from now on, of all sessions or of those named, instead of what it wanted of them before.

    First comes what followed the offsets to ``resume``, else the latest ``history`` records, else the snapshot.
    """

    channels: Names
    sessions: SessionIds | None = None
    history: Annotated[int, Meta(ge=1)] | None = None
    resume: Resume | None = None


class Unsubscribe(Request, frozen=True):
    """Wants these channels no longer."""

    channels: Names


class Acknowledge(Request, frozen=True):
    """Tells what became of an intervention on the client's screen.

    The receipt is the one that came with it: a gateway that was restarted, or another one, knows it by that.
    """

    intervention_id: Annotated[str, Meta(min_length=1, max_length=1024)]
    outcome: Literal["shown", "clicked", "dismissed"]
    receipt: Annotated[str, Meta(max_length=64)] | None = None


class Ping(Request, frozen=True):
    """Wants a pong: a browser's script can't send the protocol's own pings."""


AnyRequest = Authenticate | Subscribe | Unsubscribe | Acknowledge | Ping


class FaultCode(StrEnum):
    """Why a message was not taken."""

    BAD_MESSAGE = "bad_message"
    BAD_TOKEN = "bad_token"  # noqa: S105 - a code, no password
    FORBIDDEN = "forbidden"
    UNKNOWN_CHANNEL = "unknown_channel"
    TOO_MANY_SESSIONS = "too_many_sessions"
    TOO_FAST = "too_fast"
    UNKNOWN_INTERVENTION = "unknown_intervention"
    UNAVAILABLE = "unavailable"


class FaultError(Exception):
    """A client's message can't be taken; becomes an ``Error`` and counts against the client.

    ``about`` is the acknowledgement that it answers, if it answers one.
    """

    def __init__(self, code: FaultCode, message: str, about: Acknowledge | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.about = about


_decoder: msgspec.json.Decoder[AnyRequest] = msgspec.json.Decoder(AnyRequest)
_OPS = "authenticate, subscribe, unsubscribe, acknowledge or ping"


def decode(message: str | bytes) -> AnyRequest:
    """Return the request in a text message, checked.

    Raises:
        FaultError: not text, not JSON, or not one of the requests.
    """
    if isinstance(message, bytes):
        raise FaultError(FaultCode.BAD_MESSAGE, "expected a text message, got a binary one")
    try:
        return _decoder.decode(message)
    except msgspec.ValidationError as error:
        raise FaultError(FaultCode.BAD_MESSAGE, f"expected {_OPS}: {error}"[:200]) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise FaultError(FaultCode.BAD_MESSAGE, "expected one JSON object") from None


def known(channels: list[str]) -> tuple[str, ...]:
    """Return the channels without repeats; a name is known exactly as it is spelled or not at all.

    Raises:
        FaultError: one is not a channel.
    """
    if not set(channels).issubset(CHANNELS):
        raise FaultError(FaultCode.UNKNOWN_CHANNEL, f"expected only channels out of {', '.join(CHANNELS)}")
    return tuple(dict.fromkeys(channels))
