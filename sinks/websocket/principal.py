"""Who a connection is: decided once, by the server, when it connects."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """The only ``tenant`` a connection sees, None for all of them, and its ``role``; both for the connection's life."""

    tenant: str | None
    role: str
