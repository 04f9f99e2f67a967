"""Many websocket clients in one process, by hand: so little work for each record that the gateway is what is measured.

They read a channel whose records count (`offset`) and say when they were handed over (`at`, microseconds of the
monotonic clock, which all processes of a machine share), and check that none is missing and none comes twice.
"""

import asyncio
import contextlib
import resource
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import msgspec
import numpy as np
from websockets.frames import Frame, Opcode

CHANNEL = "anomalies"
HEAD = b'{"op":"record","channel":"%s","offset":' % CHANNEL.encode()
AT = b'"at":'
SOON_S = 60.0
"""How long clients may take to connect, and the last records to arrive."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Who connects: ``count`` clients that read, ``deaf`` ones that never do; ``per_s`` of the first reconnect."""

    port: int
    token: str
    count: int
    deaf: int = 0
    per_s: int = 0


@dataclass(slots=True)
class Tally:
    """What all clients saw. Latencies are in microseconds.

    ``not_back``: times that it was a client's turn to reconnect while it was still about to, and so was left alone.
    """

    latencies: list[int] = field(default_factory=list)
    gaps: int = 0
    repeats: int = 0
    lost: int = 0
    reconnects: int = 0
    not_back: int = 0
    not_resumed: int = 0
    catch_up: list[int] = field(default_factory=list)


class Client(asyncio.Protocol):
    """One connection after another of one client, which goes on where it stood."""

    def __init__(self, plan: Plan, tally: Tally) -> None:
        self._plan = plan
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._run = ""
        self._left = 0
        self._since = 0
        self.subscribed = asyncio.Event()
        self.connecting = False
        self.offset = -1

    async def connect(self) -> None:
        """Connect and subscribe."""
        self.subscribed.clear()
        self._rest, self._since = b"", _now()
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, "127.0.0.1", self._plan.port)
        async with asyncio.timeout(SOON_S):
            await self.subscribed.wait()

    async def reconnect(self) -> None:
        """Go away without a word, and come back."""
        if self.connecting:
            self._tally.not_back += 1
            return
        self.connecting = True
        if self._transport is not None:
            self._left += 1
            self._transport.abort()
        self._tally.reconnects += 1
        await self.connect()
        self.connecting = False

    def connection_made(self, transport: Any) -> None:
        """Ask for a websocket."""
        self._transport = transport
        transport.write(handshake(self._plan.token))

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that nobody wanted that."""
        if self._left:
            self._left -= 1
        else:
            self._tally.lost += 1

    def data_received(self, data: bytes) -> None:
        """Take all whole frames."""
        now = _now()
        if self._rest:
            data = self._rest + data
        begin, size = 0, len(data)
        if data.startswith(b"HTTP/1.1"):
            begin = data.find(b"\r\n\r\n") + 4
            assert data.startswith(b"HTTP/1.1 101"), data[:200]
        while size - begin >= 2:
            length, skip = data[begin + 1], 2
            if length == 126:
                length, skip = int.from_bytes(data[begin + 2 : begin + 4], "big"), 4
            elif length == 127:
                length, skip = int.from_bytes(data[begin + 2 : begin + 10], "big"), 10
            end = begin + skip + length
            if end > size:
                break
            self._frame(data, begin, skip, end, now)
            begin = end
        self._rest = data[begin:]

    def _frame(self, data: bytes, begin: int, skip: int, end: int, now: int) -> None:
        text = begin + skip
        if data.startswith(HEAD, text):
            comma = data.index(b",", text + len(HEAD))
            offset = int(data[text + len(HEAD) : comma])
            at = data.index(AT, comma) + len(AT)
            self._record(offset, now - int(data[at : data.index(b",", at)]))
        elif data[begin] == 0x81:
            self._reply(msgspec.json.decode(data[text:end]))
        elif data[begin] == 0x89:  # a ping
            assert self._transport is not None
            self._transport.write(Frame(Opcode.PONG, data[text:end]).serialize(mask=True))

    def _record(self, offset: int, latency: int) -> None:
        if self.offset >= 0 and offset != self.offset + 1:
            if offset <= self.offset:
                self._tally.repeats += 1
            else:
                self._tally.gaps += 1
        self.offset = offset
        self._tally.latencies.append(latency)

    def _reply(self, message: dict[str, Any]) -> None:
        assert self._transport is not None
        if message["op"] == "hello":
            wish: dict[str, Any] = {"op": "subscribe", "channels": [CHANNEL]}
            if self.offset >= 0:
                wish["resume"] = {"gateway": self._run, "offsets": {CHANNEL: self.offset}}
            self._run = message["gateway"]
            self._transport.write(Frame(Opcode.TEXT, msgspec.json.encode(wish)).serialize(mask=True))
        elif message["op"] == "subscribed":
            if self.offset < 0:
                # What is shown first is no news: this client begins behind it.
                self.offset = message["offsets"][CHANNEL]
                assert message["snapshot"] == 0
            elif message["resumed"].get(CHANNEL) != "resumed":
                self._tally.not_resumed += 1
            else:
                self._tally.catch_up.append(_now() - self._since)
            self.subscribed.set()
        else:
            raise AssertionError(message)


def handshake(token: str) -> bytes:
    """Return the request for a websocket."""
    return (
        "GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Authorization: Bearer {token}\r\n\r\n"
    ).encode()


def _now() -> int:
    return time.monotonic_ns() // 1_000


def attend(plan: Plan, pipe: Connection) -> None:
    """Be the process: connect, say so, read until told to stop, and tell what was seen."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    asyncio.run(_attend(plan, pipe))


async def _attend(plan: Plan, pipe: Connection) -> None:
    tally = Tally()
    clients = [Client(plan, tally) for _ in range(plan.count)]
    for begin in range(0, plan.count, 50):
        await asyncio.gather(*(client.connect() for client in clients[begin : begin + 50]))
    deaf = [await _deaf(plan.token, plan.port) for _ in range(plan.deaf)]
    pipe.send("ready")
    cpu = time.process_time()
    churn = asyncio.create_task(_churn(clients, plan.per_s)) if plan.per_s else None
    last = await asyncio.to_thread(pipe.recv)
    if churn is not None:
        churn.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await churn
    deadline = time.monotonic() + SOON_S
    while any(client.offset < last for client in clients) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    behind = sum(last - client.offset for client in clients)
    latencies = np.sort(np.array(tally.latencies, np.int64))
    pipe.send((tally, latencies, behind, time.process_time() - cpu))
    for plug in deaf:
        plug.close()


async def _deaf(token: str, port: int) -> asyncio.StreamWriter:
    """Connect, subscribe, and never read: what the kernel and a buffer hold is all that it ever takes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4_096)
    wish = Frame(Opcode.TEXT, b'{"op":"subscribe","channels":["%s"]}' % CHANNEL.encode()).serialize(mask=True)
    writer.write(handshake(token) + wish)
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport can read
    assert reader is not None
    return writer


async def _churn(clients: list[Client], per_s: int) -> None:
    """Let so many reconnect every second, evenly, each in its turn."""
    begin, done, turns = time.monotonic(), 0, set()
    try:
        while True:
            due = int((time.monotonic() - begin) * per_s)
            for number in range(done, due):
                turn = asyncio.create_task(clients[number % len(clients)].reconnect())
                turns.add(turn)
                turn.add_done_callback(turns.discard)
            done = max(done, due)
            await asyncio.sleep(0.01)
    finally:
        await asyncio.gather(*turns)
