"""Calibration by hand and against River, and that the order of resolutions does not matter."""

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import metrics

from operators.chat.calibration import BANDS, Tally, bands, record
from operators.chat.config import Wanted
from schemas.outbound import CalibrationBand

RESOLVED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60)


def tally_of(resolved: list[tuple[float, bool]]) -> Tally:
    tally = Tally()
    for confidence, needed in resolved:
        tally.resolve(confidence, needed=needed)
    return tally


def test_by_hand() -> None:
    # Squared errors: 0.2 and needed (0): 0.04; 0.25 and not needed (1): 0.5625; 0.7 and not needed: 0.09. Their mean is
    # 0.230833.
    # Bands: [0.2, 0.3) says 0.225 of two and half were not needed: gap 0.275; [0.7, 0.8) says 0.7 of one: gap 0.3.
    # (2 * 0.275 + 1 * 0.3) / 3 = 0.283333.
    tally = tally_of([(0.2, True), (0.25, False), (0.7, False)])
    assert tally.brier() == pytest.approx(0.230833, abs=1e-6)
    assert tally.expected_calibration_error() == pytest.approx(0.283333, abs=1e-6)
    low, high = bands(tally)
    assert (low.low, low.resolved, low.not_needed) == (0.2, 2, 0.5)
    assert low.confidence == pytest.approx(0.225)
    assert (high.low, high.resolved, high.not_needed) == (0.7, 1, 1.0)


def test_a_snapshot_takes_ten_thousand_million_mistakes() -> None:
    """Its integers end at 64 bits, and what can't be packed would stop every snapshot for good."""
    one = tally_of([(1.0, True)])
    many = Tally(resolved=[*one.resolved[:-1], 10**10], squares=one.squares * 10**10)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(many), type=Tally).brier() == 1.0


def test_nothing_resolved() -> None:
    assert (Tally().brier(), Tally().expected_calibration_error(), bands(Tally())) == (0.0, 0.0, [])


@pytest.mark.parametrize(
    "confidence, band", [(0.0, 0), (0.0999, 0), (0.1, 1), (0.3, 3), (0.6, 6), (0.7, 7), (0.9999, 9), (1.0, 9)]
)
def test_the_band_of_a_confidence(confidence: float, band: int) -> None:
    tally = tally_of([(confidence, True)])
    assert [at for at, n in enumerate(tally.resolved) if n] == [band]
    assert len(tally.resolved) == BANDS


@given(RESOLVED.filter(bool))
def test_the_brier_score_is_rivers_mean_squared_error(resolved: list[tuple[float, bool]]) -> None:
    river: Any = metrics.MSE()  # type: ignore[no-untyped-call]  # River leaves out its types
    for confidence, needed in resolved:
        river.update(0.0 if needed else 1.0, confidence)
    assert tally_of(resolved).brier() == pytest.approx(river.get(), abs=1e-5)


@given(RESOLVED, st.randoms(use_true_random=False))
def test_the_order_does_not_matter(resolved: list[tuple[float, bool]], rng: Random) -> None:
    shuffled = resolved.copy()
    rng.shuffle(shuffled)
    assert tally_of(resolved) == tally_of(shuffled)


@pytest.mark.parametrize(
    "wanted, threshold",
    [
        (0.0, 0.1),  # the lowest answer has 0.10: below 0.10 there is none
        (0.24, 0.1),
        (0.25, 0.3),  # one of four lies below 0.30
        (0.5, 0.3),  # two have 0.30, and both would go
        (0.75, 0.95),
        (1.0, 1.0),
    ],
)
def test_thresholds_for_a_wanted_rate(wanted: float, threshold: float) -> None:
    tally = Tally()
    for confidence in (0.1, 0.3, 0.3, 0.955):
        tally.answered(confidence)
    assert tally.threshold(wanted) == threshold


@given(st.lists(st.floats(0, 1), min_size=1, max_size=80), st.floats(0, 1))
def test_no_more_than_wanted_lies_below_a_threshold(confidences: list[float], wanted: float) -> None:
    tally = Tally()
    for confidence in confidences:
        tally.answered(confidence)
    threshold = tally.threshold(wanted)
    below = sum(round(confidence, 6) < threshold for confidence in confidences)
    assert below <= wanted * len(confidences)
    if threshold < 1.0:
        further = sum(round(confidence, 6) < threshold + 0.01 - 1e-9 for confidence in confidences)
        assert further > wanted * len(confidences)


def test_the_record() -> None:
    tally = tally_of([(0.2, True), (0.25, False)])
    for confidence in (0.2, 0.25, 0.9, 0.9):
        tally.answered(confidence)
    made = record("t", "t/calibration/5", 5, tally, Wanted(0.25, 0.5))
    assert (made.answers, made.resolved, made.needed) == (4, 2, 1)
    assert made.thresholds == {"immediate": 0.25, "review": 0.9}
    assert made.bands == [CalibrationBand(0.2, 0.3, 2, 0.225, 0.5)]
