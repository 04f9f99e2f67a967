"""Hands records to Kafka and says when it has them: an answer is only given for what the brokers have confirmed."""

import asyncio
import contextlib
import threading
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from prometheus_client import Counter

from schemas.errors import TerminalError

CONFIRMED = Counter("attune_collector_kafka_confirmed_total", "Records that Kafka confirmed")
UNCONFIRMED = Counter("attune_collector_kafka_unconfirmed_total", "Records that Kafka did not confirm", ["code"])

POLL_S: Final = 0.1
LOG_EVERY_S: Final = 10.0
READY_S: Final = 2.0
"""How long an answer on whether the brokers are there is believed, and how long one is waited for."""

_log = structlog.get_logger(__name__)

Record = tuple[str, bytes, bytes]
"""Topic, key, value."""


class UnconfirmedError(Exception):
    """Kafka has not confirmed in time: the records may be there or not, so they must be sent again, unchanged."""


class Publisher:
    """An idempotent producer and the thread that hears of its deliveries; ``producer`` configures it."""

    def __init__(self, producer: Mapping[str, Any], topics: Sequence[str], confirm_timeout_s: float) -> None:
        self._confirm_timeout_s = confirm_timeout_s
        self._topic = topics[0]
        self._stop = threading.Event()
        self._fatal: str | None = None
        self._told: dict[str, float] = {}
        self._ready: tuple[float, str] = (float("-inf"), "")
        self._producer = Producer(
            {
                **producer,
                # Somebody waits for each answer: what gathers within a millisecond goes together.
                "linger.ms": 1,
                "delivery.report.only.error": False,
                # Given up before the answer is: what is told as not confirmed must not lie around and come later.
                "message.timeout.ms": max(1, int(confirm_timeout_s * 900)),
                "error_cb": self._on_error,
            }
        )
        self._thread = threading.Thread(target=self._poll, name="attune-collector-kafka", daemon=True)

    def start(self) -> None:
        """Start to hear of deliveries."""
        self._thread.start()

    def close(self) -> None:
        """Wait for what is under way, as long as an answer would, and end."""
        self._producer.flush(self._confirm_timeout_s)
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def check(self) -> None:
        """Raise what ends the producer for good.

        Raises:
            TerminalError: it can't go on.
        """
        if self._fatal is not None:
            raise TerminalError(f"Kafka: the collector's producer can't go on: {self._fatal}: start it again")

    async def publish(self, records: Sequence[Record]) -> None:
        """Return when Kafka has all of these.

        Raises:
            UnconfirmedError: it does not say so in time, or refuses one.
        """
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[KafkaError | None] = loop.create_future()
        left = len(records)
        refusals: list[KafkaError] = []

        def settle() -> None:
            if not outcome.done():
                outcome.set_result(refusals[0] if refusals else None)

        def on_delivery(error: KafkaError | None, _message: Message) -> None:
            nonlocal left
            left -= 1
            if error is not None:
                refusals.append(error)
            if left == 0:
                with contextlib.suppress(RuntimeError):  # the loop has ended: nobody waits any more
                    loop.call_soon_threadsafe(settle)

        try:
            for topic, key, value in records:
                self._producer.produce(topic, value=value, key=key, on_delivery=on_delivery)
            async with asyncio.timeout(self._confirm_timeout_s):
                error = await outcome
        except BufferError:
            raise _unconfirmed("queue full", len(records)) from None
        except TimeoutError:
            raise _unconfirmed("timeout", len(records)) from None
        except KafkaException as failure:
            error = failure.args[0]
        if error is not None:
            raise _unconfirmed(error.name(), len(records))
        CONFIRMED.inc(len(records))

    async def state(self) -> str:
        """Return ``ok``, or why records can't be written now."""
        if self._fatal is not None:
            return "the producer can't go on"
        loop = asyncio.get_running_loop()
        asked, state = self._ready
        if loop.time() - asked >= READY_S:
            # Told before it is known, so that many who ask at once are one question.
            self._ready = loop.time(), state or "not asked yet"
            state = await asyncio.to_thread(self._ask)
            self._ready = loop.time(), state
        return state or "not asked yet"

    def _ask(self) -> str:
        try:
            found = self._producer.list_topics(self._topic, timeout=READY_S).topics[self._topic]
        except KafkaException as failure:
            return f"no answer ({failure.args[0].name()})"
        return "ok" if found.error is None else f"the topic can't be written ({found.error.name()})"

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(POLL_S)

    def _on_error(self, error: KafkaError) -> None:
        # Reported at every attempt to reconnect: told now and then.
        if monotonic() - self._told.get(error.name(), float("-inf")) >= LOG_EVERY_S:
            self._told[error.name()] = monotonic()
            _log.warning("kafka error", code=error.name(), error=error.str())
        if error.fatal():
            self._fatal = f"{error.str()} ({error.name()})"


def _unconfirmed(code: str, count: int) -> UnconfirmedError:
    UNCONFIRMED.labels(code).inc(count)
    return UnconfirmedError(code)
