"""The window against the reference: any log, cut anyhow, over any number of shards, killed and restored anywhere."""

import struct
from dataclasses import replace
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.anomalies.config import AnomalyConfig
from operators.anomalies.detector import Detector
from operators.config import ScoreConfig, WindowConfig
from operators.decode import BatchDecoder
from operators.engagement import Scorer
from operators.window import Shard
from schemas.errors import TerminalError
from schemas.registry import INBOUND_TOPICS
from tests.compare import assert_same_dead, assert_same_records
from tests.events import event, numbered, record
from tests.live_log import live_event_log
from tests.model import MINUTE, Defaults, LogRecord, reference
from tests.running import lines, raw_batches, run, window_config
from tests.strategies import configs, crowded_log, logs, random_log, shuffle_within_lateness

CUTS = st.lists(st.integers(0, 60), max_size=8)


@given(logs(max_size=60), CUTS, st.integers(1, 3), st.sets(st.integers(0, 8), max_size=3), configs())
@settings(max_examples=150, deadline=None)
def test_agrees_with_the_reference(
    log: list[LogRecord], cuts: list[int], shards: int, restarts: set[int], model: Defaults
) -> None:
    expected = reference(log, model)
    actual = run(raw_batches(log, cuts), window_config(model), shards=shards, restarts=restarts)
    assert_same_records([*expected.engagement, *expected.sessions], actual.told)
    assert_same_dead(expected.dead, actual.dead)
    assert expected.accepted + expected.repeats + len(actual.dead) == len(log)


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_the_reference_on_long_logs(seed: int) -> None:
    log = random_log(seed, 700)
    expected = reference(log)
    rng = Random(seed)
    cuts = [rng.randrange(700) for _ in range(20)]
    actual = run(raw_batches(log, cuts), shards=2, restarts=[5, 11])
    assert_same_records([*expected.engagement, *expected.sessions], actual.told)
    assert_same_dead(expected.dead, actual.dead)


@pytest.mark.parametrize("seed", range(40))
def test_a_crowd_that_is_read_event_by_event_agrees_with_the_reference(seed: int) -> None:
    """What waits is then sorted before its tick can be closed, and of a row of acts only the last is looked at."""
    rng = Random(seed)
    log = crowded_log(rng, 160)
    expected = reference(log)
    actual = run(raw_batches(log, range(len(log))), restarts=[rng.randrange(160)])
    assert_same_records([*expected.engagement, *expected.sessions], actual.told)
    assert expected.accepted + expected.repeats + len(actual.dead) == len(log)


@pytest.mark.parametrize("seed", range(10))
def test_partitions_that_are_read_apart_do_not_touch_each_other(seed: int) -> None:
    """One runs ahead of the other, in the same shard: what waits there is sorted by the one that is behind."""
    rng = Random(seed)
    logs = [crowded_log(rng, 80, tenant) for tenant in ("t", "u")]
    parts = [
        [replace(batch, partition=part) for batch in raw_batches(log, range(len(log)))] for part, log in enumerate(logs)
    ]
    batches = []
    while any(parts):
        part = rng.choice([part for part in parts if part])
        batches += [part.pop(0) for _ in range(min(len(part), rng.choice((1, 5, 20))))]
    expected = [reference(log) for log in logs]
    actual = run(batches, restarts=[rng.randrange(80)])
    assert_same_records([r for each in expected for r in (*each.engagement, *each.sessions)], actual.told)


ACT, JOIN, LEAVE, END, OPENED, VOTE = (
    *("reaction", "presence.join", "presence.leave", "session.ended", "poll.opened", "poll.vote"),
)
CLOCK = "handoff.resolved"
"""Belongs to no window; its record moves stream time all the same."""


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([(JOIN, 2), (ACT, 601.7), (ACT, 602.6), (CLOCK, 607.5), (CLOCK, 613)], id="a join runs out"),
        pytest.param([(ACT, 0.1), (END, 0.2), (ACT, 0.3)], id="a session ends"),
        pytest.param([(ACT, 4.9), (ACT, 5.5), (CLOCK, 11.5), (CLOCK, 17.5)], id="a pane ends"),
        pytest.param([(JOIN, 0.1), (LEAVE, 0.2), (ACT, 0.3), (CLOCK, 400)], id="he leaves"),
        pytest.param([(ACT, 0.1), (JOIN, 0.2), (ACT, 0.3), (CLOCK, 400)], id="he joins"),
        pytest.param([(OPENED, 0.1), (ACT, 0.2), (VOTE, 0.3), (ACT, 0.4)], id="a poll asks"),
    ],
)
def test_what_happens_between_acts_of_a_user_before_their_tick(steps: list[tuple[str, float]]) -> None:
    at = [(kind, 1_700_000_000_000 + round(1_000 * s)) for kind, s in steps]
    last = at[-1][1] - at[-1][1] % 5_000
    at += [(CLOCK, last + ms) for ms in (6_500, 13_000, 500_000)]
    made = [
        event(
            kind,
            ts,
            "host" if kind in (END, OPENED) else "u1",
            event_id=f"e{i}",
            **({"poll_id": "p"} if kind in (OPENED, VOTE) else {}),
        )
        for i, (kind, ts) in enumerate(at)
    ]
    log = numbered([record(line, ts, INBOUND_TOPICS[0]) for line, (_, ts) in zip(made, at, strict=True)])
    model = Defaults(join_timeout_ms=10 * MINUTE) if (JOIN, 2) in steps else Defaults()
    expected = reference(log, model)
    actual = run(raw_batches(log, range(len(log))), window_config(model))
    assert_same_records([*expected.engagement, *expected.sessions], actual.told)


@given(logs(max_size=50), CUTS)
@settings(max_examples=50, deadline=None)
def test_a_live_stream_has_told_what_is_due(log: list[LogRecord], cuts: list[int]) -> None:
    expected = reference(log, ends=False)
    actual = run(raw_batches(log, cuts, ends=False))
    assert_same_records([*expected.engagement, *expected.sessions], actual.told)


@given(logs(max_size=60, orderly=True), st.randoms(use_true_random=False), CUTS)
@settings(max_examples=60, deadline=None)
def test_shuffled_within_the_lateness_gives_the_same_bytes(log: list[LogRecord], rng: Random, cuts: list[int]) -> None:
    shuffled = shuffle_within_lateness(log, rng)
    ours, theirs = run(raw_batches(log)), run(raw_batches(shuffled, cuts))
    told = {"engagement", "anomaly", "session"}
    assert [b for b in lines(ours) if _type(b) in told] == [b for b in lines(theirs) if _type(b) in told]
    assert not [d for d in theirs.dead if d.reason == "late"]


def _type(payload: bytes) -> str:
    return payload.split(b'"', 4)[3].decode()


@pytest.mark.parametrize("seed", range(3))
def test_a_live_event_shuffled_cut_and_restarted(seed: int) -> None:
    log = live_event_log(seed, people=30, minutes=12, exodus=9)
    rng = Random(seed)
    shuffled = shuffle_within_lateness(log, rng)
    cuts = [rng.randrange(len(log)) for _ in range(30)]
    outcome = run(raw_batches(log))
    whole = lines(outcome)
    assert {"MASS_EXIT"} <= {anomaly.anomaly_type for anomaly in outcome.anomalies}
    assert whole == lines(run(raw_batches(shuffled, cuts), shards=3, restarts=range(0, 30, 4)))
    expected = reference(log)
    assert_same_records([*expected.engagement, *expected.sessions], run(raw_batches(log)).told)


def test_a_leap_over_years_takes_no_time() -> None:
    """A key that is silent for decades is not walked through tick by tick."""
    times = [0, 3_600_000, 1_700_000_000_000, 1_700_000_100_000]
    lines = [event("reaction", ts, event_id=f"e{ts}") for ts in times]
    log = numbered([record(line, ts, INBOUND_TOPICS[0]) for line, ts in zip(lines, times, strict=True)])
    expected = reference(log)
    window = WindowConfig()
    shard = Shard(window, Scorer(ScoreConfig()))
    closings = 0
    for batch in raw_batches(log):
        for _, chunk in BatchDecoder(1, window)(batch).chunks:
            shard.feed(chunk)
            closings += sum(1 for _ in shard.close())
    assert closings < 20
    assert_same_records([*expected.engagement, *expected.sessions], run(raw_batches(log)).told)


@pytest.mark.parametrize("seed", range(3))
def test_portions_do_not_matter(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log(seed + 100, 300)
    whole = lines(run(raw_batches(log)))
    monkeypatch.setattr("operators.window.MOST_TICKS", 7)
    monkeypatch.setattr("operators.window.MOST_TICKS_OF_ONE", 3)
    assert lines(run(raw_batches(log, [60, 200]))) == whole


@pytest.mark.parametrize("seed", range(3))
def test_tables_made_anew_do_not_matter(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    log = random_log(seed + 200, 300)
    cuts = list(range(10, 300, 10))
    whole = lines(run(raw_batches(log, cuts)))
    monkeypatch.setattr("operators.window.ROOMY", 0)
    assert lines(run(raw_batches(log, cuts))) == whole


def test_a_rush_of_sessions_is_forgotten() -> None:
    times = [1_000 + i for i in range(10_000)]
    rush = [event("reaction", ts, session_id=f"s{ts}", event_id=f"e{ts}") for ts in times]
    log = numbered([record(line, ts, INBOUND_TOPICS[0]) for line, ts in zip(rush, times, strict=True)])
    window = WindowConfig()
    shard = Shard(window, Scorer(ScoreConfig()))
    decoder = BatchDecoder(1, window)
    most = 0
    for batch in raw_batches(log):  # the last one ends time, and with it every session
        for _, chunk in decoder(batch).chunks:
            shard.feed(chunk)
            for _ in shard.close():
                most = max(most, shard.sessions.capacity)
    assert most >= 10_000
    assert len(shard.sessions) == 0
    assert shard.sessions.capacity <= 16


def test_other_trees_forget_the_baselines_and_nothing_else() -> None:
    log = live_event_log(5, people=20, minutes=6, ended=False)
    score = ScoreConfig()
    shard = Shard(WindowConfig(), Scorer(score), Detector(AnomalyConfig(), score))
    for batch in raw_batches(log, ends=False):
        for _, chunk in BatchDecoder(1, WindowConfig())(batch).chunks:
            shard.feed(chunk)
            assert list(shard.close())
    assert shard.sessions.baseline.any()
    for detector in (None, Detector(AnomalyConfig(n_trees=7), score)):
        other = Shard.restore(WindowConfig(), Scorer(score), shard.snapshot(), detector=detector)
        assert len(other.sessions) == len(shard.sessions)
        assert not other.sessions.baseline.any()
    same = Shard.restore(WindowConfig(), Scorer(score), shard.snapshot(), detector=Detector(AnomalyConfig(), score))
    assert same.sessions.baseline.any()


def test_another_number_of_shards_is_refused() -> None:
    scorer = Scorer(ScoreConfig())
    packed = Shard(WindowConfig(), scorer).snapshot(4)
    with pytest.raises(TerminalError, match=r"in 4 shards, got window\.shards = 2"):
        Shard.restore(WindowConfig(), scorer, packed, 2)


def test_what_another_release_packed_is_refused_before_its_columns_are_read() -> None:
    scorer = Scorer(ScoreConfig())
    head = msgspec.msgpack.encode([{"version": 2, "shards": 1}, [("session.due", "<i8", [0])]])
    with pytest.raises(TerminalError, match="sessions of version 2; this release reads 4"):
        Shard.restore(WindowConfig(), scorer, struct.pack("<I", len(head)) + head)
