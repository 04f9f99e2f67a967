"""Run a log through the operators alone, without an engine: cut into batches, over shards, with restarts."""

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from operators import records
from operators.anomalies.config import AnomalyConfig
from operators.anomalies.detector import Detector
from operators.config import NEVER, ScoreConfig, WindowConfig
from operators.decode import BatchDecoder
from operators.engagement import Scorer
from operators.window import Shard
from schemas.batches import END_OF_TIME, RawBatch, Records
from schemas.outbound import Anomaly, AnyRecord, DeadLetter
from tests.compare import decoded
from tests.model import Defaults, LogRecord

ANOMALIES = AnomalyConfig(min_audience=2)
"""So that the few people of small logs are an audience."""


@dataclass
class Outcome:
    """What came of a log."""

    batches: list[Records] = field(default_factory=list)

    @property
    def told(self) -> list[AnyRecord]:
        """All records but anomalies and dead letters."""
        return [record for record in decoded(self.batches) if not isinstance(record, DeadLetter | Anomaly)]

    @property
    def anomalies(self) -> list[Anomaly]:
        """The anomalies."""
        return [record for record in decoded(self.batches) if isinstance(record, Anomaly)]

    @property
    def dead(self) -> list[DeadLetter]:
        """The dead letters."""
        return [record for record in decoded(self.batches) if isinstance(record, DeadLetter)]


def window_config(model: Defaults) -> WindowConfig:
    """Return the configuration that says what the reference's says."""
    return WindowConfig(join_timeout_ms=NEVER if model.join_timeout_ms is None else model.join_timeout_ms)


def raw_batches(log: Sequence[LogRecord], cuts: Iterable[int] = (), *, ends: bool = True) -> list[RawBatch]:
    """Return the log as a source would hand it over, cut before the given places; at the end time runs on."""
    topics = tuple(sorted({record.topic for record in log})) or ("none",)
    batches, stream_time = [], 0
    edges = sorted({0, len(log), *(cut % (len(log) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        part = log[start:end]
        batch = RawBatch(
            0,
            topics,
            [record.raw for record in part],
            np.array([record.record_ts for record in part], np.int64),
            np.array([topics.index(record.topic) for record in part], np.uint16),
            np.array([record.offset for record in part], np.int64),
            stream_time,
        )
        batches.append(batch)
        stream_time = max(stream_time, *(record.record_ts for record in part))
    if ends:
        none = np.zeros(0, np.int64)
        batches.append(RawBatch(0, topics, [], none, none.astype(np.uint16), none, stream_time, END_OF_TIME))
    return batches


def run(
    batches: Iterable[RawBatch],
    window: WindowConfig | None = None,
    score: ScoreConfig | None = None,
    shards: int = 1,
    restarts: Iterable[int] = (),
) -> Outcome:
    """Feed batches through decoder and shards; before each batch named in ``restarts`` all is killed and restored."""
    window, score = window or WindowConfig(), score or ScoreConfig()
    scorer, detector = Scorer(score), Detector(ANOMALIES, score)
    decoder = BatchDecoder(shards, window)
    held = [Shard(window, scorer, detector) for _ in range(shards)]
    outcome = Outcome()
    again = set(restarts)
    for number, batch in enumerate(batches):
        if number in again:
            decoder = BatchDecoder(shards, window)
            held = [Shard.restore(window, scorer, shard.snapshot(), detector=detector) for shard in held]
        found = decoder(batch)
        outcome.batches.append(found.dead)
        for which, sent in found.chunks:
            chunk = pickle.loads(pickle.dumps(sent)) if number in again else sent  # noqa: S301  our own bytes
            judged = held[which].feed(chunk)
            outcome.batches.append(records.untimely(chunk, judged, window))
            for closed in held[which].close():
                outcome.batches += [
                    records.engagement(closed, scorer),
                    *records.encoded(records.anomalies(closed)),
                    records.summaries(closed),
                ]
    return outcome


def lines(outcome: Outcome) -> list[bytes]:
    """Return all records' payloads in an order that does not depend on when they came."""
    rows = [
        (ts, ident, payload)
        for batch in outcome.batches
        for ts, ident, payload in zip(batch.ts, batch.ids, batch.payloads, strict=True)
    ]
    return [payload for _, _, payload in sorted(rows)]
