"""Why a tick was, or was not, an anomaly: every quantity and every condition, in words."""

import math
from dataclasses import dataclass

from operators.anomalies.config import AnomalyConfig
from operators.anomalies.rules import GRADUAL_DECLINE, LOW_ENGAGEMENT, MASS_EXIT, SUDDEN_DROP, Measures
from operators.anomalies.state import TYPES


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of a rule: what it asks, what was found, how that must stand to what is needed, if it held."""

    asks: str
    found: float
    needed: float
    holds: bool
    must_be: str = "at least"


@dataclass(frozen=True, slots=True)
class TickExplanation:
    """Why a tick has its type (None: no anomaly), by the conditions of each type, in the contract's order.

    ``quantities`` are all columns of ``Measures`` at this tick.
    """

    anomaly_type: str | None
    quantities: dict[str, float]
    conditions: dict[str, tuple[Condition, ...]]

    def lines(self) -> list[str]:
        """Return it as lines of text."""
        first = f"{self.anomaly_type}: the first type all of whose conditions hold"
        out = [first if self.anomaly_type else "no anomaly: of no type do all conditions hold"]
        for name, conditions in self.conditions.items():
            out.append(name)
            out += [
                f"  {'yes' if c.holds else 'no '}  {c.asks}: {_number(c.found)}, needed {c.must_be} {_number(c.needed)}"
                for c in conditions
            ]
        return out


def explain_tick(measures: Measures, place: int, config: AnomalyConfig) -> TickExplanation:
    """Return why the tick at a place of ``Detector.trace`` was, or was not, an anomaly."""
    q = {name: float(getattr(measures, name)[place]) for name in Measures.__slots__}
    ready = _least("ticks of baseline", q["ordinal"], config.min_baseline)
    fall = (
        ready,
        _least("combined score", q["combined"], config.warning),
        Condition(
            "audience grew within 60 s, as a share",
            q["audience"] / q["least_audience"] - 1 if q["least_audience"] > 0 else 0.0,
            config.growth,
            not q["grew"],
            "below",
        ),
        _least(_EVIDENCE[bool(q["polled"])], q["evidence"], config.evidence),
    )
    sudden_limit = (1 - config.sudden_fall) * q["before"] - config.sudden_margin * q["blur"]
    decline_limit = (1 - config.decline_fall) * q["line_start"] - config.decline_margin * q["blur"]
    low_limit = config.low - config.low_margin * q["blur"]
    conditions = {
        MASS_EXIT: (
            Condition(ready.asks + ", or an old session", ready.found, ready.needed, ready.holds or bool(q["grown"])),
            _least("people gone", q["gone"], config.exit_people),
            _least("more than 5 or 10 s ago", q["gone"], q["gone_before"] + 1),
            _least("their share of those who were there", q["exit_rate"], config.exit_rate),
            _least("times the session's own churn", q["exit_times"], config.exit_times),
            _least("evidence against that churn, in nats", q["exit_evidence"], q["exit_needed"]),
        ),
        LOW_ENGAGEMENT: (
            *fall,
            Condition(
                "score (no poll) and the limit, less noise", q["score"], low_limit, q["score"] < low_limit, "below"
            ),
            _least("above the limit lately (1: yes)", q["above_lately"], 1),
        ),
        SUDDEN_DROP: (
            *fall,
            _most("score (no poll) and the share of the mean before, less noise", q["score"], sudden_limit),
            _least("fall", q["before"] - q["score"], config.least_fall),
        ),
        GRADUAL_DECLINE: (
            *fall,
            _most("score (no poll) and the share of where the line began, less noise", q["score"], decline_limit),
            _least("fall", q["line_start"] - q["score"], config.least_fall),
            _most("drop within the last 5 minutes (1: yes)", q["after_drop"], 0),
        ),
    }
    kind = int(measures.kind[place])
    named: dict[str, tuple[Condition, ...]] = {TYPES[index]: found for index, found in conditions.items()}
    return TickExplanation(TYPES[kind] if kind >= 0 else None, q, named)


_EVIDENCE = {
    False: "evidence that less is done than before, in nats",
    True: "evidence that less is written than before, in nats (a poll ran: votes and applause are left out)",
}


def _least(asks: str, found: float, needed: float) -> Condition:
    return Condition(asks, found, needed, found >= needed)


def _most(asks: str, found: float, needed: float) -> Condition:
    return Condition(asks, found, needed, found <= needed, "at most")


def _number(value: float) -> str:
    """Return a number as people read it.

    >>> _number(0.123456), _number(12.0), _number(math.nan), _number(4e8)
    ('0.12346', '12', 'none', 'over 10000')
    """
    if math.isnan(value):
        return "none"
    return "over 10000" if value > 10_000 else f"{value:.5g}"
