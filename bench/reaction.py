"""From a troubled click into a real Kafka to the intervention about it on the output topic of a real conductor.

Every intervention is about an event that is known; its latency is the moment at which a plain consumer has it less the
moment at which the event was in Kafka, as the broker stamped it, or was handed to the producer before that. Sessions'
ticks fall due all along.
"""

import argparse
import tempfile
import threading
import time
import uuid
from collections.abc import Collection
from pathlib import Path

import msgspec
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from bench import broker, conductor, measure
from bench.broker import Topics
from bench.traffic import Handed, Plan, sent
from schemas.outbound import Intervention
from schemas.registry import INBOUND, OUTBOUND

CLICKS = INBOUND["telemetry.click"].topic
LAST_S = 20.0


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench reaction", description=__doc__)
    broker.add_option(options)
    options.add_argument("--sessions", type=int, default=1_000)
    options.add_argument("--rate", type=float, default=20_000.0, help="events a second in all")
    options.add_argument("--telemetry", type=float, default=0.25, help="the share of them that visitors' pages send")
    options.add_argument("--troubled", type=int, default=200, help="every such event is a click with an error")
    options.add_argument("--seconds", type=float, default=30.0, help="how long is measured")
    options.add_argument(
        "--warm-up", type=float, default=30.0, help="seconds before that: the broker compiles its code"
    )
    options.add_argument("--partitions", type=int, default=1)
    options.add_argument("--shards", type=int, default=1, help="window.shards, at least the workers")
    options.add_argument("--workers", type=int, default=1)
    return options


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    with broker.running(options.kafka) as address:
        if address is None:
            return
        with broker.topics(address, options.partitions) as topics, tempfile.TemporaryDirectory() as folder:
            arguments = ("--workers", str(options.workers))
            shards = f"[window]\nshards = {options.shards}\n"
            with conductor.running(topics, Path(folder), arguments, shards) as running:
                plan = Plan(
                    options.sessions,
                    options.rate,
                    options.warm_up + options.seconds,
                    telemetry=options.telemetry,
                    troubled=options.troubled,
                )
                listener = _Listener(topics)
                cpu, begin = running.cpu_s(), time.monotonic()
                handed = sent(topics, plan)
                cores = (running.cpu_s() - cpu) / (time.monotonic() - begin)
                arrived = listener.stop(handed.troubled.keys())
            stamped = _stamped(topics, handed.troubled.keys())
    _tell(options, handed, stamped, arrived, cores)


def _stamped(topics: Topics, wanted: Collection[str]) -> dict[str, float]:
    """Return when the broker stamped each click (`time.monotonic`), by the event's id."""
    decoder = msgspec.json.Decoder(_Named)
    ahead = time.time() - time.monotonic()
    return {
        name: (message.timestamp()[1] / 1_000) - ahead
        for message in topics.read(topics.name(CLICKS))
        if (name := decoder.decode(message.value() or b"").event_id) in wanted
    }


class _Named(msgspec.Struct):
    """What tells which event it is."""

    event_id: str


class _Listener:
    """Reads the interventions in a thread of its own, and notes when each came first, by the event it is about."""

    def __init__(self, topics: Topics) -> None:
        self.arrived: dict[str, float] = {}
        self._wanted: set[str] | None = None
        self._deadline = float("inf")
        self._consumer = Consumer({"bootstrap.servers": topics.address, "group.id": uuid.uuid4().hex})
        name = topics.name(OUTBOUND["intervention"].topic)
        partitions = self._consumer.list_topics(name, timeout=10).topics[name].partitions
        self._consumer.assign([TopicPartition(name, partition, OFFSET_BEGINNING) for partition in partitions])
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def stop(self, wanted: object) -> dict[str, float]:
        """Wait for what is still wanted, but not for ever; return when each event's intervention came."""
        self._deadline = time.monotonic() + LAST_S
        self._wanted = set(wanted)  # type: ignore[call-overload]  # the keys of a dictionary
        self._thread.join()
        self._consumer.close()
        return self.arrived

    def _listen(self) -> None:
        decoder = msgspec.json.Decoder(Intervention)
        while time.monotonic() < self._deadline:
            # One by one: a call for several waits for company.
            message = self._consumer.poll(0.05)
            value = message.value() if message is not None and message.error() is None else None
            if value is not None:
                # tenant/session/ts/intervention/event/rule/name
                self.arrived.setdefault(decoder.decode(value).id.split("/")[4], time.monotonic())
            if self._wanted is not None and self._wanted <= self.arrived.keys():
                return


def _tell(
    options: argparse.Namespace,
    handed: Handed,
    stamped: dict[str, float],
    arrived: dict[str, float],
    cores: float,
) -> None:
    begin = float(handed.at[0]) + options.warm_up
    wanted = {event for event, at in handed.troubled.items() if at >= begin}
    came = wanted & arrived.keys()
    assert came, "no intervention arrived: measure longer"
    rows = []
    for since, moments in (("in Kafka", stamped), ("handed to the producer", handed.troubled)):
        latencies = sorted(arrived[event] - moments[event] for event in came)
        figures = (f"{1_000 * measure.quantile(latencies, share):,.0f}" for share in (0.5, 0.95, 0.99, 1.0))
        rows.append([since, *figures, f"{len(came):,}", f"{len(wanted) - len(came):,}"])
    measure.show(
        f"From an event into Kafka to its intervention on the output topic: {options.sessions:,} sessions, "
        f"{options.partitions} partitions, {options.shards} shards, {100 * options.telemetry:.0f} % telemetry",
        ["ms since it was", "p50", "p95", "p99", "max", "interventions", "missing"],
        rows,
        f"{len(handed.at) / float(handed.at[-1] - handed.at[0]):,.0f} events/s sent, at most "
        f"{1_000 * handed.behind_s:.0f} ms behind plan; the conductor used {cores:.2f} of a core.",
    )
