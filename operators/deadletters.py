"""What can't be used becomes a record of its own: why, where it stood, and what it said."""

import base64
import codecs
from dataclasses import dataclass, field
from typing import Any

import msgspec
from prometheus_client import Counter

from schemas import outbound
from schemas.batches import Records

MAX_PAYLOAD = 64 * 1024
"""Bytes of a payload that a dead letter keeps."""

_SET_ASIDE = Counter("attune_dead_letters_total", "Inbound records set aside, by reason", ["reason"])


@dataclass(slots=True)
class DeadLetters:
    """Collects dead letters of one step and hands them over as one batch of encoded records."""

    records: Records = field(default_factory=lambda: Records("dead_letter", [], [], [], [], []))

    def add(
        self,
        reason: outbound.Reason,
        detail: outbound.Detail,
        position: tuple[str, int, int],
        payload: bytes,
        ids: tuple[str, str],
        ts: int,
    ) -> None:
        """Set one record aside; the arguments are those of `dead_letter`."""
        letter = dead_letter(reason, detail, position, payload, ids, ts)
        out = self.records
        out.ids.append(letter.id)
        out.tenants.append(ids[0])
        out.sessions.append(ids[1])
        out.ts.append(ts)
        out.payloads.append(msgspec.json.encode(letter))


def dead_letter(
    reason: outbound.Reason,
    detail: outbound.Detail,
    position: tuple[str, int, int],
    payload: bytes,
    ids: tuple[str, str],
    ts: int,
) -> outbound.DeadLetter:
    """Return the dead letter of one record, and count it.

    ``position`` is topic, partition and offset (a replay: file, 0 and line); ``ids`` are tenant and session, empty
    where they could not be read.
    """
    _SET_ASIDE.labels(reason).inc()
    topic, partition, offset = position
    text, encoding = as_text(payload)
    return outbound.DeadLetter(
        id=f"dead_letter/{topic}/{partition}/{offset}",
        tenant_id=ids[0],
        session_id=ids[1],
        ts=ts,
        reason=reason,
        detail=detail,
        topic=topic,
        partition=partition,
        offset=offset,
        payload=text,
        encoding=encoding,
    )


def as_text(payload: bytes) -> tuple[str, Any]:
    """Return the first 64 KiB of a payload as text, or as base64 with the encoding's name if it isn't UTF-8.

    >>> as_text(b"plain")
    ('plain', None)
    >>> as_text(bytes([0xff]))
    ('/w==', 'base64')
    """
    head = payload[:MAX_PAYLOAD]
    try:
        # Not final when cut: a character that the cut went through is dropped, not taken for an error.
        return codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) == len(payload)), None
    except UnicodeDecodeError:
        return base64.b64encode(head).decode("ascii"), "base64"
