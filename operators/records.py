"""From columns to records: what a closing tells, encoded once for every sink."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, Literal

import msgspec
import numpy as np

from operators.anomalies.state import TYPES
from operators.chunk import SEPARATOR, Chunk
from operators.config import WindowConfig
from operators.deadletters import DeadLetters
from operators.engagement import Scorer
from operators.rows import TOTALS
from operators.settle import MILLIONTHS, Closed
from operators.window import Judged
from schemas.batches import Records
from schemas.outbound import (
    Anomaly,
    Contributions,
    Detail,
    DetectorScores,
    Engagement,
    Reason,
    Record,
    SessionSummary,
    Signals,
)
from schemas.registry import type_of

_encode = msgspec.json.Encoder().encode

_EngagementRow = msgspec.defstruct(
    "_EngagementRow",
    [(name, Any) for name in Engagement.__struct_fields__],
    tag_field="type",
    tag="engagement",
    frozen=True,
    gc=False,
)
"""An ``Engagement`` to the encoder, made by position: a closing makes many, and names cost an eighth of their time."""


@lru_cache(maxsize=65_536)
def _about(key: str, start: int) -> tuple[str, str, str]:
    """Return tenant, session and the beginning of the ids of what is told of the session that began at ``start``."""
    tenant, session = key.split(SEPARATOR)
    return tenant, session, f"{plain(tenant)}/{plain(session)}/{start}/"


def plain(name: str) -> str:
    """Escape the separator of ids, so that no two sessions share one.

    >>> plain("a/b%")
    'a%2Fb%25'
    """
    return name.replace("%", "%25").replace("/", "%2F") if "/" in name or "%" in name else name


def engagement(closed: Closed, scorer: Scorer) -> Records:
    """Encode the ticks that are told."""
    told = slice(None) if closed.told.all() else np.flatnonzero(closed.told)
    signals, scores = closed.signals, closed.scores
    which = closed.session[told]
    about = list(map(_about, closed.keys, closed.start.tolist()))
    tenants, sessions, heads = (np.array([names[i] for names in about], np.object_)[which].tolist() for i in range(3))
    ts = closed.ts[told].tolist()
    tick_names = {t: f"engagement/{t}" for t in set(ts)}
    ids = [head + tick_names[t] for head, t in zip(heads, ts, strict=True)]
    score = scores.score[told]
    rows = map(
        _EngagementRow,
        ids,
        tenants,
        sessions,
        ts,
        closed.start[which].tolist(),
        score.tolist(),
        scorer.categories(score),
        map(Signals, *(getattr(signals, name)[told].tolist() for name in Signals.__struct_fields__)),
        map(Contributions, *(getattr(scores, name)[told].tolist() for name in Contributions.__struct_fields__)),
    )
    return Records("engagement", ids, tenants, sessions, ts, list(map(_encode, rows)))


def encoded(told: Sequence[Record]) -> list[Records]:
    """Encode records once for every sink, each type's in the order they were told.

    >>> encoded([])
    []
    """
    return [_batch(kind, list(of_type)) for kind, of_type in groupby(sorted(told, key=_type), _type)]


def _type(record: Record) -> str:
    return type_of(type(record))


def _batch(kind: str, told: list[Record]) -> Records:
    revised = "revision" in type(told[0]).__struct_fields__
    return Records(
        kind,
        [record.id for record in told],
        [record.tenant_id for record in told],
        [record.session_id for record in told],
        [record.ts for record in told],
        [_encode(record) for record in told],
        [getattr(record, "revision", 0) for record in told] if revised else [],
    )


def anomalies(closed: Closed) -> list[Anomaly]:
    """Return the records of what was found."""
    found = closed.anomalies
    if found is None:
        return []
    out = []
    signals = found.signals
    of_window = [
        Signals(*values)
        for values in zip(*(getattr(signals, name).tolist() for name in Signals.__struct_fields__), strict=True)
    ]
    for i, session in enumerate(found.session.tolist()):
        start, ts = int(closed.start[session]), int(found.ts[i])
        tenant, name, prefix = _about(closed.keys[session], start)
        kind = TYPES[found.kind[i]]
        state: Literal["raised", "resolved"] = "raised" if found.raised[i] else "resolved"
        current, expected = float(found.current[i]), float(found.expected[i])
        out.append(
            Anomaly(
                id=f"{prefix}anomaly/{kind}/{state}/{ts}",
                tenant_id=tenant,
                session_id=name,
                ts=ts,
                session_start=start,
                anomaly_type=kind,
                severity="CRITICAL" if found.critical[i] else "WARNING",
                state=state,
                score=float(found.combined[i]),
                current=current,
                expected=expected,
                deviation=expected - current,
                detector=DetectorScores(float(found.trees[i]), float(found.z[i]), float(found.trees_weight[i])),
                signals=of_window[i],
            )
        )
    return out


def summaries(closed: Closed) -> Records:
    """Encode the summaries of the sessions that ended."""
    out = Records("session", [], [], [], [], [])
    ended = closed.ended
    for i, session in enumerate(ended.session.tolist()):
        start, end, ticks = int(closed.start[session]), int(ended.end[i]), int(ended.ticks[i])
        tenant, name, prefix = _about(closed.keys[session], start)
        summary = SessionSummary(
            id=f"{prefix}session",
            tenant_id=tenant,
            session_id=name,
            ts=end,
            session_start=start,
            ended_by="ended" if ended.by_event[i] else "idle",
            duration_ms=end - start,
            **dict(zip(TOTALS, ended.totals[i].tolist(), strict=True)),
            users=int(ended.users[i]),
            peak_connected=int(ended.peak_connected[i]),
            ticks=ticks,
            score_mean=int(ended.score_sum[i]) / ticks / MILLIONTHS if ticks else None,
            score_peak=float(ended.score_peak[i]) if ticks else None,
        )
        out.ids.append(summary.id)
        out.tenants.append(tenant)
        out.sessions.append(name)
        out.ts.append(end)
        out.payloads.append(_encode(summary))
    return out


def untimely(chunk: Chunk, judged: Judged, config: WindowConfig) -> Records:
    """Encode the dead letters of what came late or early."""
    letters = DeadLetters()
    for at in judged.early.tolist():
        ahead = int(chunk.ts[at] - chunk.record_ts[at])
        expected = f"at most {config.early_ms} ms ahead of the record"
        _untimely(letters, chunk, at, "early", Detail("ts", expected, f"{ahead} ms ahead"))
    for at in judged.late.tolist():
        behind = int(chunk.stream_time[at] - chunk.ts[at])
        detail = Detail(
            "ts",
            "a tick that is not closed yet",
            f"{chunk.ts[at]}, with its record's stream time {behind} ms beyond it",
        )
        _untimely(letters, chunk, at, "late", detail)
    return letters.records


def _untimely(letters: DeadLetters, chunk: Chunk, at: int, reason: Reason, detail: Detail) -> None:
    tenant, session = chunk.sessions[chunk.session[at]].split(SEPARATOR)
    position = chunk.topics[chunk.topic[at]], chunk.partition, int(chunk.offset[at])
    letters.add(reason, detail, position, chunk.payload(at), (tenant, session), int(chunk.ts[at]))
