"""What is kept for new subscribers, when it goes, and how offsets rise."""

from sinks.websocket.envelope import Envelope
from sinks.websocket.history import FEED_OVERHEAD, RECORD_OVERHEAD, History
from sinks.websocket.limits import Limits
from tests.fix_websocket import batch, said


def add(history: History, kind: str, channel: str, *places: tuple[str, str], first: int = 1, pad: int = 0) -> list[int]:
    """Add records; returns their offsets."""
    records = batch(kind, *places, first=first, pad=pad)
    return [said(history.add(channel, records, i).frame)["offset"] for i in range(len(records))]


def kept(history: History, channel: str = "engagement", tenant: str | None = "t") -> list[int]:
    return [said(e.frame)["record"]["n"] for e in history.snapshot(channel, tenant, None)]


def test_a_session_that_ended_is_forgotten() -> None:
    history = History(Limits())
    add(history, "engagement", "engagement", ("t", "a"), ("t", "b"), ("u", "a"))
    add(history, "session", "sessions", ("t", "a"), first=4)
    assert (kept(history), kept(history, tenant="u"), kept(history, "sessions")) == ([2], [3], [4])


def test_a_session_that_goes_on_after_its_end_is_kept() -> None:
    history = History(Limits())
    add(history, "engagement", "engagement", ("t", "a"), first=9)
    add(history, "session", "sessions", ("t", "a"), first=4)
    assert kept(history) == [9]


def test_a_repeat_does_not_take_the_place_of_newer_engagement() -> None:
    history = History(Limits())
    add(history, "engagement", "engagement", ("t", "a"), first=9)
    add(history, "engagement", "engagement", ("t", "a"), first=3)
    assert kept(history) == [9]


def test_a_later_revision_takes_the_place_of_an_earlier_one() -> None:
    history = History(Limits())
    add(history, "intervention", "interventions", ("t", "a"), ("t", "a"))
    add(history, "intervention", "interventions", ("t", "a"), first=1)
    add(history, "outcome", "interventions", ("t", "a"), first=1)
    assert kept(history, "interventions") == [2, 1, 1]


def test_engagement_of_sessions_that_fell_silent_is_forgotten() -> None:
    history = History(Limits(stale_ms=100))
    add(history, "engagement", "engagement", ("t", "a"), ("t", "b"), ("u", "c"))
    add(history, "engagement", "engagement", ("t", "d"), first=102)
    assert (kept(history), kept(history, tenant="u")) == ([2, 102], [3])


def test_each_tenant_has_its_share() -> None:
    history = History(Limits(history_sessions=3, history_records=2))
    add(history, "engagement", "engagement", ("u", "x"), *(("t", f"s{i}") for i in range(10)))
    add(history, "anomaly", "anomalies", ("u", "x"), *[("t", "s")] * 10)
    assert (kept(history), kept(history, tenant="u")) == ([9, 10, 11], [1])
    assert (kept(history, "anomalies"), kept(history, "anomalies", "u")) == ([10, 11], [1])
    assert kept(history, "anomalies", None) == [1, 10, 11]


def test_a_snapshot_is_bounded_and_has_the_newest() -> None:
    history = History(Limits(snapshot_records=3))
    add(history, "engagement", "engagement", *(("t", f"s{i}") for i in range(10)))
    assert kept(history) == [8, 9, 10]
    large = History(Limits(snapshot_bytes=2_500))
    add(large, "engagement", "engagement", *(("t", f"s{i}") for i in range(10)), pad=1_000)
    assert kept(large) == [9, 10]


def test_offsets_rise_even_after_a_tenant_was_forgotten() -> None:
    one = len(batch("anomaly", ("t", "s")).payloads[0]) + RECORD_OVERHEAD + FEED_OVERHEAD + 100
    history = History(Limits(history_bytes=3 * one))
    offsets = add(history, "anomaly", "anomalies", *[("t", "s")] * 5)
    for i in range(50):
        add(history, "anomaly", "anomalies", (f"t{i}", "s"))
    assert kept(history, "anomalies") == []
    assert history.feeds <= 3
    offsets += add(history, "anomaly", "anomalies", ("t", "s"))
    assert offsets == sorted(set(offsets))


def test_an_envelope_is_built_once() -> None:
    history = History(Limits())
    records = batch("anomaly", ("t", "s"))
    envelope = history.add("anomalies", records, 0)
    (found,) = history.snapshot("anomalies", "t", frozenset({"s"}))
    assert isinstance(found, Envelope)
    assert found is envelope
