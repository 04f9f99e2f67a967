"""A connection that has only so much time for each exchange, and is not taken at all when there are too many."""

import asyncio
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

SPARE: Final = 100
"""Connections beyond the limit that still hear that the collector is full (503)."""


def wire_class(max_connections: int, patience_s: float) -> type[H11Protocol]:
    """Return the protocol class of a server.

    uvicorn limits how long a connection may idle between requests, but neither how slowly a request may come nor how
    slowly an answer may be read: a whole exchange gets ``patience_s``.
    """

    class Wire(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
            super().connection_made(transport)
            if len(self.connections) > max_connections + SPARE:
                transport.abort()
            self._wind()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            super().connection_lost(exc)

        def on_response_complete(self) -> None:
            self._wind()
            super().on_response_complete()

        def _wind(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self.loop.call_later(patience_s, self._cut)

        def _cut(self) -> None:
            self.transport.abort()

    return Wire
