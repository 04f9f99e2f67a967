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
from operators.chunk import Chunk
from operators.config import PANE_MS, ScoreConfig, WindowConfig
from operators.decode import BatchDecoder
from operators.emotions.diagnosis import Diagnosis, Noticed
from operators.emotions.roles import sorters_of
from operators.emotions.rules import Rules as EmotionRules
from operators.emotions.rules import read_rules
from operators.engagement import Scorer
from operators.interventions.config import InterventionConfig
from operators.interventions.content import read_interventions
from operators.interventions.cues import Cue, CueBatch, Felt, tenant_of
from operators.interventions.shard import Interventions
from operators.numbering import ShardNumbers
from operators.window import Shard
from schemas.batches import RawBatch, Records


@dataclass(frozen=True)
class ConductorConfig:
    """What the flow computes with.

    Without ``anomalies`` none are looked for; without ``emotions`` none are diagnosed and nothing is done about any.
    ``shards`` is fixed for the life of a recovery store, and at least the workers.
    """

    window: WindowConfig = field(default_factory=WindowConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    anomalies: AnomalyConfig | None = field(default_factory=AnomalyConfig)
    emotions: EmotionRules | None = field(default_factory=read_rules)
    interventions: InterventionConfig = field(default_factory=InterventionConfig)
    chat: ChatConfig = field(default_factory=ChatConfig)
    shards: int = 4


def build(
    config: ConductorConfig, source: Source[RawBatch], sinks: Mapping[str, Sink[tuple[str, Records]]]
) -> Dataflow:
    """Return the flow: source, decode; window, score and detect; diagnose; intervene; judge and route; sinks.

    Step ids are the recovery store's keys.
    """
    flow = Dataflow("conductor")
    raw = op.input("source", flow, source)
    decoded = decode("decode", raw, config)
    scored = engagement("engagement", decoded.chunks, config)
    told = [scored.records]
    if config.emotions:
        diagnosed = diagnose("diagnose", scored.noticed, config)
        told += [diagnosed.records, intervene("intervene", diagnosed.cues, config)]
    routed = chat("chat", decoded.chats, config)
    outbound = op.merge("outbound", *told, routed, decoded.dead)
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
    # The workers of a process share this function, and a decoder is not for two threads. Not a `threading.local`, which
    # they would find empty at each call: the engine's threads come into Python anew every time.
    decoders: dict[int, BatchDecoder] = {}

    def decode_batches(batches: list[RawBatch]) -> Iterable[tuple[str, _Decoded]]:
        decoder = decoders.get(threading.get_ident())
        if decoder is None:
            sorters = sorters_of(config.emotions) if config.emotions else None
            decoder = decoders[threading.get_ident()] = BatchDecoder(config.shards, config.window, sorters)
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


@dataclass(frozen=True)
class EngagementOut:
    """What the windows tell, and what was noticed of each chunk, for the diagnosis."""

    records: KeyedStream[Records]
    noticed: KeyedStream[Noticed]


@operator
def engagement(step_id: str, up: KeyedStream[Chunk], config: ConductorConfig) -> EngagementOut:
    """Window the events of every session, score each tick, find anomalies, and set aside what came late or early."""
    scorer = Scorer(config.score)
    detector = Detector(config.anomalies, config.score) if config.anomalies else None

    def logic(resume_state: bytes | None) -> _ShardLogic:
        shard = (
            Shard.restore(config.window, scorer, resume_state, config.shards, detector)
            if resume_state
            else Shard(config.window, scorer, detector)
        )
        return _ShardLogic(shard, scorer, config)

    told = op.stateful_batch("shards", up, logic)
    if config.emotions is None:
        return EngagementOut(told, told)  # type: ignore[arg-type]  # nobody asks for what was noticed
    split = op.branch("split", told, _is_records)
    return EngagementOut(split.trues, split.falses)  # type: ignore[arg-type]  # the predicate tells them apart


def _is_records(item: tuple[str, object]) -> bool:
    return isinstance(item[1], Records)


class _ShardLogic(StatefulBatchLogic[Chunk, Records | Noticed, bytes]):
    def __init__(self, shard: Shard, scorer: Scorer, config: ConductorConfig) -> None:
        self._shard = shard
        self._shards = config.shards
        self._scorer = scorer
        self._emotions = config.emotions is not None

    def on_batch(self, values: list[Chunk]) -> tuple[Iterable[Records | Noticed], bool]:
        return list(self._told(values)), StatefulBatchLogic.RETAIN

    def _told(self, values: list[Chunk]) -> Iterable[Records | Noticed]:
        for chunk in values:
            judged = self._shard.feed(chunk)
            if len(judged.early) or len(judged.late):
                yield records.untimely(chunk, judged, self._shard.config)
            closed = list(self._shard.close())
            anomalies = [found for closing in closed for found in records.anomalies(closing)]
            if self._emotions:
                yield Noticed(chunk, judged.accepted(len(chunk)), closed, anomalies)
            for closing in closed:
                for batch in (records.engagement(closing, self._scorer), records.summaries(closing)):
                    if batch:
                        yield batch
            yield from records.encoded(anomalies)

    def snapshot(self) -> bytes:
        return self._shard.snapshot(self._shards)


@dataclass(frozen=True)
class DiagnoseOut:
    """The emotions that visitors showed, and what interventions may follow, by shard of tenants."""

    records: KeyedStream[Records]
    cues: KeyedStream[CueBatch]


@operator
def diagnose(step_id: str, up: KeyedStream[Noticed], config: ConductorConfig) -> DiagnoseOut:
    """Follow every visitor by the rules of emotions, and put what interventions may follow in order."""
    rules = config.emotions or read_rules()

    def logic(resume_state: bytes | None) -> _DiagnosisLogic:
        diagnosis = (
            Diagnosis.restore(rules, config.window, resume_state, config.shards)
            if resume_state
            else Diagnosis(rules, config.window)
        )
        return _DiagnosisLogic(diagnosis, config)

    split = op.branch("split", op.stateful_batch("shards", up, logic), _is_records)
    addressed: KeyedStream[tuple[int, CueBatch]] = split.falses  # type: ignore[assignment]  # the predicate says so
    return DiagnoseOut(split.trues, op.map("address", addressed, _to_tenants))  # type: ignore[arg-type]  # as above


def _to_tenants(item: tuple[str, tuple[int, CueBatch]]) -> tuple[str, CueBatch]:
    shard, batch = item[1]
    return shard_key(shard), batch


class _DiagnosisLogic(StatefulBatchLogic[Noticed, Records | tuple[int, CueBatch], bytes]):
    def __init__(self, diagnosis: Diagnosis, config: ConductorConfig) -> None:
        self._diagnosis = diagnosis
        self._config = config
        self._shard_of = ShardNumbers(config.shards)
        self._told: dict[int, int] = {}

    def on_batch(self, values: list[Noticed]) -> tuple[Iterable[Records | tuple[int, CueBatch]], bool]:
        out: list[Records | tuple[int, CueBatch]] = []
        for noticed in values:
            cues = self._diagnosis.take(noticed)
            out += records.encoded([emotion for cue in cues if isinstance(cue, Felt) for emotion in cue.emotions])
            out += self._by_tenant(noticed.chunk, cues)
        return out, StatefulBatchLogic.RETAIN

    def _by_tenant(self, chunk: Chunk, cues: list[Cue]) -> Iterable[tuple[int, CueBatch]]:
        """Yield cues by shard of tenants; whenever stream time passes a tick every one learns of it."""
        shards = self._config.shards
        of_shard: dict[int, list[Cue]] = {}
        for cue in cues:
            of_shard.setdefault(self._shard_of[tenant_of(cue)], []).append(cue)
        tick = (chunk.clock - self._config.window.stream_delay_ms) // PANE_MS
        everyone = self._told.get(chunk.partition) != tick
        self._told[chunk.partition] = tick
        for shard in range(shards) if everyone else sorted(of_shard):
            yield shard, CueBatch(chunk.partition * shards + chunk.shard, chunk.clock, of_shard.get(shard, []))

    def snapshot(self) -> bytes:
        return self._diagnosis.snapshot(self._config.shards)


@operator
def intervene(step_id: str, up: KeyedStream[CueBatch], config: ConductorConfig) -> KeyedStream[Records]:
    """Decide what is done about emotions and anomalies, and tell what became of it."""
    emotions = config.emotions.emotions if config.emotions else None
    rules, content = read_interventions(config.interventions.rules, emotions)

    def logic(resume_state: bytes | None) -> _InterventionLogic:
        interventions = (
            Interventions.restore(config.interventions, rules, content, resume_state, config.shards)
            if resume_state
            else Interventions(config.interventions, rules, content)
        )
        return _InterventionLogic(interventions, config.shards)

    return op.stateful_batch("shards", up, logic)


class _InterventionLogic(StatefulBatchLogic[CueBatch, Records, bytes]):
    def __init__(self, interventions: Interventions, shards: int) -> None:
        self._interventions = interventions
        self._shards = shards

    def on_batch(self, values: list[CueBatch]) -> tuple[Iterable[Records], bool]:
        told = [record for batch in values for record in self._interventions.take(batch)]
        return records.encoded(told), StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        return self._interventions.snapshot(self._shards)


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
        return records.encoded(told), StatefulBatchLogic.RETAIN

    def snapshot(self) -> bytes:
        return self._answers.snapshot(self._shards)
