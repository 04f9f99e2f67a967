import threading
import time
from collections.abc import Callable

import pytest

from schemas.batches import Records
from sinks.postgres.inbox import Inbox, Limits, divide


def records(count: int, size: int = 2) -> Records:
    ids = [str(number) for number in range(count)]
    return Records("engagement", ids, ["t"] * count, ["s"] * count, [0] * count, [b"x" * size] * count)


def sizes(batch: list[Records]) -> list[int]:
    return [len(part) for part in batch]


def background(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def test_a_full_batch_is_taken_at_once() -> None:
    inbox = Inbox(Limits(max_rows=10, max_age_s=3600))
    for _ in range(3):
        inbox.put(records(4))
    assert sizes(inbox.take()) == [4, 4]


def test_a_batch_of_many_bytes_is_taken_at_once() -> None:
    inbox = Inbox(Limits(max_rows=1000, max_bytes=100, max_age_s=3600))
    for _ in range(3):
        inbox.put(records(1, size=60))
    assert sizes(inbox.take()) == [1, 1]


def test_what_is_old_enough_is_taken_though_the_batch_is_not_full() -> None:
    inbox = Inbox(Limits(max_rows=10, max_age_s=0.05))
    inbox.put(records(1))
    started = time.monotonic()
    assert sizes(inbox.take()) == [1]
    assert time.monotonic() - started >= 0.04


def test_waiting_for_confirmation_does_not_wait_for_age() -> None:
    inbox = Inbox(Limits(max_rows=10, max_age_s=3600))
    inbox.put(records(1))
    background(lambda: inbox.confirm(inbox.take()))
    assert inbox.wait_confirmed(timeout_s=30)


def test_what_is_taken_but_not_confirmed_is_not_done() -> None:
    inbox = Inbox(Limits(max_rows=1))
    inbox.put(records(1))
    batch = inbox.take()
    assert not inbox.wait_confirmed(timeout_s=0.05)
    inbox.confirm(batch)
    assert inbox.wait_confirmed(timeout_s=0)


def test_a_full_queue_holds_the_producer_until_there_is_room() -> None:
    inbox = Inbox(Limits(max_rows=2, backlog=2, max_age_s=3600))
    inbox.put(records(4))
    producer = background(lambda: inbox.put(records(1)))
    producer.join(0.1)
    assert producer.is_alive()
    assert sizes(inbox.take()) == [2]
    producer.join(30)
    assert not producer.is_alive()


def test_what_is_larger_than_the_queue_is_let_in_when_it_is_empty() -> None:
    inbox = Inbox(Limits(max_rows=10, max_bytes=10, backlog=1))
    inbox.put(records(1, size=1000))
    assert sizes(inbox.take()) == [1]


def test_a_failure_reaches_a_producer_that_waits_for_room() -> None:
    inbox = Inbox(Limits(max_rows=1, backlog=1, max_age_s=3600))
    inbox.put(records(1))
    seen: list[BaseException] = []

    def put() -> None:
        try:
            inbox.put(records(1))
        except OSError as error:
            seen.append(error)

    producer = background(put)
    inbox.fail(OSError("broken"))
    producer.join(30)
    assert [str(error) for error in seen] == ["broken"]


def test_a_failure_reaches_every_later_call() -> None:
    inbox = Inbox(Limits())
    inbox.put(records(1))
    inbox.fail(OSError("broken"))
    with pytest.raises(OSError, match="broken"):
        inbox.put(records(1))
    with pytest.raises(OSError, match="broken"):
        inbox.wait_confirmed()


def test_closing_hands_out_what_is_left_and_then_nothing() -> None:
    inbox = Inbox(Limits(max_age_s=3600))
    inbox.put(records(3))
    inbox.close()
    assert sizes(inbox.take()) == [3]
    assert inbox.take() == []


def test_abandoning_drops_what_is_left() -> None:
    inbox = Inbox(Limits(max_age_s=3600))
    inbox.put(records(3))
    inbox.abandon()
    assert inbox.take() == []


def test_records_are_divided_without_losing_one_or_its_order() -> None:
    whole = records(7)
    parts = list(divide(whole, 3))
    assert sizes(parts) == [3, 3, 1]
    assert [name for part in parts for name in part.ids] == whole.ids
    assert all(len(part.payloads) == len(part.tenants) == len(part.ts) == len(part) for part in parts)
    assert list(divide(records(0), 3)) == []


@pytest.mark.parametrize("wrong", [{"max_rows": 0}, {"max_bytes": 0}, {"backlog": 0}, {"max_age_s": -1.0}])
def test_limits_under_which_nothing_moves_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Limits(**wrong)
