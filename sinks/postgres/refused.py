"""A record that could not be stored becomes a dead letter that can be."""

import base64
import codecs
from hashlib import blake2b
from typing import Literal

import msgspec

from schemas.batches import Records
from schemas.inbound import MAX_RECORD_BYTES, MAX_TS
from schemas.outbound import DeadLetter, Detail, Reason
from schemas.registry import OUTBOUND
from sinks.postgres.rows import storable, without_nul

LONGEST_ID = 128
"""Characters kept of the tenant's and session's ids: both are in indexes, which have limits of their own."""


def dead_letter(records: Records, index: int, reason: Reason, detail: Detail) -> DeadLetter:
    """Return the dead letter of one record; the same record gives the same id.

    It has no place in Kafka as far as a table's writer knows: ``topic`` is the one it belongs to, partition and
    offset are -1.
    """
    payload = records.payloads[index]
    entry = OUTBOUND.get(records.type)
    text, encoding = _readable(payload)
    letter = DeadLetter(
        id=f"refused:{records.type}:{blake2b(payload, digest_size=16).hexdigest()}",
        tenant_id=without_nul(records.tenants[index][:LONGEST_ID]),
        session_id=without_nul(records.sessions[index][:LONGEST_ID]),
        ts=min(max(records.ts[index], 0), MAX_TS),
        reason=reason,
        detail=detail,
        topic=entry.topic if entry else records.type,
        partition=-1,
        offset=-1,
        payload=text,
        encoding=encoding,
    )
    return storable(letter)


def _readable(payload: bytes) -> tuple[str, Literal["base64"] | None]:
    r"""Return the payload's first 64 KiB as text, or as base64 if it is not UTF-8.

    >>> _readable(b"caf\xc3\xa9"), _readable(b"\xff")
    (('café', None), ('/w==', 'base64'))
    """
    kept = payload[:MAX_RECORD_BYTES]
    try:
        # Not final when cut: a character that the cut went through is left out.
        text = codecs.getincrementaldecoder("utf-8")().decode(kept, final=len(kept) == len(payload))
    except UnicodeDecodeError:
        return base64.b64encode(kept).decode(), "base64"
    return text, None


def encoded(letters: list[DeadLetter]) -> Records:
    """Return dead letters as the sinks take them."""
    return Records(
        type="dead_letter",
        ids=[letter.id for letter in letters],
        tenants=[letter.tenant_id for letter in letters],
        sessions=[letter.session_id for letter in letters],
        ts=[letter.ts for letter in letters],
        payloads=[msgspec.json.encode(letter) for letter in letters],
    )
