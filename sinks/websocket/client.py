"""A connection as the hub sees it."""

from dataclasses import dataclass
from typing import Final

from sinks.websocket.budget import Budget
from sinks.websocket.outbox import Outbox
from sinks.websocket.principal import Principal

POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013
TOKEN_REFUSED: Final = 4001
TOKEN_EXPIRED: Final = 4002
TOKEN_REVOKED: Final = 4003
TOO_SLOW: Final = 4008
TOO_MANY: Final = 4029


@dataclass(frozen=True, slots=True)
class Close:
    """Why a client is closed; ``at_once``: without sending what still waits for it."""

    code: int
    reason: str
    at_once: bool


class Client:
    """A connection as the hub sees it. ``close`` is set when the shell has to close it."""

    __slots__ = ("budget", "close", "faults", "filters", "outbox", "principal")

    def __init__(self, principal: Principal, budget: Budget) -> None:
        self.principal = principal
        self.budget = budget
        self.filters: dict[str, frozenset[str] | None] = {}
        self.outbox = Outbox()
        self.faults = 0
        self.close: Close | None = None

    @property
    def is_page(self) -> bool:
        """Whether it has the role ``client``: it gets offers, not records."""
        return self.principal.role == "client"
