"""The order of the merge: what came in whatever interleaving leaves in the one order that the log dictates."""

from collections.abc import Mapping

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sources.merge import Merger, Share

Log = list[int]
"""The timestamps of one topic, by offset."""

NEVER = float("inf")


def heads_first(logs: list[Log]) -> list[tuple[int, int]]:
    """Return (lane, offset) in merged order by definition: the lowest head goes first, ties by lane."""
    at = [0] * len(logs)
    order = []
    while any(at[i] < len(log) for i, log in enumerate(logs)):
        _, lane = min((log[at[i]], i) for i, log in enumerate(logs) if at[i] < len(log))
        order.append((lane, at[lane]))
        at[lane] += 1
    return order


def push(merger: Merger, lane: int, log: Log, start: int, stop: int, arrived: float = 0.0) -> None:
    push_some(merger, {lane: log}, {lane: (start, stop)}, arrived)


def push_some(
    merger: Merger, logs: Mapping[int, Log], parts: Mapping[int, tuple[int, int]], arrived: float = 0.0
) -> None:
    """Push a part of each of some lanes at once."""
    places = [(lane, offset) for lane in sorted(parts) for offset in range(*parts[lane])]
    values = np.array([b"%d:%d" % place for place in places], dtype=object)
    shares = [Share(lane, stop - start, stop - start) for lane, (start, stop) in sorted(parts.items())]
    stamps = np.array([logs[lane][offset] for lane, offset in places], np.int64)
    merger.push(shares, values, stamps, np.array([offset for _, offset in places], np.int64), arrived)


def pop(merger: Merger, logs: list[Log], limit: int) -> list[tuple[int, int]]:
    merged = merger.pop(limit)
    if merged is None:
        return []
    assert 0 < len(merged) <= limit
    places = list(zip(merged.lane.tolist(), merged.offset.tolist(), strict=True))
    assert merged.values == [b"%d:%d" % place for place in places]
    assert merged.record_ts.tolist() == [logs[lane][offset] for lane, offset in places]
    return places


logs_of_any_order = st.lists(st.lists(st.integers(0, 20), max_size=12), min_size=1, max_size=4)


@given(logs_of_any_order, st.data())
def test_any_interleaving_of_arrivals_leaves_in_the_order_of_the_whole_log(
    logs: list[Log], data: st.DataObject
) -> None:
    merger = Merger(len(logs))
    at = [0] * len(logs)
    out: list[tuple[int, int]] = []
    while open_lanes := [i for i, log in enumerate(logs) if at[i] < len(log)]:
        lanes = data.draw(st.sets(st.sampled_from(open_lanes), min_size=1))
        parts = {lane: (at[lane], data.draw(st.integers(at[lane] + 1, len(logs[lane])))) for lane in sorted(lanes)}
        push_some(merger, dict(enumerate(logs)), parts)
        for lane, (_, stop) in parts.items():
            at[lane] = stop
        if data.draw(st.booleans()):
            out += pop(merger, logs, data.draw(st.integers(1, 20)))
    for lane in range(len(logs)):
        merger.prove(lane, NEVER, 0)
    while more := pop(merger, logs, data.draw(st.integers(1, 20))):
        out += more
    assert out == heads_first(logs)
    assert len(merger) == 0
    assert all(merger.held(lane) == (0, 0) for lane in range(len(logs)))


ordered_logs = st.lists(st.lists(st.integers(0, 60), max_size=10).map(sorted), min_size=2, max_size=4)


@given(ordered_logs, st.data())
def test_proofs_at_the_live_edge_do_not_change_the_order(logs: list[Log], data: st.DataObject) -> None:
    """Time runs; records are stamped when they are written and arrive later, in pieces; ends are proven on the way."""
    merger = Merger(len(logs))
    at = [0] * len(logs)
    out: list[tuple[int, int]] = []
    for moment in range(0, 90, 3):
        parts = {}
        for lane, log in enumerate(logs):
            written = sum(stamp <= moment for stamp in log)
            stop = written if moment > 60 else data.draw(st.integers(at[lane], written))
            if stop > at[lane]:
                parts[lane] = at[lane], stop
            at[lane] = stop
        push_some(merger, dict(enumerate(logs)), parts, float(moment))
        for lane, log in enumerate(logs):
            asked = data.draw(st.integers(0, moment))
            if at[lane] >= sum(stamp <= asked for stamp in log):
                merger.prove(lane, float(asked), data.draw(st.sampled_from([0, asked])))
        out += pop(merger, logs, data.draw(st.integers(1, 9)))
    assert out == heads_first(logs)[: len(out)]
    for lane in range(len(logs)):
        merger.prove(lane, 90.0, 90)
    while more := pop(merger, logs, 100):
        out += more
    assert out == heads_first(logs)


def test_who_is_ahead_waits_for_who_is_behind() -> None:
    merger = Merger(2)
    logs = [[10, 20, 30], [15]]
    push(merger, 0, logs[0], 0, 3)
    assert pop(merger, logs, 10) == []
    push(merger, 1, logs[1], 0, 1)
    assert pop(merger, logs, 10) == [(0, 0), (1, 0)]
    merger.prove(1, at=0.0, until=0)
    assert pop(merger, logs, 10) == [(0, 1), (0, 2)]


def test_of_the_same_moment_the_earlier_topic_waits_for_nobody() -> None:
    merger, logs = Merger(3), [[5, 9], [5, 9], [5, 9]]
    for lane in (2, 1, 0):
        push(merger, lane, logs[lane], 0, 1)
    # Of the first more may come at 5, and goes before what the others hold.
    assert pop(merger, logs, 9) == [(0, 0)]
    push(merger, 0, logs[0], 1, 2)
    assert pop(merger, logs, 9) == [(1, 0)]
    push(merger, 1, logs[1], 1, 2)
    assert pop(merger, logs, 9) == [(2, 0)]


def test_a_proof_covers_only_what_had_arrived_when_it_was_asked_for() -> None:
    merger = Merger(2)
    logs = [[10, 20], []]
    push(merger, 0, logs[0], 0, 1, arrived=5.0)
    merger.prove(1, at=5.0, until=0)
    push(merger, 0, logs[0], 1, 2, arrived=6.0)
    assert pop(merger, logs, 10) == [(0, 0)]
    assert pop(merger, logs, 10) == []
    merger.prove(1, at=6.0, until=0)
    assert pop(merger, logs, 10) == [(0, 1)]


def test_old_records_need_no_new_proof_of_a_quiet_topic() -> None:
    """A backlog is read at full speed beside a topic that was at its end a moment ago."""
    merger = Merger(2)
    logs = [[10, 20], []]
    merger.prove(1, at=1.0, until=15)
    push(merger, 0, logs[0], 0, 2, arrived=9.0)
    assert pop(merger, logs, 10) == [(0, 0)]


def test_time_is_told_only_when_nothing_is_held_and_every_end_is_proven() -> None:
    merger = Merger(2)
    assert merger.idle_until() is None
    merger.prove(0, at=1.0, until=100)
    assert merger.idle_until() is None
    merger.prove(1, at=1.0, until=90)
    assert merger.idle_until() == 90
    push(merger, 0, [95], 0, 1, arrived=2.0)
    assert merger.idle_until() is None


def test_what_is_held_for_long_is_seldom_sorted_again() -> None:
    """Lane 0 is far ahead and comes in small parts: all of it is there, in few blocks, when lane 1 has caught up."""
    merger = Merger(2)
    logs = [list(range(10_000, 13_000)), list(range(3_000))]
    out: list[tuple[int, int]] = []
    for i in range(0, 3_000, 10):
        push_some(merger, dict(enumerate(logs)), {0: (i, i + 10), 1: (i, i + 10)})
        out += pop(merger, logs, 7)
        assert len(merger._blocks) < 14
    for lane in range(2):
        merger.prove(lane, NEVER, 0)
    while more := pop(merger, logs, 500):
        out += more
    assert out == heads_first(logs)


def test_bytes_held_are_counted() -> None:
    merger = Merger(2)
    values: list[bytes | None] = [b"abc", None, b"de"]
    merger.push([Share(0, 3, 5)], np.array(values, dtype=object), np.array([1, 2, 3]), np.array([4, 5, 9]), 0.0)
    assert merger.held(0) == (3, 5)
    merger.prove(1, at=0.0, until=0)
    merged = merger.pop(10)
    assert merged is not None
    assert merged.values == values
    assert merged.offset.tolist() == [4, 5, 9]
    assert merger.held(0) == (0, 0)


def test_what_is_certain_alone_still_waits_behind_what_goes_first() -> None:
    """Lane 2 had arrived when lane 0 was proven to be at its end, lane 1 had not: of equal times lane 1 goes first."""
    merger = Merger(3)
    logs = [[], [10], [10]]
    push(merger, 2, logs[2], 0, 1, arrived=5.0)
    push(merger, 1, logs[1], 0, 1, arrived=6.0)
    for lane, at in ((0, 5.0), (1, NEVER), (2, NEVER)):
        merger.prove(lane, at, until=0)
    assert pop(merger, logs, 10) == []
    merger.prove(0, at=6.0, until=0)
    assert pop(merger, logs, 10) == [(1, 0), (2, 0)]
