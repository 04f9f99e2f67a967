"""The questions of docs/database.md about chat, asked of tables that the conductor has filled."""

import re
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from bytewax.testing import TestingSource, run_main

from flows.conductor import ConductorConfig, build
from schemas.inbound import ChatAnswer
from sinks.postgres import PostgresConfig, PostgresSink
from tests.events import batches, record
from tests.fix_postgres import ask as query
from tests.operators.chat_events import HOUR, HUMAN, Chat, ask, resolved

PAGE = (Path(__file__).parents[2] / "docs" / "database.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Questions about chat")[1].split("\n## ")[0]
QUERIES = re.findall(r"^```sql\n(.*?);\n```$", SECTION, re.MULTILINE | re.DOTALL)
DOUBTFUL = {"answer": "Maybe, perhaps, possibly. (confidence: 0%)"}
"""Hedging 0, quality about 0.7 with a weight of 0.15 in 0.9: a confidence of about 0.12, which is escalated."""
MINUTE = 60_000


def rows(db: str, about: str) -> list[tuple[Any, ...]]:
    """Return what the page's only query with this text says."""
    (found,) = (text for text in QUERIES if about in text)
    return query(db, found.replace("%", "%%"))


def fill(db: str, chats: Iterable[Chat]) -> None:
    """Run chat through the conductor into the database; at the end time runs on, so that calibration is told."""
    events: Sequence[Chat] = sorted(chats, key=lambda event: event.ts)
    log = [
        record(msgspec.json.encode(event), event.ts, "platform.events.chat.answer.v1", i)
        for i, event in enumerate(events)
    ]
    sink = PostgresSink(PostgresConfig(db))
    run_main(build(ConductorConfig(), TestingSource(batches(log, [50])), {"db": sink}), epoch_interval=timedelta(0))


@pytest.fixture
def now() -> int:
    return int(time.time() * 1000) - MINUTE


def conversation(ts: int, handed_over_at: int, **fields: Any) -> list[ChatAnswer]:
    """Return ten answers, a minute apart; the one at that place is a hand-off."""
    return [
        ask(HUMAN if i == handed_over_at else "How long does it take?", ts + i * MINUTE, event_id=f"e{i}", **fields)
        for i in range(10)
    ]


def test_the_escalation_rate_counts_answers(db: str, now: int) -> None:
    """Ten answers and one hand-off are 10 %, whatever comes after it; what is older than a day is left out."""
    start = now - HOUR
    chats = conversation(start, 4, tenant_id="acme", conversation="one")
    chats += conversation(start, -1, tenant_id="calm", conversation="two")
    chats += conversation(start, 0, tenant_id="busy", conversation="three")
    chats.append(ask("Where is it?", start + 20 * MINUTE, tenant_id="busy", conversation="four", retrieval=[]))
    chats += conversation(now - 30 * HOUR, 0, tenant_id="acme", conversation="old")
    fill(db, chats)
    assert rows(db, "AS percent") == [
        ("busy", 11, 2, Decimal("18.2")),
        ("acme", 10, 1, Decimal("10.0")),
        ("calm", 10, 0, Decimal("0.0")),
    ]
    assert query(db, "SELECT count(*) FROM handoffs") == [(4,)]


def test_the_latest_hand_offs_for_low_confidence(db: str, now: int) -> None:
    chats = [
        ask(
            "How long does it take?", now - i * MINUTE, conversation=f"c{i}", user=f"u{i}", tenant_id=tenant, **DOUBTFUL
        )
        for i, tenant in enumerate(["acme"] * 25 + ["other"])
    ]
    chats.append(ask(HUMAN, now, conversation="asked", tenant_id="acme"))
    fill(db, chats)
    found = rows(db, "reason = 'low_confidence'")
    assert [conversation for _, conversation, *_ in found] == [f"c{i}" for i in range(20)]
    assert {(agent, level) for _, _, agent, _, level in found} == {("a", "VERY_LOW")}
    assert all(0 < score < 0.3 for *_, score, _ in found)


def test_decisions_by_path_and_none_without(db: str, now: int) -> None:
    chats = [ask("hi", now - i, tenant_id="acme", event_id=f"hi{i}") for i in range(3)]
    chats += [ask(HUMAN, now - 10, tenant_id="acme"), ask("price?", now - 11, tenant_id="acme")]
    chats += [ask("hi", now - 12, tenant_id="acme", **DOUBTFUL), ask("hi", now, tenant_id="other")]
    fill(db, chats)
    found = rows(db, "AS mean_confidence")
    ((unsure,),) = query(db, "SELECT min(confidence)::numeric FROM orchestrator_decisions WHERE tenant_id = 'acme'")
    # "Three days." has 0.9 (see test_confidence).
    mean = round((3 * Decimal("0.9") + unsure) / 4, 3)
    assert found == [
        ("auto_answer", 4, mean),
        ("clarify", 1, Decimal("0.900")),
        ("escalate", 1, Decimal("0.900")),
    ]
    assert rows(db, "without_path") == [(0,)]
    with pytest.raises(psycopg.errors.NotNullViolation):
        query(db, "UPDATE orchestrator_decisions SET path = NULL RETURNING id")


def test_how_far_people_agreed(db: str, now: int) -> None:
    start = now - 5 * HOUR
    chats: list[Chat] = []
    for i, needed in enumerate((True, True, False, True)):
        sure = {} if i < 2 else DOUBTFUL
        chats.append(ask(HUMAN, start + i, conversation=f"c{i}", tenant_id="acme", user=f"u{i}", **sure))
        chats.append(resolved(start + MINUTE + i, f"c{i}", needed=needed, tenant_id="acme"))
    chats.append(ask(HUMAN, start + 2 * HOUR, conversation="late", tenant_id="acme"))
    chats.append(resolved(start + 2 * HOUR + 1, "late", needed=False, tenant_id="acme"))
    chats.append(ask(HUMAN, start, conversation="c", tenant_id="other"))
    fill(db, chats)
    ((tenant, _, resolutions, needed, agreement, brier),) = rows(db, "AS agreement")
    assert (tenant, resolutions, needed, agreement) == ("acme", 5, 3, Decimal("0.600"))
    assert 0 < brier < 1
    assert query(db, "SELECT count(*) FROM calibration") == [(2,)], "the newest of two counts"
    low, high = rows(db, "jsonb_to_recordset")
    assert (low[2], low[4]) == (2, Decimal("0.500"))
    assert low[0] <= low[3] < low[1]
    assert high == (0.9, 1.0, 3, Decimal("0.900"), Decimal("0.333"))
    assert query(db, "SELECT answers FROM calibration ORDER BY ts DESC LIMIT 1") == [(5,)]


def test_every_question_is_asked_here() -> None:
    told = Path(__file__).read_text(encoding="utf-8")
    marks = re.findall(r'rows\(db, "(.+?)"\)', told)
    assert sorted(marks) == sorted(set(marks))
    assert len(marks) == len(QUERIES) == 6
