"""The registry of scenarios: a name, one line about it, and how it is made."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flows.generate.demo import DemoTraffic
from flows.generate.lab.kinds import KINDS
from flows.generate.lab.traffic import LabTraffic
from flows.generate.live import LiveTraffic
from flows.generate.plan import Plan, Traffic
from flows.generate.visitors.traffic import LiveVisitorsTraffic, VisitorsTraffic, calm


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of traffic."""

    summary: str
    make: Callable[[Plan], Traffic]


SCENARIOS: dict[str, Scenario] = {
    "live": Scenario("live sessions: people come, chat, react, vote in polls and leave", LiveTraffic),
    "demo": Scenario("live sessions in which much happens within two minutes, and a shop", DemoTraffic),
    "lab": Scenario("labelled sessions of all kinds below in turn, 5 to 5,000 people, 10 to 60 minutes", LabTraffic),
    **{
        f"lab-{name}": Scenario(f"the lab's sessions of one kind: {kind.summary}", partial(LabTraffic, kind=name))
        for name, kind in KINDS.items()
    },
    "visitors": Scenario("shop visitors, one or two a session: half calm, half with an emotion each", VisitorsTraffic),
    "visitors-calm": Scenario(
        "calm shop visitors: half of them only read, the others compare, buy or leave",
        partial(VisitorsTraffic, name="visitors-calm", choose=calm),
    ),
    "visitors-live": Scenario("the same visitors, and a few live sessions in trouble beside them", LiveVisitorsTraffic),
}
"""Every scenario by its name."""
