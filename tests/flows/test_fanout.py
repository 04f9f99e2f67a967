"""Output topics read back: what is handed on, and what is set aside."""

import numpy as np

from flows.fanout import read
from schemas.batches import RawBatch
from tests.compare import decoded


def batch(values: list[bytes | None]) -> RawBatch:
    count = len(values)
    return RawBatch(
        partition=3,
        topics=("attune.engagement.v1", "attune.interventions.v1"),
        values=values,
        record_ts=np.arange(count) + 1000,
        topic=np.zeros(count, np.uint16),
        offset=np.arange(count),
        stream_time=0,
    )


def line(kind: str, number: int, more: str = "") -> bytes:
    return f'{{"type":"{kind}","id":"{number}","tenant_id":"t","session_id":"s{number}","ts":{number}{more}}}'.encode()


def test_records_are_handed_on_as_they_are_by_type_and_in_order() -> None:
    values = [line("engagement", 1), line("intervention", 2, ',"revision":4'), line("engagement", 3)]
    found = read(batch([*values]))
    assert [(key, records.type) for key, records in found] == [
        ("bucket-03", "engagement"),
        ("bucket-03", "intervention"),
    ]
    engagement, intervention = (records for _, records in found)
    assert engagement.payloads == [values[0], values[2]]
    assert (engagement.ids, engagement.tenants, engagement.sessions) == (["1", "3"], ["t", "t"], ["s1", "s3"])
    assert (engagement.ts, engagement.revisions) == ([1, 3], [0, 0])
    assert (intervention.payloads, intervention.revisions) == ([values[1]], [4])


def test_what_is_none_of_ours_becomes_a_dead_letter() -> None:
    deep = b"[" * 100_000
    found = read(batch([None, b"", b"{}", b"\xff", deep, line("chat.message", 1), line("engagement", 2)]))
    assert [records.type for _, records in found] == ["engagement", "dead_letter"]
    letters = decoded([records for _, records in found][1:])
    assert [letter.offset for letter in letters] == [0, 1, 2, 3, 4, 5]  # type: ignore[union-attr]  # all are dead letters
    assert {letter.topic for letter in letters} == {"attune.engagement.v1"}  # type: ignore[union-attr]  # all are dead letters
    assert [letter.ts for letter in letters] == [1000, 1001, 1002, 1003, 1004, 1005]


def test_an_empty_batch_is_nothing() -> None:
    assert read(batch([])) == []
