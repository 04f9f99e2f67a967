"""Clocks of devices: wrong, set while they run, or right. Times are ours, and those of a repeat are the first ones."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from operators.config import WindowConfig
from sources.collector.config import TOPICS
from sources.collector.judge import Clock, Place, judge
from sources.collector.stamps import WAY_MS, Stamps, offset
from tests.fix_collector import device

NOW = 1_790_000_000_000
LATE_MS = WindowConfig().stream_delay_ms
PLACE = Place("acme", "s", "u")


class Server:
    """The stamping half of a collector."""

    def __init__(self) -> None:
        self.stamps = Stamps()

    def take(
        self, events: list[dict[str, Any]], sent_at: int, now: int, brought: int | None = None
    ) -> tuple[list[dict[str, Any] | None], int]:
        """Return the record of each event, None if it was rejected, and the offset."""
        shift = offset(sent_at, brought, now)
        clock = Clock(now, sent_at, shift, LATE_MS, self.stamps)
        judged = [judge(event, PLACE, clock, TOPICS) for event in events]
        return [json.loads(one.record) if one.record else None for one in judged], shift


def events_at(*times: int) -> list[dict[str, Any]]:
    return [device(at=at, event_id=f"e{number}") for number, at in enumerate(times)]


ages = st.lists(st.integers(-10_000, 30_000), min_size=1, max_size=8)


@given(ages, st.integers(0, 2 * NOW), st.integers(0, 5_000))
def test_whatever_a_device_takes_for_the_time_distances_stay_and_nothing_is_ahead(
    ages: list[int], device_now: int, delay: int
) -> None:
    sent_at = max(device_now, 30_000)
    arrived = NOW + delay
    records, _ = Server().take(events_at(*(sent_at - age for age in ages)), sent_at, arrived)
    for age, record in zip(ages, records, strict=True):
        ts = arrived - max(0, age)
        late = (ts // 5_000 + 1) * 5_000 <= arrived - LATE_MS
        assert (record is None) is late
        if record is not None:
            assert record["ts"] == ts <= arrived
            assert record["client_ts"] == sent_at - age


@given(ages, st.lists(st.integers(0, 6_000), min_size=1, max_size=4), st.booleans())
def test_a_repeat_has_the_stamps_of_the_first_time(ages: list[int], waits: list[int], fresh_sent_at: bool) -> None:
    server = Server()
    sent_at, now = 50_000, NOW
    events = events_at(*(sent_at - age for age in ages))
    first, _ = server.take(events, sent_at, now)
    for wait in waits:
        now += wait
        sent_at += wait if fresh_sent_at else 0
        again, _ = server.take(events[::-1], sent_at, now)
        for one, other in zip(first, again[::-1], strict=True):
            assert one is None or other is None or one["ts"] == other["ts"]


@given(st.integers(-7_000, 7_000), st.integers(0, 300), st.integers(0, 5_000))
def test_a_sender_that_brings_the_offset_is_stamped_equally_by_another_collector(
    skew: int, delay: int, wait: int
) -> None:
    device_now = NOW + skew
    _, known = Server().take(events_at(device_now), device_now, NOW)
    events = events_at(device_now + 900, device_now + 950)
    sent = device_now + 1_000
    one, _ = Server().take(events, sent, NOW + 1_000 + delay, known)
    other, _ = Server().take(events, sent + wait, NOW + 1_000 + wait, known)
    # Each collector alone: none remembers what the other did.
    assert all(a is None or b is None or a["ts"] == b["ts"] for a, b in zip(one, other, strict=True))
    assert one[0] is not None
    assert one[0]["ts"] == NOW + 900


@given(st.integers(-(10**9), 10**9).filter(lambda jump: not -WAY_MS <= jump <= 0))
def test_a_clock_that_was_set_is_followed_at_once(jump: int) -> None:
    server = Server()
    at = 10**10
    _, known = server.take(events_at(at), at, NOW)
    at += jump + 1_000
    records, now_known = server.take([device(at=at - 100, event_id="new")], at, NOW + 1_000, known)
    assert records[0] is not None
    assert records[0]["ts"] == NOW + 900
    assert now_known == NOW + 1_000 - at


def test_what_the_sender_claims_to_have_been_told_is_not_believed_beyond_what_may_be() -> None:
    for claim in (NOW, -NOW, 10**15, 1):
        records, shift = Server().take(events_at(NOW), NOW, NOW + 500, claim if claim != 1 else 501)
        assert shift == 500
        assert records[0] is not None
        assert records[0]["ts"] == NOW + 500


def test_memory_is_bounded_in_number_and_time() -> None:
    stamps = Stamps(kept=100)
    for number in range(1_000):
        stamps.first(("t", "s", "u", str(number)), number, now=number)
    assert len(stamps) == 100
    assert stamps.first(("t", "s", "u", "999"), 0, now=1_000) == 999
    assert stamps.first(("t", "s", "u", "1"), 77, now=1_001) == 77, "forgotten"
    stamps.first(("t", "s", "u", "late"), 5, now=70_000)
    assert len(stamps) == 1
