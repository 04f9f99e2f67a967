"""Clocks of devices: wrong, set while they run, or right. Times are ours, and those of a repeat are the first ones."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from operators.config import WindowConfig
from sources.collector.config import TOPICS
from sources.collector.judge import Clock, Place, judge
from sources.collector.stamps import AHEAD_MS, Stamps, offsets
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
        """Return the record of each event, None if it was rejected, and the offset that is told."""
        used, told = offsets(sent_at, brought, now, LATE_MS)
        clock = Clock(now, sent_at, used, LATE_MS, self.stamps)
        judged = [judge(event, PLACE, clock, TOPICS) for event in events]
        return [json.loads(one.record) if one.record else None for one in judged], told


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


ways = st.integers(0, 4_000)


@given(st.integers(-(10**9), 10**9), ways, ways, st.lists(ways, min_size=2, max_size=4), st.integers(-100, 100))
def test_what_is_sent_with_the_same_offset_is_stamped_equally_by_every_collector(
    skew: int, there: int, back: int, later: list[int], apart: int
) -> None:
    """A beacon and the batches that repeat it, each slow in its own way, to collectors that share nothing."""
    asked_at = NOW + skew
    _, told = Server().take([], asked_at, NOW + there)
    known = told - max(0, there + back + abs(apart) - AHEAD_MS)  # as the snippet does
    at = asked_at + 10_000
    stamps: set[tuple[str, int]] = set()
    for number, way in enumerate(later):
        sent_at = at + 100 * number
        arrived = sent_at - skew + way + apart * (number % 2)  # time servers leave clocks a little apart
        records, _ = Server().take(events_at(at - 50, at), sent_at, arrived, known)
        stamps.update((record["event_id"], record["ts"]) for record in records if record is not None)
    assert len(stamps) == 2
    assert abs(dict(stamps)["e1"] - dict(stamps)["e0"]) == 50


def test_a_request_that_is_slow_is_stamped_as_its_beacon_was() -> None:
    _, known = Server().take([], 1_000, NOW + 90)
    event = events_at(3_000)
    (beacon,), _ = Server().take(event, 3_000, NOW + 2_025, known)
    (again,), told = Server().take(event, 3_010, NOW + 2_010 + 4_500, known)
    assert beacon is not None
    assert again == beacon
    assert told == NOW + 4_500 - 1_000, "what is new gets a fresh one"


@given(st.integers(-(10**9), 10**9).filter(lambda jump: not -LATE_MS <= jump <= AHEAD_MS))
def test_a_clock_that_was_set_is_followed_at_once(jump: int) -> None:
    server = Server()
    at = 10**10
    _, known = server.take(events_at(at), at, NOW)
    at += jump + 1_000
    records, now_known = server.take([device(at=at - 100, event_id="new")], at, NOW + 1_000, known)
    assert records[0] is not None
    assert records[0]["ts"] == NOW + 900
    assert now_known == NOW + 1_000 - at


@given(st.integers(-LATE_MS, AHEAD_MS).filter(lambda jump: abs(jump) > AHEAD_MS))
def test_a_clock_that_was_set_by_no_more_than_a_slow_way_is_followed_with_the_next_batch(jump: int) -> None:
    at = 10**10
    _, known = Server().take([], at, NOW)
    _, now_known = Server().take([], at + jump + 1_000, NOW + 1_000, known)
    assert now_known == known - jump


def test_what_the_sender_claims_to_have_been_told_is_not_believed_beyond_what_may_be() -> None:
    for claim, ahead in ((NOW, 0), (-NOW, 0), (10**15, 0), (500 + AHEAD_MS + 1, 0), (500 + AHEAD_MS, AHEAD_MS)):
        records, _ = Server().take(events_at(NOW), NOW, NOW + 500, claim)
        assert records[0] is not None
        assert records[0]["ts"] == NOW + 500 + ahead


def test_memory_is_bounded_in_number_and_time() -> None:
    stamps = Stamps(kept=100)
    for number in range(1_000):
        stamps.first(("t", "s", "u", str(number)), number, now=number)
    assert len(stamps) == 100
    assert stamps.first(("t", "s", "u", "999"), 0, now=1_000) == 999
    assert stamps.first(("t", "s", "u", "1"), 77, now=1_001) == 77, "forgotten"
    stamps.first(("t", "s", "u", "late"), 5, now=70_000)
    assert len(stamps) == 1
