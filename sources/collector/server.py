"""The collector as its owner sees it: a thread of its own, started and stopped."""

import asyncio
import errno
import logging
import os
import socket
import threading
from collections.abc import Mapping
from typing import Any, Final

import structlog
import uvicorn

from schemas.errors import AttuneError, ConfigError, TransientError
from sources.collector.app import application
from sources.collector.config import CollectorConfig
from sources.collector.publisher import Publisher
from sources.collector.wire import wire_class

GRACE_S: Final = 10
"""How long requests under way may take when the collector is stopped."""

MARGIN_S: Final = 5.0
"""What an exchange may take beside its body and Kafka: its head, and the reading of its answer."""
HEAD_BYTES: Final = 16 * 1024

_log = structlog.get_logger(__name__)

# A stranger's bad request is no event of ours; what fails in the application is an error and told.
logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class Collector:
    """HTTP on one port. ``start``, ``check`` now and then, ``stop``; used once.

    ``producer`` is the configuration of librdkafka's producer.

    Raises:
        ConfigError: the snippet is missing.
    """

    def __init__(self, config: CollectorConfig, producer: Mapping[str, Any]) -> None:
        self._config = config
        self._publisher = Publisher(producer, sorted(set(config.topics.values())), config.confirm_timeout_s)
        patience = config.body_timeout_s + config.confirm_timeout_s + MARGIN_S
        self._server = uvicorn.Server(
            uvicorn.Config(
                application(config, self._publisher),
                http=wire_class(config.max_connections, patience),
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(config.proxies),
                forwarded_allow_ips=list(config.proxies),
                limit_concurrency=config.max_connections,
                h11_max_incomplete_event_size=HEAD_BYTES,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._thread = threading.Thread(target=self._run, name="attune-collector", daemon=True)
        self._socket: socket.socket | None = None
        self._port = config.port
        self._failure: BaseException | None = None

    @property
    def port(self) -> int:
        """The port it listens on, which the system chose if the setting is 0."""
        return self._port

    @property
    def url(self) -> str:
        """Its address."""
        host = self._config.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}/"

    def start(self) -> None:
        """Listen; returns when clients can connect.

        Raises:
            ConfigError: the port is in use, or the address is not this machine's.
        """
        if self._thread.ident is not None:
            raise AttuneError("collector: it was started before: make a new one")
        self._socket = _bound(self._config.host, self._config.port)
        self._port = self._socket.getsockname()[1]
        self._publisher.start()
        self._thread.start()
        _log.info("collector listens", url=self.url, behind_proxy=self._config.behind_proxy)

    def check(self) -> None:
        """Raise what has ended the server, or its producer, by itself."""
        if self._failure is not None:
            raise self._failure
        self._publisher.check()

    def stop(self) -> None:
        """Answer what is under way, and end; again is harmless.

        Raises:
            TransientError: the thread did not end.
        """
        self._server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join(timeout=GRACE_S + 5)
        self._publisher.close()
        if self._thread.is_alive():
            raise TransientError("collector: its thread did not end; leave it to the end of the process")

    def _run(self) -> None:
        assert self._socket is not None  # noqa: S101 - the thread is started after it is bound
        try:
            asyncio.run(self._server.serve(sockets=[self._socket]))
        except BaseException as failure:  # noqa: BLE001 - belongs to whoever calls ``check``, whatever it is
            self._failure = failure


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Listening from here on: who connects before the loop runs is only kept waiting.
        listening = socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"collector.port: {host}:{port} is in use by another program: end that one, or choose another port"
                " (collector.port, or ATTUNE_COLLECTOR__PORT)"
            ) from error
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        raise ConfigError(f"collector.host: can't listen on {host}:{port}: {why}") from error
    # Inherited by every connection. asyncio sets it only on sockets that name TCP as their protocol, and without it the
    # second packet of an answer waits 40 ms for the client's delayed acknowledgement of the first.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
