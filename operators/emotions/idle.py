"""The visitors of sessions that live who do nothing, and of whom nothing is on its way to a rule.

What the rules ask of a visitor however long ago it was is kept as long as his session lives: the page that he viewed
last, the last two places, the values that events turn from, and whether he has ordered. That is columns and no object,
in the order of the visitors' numbers, so that no table of places is needed to find one.
"""

from typing import Any, Final

import numpy as np

from operators.columns import Column, Int64s, pack, unpack
from operators.emotions.recent import UInt64s

LASTING: Final = ("page", "place", "before", "turned", "settled")
"""The columns of a visitor that matter as long as his session lives."""

_GONE: Final = -1


class Idle:
    """Columns by visitor: his number (``key``, ascending), the row of his ``session`` (-1: gone), and ``LASTING``."""

    def __init__(self, fresh: dict[str, Column]) -> None:
        """Begin with nobody; ``fresh`` are empty columns of the types and shapes that ``put`` brings."""
        self._columns = fresh
        self._gone = 0

    def __len__(self) -> int:
        return len(self._columns["key"]) - self._gone

    def put(self, columns: dict[str, Column]) -> None:
        """Keep visitors, none of whom is kept already."""
        if not len(columns["key"]) and self._gone * 2 <= len(self._columns["key"]):
            return
        kept = self._columns["session"] != _GONE
        joined = {name: np.concatenate([self._columns[name][kept], columns[name]]) for name in self._columns}
        order = np.argsort(joined["key"])
        self._columns = {name: column[order] for name, column in joined.items()}
        self._gone = 0

    def take(self, keys: UInt64s) -> tuple[Int64s, dict[str, Column]]:
        """Return which of some visitors are kept here, and what was kept of those; it is no longer."""
        known = self._columns["key"]
        if not len(known):
            return np.zeros(0, np.int64), {}
        at = np.minimum(known.searchsorted(keys), len(known) - 1)
        same = known[at] == keys
        if not same.any():
            return np.zeros(0, np.int64), {}
        found = np.flatnonzero(same & (self._columns["session"][at] != _GONE))
        at = at[found]
        self._leave(at)
        return found, {name: self._columns[name][at] for name in LASTING}

    def drop(self, session: int) -> None:
        """Let go of the visitors of a session (row)."""
        if len(self._columns["key"]):
            self._leave(np.flatnonzero(self._columns["session"] == session))

    def _leave(self, at: Int64s) -> None:
        self._columns["session"][at] = _GONE
        self._gone += len(at)

    def packed(self, sessions: Int64s) -> bytes:
        """Return what a snapshot keeps; sessions (rows, ascending) are named by their place."""
        kept = self._columns["session"] != _GONE
        columns = {name: column[kept] for name, column in self._columns.items()}
        columns["session"] = np.searchsorted(sessions, columns["session"]).astype(np.int32)
        return pack({}, columns)

    def restore(self, packed: bytes, sessions: Int64s, *, same_rules: bool) -> None:
        """Restore what a snapshot kept; under other rules, without the values that events turn from."""
        _, columns = unpack(packed)
        columns["session"] = sessions[columns["session"]].astype(np.int32)
        if not same_rules:
            columns["turned"] = np.zeros((len(columns["key"]), *self._columns["turned"].shape[1:]), np.uint64)
        self.put(columns)


def nobody(layout: dict[str, tuple[Any, tuple[int, ...], Any]]) -> dict[str, Column]:
    """Return the columns of nobody, as a table's layout has them."""
    return {name: np.zeros((0, *layout[name][1]), layout[name][0]) for name in ("key", "session", *LASTING)}
