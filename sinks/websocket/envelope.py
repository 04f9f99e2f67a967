"""A record ready for the wire: wrapped around its bytes, framed once, and shared by history and all queues.

What a server sends is not masked, so one frame serves every client.
"""

from dataclasses import dataclass
from typing import Final

from websockets.frames import Frame, Opcode

from schemas.registry import CHANNELS, OUTBOUND

CHANNEL_OF: Final = {kind: entry.channel for kind, entry in OUTBOUND.items() if entry.channel}
"""The channel of every record type that has one. What is not in here is never sent: no other way leads out."""

REPLACED_CHANNEL: Final = "engagement"
"""Its records replace one another: whoever lags wants the score of now, not that of a minute ago."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One record as a frame.

    ``key`` tells it from all others of its channel but its own repeats and revisions. ``arrival`` counts the records of
    this hub and orders those of different tenants; it is never sent.
    """

    channel: str
    tenant: str
    session: str
    key: str
    ts: int
    arrival: int
    frame: bytes


_heads = {channel: b'{"op":"record","channel":"%s"' % channel.encode() for channel in CHANNELS}


def framed(text: bytes) -> bytes:
    r"""Return a text message (UTF-8) as the frame that carries it.

    >>> framed(b"hi")
    b'\x81\x02hi'
    """
    return Frame(Opcode.TEXT, text).serialize(mask=False)


def wrap(channel: str, offset: int, payload: bytes) -> bytes:
    """Return a record's message around its payload, which is a complete JSON object and is not looked into.

    >>> wrap("engagement", 7, b'{"type":"engagement"}')
    b'{"op":"record","channel":"engagement","offset":7,"record":{"type":"engagement"}}'
    """
    return b'%s,"offset":%d,"record":%s}' % (_heads[channel], offset, payload)


def wrap_offer(channel: str, receipt: str, payload: bytes) -> bytes:
    """Return the same without an offset: a client's page is told nothing about how much others get; with a receipt.

    >>> wrap_offer("interventions", "7.ab", b'{}')
    b'{"op":"record","channel":"interventions","receipt":"7.ab","record":{}}'
    """
    return b'%s,"receipt":"%s","record":%s}' % (_heads[channel], receipt.encode(), payload)
