"""Answers and resolutions with every field filled in that a test does not care about, and a shard to feed them to."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any

from operators.chat.answers import Answers, ChatConfig
from operators.chat.phrases import read_phrases
from schemas.inbound import ChatAnswer, HandoffResolved
from schemas.outbound import Decision, Record

PHRASES = read_phrases()
CONFIG = ChatConfig()
NOON = int(datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp() * 1000)
"""A Wednesday."""
HUMAN = "I want to talk to a human"
HOUR = 3_600_000
Chat = ChatAnswer | HandoffResolved


def ask(
    question: str,
    ts: int = NOON,
    answer: str = "Three days.",
    *,
    conversation: str = "c",
    user: str = "u",
    **fields: Any,
) -> ChatAnswer:
    """Return an answer that five good passages found; its event id is made of what else tells it apart."""
    ident = fields.pop("event_id", f"{conversation} {user} {ts}")
    fields = {"retrieval": [0.9] * 5, "tenant_id": "t", "session_id": "s", "agent_id": "a", **fields}
    return ChatAnswer(
        event_id=ident,
        user_id=user,
        ts=ts,
        conversation_id=conversation,
        question=question,
        answer=answer,
        **fields,
    )


def resolved(ts: int, conversation: str = "c", *, needed: bool = True, **fields: Any) -> HandoffResolved:
    about = {"tenant_id": "t", "session_id": "s", "user_id": "desk", **fields}
    return HandoffResolved(event_id=f"r{ts}", ts=ts, conversation_id=conversation, needed=needed, **about)


def feed(answers: Answers, events: Iterable[Chat]) -> list[Record]:
    return [record for event in events for record in answers.feed(event, event.ts)]


def run(events: Iterable[Chat], config: ChatConfig = CONFIG) -> list[Record]:
    return feed(Answers(config, PHRASES), events)


def letters(records: Sequence[Record]) -> str:
    return "".join(record.letter for record in records if isinstance(record, Decision))


def log(seed: int, count: int = 120) -> list[Chat]:
    """Return a log of a few users with much trouble, over two weeks, with repeats."""
    rng = Random(seed)
    events: list[Chat] = []
    ts = NOON
    for i in range(count):
        ts += rng.choice((1, 1_000, HOUR, 6 * HOUR))
        conversation, tenant = f"c{rng.randrange(6)}", f"t{rng.randrange(2)}"
        if rng.random() < 0.25:
            events.append(resolved(ts, conversation, needed=rng.random() < 0.5, tenant_id=tenant))
        elif rng.random() < 0.1 and events:
            events.append(rng.choice(events))
        else:
            events.append(
                ask(
                    rng.choice((HUMAN, "How long does it take?", "Is this medication safe?", "hi")),
                    ts,
                    rng.choice(("Three days.", "Maybe.", "Perhaps so. (confidence: 20%)")),
                    conversation=conversation,
                    user=f"u{rng.randrange(3)}",
                    event_id=f"e{i}",
                    tenant_id=tenant,
                    retrieval=[rng.random() for _ in range(rng.randrange(4))],
                )
            )
    return events
