"""The demo visitors' browsers: real connections that take interventions, show them, and are sometimes clicked on."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from random import Random
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from schemas.inbound import Event

SHARE = 0.7
"""The share of the visitors whose page keeps a connection; the others block it or have lost it."""
MOST = 80
STAYS_S = 120.0
LOOKS_S = (0.2, 1.2)
DECIDES_S = (1.0, 6.0)
CLICKS, DISMISSES = 0.35, 0.4


class Browsers:
    """Opens a page for whoever acts in one session; a thread of its own. ``url`` is the gateway's, with tokens."""

    def __init__(self, url: str, session: str, seed: int) -> None:
        self._url = url
        self._session = session
        self._rng = Random(f"{seed}/browsers")  # noqa: S311 - data, not a secret
        self._known: set[str] = set()
        self._open: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()

    def saw(self, event: Event) -> None:
        """Open a page for a visitor who is new."""
        if event.session_id != self._session or event.user_id in self._known:
            return
        self._known.add(event.user_id)
        if self._rng.random() < SHARE:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the demo ends
                self._loop.call_soon_threadsafe(self._visit, event.tenant_id, event.user_id)

    @contextlib.contextmanager
    def running(self) -> Iterator["Browsers"]:
        """Run until the context ends."""
        thread = threading.Thread(target=self._loop.run_forever, name="browsers", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    def _visit(self, tenant: str, user: str) -> None:
        if len(self._open) < MOST:
            task = self._loop.create_task(self._stay(tenant, user))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

    async def _close(self) -> None:
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    async def _stay(self, tenant: str, user: str) -> None:
        """Keep a page open for a while. One that loses the gateway is gone, as a visitor who doesn't reload."""
        who = urlencode({"role": "client", "tenant": tenant, "session": self._session, "user": user})
        with contextlib.suppress(OSError, WebSocketException, TimeoutError):
            token = await asyncio.to_thread(_fetch, f"{self._url}demo/token?{who}")
            shown = {"Authorization": f"Bearer {token}"}
            address = f"{self._url.replace('http', 'ws', 1)}ws"
            async with asyncio.timeout(STAYS_S), connect(address, additional_headers=shown, proxy=None) as socket:
                async for text in socket:
                    message: dict[str, Any] = json.loads(text)
                    if message["op"] == "record":
                        await self._look(socket, message["record"]["id"])

    async def _look(self, socket: ClientConnection, intervention: str) -> None:
        """Show an intervention, and click on it, close it or leave it."""

        async def tell(outcome: str) -> None:
            said = {"op": "acknowledge", "intervention_id": intervention, "outcome": outcome}
            await socket.send(json.dumps(said))

        await asyncio.sleep(self._rng.uniform(*LOOKS_S))
        await tell("shown")
        await asyncio.sleep(self._rng.uniform(*DECIDES_S))
        choice = self._rng.random()
        if choice < CLICKS:
            await tell("clicked")
        elif choice < CLICKS + DISMISSES:
            await tell("dismissed")


def _fetch(url: str) -> str:
    with urlopen(url, timeout=10) as answer:  # noqa: S310 - the demo's own address
        return str(answer.read().decode())
