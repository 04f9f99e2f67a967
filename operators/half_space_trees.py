"""Half-space trees whose shape all sessions share: a session keeps only which leaves its recent points fell into.

A tree halves the space of the features again and again, at places that depend on the seed and the limits alone. What
the data decides is each node's mass: how many points of the last full window passed it. A leaf's number, read as bits,
is the path to it, so a node's mass is the number of stored leaves that begin with the node's path: ten trees and thirty
points are 300 bytes, where the trees with their masses are a megabyte.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from operators.columns import pack, unpack

Floats = npt.NDArray[np.float64]
Leaves = npt.NDArray[np.unsignedinteger[Any]]

PADDING = 0.15
"""Share of a node's range, at each end, in which it is not split. As in River."""

SIZE_LIMIT = 0.1
"""A node that fewer than this share of the window's points passed ends the descent. Tan, Ting and Liu, section 4."""

MAX_HEIGHT = 16
"""Leaves are stored as 16-bit numbers at most."""

_CHUNK = 1_024
"""Points scored together: keeps what is worked on in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Forest:
    """The trees' shape, without any mass. Nodes are numbered as in a heap: node i has the children 2i+1 and 2i+2.

    ``feature`` and ``threshold`` have shape (trees, 2**height - 1); ``feature`` indexes ``features``. Make one with
    ``grow``.
    """

    features: tuple[str, ...]
    height: int
    window_size: int
    feature: npt.NDArray[np.int64]
    threshold: Floats

    @classmethod
    def grow(
        cls,
        features: Sequence[str],
        *,
        n_trees: int = 10,
        height: int = 8,
        window_size: int = 250,
        limits: Mapping[str, tuple[float, float]] | None = None,
        seed: int = 0,
    ) -> "Forest":
        """Return the forest that River grows from the same seed and limits (0..1 where none are given).

        Raises ValueError for numbers outside their range.

        >>> Forest.grow(["x"], n_trees=2, height=1, seed=42).threshold.round(3).tolist()
        [[0.168], [0.306]]
        """
        if not features or len(set(features)) != len(features):
            raise ValueError(f"features: expected at least one, each once, got {list(features)}")
        if n_trees < 1 or window_size < 1 or not 1 <= height <= MAX_HEIGHT:
            raise ValueError(
                f"expected n_trees and window_size from 1 and height in 1..{MAX_HEIGHT}, "
                f"got {n_trees}, {window_size}, {height}"
            )
        names = sorted(features)
        wide = {name: (limits or {}).get(name, (0.0, 1.0)) for name in names}
        if not all(math.isfinite(low) and math.isfinite(high) and low < high for low, high in wide.values()):
            raise ValueError(f"limits: expected finite (low, high) with low < high, got {wide}")
        rng = Random(seed)  # noqa: S311 - a shape, not a secret
        nodes = (1 << height) - 1
        feature, threshold = np.zeros((n_trees, nodes), np.int64), np.zeros((n_trees, nodes))

        def split(tree: int, node: int) -> None:
            """Split a node and what is below it, left before right: the order in which River draws its numbers."""
            if node >= nodes:
                return
            (name,) = rng.choices(names, weights=[high - low for low, high in wide.values()])
            low, high = wide[name]
            margin = PADDING * (high - low)
            at = rng.uniform(low + margin, high - margin)
            feature[tree, node], threshold[tree, node] = names.index(name), at
            wide[name] = (low, at)
            split(tree, 2 * node + 1)
            wide[name] = (at, high)
            split(tree, 2 * node + 2)
            wide[name] = (low, high)

        for tree in range(n_trees):
            split(tree, 0)
        return cls(tuple(names), height, window_size, feature, threshold)

    @property
    def n_trees(self) -> int:
        """How many trees there are."""
        return len(self.feature)

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16]:
        """The smallest type that holds a leaf's number."""
        return np.uint8 if self.height <= 8 else np.uint16

    def leaves(self, points: Floats) -> Leaves:
        """Return into which leaf of each tree the points fall, of shape (n, trees).

        ``points`` has shape (n, features), columns in the order of ``features`` (sorted by name). A value that is no
        number goes right, as in River.
        """
        n, trees = len(points), self.n_trees
        out = np.empty((n, trees), self.dtype)
        begins = np.arange(_CHUNK)[:, None] * len(self.features)
        for at in range(0, n, _CHUNK):
            flat = np.ascontiguousarray(points[at : at + _CHUNK]).ravel()
            begin = begins[: min(_CHUNK, n - at)]
            node = np.arange(trees)
            for feature, threshold in self._levels:
                value = feature.take(node) + begin
                left = flat.take(value) < threshold.take(node)
                node = node + node + left
            out[at : at + _CHUNK] = ~node & ((1 << self.height) - 1)
        return out

    @cached_property
    def _levels(self) -> list[tuple[npt.NDArray[np.int64], Floats]]:
        """Features and thresholds from the roots down: of each level its nodes, tree after tree, right to left.

        That order makes "less" the bit of a step, and a leaf's number the path's complement.
        """
        levels = [slice((1 << level) - 1, (2 << level) - 1) for level in range(self.height)]
        return [(self.feature[:, at][:, ::-1].ravel(), self.threshold[:, at][:, ::-1].ravel()) for at in levels]

    def scores(self, reference: Leaves, leaves: Leaves) -> Floats:
        """Return the anomaly scores of points, 0..1, of shape (n,); the higher, the fewer points were near.

        ``reference``, of shape (n, trees, window_size), holds the leaves of the last full window in front of each
        point; ``leaves``, of shape (n, trees), the point's own.
        """
        scores: Floats = 1.0 - self.masses(reference, leaves) / self.full_mass
        return scores

    @property
    def full_mass(self) -> int:
        """The mass of a point that fell into one leaf with all others, in every tree."""
        return self.n_trees * self.window_size * ((1 << (self.height + 1)) - 1)

    def masses(self, reference: Leaves, leaves: Leaves) -> npt.NDArray[np.int64]:
        """Return the sum over a point's nodes of mass times 2**depth, over all trees: whole numbers, of shape (n,).

        A descent ends below the first node whose mass is under the limit. At depth d lie those stored points whose
        leaves share the first d bits with this one's.
        """
        height, window = self.height, self.window_size
        least = math.ceil(SIZE_LIMIT * window)
        counter = np.min_scalar_type(window)
        out = np.full(len(leaves), self.n_trees * window, np.int64)
        for at in range(0, len(leaves), _CHUNK):
            some = slice(at, at + _CHUNK)
            differs = reference[some].transpose(2, 0, 1) ^ leaves[some]
            total = np.zeros(differs.shape[1:], np.int64)
            above: npt.NDArray[Any] | None = None
            for depth in range(1, height + 1):
                shares = (differs < 1 << (height - depth)).view(np.uint8)
                here = np.add.reduce(shares, axis=0, dtype=counter)
                if above is not None:
                    here[above < least] = 0
                total += here.astype(np.int64) << depth
                above = here
            out[some] += total.sum(axis=1)
        return out


class HalfSpaceTrees:
    """Half-space trees of one session, with River's verbs and River's scores.

    Scores are 0 until one full window has been learned. Missing features are an error (KeyError), others are ignored.

    >>> forest = Forest.grow(["x"], n_trees=5, height=3, window_size=3, seed=42)
    >>> trees = HalfSpaceTrees(forest)
    >>> for x in (0.5, 0.45, 0.43, 0.44, 0.445, 0.45, 0.0):
    ...     trees.learn_one({"x": x})
    ...     print(round(trees.score_one({"x": x}), 3))
    0.0
    0.0
    0.107
    0.107
    0.107
    0.071
    0.853

    References: S. C. Tan, K. M. Ting, T. F. Liu, "Fast Anomaly Detection for Streaming Data", IJCAI 2011.
    """

    def __init__(self, forest: Forest) -> None:
        self.forest = forest
        shape = (forest.n_trees, forest.window_size)
        self._reference, self._current = np.zeros(shape, forest.dtype), np.zeros(shape, forest.dtype)
        self._filled = 0
        self._warm = False

    def learn_one(self, x: Mapping[str, float]) -> None:
        """Take a point in; when it fills the window, that becomes the one which points are scored against."""
        self._current[:, self._filled] = self._leaves(x)[0]
        self._filled += 1
        if self._filled == self.forest.window_size:
            self._reference, self._current = self._current, self._reference
            self._filled, self._warm = 0, True

    def score_one(self, x: Mapping[str, float]) -> float:
        """Return the point's anomaly score, 0..1; 0 until a full window has been learned."""
        if not self._warm:
            return 0.0
        return float(self.forest.scores(self._reference[None], self._leaves(x))[0])

    def _leaves(self, x: Mapping[str, float]) -> Leaves:
        return self.forest.leaves(np.array([[x[name] for name in self.forest.features]], np.float64))

    def snapshot(self) -> bytes:
        """Pack the leaves of both windows into bytes."""
        columns = {"reference": self._reference, "current": self._current[:, : self._filled]}
        return pack({"warm": self._warm}, columns)

    @classmethod
    def restore(cls, forest: Forest, packed: bytes) -> "HalfSpaceTrees":
        """Return what a snapshot was taken of; the forest must be the same one."""
        meta, columns = unpack(packed)
        trees = cls(forest)
        trees._warm, trees._reference = meta["warm"], columns["reference"]
        trees._filled = columns["current"].shape[1]
        trees._current[:, : trees._filled] = columns["current"]
        return trees
