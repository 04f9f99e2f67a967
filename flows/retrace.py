"""Why a tick was, or was not, an anomaly: the log once more, for one session alone, with everything that decided."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flows.conductor import ConductorConfig
from operators.anomalies.detector import Detector, Reports
from operators.anomalies.explain import TickExplanation, explain_tick
from operators.anomalies.state import TYPES, Baselines, Spells, Ticks
from operators.chunk import SEPARATOR, Chunk
from operators.config import PANE_MS
from operators.decode import BatchDecoder
from operators.engagement import Scorer
from operators.window import Shard
from schemas.batches import RawBatch
from schemas.errors import ConfigError
from sources import files


@dataclass(frozen=True, slots=True)
class Retraced:
    """A tick of a session: its score, its audience, what was told there, and why (None: too few people for any).

    ``audience`` is None where the session never had enough people.
    """

    score: float
    audience: int | None
    told: tuple[str, ...]
    why: TickExplanation | None


def retrace(paths: Sequence[str], tenant: str, session: str, ts: int, config: ConductorConfig) -> Retraced:
    """Return what decided about anomalies at the tick ``ts`` (ms) of a session, by the inbound events in some files.

    Raises:
        ConfigError: a file can't be read; ``ts`` is no multiple of 5 s; detection is off; no such session or tick.
    """
    if ts % PANE_MS:
        raise ConfigError(
            f"{ts} is no tick: ticks are multiples of {PANE_MS} ms; the next is {-(-ts // PANE_MS) * PANE_MS}"
        )
    if config.anomalies is None:
        raise ConfigError("anomalies are switched off in the settings: there is nothing to explain")
    key = f"{tenant}{SEPARATOR}{session}"
    score = replace(config.score, emit="every_tick")  # anomalies are told at ticks that on_change leaves out, too
    detector = _Witness(Detector(config.anomalies, score), ts)
    shard = Shard(config.window, Scorer(score), detector)
    decoder = BatchDecoder(1, config.window)
    known = False
    for batch in _batches(paths):
        for _, chunk in decoder(batch).chunks:
            known = known or key in chunk.sessions
            shard.feed(_alone(chunk, key))
            for closed in shard.close():
                at = np.flatnonzero((closed.ts == ts) & closed.told)
                if len(at):
                    value = float(closed.scores.score[at[-1]])
                    return Retraced(value, detector.audience, tuple(_told(closed.anomalies, ts)), detector.why)
    raise ConfigError(f"{tenant}/{session} {'has no tick at ' + str(ts) if known else 'is not in the files'}")


def _told(reports: Reports | None, ts: int) -> Iterator[str]:
    """Yield what is told at a tick, as people read it."""
    if reports is not None:
        for i in np.flatnonzero(reports.ts == ts).tolist():
            yield f"{TYPES[reports.kind[i]]} {'raised' if reports.raised[i] else 'resolved'}"


def _batches(paths: Sequence[str]) -> Iterator[RawBatch]:
    part = files.FileSource([files.log(path) for path in paths]).build_part("retrace", "0", None)
    while True:
        try:
            yield from part.next_batch()
        except StopIteration:
            return


def _alone(chunk: Chunk, key: str) -> Chunk:
    """Return the chunk with one session's events; the clocks stay those of all."""
    number = chunk.sessions.index(key) if key in chunk.sessions else -1
    mine = np.flatnonzero(chunk.session == number)
    columns = ("user", "poll", "kind", "ts", "record_ts", "stream_time", "topic", "offset", "place")
    return replace(
        chunk,
        sessions=[key] if len(mine) else [],
        session=np.zeros(len(mine), np.int32),
        **{name: getattr(chunk, name)[mine] for name in columns},
    )


class _Witness(Detector):
    """A detector that remembers why it decided as it did at one tick."""

    def __init__(self, detector: Detector, ts: int) -> None:
        super().__init__(detector.config, detector.score_config)
        self._ts = ts
        self.why: TickExplanation | None = None
        self.audience: int | None = None

    def detect(self, table: Baselines, spells: Spells, ticks: Ticks) -> Reports:
        """Detect, having looked at the tick."""
        places = np.flatnonzero(ticks.ts == self._ts)
        if len(places):
            self.audience = int(ticks.audience[places[-1]])
            measures = self.trace(table, spells, ticks)
            at = np.flatnonzero(measures.tick == places[-1])
            if len(at):
                self.why = explain_tick(measures, int(at[0]), self.config)
        return super().detect(table, spells, ticks)
