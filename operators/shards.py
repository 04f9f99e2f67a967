"""Which shard a session belongs to: Kafka's own partitioner, so that a session's events need not change the worker."""

import numpy as np

from operators.chunk import SEPARATOR, Int32s

_SEED, _M = np.uint32(0x9747B28C), np.uint32(0x5BD1E995)
_MASK = np.array([0, 0xFF, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF], np.uint32)
"""Keeps the first 0 to 4 bytes of a (little-endian) word."""


def shards_of(keys: list[str], shards: int) -> Int32s:
    r"""Return the shard of each session key, 0..shards-1, of shape (n,); the same in every process and run.

    It is what Kafka's default partitioner says of the record key ``tenant_id/session_id``: MurmurHash2 (A. Appleby,
    public domain; 32 bits, seed 0x9747b28c) without its sign, modulo ``shards``. With keyed events, partition and shard
    of a session then agree modulo whatever divides the numbers of both, so the worker that reads an event also has its
    session. Events that are not keyed cost the way to another worker, nothing else.

    >>> shards_of(["acme\0town-hall", "acme\0webinar"], 4).tolist()
    [1, 0]
    """
    if not keys:
        return np.zeros(0, np.int32)
    data = [key.replace(SEPARATOR, "/").encode() for key in keys]
    length = np.fromiter(map(len, data), np.int64, len(data))
    start = np.cumsum(length) - length
    text = b"".join(data) + b"\0\0\0\0"
    words = np.ndarray(len(text) - 3, "<u4", text, strides=(1,))  # the 4 bytes from each byte on
    hashed = _SEED ^ length.astype(np.uint32)
    for at in range(0, int(length.max()), 4):
        left = length - at
        word = words[np.minimum(start + at, len(words) - 1)] & _MASK[np.clip(left, 0, 4)]
        mixed = word * _M
        mixed = (mixed ^ (mixed >> np.uint32(24))) * _M
        # A last word of 1 to 3 bytes goes in as it is.
        hashed = np.where(left >= 4, (hashed * _M) ^ mixed, np.where(left > 0, (hashed ^ word) * _M, hashed))
    hashed = (hashed ^ (hashed >> np.uint32(13))) * _M
    hashed ^= hashed >> np.uint32(15)
    shard: Int32s = ((hashed & np.uint32(0x7FFFFFFF)) % np.uint32(shards)).astype(np.int32)
    return shard
