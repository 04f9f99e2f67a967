"""The registry of scenarios: a name, one line about it, and how it is made."""

from collections.abc import Callable
from dataclasses import dataclass

from flows.generate.live import LiveTraffic
from flows.generate.plan import Plan, Traffic


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of traffic."""

    summary: str
    make: Callable[[Plan], Traffic]


SCENARIOS: dict[str, Scenario] = {
    "live": Scenario("live sessions: people come, chat, react, vote in polls and leave", LiveTraffic),
}
"""Every scenario by its name."""
