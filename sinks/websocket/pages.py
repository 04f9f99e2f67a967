"""What the gateway answers to plain HTTP: the dashboard's files, health, and how many clients there are."""

from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import Final

import msgspec
import structlog
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from schemas.errors import ConfigError

log = structlog.get_logger(__name__)

OK: Final = "ok"
JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
FILES: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/dashboard.css": ("dashboard.css", "text/css; charset=utf-8"),
    "/dashboard.js": ("dashboard.js", "text/javascript; charset=utf-8"),
    "/feed.js": ("feed.js", "text/javascript; charset=utf-8"),
    "/sessions.js": ("sessions.js", "text/javascript; charset=utf-8"),
    "/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/attune.js": ("attune.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Every path that leads to a file; paths are compared, never put together."""

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SAFETY: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}

Answer = Callable[[Request, str, frozenset[str]], Response]
"""Answers a request; gets the peer's address and the names of this machine's own port, too."""

Readiness = Callable[[], Mapping[str, str]]
"""Tells of each part that is needed ``ok`` or why it isn't. Runs on the event loop: must return at once."""


def plain(status: int, body: str | bytes, content_type: str = TEXT) -> Response:
    """Return a whole HTTP response."""
    content = body.encode() if isinstance(body, str) else body
    headers = Headers(
        {
            "Date": formatdate(usegmt=True),
            "Connection": "close",
            "Content-Type": content_type,
            "Content-Length": str(len(content)),
            **SAFETY,
        }
    )
    return Response(status, HTTPStatus(status).phrase, headers, content)


class Pages:
    """The answers to everything that is not a websocket. The files are read once; ``more`` are further paths.

    ``hosts`` are the names of the own port, known once it is open.

    Raises:
        ConfigError: a file of the dashboard is missing.
    """

    def __init__(
        self,
        folder: Path,
        ready: Readiness,
        subscribers: Callable[[], Mapping[str, int]],
        more: Mapping[str, Answer] | None = None,
    ) -> None:
        self.hosts: frozenset[str] = frozenset()
        self._more = more or {}
        self._ready = ready
        self._subscribers = subscribers
        try:
            self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in FILES.items()}
        except OSError as error:
            raise ConfigError(
                f"dashboard: {error.filename} can't be read ({error.strerror}): install Attune with its folder"
                " dashboard/, or name where it lies"
            ) from error

    def answer(self, request: Request, peer: str) -> Response:
        """Answer a request; only GET and HEAD, only known paths."""
        if request.method not in ("GET", "HEAD"):
            response = plain(405, "Expected GET or HEAD.\n")
            response.headers["Allow"] = "GET, HEAD"
        else:
            path = request.path.partition("?")[0]
            more = self._more.get(path)
            response = more(request, peer, self.hosts) if more else self._find(path)
        if request.method == "HEAD":
            response.body = b""
        return response

    def _find(self, path: str) -> Response:
        if path in self._files:
            return plain(200, *self._files[path])
        match path:
            case "/health/live":
                return plain(200, b'{"live":"ok"}', JSON)
            case "/health/ready":
                return self._readiness()
            case "/api/emotional/ws-info":
                return plain(200, msgspec.json.encode({"clients": self._subscribers()}), JSON)
            case _:
                return plain(404, "Not found.\n")

    def _readiness(self) -> Response:
        try:
            parts = dict(self._ready())
        except Exception:  # whatever it is, the answer is "not ready"
            log.exception("readiness check failed")
            parts = {"readiness": "the check itself failed"}
        ready = all(state == OK for state in parts.values())
        return plain(200 if ready else 503, msgspec.json.encode(parts), JSON)
