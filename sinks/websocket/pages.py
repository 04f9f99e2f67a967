"""What the gateway answers to plain HTTP: the dashboard's files, health, and how many clients there are."""

import gzip
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import cache
from http import HTTPStatus
from importlib.metadata import distribution
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
TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
LIBRARY: Final = "/plotly.js"
"""What the page calls its chart library; it is served under a name that tells its content, so that it can be kept."""
ONE_YEAR: Final = "public, max-age=31536000, immutable"

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


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is served: as it is, and smaller for whoever takes gzip."""

    body: bytes
    zipped: bytes
    kind: str
    keep: str | None = None

    def answer(self, request: Request) -> Response:
        """Return the file in the form that the client takes."""
        zipped = _takes_gzip(request.headers.get_all("Accept-Encoding"))
        response = plain(200, self.zipped if zipped else self.body, self.kind)
        response.headers["Vary"] = "Accept-Encoding"
        if zipped:
            response.headers["Content-Encoding"] = "gzip"
        if self.keep:
            del response.headers["Cache-Control"]
            response.headers["Cache-Control"] = self.keep
        return response


def _takes_gzip(offers: list[str]) -> bool:
    """Tell whether one of the offers is gzip, and not with a weight of 0.

    >>> [_takes_gzip([offer]) for offer in ("gzip, br", "br;q=1.0, gzip;q=0.8", "gzip;q=0", "identity")]
    [True, True, False, False]
    """
    for offer in ",".join(offers).lower().split(","):
        name, _, weight = offer.replace(" ", "").partition(";q=")
        if name == "gzip":
            return weight.strip("0.") != "" or weight == ""
    return False


@cache
def library() -> tuple[str, File]:
    """Return the path and the file of the chart library, out of the installed package (4.8 MB, 1.5 MB zipped)."""
    package = distribution("plotly")  # found, not imported: that would take longer than all the rest
    body = Path(str(package.locate_file("plotly/package_data/plotly.min.js"))).read_bytes()
    path = f"/plotly-{package.version}-{hashlib.sha256(body).hexdigest()[:12]}.js"
    return path, File(body, gzip.compress(body, 6, mtime=0), TYPES[".js"], ONE_YEAR)


def read_files(folder: Path) -> dict[str, File]:
    """Return what is served, by path: paths are compared with these, never put together."""
    path, chart_library = library()
    page = (folder / "index.html").read_bytes().replace(LIBRARY.encode(), path.encode())
    bodies = {f"/{file.name}": file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix in TYPES}
    del bodies["/index.html"]
    files = {name: File(body, gzip.compress(body, mtime=0), TYPES[Path(name).suffix]) for name, body in bodies.items()}
    return {"/": File(page, gzip.compress(page, mtime=0), TYPES[".html"]), **files, path: chart_library}


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
            self._files = read_files(folder)
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
            response = more(request, peer, self.hosts) if more else self._find(request)
        if request.method == "HEAD":
            response.body = b""
        return response

    def _find(self, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if path in self._files:
            return self._files[path].answer(request)
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
