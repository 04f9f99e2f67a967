"""One client's way out: what the hub has for it goes to its socket as fast as that takes it, and no faster.

Frames are written to the transport as they are, many in one call, beside the library, which would encode every message
for every client anew. The transport says when it has enough (``pause_writing``) and when it has room again.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from sinks.websocket.client import Client
from sinks.websocket.config import GatewayConfig
from sinks.websocket.connection import Wire
from sinks.websocket.hub import Hub
from sinks.websocket.limits import KIB

log = structlog.get_logger(__name__)

WRITE_BYTES: Final = 64 * KIB
"""What is taken from a client's queue at a time, and must be written before the client counts as stalled."""


class Link:
    """A client and its connection. ``pump`` after each change of the hub; ``end`` when the connection is gone.

    ``wake`` is called when it has changed the hub by itself.
    """

    def __init__(self, wire: Wire, client: Client, hub: Hub, config: GatewayConfig, wake: Callable[[], None]) -> None:
        self._wire = wire
        self._client = client
        self._hub = hub
        self._config = config
        self._wake = wake
        self._offered: list[str] = []
        self._stalled: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        wire.on_pause, wire.on_resume = self._pause, self._resume
        # A page's interventions count as delivered when the kernel has every byte of them, not when most are written.
        high = 0 if client.is_page else WRITE_BYTES
        wire.transport.set_write_buffer_limits(high=high, low=high // 4)

    def pump(self) -> None:
        """Write what waits, as far as the socket takes it, and close the connection if the hub says so."""
        wire, client = self._wire, self._client
        if self._closing is not None or wire.protocol.state is not State.OPEN:
            return
        while client.outbox and not wire.paused:
            frames, offered = self._hub.take(client, WRITE_BYTES)
            if offered:
                self._offered += offered
            wire.transport.write(b"".join(frames))
        if self._offered and not wire.paused:
            self._delivered()
        if client.close and (client.close.at_once or not client.outbox):
            self._closing = asyncio.create_task(self._close())

    async def end(self) -> None:
        """Let go of the connection."""
        self._wire.on_pause = self._wire.on_resume = _nothing
        if self._stalled is not None:
            self._stalled.cancel()
        if self._closing is not None:
            await self._closing

    def _pause(self) -> None:
        self._stalled = self._wire.loop.call_later(self._config.stall_s, self._stall)

    def _resume(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        self.pump()
        self._wake()

    def _stall(self) -> None:
        self._stalled = None
        self._hub.give_up(self._client)
        self._wake()

    def _delivered(self) -> None:
        offered, self._offered = self._offered, []
        self._hub.delivered(self._client, offered, time.time())

    async def _close(self) -> None:
        """Close with the hub's code; by force if the client does not even read that."""
        close = self._client.close
        if close is None:
            return
        try:
            async with asyncio.timeout(self._config.close_timeout_s):
                await self._wire.close(close.code, close.reason)
        except ConnectionClosed:
            pass
        except TimeoutError:
            self._wire.transport.abort()
        except Exception:
            log.exception("websocket close failed")
            self._wire.transport.abort()


def _nothing() -> None:
    """Do nothing: the client is gone."""
