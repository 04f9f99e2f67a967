"""The demo's traffic: valid, in order, and something happens in it while somebody still looks."""

from dataclasses import replace as changed
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from flows.demo import MIX
from flows.generate import SCENARIOS
from flows.generate.demo import ANSWERS, SHOP
from flows.replay import replay
from schemas.inbound import AnyEvent, ChatAnswer, Event, HandoffResolved, PageView
from schemas.outbound import AnyRecord

LOOKED_MS = 130_000
"""How long somebody looks before he thinks that nothing happens."""


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """Return what the demo sends, as long as somebody looks."""
    plan = changed(MIX, repeat=False)
    traffic = SCENARIOS["demo"].make(plan)
    return [event for event in traffic.events() if event.ts < plan.start_ts + LOOKED_MS]


def test_events_are_valid_in_order_unique_and_the_same_again(events: list[Event]) -> None:
    decoder = msgspec.json.Decoder(AnyEvent)
    assert [decoder.decode(msgspec.json.encode(event)) for event in events] == events
    assert all(one.ts <= other.ts for one, other in pairwise(events))
    assert len({(event.session_id, event.event_id) for event in events}) == len(events)
    again = SCENARIOS["demo"].make(changed(MIX, repeat=False)).events()
    assert [event for event, _ in zip(again, events, strict=False)] == events


def test_the_bot_answers_whoever_looks_for_help_and_a_person_where_it_is_unsure(events: list[Event]) -> None:
    seen = {event.event_id: event for event in events if isinstance(event, PageView) and event.session_id == SHOP}
    answers = {event.conversation_id: event for event in events if isinstance(event, ChatAnswer)}
    unsure = {answer.question for answer in ANSWERS if answer.unsure}
    assert answers
    for answer in answers.values():
        view = seen[answer.event_id.removesuffix("-answer")]
        assert (view.page, view.user_id) == ("help", answer.user_id)
        assert answer.ts > view.ts
    resolved = [event for event in events if isinstance(event, HandoffResolved)]
    assert {answers[event.conversation_id].question for event in resolved} <= unsure


def test_something_happens_within_two_minutes(events: list[Event], tmp_path: Path) -> None:
    log = tmp_path / "demo.jsonl"
    log.write_bytes(b"".join(msgspec.json.encode(event) + b"\n" for event in events))
    replay([str(log)], tmp_path)

    def told(topic: str) -> list[AnyRecord]:
        lines = (tmp_path / f"attune.{topic}.v1.jsonl").read_bytes().splitlines()
        records = [msgspec.json.decode(line, type=AnyRecord) for line in lines]
        return [record for record in records if record.ts < MIX.start_ts + LOOKED_MS and record.tenant_id == "tenant-1"]

    raised = {(record.session_id, record.anomaly_type) for record in told("anomalies")}  # type: ignore[union-attr]  # of this topic
    assert ("all-hands-1", "MASS_EXIT") in raised
    assert told("handoffs")
    assert len(told("emotions")) > 10
    assert {record.status for record in told("interventions")} >= {"fired", "suppressed"}  # type: ignore[union-attr]  # of this topic
    last = {record.session_id: record for record in told("engagement")}
    categories = {name: record.category for name, record in last.items()}  # type: ignore[union-attr]  # of this topic
    assert len(set(categories.values())) >= 3, categories
    assert told("deadletters") == []
