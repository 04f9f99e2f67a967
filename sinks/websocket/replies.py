"""What the gateway says of its own: greetings and replies."""

from typing import Final, Literal

import msgspec

from sinks.websocket.envelope import framed
from sinks.websocket.requests import FaultCode

PROTOCOL: Final = 2
"""Raised when a message changes so that an older client could not read it."""

Resumption = Literal["resumed", "too_old", "other_gateway", "unknown_offset"]


class Reply(msgspec.Struct, frozen=True, tag_field="op", tag=str.lower):
    """A message of the gateway."""


class Challenge(Reply, frozen=True):
    """The first message where a token is needed and did not come with the handshake."""

    within_s: float


class HelloLimits(msgspec.Struct, frozen=True):
    """The limits that a client must know to keep to them."""

    sessions: int
    history: int
    message_bytes: int
    messages_per_s: float


class Hello(Reply, frozen=True):
    """Tells a connection what it is. ``gateway`` is the run of the gateway: offsets compare only within one.

    ``tenant`` is None where all tenants are seen, ``session`` where all sessions are.
    """

    protocol: int
    gateway: str
    tenant: str | None
    role: str
    user: str
    session: str | None
    channels: tuple[str, ...]
    expires_ts: int | None
    limits: HelloLimits


class Authenticated(Reply, frozen=True):
    """The answer to a fresh token: the connection may stay until it expires."""

    expires_ts: int | None


class Subscribed(Reply, frozen=True):
    """The answer to subscribe: ``snapshot`` records follow and bring the subscriber to ``offsets``."""

    channels: tuple[str, ...]
    sessions: tuple[str, ...] | None
    snapshot: int
    offsets: dict[str, int]
    resumed: dict[str, Resumption]


class Unsubscribed(Reply, frozen=True):
    """The answer to unsubscribe; no record of these channels follows."""

    channels: tuple[str, ...]


class Acknowledged(Reply, frozen=True):
    """The answer to acknowledge: the outcome is written down for good."""

    intervention_id: str
    outcome: str


class Pong(Reply, frozen=True):
    """The answer to ping."""


class Error(Reply, frozen=True, omit_defaults=True):
    """The answer to a message that was not taken; to an acknowledgement with what that was about."""

    code: FaultCode
    message: str
    intervention_id: str | None = None
    outcome: str | None = None


AnyReply = Challenge | Hello | Authenticated | Subscribed | Unsubscribed | Acknowledged | Pong | Error

_encoder = msgspec.json.Encoder()


def encode(reply: AnyReply) -> bytes:
    r"""Return a reply as it goes on the wire.

    >>> encode(Pong())
    b'\x81\r{"op":"pong"}'
    """
    return framed(_encoder.encode(reply))
