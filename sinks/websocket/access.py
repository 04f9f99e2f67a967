"""Who may come in: whose page may connect, from which address, and where the port may be open at all."""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from websockets.datastructures import Headers, MultipleValuesError
from websockets.http11 import Request

from schemas.errors import ConfigError
from schemas.exposure import check_origins, check_plain, is_loopback
from sinks.websocket.principal import DEVELOPER, Principal
from sinks.websocket.tokens import TokenError

FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
"""Headers that tell that a request came through a proxy."""

Network = IPv4Network | IPv6Network

Verify = Callable[[str], Principal]
"""Tells whose token this is, or raises ``TokenError``. Runs on the event loop: must not block."""


class RefusedError(Exception):
    """A request is turned away. ``status`` is the HTTP status; the text goes to the client and holds no internals."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def networks(names: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks of these addresses.

    Raises:
        ConfigError: one is none.
    """
    try:
        return tuple(ip_network(name) for name in names)
    except ValueError as error:
        raise ConfigError(f'gateway.proxies: expected addresses such as "10.0.0.0/8", got {error}') from None


def check_exposure(host: str, origins: tuple[str, ...], *, authenticated: bool, behind_proxy: bool) -> None:
    """Refuse settings under which strangers could read along, or nobody could.

    Raises:
        ConfigError: says which setting and what to do.
    """
    check_plain("gateway", host, behind_proxy=behind_proxy)
    if not authenticated and (behind_proxy or not is_loopback(host)):
        raise ConfigError(
            "gateway.keys: without a key nobody is authenticated and every client would see all tenants: give one, or"
            " let the gateway be reached from this machine only (gateway.host = 127.0.0.1, gateway.behind_proxy off)"
        )
    if behind_proxy and not origins:
        raise ConfigError(
            "gateway.origins: behind a proxy the gateway can't know its own address: list the origins whose pages may"
            ' connect, such as "https://dashboard.example.org"'
        )
    check_origins("gateway.origins", origins)


def own_origins(host: str, port: int) -> tuple[str, ...]:
    """Return the origins of the gateway's own page.

    >>> own_origins("127.0.0.1", 80)
    ('http://127.0.0.1', 'http://localhost', 'http://[::1]')
    """
    return tuple(f"http://{name}" for name in own_hosts(host, port))


def own_hosts(host: str, port: int) -> tuple[str, ...]:
    """Return the gateway's own address as a browser on this machine names it.

    The names are fixed and not taken from the request's ``Host``: a foreign name that is made to resolve to this
    machine (DNS rebinding) would be in there.

    >>> own_hosts("127.0.0.1", 8003)
    ('127.0.0.1:8003', 'localhost:8003', '[::1]:8003')
    """
    names = dict.fromkeys([f"[{host}]" if ":" in host else host, "127.0.0.1", "localhost", "[::1]"])
    return tuple(name if port == 80 else f"{name}:{port}" for name in names)


def address(headers: Headers, peer: str, proxies: tuple[Network, ...], *, behind_proxy: bool) -> str:
    """Return where a request comes from: what the nearest of our proxies says, and nobody else.

    Raises:
        RefusedError: behind a proxy, and it came past it.
    """
    if not behind_proxy:
        return peer
    if not _within(peer, proxies):
        raise RefusedError(403, "Connect through the proxy.\n")
    path = [part.strip() for value in headers.get_all("X-Forwarded-For") for part in value.split(",")]
    return next((hop for hop in reversed(path) if not _within(hop, proxies)), peer)


def neighbourhood(place: str) -> str:
    """Return what connections of an address are counted by: of IPv6 its /64, which one customer has to himself.

    >>> neighbourhood("203.0.113.9"), neighbourhood("2001:db8:0:1::5"), neighbourhood("unknown")
    ('203.0.113.9', '2001:db8:0:1::/64', 'unknown')
    """
    try:
        found = ip_address(place)
    except ValueError:
        return place
    return place if found.version == 4 else str(ip_network((found, 64), strict=False))


def check_origin(request: Request, peer: str, allowed: frozenset[str], *, behind_proxy: bool) -> None:
    """Let only pages of the allowed origins connect; a program names none, and shows a token or is on this machine.

    Raises:
        RefusedError: foreign, ``null`` or several origins; or none, where a browser's page could hide.
    """
    origin = _single(request.headers, "Origin", "Expected one origin.\n")
    if origin is None:
        if "Authorization" not in request.headers and (behind_proxy or not is_loopback(peer)):
            raise RefusedError(403, "Expected an origin, or a token in the header.\n")
    elif origin not in allowed:
        raise RefusedError(403, "Pages of this origin may not connect: gateway.origins does not name it.\n")


def identify(request: Request, verify: Verify | None) -> Principal | None:
    """Return who a handshake comes from; None: a token is needed and comes later. Cookies are not looked at.

    Raises:
        RefusedError: the token in the header is not valid, or one is in the address; without ``verify`` nobody is
            authenticated, and only this machine may connect: a forwarded request did not come from it.
    """
    if "?" in request.path:
        raise RefusedError(400, "Expected no query: a token goes into the header or the first message.\n")
    if verify is None:
        if any(name in request.headers for name in FORWARDED):
            raise RefusedError(403, "The gateway runs without authentication and takes no forwarded requests.\n")
        return DEVELOPER
    value = _single(request.headers, "Authorization", "Expected one token.\n")
    if value is None:
        return None
    scheme, _, token = value.partition(" ")
    try:
        if scheme.lower() != "bearer":
            raise TokenError("expected a bearer token")
        return verify(token.strip())
    except TokenError as error:
        raise RefusedError(401, f"{error}\n") from None


def _single(headers: Headers, name: str, otherwise: str) -> str | None:
    try:
        return headers.get(name)
    except MultipleValuesError:
        raise RefusedError(403, otherwise) from None


def _within(name: str, proxies: tuple[Network, ...]) -> bool:
    try:
        found = ip_address(name)
    except ValueError:
        return False
    return any(found in network for network in proxies if network.version == found.version)
