"""What waits for its tick, against a plain list: blocks of any size, closed row by row in any portions."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import operators.waiting
from operators.presence import LONG_AGO
from operators.texts import TextColumn
from operators.waiting import Events, Waiting

ROWS = 4
SMALL = st.lists(st.tuples(st.integers(0, ROWS - 1), st.integers(0, 60)), min_size=1, max_size=4)
"""Row and time of a few events; times of a row are seldom equal."""
EARLY = st.integers(0, 70)
"""Up to where what waits is sorted if no row is closed."""
HORIZONS = st.lists(st.one_of(st.none(), st.integers(0, 70)), min_size=ROWS, max_size=ROWS)
"""Up to where each row is closed; None: not now."""


OTHERS = 200
"""Ids of a batch that are not of this shard and stand before its own, in some batches."""


def block(events: list[tuple[int, int]], first: int) -> Events:
    """Return chat messages of one user, named by their places from ``first`` on."""
    rows, times = zip(*events, strict=True)
    n = len(events)
    nobody = np.zeros(n, np.uint64)
    return Events(np.array(rows), nobody, nobody, np.zeros(n, np.uint8), np.array(times), np.arange(first, first + n))


@pytest.fixture(params=[1, 1 << 15], ids=["row by row", "in one go"], autouse=True)
def part(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many events are sorted at one call, at least."""
    monkeypatch.setattr(operators.waiting, "_PART", request.param)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.lists(SMALL, max_size=14), HORIZONS, EARLY), min_size=1, max_size=6))
def test_what_is_closed_is_what_was_due_and_the_rest_waits(
    rounds: list[tuple[list[list[tuple[int, int]]], list[int | None], int]],
) -> None:
    waiting, count = Waiting(), np.zeros(ROWS, np.int64)
    model: list[tuple[int, int, str]] = []
    added = 0
    for blocks, horizons, early in rounds:
        for events in blocks:
            ids = [f"e{added + i}" for i in range(len(events))]
            added += len(ids)
            model += [(row, ts, name) for (row, ts), name in zip(events, ids, strict=True)]
            others = ["not ours"] * (OTHERS if added % 2 else 0)
            waiting.add(block(events, len(others)), TextColumn(others + ids))
            np.add.at(count, [row for row, _ in events], 1)
        until = np.array([LONG_AGO if horizon is None else horizon for horizon in horizons])
        rows = np.flatnonzero(until > LONG_AGO)
        if not len(rows):
            assert waiting.sort(early, count) == waiting.sort(early, count) == 0
            continue
        due_now = waiting.close(rows, until[rows], count)
        closed, repeats = due_now.events, due_now.repeats
        due = sorted((row, ts) for row, ts, _ in model if ts < until[row])
        model = [one for one in model if one[1] >= until[one[0]]]
        assert list(zip(closed.row.tolist(), closed.ts.tolist(), strict=True)) == due
        assert repeats == 0
        assert count.tolist() == [sum(row == of for of, _, _ in model) for row in range(ROWS)]
    left, texts = waiting.packed()
    names = [texts.unpacked()[place] for place in left.name.tolist()]
    assert sorted(zip(left.row.tolist(), left.ts.tolist(), names, strict=True)) == sorted(model)
    assert texts.number <= 2 * len(model)


def test_what_is_sorted_stays_so_while_another_row_is_closed() -> None:
    """A silent session's tick is closed by stream time, when the next tick's events are sorted already."""
    waiting, count = Waiting(), np.array([2, 2, 0, 0])
    waiting.add(block([(0, 5_500), (0, 5_400), (1, 6_000), (1, 2_000)], 0), TextColumn(["a", "b", "c", "d"]))
    assert [waiting.sort(10_000, count) for _ in range(3)] == [0, 0, 0]
    early = waiting.close(np.array([1, 3]), np.array([5_000, 5_000]), count)
    assert early.events.ts.tolist() == [2_000]
    due = waiting.close(np.array([0, 1]), np.array([10_000, 10_000]), count)
    assert due.events.ts.tolist() == [5_400, 5_500, 6_000]
    assert due.outdone is not None


def test_repeats_are_dropped_when_what_waits_is_sorted_and_when_they_come_later() -> None:
    waiting, count = Waiting(), np.array([3, 0, 0, 0])
    waiting.add(block([(0, 10), (0, 10), (0, 20)], 0), TextColumn(["a", "a", "b"]))
    assert waiting.sort(50, count) == 0  # in order, and in parts that are looked through later
    assert waiting.sort(50, count) == 1
    assert count[0] == 2
    waiting.add(block([(0, 20)], 0), TextColumn(["b"]))
    count[0] += 1
    due = waiting.close(np.array([0]), np.array([50]), count)
    assert (due.events.ts.tolist(), due.repeats, count[0]) == ([10, 20], 1, 0)


def test_ids_go_with_what_they_name_though_nothing_is_packed() -> None:
    """A batch's ids are one column for all shards; of a shard with little to do many would be kept."""
    waiting, count = Waiting(), np.zeros(ROWS, np.int64)
    for number in range(100):
        waiting.add(block([(0, number)], 0), TextColumn([f"e{number}"] * OTHERS))
        count[0] += 1
        assert len(waiting.close(np.array([0]), np.array([number + 1]), count).events) == 1
        assert len(waiting.close(np.array([1]), np.array([number + 1]), count).events) == 0
    assert len(waiting._names._columns) < operators.waiting._SEVERAL
    waiting.packed()
    assert not waiting._names._columns
