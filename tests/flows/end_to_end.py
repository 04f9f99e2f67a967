"""What the end-to-end tests share: a real conductor process, a log in real Kafka, and what must come of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from flows.replay import replay
from schemas.inbound import HandoffResolved
from schemas.registry import INBOUND, INBOUND_TOPICS, OUTBOUND_TOPICS
from tests.fix_kafka import make_topics
from tests.live_log import live_event_log
from tests.model import MINUTE, LogRecord
from tests.strategies import interleave

HOUR = 60 * MINUTE
PARTITIONS = 3
DONE = ("attune.engagement.v1", "attune.sessions.v1", "attune.deadletters.v1")


def ahead() -> int:
    """Return a time an hour ahead, on a tick.

    Logs are stamped ahead of the clock: the wall clock, which stands in for stream time whenever all partitions are at
    their end, is then never the one that moves it, and a log that trickles in slowly is told like one read at once.
    """
    return (int(time.time() * 1000) + HOUR) // 5_000 * 5_000


def events(seed: int, sessions: int, people: int, minutes: int, start: int) -> list[bytes]:
    """Return the events of several live events at once, in order of time."""
    logs = [
        live_event_log(seed * 100 + i, people=people, minutes=minutes, session=f"live-{i}", start=start + i * 700)
        for i in range(sessions)
    ]
    return [record.raw or b"" for record in interleave(*logs)]


def spoil(lines: list[bytes], rng: Random, share: float) -> list[bytes]:
    """Return the lines with bad ones strewn in."""
    out = []
    for line in lines:
        if rng.random() < share:
            out.append(rng.choice([b"{", b"", b"[1]", line[:-7], line.replace(b'"ts":', b'"ts":-')]))
        out.append(line)
    return out


class Log:
    """A log in Kafka: every event under its session's key, on its type's topic, stamped with its own time."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.latest = 0
        self._faults: list[str] = []
        # Idempotent, so that a retry (topics are new, leaders not known yet) does not change the order of the log.
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "partitioner": "murmur2_random",
                "enable.idempotence": True,
                "linger.ms": 1,
                "log_level": 2,
            }
        )

    def make_topics(self) -> None:
        """Make all topics, the inbound ones with the timestamps of their writer."""
        make_topics(self.address, *OUTBOUND_TOPICS, partitions=PARTITIONS)
        # A broker refuses timestamps of more than an hour ahead unless it is told otherwise.
        stamps = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(24 * HOUR)}
        topics = [NewTopic(name, PARTITIONS, 1, config=stamps) for name in INBOUND_TOPICS]
        admin = AdminClient({"bootstrap.servers": self.address})
        for made in admin.create_topics(topics).values():
            made.result(30)

    def _produce(self, topic: str, value: bytes, **where: Any) -> None:
        self._producer.produce(topic, value, on_delivery=self._delivered, **where)
        self._producer.poll(0)

    def _delivered(self, fault: KafkaError | None, message: Message) -> None:
        if fault is not None:
            self._faults.append(str(fault))

    def _flush(self) -> None:
        assert self._producer.flush(60) == 0
        assert not self._faults, self._faults

    def write(self, lines: Sequence[bytes], topics: Sequence[str] = INBOUND_TOPICS) -> None:
        """Write those lines that belong on these topics; a line without a type goes where the chat goes."""
        for line in lines:
            try:
                event = json.loads(line)
                topic, ts = INBOUND[event["type"]].topic, event["ts"]
                key = f"{event['tenant_id']}/{event['session_id']}"
            except (ValueError, TypeError, KeyError):
                topic, ts, key = "platform.events.chat.message.v1", self.latest, str(len(line))
            if topic in topics:
                self.latest = max(self.latest, ts)
                self._produce(topic, line, key=key, timestamp=max(1, ts if ts > 0 else self.latest))
        self._flush()

    def end(self) -> None:
        """Write a record into every partition that says that hours have gone by."""
        at = self.latest + 2 * HOUR
        for partition in range(PARTITIONS):
            ending = HandoffResolved(f"end-{partition}", "nobody", "end", "nobody", at, "none", False)
            for topic in INBOUND_TOPICS:
                self._produce(topic, msgspec.json.encode(ending), partition=partition, timestamp=at)
        self._flush()


def expected(lines: Sequence[bytes], folder: Path) -> dict[str, bytes]:
    """Return what a replay of the lines says, by id, without dead letters (which name other positions)."""
    folder.mkdir()
    (folder / "log.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    replay([str(folder / "log.jsonl")], folder / "out")
    return {
        json.loads(line)["id"]: line
        for topic in OUTBOUND_TOPICS
        if topic != "attune.deadletters.v1"
        for line in (folder / "out" / f"{topic}.jsonl").read_bytes().splitlines()
    }


@dataclass
class Told:
    """What the output topics hold, by id: every payload that a record was given, and how often."""

    payloads: dict[str, set[bytes]] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)

    def of_type(self, kind: str) -> dict[str, bytes]:
        """Return the records of a type; fails if one id was given different content."""
        return {name: payload for name, payload in self._once().items() if json.loads(payload)["type"] == kind}

    @property
    def records(self) -> dict[str, bytes]:
        """All records but dead letters; fails if one id was given different content."""
        return {name: line for name, line in self._once().items() if json.loads(line)["type"] != "dead_letter"}

    def _once(self) -> dict[str, bytes]:
        for name, payloads in self.payloads.items():
            assert len(payloads) == 1, f"{name} was told in different words: {payloads}"
        return {name: payload for name, (payload,) in self.payloads.items()}


class Reader:
    """Reads the output topics from their beginning, more each time."""

    def __init__(self, address: str) -> None:
        self.told = Told()
        self._consumer = Consumer(
            {
                "bootstrap.servers": address,
                "group.id": "test-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_uncommitted",
            }
        )
        self._at = {TopicPartition(t, p, 0): 0 for t in OUTBOUND_TOPICS for p in range(PARTITIONS)}
        self._consumer.assign(list(self._at))

    def read(self, seconds: float = 0.5) -> Told:
        """Take in what there is."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for message in self._consumer.consume(1_000, 0.05):
                fault = message.error()
                if fault is not None:
                    assert fault.code() == KafkaError._PARTITION_EOF, fault
                    continue
                payload = message.value()
                assert payload is not None, "a record without a value"
                name = json.loads(payload)["id"]
                self.told.payloads.setdefault(name, set()).add(payload)
                self.told.times[name] += 1
        return self.told

    def rest(self) -> Told:
        """Take in all that has been written by now."""
        ends = {part: self._consumer.get_watermark_offsets(part, timeout=30)[1] for part in self._at}
        deadline = time.monotonic() + 60
        while any(part.offset < ends[part] for part in self._consumer.position(list(ends)) if ends[part]):
            assert time.monotonic() < deadline, "the output topics can't be read to their ends"
            self.read(0.1)
        return self.told

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


class Conductor:
    """A conductor in a process of its own, as a data engineer starts it."""

    def __init__(self, folder: Path, address: str, *arguments: str, **settings: str) -> None:
        self._log = folder / "conductor.log"
        self._arguments = ["run", "conductor", "--recovery", str(folder / "recovery"), *arguments]
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("ATTUNE_")},
            "ATTUNE_KAFKA__BOOTSTRAP_SERVERS": address,
            "ATTUNE_KAFKA__START": "earliest",
            "ATTUNE_RECOVERY__EPOCH_INTERVAL_S": "0.5",
            "ATTUNE_METRICS__ENABLED": "false",
            "ATTUNE_GATEWAY__PORT": "0",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has logged."""
        return self._log.read_text(encoding="utf-8") if self._log.exists() else ""

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", *self._arguments], env=self._environment, stdout=file, stderr=file
            )

    def running(self) -> bool:
        """Tell whether it lives."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(60)


def until_told(conductor: Conductor, reader: Reader, wanted: dict[str, bytes], seconds: float = 120) -> None:
    """Read until all wanted records are there; others, dead letters among them, may still be on their way."""
    until = time.monotonic() + seconds
    while missing := wanted.keys() - reader.read().payloads.keys():
        assert conductor.running(), conductor.log
        assert time.monotonic() < until, f"{len(missing)} missing, such as {sorted(missing)[:3]}\n{conductor.log}"


def stopped(conductor: Conductor, reader: Reader) -> Told:
    """Ask the conductor to end; return all that it has told."""
    assert conductor.stop() == 0, conductor.log
    return reader.rest()


def in_parts(lines: list[bytes], count: int) -> Iterator[list[bytes]]:
    """Cut lines into parts of about the same size."""
    size = -(-len(lines) // count)
    for start in range(0, len(lines), size):
        yield lines[start : start + size]


__all__ = ["LogRecord"]
