"""A cluster of processes on this machine: starts them, forwards signals, and ends all when one fails."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import structlog

from flows.lifecycle import stop_on_signals

_log = structlog.get_logger(__name__)

POLL_S: Final = 0.2
GRACE_S: Final = 5.0
"""How long the others may drain after one has failed. They wait for it in vain, so this ends by force as a rule."""


def loopback_addresses(count: int) -> list[str]:
    """Return ``count`` free addresses of this machine, all held until every one is found so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def run_processes(arguments: Sequence[str], count: int) -> int:
    """Run ``attune`` ``count`` times as one cluster, each with its ``--process-id`` and all ``--addresses``.

    SIGTERM and Ctrl-C are handed on as SIGTERM: every process drains. One that fails ends all of them. Returns the
    exit code: 0, or that of the first to fail.
    """
    cluster = ["--addresses", ";".join(loopback_addresses(count)), "--parent", str(os.getpid())]
    stop = threading.Event()
    children: list[subprocess.Popen[bytes]] = []
    try:
        with stop_on_signals(stop):
            children.extend(_start([*arguments, *cluster, "--process-id", str(number)]) for number in range(count))
            return _watch(children, stop)
    finally:
        _end(children, 0.0)


def _start(arguments: list[str]) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C reaches the parent alone, which hands it on once.
    return subprocess.Popen([sys.executable, "-m", "flows.cli", *arguments], start_new_session=True)  # noqa: S603 - our own command


def _watch(children: list[subprocess.Popen[bytes]], stop: threading.Event) -> int:
    told = False
    while True:
        codes = [child.poll() for child in children]
        failed = next((code for code in codes if code), None)
        if failed is not None:
            number = codes.index(failed)
            _log.error("process failed", process=number, code=failed, pid=children[number].pid)
            _end(children, GRACE_S)
            return failed if failed > 0 else 1
        if all(code == 0 for code in codes):
            return 0
        if stop.wait(POLL_S) and not told:
            told = True
            _signal(children, signal.SIGTERM)
        elif told:
            time.sleep(POLL_S)


def _signal(children: list[subprocess.Popen[bytes]], number: signal.Signals) -> None:
    for child in children:
        if child.poll() is None:
            os.kill(child.pid, number)


def _end(children: list[subprocess.Popen[bytes]], grace_s: float) -> None:
    """End whoever still runs: politely, and after ``grace_s`` by force."""
    _signal(children, signal.SIGTERM)
    deadline = time.monotonic() + grace_s
    for child in children:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
