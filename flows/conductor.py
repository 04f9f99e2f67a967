"""The whole job as one dataflow: whoever reads `build` from top to bottom has read the system."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream, operator
from bytewax.inputs import Source
from bytewax.operators import KeyedStream, StatefulBatchLogic
from bytewax.outputs import Sink

from operators import records
from operators.anomalies.config import AnomalyConfig
from operators.anomalies.detector import Detector
from operators.chat.answers import Answers, ChatConfig
from operators.chat.batch import ChatBatch
from operators.chat.phrases import read_phrases
from operators.chat.records import encoded
from operators.chunk import Chunk
from operators.config import ScoreConfig, WindowConfig
from operators.decode import BatchDecoder
from operators.engagement import Scorer
from operators.window import Shard
from schemas.batches import RawBatch, Records


@dataclass(frozen=True)
class ConductorConfig:
    """What the flow computes with.

    Without ``anomalies`` none are looked for. ``shards`` is fixed for the life of a recovery store, and at least the
    workers.
    """

    window: WindowConfig = field(default_factory=WindowConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    anomalies: AnomalyConfig | None = field(default_factory=AnomalyConfig)
    chat: ChatConfig = field(default_factory=ChatConfig)
    shards: int = 4


def build(
    config: ConductorConfig, source: Source[RawBatch], sinks: Mapping[str, Sink[tuple[str, Records]]]
) -> Dataflow:
    """Return the flow: source, decode; window, score and detect; judge and route; sinks.

    Step ids are the recovery store's keys.
    """
    flow = Dataflow("conductor")
    raw = op.input("source", flow, source)
    decoded = decode("decode", raw, config)
    scored = engagement("engagement", decoded.chunks, config)
    routed = chat("chat", decoded.chats, config)
    outbound = op.merge("outbound", scored, routed, decoded.dead)
    for name, sink in sinks.items():
        op.output(f"sink_{name}", outbound, sink)
    return flow


@dataclass(frozen=True)
class DecodeOut:
    """What became of the raw batches: windowed events and chat, each by shard, and dead letters."""

    chunks: KeyedStream[Chunk]
    chats: KeyedStream[ChatBatch]
    dead: KeyedStream[Records]


@operator
def decode(step_id: str, up: Stream[RawBatch], config: ConductorConfig) -> DecodeOut:
    """Decode batches and split them by shard; what can't be used is set aside."""
    caches = threading.local()  # the workers of a process share this function, and a decoder is not for two threads

    def decode_batches(batches: list[RawBatch]) -> Iterable[tuple[str, _Decoded]]:
        decoder: BatchDecoder | None = getattr(caches, "decoder", None)
        if decoder is None:
            decoder = caches.decoder = BatchDecoder(config.shards, config.window)
        for batch in batches:
            decoded = decoder(batch)
            for shard, chunk in decoded.chunks:
                yield shard_key(shard), chunk
            for shard, chats in decoded.chats:
                yield shard_key(shard), chats
            if decoded.dead:
                yield shard_key(batch.partition % config.shards), decoded.dead

    split = op.branch("split", op.flat_map_batch("batches", up, decode_batches), _is_chunk)
    rest = op.branch("split_chat", split.falses, _is_chat)
    return DecodeOut(split.trues, rest.trues, rest.falses)  # type: ignore[arg-type]  # the predicates tell them apart


_Decoded = Chunk | ChatBatch | Records


def _is_chunk(item: tuple[str, _Decoded]) -> bool:
    return isinstance(item[1], Chunk)


def _is_chat(item: tuple[str, _Decoded]) -> bool:
    return isinstance(item[1], ChatBatch)


def shard_key(shard: int) -> str:
    """Return the engine's key of a shard.

    The engine gives a key to a worker, and what the key's step writes to a part of a sink, by hashes of its own. These
    names are such that both are ``shard`` modulo the number of workers, for 1, 2, 3, 4, 6 and 12 of them: with as many
    partitions and shards as that divides, an event stays with the worker that read it until it is written.
    """
    return f"w.{_NAMES[shard]}" if shard < len(_NAMES) else f"w.x{shard}"


_NAMES = (
    325, 236, 659, 113, 20, 191, 0, 188, 167, 120, 152, 1, 1139, 249, 822, 193, 99, 298, 71, 229, 653, 308, 530, 98,
    1436, 290, 848, 315, 132, 528, 211, 472, 680, 430, 677, 212, 1557, 331, 888, 652, 468, 650, 479, 513, 761, 658, 691,
    373,
)  # fmt: skip
"""Found by trying, for bytewax 0.21.1: SipHash-1-3 with a key of zeros for the workers, Adler-32 for the parts."""


@operator
def engagement(step_id: str, up: KeyedStream[Chunk], config: ConductorConfig) -> KeyedStream[Records]:
    """Window the events of every session, score each tick, find anomalies, and set aside what came late or early."""
    scorer = Scorer(config.score)
    detector = Detector(config.anomalies, config.score) if config.anomalies else None

    def logic(resume_state: bytes | None) -> _ShardLogic:
        shard = (
            Shard.restore(config.window, scorer, resume_state, config.shards, detector)
            if resume_state
            else Shard(config.window, scorer, detector)
        )
        return _ShardLogic(shard, scorer, config.shards)

    return op.stateful_batch("shards", up, logic)


class _ShardLogic(StatefulBatchLogic[Chunk, Records, bytes]):
    def __init__(self, shard: Shard, scorer: Scorer, shards: int) -> None:
        self._shard = shard
        self._shards = shards
        self._scorer = scorer

    def on_batch(self, values: list[Chunk]) -> tuple[Iterable[Records], bool]:
        out: list[Records] = []
        for chunk in values:
            judged = self._shard.feed(chunk)
            if len(judged.early) or len(judged.late):
                out.append(records.untimely(chunk, judged, self._shard.config))
        for closed in self._shard.close():
            out.append(records.engagement(closed, self._scorer))
            out.append(records.anomalies(closed))
            out.append(records.summaries(closed))
        return [batch for batch in out if batch], StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        return self._shard.snapshot(self._shards)


@operator
def chat(step_id: str, up: KeyedStream[ChatBatch], config: ConductorConfig) -> KeyedStream[Records]:
    """Judge and route every chat answer, call people where they are needed, and learn from what they found."""
    phrases = read_phrases()

    def logic(resume_state: bytes | None) -> _ChatLogic:
        answers = (
            Answers.restore(config.chat, phrases, resume_state, config.shards)
            if resume_state
            else Answers(config.chat, phrases)
        )
        return _ChatLogic(answers, config.shards)

    return op.stateful_batch("shards", up, logic)


class _ChatLogic(StatefulBatchLogic[ChatBatch, Records, bytes]):
    def __init__(self, answers: Answers, shards: int) -> None:
        self._answers = answers
        self._shards = shards

    def on_batch(self, values: list[ChatBatch]) -> tuple[Iterable[Records], bool]:
        told = [record for batch in values for record in self._answers.take(batch)]
        return encoded(told), StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        return self._answers.snapshot(self._shards)
