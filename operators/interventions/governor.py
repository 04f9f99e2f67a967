"""Whether an intervention may be done: the reasons why not, in their order, each with its numbers in words.

Pure functions of the policy, of what the recipient has had, and of the moment. ``docs/interventions.md`` has the order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from operators.interventions.policies import LONGEST_LIMIT_MS, MOST_TIMES, Policy
from operators.interventions.rules import RANK, Row, Rules
from operators.interventions.state import Recipient
from schemas.outbound import Anomaly, Emotion

CRITICAL: Final = "CRITICAL"
HOUR_MS: Final = 3_600_000
NOBODY: Final = Recipient({}, [])
"""Someone for whom nothing was done yet."""


@dataclass(slots=True)
class Candidate:
    """An intervention that a trigger asks for. ``cooling`` says for how long it is not done again, if it is not.

    ``reason`` and ``why`` say what hinders it: the first reason that holds; None while nothing does.
    """

    trigger: Emotion | Anomaly
    row: Row
    confidence: float
    cooling: str | None = None
    reason: str | None = None
    why: str = ""

    @property
    def critical(self) -> bool:
        """Whether quiet hours and rate limits don't hold for it."""
        return self.row.priority == CRITICAL


def cooling(recipient: Recipient, done: Sequence[str], row: Row, rules: Rules, ts: int) -> str | None:
    """Return why a row is cooling down for a recipient, None if it isn't.

    ``done`` is what was done already about the anomaly's episode and is done once.

    >>> rules = Rules({"poll": 120_000}, {}, {})
    >>> cooling(Recipient({"poll": 0}, []), [], Row("poll", "HIGH", 0), rules, 119_999)
    'done 120 s ago, again after 120 s'
    >>> cooling(Recipient({"poll": 0}, []), [], Row("poll", "HIGH", 0), rules, 120_000)
    """
    name = row.intervention
    if row.once and name in done:
        return "once an episode, and it was done in this one"
    began = recipient.cooled.get(name)
    if began is None:
        return None
    cooldown = rules.cooldowns[name]
    if cooldown is None:
        return "once a session, and it was done in this one"
    if ts - began < cooldown:
        return f"done {max(0, ts - began) / 1000:.0f} s ago, again after {cooldown / 1000:g} s"
    return None


def choose(
    trigger: Emotion | Anomaly, rows: Sequence[Row], recipient: Recipient, done: Sequence[str], rules: Rules
) -> Candidate:
    """Return the first row that is not cooling down; the first of all if all are."""
    first: str | None = None
    for row in rows:
        why = cooling(recipient, done, row, rules, trigger.ts)
        if why is None:
            return Candidate(trigger, row, _confidence(trigger, row))
        first = first or why
    return Candidate(trigger, rows[0], _confidence(trigger, rows[0]), first)


def _confidence(trigger: Emotion | Anomaly, row: Row) -> float:
    if row.confidence is not None:
        return row.confidence
    return trigger.confidence if isinstance(trigger, Emotion) else 1.0


def least(row: Row, policy: Policy) -> float:
    """Return the confidence that an intervention takes: the tenant's, or else the row's."""
    return policy.thresholds.get(row.intervention, row.least)


def hinder(candidate: Candidate, policy: Policy, recipient: Recipient, spent: Mapping[int, int]) -> None:  # noqa: PLR0911  # one exit for each reason
    """Write down the first reason why a candidate is not done, if there is one; ``spent`` is by hour."""
    row, ts = candidate.row, candidate.trigger.ts
    if not policy.enabled:
        return _refuse(candidate, "disabled", "the tenant's interventions are switched off")
    if policy.allowed != "all" and row.intervention not in policy.allowed:
        return _refuse(candidate, "disabled", "not among the tenant's allowed interventions")
    needed = least(row, policy)
    if candidate.confidence < needed:
        return _refuse(candidate, "low_confidence", f"confidence {candidate.confidence:.3g} is below {needed:.3g}")
    quiet = policy.quiet_hours
    if quiet != "off" and not candidate.critical and quiet.hold(ts):
        return _refuse(candidate, "quiet_hours", f"quiet from {quiet.start} to {quiet.end}, {quiet.zone}")
    if candidate.cooling is not None:
        return _refuse(candidate, "cooldown", candidate.cooling)
    if not candidate.critical and (why := limited(recipient, policy, ts)) is not None:
        return _refuse(candidate, "rate_limit", why)
    if policy.budget_per_hour != "off" and (fired := spent.get(ts // HOUR_MS, 0)) >= policy.budget_per_hour:
        return _refuse(candidate, "budget", f"{fired} fired in this hour, at most {policy.budget_per_hour}")
    return None


def _refuse(candidate: Candidate, reason: str, why: str) -> None:
    candidate.reason, candidate.why = reason, why


def limited(recipient: Recipient, policy: Policy, ts: int) -> str | None:
    """Return which rate limit a recipient has reached, None if none."""
    if not recipient.counted:
        return None
    for limit in policy.rate_limits:
        since = ts - round(limit.within_s * 1000)
        had = sum(at > since for at in recipient.counted)
        if had >= limit.times:
            return f"{had} within {limit.within_s:g} s, at most {limit.times}"
    return None


def outrank(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return which of the candidates of one moment goes, and tell the others that are not hindered why they don't.

    The highest priority goes; of the same, the more confident, then the first in the table, then the first told.
    """
    free = [candidate for candidate in candidates if candidate.reason is None]
    if not free:
        return None
    best = max(free, key=lambda each: (RANK[each.row.priority], each.confidence, -each.row.place))
    for other in free:
        if other is not best:
            why = f"{best.row.intervention} goes first: {best.row.priority}, confidence {best.confidence:.3g}"
            _refuse(other, "outranked", why)
    return best


def needs_approval(candidate: Candidate, policy: Policy) -> str | None:
    """Return why a person must approve a candidate, None if nobody must."""
    if policy.mode == "MANUAL":
        return "mode MANUAL: a person approves"
    if policy.mode == "SEMI_AUTO" and candidate.confidence < policy.semi_auto:
        return f"mode SEMI_AUTO: a person approves confidence {candidate.confidence:.3g}, below {policy.semi_auto:.3g}"
    return None


@lru_cache(maxsize=65_536)
def lot(tenant: str, recipient: str) -> float:
    """Return a recipient's place in 0..1: below the share of the holdout, nothing is shown to him. It never changes.

    >>> 0 <= lot("acme", "anna") < 1, lot("acme", "anna") == lot("other", "anna")
    (True, False)
    """
    digest = blake2b(f"{tenant}\0{recipient}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def count(recipient: Recipient, ts: int) -> None:
    """Count what a recipient gets, for the rate limits; forget what none of them can look back to."""
    kept = [at for at in recipient.counted if at > ts - LONGEST_LIMIT_MS]
    kept.append(ts)
    recipient.counted = sorted(kept)[-MOST_TIMES:]
