"""The flows ``archive`` and ``gateway``: output topics read back, and handed to one sink as they are."""

from collections.abc import Iterable

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from operators.deadletters import DeadLetters
from schemas.batches import RawBatch, Records
from schemas.outbound import Detail
from schemas.registry import OUTBOUND

BUCKETS = 64
"""Keys under which records go on. A session's records have the same one, so they keep their order."""


class _Head(msgspec.Struct, gc=False):
    """What a sink needs to know of a record; the payload goes on as it is."""

    type: str
    id: str
    tenant_id: str
    session_id: str
    ts: int
    revision: int = 0


_heads = msgspec.json.Decoder(_Head)


def build(name: str, source: Source[RawBatch], sink: Sink[tuple[str, Records]]) -> Dataflow:
    """Return the flow ``name``: output topics in, one sink out."""
    flow = Dataflow(name)
    raw = op.input("source", flow, source)
    keyed = op.flat_map_batch("records", raw, _read_batches)
    op.output("sink", keyed, sink)
    return flow


def _read_batches(batches: list[RawBatch]) -> Iterable[tuple[str, Records]]:
    for batch in batches:
        yield from read(batch)


def read(batch: RawBatch) -> list[tuple[str, Records]]:
    """Return the batch's records by type, under the key of their partition, in the order they were read.

    What is none of ours, on a topic that only we write to, becomes a dead letter.
    """
    found: dict[str, Records] = {}
    letters = DeadLetters()
    for i, payload in enumerate(batch.values):
        head = _head(payload or b"")
        if isinstance(head, str):
            place = batch.topics[batch.topic[i]], batch.partition, int(batch.offset[i])
            detail = Detail("", "an outbound record", head)
            letters.add("malformed_json", detail, place, payload or b"", ("", ""), int(batch.record_ts[i]))
            continue
        records = found.setdefault(head.type, Records(head.type, [], [], [], [], []))
        records.ids.append(head.id)
        records.tenants.append(head.tenant_id)
        records.sessions.append(head.session_id)
        records.ts.append(head.ts)
        records.payloads.append(payload or b"")
        records.revisions.append(head.revision)
    key = f"bucket-{batch.partition % BUCKETS:02d}"
    groups = [*found.values(), letters.records]
    return [(key, records) for records in groups if records]


def _head(payload: bytes) -> _Head | str:
    """Return what the sink needs to know, or what is wrong."""
    try:
        head = _heads.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return str(error)
    return head if head.type in OUTBOUND else f"the type {head.type[:64]!r}"
