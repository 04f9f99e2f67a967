"""The hand-over between threads: bounded, in order, and never waiting for ever."""

import threading

import pytest

from schemas.batches import Records
from schemas.errors import TransientError
from sinks.websocket.handover import HandOver
from tests.fix_websocket import DEADLINE_S, batch, eventually


def anomalies(count: int, first: int = 1) -> Records:
    return batch("anomaly", *[("t", "s")] * count, first=first)


def test_batches_come_out_in_order_and_wake_the_other_side() -> None:
    woken: list[bool] = []
    handover = HandOver(10, lambda: woken.append(True))
    first, second = anomalies(3), anomalies(4, first=4)
    handover.put(first, 1.0)
    handover.put(second, 1.0)
    assert woken == [True, True]
    assert (handover.next(), handover.next(), handover.next()) == (first, second, None)


def test_a_full_queue_holds_up_the_publisher() -> None:
    handover = HandOver(5, lambda: None)
    handover.put(anomalies(5), 1.0)
    with pytest.raises(TransientError, match="5 records wait"):
        handover.put(anomalies(1), 0.01)
    late = threading.Thread(target=handover.put, args=(anomalies(1, first=6), DEADLINE_S))
    late.start()
    eventually(lambda: handover.awaited, "the publisher waits")
    assert handover.waiting == 5
    taken = handover.next()
    assert taken is not None
    assert late.is_alive(), "it is the taking in that makes room"
    handover.done(taken)
    late.join(DEADLINE_S)
    assert not late.is_alive()
    assert not handover.awaited
    last = handover.next()
    assert last is not None
    assert last.ts == [6]


def test_a_batch_larger_than_the_queue_goes_alone() -> None:
    handover = HandOver(5, lambda: None)
    handover.put(anomalies(50), 0.01)
    with pytest.raises(TransientError):
        handover.put(anomalies(1), 0.01)


def test_drain_waits_for_what_was_put_before() -> None:
    handover = HandOver(100, lambda: None)
    handover.drain(0.0)
    handover.put(anomalies(1), 1.0)
    drained = threading.Event()

    def drain() -> None:
        handover.drain(DEADLINE_S)
        drained.set()

    waiting = threading.Thread(target=drain)
    waiting.start()
    taken = handover.next()
    assert taken is not None
    assert not drained.is_set()
    handover.done(taken)
    eventually(drained.is_set, "drained")
    waiting.join()


def test_who_waits_when_the_other_side_ends_is_told_why() -> None:
    handover = HandOver(1, lambda: None)
    handover.put(anomalies(1), 1.0)
    said: list[str] = []

    def drain() -> None:
        with pytest.raises(TransientError) as caught:
            handover.drain(DEADLINE_S)
        said.append(str(caught.value))

    waiting = threading.Thread(target=drain)
    waiting.start()
    handover.close("it was stopped")
    handover.close("a later reason")
    waiting.join(DEADLINE_S)
    assert said == ["websocket gateway: it was stopped; 1 records were not taken"]
