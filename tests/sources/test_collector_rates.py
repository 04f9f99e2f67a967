"""Rates against the bucket they stand for, and the bound on how many are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.collector.rates import Rates

acts = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.integers(0, 8)), max_size=60)


@given(acts, st.integers(5, 12), st.sampled_from([0.5, 1.0, 4.0]))
def test_a_rate_is_a_bucket_that_fills_up_with_time(acts: list[tuple[str, int, int]], burst: int, per_s: float) -> None:
    rates = Rates()
    now = 0.0
    buckets = {name: (float(burst), now) for name in "abc"}
    for name, amount, quarters in acts:
        now += quarters / 4
        saved, then = buckets[name]
        saved = min(burst, saved + (now - then) * per_s)
        wait = rates.take(name, amount, per_s, burst, now)
        if saved >= amount:
            assert wait == 0.0
            saved -= amount
        else:
            assert wait == pytest.approx((amount - saved) / per_s)
        buckets[name] = saved, now


def test_a_flood_of_names_is_bounded_and_quiet_names_are_forgotten() -> None:
    rates = Rates(kept=50)
    for number in range(1_000):
        assert rates.take(str(number), 1, per_s=1.0, burst=10, now=0.0) == 0.0
    assert len(rates) == 50
    rates.take("later", 1, per_s=1.0, burst=10, now=100.0)
    assert len(rates) == 1
