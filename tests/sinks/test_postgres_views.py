"""What the views say is what the rows say, worked out again in Python; each by an index."""

import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from scipy import stats  # type: ignore[import-untyped] # ships no types

from bench.views import question, read_whole, views
from schemas.outbound import Anomaly, Decision, Emotion, Intervention, InterventionEffect, Outcome, SessionSummary
from sinks.postgres import Writer
from sinks.postgres.dictionary import dictionary
from tests.fix_postgres import ask, batch_of
from tests.fix_views import DAY, Filled

DOCS = Path(__file__).parents[2] / "docs"
MINE = ("acme", "tenant-02")
Z = float(stats.norm.ppf(0.975))


def test_the_dictionary_is_current(db: str) -> None:
    """Made anew by ``attune db dictionary > docs/data-dictionary.md``."""
    if ask(db, "SELECT FROM pg_extension WHERE extname = 'timescaledb'"):
        pytest.skip("optional: the dictionary is of a plain database")
    assert (DOCS / "data-dictionary.md").read_text(encoding="utf-8") == dictionary(db)


def test_no_plan_reads_a_whole_table(own_day: Filled) -> None:
    """With as many rows as a small day has, the planner may rightly prefer to: it is told that reading costs more."""
    with psycopg.connect(own_day.analyst) as connection:
        connection.execute("SET enable_seqscan = off")
        for view, clock in views(connection):
            assert read_whole(connection, question(view, clock, DAY)) == set(), view


def test_a_day_of_one_tenant_is_that(day: Filled) -> None:
    with psycopg.connect(day.analyst) as connection:
        for view, clock in views(connection):
            found = connection.execute(question(view, clock, DAY)).fetchall()
            assert found, view
            assert {row[0] if isinstance(row[0], str) and row[0] in MINE else row[1] for row in found} == {"acme"}, view


def test_episodes(day: Filled) -> None:
    open_now: dict[Any, list[Anomaly]] = {}
    expected = []
    rows = [record for record in DAY.records() if isinstance(record, Anomaly) and record.tenant_id in MINE]
    for row in sorted(rows, key=lambda row: row.ts):
        key = row.tenant_id, row.session_id, row.session_start, row.anomaly_type
        if row.state == "raised":
            open_now.setdefault(key, []).append(row)
        else:
            told = open_now.pop(key)
            worst = "CRITICAL" if any(one.severity == "CRITICAL" for one in told) else "WARNING"
            depth = max(one.deviation for one in told)
            expected.append((row.session_id, (row.ts - told[0].ts) / 1000, worst, len(told), depth))
    assert len(expected) > 1
    found = ask(day.analyst, "SELECT session_id, duration_s, severity, reports, depth FROM analytics.anomaly_episodes")
    assert sorted(found) == sorted(expected)


def test_an_anomaly_may_come_back_and_may_be_open(own_day: Filled) -> None:
    """Raised twice, resolved, raised again: two episodes, of which one is open."""
    made = next(record for record in DAY.records() if isinstance(record, Anomaly))
    rows = [
        replace(made, tenant_id="acme", session_id="x", id=f"a{n}", state=state, ts=made.ts + n * 5_000)
        for n, state in enumerate(("raised", "raised", "resolved", "raised"))
    ]
    writer = Writer(own_day.owner)
    writer.write([batch_of(rows)])
    writer.close()
    query = "SELECT duration_s, reports FROM analytics.anomaly_episodes WHERE session_id = 'x' ORDER BY raised_at"
    assert ask(own_day.analyst, query) == [(10.0, 2), (None, 1)]


def newest(records: list[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for record in records:
        if record.id not in found or record.revision > found[record.id].revision:
            found[record.id] = record
    return found


def test_the_funnel(day: Filled) -> None:
    records = [record for record in DAY.records() if record.tenant_id in MINE]
    ledger = newest([record for record in records if isinstance(record, Intervention)])
    by_trigger = {one.trigger.id: one for one in ledger.values()}
    outcomes = defaultdict(set)
    for record in records:
        if isinstance(record, Outcome):
            outcomes[record.intervention_id].add(record.outcome)
    expected: dict[Any, Counter[str]] = defaultdict(Counter)
    for record in records:
        if not isinstance(record, Emotion):
            continue
        stages = expected[record.tenant_id, record.emotion]
        stages["emotions"] += 1
        if (one := by_trigger.get(record.id)) is None:
            continue
        stages["considered"] += 1
        stages["fired"] += one.status == "fired"
        stages["held_out"] += one.reason == "holdout"
        stages["suppressed"] += one.status == "suppressed" and one.reason != "holdout"
        for outcome in outcomes[one.id]:
            stages[outcome] += 1
    names = [
        "emotions",
        "considered",
        "held_out",
        "suppressed",
        "fired",
        "delivered",
        "shown",
        "clicked",
        "dismissed",
        "converted",
        "failed",
    ]
    sums = ", ".join(f"sum({name})::bigint" for name in names)
    found = ask(day.analyst, f"SELECT tenant_id, emotion, {sums} FROM analytics.funnel_by_day GROUP BY 1, 2")
    assert {row[:2]: row[2:] for row in found} == {
        key: tuple(of[name] for name in names) for key, of in expected.items()
    }
    assert len(ask(day.analyst, "SELECT FROM analytics.journeys")) == sum(of["emotions"] for of in expected.values())


def test_session_facts(day: Filled) -> None:
    records = [record for record in DAY.records() if record.tenant_id in MINE]
    counts = {
        kind: Counter(
            (record.tenant_id, record.session_id) for record in records if isinstance(record, of) and test(record)
        )
        for kind, of, test in (
            ("emotions", Emotion, lambda _: True),
            ("fired", Intervention, lambda record: record.status == "fired"),
            ("converted", InterventionEffect, lambda record: record.converted),
            ("answers", Decision, lambda _: True),
        )
    }
    query = "SELECT tenant_id, session_id, emotions, fired, conversions, answers FROM analytics.session_facts"
    found = {row[:2]: row[2:] for row in ask(day.analyst, query)}
    sessions = [record for record in records if isinstance(record, SessionSummary)]
    assert len(found) == len(sessions)
    late = 0
    for key, (emotions, fired, converted, answers) in found.items():
        assert emotions == counts["emotions"][key]
        late += counts["answers"][key] - answers + counts["fired"][key] - fired
        assert converted <= counts["converted"][key]
    assert late < len(sessions) / 4, "some answers of the generator come after their session's end"


def test_escalation_and_suppression(day: Filled) -> None:
    records = [record for record in DAY.records() if record.tenant_id in MINE]
    answers = Counter(record.tenant_id for record in records if isinstance(record, Decision))
    over = Counter(record.tenant_id for record in records if isinstance(record, Decision) and record.letter in "DE")
    query = "SELECT tenant_id, sum(answers)::int, sum(handed_over)::int FROM analytics.escalation_rate GROUP BY 1"
    assert {tenant: (n, h) for tenant, n, h in ask(day.analyst, query)} == {t: (answers[t], over[t]) for t in MINE}
    reasons = Counter(
        (record.tenant_id, record.reason)
        for record in records
        if isinstance(record, Intervention) and record.status == "suppressed"
    )
    query = "SELECT tenant_id, reason, sum(suppressed)::int FROM analytics.suppressed_by_reason GROUP BY 1, 2"
    assert {row[:2]: row[2] for row in ask(day.analyst, query)} == dict(reasons)
    assert ask(day.analyst, "SELECT count(*) FROM analytics.suppressed_by_reason WHERE share > 1 OR share <= 0") == [
        (0,)
    ]


def wilson(x: int, n: int) -> tuple[float, float]:
    """Return Wilson's interval as the roots of (p - x/n)^2 = z^2 p (1 - p) / n."""
    low, high = sorted(np.roots([1 + Z * Z / n, -2 * x / n - Z * Z / n, (x / n) ** 2]).real)
    return max(0.0, low), min(1.0, high)


def newcombe(x1: int, n1: int, x2: int, n2: int) -> tuple[float, float]:
    (l1, u1), (l2, u2) = wilson(x1, n1), wilson(x2, n2)
    d = x1 / n1 - x2 / n2
    return d - math.hypot(x1 / n1 - l1, u2 - x2 / n2), d + math.hypot(u1 - x1 / n1, x2 / n2 - l2)


arms = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(deadline=None, max_examples=60)
@given(one=arms, other=arms)
@example(one=(56, 70), other=(48, 80))
@example(one=(0, 10), other=(0, 20))
def test_lift_of_conversions_is_newcombes(day: Filled, one: tuple[int, int], other: tuple[int, int]) -> None:
    values = (*one, *other)
    call = "SELECT analytics.newcombe(%s, %s, %s, %s, -1), analytics.newcombe(%s, %s, %s, %s, 1)"
    (found,) = ask(day.owner, call, *values, *values)
    assert found == pytest.approx(newcombe(*values), abs=1e-7)


def test_newcombes_own_examples(day: Filled) -> None:
    """The table of the paper: 56/70 - 48/80, 9/10 - 3/10 and 10/10 - 0/20, to four places."""
    for values, low, high in (
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((10, 10, 0, 20), 0.6791, 1.0),
    ):
        call = "SELECT analytics.newcombe(%s, %s, %s, %s, -1), analytics.newcombe(%s, %s, %s, %s, 1)"
        assert ask(day.owner, call, *values, *values) == [pytest.approx((low, high), abs=5e-5)]


rewards = st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0]), min_size=2, max_size=40)


@settings(deadline=None, max_examples=60)
@given(one=rewards, other=rewards)
def test_lift_of_reward_is_welchs(day: Filled, one: list[float], other: list[float]) -> None:
    sums = [(len(arm), math.fsum(arm), math.fsum(x * x for x in arm)) for arm in (one, other)]
    values = (*sums[0], *sums[1])
    call = "SELECT analytics.welch(%s, %s, %s, %s, %s, %s, -1), analytics.welch(%s, %s, %s, %s, %s, %s, 1)"
    ((low, high),) = ask(day.owner, call, *values, *values)
    difference = float(np.mean(one) - np.mean(other))
    errors = [float(np.var(arm, ddof=1)) / len(arm) for arm in (one, other)]
    if sum(errors) < 1e-9:
        assert low is None or (low, high) == pytest.approx((difference, difference), abs=1e-6)
        return
    freedom = sum(errors) ** 2 / sum(e * e / (len(arm) - 1) for e, arm in zip(errors, (one, other), strict=True))
    if freedom < 3:
        assert low is None or freedom > 3 - 1e-6
        return
    width = float(stats.t.ppf(0.975, freedom)) * math.sqrt(sum(errors))
    assert low == pytest.approx(difference - width, abs=2e-3 * width)
    assert high == pytest.approx(difference + width, abs=2e-3 * width)


def test_students_quantile(day: Filled) -> None:
    freedoms = [3.0, 3.5, 4.0, 5.0, 10.0, 30.0, 100.0, 10_000.0]
    found = [
        value for (value,) in ask(day.owner, "SELECT analytics.student(f) FROM unnest(%s::float8[]) AS f", freedoms)
    ]
    assert found == pytest.approx([float(stats.t.ppf(0.975, freedom)) for freedom in freedoms], rel=1.3e-3)
    assert ask(day.owner, "SELECT analytics.student(2.9)") == [(None,)]


def test_lift_takes_days_together(day: Filled) -> None:
    """What the day says of one day, the function says of a week that holds it; and both are the rows'."""
    effects = [r for r in DAY.records() if isinstance(r, InterventionEffect) and r.tenant_id in MINE]
    columns = "tenant_id, intervention, treated, held_out, lift, lift_low"
    daily = ask(day.analyst, f"SELECT {columns} FROM analytics.lift_by_day")
    together = ask(
        day.analyst,
        f"SELECT {columns} FROM analytics.lift('2026-03-01', '2026-03-09')",
    )
    held_out = Counter((r.tenant_id, r.intervention) for r in effects if r.holdout)
    treated = Counter((r.tenant_id, r.intervention) for r in effects if not r.holdout)
    keys = {*held_out, *treated}
    assert {row[:4] for row in together} == {(*key, treated[key], held_out[key]) for key in keys}
    days = Counter(row[:2] for row in daily)
    assert {row for row in daily if days[row[:2]] == 1} <= set(together)
    assert any(row[5] is not None for row in daily)


def test_late_data_says_how_late(day: Filled) -> None:
    ((late, median, most),) = ask(
        day.analyst, "SELECT sum(late)::int, avg(late_s_median), max(late_s_max) FROM analytics.late_data"
    )
    assert late > 0
    assert 8 <= median <= most <= 90
    assert ask(day.analyst, "SELECT sum(letters)::int FROM analytics.dead_letters_by_reason WHERE reason = 'late'") == [
        (late,)
    ]
