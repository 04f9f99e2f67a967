"""Ask the brokers where partitions end, so that "nothing more there" is a fact with a moment to it.

librdkafka reports PARTITION_EOF once for each end that it reaches, and says nothing when it can no longer tell: not
when the broker goes silent, nor when a full queue keeps it from fetching a quiet topic while a busy one is read. An
end that was reached once proves nothing about now. So the end offsets are asked for (ListOffsets, one request for
all parts of the process): if the answer to a question sent at moment *s* is no higher than what we have read, then
all that we have not read could be read only after *s*: it was appended later or, on a replicated topic, was still on
its way to the followers, so that of two topics' records some milliseconds apart the later may be handed on first.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Condition, Thread
from time import monotonic, sleep
from typing import Any

import structlog
from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from sources.kafka.faults import ERRORS

Place = tuple[str, int]
GATHER_S = 0.003
"""Where there are several parts, a question waits this long for those called next: it tells of what came before it."""


@dataclass(frozen=True, slots=True)
class End:
    """An end offset that was asked for at ``asked`` (`time.monotonic`), which was ``wall_ms`` on the wall clock."""

    offset: int
    asked: float
    wall_ms: int


class Ends:
    """Keep the newest known end of every watched partition. Shared by the parts of a process.

    A thread of its own asks, because the client's call blocks; no method here does for long. It runs while anything is
    watched. ``timeout_s`` bounds one question.
    """

    # The admin client could ask without a thread of ours. But it calls back on a thread of librdkafka's, and if the
    # last reference to the client goes there (garbage collection runs on any thread), librdkafka aborts the process.

    def __init__(self, conf: dict[str, Any], clock: Callable[[], float], timeout_s: float) -> None:
        self._conf = conf
        self._clock = clock
        self._timeout_s = timeout_s
        self._changed = Condition()
        self._watched: set[Place] = set()
        self._alone = True
        self._known: dict[Place, End] = {}
        self._thread: Thread | None = None
        self._wanted = False
        self._asking = False
        self._asked = float("-inf")

    def watch(self, places: Iterable[Place]) -> None:
        """Ask for these, too, from now on."""
        with self._changed:
            self._watched.update(places)
            self._alone = len({partition for _, partition in self._watched}) == 1
            if self._thread is None and self._watched:
                self._thread = Thread(target=self._run, name="kafka-ends", daemon=True)
                self._thread.start()

    def unwatch(self, places: Iterable[Place]) -> None:
        """Ask for these no longer; the thread ends with the last one."""
        with self._changed:
            self._watched.difference_update(places)
            self._alone = len({partition for _, partition in self._watched}) == 1
            self._changed.notify()

    def known(self, place: Place) -> End | None:
        """Return the newest answer for a partition."""
        return self._known.get(place)

    def asking(self) -> bool:
        """Return whether a question is under way."""
        return self._asking

    def ask(self, every_s: float, wait_s: float = 0.0) -> None:
        """Have the ends of all that is watched asked for, unless they were within ``every_s`` or are being so.

        Waits for the answer for up to ``wait_s``; not where other parts would wait for this one.
        """
        if self._asking or monotonic() - self._asked < every_s:
            return
        with self._changed:
            self._wanted = self._asking = True
            self._changed.notify()
            if wait_s and self._alone:
                self._changed.wait_for(lambda: not self._asking, wait_s)

    def _run(self) -> None:
        try:
            # Not closed but dropped: it has joined no group, and closing may wait for brokers that are away.
            consumer = Consumer(self._conf)
            while question := self._next_question():
                if not self._alone:
                    sleep(GATHER_S)
                self._put(consumer, question)
        except Exception:
            # Nothing is proven from here on, which shows as partitions that answer nothing.
            structlog.get_logger(__name__).exception("kafka_ends_thread_failed")
            raise

    def _next_question(self) -> list[Place]:
        """Wait until somebody wants to know; return what is watched, or nothing at the end."""
        with self._changed:
            self._asking = self._wanted
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._wanted or not self._watched)
            self._wanted = False
            if not self._watched:
                self._thread, self._asking = None, False
            return sorted(self._watched)

    def _put(self, consumer: Consumer, question: list[Place]) -> None:
        if self._answered(consumer, question):
            return
        # One partition without a leader holds up the whole answer: ask for each number alone, so that only the parts
        # that can't go on anyway wait.
        for number in sorted({partition for _, partition in question}):
            self._answered(consumer, [place for place in question if place[1] == number])

    def _answered(self, consumer: Consumer, question: list[Place]) -> bool:
        """Ask; return whether there was an answer, be it a bad one for some."""
        self._asked, wall_ms = monotonic(), int(self._clock() * 1000)
        asked = self._asked
        try:
            # In the protocol the end is what is asked for by the timestamp -1, which is OFFSET_END.
            answers = consumer.offsets_for_times(
                [TopicPartition(*place, OFFSET_END) for place in question], self._timeout_s
            )
        except KafkaException as failure:
            ERRORS.labels(failure.args[0].name()).inc()
            return False
        for answer in answers:
            if answer.error is None and answer.offset >= 0:
                self._known[answer.topic, answer.partition] = End(answer.offset, asked, wall_ms)
            elif answer.error is not None:
                ERRORS.labels(answer.error.name()).inc()
        return True
