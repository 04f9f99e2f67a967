"""No record reaches a topic or a channel but its own, and nothing inbound reaches any: over many mixed events.

``ATTUNE_TEST_MIXED_EVENTS`` is how many (100,000 if it is not set).
"""

import json
import os
from collections import Counter
from pathlib import Path
from random import Random

import msgspec
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import TestingSource, run_main

from bench import events
from flows.conductor import ConductorConfig, build
from operators.anomalies.config import AnomalyConfig
from schemas.batches import RawBatch, Records
from schemas.inbound import ChatAnswer, Click, EmotionObserved, InterventionOutcome, SessionEnded
from schemas.registry import CHANNELS, INBOUND, OUTBOUND, OUTBOUND_TOPICS
from sinks.jsonl import JsonlSink
from sinks.websocket.hub import Hub
from sinks.websocket.limits import Limits
from tests.fix_websocket import said, who

COUNT = int(os.environ.get("ATTUNE_TEST_MIXED_EVENTS", "100000"))
EVERYTHING = 1 << 40


class Head(msgspec.Struct):
    """What tells a record's kind."""

    type: str


class Listeners(DynamicSink[tuple[str, Records]]):
    """Publishes to a hub, of which every channel has one subscriber of all tenants, and counts what each was told."""

    def __init__(self) -> None:
        self.hub = Hub(Limits(queue_records=10_000_000, queue_bytes=EVERYTHING))
        self.heard: dict[str, Counter[str]] = {channel: Counter() for channel in CHANNELS}
        self._clients = {}
        for channel in CHANNELS:
            client = self._clients[channel] = self.hub.connect(who(None), 0.0)
            self.hub.receive(client, json.dumps({"op": "subscribe", "channels": [channel]}), 0.0)

    def publish(self, records: Records) -> None:
        """Publish, and read what came."""
        self.hub.publish(records, 0.0)
        for channel, client in self._clients.items():
            for message in map(said, self.hub.take(client, EVERYTHING).frames):
                if message["op"] == "record":
                    assert message["channel"] == channel
                    self.heard[channel][message["record"]["type"]] += 1

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Part":
        """Return the one worker's part."""
        return _Part(self)


class _Part(StatelessSinkPartition[tuple[str, Records]]):
    def __init__(self, listeners: Listeners) -> None:
        self._listeners = listeners

    def write_batch(self, items: list[tuple[str, Records]]) -> None:
        for _, records in items:
            self._listeners.publish(records)


def mixed(count: int) -> list[RawBatch]:
    """Return chat, reactions and telemetry with all that leads to other records between, and some that is broken."""
    rng = Random(5)
    stream = list(events.stream(events.Load(200, 10, 2.0, telemetry=0.5), count))
    lines = [odd(rng, number, ts) or line for number, (line, ts) in enumerate(stream)]
    return events.batches(lines, [ts for _, ts in stream], 16_384)


def odd(rng: Random, number: int, ts: int) -> bytes | None:
    """Return what takes the place of an event now and then."""
    about = (f"x{number}", "tenant-1", f"session-{rng.randrange(200):06d}", f"u{rng.randrange(2_000)}", ts)
    made = {
        0: EmotionObserved(*about, "confusion", 0.85),
        1: ChatAnswer(*about, f"c{number}", "bot", "Can I talk to a human?", "Yes."),
        2: InterventionOutcome(*about, "never was", "shown"),
        3: Click(*about, element="pay", x=1, y=1, page="checkout", error=True),
        4: SessionEnded(*about) if number % 51 == 0 else None,
    }.get(number % 97)
    return b'{"type":' if number % 97 == 5 else msgspec.json.encode(made) if made else None


def test_no_record_is_anywhere_but_where_it_belongs(tmp_path: Path) -> None:
    listeners, files = Listeners(), JsonlSink(tmp_path / "out", 1)
    config = ConductorConfig(anomalies=AnomalyConfig(min_audience=2))
    run_main(build(config, TestingSource(mixed(COUNT)), {"sockets": listeners, "files": files}))
    files.finish()
    of_topic = {topic: {e.type for e in OUTBOUND.values() if e.topic == topic} for topic in OUTBOUND_TOPICS}
    written: Counter[str] = Counter()
    for topic in OUTBOUND_TOPICS:
        with (tmp_path / "out" / f"{topic}.jsonl").open("rb") as file:
            kinds = Counter(msgspec.json.decode(line, type=Head).type for line in file)
        assert kinds.keys() <= of_topic[topic]
        written += kinds
    for channel, heard in listeners.heard.items():
        belongs = {e.type for e in OUTBOUND.values() if e.channel == channel}
        assert heard.keys() <= belongs
        assert not heard.keys() & INBOUND.keys()
        assert heard == Counter({kind: count for kind, count in written.items() if kind in belongs})
    told = {"engagement", "emotion", "intervention", "decision", "human_handoff.requested", "session", "dead_letter"}
    assert told | {"intervention_effect"} <= written.keys()
