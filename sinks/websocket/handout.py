"""Hands tokens to whoever sits at this machine: for the demo alone, whose key is made at its start."""

import secrets
import time
from typing import Final
from urllib.parse import parse_qsl

from websockets.datastructures import MultipleValuesError
from websockets.http11 import Request, Response

from schemas.exposure import is_loopback
from sinks.websocket.access import FORWARDED
from sinks.websocket.pages import plain
from sinks.websocket.tokens import Key, sign

PATH: Final = "/demo/token"
TTL_S: Final = 3_600
FIELDS: Final = frozenset(("role", "tenant", "session", "user"))


class Handout:
    """Answers ``PATH`` with a token for the role, tenant (the first by default), session and user of the query.

    Only for this machine, in the gateway's own name (a foreign one that resolves here has another ``Host``), and for
    its own page, a program, or pages of ``origins``: browsers say where a request comes from. Those are shops, and
    get a client's token alone: the dashboard's shows all sessions.
    """

    def __init__(
        self, key: Key, issuer: str, audience: str, tenants: tuple[str, ...], origins: tuple[str, ...] = ()
    ) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self._tenants = tenants
        self._origins = frozenset(origins)

    def __call__(self, request: Request, peer: str, hosts: frozenset[str]) -> Response:
        """Answer a request."""
        origins = request.headers.get_all("Origin")
        known = len(origins) == 1 and origins[0] in self._origins
        if not _on_this_machine(request, peer, hosts) or not (known or _is_own(request, hosts)):
            return plain(403, "Tokens are for this machine alone.\n")
        response = self._answer(request, "client" if known else "dashboard")
        if known:
            response.headers.update({"Access-Control-Allow-Origin": origins[0], "Vary": "Origin"})
        return response

    def _answer(self, request: Request, least: str) -> Response:
        try:
            asked = dict(parse_qsl(request.path.partition("?")[2], max_num_fields=len(FIELDS)))
        except ValueError:  # too many
            asked = {"": ""}
        role = asked.get("role", "dashboard")
        fits = role == "dashboard" and "session" not in asked
        fits = fits or (role == "client" and {"session", "user"} <= asked.keys())
        if role == "dashboard" and least == "client":
            return plain(403, "Pages of other origins get tokens of role=client alone.\n")
        if not fits or not asked.keys() <= FIELDS:
            return plain(400, "Expected role=dashboard, or role=client with session and user.\n")
        if asked.get("tenant", self._tenants[0]) not in self._tenants:
            return plain(400, f"Expected one of the tenants {', '.join(self._tenants)}.\n")
        return plain(200, self._token(role, asked))

    def _token(self, role: str, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": self._audience,
            "nbf": now,
            "exp": now + TTL_S,
            "sub": asked.get("user", "demo"),
            "tenant": asked.get("tenant", self._tenants[0]),
            "role": role,
            "jti": secrets.token_hex(8),
        }
        if role == "client":
            claims["session"] = asked["session"]
        return sign(self._key, claims)


def _is_own(request: Request, hosts: frozenset[str]) -> bool:
    """Return whether a request is the own page's or a program's."""
    try:
        origin, site = request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site", "none")
    except MultipleValuesError:
        return False
    return origin in (None, *(f"http://{name}" for name in hosts)) and site in ("none", "same-origin")


def _on_this_machine(request: Request, peer: str, hosts: frozenset[str]) -> bool:
    try:
        host = request.headers.get("Host")
    except MultipleValuesError:
        return False
    return is_loopback(peer) and host in hosts and not any(name in request.headers for name in FORWARDED)
