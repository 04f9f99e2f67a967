"""Bounds below the messages: what a peer may cost before any of its messages is complete.

The library answers every ping at once, counts no control frames, and does not stop writing pongs to a peer that reads
none; and it takes connections without end. Each is closed here.
"""

import socket
import time
from collections.abc import Callable
from typing import Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.frames import CloseCode
from websockets.protocol import State

from sinks.websocket.budget import Budget
from sinks.websocket.limits import KIB, Limits
from sinks.websocket.principal import Principal
from sinks.websocket.seats import Seats

SEND_BUFFER: Final = 128 * KIB
RECEIVE_BUFFER: Final = 32 * KIB
"""The kernel's buffers of a connection (bytes), which else grow to megabytes for a slow reader or a flood."""
LINGER_S: Final = 1.0
"""How long a peer that sent too much may take to read why it is closed. Nothing is read from it meanwhile."""
UNREAD_BYTES: Final = 1024 * KIB
"""What may lie in a connection's write buffer; the writer stops far below, so that more can only be pongs."""
SPARE_CONNECTIONS: Final = 100
"""Connections beyond the clients': handshakes under way, pages, health checks."""


class Wire(ServerConnection):
    """A connection that gives up on peers that send too much or leave too much unread. See ``wire_class``.

    ``principal`` (None: not known yet) is set during the handshake. ``on_pause`` and ``on_resume`` are
    called when the transport has enough and when it has room again.
    """

    principal: Principal | None
    on_pause: Callable[[], None]
    on_resume: Callable[[], None]
    peers: set["Wire"]
    seats: Seats
    limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.principal = None
        self._seat: str | None = None
        self.on_pause = self.on_resume = _nothing
        self._given_up = False
        self._budget = Budget(self.limits.inbound_bytes_per_s, self.limits.inbound_bytes_burst, time.monotonic())

    def connection_made(self, transport: Any) -> None:
        """Register the connection, or end it at once if there are too many."""
        super().connection_made(transport)
        plug = transport.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.peers.add(self)
        if len(self.peers) > self.limits.clients + SPARE_CONNECTIONS:
            self.transport.abort()

    def sit(self, seat: str) -> None:
        """Count this connection as one of its address's."""
        self._seat = seat
        self.seats.take(seat)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.peers.discard(self)
        if self._seat is not None:
            self.seats.free(self._seat)
            self._seat = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take no more than the budget allows; what is beyond it ends the connection."""
        if self._given_up:
            return
        allowed = max(0, int(self._budget.left(time.monotonic())))
        self._budget.charge(min(allowed, len(data)))
        super().data_received(data[:allowed])
        if len(data) > allowed:
            self._give_up()
        elif self.transport.get_write_buffer_size() > UNREAD_BYTES:
            self.transport.abort()

    def pause_writing(self) -> None:
        """Stop writing: the transport has enough."""
        super().pause_writing()
        self.on_pause()

    def resume_writing(self) -> None:
        """Go on writing."""
        super().resume_writing()
        self.on_resume()

    def _give_up(self) -> None:
        """Say why, if the peer is a websocket by now, and end the connection without listening any more."""
        self._given_up = True
        if self.protocol.state is State.CONNECTING:
            self.transport.abort()
            return
        if self.protocol.state is State.OPEN:
            self.protocol.fail(CloseCode.POLICY_VIOLATION, "too much data")
            super().data_received(b"")  # sends the close frame
        self.transport.pause_reading()
        self.loop.call_later(LINGER_S, self.transport.abort)


def _nothing() -> None:
    """Do nothing: there is no client yet."""


def wire_class(connections: set[Wire], its_seats: Seats, its_limits: Limits) -> type[Wire]:
    """Return the class of connections that register in ``connections``, are counted by address, and keep to the limits.

    The server makes connections by class and passes nothing else on.
    """

    class Registered(Wire):
        peers = connections
        seats = its_seats
        limits = its_limits

    return Registered
