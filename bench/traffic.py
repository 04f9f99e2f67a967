"""Live traffic into Kafka at a steady rate, from a process of its own, and when each event was handed over."""

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from random import Random
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from confluent_kafka import KafkaError, Message, Producer

from bench import events
from bench.broker import Topics
from schemas.batches import Int64s
from schemas.inbound import Click, Event
from schemas.registry import INBOUND

SLOT_S = 0.002
FLUSH_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """``per_second`` events in all, of ``sessions`` sessions drawn at random, for ``seconds``.

    ``telemetry`` is the share that visitors' pages send. Every ``troubled``-th event (0: none) is a click with an
    error, of a user who comes for the first time: something is done about each.
    """

    sessions: int
    per_second: float
    seconds: float
    seed: int = 1
    telemetry: float = 0.0
    troubled: int = 0


@dataclass(frozen=True, slots=True)
class Handed:
    """The events in the order in which they were handed to the producer, of shape (n,).

    ``session`` is its number, ``ts`` the event's time (milliseconds), ``at`` the moment of the hand-over
    (`time.monotonic`, which all processes of a machine share). ``behind_s`` is how far the traffic ever lagged behind
    its plan. ``troubled`` has the moment for the event id of each click with an error.
    """

    session: Int64s
    ts: Int64s
    at: npt.NDArray[np.float64]
    behind_s: float
    troubled: dict[str, float] = field(default_factory=dict)


def session_id(number: int) -> str:
    """Return the id of a session.

    >>> session_id(7)
    'session-000007'
    """
    return f"session-{number:06d}"


class _Ready(NamedTuple):
    """An event without its time, ``head`` before and ``tail`` behind it; ``troubled`` is the id of one that is."""

    session: int
    topic: str
    key: str
    head: bytes
    tail: bytes
    troubled: str | None


def send(topics: Topics, plan: Plan, report: Connection) -> None:
    """Send what is planned, each event stamped when it is handed over, and report what was ``Handed``.

    The events are made before the first is sent: the machine is to be busy with what is measured, not with its input.
    """
    faults: list[KafkaError] = []

    def delivered(fault: KafkaError | None, _: Message) -> None:
        if fault is not None:
            faults.append(fault)

    producer = Producer(
        {
            "bootstrap.servers": topics.address,
            "log_level": 2,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 5,
            # A broker that has just begun may take seconds to its first answer: what waits is late, and is measured so.
            "queue.buffering.max.messages": 1_000_000,
            "delivery.report.only.error": True,
            "on_delivery": delivered,
        }
    )
    names = {entry.struct: topics.name(entry.topic) for entry in INBOUND.values()}
    for name in set(names.values()):
        producer.list_topics(name, timeout=FLUSH_S)  # so that the first events don't wait for the brokers' names
    ready = list(_ready(plan, names))
    times: list[int] = []
    at: list[float] = []
    behind = 0.0
    begin = time.monotonic()
    for number, event in enumerate(ready):
        planned = begin + number / plan.per_second
        while (now := time.monotonic()) < planned:
            producer.poll(0)
            time.sleep(SLOT_S)
        behind = max(behind, now - planned)
        ts = int(time.time() * 1_000)
        times.append(ts)
        at.append(now)
        producer.produce(event.topic, b"%b%d%b" % (event.head, ts, event.tail), key=event.key)
    assert producer.flush(FLUSH_S) == 0, "the broker did not take all events in time"
    assert not faults, faults[0]
    troubled = {event.troubled: moment for event, moment in zip(ready, at, strict=True) if event.troubled}
    sessions = np.array([event.session for event in ready], np.int64)
    report.send(Handed(sessions, np.array(times, np.int64), np.array(at), behind, troubled))


def _ready(plan: Plan, names: dict[type[Event], str]) -> Iterator[_Ready]:
    rng = Random(plan.seed)
    for count in range(int(plan.per_second * plan.seconds)):
        number = rng.randrange(plan.sessions)
        about = (f"{count:x}", "tenant-1", session_id(number), f"u{number}-{rng.randrange(20)}", 0)
        event: Event
        is_troubled = bool(plan.troubled) and count % plan.troubled == plan.troubled - 1
        if is_troubled:
            event = Click(*about[:3], f"new-{about[0]}", 0, element="pay", x=1, y=1, page="other", error=True)
        elif plan.telemetry and rng.random() < plan.telemetry:
            event = events.visit(rng, dict(zip(events.ABOUT, about, strict=True)))
        else:
            event = events.event(rng, about)
        head, name, tail = msgspec.json.encode(event).partition(b'"ts":')
        yield _Ready(
            number,
            names[type(event)],
            f"{event.tenant_id}/{event.session_id}",
            head + name,
            tail.removeprefix(b"0"),
            event.event_id if is_troubled else None,
        )


def sent(topics: Topics, plan: Plan) -> Handed:
    """Send the traffic from a process of its own, which must not share the clients' interpreter."""
    context = multiprocessing.get_context("spawn")
    receive, report = context.Pipe(duplex=False)
    sender = context.Process(target=send, args=(topics, plan, report))
    sender.start()
    report.close()
    try:
        handed: Handed = receive.recv()
    finally:
        sender.join(FLUSH_S)
        if sender.is_alive():
            sender.kill()
    return handed
