"""Half-space trees against River's own, and what a session's state may cost."""

import math
import pickle
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import anomaly

from operators.half_space_trees import Forest, HalfSpaceTrees

Limits = dict[str, tuple[float, float]]


def river(**parameters: Any) -> Any:
    """Return River's trees, whose own types say less than they take."""
    return anomaly.HalfSpaceTrees(**parameters)


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, int, int, Limits, list[dict[str, float]]]:
    seed, n_trees = draw(st.integers(0, 2**40)), draw(st.integers(1, 6))
    height, window = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    names = draw(st.lists(st.sampled_from(["c", "a", "r", "ä", "score"]), min_size=1, max_size=4, unique=True))
    low = st.floats(-1e6, 1e6)
    limits = {name: draw(st.one_of(st.just((0.0, 1.0)), st.tuples(low, st.floats(1e-3, 1e6)))) for name in names}
    limits = {name: (a, a + b) if (a, b) != (0.0, 1.0) else (a, b) for name, (a, b) in limits.items()}
    few = {name: [draw(st.floats(*limits[name])) for _ in range(4)] for name in names}
    rng = Random(draw(st.integers(0, 2**32)))
    points = [
        {name: rng.choice(few[name]) if rng.random() < 0.6 else rng.uniform(*limits[name]) for name in names}
        for _ in range(draw(st.integers(0, 3 * window + 2)))
    ]
    return seed, n_trees, height, window, limits, points


@given(cases(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_scores_are_those_of_river(
    case: tuple[int, int, int, int, Limits, list[dict[str, float]]], score_first: bool
) -> None:
    seed, n_trees, height, window, limits, points = case
    theirs = river(n_trees=n_trees, height=height, window_size=window, limits=limits, seed=seed)
    forest = Forest.grow(list(limits), n_trees=n_trees, height=height, window_size=window, limits=limits, seed=seed)
    ours = HalfSpaceTrees(forest)
    for point in points:
        if score_first:
            assert ours.score_one(point) == pytest.approx(theirs.score_one(point), abs=1e-9)
        theirs.learn_one(point)
        ours.learn_one(point)
        assert ours.score_one(point) == pytest.approx(theirs.score_one(point), abs=1e-9)


def test_scores_exactly_at_a_split_and_beyond_the_limits_are_those_of_river() -> None:
    theirs = river(n_trees=4, height=5, window_size=10, seed=3)
    forest = Forest.grow(["x"], n_trees=4, height=5, window_size=10, seed=3)
    ours = HalfSpaceTrees(forest)
    for value in [*forest.threshold.ravel().tolist(), 0.0, 1.0, -5.0, 7.0, math.inf, math.nan]:
        theirs.learn_one({"x": value})
        ours.learn_one({"x": value})
        assert ours.score_one({"x": value}) == theirs.score_one({"x": value})


def test_an_empty_neighbourhood_scores_higher() -> None:
    trees = HalfSpaceTrees(Forest.grow(["x"], window_size=30, seed=1))
    rng = Random(1)
    assert trees.score_one({"x": 0.5}) == 0.0
    for _ in range(30):
        trees.learn_one({"x": rng.uniform(0.45, 0.55)})
    assert trees.score_one({"x": 0.5}) < 0.8
    assert trees.score_one({"x": 0.02}) > 0.95


@given(st.integers(0, 100), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_a_restored_session_goes_on_as_before(before: int, after: int) -> None:
    forest = Forest.grow(["x", "y"], window_size=30, seed=9)
    rng = Random(before)
    trees = HalfSpaceTrees(forest)

    def live(which: HalfSpaceTrees, x: float, y: float) -> float:
        which.learn_one({"x": x, "y": y})
        return which.score_one({"x": x, "y": y})

    for _ in range(before):
        live(trees, rng.random(), rng.random())
    restored = HalfSpaceTrees.restore(forest, trees.snapshot())
    for _ in range(after):
        x, y = rng.random(), rng.random()
        assert live(trees, x, y) == live(restored, x, y)
    assert restored.snapshot() == trees.snapshot()


def test_a_session_takes_little_room_however_long_it_lives() -> None:
    trees = HalfSpaceTrees(Forest.grow(["c", "a", "r", "l", "s"], window_size=30))
    rng = Random(4)
    for _ in range(1_000):
        trees.learn_one({name: rng.random() for name in "carls"})
        assert len(trees.snapshot()) < 1_500
    held = {name: value for name, value in vars(trees).items() if name != "forest"}
    assert len(pickle.dumps(held)) < 1_500


@pytest.mark.parametrize("height", [3, 8, 11])
def test_many_points_at_once_are_the_same_as_one_by_one(height: int) -> None:
    forest = Forest.grow(["x", "y"], n_trees=7, height=height, window_size=12, seed=5)
    rng = np.random.default_rng(5)
    points = rng.random((5_000, 2)) ** 3
    leaves = forest.leaves(points)
    assert leaves.dtype == (np.uint16 if height > 8 else np.uint8)
    reference = leaves[rng.integers(0, 40, (5_000, 12))].transpose(0, 2, 1)
    together = forest.scores(reference, leaves)
    assert together.min() >= 0.0
    assert together.max() <= 1.0
    for i in range(0, 5_000, 97):
        assert (forest.leaves(points[i : i + 1]) == leaves[i]).all()
        assert forest.scores(reference[i : i + 1], leaves[i : i + 1])[0] == together[i]


@pytest.mark.parametrize(
    "wrong",
    [
        {"features": []},
        {"features": ["x", "x"]},
        {"n_trees": 0},
        {"height": 0},
        {"height": 17},
        {"window_size": 0},
        {"limits": {"x": (1.0, 1.0)}},
        {"limits": {"x": (0.0, math.nan)}},
    ],
)
def test_what_makes_no_forest_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Forest.grow(**({"features": ["x"]} | wrong))  # type: ignore[arg-type] # one wrong value of any kind


def test_a_missing_feature_is_an_error_and_an_unknown_one_is_ignored() -> None:
    trees = HalfSpaceTrees(Forest.grow(["x"]))
    with pytest.raises(KeyError):
        trees.learn_one({"y": 1.0})
    trees.learn_one({"x": 0.5, "y": 1.0})
