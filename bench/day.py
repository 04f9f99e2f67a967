"""A day of sessions with every type of record, from a seed: for the benchmark of the views, their tests and examples.

``python -m bench.day CONNINFO [--sessions N]`` loads it into a migrated database and brings its rollups up to date.

Four of five sessions are a shop's visits of one user, the rest live rooms. Scores, contributions and categories follow
from each tick's signals as the operators' do. Who is held out, and how much an intervention wins, is known: see
``TREATED`` and ``HELD_OUT``.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from statistics import fmean as mean
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import set_json_dumps

from bench.day_chat import calibrations, conversation, dead_letters
from bench.measure import console
from operators.config import WINDOW_MS, ScoreConfig
from operators.engagement import Explanation, explain
from schemas.outbound import (
    Anomaly,
    DetectorScores,
    Emotion,
    Engagement,
    Intervention,
    InterventionEffect,
    Outcome,
    Record,
    SessionSummary,
    Signals,
    Trigger,
)
from schemas.registry import type_of
from sinks.postgres import refresh
from sinks.postgres.rows import TABLES
from sinks.postgres.store import STATEMENTS

START = 1_772_409_600_000
"""2026-03-02, a Monday, 00:00 UTC."""
DAY_MS = 86_400_000
TICK_MS = 5_000
BUSY = (1, 1, 1, 1, 1, 2, 3, 5, 7, 8, 9, 9, 8, 8, 9, 9, 10, 12, 15, 18, 17, 12, 6, 3)
"""How busy each hour of the day is."""
TREATED, HELD_OUT = 0.14, 0.08
"""The chance of a conversion after an intervention, and without one."""

SCORE = ScoreConfig()
ABSENT, PRESENT = Signals(0, 0, 1, 0, 0.0, 0.0, 0.0), Signals(0, 0, 1, 1, 1.0, 0.0, 0.0)
"""What a visit's user does in 60 s: nothing, or something."""
FELT = {
    "price_shock": ("discount_modal", "HIGH", 0.92),
    "frustration": ("help_chat", "HIGH", 0.90),
    "hesitation": ("urgency_banner", "MEDIUM", 0.90),
    "cart_hesitation": ("value_highlight", "MEDIUM", 0.90),
    "skeptical": ("trust_badges", "MEDIUM", 0.70),
    "comparison_shopping": ("comparison_modal", "LOW", 0.85),
    "exit_risk": ("exit_intent", "CRITICAL", 0.88),
}
"""Emotion: what it leads to, how urgent, how sure."""
WHY_NOT = ("cooldown", "cooldown", "cooldown", "rate_limit", "low_confidence", "low_confidence", "outranked")
DROPPED = {"SUDDEN_DROP": "poll", "GRADUAL_DECLINE": "gamification", "LOW_ENGAGEMENT": "notification"}


@dataclass(frozen=True, slots=True)
class Day:
    """How much there is of it, and when."""

    sessions: int = 10_000
    tenants: int = 20
    start: int = START
    seed: int = 1

    def names(self) -> list[str]:
        """Return the tenants, the largest first."""
        return ["acme", *(f"tenant-{n:02d}" for n in range(2, self.tenants + 1))]

    def records(self) -> Iterator[Record]:
        """Yield every record of the day, session by session."""
        rng = Random(self.seed)
        names = self.names()
        shares = [1 / (n + 1) ** 0.7 for n in range(len(names))]
        for number in range(self.sessions):
            (tenant,) = rng.choices(names, shares)
            hour = rng.choices(range(24), BUSY)[0]
            begin = self.start + hour * 3_600_000 + rng.randrange(3_600_000)
            session = Session(rng, tenant, f"s-{number:05d}", begin, self.sessions)
            yield from session.room() if number % 5 == 4 else session.visit()
            yield from dead_letters(rng, tenant, session.name, begin, number)
        yield from calibrations(rng, names, self.start)


class Session:
    """What one session tells, in order of its kinds."""

    def __init__(self, rng: Random, tenant: str, name: str, begin: int, pool: int) -> None:
        self.rng, self.tenant, self.name, self.begin = rng, tenant, name, begin
        self.user = f"u-{rng.randrange(max(4, pool * 3 // 5)):05d}"
        self.head = f"{tenant}/{name}/{begin}"

    def visit(self) -> Iterator[Record]:
        """Yield a visit of one user: few minutes, emotions, perhaps a chat."""
        rng = self.rng
        count = rng.randrange(12, 120)
        active = [rng.random() < 0.7 for _ in range(count)]
        led_to: list[Record] = []
        for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
            ts = self.begin + rng.randrange(5_000, count * TICK_MS)
            led_to += self._feel(ts)
            for number in range(count):  # whoever feels something has done something
                active[number] |= ts < self._tick(number) <= ts + WINDOW_MS
        ticks = [PRESENT if acts else ABSENT for acts in active]
        yield from self._ticks(ticks)
        yield from led_to
        if rng.random() < 0.3:
            yield from conversation(rng, self.tenant, self.name, self.user, self.begin)
        yield self._summary(ticks)

    def room(self) -> Iterator[Record]:
        """Yield a live room: a liveliness that wanders, falls once in a while, and comes back."""
        rng = self.rng
        count, people, score = rng.randrange(180, 540), rng.randrange(5, 150), rng.uniform(0.35, 0.7)
        fall = rng.randrange(60, count - 80) if rng.random() < 0.4 else None
        length = rng.randrange(12, 60)
        ticks = []
        for number in range(count):
            score = min(0.95, max(0.1, score + rng.gauss(0, 0.01)))
            low = fall is not None and fall <= number < fall + length
            level = score / 0.8 * (0.5 if low else 1.0) * (0.95 + 0.1 * rng.randrange(people) / people)
            ticks.append(lively(people, min(1.0, level)))
        yield from self._ticks(ticks)
        if fall is not None:
            yield from self._episode(ticks, fall, length)
        yield self._summary(ticks)

    def _tick(self, number: int) -> int:
        """Return when a tick of the session is, counted from 0."""
        return (self.begin // TICK_MS + 1 + number) * TICK_MS

    def _feel(self, ts: int) -> Iterator[Record]:
        """Yield an emotion of the visit's user, and what it leads to."""
        emotion = self.rng.choice(list(FELT))
        intervention, priority, sure = FELT[emotion]
        felt = Emotion(
            id=f"{self.tenant}/{self.name}/{ts}/emotion/{self.user}/{emotion}",
            tenant_id=self.tenant,
            session_id=self.name,
            ts=ts,
            user_id=self.user,
            emotion=emotion,
            confidence=sure,
            rule=emotion,
            evidence=[f"e-{ts - 700}", f"e-{ts}"],
        )
        yield felt
        trigger = Trigger("emotion", felt.id, emotion)
        yield from self._intervene(ts, intervention, priority, sure, trigger, self.user, scored(PRESENT).score)

    def _ticks(self, ticks: list[Signals]) -> Iterator[Record]:
        for number, signals in enumerate(ticks):
            ts, found = self._tick(number), scored(signals)
            yield Engagement(
                id=f"{self.head}/engagement/{ts}",
                tenant_id=self.tenant,
                session_id=self.name,
                ts=ts,
                session_start=self.begin,
                score=found.score,
                category=found.category,
                signals=signals,
                contributions=found.contributions,
            )

    def _episode(self, ticks: list[Signals], fall: int, length: int) -> Iterator[Record]:
        """Yield an anomaly, told every 30 s until it is resolved, and what is done about it."""
        rng = self.rng
        kind = rng.choice(list(DROPPED))
        expected = mean([scored(signals).score for signals in ticks[fall - 12 : fall]])
        for tick in [*range(2, length, 6), length + 2]:
            ts, raised = self._tick(fall + tick), tick <= length
            signals = ticks[fall + tick]
            current = scored(signals).score
            told = Anomaly(
                id=f"{self.head}/anomaly/{kind}/{ts}/{'raised' if raised else 'resolved'}",
                tenant_id=self.tenant,
                session_id=self.name,
                ts=ts,
                session_start=self.begin,
                anomaly_type=kind,  # type: ignore[arg-type] # one of the literals
                severity="CRITICAL" if tick > 20 and raised else "WARNING",
                state="raised" if raised else "resolved",
                score=0.7 if raised else 0.2,
                current=current,
                expected=expected,
                deviation=expected - current,
                detector=DetectorScores(0.7, 0.7, 0.7),
                signals=signals,
            )
            yield told
            if tick == 2:
                trigger = Trigger("anomaly", told.id, kind)
                yield from self._intervene(ts, DROPPED[kind], "HIGH", 0.8, trigger, None, current)

    def _intervene(
        self, ts: int, intervention: str, priority: Any, sure: float, trigger: Trigger, user: str | None, score: float
    ) -> Iterator[Record]:
        """Yield the ledger's rows, outcomes and effect of one intervention."""
        rng = self.rng
        held_out = user is not None and hash_of(self.tenant, user) < 0.25
        reason: str | None
        if held_out:
            status, reason = "suppressed", "holdout"
        elif rng.random() < 0.3:
            status, reason = "suppressed", rng.choice(WHY_NOT)
        else:
            status, reason = ("pending", "approval") if rng.random() < 0.1 else ("fired", None)
        ident = f"{self.tenant}/{self.name}/{ts}/intervention/{user or trigger.name}/{intervention}"
        whose: Any = {"tenant_id": self.tenant, "session_id": self.name}
        first = Intervention(
            **whose,
            id=ident,
            ts=ts,
            intervention=intervention,
            recipient=user or self.name,
            user_id=user,
            trigger=trigger,
            confidence=sure,
            priority=priority,
            status=status,  # type: ignore[arg-type] # one of the literals
            reason=reason,
            content={"title": intervention, "for": user} if status == "fired" else None,
            expires_ts=ts + 60_000,
            why=f"{trigger.name} of {user or self.name}",
        )
        yield first
        if status == "pending":
            status = rng.choice(("fired", "expired"))
            yield msgspec.structs.replace(first, ts=ts + 20_000, status=status, reason=None, by="ops-1", revision=1)
        if status != "fired" and not held_out:
            return
        converted = rng.random() < (HELD_OUT if held_out else TREATED)
        if not held_out:
            for delay, outcome in self._outcomes(converted):
                yield Outcome(
                    **whose,
                    id=f"{ident}/outcome/{outcome}",
                    ts=ts + delay,
                    intervention_id=ident,
                    intervention=intervention,
                    user_id=user or "organiser",
                    outcome=outcome,
                )
        change = rng.gauss(-0.02 if held_out else 0.03, 0.08)
        after = min(1.0, max(0.0, score + change))
        moved = after - score
        reward = 1.0 if converted else min(moved / 0.2, 1.0) if moved > 0 else 0.5 if moved >= -0.05 else 0.0
        yield InterventionEffect(
            **whose,
            id=f"{ident}/effect",
            ts=(ts // TICK_MS + 1) * TICK_MS + 60_000,
            intervention_id=ident,
            intervention=intervention,
            recipient=user or self.name,
            user_id=user,
            trigger=trigger,
            score_before=score,
            score_after=after,
            reward=reward,
            holdout=held_out,
            converted=converted,
            revision=int(converted),
        )

    def _outcomes(self, converted: bool) -> Iterator[tuple[int, Any]]:
        if self.rng.random() < 0.05:
            yield 500, "failed"
            return
        yield 200, "delivered"
        if converted or self.rng.random() < 0.9:
            yield 900, "shown"
            if converted or self.rng.random() < 0.2:
                yield 6_000, "clicked"
            elif self.rng.random() < 0.5:
                yield 4_000, "dismissed"
        if converted:
            yield 45_000, "converted"

    def _summary(self, ticks: list[Signals]) -> SessionSummary:
        scores = [scored(signals).score for signals in ticks]
        count, people = len(ticks), ticks[0].connected_users
        chat, reactions = (
            sum(signals.chat_per_min for signals in ticks) * TICK_MS // WINDOW_MS,
            sum(signals.reactions_per_min for signals in ticks) * TICK_MS // WINDOW_MS,
        )
        return SessionSummary(
            id=f"{self.head}/session",
            tenant_id=self.tenant,
            session_id=self.name,
            ts=self.begin + count * TICK_MS,
            session_start=self.begin,
            ended_by="ended" if people > 1 else "idle",
            duration_ms=count * TICK_MS,
            events=chat + reactions + count * 2 + people * 2,
            chat_messages=chat,
            reactions=reactions,
            votes=0,
            telemetry=count * 2,
            joins=people,
            leaves=people,
            users=people,
            peak_connected=people,
            ticks=count,
            score_mean=mean(scores),
            score_peak=max(scores),
        )


@cache
def scored(signals: Signals) -> Explanation:
    """Return the score of signals, with its contributions and category, by the defaults."""
    return explain(signals, SCORE)


def lively(people: int, level: float) -> Signals:
    """Return what a room does in 60 s so that its score is about ``level``, 0..1, of what it can be without a poll.

    >>> round(scored(lively(10, 1.0)).score, 4), round(scored(lively(10, 0.5)).score, 4)
    (0.65, 0.3294)
    """
    active = round(people * level)
    chat, reactions = (round((1 + most) ** level) - 1 for most in (SCORE.chat_ceiling, SCORE.reactions_ceiling))
    return Signals(chat, reactions, people, active, active / people, 0.0, 0.0)


def hash_of(tenant: str, user: str) -> float:
    """Return a number in 0..1 that sticks to a user, spread evenly enough for a holdout.

    >>> hash_of("acme", "u-1") == hash_of("acme", "u-1")
    True
    """
    return Random(f"{tenant}/{user}").random()


def load(conninfo: str, day: Day) -> dict[str, int]:
    """Load a day with COPY into a migrated database and sum it up; return how many rows each table got."""
    counts: dict[str, int] = defaultdict(int)
    with psycopg.connect(conninfo) as connection:
        set_json_dumps(msgspec.json.encode, connection)
        waiting: dict[str, list[Record]] = defaultdict(list)
        held = 0
        for record in day.records():
            waiting[type_of(type(record))].append(record)
            held += 1
            if held == 100_000:
                _copy(connection, waiting, counts)
                held = 0
        _copy(connection, waiting, counts)
    refresh(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("ANALYZE")
    return dict(counts)


def _copy(connection: psycopg.Connection[Any], waiting: dict[str, list[Record]], counts: dict[str, int]) -> None:
    """Copy what waits, each type into its table, and forget it."""
    for kind, table in TABLES.items():
        records = waiting.pop(kind, [])
        if not records:
            continue
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
        statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(table.name), names)
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(STATEMENTS[kind].types)
            for record in records:
                copy.write_row(table.row(record))
        counts[table.name] += len(records)
    connection.commit()


def main() -> None:
    """Load a day from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.day", description="Load a generated day into a database.")
    parser.add_argument("conninfo", help="how to connect, as the owner; the database must be migrated")
    parser.add_argument("--sessions", type=int, default=Day().sessions)
    parser.add_argument("--tenants", type=int, default=Day().tenants)
    options = parser.parse_args()
    counts = load(options.conninfo, Day(options.sessions, options.tenants))
    console.print(json.dumps(counts, indent=2))


if __name__ == "__main__":
    main()
