"""Small tools for columns: grouping, sorting, ranges, and packing into bytes. All shapes are (n,)."""

import math
import struct
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def ranges(starts: Int64s, counts: Int64s) -> Int64s:
    """Return ``starts[0], starts[0]+1, ... `` for each of the counts, one run after another.

    >>> ranges(np.array([5, 20]), np.array([2, 3])).tolist()
    [5, 6, 20, 21, 22]
    """
    total = int(counts.sum())
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(total)


def offsets(counts: Int64s) -> Int64s:
    """Return where each run of ``counts`` begins when they stand one after another, with the total at the end.

    >>> offsets(np.array([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    out = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=out[1:])
    return out


def sort_by(major: Int64s, minor: Int64s) -> Int64s:
    """Return the stable order by ``major``, then ``minor``; both at least 0.

    >>> sort_by(np.array([7, 2, 7]), np.array([5, 9, 4])).tolist()
    [1, 2, 0]
    """
    if (minor[1:] >= minor[:-1]).all():
        return order_of(major)
    return _by_words([*_words(minor - minor.min()), *_words(major)])


def order_of(keys: Int64s) -> Int64s:
    """Return the stable order by whole numbers, at least 0: a third of the time of numpy's own for small ones.

    >>> order_of(np.array([7, 2, 7])).tolist()
    [1, 0, 2]
    """
    return _by_words(_words(keys)) if len(keys) else np.zeros(0, np.int64)


def group_by(major: Int64s, minor: npt.NDArray[np.uint64]) -> tuple[Int64s, Int64s, npt.NDArray[np.uint64]]:
    """Return the stable order by ``major`` (0 to 2**31 - 1), then ``minor``, and both columns in it.

    ``minor`` are 64-bit digests. Sorts by ``major`` and as many of the highest bits of ``minor`` as make 32 with it,
    and then what these bits don't tell apart, which is little.

    >>> group_by(np.array([1, 0, 1]), np.array([5, 9, 4], np.uint64))[0].tolist()
    [1, 2, 0]
    """
    if not len(major):
        return np.zeros(0, np.int64), major, minor
    bits = max(int(major.max()).bit_length(), 1)
    key = (minor >> np.uint64(32 + bits)).astype(np.uint32)
    key |= major.astype(np.uint32) << np.uint32(32 - bits)
    order = _by_words([key.astype(np.uint16), (key >> np.uint32(16)).astype(np.uint16)])
    grouped = major[order], minor[order]
    key = key[order]
    untold = first_of_runs(*grouped)[1:] & (key[1:] == key[:-1])
    if untold.any():
        run = np.cumsum(first_of_runs(key)) - 1
        at = np.flatnonzero(np.bincount(run[1:][untold], minlength=len(run))[run])
        some = order[at]
        order[at] = some[_by_words([*_words(minor[some]), *_words(major[some])])]
        grouped = major[order], minor[order]
    return order, *grouped


def _words(keys: Column) -> list[npt.NDArray[np.uint16]]:
    """Return whole numbers, at least 0, as their words of 16 bits, the lowest first."""
    bits = max(int(keys.max()).bit_length(), 1)
    return [(keys >> keys.dtype.type(shift)).astype(np.uint16) for shift in range(0, bits, 16)]


def _by_words(words: list[npt.NDArray[np.uint16]]) -> Int64s:
    """Return the stable order by numbers of several words, the lowest given first.

    Words of 16 bits are what numpy sorts by radix: three of them take a third of the time that it needs for whole
    numbers on processors on which its vectorised sort is slow.
    """
    order: Int64s = words[0].argsort(kind="stable")
    for word in words[1:]:
        order = order[word[order].argsort(kind="stable")]
    return order


def first_of_runs(*keys: Column) -> Flags:
    """Return True where any of the (grouped) keys differs from the one before; the first is True."""
    n = len(keys[0])
    first = np.ones(n, np.bool_)
    if n > 1:
        first[1:] = keys[0][1:] != keys[0][:-1]
        for key in keys[1:]:
            first[1:] |= key[1:] != key[:-1]
    return first


def one_before(column: Column) -> Column:
    """Return for each element the one before; before the first, the last (as ``np.roll``, for columns that are short).

    >>> one_before(np.array([1, 2, 3])).tolist()
    [3, 1, 2]
    """
    before = np.empty_like(column)
    before[1:] = column[:-1]
    before[:1] = column[-1:]
    return before


def one_behind(column: Column) -> Column:
    """Return for each element the one behind it; behind the last, the last.

    >>> one_behind(np.array([1, 2, 3])).tolist()
    [2, 3, 3]
    """
    behind = column.copy()
    behind[:-1] = column[1:]
    return behind


def last_where(flags: Flags, places: Int64s | None = None) -> Int64s:
    """Return for each place the last place up to it where the flag is set, -1 where none is.

    ``places`` are 1, 2, 3, ... of shape (n,), for a caller who asks several times.

    >>> last_where(np.array([False, True, False, True])).tolist()
    [-1, 1, 1, 3]
    """
    if places is None:
        places = np.arange(1, len(flags) + 1)
    return np.maximum.accumulate(places * flags) - 1  # np.where would take ten times as long as the product


def pack(meta: Any, columns: Mapping[str, Column]) -> bytes:
    """Pack columns into bytes: a msgpack head (``meta``, and how each column is written), then the raw arrays.

    Kept apart from pickle so that a snapshot is quickly made, holds no objects and can be read by anything. Whole
    numbers take as many bytes as their range needs: while a snapshot is written, events wait. Where most are the
    lowest, a bit for each tells which are not, and only those are written.
    """
    layout, raw = [], []
    for name, column in columns.items():
        lowest, others = _mostly(column)
        narrow, low, high, base = _narrowed(column if others is None else column[others])
        raw += [b"" if others is None else np.packbits(others).tobytes(), narrow.tobytes()]
        number = -1 if others is None else len(narrow)
        layout.append((name, column.dtype.str, column.shape, lowest, number, narrow.dtype.str, low, high, base))
    head = msgspec.msgpack.encode([meta, layout])
    return b"".join([struct.pack("<I", len(head)), head, *raw])


def unpack(packed: bytes) -> tuple[Any, dict[str, Column]]:
    """Return what was packed; the columns are fresh and writable."""
    (size,) = struct.unpack_from("<I", packed)
    meta, layout = msgspec.msgpack.decode(packed[4 : 4 + size])
    at = 4 + size
    columns: dict[str, Column] = {}
    for name, dtype, shape, lowest, number, written, low, high, base in layout:
        size = math.prod(shape)
        bits = np.frombuffer(packed, np.uint8, 0 if number < 0 else -(-size // 8), at)
        narrow = np.frombuffer(packed, np.dtype(written), size if number < 0 else number, at + bits.nbytes)
        at += bits.nbytes + narrow.nbytes
        column = _widened(narrow, np.dtype(dtype), low, high, base)
        if number >= 0:
            values, column = column, np.full(size, lowest, dtype)
            column[np.unpackbits(bits, count=size).view(np.bool_)] = values
        columns[name] = column.reshape(shape)
    return meta, columns


def meta_of(packed: bytes) -> Any:
    """Return the ``meta`` of what was packed, by a release that may have written columns otherwise."""
    (size,) = struct.unpack_from("<I", packed)
    return msgspec.msgpack.decode(packed[4 : 4 + size])[0]


def _mostly(column: Column) -> tuple[int, Flags | None]:
    """Return the lowest of whole numbers, and where others are if that is most of them (often: "never"); else None."""
    if column.dtype.kind not in "iu" or not column.size:
        return 0, None
    lowest = column.min()
    others = column != lowest
    return int(lowest), others if np.count_nonzero(others) * 2 < column.size else None


def _narrowed(column: Column) -> tuple[Column, int, int, int]:
    """Return a column in few bytes, its lowest and its highest number, and what has to be added modulo 2**64.

    The extremes are written as 0 and 1, since they often stand for "never" and lie far from all others.
    """
    if column.dtype.kind not in "iu" or column.dtype.itemsize == 1 or not column.size:
        return column, 0, 0, 0
    low, high = int(column.min()), int(column.max())
    inner = column[(column != low) & (column != high)]
    base = int(inner.min()) - 2 if inner.size else low
    span = int(inner.max()) - base if inner.size else 1
    narrow = np.min_scalar_type(span)
    if narrow.itemsize >= column.dtype.itemsize:
        return column, 0, 0, 0
    base %= 2**64  # what comes of the extremes, far off, is written over
    codes = (column.astype(np.uint64) - np.uint64(base)).astype(narrow)
    codes[column == low] = 0
    codes[column == high] = 1
    return codes, low, high, base


def _widened(narrow: Column, dtype: np.dtype[Any], low: int, high: int, base: int) -> Column:
    if narrow.dtype == dtype:
        return narrow.copy()
    column = (narrow.astype(np.uint64) + np.uint64(base)).astype(dtype)
    column[narrow == 0] = low
    column[narrow == 1] = high
    return column
