"""The port: takes connections and carries messages between them and the hub. All of it runs on one event loop."""

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

import structlog
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from schemas.errors import ConfigError
from sinks.websocket import client as codes
from sinks.websocket.access import (
    RefusedError,
    Verify,
    address,
    check_origin,
    identify,
    neighbourhood,
    networks,
    own_hosts,
    own_origins,
)
from sinks.websocket.client import Client
from sinks.websocket.config import GatewayConfig
from sinks.websocket.connection import Wire, wire_class
from sinks.websocket.hub import REFUSED, Hub, Report
from sinks.websocket.link import Link
from sinks.websocket.pages import Pages, plain
from sinks.websocket.principal import Principal
from sinks.websocket.replies import Challenge, encode
from sinks.websocket.requests import Authenticate, FaultError, decode
from sinks.websocket.revoked import Revoked
from sinks.websocket.seats import Seats
from sinks.websocket.tokens import TokenError

log = structlog.get_logger(__name__)

PATH: Final = "/ws"
TURN: Final = 200
"""Clients that are written to before the event loop gets to its other work: some 2 ms."""

# What the library logs may hold requests with their headers, so tokens: at debug as they are, at error in tracebacks.
# What goes wrong in our own code is logged by that.
_wire_log = logging.getLogger("attune.websocket.wire")
_wire_log.setLevel(logging.CRITICAL)


class Port:
    """A websocket server around a hub. After each change of the hub call ``wake``, or wait for ``write_out``."""

    def __init__(
        self,
        config: GatewayConfig,
        hub: Hub,
        pages: Pages,
        verify: Verify | None,
        revoked: Revoked,
        record: Callable[[Sequence[Report]], None],
    ) -> None:
        self._config = config
        self._hub = hub
        self._pages = pages
        self._verify = verify
        self._revoked = revoked
        self._record = record
        self._links: dict[Client, Link] = {}
        self._wires: set[Wire] = set()
        self._strangers = 0
        self._seats = Seats(config.limits.clients_per_address)
        self._proxies = networks(config.proxies)
        self._origins: frozenset[str] = frozenset(config.origins)
        self._server: Server | None = None
        self._sweeping: asyncio.Task[None] | None = None

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
                create_connection=wire_class(self._wires, self._seats, config.limits),
            )
        except OSError as error:
            raise _bind_error(config, error) from error
        port = int(self._server.sockets[0].getsockname()[1])
        self._origins |= frozenset(() if config.behind_proxy else own_origins(config.host, port))
        self._pages.hosts = frozenset(own_hosts(config.host, port))
        self._sweeping = asyncio.create_task(self._sweep())
        return port

    async def close(self) -> None:
        """Close all connections: politely at first, and by force after ``close_timeout_s``."""
        if self._server is None:
            return
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._server.close(code=CloseCode.GOING_AWAY, reason="the gateway is stopping")
        try:
            async with asyncio.timeout(self._config.close_timeout_s):
                await self._server.wait_closed()
        except TimeoutError:
            for wire in list(self._wires):
                wire.transport.abort()
            await self._server.wait_closed()

    def wake(self) -> None:
        """Write what the hub has for its clients, and have written down what it tells."""
        for client in self._hub.awake():
            if link := self._links.get(client):
                link.pump()
        self._tell()

    async def write_out(self) -> None:
        """Do the same for many clients, and let those who connect or say something have their turn in between."""
        for number, client in enumerate(self._hub.awake(), 1):
            if link := self._links.get(client):
                link.pump()
            if number % TURN == 0:
                await asyncio.sleep(0)
        self._tell()
        await asyncio.sleep(0)

    def _tell(self) -> None:
        if reports := self._hub.outcomes():
            self._record(reports)

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a plain request, refuse a handshake, or let it go on (None)."""
        wire = cast("Wire", connection)
        peer = str(wire.remote_address[0])
        if request.path.partition("?")[0] != PATH:
            return self._pages.answer(request, peer)
        behind_proxy = self._config.behind_proxy
        try:
            place = address(request.headers, peer, self._proxies, behind_proxy=behind_proxy)
            check_origin(request, peer, self._origins, behind_proxy=behind_proxy)
            if self._hub.full:
                raise RefusedError(503, "The gateway is full.\n")
            seat = neighbourhood(place)
            if self._seats.is_full(seat):
                raise RefusedError(429, "Too many connections from this address.\n")
            wire.principal = identify(request, self._verify)
            if wire.principal is not None:
                self._check_holder(wire.principal)
            elif self._strangers >= self._config.limits.strangers:
                raise RefusedError(503, "Too many connections that have not shown a token yet.\n")
        except RefusedError as refused:
            REFUSED.labels(str(refused.status)).inc()
            return plain(refused.status, refused.text)
        wire.sit(seat)
        return None

    def _check_holder(self, who: Principal) -> None:
        if self._revoked(who):
            raise RefusedError(401, "the token was revoked\n")
        if self._hub.has_many(who):
            raise RefusedError(429, "Too many connections of this user.\n")

    async def _talk(self, connection: ServerConnection) -> None:
        """Carry one client's messages to the hub until it is gone."""
        wire = cast("Wire", connection)
        try:
            who = wire.principal
            if who is None:
                self._strangers += 1
                try:
                    who = await self._ask(wire)
                finally:
                    self._strangers -= 1
            if who is not None:
                await self._carry(wire, who)
        except ConnectionClosed:
            pass  # however it ended, what follows is the same
        except Exception:
            log.exception("websocket connection failed")
            raise

    async def _ask(self, wire: Wire) -> Principal | None:
        """Ask who it is; None if it does not say so in time, or can't prove it, and is closed for that."""
        assert self._verify is not None  # noqa: S101 - else everybody is known from the handshake
        within = self._config.handshake_timeout_s
        wire.transport.write(encode(Challenge(within)))
        try:
            async with asyncio.timeout(within):
                message = await wire.recv()
            match decode(message):
                case Authenticate(token):
                    who = self._verify(token)
                    if not self._revoked(who):
                        return who
                    code, reason = codes.TOKEN_REVOKED, "the token was revoked"
                case _:
                    code, reason = codes.TOKEN_REFUSED, "expected a token first"
        except TimeoutError:
            code, reason = codes.TOKEN_REFUSED, "expected a token in time"
        except FaultError:
            code, reason = codes.TOKEN_REFUSED, "expected a token first"
        except TokenError as error:
            code, reason = codes.TOKEN_REFUSED, str(error)
        REFUSED.labels(str(code)).inc()
        try:
            async with asyncio.timeout(self._config.close_timeout_s):
                await wire.close(code, reason)
        except TimeoutError:
            wire.transport.abort()
        return None

    async def _carry(self, wire: Wire, who: Principal) -> None:
        client = self._hub.connect(who, time.time())
        link = self._links[client] = Link(wire, client, self._hub, self._config, self.wake)
        try:
            self.wake()
            async for message in wire:
                self._hub.receive(client, message, time.time())
                self.wake()
        finally:
            del self._links[client]
            self._hub.disconnect(client)
            await link.end()

    async def _sweep(self) -> None:
        """Close again and again those whose token holds no longer."""
        while True:
            await asyncio.sleep(self._config.sweep_s)
            try:
                self._revoked.read()
                self._hub.sweep(time.time(), self._revoked)
                self.wake()
            except Exception:  # whatever it is, the next sweep must come
                log.exception("websocket sweep failed")


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
