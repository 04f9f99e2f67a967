"""Keeps the newest engagement of every session, for a table that is drawn beside a running flow."""

import threading
from dataclasses import dataclass

import msgspec
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from schemas.batches import Records
from schemas.outbound import Engagement

PART = "watch"


@dataclass(frozen=True, slots=True)
class Seen:
    """The newest engagement of a session, and its score at the tick before (None: it is the first)."""

    now: Engagement
    before: float | None


class Watch(FixedPartitionedSink[Records, None]):
    """A sink for people: forgets a session once its summary has come, and promises nothing about delivery."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], Seen] = {}
        self.records = 0

    def list_parts(self) -> list[str]:
        """Return the one part."""
        return [PART]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_WatchPart":
        """Return the one part."""
        return _WatchPart(self)

    def seen(self) -> list[Seen]:
        """Return the newest of every running session, by tenant and session."""
        with self._lock:
            return [self._seen[key] for key in sorted(self._seen)]

    def take(self, records: Records) -> None:
        """Look at a batch."""
        with self._lock:
            self.records += len(records)
            if records.type == "engagement":
                for payload in records.payloads:
                    self._keep(msgspec.json.decode(payload, type=Engagement))
            elif records.type == "session":
                for key in zip(records.tenants, records.sessions, strict=True):
                    self._seen.pop(key, None)

    def _keep(self, record: Engagement) -> None:
        key = record.tenant_id, record.session_id
        last = self._seen.get(key)
        self._seen[key] = Seen(record, last.now.score if last else None)


class _WatchPart(StatefulSinkPartition[Records, None]):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def write_batch(self, values: list[Records]) -> None:
        for records in values:
            self._watch.take(records)

    def snapshot(self) -> None:
        return None
