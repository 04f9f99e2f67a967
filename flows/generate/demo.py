"""The scenario ``demo``: within two minutes one room is left, one sinks, one is lively, and a shop is busy.

The rooms are those of ``live`` with moods of their own. The visitors are those of ``visitors``, all in one shop, in
which a bot answers whoever looks for help. Now and then the shop's pages hang, and people leave.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush, merge
from itertools import count
from operator import attrgetter
from random import Random

import msgspec

from flows.generate.live import LiveTraffic
from flows.generate.plan import Plan
from flows.generate.script import MS, Mood
from flows.generate.truth import Truth
from flows.generate.visitors.traffic import VisitorsTraffic
from schemas.inbound import ChatAnswer, Event, HandoffResolved, PageView, PresenceLeave, SessionEnded

MOODS: tuple[Mood, ...] = (
    Mood(
        "all-hands",
        ((0, 0.9), (0.13, 1), (0.17, 0.1), (0.45, 0.1), (0.65, 0.8), (1, 0.6)),
        0.9,
        0.1,
        exodus=(0.2, 0.75),
    ),
    Mood("keynote", ((0, 0.9), (0.08, 1), (0.4, 0.9), (0.5, 0.2), (0.6, 0.25), (0.68, 1), (1, 0.6)), 0.7, 0.3),
    Mood("webinar", ((0, 1), (0.2, 1), (0.22, 0.05), (0.5, 0.02), (1, 0.02)), 0.25, 0.4),
    Mood("panel", ((0, 0.7), (0.15, 1.1), (0.3, 0.3), (0.45, 1.1), (0.6, 0.3), (0.75, 1.1), (1, 0.3)), 0.5, 0.5),
    Mood("product-launch", ((0, 1), (0.3, 1.3), (1, 1.2)), 0.9, 0.1),
    Mood("workshop", ((0, 0.15), (0.3, 0.4), (0.6, 1.1), (1, 1.2)), 0.85, 0.15),
    Mood("quiz", ((0, 0.5), (0.1, 0.8), (0.5, 0.5), (1, 0.7)), 0.9, 0.1),
)
"""With two tenants, the first has the rooms in which something happens."""

SHOP = "web-shop"
SHOPPERS = Plan(sessions=100, truth=False)
"""Visits side by side; half of the visitors have something on their mind."""
HANGS_MS, EVERY_MS = 130 * MS, 480 * MS
"""When the shop's pages hang, first and then again."""
FLEE = 0.7
"""The share of the visitors of the last minute who leave then."""
MINUTE_MS = 60 * MS
THINKS_MS = (800, 4 * MS)
HANDLED_MS = (20 * MS, 60 * MS)
"""How long a person takes with a conversation that the bot was unsure about."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A question and what the bot says to it, how near what it found is, and whether a person had to be asked."""

    question: str
    text: str
    retrieval: tuple[float, ...]
    unsure: bool = False


ANSWERS = (
    Answer("Where can I see my order?", "Open Orders in your account, it is on top.", (0.92, 0.88, 0.81)),
    Answer("How do I send a parcel back?", "Print the label under Orders, post it within 30 days.", (0.94, 0.9, 0.8)),
    Answer("Can I pay by invoice?", "I think that might work. [confidence: very_low]", (0.42, 0.4), unsure=True),
    Answer("What does the warranty cover?", "Defects of material, for 24 months.", (0.89, 0.85, 0.8)),
    Answer("My voucher was refused, why?", "I'm not sure, maybe it is too old?", (0.31,), unsure=True),
)


class DemoTraffic:
    """Rooms, and a shop with a bot. The rooms follow a plan as those of ``live`` do."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._rooms = LiveTraffic(plan, MOODS)
        self._visitors = VisitorsTraffic(replace(SHOPPERS, seed=plan.seed, start_ts=plan.start_ts, repeat=plan.repeat))
        self.end_ts = max(self._rooms.end_ts, self._visitors.end_ts)

    def events(self) -> Iterator[Event]:
        """Yield the events of rooms and shop in order of ``ts``."""
        return merge(self._rooms.events(), self._shop(), key=attrgetter("ts"))

    def truth(self) -> Truth:
        """Return what is known about the rooms that are over."""
        return self._rooms.truth()

    def _shop(self) -> Iterator[Event]:
        """Yield what all visitors do in one shop, which is never closed, and what the bot says to them."""
        rng = Random(f"{self._plan.seed}/bot")  # noqa: S311 - data, not a secret
        numbers = count(1)
        hangs_ts = self._plan.start_ts + HANGS_MS
        seen: dict[str, Event] = {}
        gone: set[str] = set()
        coming: list[tuple[int, str, Event]] = []
        for visit in self._visitors.events():
            if isinstance(visit, SessionEnded):
                continue
            event = msgspec.structs.replace(visit, session_id=SHOP)
            if event.ts >= hangs_ts:
                hangs_ts += EVERY_MS
                gone = {user for user, last in seen.items() if last.ts > event.ts - MINUTE_MS and rng.random() < FLEE}
                for leave in _leave([seen[user] for user in sorted(gone)], event.ts, rng):
                    heappush(coming, (leave.ts, leave.event_id, leave))
                seen.clear()
            if event.user_id in gone:
                continue
            seen[event.user_id] = event
            while coming and coming[0][0] <= event.ts:
                yield heappop(coming)[2]
            yield event
            if isinstance(event, PageView) and event.page == "help":
                for said in _talk(event, next(numbers), rng):
                    heappush(coming, (said.ts, said.event_id, said))


def _leave(last: list[Event], ts: int, rng: Random) -> Iterator[Event]:
    """Yield that whoever did these last things leaves, within seconds."""
    for event in last:
        yield PresenceLeave(
            event_id=f"{event.event_id}-leave",
            tenant_id=event.tenant_id,
            session_id=event.session_id,
            user_id=event.user_id,
            ts=ts + int(rng.expovariate(1 / (4 * MS))),
        )


def _talk(asks: PageView, number: int, rng: Random) -> Iterator[Event]:
    """Yield the bot's answer to somebody who looks for help, and a person's word where the bot was unsure."""
    answer = rng.choice(ANSWERS)
    conversation = f"c-{number}"
    ts = asks.ts + rng.randint(*THINKS_MS)
    yield ChatAnswer(
        tenant_id=asks.tenant_id,
        session_id=asks.session_id,
        user_id=asks.user_id,
        event_id=f"{asks.event_id}-answer",
        ts=ts,
        conversation_id=conversation,
        agent_id="shop-bot",
        question=answer.question,
        answer=answer.text,
        retrieval=list(answer.retrieval),
    )
    if answer.unsure:
        yield HandoffResolved(
            tenant_id=asks.tenant_id,
            session_id=asks.session_id,
            user_id=asks.user_id,
            event_id=f"{asks.event_id}-resolved",
            ts=ts + rng.randint(*HANDLED_MS),
            conversation_id=conversation,
            needed=rng.random() < 0.8,
            handled_by="crew",
        )
