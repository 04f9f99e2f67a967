"""Events in a real Kafka to engagement records, beside a bare consumer of the log and the same events in memory."""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.outputs import Sink
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Message, TopicPartition

from bench import broker, events, measure
from bench.broker import Topics
from bench.events import Load
from bench.measure import Moment, Timing
from bench.metered import Metered, run_to_end
from bench.partitions import Partitions
from bench.sinks import Counting
from flows import logs
from flows.conductor import ConductorConfig, build
from flows.engine import tune_memory
from schemas.batches import RawBatch
from schemas.registry import OUTBOUND
from sinks.kafka import KafkaSink, KafkaSinkConfig
from sources.kafka import KafkaSource, SourceConfig

SESSIONS = 1_000
DEADLINE_S = 180.0
EPOCH_S = 10.0
BATCH = 65_536
PLAIN, WHOLE = "the same, without emotions", "Kafka, conductor, Kafka"


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench kafka", description=__doc__)
    broker.add_option(options)
    options.add_argument("--events", type=int, default=500_000)
    options.add_argument(
        "--rate", type=float, default=1.0, help=f"events a second of each of the {SESSIONS:,} sessions"
    )
    options.add_argument("--telemetry", type=float, default=0.0, help="the share of events that visitors' pages send")
    options.add_argument("--partitions", type=int, default=4)
    options.add_argument("--shards", type=int, default=4)
    options.add_argument("--repeats", type=int, default=3)
    return options


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    # The broker is not stamping a log that is loaded, and the source would say so at each start.
    logs.configure("error")
    tune_memory()  # as whoever runs it for real does
    with broker.running(options.kafka) as address:
        if address is None:
            return
        with broker.topics(address, options.partitions, recorded=True) as topics:
            _compare(options, topics)


def _compare(options: argparse.Namespace, topics: Topics) -> None:
    span_ms = int(options.events / options.rate / SESSIONS * 1_000)
    # A log of just now: an older one would be deleted for its age while it is read.
    load = Load(SESSIONS, 20, options.rate, start=int(time.time() * 1_000) - span_ms, telemetry=options.telemetry)
    lines, times = events.payloads(load, options.events)
    broker.write(topics, lines, times)
    ways = _Ways(topics, options.events, options.shards, times[-1])
    memory = "memory, conductor"
    measures: dict[str, Callable[[], Timing]] = {
        "bare consume()": ways.consume,
        "KafkaSource": ways.source,
        memory: ways.memory,
        "Kafka, conductor": ways.conductor,
        PLAIN: ways.plain,
        WHOLE: ways.whole,
    }
    timings: dict[str, list[Timing]] = {name: [] for name in measures}
    for _ in range(options.repeats):  # in turns, so that all see the same company
        for name, way in measures.items():
            timings[name].append(way())
    found = {name: measure.median(each) for name, each in timings.items()}
    n, raw, base = options.events, next(iter(found.values())), found[memory]
    assert len(ways.told) == 1, f"one log led to different numbers of records: {ways.told}"
    lost = statistics.median(1 - a.cpu_s / b.cpu_s for a, b in zip(timings[PLAIN], timings[WHOLE], strict=True))
    measure.show(
        f"{n:,} events of {sum(map(len, lines)) / n:.0f} bytes, {100 * options.telemetry:.0f} % telemetry, in "
        f"{options.partitions} partitions, one worker, {next(iter(ways.told)):,} records",
        ["way", "by processor time", "to bare", "to memory", "by the wall clock", "to bare", "to memory"],
        [
            [
                name,
                f"{n / timing.cpu_s:,.0f}",
                f"{raw.cpu_s / timing.cpu_s:.2f}",
                f"{base.cpu_s / timing.cpu_s:.2f}",
                f"{n / timing.wall_s:,.0f}",
                f"{raw.wall_s / timing.wall_s:.2f}",
                f"{base.wall_s / timing.wall_s:.2f}",
            ]
            for name, timing in found.items()
        ],
        f"Events/s, medians of {options.repeats} taken in turns, from the first question for offsets to the last "
        "record confirmed. Processor time is that of all threads of this process, librdkafka's among them, not the "
        "broker's. The bare consumer has the source's settings. "
        f"Emotions and interventions cost {100 * lost:.0f} % of the throughput from Kafka to Kafka. "
        f"The log lies on {3 if options.telemetry else 2} of {len(topics.inbound)} inbound topics; all are read, and "
        "the source merges them.",
    )


class _Ways:
    """The ways from the log to its end; each is done once a call, and returns how long it took.

    ``told`` collects how many records they led to, which must always be the same.
    """

    def __init__(self, topics: Topics, count: int, shards: int, last_ts: int) -> None:
        self._topics = topics
        self._count = count
        self._config = ConductorConfig(shards=shards)
        self._source = SourceConfig(
            bootstrap_servers=topics.address, topics=topics.inbound, group_id=topics.prefix, batch_size=BATCH
        )
        self._sink = KafkaSinkConfig(bootstrap_servers=topics.address)
        # Time stands still at the end of the log: the wall clock would close a tick more with every repeat.
        self._clock_s = last_ts / 1_000
        self._batches = {part: list(self._read(part)) for part in range(topics.partitions)}
        self.told: set[int] = set()

    def consume(self) -> Timing:
        """Read the log with a bare consumer, and forget it."""
        begin = Moment.now()
        consumer = self._assigned(range(self._topics.partitions), tell_ends=False)
        seen = 0
        deadline = time.monotonic() + DEADLINE_S
        while seen < self._count:
            assert time.monotonic() < deadline, f"{seen} of {self._count} events were read"
            messages = consumer.consume(BATCH, 0.1)
            assert not any(map(Message.error, messages))
            seen += len(messages)
        took = begin.until_now()
        consumer.close()
        return took

    def source(self) -> Timing:
        """Read the log with the source, and forget it."""
        source = self._kafka()
        flow = Dataflow("source")
        batches = op.input("source", flow, source)
        op.output("sink", op.map("keyed", batches, lambda batch: ("", batch)), Counting())
        return run_to_end(flow, source)

    def memory(self) -> Timing:
        """Run the conductor over the same batches in memory."""
        return self._counted(Metered(Partitions(self._batches), self._count))

    def conductor(self) -> Timing:
        """Run the conductor over the log into a sink that counts."""
        return self._counted(self._kafka())

    def whole(self) -> Timing:
        """Run the conductor over the log into topics; all records are confirmed at the end."""
        before = self._topics.count(self._topics.outbound)
        took = self._conduct(self._kafka(), self._into_topics())
        self.told.add(self._topics.count(self._topics.outbound) - before)
        return took

    def plain(self) -> Timing:
        """Do the same without emotions and interventions."""
        source = self._kafka()
        flow = build(replace(self._config, emotions=None), source, {"sink": self._into_topics()})
        return run_to_end(flow, source)

    def _into_topics(self) -> KafkaSink:
        return KafkaSink(self._sink, 1, {kind: self._topics.name(entry.topic) for kind, entry in OUTBOUND.items()})

    def _counted(self, source: Metered) -> Timing:
        counted = Counting()
        took = self._conduct(source, counted)
        self.told.add(counted.records)
        return took

    def _conduct(self, source: Metered, sink: Sink[Any]) -> Timing:
        return run_to_end(build(self._config, source, {"sink": sink}), source)

    def _kafka(self) -> Metered:
        return Metered(KafkaSource(self._source, clock=lambda: self._clock_s), self._count)

    def _read(self, part: int) -> Iterator[RawBatch]:
        """Yield what the source hands on of a partition: its topics merged by time, topic and offset."""
        consumer = self._assigned([part], tell_ends=True)
        found: list[tuple[int, str, int, bytes]] = []
        ended = 0
        deadline = time.monotonic() + DEADLINE_S
        while ended < len(self._topics.inbound):
            assert time.monotonic() < deadline, f"partition {part} was not read to its end"
            for message in consumer.consume(BATCH, 0.1):
                fault = message.error()
                if fault is None:
                    value = message.value()
                    assert value is not None
                    found.append((message.timestamp()[1], message.topic() or "", message.offset() or 0, value))
                else:
                    assert fault.code() == KafkaError._PARTITION_EOF, fault
                    ended += 1
        consumer.close()
        found.sort()
        return events.batched(((value, ts) for ts, _, _, value in found), BATCH, part)

    def _assigned(self, parts: Iterable[int], *, tell_ends: bool) -> Consumer:
        consumer = Consumer({**self._source.consumer(), "enable.partition.eof": tell_ends})
        consumer.assign([TopicPartition(t, part, OFFSET_BEGINNING) for t in self._topics.inbound for part in parts])
        return consumer
