"""A gateway on a free port, clients that wait with a deadline, and records to send."""

import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect

from schemas.batches import Records
from schemas.errors import AttuneError
from schemas.inbound import InterventionOutcome
from sinks.websocket.access import Verify
from sinks.websocket.config import GatewayConfig
from sinks.websocket.gateway import Gateway, always_ready
from sinks.websocket.pages import Answer, Readiness
from sinks.websocket.principal import Principal
from sinks.websocket.receipts import Receipts
from sinks.websocket.recorder import Write
from sinks.websocket.revoked import Revoked
from sinks.websocket.tokens import Tokens, read_key, sign

DEADLINE_S = 20.0
"""How long a test waits for what must happen; nothing waits this long when all is well."""


def batch(kind: str, *places: tuple[str, str], first: int = 1, pad: int = 0) -> Records:
    """Return records of one type, one for each ``(tenant, session)``, numbered by ``n`` and ``ts`` from ``first``."""
    numbers = range(first, first + len(places))
    ids = [f"{kind}/{n}" for n in numbers]
    payloads = [
        json.dumps({"type": kind, "id": i, "tenant_id": t, "session_id": s, "ts": n, "n": n, "pad": "x" * pad}).encode()
        for i, (t, s), n in zip(ids, places, numbers, strict=True)
    ]
    return Records(kind, ids, [t for t, _ in places], [s for _, s in places], list(numbers), payloads)


def frame(opcode: Opcode, data: bytes) -> bytes:
    """Return a client's frame as it goes over the wire."""
    return Frame(opcode, data).serialize(mask=True)


def subscription(*channels: str) -> bytes:
    """Return the frame that subscribes to channels."""
    return frame(Opcode.TEXT, json.dumps({"op": "subscribe", "channels": channels}).encode())


def said(frame: bytes) -> dict[str, Any]:
    """Return the message in a frame of the gateway's, which is a whole text, unmasked."""
    assert frame[0] == 0x81
    skip = {126: 4, 127: 10}.get(frame[1], 2)
    message: dict[str, Any] = json.loads(frame[skip:])
    return message


KEY = read_key("test", "HS256", b"a secret of the tests, of 64 bytes, for those that want that many")
TOKENS = Tokens([KEY], "https://issuer.test", "gateway.test")


def claims(tenant: str = "t", role: str = "dashboard", user: str = "u", **more: object) -> dict[str, object]:
    """Return the claims of a token that holds for a day: some are made when tests are collected."""
    now = int(time.time())
    who = {"iss": "https://issuer.test", "aud": "gateway.test", "nbf": now - 1, "exp": now + 86_400, "sub": user}
    return {**who, "tenant": tenant, "role": role, **more}


def token(tenant: str = "t", role: str = "dashboard", user: str = "u", **more: object) -> str:
    """Return a token that the gateway of these tests takes."""
    return sign(KEY, claims(tenant, role, user, **more))


def who(tenant: str | None) -> Principal:
    """Return somebody who sees a whole tenant, or all (None)."""
    return Principal(tenant, "dashboard" if tenant else "developer")


class Written:
    """Where outcomes of interventions end up; fails while ``fault`` is set."""

    def __init__(self) -> None:
        self.events: list[InterventionOutcome] = []
        self.fault: AttuneError | None = None

    def __call__(self, events: Sequence[InterventionOutcome]) -> None:
        """Write them down."""
        if self.fault is not None:
            raise self.fault
        self.events += events

    def told(self) -> list[tuple[str, str, str]]:
        """Return user, outcome and intervention of each."""
        return [(event.user_id, event.outcome, event.intervention_id) for event in self.events]


class Browser:
    """A websocket client that reads JSON and knows its greeting."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.hello = self.read()

    def say(self, **message: Any) -> None:
        """Send a message."""
        self.connection.send(json.dumps(message))

    def read(self) -> dict[str, Any]:
        """Return the next message."""
        message: dict[str, Any] = json.loads(self.connection.recv(timeout=DEADLINE_S))
        return message

    def ask(self, **message: Any) -> dict[str, Any]:
        """Say something and return the reply, which must be the next message."""
        self.say(**message)
        return self.read()

    def subscribe(self, *channels: str, sessions: list[str] | None = None) -> list[dict[str, Any]]:
        """Subscribe and return the snapshot."""
        wanted = {} if sessions is None else {"sessions": sessions}
        answer = self.ask(op="subscribe", channels=channels, **wanted)
        assert answer["op"] == "subscribed", answer
        return [self.read() for _ in range(answer["snapshot"])]

    def numbers(self, count: int) -> list[int]:
        """Return the numbers of the next records."""
        return [self.read()["record"]["n"] for _ in range(count)]

    def closed(self) -> tuple[int, str]:
        """Read on until the connection is closed; returns the code and the reason."""
        frame = None
        deadline = time.monotonic() + DEADLINE_S
        try:
            while True:
                self.connection.recv(timeout=deadline - time.monotonic())
        except ConnectionClosed as closed:
            frame = closed.rcvd
        assert frame is not None, "closed without a close frame"
        return frame.code, frame.reason


class Running:
    """A gateway that runs, and what tests do with it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._open = ExitStack()

    @property
    def url(self) -> str:
        """Return where the websocket is."""
        return f"ws://127.0.0.1:{self.gateway.port}/ws"

    def browser(self, shown: str = "", *, forwarded: str = "", receive_buffer: int = 0, **options: Any) -> Browser:
        """Connect, with a token in the header if one is ``shown``, as a proxy does it for the address ``forwarded``.

        ``receive_buffer`` (bytes) makes the kernel hold little for a client that doesn't read.
        """
        if shown or forwarded:
            headers = {"Authorization": f"Bearer {shown}", "X-Forwarded-For": forwarded}
            options["additional_headers"] = {name: value for name, value in headers.items() if value.split(" ")[-1]}
        options.setdefault("proxy", None)
        options.setdefault("open_timeout", DEADLINE_S)
        options.setdefault("close_timeout", 1)
        if receive_buffer:
            plug = socket.socket()
            plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            plug.connect(("127.0.0.1", self.gateway.port))
            options["sock"] = plug
        return Browser(self._open.enter_context(connect(self.url, **options)))

    def deaf(self, *said: bytes, shown: str = "") -> socket.socket:
        """Connect by hand, send frames, and never read: what the kernel holds for it is all that it ever takes."""
        plug = self._open.enter_context(socket.socket())
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        plug.settimeout(DEADLINE_S)
        plug.connect(("127.0.0.1", self.gateway.port))
        header = f"Authorization: Bearer {shown}\r\n" if shown else ""
        plug.sendall(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" % header.encode()
        )
        assert plug.recv(12) == b"HTTP/1.1 101"
        plug.sendall(b"".join(said))
        return plug

    def http(self, path: str, method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
        """Ask for a path exactly as it is written."""
        plain = HTTPConnection("127.0.0.1", self.gateway.port, timeout=DEADLINE_S)
        try:
            plain.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in {"Host": f"127.0.0.1:{self.gateway.port}", **headers}.items():
                plain.putheader(name, value)
            plain.endheaders()
            response = plain.getresponse()
            return response, response.read()
        finally:
            plain.close()

    def stop(self) -> None:
        """End the clients and the gateway."""
        self._open.close()
        self.gateway.stop()


StartGateway = Callable[..., Running]


@pytest.fixture
def start_gateway() -> Iterator[StartGateway]:
    """Start gateways with settings of choice; they end with the test."""
    started: list[Running] = []

    def start(
        *,
        ready: Readiness = always_ready,
        verify: Verify | None = None,
        revoked: Revoked | None = None,
        write: Write | None = None,
        receipts: Receipts | None = None,
        pages: dict[str, Answer] | None = None,
        **settings: Any,
    ) -> Running:
        config = GatewayConfig(**{"port": 0, "close_timeout_s": 5.0, **settings})
        gateway = Gateway(
            config, ready=ready, verify=verify, revoked=revoked, write=write, receipts=receipts, pages=pages
        )
        gateway.start()
        started.append(Running(gateway))
        return started[-1]

    yield start
    for running in started:
        running.stop()


@pytest.fixture
def running(start_gateway: StartGateway) -> Running:
    """Start a gateway with default settings."""
    return start_gateway()


def eventually(holds: Callable[[], object], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:g} s: {what}"
        time.sleep(0.01)
