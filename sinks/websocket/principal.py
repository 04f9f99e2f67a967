"""Who a connection is: decided once, by the server, from a token, and never by what a client says later."""

from dataclasses import dataclass, replace
from typing import Final, Literal

from schemas.registry import CHANNELS

Role = Literal["dashboard", "client", "developer"]

CLIENT_CHANNEL: Final = "interventions"
"""The only channel of a client."""


@dataclass(frozen=True, slots=True)
class Principal:
    """What a connection is and sees.

    ``tenant`` is None for a developer, who sees all. ``session`` is a client's own. ``expires`` (seconds since 1970
    UTC, None: never) and ``token_id`` are those of its token.
    """

    tenant: str | None
    role: Role
    user: str = ""
    session: str | None = None
    channels: tuple[str, ...] = CHANNELS
    expires: float | None = None
    token_id: str | None = None

    def is_same(self, other: "Principal") -> bool:
        """Return whether only the token is another one."""
        return replace(self, expires=None, token_id=None) == replace(other, expires=None, token_id=None)


DEVELOPER: Final = Principal(tenant=None, role="developer")
"""Whoever sits at this machine, where nobody is authenticated."""
