"""The scenario ``demo``: within two minutes a room is left, one sinks, one is lively, one votes, and a bot answers.

The rooms are those of ``live`` with moods of their own. What the bot says rests on what is asked in the chat. The
visitors are those of ``visitors``, all in one shop.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heappop, heappush, merge
from operator import attrgetter
from random import Random

import msgspec

from flows.generate.live import LiveTraffic
from flows.generate.plan import Plan
from flows.generate.script import MS, Mood
from flows.generate.truth import Truth
from flows.generate.visitors.traffic import VisitorsTraffic
from schemas.inbound import ChatAnswer, ChatMessage, Event, HandoffResolved, SessionEnded

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
WITH_BOT = "product-launch"
ASKED = 0.12
"""The share of the questions in that room that are for the bot."""
THINKS_MS = (800, 4 * MS)
HANDLED_MS = (20 * MS, 60 * MS)
"""How long a person takes with a conversation that the bot was unsure about."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bot says to a question, how near what it found is, and whether a person had to be asked."""

    text: str
    retrieval: tuple[float, ...]
    unsure: bool = False


ANSWERS: dict[str, Answer] = {
    "can you share the slides?": Answer("The slides are below the video, under Files.", (0.92, 0.88, 0.81)),
    "is there a recording?": Answer("Yes, it is here within 24 hours after the session.", (0.94, 0.9, 0.83, 0.8)),
    "could you go over that again?": Answer("I'm not sure which part you mean, maybe the pricing one?", (0.31,), True),
    "how does it scale?": Answer("I think it could perhaps serve more. [confidence: very_low]", (0.42, 0.4), True),
    "what about the costs?": Answer("It costs 29 EUR a month for each team of up to 10 people.", (0.89, 0.85, 0.8)),
}
"""Every question of the rooms' chats."""


class DemoTraffic:
    """Live sessions and a bot. Follows a plan as ``live`` does."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._live = LiveTraffic(plan, MOODS)
        self._visitors = VisitorsTraffic(replace(SHOPPERS, seed=plan.seed, start_ts=plan.start_ts, repeat=plan.repeat))
        self.end_ts = max(self._live.end_ts, self._visitors.end_ts)

    def events(self) -> Iterator[Event]:
        """Yield the events of rooms, bot and shop in order of ``ts``."""
        return merge(self._rooms(), self._shop(), key=attrgetter("ts"))

    def truth(self) -> Truth:
        """Return what is known about the rooms that are over."""
        return self._live.truth()

    def _shop(self) -> Iterator[Event]:
        """Yield what all visitors do in one shop, which is never closed."""
        for event in self._visitors.events():
            if not isinstance(event, SessionEnded):
                yield msgspec.structs.replace(event, session_id=SHOP)

    def _rooms(self) -> Iterator[Event]:
        rng = Random(f"{self._plan.seed}/bot")  # noqa: S311 - data, not a secret
        coming: list[tuple[int, str, Event]] = []
        for event in self._live.events():
            while coming and coming[0][0] <= event.ts:
                yield heappop(coming)[2]
            yield event
            if isinstance(event, ChatMessage) and event.session_id.startswith(WITH_BOT) and event.text in ANSWERS:
                for said in _talk(event, rng) if rng.random() < ASKED else ():
                    heappush(coming, (said.ts, said.event_id, said))


def _talk(question: ChatMessage, rng: Random) -> Iterator[Event]:
    """Yield the bot's answer to a question, and the person's word where the bot was unsure."""
    answer = ANSWERS[question.text]
    conversation = f"c-{question.event_id}"
    ts = question.ts + rng.randint(*THINKS_MS)
    yield ChatAnswer(
        event_id=f"{question.event_id}-answer",
        tenant_id=question.tenant_id,
        session_id=question.session_id,
        user_id=question.user_id,
        ts=ts,
        conversation_id=conversation,
        agent_id="launch-bot",
        question=question.text,
        answer=answer.text,
        retrieval=list(answer.retrieval),
    )
    if answer.unsure:
        yield HandoffResolved(
            event_id=f"{question.event_id}-resolved",
            tenant_id=question.tenant_id,
            session_id=question.session_id,
            user_id=question.user_id,
            ts=ts + rng.randint(*HANDLED_MS),
            conversation_id=conversation,
            needed=rng.random() < 0.8,
            handled_by="crew",
        )
