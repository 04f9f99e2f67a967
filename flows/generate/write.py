"""Sends generated events on: as JSON lines or to Kafka, as fast as they come or at the pace of the clock."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import IO, Protocol

import msgspec

from schemas.inbound import Event
from schemas.registry import INBOUND

BATCH = 1000


class Producer(Protocol):
    """What takes single records; ``sinks.kafka.Delivery`` is the real one."""

    def send(self, topic: str, partition: int | None, key: bytes, value: bytes, timestamp_ms: int) -> None:
        """Enqueue one record; the partition is chosen by the key if None is given."""
        ...

    def look(self) -> None:
        """Raise what has failed by now."""
        ...

    def confirm(self) -> None:
        """Return when everything was confirmed."""
        ...


class Destination(Protocol):
    """Where events go."""

    def send(self, events: list[Event]) -> None:
        """Hand over events; they may still be under way."""
        ...

    def finish(self) -> None:
        """Return when everything has arrived."""
        ...


class Lines:
    """Writes events as JSON lines to a binary stream, flushed after each batch."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._encoder = msgspec.json.Encoder()

    def send(self, events: list[Event]) -> None:
        """Write a line for each event."""
        self._stream.write(self._encoder.encode_lines(events))
        self._stream.flush()

    def finish(self) -> None:
        """Return at once: every batch was flushed."""


class Topics:
    """Produces events to the topics of their types. ``names`` maps default topics to the ones in use."""

    def __init__(self, producer: Producer, names: dict[str, str]) -> None:
        self._producer = producer
        self._topic = {entry.struct: names.get(entry.topic, entry.topic) for entry in INBOUND.values()}
        self._encoder = msgspec.json.Encoder()

    def send(self, events: list[Event]) -> None:
        """Enqueue the events under the key of their session."""
        for event in events:
            key = f"{event.tenant_id}/{event.session_id}".encode()
            self._producer.send(self._topic[type(event)], None, key, self._encoder.encode(event), event.ts)
        self._producer.look()

    def finish(self) -> None:
        """Return when the brokers have confirmed everything; ``TransientError`` if they do not."""
        self._producer.confirm()


def batches(events: Iterable[Event], size: int = BATCH) -> Iterator[list[Event]]:
    """Cut events into lists of ``size``, the last one shorter.

    >>> [len(batch) for batch in batches([None] * 5, 2)]
    [2, 2, 1]
    """
    source = iter(events)
    while batch := list(islice(source, size)):
        yield batch


def paced(
    events: Iterable[Event], stop: threading.Event, clock: Callable[[], float] = time.time, step_s: float = 0.1
) -> Iterator[list[Event]]:
    """Give out events as the clock (seconds since 1970) reaches their ``ts``, until they end or ``stop`` is set.

    An empty list means that nothing was due for ``step_s``.
    """
    due: list[Event] = []
    for event in events:
        while event.ts > clock() * 1000:
            yield due
            due = []
            if stop.wait(step_s):
                return
        due.append(event)
        if len(due) >= BATCH:
            yield due
            due = []
            if stop.is_set():
                return
    yield due
