"""Numbers for sessions, so that a batch's events are split by shard without looking at a name twice."""

import numpy as np

from operators.chunk import SEPARATOR, Int32s
from operators.shards import shards_of
from schemas.inbound import Event

CACHE = 200_000
"""Sessions that are remembered with their number and shard; beyond that the table starts anew."""


class SessionNumbers:
    """Numbers the sessions that a decoder has seen, and remembers the key and shard of each.

    A table for each tenant, so that a run of one tenant's records is looked up by session id alone.
    """

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._by_tenant: dict[str, _Tenant] = {}
        self._shard_by_number = np.zeros(0, np.int32)
        self.keys_by_number: list[str] = []

    def numbers(self, events: list[Event]) -> Int32s:
        """Return the number of each event's session, of shape (n,)."""
        if events:
            tenant = events[0].tenant_id
            sessions = [event.session_id for event in events if event.tenant_id == tenant]
            if len(sessions) == len(events):
                return np.fromiter(map(self._tenant(tenant).__getitem__, sessions), np.int32, len(events))
        tenants = [event.tenant_id for event in events]
        sessions = [event.session_id for event in events]
        tables = {tenant: self._tenant(tenant) for tenant in set(tenants)}
        pairs = zip(tenants, sessions, strict=True)
        return np.fromiter((tables[tenant][session] for tenant, session in pairs), np.int32, len(events))

    def shards(self, numbers: Int32s) -> Int32s:
        """Return the shard of each of the sessions with these numbers."""
        known = len(self._shard_by_number)
        if known < len(self.keys_by_number):
            new = shards_of(self.keys_by_number[known:], self._shards)
            self._shard_by_number = np.concatenate([self._shard_by_number, new])
        return self._shard_by_number[numbers]

    def _tenant(self, tenant: str) -> "_Tenant":
        table = self._by_tenant.get(tenant)
        if table is None:
            table = self._by_tenant[tenant] = _Tenant(tenant, self.keys_by_number)
        return table

    def forget_if_full(self) -> None:
        """Start anew when there are too many."""
        if len(self.keys_by_number) > CACHE:
            self._by_tenant.clear()
            self._shard_by_number = np.zeros(0, np.int32)
            self.keys_by_number.clear()


class _Tenant(dict[str, int]):
    """The numbers of a tenant's sessions, by session id; one that is new gets the next, and its key is appended."""

    def __init__(self, tenant: str, keys: list[str]) -> None:
        super().__init__()
        self._prefix = tenant + SEPARATOR
        self._keys = keys

    def __missing__(self, session: str) -> int:
        number = self[session] = len(self._keys)
        self._keys.append(self._prefix + session)
        return number


class ShardNumbers(dict[str, int]):
    """The shard of each key that was asked for; how many are remembered is bounded."""

    def __init__(self, shards: int) -> None:
        super().__init__()
        self._shards = shards

    def __missing__(self, key: str) -> int:
        if len(self) >= CACHE:
            self.clear()
        shard = self[key] = int(shards_of([key], self._shards)[0])
        return shard
