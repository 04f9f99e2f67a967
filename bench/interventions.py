"""Interventions decided and measured: cues a second of processor time, on one core, and what is remembered."""

import argparse
from random import Random

from bench import measure
from operators.interventions.config import InterventionConfig
from operators.interventions.content import read_interventions
from operators.interventions.cues import EFFECT_MS, Cue, CueBatch, Felt, Scored, covering_tick
from operators.interventions.policies import Policies
from operators.interventions.shard import Interventions
from schemas.outbound import Emotion

START = 1_767_225_600_000
BATCH = 500


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench interventions", description=__doc__)
    options.add_argument("--moments", type=int, default=50_000)
    options.add_argument("--repeats", type=int, default=3)
    return options


def run(options: argparse.Namespace) -> None:
    """Print the table."""
    rules, content = read_interventions()
    rows = []
    for name, users, policy in (
        ("most are fired: each user shows one emotion", options.moments, {}),
        ("most are suppressed: a hundred users", 100, {}),
        ("most wait for approval", options.moments, {"mode": "MANUAL"}),
    ):
        batches = made(options.moments, users, sorted(rules.emotions))
        config = InterventionConfig(policies=Policies(policy))
        shards: list[Interventions] = []

        def work() -> None:
            shard = Interventions(config, rules, content)  # noqa: B023 - called at once
            for batch in batches:  # noqa: B023 - called at once
                shard.take(batch)
            shards.append(shard)  # noqa: B023 - called at once

        cues = sum(len(batch.cues) for batch in batches)
        timing = measure.timed(work, options.repeats)
        packing = measure.timed(shards[-1].snapshot, options.repeats)
        size = len(shards[-1].snapshot())
        rows.append(
            [name, f"{cues / timing.cpu_s:,.0f}", f"{size / options.moments:,.0f}", f"{packing.cpu_s * 1000:,.0f}"]
        )
    measure.show(
        "Cues a second of processor time",
        ["cues", "cues/s", "bytes a moment", "snapshot, ms"],
        rows,
        "A cue: what one user shows at one moment, or a score that an effect waits for. The snapshot holds what the "
        "shard remembers at the end.",
    )


def made(count: int, users: int, emotions: list[str]) -> list[CueBatch]:
    """Return moments of users in a thousand sessions, 20 ms apart, and the scores that their effects wait for."""
    rng = Random(1)
    cues: list[tuple[int, int, Cue]] = []
    asked: set[tuple[str, int]] = set()
    for at in range(count):
        ts, user = START + at * 20, rng.randrange(users)
        session, about = f"session-{user % 1_000}", f"tenant-1/session-{user % 1_000}/{ts}"
        emotion = Emotion(
            id=f"{about}/emotion/event-{at}/rule",
            tenant_id="tenant-1",
            session_id=session,
            ts=ts,
            user_id=f"user-{user}",
            emotion=rng.choice(emotions),
            confidence=0.9,
            rule="rule",
            evidence=[f"event-{at}"],
        )
        cues.append((ts, at, Felt((emotion,), ts)))
        tick = covering_tick(ts)
        for when in (tick, tick + EFFECT_MS):
            if (session, when) not in asked:
                asked.add((session, when))
                due = when + 7_000
                cues.append((due, at, Scored("tenant-1", session, when, rng.random(), due)))
    cues.sort(key=lambda each: each[:2])
    parts = [cues[start : start + BATCH] for start in range(0, len(cues), BATCH)]
    return [CueBatch(0, part[-1][0], [cue for _, _, cue in part]) for part in parts]
