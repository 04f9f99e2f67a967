"""Shards follow Kafka's partitioner."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.chunk import SEPARATOR
from operators.shards import shards_of
from tests.murmur2 import murmur2

IDS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=128)


@given(st.lists(st.tuples(IDS, IDS), max_size=50), st.integers(1, 1_024))
def test_a_shard_is_the_partition_that_kafka_would_choose(names: list[tuple[str, str]], shards: int) -> None:
    keys = [SEPARATOR.join(name) for name in names]
    expected = [(murmur2("/".join(name).encode()) & 0x7FFFFFFF) % shards for name in names]
    assert shards_of(keys, shards).tolist() == expected


@pytest.mark.parametrize("data, hashed", [(b"21", -973932308), (b"foobar", -790332482), (b"abc", 479470107)], ids=str)
def test_the_reference_agrees_with_kafkas_own_values(data: bytes, hashed: int) -> None:
    assert murmur2(data) == hashed & 0xFFFFFFFF
