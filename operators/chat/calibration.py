"""How well confidence foretold whether a person was needed, for each tenant, as answers and resolved hand-offs come in.

Confidence is read as the probability that the answer could have gone out, so a hand-off that was not needed is a 1 and
one that was needed a 0. All sums are whole numbers (confidence in millionths), so what is told does not depend on the
order in which hand-offs are resolved. Only answers that were handed over are ever resolved: what is measured is the
confidence of those.
"""

from typing import Final

import msgspec

from operators.chat.config import Wanted
from operators.config import NEVER
from schemas.outbound import Calibration, CalibrationBand

BANDS: Final = 10
"""Bands of confidence, 0.1 wide; the last one holds 1.0 too."""

GRID: Final = 100
"""Thresholds are told in steps of 0.01."""

MILLION: Final = 1_000_000


class Tally(msgspec.Struct):
    """What is kept of a tenant: whole numbers only, of a fixed size.

    ``answers`` counts all judged answers by confidence, in steps of 0.01 (101 counts; at most the exact value, so that
    an answer of 0.299 counts at 0.29). Of resolved hand-offs by band: how many, their confidence summed in millionths,
    how many needed a person. ``squares`` is the sum of squared errors in billionths. ``last`` is the stream
    time of the last answer or resolution, ``due`` when the next record is due (``NEVER``: nothing new).
    """

    answers: list[int] = msgspec.field(default_factory=lambda: [0] * (GRID + 1))
    resolved: list[int] = msgspec.field(default_factory=lambda: [0] * BANDS)
    confidence: list[int] = msgspec.field(default_factory=lambda: [0] * BANDS)
    needed: list[int] = msgspec.field(default_factory=lambda: [0] * BANDS)
    squares: int = 0
    last: int = 0
    due: int = NEVER

    def answered(self, confidence: float) -> None:
        """Count a judged answer."""
        self.answers[int(_millionths(confidence) * GRID // MILLION)] += 1

    def resolve(self, confidence: float, *, needed: bool) -> None:
        """Learn whether a hand-off, decided at this confidence, was needed."""
        said = _millionths(confidence)
        band = min(BANDS - 1, said * BANDS // MILLION)
        self.resolved[band] += 1
        self.confidence[band] += said
        self.needed[band] += needed
        # Rounded each by itself, so that their order does not matter, and far from the end of 64 bits.
        self.squares += ((said - (0 if needed else MILLION)) ** 2 + 500) // 1_000

    def brier(self) -> float:
        """Return the Brier score, 0..1: the mean squared error of confidence (Brier 1950); 0 without a resolution."""
        n = sum(self.resolved)
        return self.squares / n / 1_000_000_000 if n else 0.0

    def expected_calibration_error(self) -> float:
        """Return the mean distance of confidence from what came true over the bands, by their sizes, 0..1."""
        n = sum(self.resolved)
        gaps = (
            abs(said - (count - needed) * MILLION)
            for count, said, needed in zip(self.resolved, self.confidence, self.needed, strict=True)
        )
        return sum(gaps) / n / MILLION if n else 0.0

    def threshold(self, wanted: float) -> float:
        """Return the highest threshold, in steps of 0.01, under which at most the wanted share of answers lies."""
        allowed = wanted * sum(self.answers)
        below = 0
        for at, count in enumerate(self.answers):
            below += count
            if below > allowed:
                return at / GRID
        return 1.0


def bands(tally: Tally) -> list[CalibrationBand]:
    """Return the bands that hold resolved hand-offs.

    >>> tally = Tally()
    >>> tally.resolve(0.25, needed=True)
    >>> bands(tally)
    [CalibrationBand(low=0.2, high=0.3, resolved=1, confidence=0.25, not_needed=0.0)]
    """
    return [
        CalibrationBand(
            band / BANDS, (band + 1) / BANDS, n, tally.confidence[band] / n / MILLION, 1 - tally.needed[band] / n
        )
        for band, n in enumerate(tally.resolved)
        if n
    ]


def record(tenant: str, ident: str, ts: int, tally: Tally, wanted: Wanted) -> Calibration:
    """Return the record of a tenant at ``ts`` (milliseconds)."""
    return Calibration(
        id=ident,
        tenant_id=tenant,
        session_id="",
        ts=ts,
        resolved=sum(tally.resolved),
        needed=sum(tally.needed),
        brier=tally.brier(),
        expected_calibration_error=tally.expected_calibration_error(),
        thresholds={"immediate": tally.threshold(wanted.escalated), "review": tally.threshold(wanted.reviewed)},
        answers=sum(tally.answers),
        bands=bands(tally),
    )


def _millionths(confidence: float) -> int:
    return round(confidence * MILLION)
