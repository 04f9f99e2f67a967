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


def check_origins(setting: str, origins: Iterable[str]) -> None:
    """Refuse what no browser names as the origin of a page.

    Raises:
        ConfigError: says which and what is expected.
    """
    for origin in origins:
        scheme, separator, rest = origin.partition("://")
        if scheme not in ("http", "https") or not separator or not rest or set(rest) & set("/*?# "):
            raise ConfigError(f'{setting}: expected "https://host" or "https://host:port", got "{origin}"')
