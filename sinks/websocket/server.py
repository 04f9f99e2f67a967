"""The port: takes connections and carries messages between them and the hub. All of it runs on one event loop."""

import asyncio
import errno
import logging
import os
import time
from dataclasses import dataclass, field
from typing import Final, cast

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from schemas.errors import ConfigError
from sinks.websocket.access import Authenticate, RefusedError, check_origin, own_origins
from sinks.websocket.config import GatewayConfig
from sinks.websocket.connection import Wire, wire_class
from sinks.websocket.hub import Client, Hub
from sinks.websocket.limits import KIB
from sinks.websocket.pages import Pages, plain

log = structlog.get_logger(__name__)

PATH: Final = "/ws"
WRITE_BYTES: Final = 64 * KIB
"""What is taken from a client's queue at a time, and must be written before the client counts as stalled."""

# The library's debug messages contain requests with all their headers, so with tokens.
_wire_log = logging.getLogger("attune.websocket.wire")
_wire_log.setLevel(logging.WARNING)


@dataclass(slots=True, eq=False)
class _Link:
    """A client and its connection. ``deadline`` is that of the write under way."""

    wire: Wire
    client: Client
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    deadline: asyncio.Timeout | None = None

    def wake(self) -> None:
        """Let the writer look at its client again, even in the middle of a write if that has become pointless."""
        self.awake.set()
        if self.client.close and self.client.close.at_once and self.deadline and not self.deadline.expired():
            self.deadline.reschedule(0)


class Port:
    """A websocket server around a hub. After each change of the hub call ``wake``."""

    def __init__(self, config: GatewayConfig, hub: Hub, pages: Pages, authenticate: Authenticate) -> None:
        self._config = config
        self._hub = hub
        self._pages = pages
        self._authenticate = authenticate
        self._links: dict[Client, _Link] = {}
        self._wires: set[Wire] = set()
        self._origins: frozenset[str] = frozenset(config.origins)
        self._server: Server | None = None

    async def open(self) -> int:
        """Listen; returns the port, which the system chose if the setting is 0.

        Raises:
            ConfigError: the port is in use, or the address is not this machine's.
        """
        config = self._config
        try:
            self._server = await serve(
                self._talk,
                config.host,
                config.port,
                backlog=1024,
                compression=None,
                process_request=self._admit,
                server_header=None,
                open_timeout=config.handshake_timeout_s,
                ping_interval=config.ping_interval_s,
                ping_timeout=config.ping_timeout_s,
                close_timeout=config.close_timeout_s,
                max_size=config.limits.message_bytes,
                logger=_wire_log,
                create_connection=wire_class(self._wires, config.limits),
            )
        except OSError as error:
            raise _bind_error(config, error) from error
        port = int(self._server.sockets[0].getsockname()[1])
        self._origins |= frozenset() if config.behind_proxy else frozenset(own_origins(config.host, port))
        return port

    async def close(self) -> None:
        """Close all connections: politely at first, and by force after ``close_timeout_s``."""
        if self._server is None:
            return
        self._server.close(code=CloseCode.GOING_AWAY, reason="the gateway is stopping")
        try:
            async with asyncio.timeout(self._config.close_timeout_s):
                await self._server.wait_closed()
        except TimeoutError:
            for wire in list(self._wires):
                wire.transport.abort()
            await self._server.wait_closed()

    def wake(self) -> None:
        """Wake the writers of all clients that the hub has something for."""
        for client in self._hub.awake():
            if link := self._links.get(client):
                link.wake()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a plain request, refuse a handshake, or let it go on (None)."""
        wire = cast("Wire", connection)
        if request.path.partition("?")[0] != PATH:
            return self._pages.answer(request)
        peer = str(wire.remote_address[0])
        try:
            check_origin(request, peer, self._origins, behind_proxy=self._config.behind_proxy)
            if self._hub.full:
                return plain(503, "The gateway is full.\n")
            wire.principal = self._authenticate(request)
        except RefusedError as refused:
            return plain(refused.status, refused.text)
        return None

    async def _talk(self, connection: ServerConnection) -> None:
        """Carry one client's messages to the hub until it is gone."""
        wire = cast("Wire", connection)
        client = self._hub.connect(wire.principal, time.monotonic())
        link = self._links[client] = _Link(wire, client)
        writer = asyncio.create_task(self._write(link))
        try:
            self.wake()
            async for message in wire:
                self._hub.receive(client, message, time.monotonic())
                self.wake()
        except ConnectionClosed:
            pass  # however it ended, what follows is the same
        finally:
            del self._links[client]
            self._hub.disconnect(client)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, link: _Link) -> None:
        """Carry the hub's messages to one client, and close it when the hub says so."""
        try:
            await self._write_queue(link)
            if close := link.client.close:
                async with asyncio.timeout(self._config.close_timeout_s):
                    await link.wire.close(close.code, close.reason)
        except ConnectionClosed:
            pass
        except TimeoutError:
            link.wire.transport.abort()  # it does not even read the close frame
        except Exception:
            log.exception("websocket writer failed")
            link.wire.transport.abort()

    async def _write_queue(self, link: _Link) -> None:
        """Write until the client is to be closed: what still waits is written before, unless it is to go at once."""
        client = link.client
        while True:
            link.awake.clear()
            messages = self._hub.take(client, WRITE_BYTES)
            if not messages:
                if client.close:
                    return
                await link.awake.wait()
                continue
            try:
                async with asyncio.timeout(self._config.stall_s) as link.deadline:
                    for message in messages:
                        await link.wire.send(message, text=True)
            except TimeoutError:
                self._hub.give_up(client)
                return
            finally:
                link.deadline = None


def _bind_error(config: GatewayConfig, error: OSError) -> ConfigError:
    where = f"{config.host}:{config.port}"
    match error.errno:
        case errno.EADDRINUSE:
            return ConfigError(
                f"gateway.port: {where} is in use by another program: end that one, or choose another port"
                " (gateway.port, or ATTUNE_GATEWAY__PORT)"
            )
        case errno.EACCES:
            return ConfigError(f"gateway.port: no right to listen on {where}: choose a port above 1023")
        case code:
            why = os.strerror(code) if code else str(error)
            return ConfigError(f"gateway.host: can't listen on {where}: {why}")
