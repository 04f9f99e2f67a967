"""Who wants what: the subscribers of every channel, by tenant and session."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from schemas.registry import CHANNELS

if TYPE_CHECKING:
    from sinks.websocket.client import Client


@dataclass(slots=True)
class _Audience:
    """The subscribers of one channel that see one tenant: of all its sessions, and of single ones."""

    of_all: dict["Client", None] = field(default_factory=dict)
    of_session: dict[str, dict["Client", None]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.of_all or self.of_session)


class Audiences:
    """The subscribers of all channels. A client's ``filters`` say the same from its side, and are kept here."""

    def __init__(self) -> None:
        self._audiences: dict[tuple[str, str | None], _Audience] = {}
        self._subscribers: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._audiences)

    @property
    def subscribers(self) -> dict[str, int]:
        """How many clients are subscribed to each channel."""
        return {channel: self._subscribers[channel] for channel in CHANNELS}

    def join(self, client: "Client", channels: Iterable[str], wanted: frozenset[str] | None) -> None:
        """Let a client have these sessions (None: all) of each channel, instead of what it had of them."""
        channels = tuple(channels)
        self.leave(client, channels)
        for channel in channels:
            client.filters[channel] = wanted
            self._subscribers[channel] += 1
            audience = self._audiences.setdefault((channel, client.principal.tenant), _Audience())
            if wanted is None:
                audience.of_all[client] = None
            else:
                for session in wanted:
                    audience.of_session.setdefault(session, {})[client] = None

    def leave(self, client: "Client", channels: Iterable[str]) -> None:
        """Let a client have nothing of these channels; again is harmless."""
        for channel in channels:
            if channel not in client.filters:
                continue
            wanted = client.filters.pop(channel)
            self._subscribers[channel] -= 1
            audience = self._audiences[channel, client.principal.tenant]
            if wanted is None:
                del audience.of_all[client]
            else:
                for session in wanted:
                    del audience.of_session[session][client]
                    if not audience.of_session[session]:
                        del audience.of_session[session]
            if not audience:
                del self._audiences[channel, client.principal.tenant]

    def recipients(self, channel: str, tenant: str, session: str) -> Iterator["Client"]:
        """Yield who wants a record: who sees its tenant, then who sees all tenants."""
        for seen in (tenant, None):
            if audience := self._audiences.get((channel, seen)):
                yield from audience.of_all
                yield from audience.of_session.get(session, ())
