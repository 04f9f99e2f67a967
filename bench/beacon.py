"""From a page's rage click to ``help_chat``, in the demo: all the way through, to its socket and to its screen.

To the socket: three clicks go to the collector in one request, as a beacon would carry them; the latency is from the
moment of sending to the arrival of the intervention. To the screen: pages in a real Chromium include the snippet, and
the latency is from the third click to the first frame with the box. Each visitor is new, so no cooldown is in the way.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from bench import measure, screen
from bench.screen import Place, Seen

START_S = 60.0
ARRIVAL_S = 10.0


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench beacon", description=__doc__)
    options.add_argument("--visitors", type=int, default=100)
    options.add_argument("--pages", type=int, default=60, help="visitors with a page in Chromium, besides")
    options.add_argument("--at-once", type=int, default=1, help="pages that are open at a time, on this machine")
    options.add_argument("--pause", type=float, default=0.2, help="seconds between two visitors")
    options.add_argument("--warm-up", type=float, default=10.0, help="seconds that the demo runs before")
    return options


def run(options: argparse.Namespace) -> None:
    """Print the tables."""
    with screen.shop() as (origin, opens_for), _demo(origin) as demo:
        opens_for(demo)
        time.sleep(options.warm_up)
        if options.visitors:
            _sockets(options, demo)
        if options.pages:
            _screens(options, origin)


def _sockets(options: argparse.Namespace, demo: Place) -> None:
    answers, arrivals, missed = [], [], 0
    with httpx.Client(trust_env=False) as http:
        for number in range(options.visitors):
            time.sleep(options.pause)
            session, user = f"beacon-{number}", f"visitor-{number}"
            with connect(f"ws{demo.gateway.removeprefix('http')}ws", proxy=None) as socket:
                _greet(socket, demo, http, session, user)
                sent = time.perf_counter()
                _click(http, demo, session, user)
                answers.append(time.perf_counter() - sent)
                if _arrives(socket, session):
                    arrivals.append(time.perf_counter() - sent)
                else:
                    missed += 1
    assert arrivals, "no intervention arrived"
    _table(
        "From a rage click at the collector to help_chat at its page's socket, in the demo",
        [("the collector's answer", answers), ("help_chat at the socket", arrivals)],
        f"{missed:,} of {options.visitors:,} got nothing within {ARRIVAL_S:g} s",
    )


def _screens(options: argparse.Namespace, origin: str) -> None:
    with screen.chromium() as browser:
        if browser is None:
            measure.console.print("no Chromium on this machine: nothing was measured on a screen", style="dim")
            return
        visitors = [(f"screen-{number}", f"visitor-{number}") for number in range(options.pages)]
        told: list[Seen | str] = []
        while visitors:
            told += screen.visit(browser, origin, visitors[: options.at_once], ARRIVAL_S)
            del visitors[: options.at_once]
    seen = [one for one in told if isinstance(one, Seen)]
    missed = [one for one in told if isinstance(one, str)]
    assert seen, f"no box was shown: {missed[0]}"
    _table(
        "From the third click on a page in Chromium to help_chat on its screen, in the demo",
        [
            ("the snippet's beacon", [one.beacon for one in seen]),
            ("the box's first frame, readable", [one.box for one in seen]),
            ("the box at rest, after its way in", [one.rest for one in seen]),
        ],
        f"{len(missed):,} of {options.pages:,} saw nothing within {ARRIVAL_S:g} s{': ' if missed else ''}"
        + "; ".join(dict.fromkeys(missed)),
    )


def _table(title: str, found: Sequence[tuple[str, list[float]]], notes: str) -> None:
    shares = (0.5, 0.95, 0.99, 1.0)
    rows = [
        [name, *(f"{1_000 * measure.quantile(sorted(each), share):,.0f}" for share in shares), f"{len(each):,}"]
        for name, each in found
    ]
    measure.show(title, ["ms", "p50", "p95", "p99", "max", "visitors"], rows, notes)


@contextmanager
def _demo(origin: str) -> Iterator[Place]:
    """Run the demo, with pages of this origin allowed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTUNE_")}
    environment["ATTUNE_GATEWAY__ORIGINS"] = origin
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "flows.cli", "demo", "--port", "0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        assert process.stdout is not None
        try:
            told: dict[str, list[str]] = {}
            while "collector" not in told:
                line = process.stdout.readline()
                assert line, "the demo did not start"
                name, *rest = line.replace(",", " ").replace("(", " ").replace(")", " ").split()
                told[name] = rest
            collector, _, key, _, tenant = told["collector"]
            yield Place(told["dashboard"][0], collector, key, tenant)
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=START_S)


def _greet(socket: ClientConnection, demo: Place, http: httpx.Client, session: str, user: str) -> None:
    """Say who is there: as a visitor if the gateway asks for a token, else as a developer who subscribes."""
    said = json.loads(socket.recv(timeout=ARRIVAL_S))
    if said["op"] == "challenge":
        asked = {"role": "client", "tenant": demo.tenant, "session": session, "user": user}
        token = http.get(f"{demo.gateway}demo/token", params=asked).raise_for_status().text.strip()
        socket.send(json.dumps({"op": "authenticate", "token": token}))
        assert json.loads(socket.recv(timeout=ARRIVAL_S))["op"] == "hello"
        return
    socket.send(json.dumps({"op": "subscribe", "channels": ["interventions"]}))
    while json.loads(socket.recv(timeout=ARRIVAL_S))["op"] != "subscribed":
        pass


def _click(http: httpx.Client, demo: Place, session: str, user: str) -> None:
    now = time.time_ns() // 1_000_000
    click: dict[str, Any] = {"type": "telemetry.click", "element": "buy", "x": 10, "y": 20, "page": "product"}
    clicks = [click | {"event_id": f"{session}-{n}", "at": now - 400 + 200 * n} for n in range(3)]
    body = json.dumps({"session_id": session, "user_id": user, "sent_at": now, "events": clicks})
    headers = {"Content-Type": "text/plain;charset=UTF-8"}
    answer = http.post(f"{demo.collector}api/telemetry/stream?key={demo.key}", content=body, headers=headers)
    assert answer.json().get("accepted") == len(clicks), answer.text


def _arrives(socket: ClientConnection, session: str) -> bool:
    """Wait for the intervention; False if it does not come."""
    until = time.monotonic() + ARRIVAL_S
    wanted = {"session_id": session, "intervention": "help_chat", "status": "fired"}.items()
    while (left := until - time.monotonic()) > 0:
        try:
            record = json.loads(socket.recv(timeout=left)).get("record", {})
        except TimeoutError:
            break
        if all(record.get(name) == value for name, value in wanted):
            return True
    return False
