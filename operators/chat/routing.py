"""Where an answer goes: nine rules, the first that holds decides, and every rule says what it needs.

The rules are a table, and one table only: deciding and explaining both walk it, so they can't differ.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from operators.chat.confidence import Judgement
from operators.chat.config import Limits, Policy, Routing
from operators.chat.question import Asked, at_least, settled
from schemas.inbound import ChatAnswer
from schemas.outbound import RuleCheck

Path = Literal["auto_answer", "clarify", "canonical", "escalate", "queue", "refuse"]
Letter = Literal["A", "B", "C", "D", "E", "F"]
HandoffReason = Literal["low_confidence", "requested", "novel", "complex", "no_context"]

PATHS: Final[dict[Letter, Path]] = {
    "A": "auto_answer",
    "B": "clarify",
    "C": "canonical",
    "D": "escalate",
    "E": "queue",
    "F": "refuse",
}

ALREADY: Final = "already_with_human"


class Used(msgspec.Struct, frozen=True, gc=False):
    """How often the user was escalated from this agent on the answer's day and in its week."""

    day: int = 0
    week: int = 0

    def spent(self, limits: Limits) -> Literal["", "limit_day", "limit_week"]:
        """Return which limit is used up, empty if none.

        >>> Used(10, 10).spent(Limits()), Used(9, 49).spent(Limits()), Used(0, 50).spent(Limits())
        ('limit_day', '', 'limit_week')
        """
        if self.day >= limits.a_day:
            return "limit_day"
        return "limit_week" if self.week >= limits.a_week else ""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What the rules look at. ``similarity``, ``novelty`` and ``confidence`` (the routing's own) are 0..1.

    ``canonical`` is None where no prepared answer was looked up, ``retrieved`` where the agent does not report it.
    """

    asked: Asked
    judged: Judgement
    canonical: float | None
    retrieved: int | None
    similarity: float
    novelty: float
    confidence: float
    tier: str | None
    used: Used
    handed_over: bool


class Route(msgspec.Struct, frozen=True, gc=False):
    """Where an answer goes, by which rule (1..9), and why; ``handoff`` is the reason of a hand-off, if it is one."""

    letter: Letter
    rule: int
    reason: str
    handoff: HandoffReason | None = None

    @property
    def path(self) -> Path:
        """The name of the letter."""
        return PATHS[self.letter]


def best_similarity(retrieval: Sequence[float] | None, canonical: float | None) -> float:
    """Return the best similarity of what was retrieved or prepared, 0 if nothing was.

    The decoder refuses what is no number in 0..1, and JSON can't carry NaN; a caller of another kind is held to 0..1.

    >>> best_similarity([0.2, 0.6], 0.4), best_similarity(None, None), best_similarity([float("nan"), 1.5], None)
    (0.6, 0.0, 1.0)
    """
    best = max(retrieval) if retrieval else 0.0
    if canonical is not None and canonical > best:
        best = canonical
    if not 0.0 <= best <= 1.0:
        usable = (min(1.0, value) for value in (*(retrieval or ()), canonical or 0.0) if value >= 0.0)
        best = max(usable, default=0.0)
    return best


def routing_confidence(similarity: float, retrieved: int, complexity: float, config: Routing) -> float:
    """Return how well an answer is founded, 0..1: similar sources, enough of them, and a simple question.

    >>> routing_confidence(0.9, 5, 0.1, Routing()), routing_confidence(0.1, 0, 0.6, Routing())
    (0.82, 0.0)
    """
    founded = at_least(retrieved, config.retrieved)
    score = config.similarity_weight * similarity + founded - config.complexity_weight * complexity
    return settled(min(1.0, max(0.0, score)))


def facts_of(
    answer: ChatAnswer, asked: Asked, judged: Judgement, policy: Policy, used: Used, *, handed_over: bool
) -> Facts:
    """Return what the rules look at; ``handed_over``: a person was called into this conversation and has not done."""
    canonical = answer.canonical.similarity if answer.canonical is not None else None
    similarity = best_similarity(answer.retrieval, canonical)
    retrieved = None if answer.retrieval is None else len(answer.retrieval)
    return Facts(
        asked,
        judged,
        canonical,
        retrieved,
        similarity,
        settled(1.0 - similarity),
        routing_confidence(similarity, retrieved or 0, asked.complexity, policy.routing),
        answer.user_tier,
        used,
        handed_over,
    )


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule: its name, when it holds, where it then sends the answer, and what it needs, in words."""

    name: str
    holds: Callable[[Facts, Routing], bool]
    route: Callable[[Facts, Routing, int], Route]
    needs: Callable[[Facts, Routing], str]


def _to(letter: Letter, reason: str) -> Callable[[Facts, Routing, int], Route]:
    def route(_facts: Facts, _config: Routing, rule: int) -> Route:
        return Route(letter, rule, reason)

    return route


def _to_person(facts: Facts, config: Routing, rule: int, reason: HandoffReason, refused: str = "") -> Route:
    """Escalate, unless a person is there already, something else forbids it (``refused``), or a limit is used up."""
    instead = ALREADY if facts.handed_over else refused or facts.used.spent(config.limits)
    return Route("F", rule, instead) if instead else Route("D", rule, reason, reason)


def _requested(facts: Facts, config: Routing, rule: int) -> Route:
    return _to_person(facts, config, rule, "requested")


def _unsure(facts: Facts, config: Routing, rule: int) -> Route:
    refused = "" if config.escalate else "escalation_off"
    if not refused and config.tiers is not None and facts.tier not in config.tiers:
        refused = "tier_not_allowed"
    return _to_person(facts, config, rule, "low_confidence", refused)


def _unfounded(facts: Facts, _config: Routing, rule: int) -> Route:
    return Route("F", rule, ALREADY) if facts.handed_over else Route("E", rule, "no_context", "no_context")


def _hard(facts: Facts, config: Routing, rule: int) -> Route:
    return _to_person(facts, config, rule, "novel" if facts.novelty >= config.novelty else "complex")


def _nothing_found(facts: Facts, config: Routing) -> bool:
    if facts.retrieved is None and not config.requires_retrieval:
        return False
    return not facts.retrieved or facts.similarity < config.least_similarity


def _quota(facts: Facts, config: Routing) -> str:
    used, limits = facts.used, config.limits
    there = ", already with a human" if facts.handed_over else ""
    return f"limits: {used.day} of {limits.a_day} today, {used.week} of {limits.a_week} this week{there}"


def _tier(facts: Facts, config: Routing) -> str:
    return "" if config.tiers is None else f", tier {facts.tier or 'none'} of {', '.join(config.tiers) or 'none'}"


_RULES: Final = (
    _Rule(
        "blocked topic",
        lambda f, _: bool(f.asked.blocked),
        _to("F", "blocked_topic"),
        lambda f, c: f"one of {len(c.blocked_topics)} blocked topics in the question: {f.asked.blocked or 'none'}",
    ),
    _Rule(
        "human requested",
        lambda f, _: bool(f.asked.wants_human),
        _requested,
        lambda f, c: f"a request for a human: {f.asked.wants_human or 'none'}; {_quota(f, c)}",
    ),
    _Rule(
        "greeting or vague",
        lambda f, c: f.asked.greeting or (c.clarify and f.asked.words < c.vague_below_words),
        lambda f, _, rule: Route("A", rule, "greeting") if f.asked.greeting else Route("B", rule, "vague_question"),
        lambda f, c: (
            f"a greeting or thanks: {'yes' if f.asked.greeting else 'no'}; or under {c.vague_below_words:g} words, "
            f"is {f.asked.words:g}{'' if c.clarify else ' (clarification is off)'}"
        ),
    ),
    _Rule(
        "canonical answer",
        lambda f, c: f.canonical is not None and f.canonical >= c.canonical,
        _to("C", "canonical"),
        lambda f, c: (
            f"a canonical answer of similarity {c.canonical:g}, is "
            f"{'none' if f.canonical is None else format(f.canonical, 'g')}"
        ),
    ),
    _Rule(
        "low confidence",
        lambda f, _: f.judged.action == "immediate_escalation",
        _unsure,
        lambda f, c: (
            f"the action immediate_escalation, is {f.judged.action}: {f.judged.why}; escalation "
            f"{'on' if c.escalate else 'off'}{_tier(f, c)}; {_quota(f, c)}"
        ),
    ),
    _Rule(
        "well founded",
        lambda f, c: f.confidence >= c.auto_answer,
        _to("A", "well_founded"),
        lambda f, c: f"routing confidence {c.auto_answer:g}, is {f.confidence:g}",
    ),
    _Rule(
        "nothing found",
        _nothing_found,
        _unfounded,
        lambda f, c: (
            f"nothing retrieved ({'not reported' if f.retrieved is None else f.retrieved}), or similarity under "
            f"{c.least_similarity:g}, is {f.similarity:g}"
        ),
    ),
    _Rule(
        "novel or complex",
        lambda f, c: (
            (f.novelty >= c.novelty or f.asked.complexity >= c.complexity) and f.similarity >= c.least_similarity
        ),
        _hard,
        lambda f, c: (
            f"novelty {c.novelty:g}, is {f.novelty:g}; or complexity {c.complexity:g}, is {f.asked.complexity:g}; with "
            f"similarity {c.least_similarity:g}, is {f.similarity:g}; {_quota(f, c)}"
        ),
    ),
    _Rule("otherwise", lambda *_: True, _to("A", "otherwise"), lambda *_: "nothing"),
)


def route(facts: Facts, config: Routing) -> Route:
    """Return where an answer goes: the first rule that holds."""
    for number, rule in enumerate(_RULES, 1):
        if rule.holds(facts, config):
            return rule.route(facts, config, number)
    raise AssertionError("the last rule always holds")


def explain(facts: Facts, config: Routing, decided: int) -> list[RuleCheck]:
    """Return for all nine rules whether they hold, and what each needs beside what there is; ``decided`` did so."""
    return [
        RuleCheck(number, rule.name, rule.holds(facts, config), number == decided, rule.needs(facts, config))
        for number, rule in enumerate(_RULES, 1)
    ]


def told(checks: Sequence[RuleCheck]) -> str:
    """Render the checks for a person, a line for each rule; ``>`` stands before the one that decided.

    >>> print(told([RuleCheck(9, "otherwise", True, True, "nothing")]))
    > 9 otherwise          yes  needs nothing
    """
    return "\n".join(
        f"{'>' if c.decided else ' '} {c.rule} {c.name:<18} {'yes' if c.holds else 'no ':<3}  needs {c.needs}"
        for c in checks
    )
