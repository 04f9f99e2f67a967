"""Where a port may be open: what gateway and collector ask of their addresses before they listen."""

from collections.abc import Iterable
from ipaddress import ip_address

from schemas.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address to bind to, or comes from an address.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_plain(section: str, host: str, *, behind_proxy: bool) -> None:
    """Refuse to speak without TLS to other machines, unless a proxy in front does.

    Raises:
        ConfigError: says which setting of ``section`` and what to do.
    """
    if not is_loopback(host) and not behind_proxy:
        raise ConfigError(
            f"{section}.host: {host} can be reached from other machines, and the {section} itself speaks no TLS: put a"
            f" proxy that does in front and set {section}.behind_proxy = true, or use 127.0.0.1"
        )


def expected_origin(origin: str) -> str:
    """Say what would have been the origin of a page; empty if this is one, as a browser names it.

    >>> expected_origin("http://127.0.0.1:8090"), expected_origin("http://127.0.0.1:8090/")
    ('', '"http://127.0.0.1:8090" without the slash at its end')
    """
    scheme, separator, rest = origin.partition("://")
    if scheme in ("http", "https") and separator and rest and not set(rest) & set("/*?# "):
        return ""
    if origin.endswith("/") and not expected_origin(origin[:-1]):
        return f'"{origin[:-1]}" without the slash at its end'
    return 'origins such as "https://host", "https://host:port" or "http://host:port", without a path or wildcard'


def check_origins(setting: str, origins: Iterable[str]) -> None:
    """Refuse what no browser names as the origin of a page.

    Raises:
        ConfigError: says which and what is expected.
    """
    for origin in origins:
        if expected := expected_origin(origin):
            raise ConfigError(f'{setting}: expected {expected}, got "{origin}"')
