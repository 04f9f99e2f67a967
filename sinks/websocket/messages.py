"""What is said on the wire: the client's three requests, the server's answers, and the envelope of a record."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from schemas.registry import CHANNELS, OUTBOUND

PROTOCOL: Final = 1
"""Raised when a message changes so that an older client could not read it."""

CHANNEL_OF: Final = {kind: entry.channel for kind, entry in OUTBOUND.items() if entry.channel}
"""The channel of every record type that has one. What is not in here is never sent: no other way leads out."""

Channels = Annotated[list[str], Meta(min_length=1, max_length=64)]
SessionIds = Annotated[list[Annotated[str, Meta(min_length=1, max_length=128)]], Meta(min_length=1)]


class Subscribe(msgspec.Struct, frozen=True, tag_field="op", tag="subscribe", forbid_unknown_fields=True):
    """Wants these channels from now on, of all sessions or of those named, instead of what it wanted of them before."""

    channels: Channels
    sessions: SessionIds | None = None


class Unsubscribe(msgspec.Struct, frozen=True, tag_field="op", tag="unsubscribe", forbid_unknown_fields=True):
    """Wants these channels no longer."""

    channels: Channels


class Ping(msgspec.Struct, frozen=True, tag_field="op", tag="ping", forbid_unknown_fields=True):
    """Wants a pong: a browser's script can't send the protocol's own pings."""


Request = Subscribe | Unsubscribe | Ping


class HelloLimits(msgspec.Struct, frozen=True):
    """The limits that a client must know to keep to them."""

    sessions: int
    message_bytes: int
    messages_per_s: float


class Hello(msgspec.Struct, frozen=True, tag_field="op", tag="hello"):
    """The first message of every connection. ``tenant`` is None where all tenants are seen; ``gateway`` is the run."""

    protocol: int
    gateway: str
    tenant: str | None
    role: str
    channels: tuple[str, ...]
    limits: HelloLimits


class Subscribed(msgspec.Struct, frozen=True, tag_field="op", tag="subscribed"):
    """The answer to subscribe; ``snapshot`` records follow at once, then the changes."""

    channels: tuple[str, ...]
    sessions: tuple[str, ...] | None
    snapshot: int


class Unsubscribed(msgspec.Struct, frozen=True, tag_field="op", tag="unsubscribed"):
    """The answer to unsubscribe; no record of these channels follows."""

    channels: tuple[str, ...]


class Pong(msgspec.Struct, frozen=True, tag_field="op", tag="pong"):
    """The answer to ping."""


class FaultCode(StrEnum):
    """Why a message was not taken."""

    BAD_MESSAGE = "bad_message"
    UNKNOWN_CHANNEL = "unknown_channel"
    TOO_MANY_SESSIONS = "too_many_sessions"
    TOO_FAST = "too_fast"


class Error(msgspec.Struct, frozen=True, tag_field="op", tag="error"):
    """The answer to a message that was not taken. Never repeats what the client said."""

    code: FaultCode
    message: str


Reply = Hello | Subscribed | Unsubscribed | Pong | Error


class FaultError(Exception):
    """A client's message can't be taken; becomes an ``Error`` and counts against the client."""

    def __init__(self, code: FaultCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Envelope:
    """One record ready for the wire, built once and shared by history and all queues.

    ``arrival`` counts the records of this hub and orders those of different tenants; it is never sent.
    """

    channel: str
    tenant: str
    session: str
    ts: int
    arrival: int
    data: bytes


_decoder: msgspec.json.Decoder[Request] = msgspec.json.Decoder(Request)
_encoder = msgspec.json.Encoder()
_heads = {channel: b'{"op":"record","channel":"%s","offset":' % channel.encode() for channel in CHANNELS}


def decode(message: str | bytes) -> Request:
    """Return the request in a text message, checked.

    Raises:
        FaultError: not text, not JSON, or not one of the requests.
    """
    if isinstance(message, bytes):
        raise FaultError(FaultCode.BAD_MESSAGE, "expected a text message, got a binary one")
    try:
        return _decoder.decode(message)
    except msgspec.ValidationError as error:
        raise FaultError(FaultCode.BAD_MESSAGE, f"expected subscribe, unsubscribe or ping: {error}"[:200]) from None
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise FaultError(FaultCode.BAD_MESSAGE, "expected one JSON object") from None


def encode(reply: Reply) -> bytes:
    """Return a reply as it goes on the wire.

    >>> encode(Pong())
    b'{"op":"pong"}'
    """
    return _encoder.encode(reply)


def wrap(channel: str, offset: int, payload: bytes) -> bytes:
    """Return a record's message around its payload, which is a complete JSON object and is not looked into.

    >>> wrap("engagement", 7, b'{"type":"engagement"}')
    b'{"op":"record","channel":"engagement","offset":7,"record":{"type":"engagement"}}'
    """
    return b'%s%d,"record":%s}' % (_heads[channel], offset, payload)


def known(channels: list[str]) -> tuple[str, ...]:
    """Return the channels without repeats; a name is known exactly as it is spelled or not at all.

    Raises:
        FaultError: one is not a channel.
    """
    if not set(channels).issubset(CHANNELS):
        raise FaultError(FaultCode.UNKNOWN_CHANNEL, f"expected only channels out of {', '.join(CHANNELS)}")
    return tuple(dict.fromkeys(channels))
