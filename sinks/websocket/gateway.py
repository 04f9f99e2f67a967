"""The gateway as its owner sees it: a thread of its own, records handed over to it, started and stopped."""

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from schemas.batches import Records
from schemas.errors import AttuneError, TransientError
from sinks.websocket.access import Verify, check_exposure
from sinks.websocket.config import GatewayConfig
from sinks.websocket.handover import HandOver
from sinks.websocket.hub import Hub, Report
from sinks.websocket.pages import OK, Answer, Pages, Readiness
from sinks.websocket.receipts import Receipts
from sinks.websocket.recorder import Recorder, Write
from sinks.websocket.revoked import Revoked
from sinks.websocket.server import Port

log = structlog.get_logger(__name__)

SLICE: Final = 50
"""Records that are routed before what they make is written."""
REST_S: Final = 0.0005
"""How long the thread rests after that, a clock's tick more: who computes beside it must get the interpreter's lock."""
BEHIND: Final = 5_000
"""Records that are not routed, from which on it does not rest."""
DELIVERIES: Final = 20_000
"""Deliveries that are written before the event loop gets to its other work."""


def always_ready() -> dict[str, str]:
    """Say that nothing but the gateway itself is needed."""
    return {"gateway": OK}


def cut(records: Records, begin: int, end: int) -> Records:
    """Return part of a batch."""
    if begin == 0 and end >= len(records):
        return records
    part = slice(begin, end)
    return Records(
        records.type,
        records.ids[part],
        records.tenants[part],
        records.sessions[part],
        records.ts[part],
        records.payloads[part],
        records.revisions[part],
    )


class Gateway:
    """Websockets, dashboard and health on one port. ``start``, ``publish`` from any thread, ``stop``; used once.

    ``ready`` tells ``/health/ready`` what works, ``verify`` whose a token is (None: nobody is authenticated); both are
    called on the gateway's thread and must not block. ``write`` writes outcomes of interventions down, and is called on
    a thread of its own. ``receipts`` must be made of the same secrets wherever clients of this gateway may go on.
    ``pages`` are further paths of plain HTTP.

    Raises:
        ConfigError: the address, the origins and the authentication don't go together, or the dashboard is missing.
    """

    def __init__(
        self,
        config: GatewayConfig | None = None,
        *,
        ready: Readiness = always_ready,
        verify: Verify | None = None,
        revoked: Revoked | None = None,
        write: Write | None = None,
        receipts: Receipts | None = None,
        pages: Mapping[str, Answer] | None = None,
    ) -> None:
        self._config = config = config or GatewayConfig()
        authenticated = verify is not None
        check_exposure(config.host, config.origins, authenticated=authenticated, behind_proxy=config.behind_proxy)
        self._ready = ready
        self._hub = Hub(config.limits, secrets.token_hex(8), verify, receipts)
        plain = Pages(config.dashboard, self._readiness, lambda: self._hub.subscribers, pages)
        self._server = Port(config, self._hub, plain, verify, revoked or Revoked(None), self._record)
        self._recorder = Recorder(write, self._written) if write is not None else None
        self._handover = HandOver(config.handover_records, self._announce)
        self._thread = threading.Thread(target=self._run, name="attune-gateway", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived = asyncio.Event()
        self._stopping = asyncio.Event()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._port = config.port

    @property
    def port(self) -> int:
        """The port it listens on, which the system chose if the setting is 0."""
        return self._port

    @property
    def url(self) -> str:
        """The address of the dashboard."""
        host = self._config.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}/"

    def start(self) -> None:
        """Listen; returns when clients can connect.

        Raises:
            ConfigError: the port is in use, or the address is not this machine's.
        """
        if self._thread.ident is not None:
            raise AttuneError("websocket gateway: it was started before: make a new one")
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        if self._recorder is not None:
            self._recorder.start()
        log.info("websocket gateway listens", url=self.url, behind_proxy=self._config.behind_proxy)

    def publish(self, records: Records) -> None:
        """Hand records to the gateway's thread; waits while that has too much before it, never for a client.

        Raises:
            TransientError: it has taken nothing for a long time, or has stopped.
        """
        self._handover.put(records, self._config.handover_timeout_s)

    def drain(self, timeout: float | None = None) -> None:
        """Wait until the hub has taken everything published before this call (not until the clients have).

        Raises:
            TransientError: that took longer than ``timeout`` seconds, or the gateway has stopped.
        """
        self._handover.drain(self._config.handover_timeout_s if timeout is None else timeout)

    def stop(self) -> None:
        """Close all clients (1001), the port and the thread; again is harmless.

        Raises:
            TransientError: the thread did not end.
        """
        self._handover.close("it was stopped")
        if self._thread.ident is None:
            return
        self._call(self._stopping.set)
        self._thread.join(timeout=self._config.close_timeout_s + 10)
        if self._recorder is not None:
            self._recorder.stop(self._config.close_timeout_s)
        if self._thread.is_alive():
            raise TransientError("websocket gateway: its thread did not end; leave it to the end of the process")

    def _readiness(self) -> Mapping[str, str]:
        parts = dict(self._ready())
        if self._recorder is not None:
            parts["outcomes"] = "can't be written" if self._recorder.fault else OK
        return parts

    def _record(self, reports: Sequence[Report]) -> None:
        """Have outcomes written down; called on the gateway's thread."""
        refused = self._recorder.put(reports) if self._recorder is not None else reports
        self._tell(refused, well=False)

    def _written(self, reports: Sequence[Report], well: bool) -> None:
        """Hear what became of outcomes; called on the recorder's thread."""
        self._call(lambda: self._tell(reports, well=well))

    def _tell(self, reports: Sequence[Report], *, well: bool) -> None:
        for report in reports:
            self._hub.written(report, well=well)
        if reports:
            self._server.wake()

    def _announce(self) -> None:
        self._call(self._arrived.set)

    def _call(self, function: Callable[[], object]) -> None:
        """Call a function on the gateway's thread, if that runs."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                self._loop.call_soon_threadsafe(function)

    def _run(self) -> None:
        """Be the gateway's thread."""
        try:
            asyncio.run(self._serve())
        except BaseException as failure:
            self._failure = failure
            if self._started.is_set():
                log.exception("websocket gateway failed")
                self._handover.close(f"it failed ({failure!r})")
        finally:
            self._handover.close("it has ended")
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._port = await self._server.open()
        self._started.set()
        feeder = asyncio.create_task(self._feed())
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait((feeder, stopping), return_when=asyncio.FIRST_COMPLETED)
        await self._server.close()
        if feeder.done():
            feeder.result()
        feeder.cancel()

    async def _feed(self) -> None:
        """Give the hub what was handed over, and write what that makes; readers and the sweep get their turn between.

        The more waits, the more is written to a socket at once: whoever falls behind gets quicker.
        """
        while True:
            self._arrived.clear()
            routed = deliveries = 0
            while (records := self._handover.next()) is not None:
                begin, length = 0, 1
                while begin < len(records):
                    part = cut(records, begin, begin + length)
                    made = self._hub.publish(part, time.time())
                    deliveries += made
                    begin += len(part)
                    routed += len(part)
                    length = min(SLICE, max(1, DELIVERIES * len(part) // max(1, made)))
                    if deliveries >= DELIVERIES or routed >= SLICE:
                        routed = deliveries = 0
                        await self._server.write_out()
                        if self._handover.waiting - begin < BEHIND and not self._handover.awaited:
                            await asyncio.sleep(REST_S)
                self._handover.done(records)
            await self._server.write_out()
            await self._arrived.wait()
