"""Every question of docs/sql.md, asked by an analyst of the day it names, has the answer that stands there."""

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.fix_views import DAY, Filled

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
QUESTION = re.compile(r"^## \d+\. ([^\n]+)\n.*?```sql\n(.+?);\n```\n\n((?:\|[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
QUESTIONS = [match.groups() for match in QUESTION.finditer(PAGE)]


def cell(value: Any) -> str:
    """Return what psql prints for a value."""
    if isinstance(value, bool):
        return "t" if value else "f"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("query, told", [(q, t) for _, q, t in QUESTIONS], ids=[title for title, _, _ in QUESTIONS])
def test_the_answer_is_the_one_that_is_told(day: Filled, query: str, told: str) -> None:
    with psycopg.connect(day.analyst) as connection:
        connection.execute("SET timezone = 'UTC'")
        cursor = connection.execute(query.encode())
        names = [column.name for column in cursor.description or ()]
        rows = [names, *([cell(value) for value in row] for row in cursor)]
    lines = [line.strip("|").split("|") for line in told.splitlines()]
    expected = [[part.strip() for part in line] for at, line in enumerate(lines) if at != 1]
    assert rows == expected


def test_there_are_twenty_and_none_is_left_out() -> None:
    assert len(QUESTIONS) == PAGE.count("```sql") == 20


def test_the_page_names_the_day() -> None:
    assert f"--sessions {DAY.sessions} --tenants {DAY.tenants}" in PAGE


def test_scores_follow_from_their_signals(day: Filled) -> None:
    """By the definition of the score, worked out in SQL: whoever looks at the rows may check it there."""
    wrong = """
        SELECT count(*)::int FROM analytics.engagement_metrics
        WHERE abs(contribution_chat - 0.30 * least(1, ln(1 + chat_per_min) / ln(21))) > 1e-9
            OR abs(contribution_reactions - 0.10 * least(1, ln(1 + reactions_per_min) / ln(11))) > 1e-9
            OR abs(contribution_active - 0.25 * active_users / connected_users) > 1e-9
            OR abs(contribution_poll - 0.25 * poll_participation) > 1e-9
            OR abs(contribution_leaves + 0.10 * leave_rate) > 1e-9
            OR abs(score - contribution_chat - contribution_poll - contribution_active - contribution_reactions
                   - contribution_leaves) > 1e-9
            OR category <> (array['VERY_LOW', 'LOW', 'MODERATE', 'HIGH', 'VERY_HIGH'])[1 + floor(score / 0.2)::int]
    """
    with psycopg.connect(day.analyst) as connection:
        assert connection.execute(wrong.encode()).fetchone() == (0,)
        means = connection.execute(
            "SELECT count(*)::int FROM analytics.sessions AS session WHERE abs(score_mean - ("
            "SELECT avg(score) FROM analytics.engagement_metrics AS own WHERE own.tenant_id = session.tenant_id "
            "AND own.session_id = session.session_id)) > 1e-9"
        )
        assert means.fetchone() == (0,)
