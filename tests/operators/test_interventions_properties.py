"""Interventions hold against a model that remembers everything, and against cuts, restarts and other sessions."""

from collections import defaultdict
from itertools import groupby
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from operators.interventions.cues import EFFECT_MS, Cue, CueBatch, Seen, covering_tick
from operators.interventions.shard import Interventions
from schemas.outbound import Emotion, Record
from tests.operators.cues import (
    CONTENT,
    RULES,
    anomaly,
    approval,
    emotion,
    felt,
    interventions,
    outcome,
    over,
    run,
    scored,
    shard,
)

EMOTIONS = list(RULES.emotions)
RANKS = ["LOW", "MEDIUM", "HIGH", "CRITICAL"]


class Model:
    """What the governor does, from the whole past of each recipient anew; without approvals and budgets."""

    def __init__(self) -> None:
        self.done: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)

    def moment(self, emotions: tuple[Emotion, ...]) -> list[tuple[str, str, str | None]]:
        """Return what is decided on one moment."""
        who = (emotions[0].session_id, emotions[0].user_id)
        past = self.done[who]
        found: list[list[Any]] = []
        for one in emotions:
            rows = RULES.emotions[one.emotion]
            free = [row for row in rows if not self.cools(past, row.intervention, one.ts)]
            row = (free or rows)[0]
            recent = [sum(one.ts - at < span for at, _ in past) >= most for span, most in ((30_000, 1), (300_000, 10))]
            if one.confidence < row.least:
                reason = "low_confidence"
            elif not free:
                reason = "cooldown"
            elif any(recent) and row.priority != "CRITICAL":
                reason = "rate_limit"
            else:
                reason = None
            found.append([row, one, reason])
        ready = [each for each in found if each[2] is None]
        ready.sort(key=lambda each: (-RANKS.index(each[0].priority), -each[1].confidence, each[0].place))
        for each in ready[1:]:
            each[2] = "outranked"
        if ready:
            past.append((ready[0][1].ts, ready[0][0].intervention))
        return [(row.intervention, "suppressed" if reason else "fired", reason) for row, _, reason in found]

    def cools(self, past: list[tuple[int, str]], intervention: str, ts: int) -> bool:
        """Return whether an intervention cools down, after all that was done."""
        cooldown = RULES.cooldowns[intervention]
        return any(name == intervention and (cooldown is None or ts - at < cooldown) for at, name in past)


@st.composite
def moments(draw: st.DrawFn) -> list[tuple[Emotion, ...]]:
    ts, out = 10_000, []
    for at in range(draw(st.integers(1, 60))):
        ts += draw(st.sampled_from([0, 1, 1_500, 15_000, 29_999, 30_000, 60_000, 300_000, 600_000, -2_000]))
        user = draw(st.sampled_from(["anna", "bert"]))
        names = draw(st.lists(st.sampled_from(EMOTIONS), min_size=1, max_size=3))
        sure = st.sampled_from([0.5, 0.66, 0.7, 0.85, 0.9])
        out.append(tuple(emotion(n, draw(sure), max(ts, 0), user, rule=f"{at}-{i}") for i, n in enumerate(names)))
    return out


@settings(deadline=None)
@given(moments())
def test_cooldowns_rate_limits_and_ranks_are_the_models(found: list[tuple[Emotion, ...]]) -> None:
    of, model = shard(), Model()
    for emotions in found:
        told = interventions(run(of, [felt(*emotions)]))
        assert [(each.intervention, each.status, each.reason) for each in told] == model.moment(emotions)


POLICIES: list[dict[str, Any]] = [
    {},
    {"mode": "MANUAL"},
    {"mode": "SEMI_AUTO", "holdout": 0.3},
    {"rate_limits": [], "quiet_hours": {"from": "00:10", "to": "00:20"}},
]


def a_session(name: str, random: Random) -> list[Cue]:
    """Return a session's cues in an order that a partition may have."""
    at: list[tuple[int, int, Cue]] = []
    ticks: set[int] = set()
    ts = random.randrange(10_000)
    for step in range(random.randrange(1, 25)):
        ts += random.choice([0, 1, 3_000, 20_000, 31_000, 200_000])
        what = random.random()
        if what < 0.6:
            user = random.choice(["anna", "bert"])
            several = range(random.choice([1, 1, 2]))
            sure = [random.choice([0.66, 0.8, 0.95]) for _ in several]
            names = [random.choice(EMOTIONS) for _ in several]
            cue = felt(*(emotion(names[i], sure[i], ts, user, name, rule=f"{step}-{i}") for i in several))
            ticks |= {covering_tick(ts), covering_tick(ts) + EFFECT_MS}
            at.append((ts, step, cue))
        else:
            tick = covering_tick(ts)
            kind = random.choice(list(RULES.anomalies))
            state = random.choice(["raised", "raised", "resolved"])
            at.append((tick, step, anomaly(kind, tick, random.choice(["WARNING", "CRITICAL"]), state, name)))  # type: ignore[arg-type] # names of types
            ticks |= {tick, tick + EFFECT_MS}
    # What was decided alone tells which ids there are to answer to.
    alone = interventions(run(shard(random.choice(POLICIES)), [cue for _, _, cue in sorted(at, key=_place)]))
    for step, one in enumerate(alone):
        when = one.ts + random.choice([0, 500, 40_000, 29 * 60_000, 31 * 60_000])
        if random.random() < 0.6:
            at.append((when, 100 + step, approval(one.id, when, random.random() < 0.7, f"a{step}", name)))
            ticks |= {covering_tick(when), covering_tick(when) + EFFECT_MS}
        if random.random() < 0.6:
            what_came = random.choice(["shown", "clicked", "converted"])
            at.append((when + 1_000, 200 + step, outcome(one.id, what_came, when + 1_000, f"o{step}", name)))
    end = max(when for when, _, _ in at) + 20_000
    at.append((end, 999, over(end, name)))
    for tick in sorted(ticks):
        score = random.choice([0.0, 0.4, 0.55]) if tick <= end else None
        at += [(tick + 7_000, 998, scored(tick, score, name))]
    return [cue for _, _, cue in sorted(at, key=_place)]


def _place(each: tuple[int, int, Cue]) -> tuple[int, bool, int]:
    return each[0], not isinstance(each[2], Seen), each[1]


def sorted_by_id(told: list[Record]) -> list[Record]:
    return sorted(told, key=lambda each: (each.id, getattr(each, "revision", 0), repr(each)))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(POLICIES))
def test_cuts_restarts_and_other_sessions_change_nothing(seed: int, policy: dict[str, Any]) -> None:
    random = Random(seed)
    sessions = [a_session(f"s{i}", random) for i in range(4)]
    clock = 10 * 3_600_000
    alone = [record for each in sessions for record in run(shard(policy), each, clock)]

    merged = sorted((cue for each in sessions for cue in each), key=lambda cue: cue.stream_time)
    whole = run(shard(policy), merged, clock)
    assert sorted_by_id(whole) == sorted_by_id(alone)

    cut: list[Record] = []
    of = shard(policy)
    for _, part in groupby(merged, key=lambda _: random.random() < 0.5):
        cues = list(part)
        cut += of.take(CueBatch(0, cues[-1].stream_time, cues))
        if random.random() < 0.3:
            of = Interventions.restore(of.config, RULES, CONTENT, of.snapshot(4), 4)
    assert sorted_by_id(cut + of.advance(clock)) == sorted_by_id(whole)

    spread: list[Record] = []
    of = shard(policy)
    queues = [list(each) for each in sessions]
    while any(queues):
        which = random.choice([i for i, each in enumerate(queues) if each])
        take = random.randrange(1, 6)
        spread += of.take(CueBatch(which, queues[which][:take][-1].stream_time, queues[which][:take]))
        del queues[which][:take]
    for which in range(len(sessions)):
        spread += of.advance(clock, which)
    assert sorted_by_id(spread) == sorted_by_id(alone)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.sampled_from(POLICIES))
def test_a_day_later_nothing_is_left(seed: int, policy: dict[str, Any]) -> None:
    of = shard(policy)
    run(of, a_session("s", Random(seed)))
    run(of, [], 50 * 3_600_000)
    fresh = shard(policy)
    run(fresh, [], 50 * 3_600_000)
    assert of.snapshot() == fresh.snapshot()
