"""Columns come back from bytes as they went in, in few bytes; and digests do not depend on what stands beside an id."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operators.columns import Column, group_by, pack, sort_by, unpack
from operators.config import NEVER
from operators.digests import digest, digests

TYPES: list[Any] = [np.int64, np.uint64, np.int32, np.uint32, np.uint16, np.uint8]


@st.composite
def numbers(draw: st.DrawFn) -> Column:
    """Draw a column of whole numbers: anywhere, close together, or close together but for a few extremes."""
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    anywhere = st.integers(low, high)
    near = draw(anywhere).__add__
    close = st.integers(0, 300).map(near).filter(lambda value: value <= high)
    return np.array(draw(st.lists(st.one_of(close, st.sampled_from([low, high]), anywhere))), dtype)


def back(columns: dict[str, Column], meta: Any = None) -> dict[str, Column]:
    """Return what is unpacked of what was packed."""
    found, out = unpack(pack(meta, columns))
    assert found == meta
    return out


@given(numbers())
@example(np.array([-(2**63), -(2**63) + 1, 0]))
def test_whole_numbers_come_back(column: Column) -> None:
    found = back({"other": np.array([0.5, -0.0]), "column": column}, {"version": 1})["column"]
    assert (found.dtype, found.tolist()) == (column.dtype, column.tolist())
    found[:] = 0  # and may be written to


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (4, 3)])
def test_shapes_come_back(shape: tuple[int, ...]) -> None:
    column = np.full(shape, NEVER)
    column[:1] = 7
    assert np.array_equal(back({"column": column})["column"], column)


def test_times_beside_extremes_take_two_bytes() -> None:
    times = 1_767_225_600_000 + np.arange(10_000) * 6
    times[::7], times[::11] = NEVER, -NEVER
    assert len(pack(None, {"times": times})) < 2 * len(times) + 100


def test_what_is_mostly_the_lowest_takes_a_bit_for_each_of_those() -> None:
    never = np.full((100, 100), -NEVER)
    never[::10] = 1_767_225_600_000 + np.arange(100)
    assert len(pack(None, {"never": never})) < never.size // 8 + 1_000 + 100
    assert np.array_equal(back({"never": never})["never"], never)


@given(st.lists(st.text(st.sampled_from("ab1-é"), max_size=20), min_size=1))
def test_a_digest_is_that_of_the_id_alone(ids: list[str]) -> None:
    alone = [int(digests([name])[0]) for name in ids]
    assert digests(ids).tolist() == alone == [digest(name) for name in ids]
    padded = [name.ljust(20, "x") for name in ids]  # all of one length where none has an accent
    assert digests(padded).tolist() == [int(digests([name, "of another length"])[0]) for name in padded]


@given(st.lists(st.tuples(st.integers(0, 70_000), st.one_of(st.integers(0, 3), st.integers(0, 2**48)))))
def test_the_order_is_that_of_plain_sorting_and_stable(pairs: list[tuple[int, int]]) -> None:
    major, minor = np.array(pairs, np.int64).reshape(-1, 2).T
    assert sort_by(major, minor).tolist() == np.lexsort((minor, major)).tolist()
    assert sort_by(major, np.sort(minor)).tolist() == np.argsort(major, kind="stable").tolist()


def assert_grouped(major: Column, minor: Column) -> None:
    """Check that the order is that of plain sorting: equal pairs stand side by side, the earlier first."""
    order, of_major, of_minor = group_by(major, minor)
    assert order.tolist() == np.lexsort((minor, major)).tolist()
    assert np.array_equal(major[order], of_major)
    assert np.array_equal(minor[order], of_minor)


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 3), st.integers(0, 2**31 - 1)),
            st.one_of(st.integers(0, 3), st.integers(2**40, 2**40 + 3), st.integers(0, 2**64 - 1)),
        ),
        min_size=1,
    )
)
@example([(0, 1), (0, 2), (0, 1)])  # the same highest bits, so that sorting by them alone does not tell them apart
def test_equal_pairs_are_grouped(pairs: list[tuple[int, int]]) -> None:
    major, minor = zip(*pairs, strict=True)
    assert_grouped(np.array(major, np.int64), np.array(minor, np.uint64))


@pytest.mark.parametrize("spread", [1, 2**30, 2**63 // 100])
def test_many_pairs_are_grouped(spread: int) -> None:
    random = np.random.default_rng(spread)
    major, minor = random.integers(0, 500, 40_000), random.integers(0, 100, 40_000).astype(np.uint64)
    assert_grouped(major, minor * np.uint64(spread))
