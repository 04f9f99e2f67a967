"""Who may come in: whose page may connect, what a connection may see, and where the port may be open at all."""

from collections.abc import Callable

from websockets.datastructures import MultipleValuesError
from websockets.http11 import Request

from schemas.errors import ConfigError
from schemas.exposure import check_origins, check_plain, is_loopback
from sinks.websocket.principal import Principal

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
"""Headers that tell that a request came through a proxy."""


Authenticate = Callable[[Request], Principal]
"""Tells who a handshake request comes from, or raises ``RefusedError``. Runs on the event loop: must not block."""


class RefusedError(Exception):
    """A request is turned away. ``status`` is the HTTP status; the text goes to the client and holds no internals."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def developer(request: Request) -> Principal:
    """Let whoever sits at this machine see all tenants; what came through a proxy did not come from this machine.

    Raises:
        RefusedError: the request was forwarded.
    """
    if any(name in request.headers for name in FORWARDED):
        raise RefusedError(403, "The gateway runs without authentication and takes no forwarded requests.\n")
    return Principal(tenant=None, role="developer")


def check_exposure(host: str, origins: tuple[str, ...], authenticate: Authenticate, *, behind_proxy: bool) -> None:
    """Refuse settings under which strangers could read along, or nobody could.

    Raises:
        ConfigError: says which setting and what to do.
    """
    check_plain("gateway", host, behind_proxy=behind_proxy)
    if authenticate is developer and (behind_proxy or not is_loopback(host)):
        raise ConfigError(
            "gateway.behind_proxy: nobody is authenticated and every client would see all tenants: the gateway may"
            " only be reached from this machine (gateway.host = 127.0.0.1, gateway.behind_proxy = false)"
        )
    if behind_proxy and not origins:
        raise ConfigError(
            "gateway.origins: behind a proxy the gateway can't know its own address: list the origins whose pages may"
            ' connect, such as "https://dashboard.example.org"'
        )
    check_origins("gateway.origins", origins)


def own_origins(host: str, port: int) -> tuple[str, ...]:
    """Return the origins of the gateway's own page as a browser on this machine names them.

    The names are fixed and not taken from the request's ``Host``: a foreign name that is made to resolve to this
    machine (DNS rebinding) would be in there.

    >>> own_origins("127.0.0.1", 8003)
    ('http://127.0.0.1:8003', 'http://localhost:8003', 'http://[::1]:8003')
    """
    names = dict.fromkeys([f"[{host}]" if ":" in host else host, "127.0.0.1", "localhost", "[::1]"])
    return tuple(f"http://{name}" if port == 80 else f"http://{name}:{port}" for name in names)


def check_origin(request: Request, peer: str, allowed: frozenset[str], *, behind_proxy: bool) -> None:
    """Let only pages of the allowed origins connect, and programs of this machine, which name none.

    Raises:
        RefusedError: foreign, ``null`` or several origins; or none and not from this machine.
    """
    try:
        origin = request.headers.get("Origin")
    except MultipleValuesError:
        raise RefusedError(403, "Expected one origin.\n") from None
    if origin is None:
        if behind_proxy or not is_loopback(peer):
            raise RefusedError(403, "Expected an origin.\n")
    elif origin not in allowed:
        raise RefusedError(403, "This origin may not connect.\n")
