"""The Prometheus endpoint of one process: all its workers are threads and share the registry."""

import errno
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import start_http_server

from schemas.errors import ConfigError


@dataclass(frozen=True)
class MetricsServer:
    """A running endpoint; ``port`` is the real one if 0 was asked for."""

    host: str
    port: int
    _server: WSGIServer
    _thread: Thread

    @property
    def url(self) -> str:
        """Where Prometheus scrapes."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/metrics"

    def close(self) -> None:
        """Stop answering and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)


def serve(host: str = "127.0.0.1", port: int = 8004) -> MetricsServer:
    """Answer scrapes at ``host:port`` from a thread of its own.

    Raises:
        ConfigError: the address is taken or not this machine's.
    """
    try:
        server, thread = start_http_server(port, addr=host)
    except OSError as error:
        what = "is taken by another process" if error.errno == errno.EADDRINUSE else f"cannot be used ({error})"
        raise ConfigError(
            f"the metrics endpoint's address {host}:{port} {what}; set metrics.host and metrics.port, "
            "or metrics.enabled = false"
        ) from error
    return MetricsServer(host, server.server_port, server, thread)
