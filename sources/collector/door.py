"""Who may send, and how much: keys, origins, rates, and what a body may be."""

import asyncio
import time
from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final

from starlette.requests import ClientDisconnect, Request

from sources.collector.config import CollectorConfig, Key
from sources.collector.messages import refused
from sources.collector.rates import Rates

KEY_HEADER: Final = "X-Attune-Key"
KEY_PARAMETER: Final = "key"
"""For `sendBeacon`, which can't set a header."""

MEDIA: Final = ("application/json", "text/plain")
"""What a body may call itself: `text/plain` is what a page may send to another origin without asking first."""


class Door:
    """Turns away what may not come in. Holds the rates."""

    def __init__(self, config: CollectorConfig) -> None:
        self._config = config
        self._keys_spent = Rates()
        self._clients_spent = Rates()

    def admit(self, request: Request) -> Key:
        """Return the key of a request that may send, one event's worth being spent.

        Raises:
            RefusedError: 401, 403, 413, 415 or 429.
        """
        self._spend_client(request, 1)
        name = key_name(request)
        key = self._config.keys.get(name)
        if key is None:
            raise refused(401, "unknown_key", f"Expected a key of this collector in {KEY_HEADER} or ?{KEY_PARAMETER}=.")
        origins = request.headers.getlist("origin")
        if origins and not (len(origins) == 1 and origins[0] in key.origins):
            raise refused(
                403, "foreign_origin", "Pages of this origin may not use this key: its origins do not name it."
            )
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise refused(415, "compressed", "Expected a body that is not compressed.")
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in MEDIA:
            raise refused(415, "media_type", f"Expected a body of {' or '.join(MEDIA)}.")
        if int(request.headers.get("content-length", "0")) > self._config.body_bytes:
            raise self._too_large()
        return key

    def spend(self, request: Request, key: Key, events: int) -> None:
        """Count what a request brought, at least one event's worth; the first was counted at the door.

        Raises:
            RefusedError: 429; nothing of it is taken.
        """
        worth = max(1, events)
        self._spend_client(request, worth - 1)
        wait = self._keys_spent.take(key_name(request), worth, key.events_per_s, key.burst, time.monotonic())
        if wait:
            raise refused(429, "too_fast", "This key sends more than it may.", wait)

    async def body(self, request: Request) -> bytes:
        """Read a body of bounded size in bounded time.

        Raises:
            RefusedError: 408 or 413.
        """
        parts = bytearray()
        try:
            async with asyncio.timeout(self._config.body_timeout_s):
                async for part in request.stream():
                    parts += part
                    if len(parts) > self._config.body_bytes:
                        raise self._too_large()
        except TimeoutError:
            limit = f"The body did not come within {self._config.body_timeout_s:g} s."
            raise refused(408, "too_slow", limit) from None
        except ClientDisconnect:
            raise refused(400, "cut_off", "The connection ended before the body did.") from None
        return bytes(parts)

    def _spend_client(self, request: Request, events: int) -> None:
        config = self._config
        address = client_name(request.client.host if request.client else "")
        wait = events and self._clients_spent.take(
            address, events, config.client_events_per_s, config.client_burst, time.monotonic()
        )
        if wait:
            raise refused(429, "too_fast", "This address sends more than it may.", wait)

    def _too_large(self) -> Exception:
        return refused(413, "too_large", f"Expected a body of at most {self._config.body_bytes} bytes.")


def key_name(request: Request) -> str:
    """Return the key that a request names, empty if it names none."""
    return request.headers.get(KEY_HEADER) or request.query_params.get(KEY_PARAMETER) or ""


def client_name(host: str) -> str:
    """Return whom an address stands for: an IPv6 client has a /64 to itself.

    >>> client_name("192.0.2.1"), client_name("2001:db8:0:1:a::b")
    ('192.0.2.1', '2001:db8:0:1')
    """
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return ":".join(part.lstrip("0") or "0" for part in address.exploded.split(":")[:4])
    return str(getattr(address, "ipv4_mapped", None) or address)


def allowed_origins(config: CollectorConfig, name: str) -> frozenset[str]:
    """Return whose pages may read an answer: those of the key, or of any key while none is named.

    A browser that asks first (a preflight) does not say the key that it will send in a header.
    """
    keys: Mapping[str, Key] = config.keys
    return keys[name].origins if name in keys else frozenset().union(*(key.origins for key in keys.values()))


def cors(config: CollectorConfig, request: Request) -> dict[str, str]:
    """Return the headers that let a page read the answer, if it may."""
    headers = {"Vary": "Origin"}
    origin = request.headers.get("origin", "")
    if origin in allowed_origins(config, key_name(request)):
        headers |= {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "Retry-After"}
    return headers
