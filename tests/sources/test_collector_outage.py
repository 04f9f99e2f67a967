"""Kafka goes away while browsers send: nothing is told as taken that isn't there, and nothing counts twice."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fix_collector import STREAM, Collecting, batch, device
from tests.fix_kafka import Broker, require, wait_until


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Give a broker that these tests may stop, kill and freeze; each leaves it running."""
    require()
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


class Page:
    """Sends batches one after another, each until it is taken, as the snippet does."""

    def __init__(self, collecting: Collecting, session: str) -> None:
        self.collecting = collecting
        self.session = session
        self.stop = threading.Event()
        self.refused = 0
        self.taken: list[str] = []
        self.late: list[str] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        offset: int | None = None
        while not self.stop.is_set():
            events = [device(), device("telemetry.hover"), device("telemetry.search")]
            while True:
                said: dict[str, Any] = batch(*events, session_id=self.session, offset_ms=offset)
                answer = self.collecting.http.post(STREAM, json=said)
                if answer.status_code == 200:
                    break
                assert (answer.status_code, answer.json()["error"]) == (503, "unconfirmed")
                assert int(answer.headers["retry-after"]) >= 1
                self.refused += 1
                time.sleep(0.1)
            offset = answer.json()["offset_ms"]
            for verdict in answer.json()["verdicts"]:
                (self.taken if verdict["status"] == "accepted" else self.late).append(verdict["event_id"])


def test_a_broker_that_is_killed_loses_and_doubles_nothing(
    start_collector_at: Callable[..., Collecting], broker: Broker
) -> None:
    collecting = start_collector_at(broker.address, confirm_timeout_s=0.5)
    pages = [Page(collecting, f"s{number}") for number in range(4)]
    wait_until(lambda: all(len(page.taken) > 30 for page in pages), "events before the fault")
    broker.kill()
    wait_until(lambda: all(page.refused for page in pages), "refusals while the broker is away")
    get = collecting.http.get
    wait_until(lambda: get("/health/ready").status_code == 503, "the collector to be not ready")
    assert get("/health/ready").json()["kafka"] != "ok"
    assert get("/health/live").status_code == 200
    broker.start()
    then = [len(page.taken) for page in pages]
    wait_until(lambda: all(len(page.taken) > n + 30 for page, n in zip(pages, then, strict=True)), "events after it")
    wait_until(lambda: get("/health/ready").status_code == 200, "the collector to be ready again")
    for page in pages:
        page.stop.set()
    for page in pages:
        page.thread.join(20)
        assert not page.thread.is_alive()
    taken = {event for page in pages for event in page.taken}
    found = collecting.records(len(taken))
    counted = {(one["session_id"], one["event_id"], one["ts"]) for one in found}
    ids = [event_id for _, event_id, _ in counted]
    assert len(ids) == len(set(ids)), "the same event with two times counts twice"
    assert taken <= set(ids), "what was told as taken is there"


def test_a_collector_that_stops_answers_what_is_under_way(
    start_collector_at: Callable[..., Collecting], broker: Broker
) -> None:
    collecting = start_collector_at(broker.address)
    assert collecting.send(device()).status_code == 200
    broker.freeze()
    answers: list[int] = []
    sender = threading.Thread(target=lambda: answers.append(collecting.send(device()).status_code))
    sender.start()
    time.sleep(0.3)
    stopper = threading.Thread(target=collecting.collector.stop)
    stopper.start()
    time.sleep(0.3)
    broker.thaw()
    sender.join(20)
    stopper.join(20)
    assert answers == [200]
    assert len(collecting.records(2)) == 2
