"""The numbers of judging and routing, with the contract's defaults (section 7), and how tenants and agents change them.

Every one can be set for each tenant and for each of its agents: ``Policies`` lays what an agent sets over what its
tenant sets over these defaults. Ranges are part of the types; what is out of range is told with its key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from schemas.errors import ConfigError

Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
AtLeastOne = Annotated[int, Meta(ge=1, le=1_000_000)]
Mode = Literal["lenient", "standard", "strict"]

AGENTS: Final = "agents"
"""The key under which a tenant's entry holds those of its agents."""


def _require(right: bool, expected: str) -> None:
    if not right:
        raise ValueError(f"expected {expected}")


@dataclass(frozen=True)
class Weights:
    """What each signal weighs in the mean; only those present count."""

    self_assessment: Share = 0.5
    hedging: Share = 0.25
    response_quality: Share = 0.15

    def __post_init__(self) -> None:
        _require(self.hedging + self.response_quality > 0, "hedging or response_quality above 0: they are always there")


@dataclass(frozen=True)
class Stated:
    """What the words of a marker ``[confidence: WORD]`` are worth."""

    high: Share = 0.9
    medium: Share = 0.6
    low: Share = 0.3
    very_low: Share = 0.1


@dataclass(frozen=True)
class Hedging:
    """``full`` hedging phrases make an answer unsure; ``assertive_full`` assertive ones give ``assertive`` back."""

    full: AtLeastOne = 3
    assertive_full: AtLeastOne = 2
    assertive: Share = 0.5


@dataclass(frozen=True)
class Quality:
    """The three parts of response quality: length, completeness and specificity, each 0..1. Lengths are words."""

    long_question: Count = 10
    short_answer: Count = 15
    long_answer: Count = 500
    too_short: Share = 0.3
    too_long: Share = 0.6
    good_length: Share = 0.9
    deflection: Share = 0.2
    depends: Share = 0.5
    complete: Share = 0.8
    specificity: Share = 0.5
    specific_detail: Share = 0.2
    vague_word: Share = 0.1
    least_specificity: Share = 0.2
    first_year: Count = 1900
    last_year: Count = 2099

    def __post_init__(self) -> None:
        _require(self.least_specificity <= self.specificity, "least_specificity of at most specificity")


@dataclass(frozen=True)
class Levels:
    """The least confidence of each level; below ``low`` it is VERY_LOW."""

    high: Share = 0.8
    medium: Share = 0.6
    low: Share = 0.4

    def __post_init__(self) -> None:
        _require(self.high > self.medium > self.low, "high > medium > low")


@dataclass(frozen=True)
class Thresholds:
    """A mode's row: confidence ``immediate`` and above is not escalated, ``review`` and above needs no review."""

    immediate: Share
    review: Share

    def __post_init__(self) -> None:
        _require(self.immediate <= self.review, "immediate of at most review")


@dataclass(frozen=True)
class Modes:
    """The three rows; ``strict`` holds in high-stakes domains whatever the mode."""

    lenient: Thresholds = Thresholds(0.20, 0.40)
    standard: Thresholds = Thresholds(0.30, 0.60)
    strict: Thresholds = Thresholds(0.50, 0.75)


@dataclass(frozen=True)
class HighStakes:
    """When a question is of a high-stakes domain, and what is enough there to withhold the answer.

    ``words`` are the tenant's own, beside those of the phrase files. ``in_answer``: a domain's word in the answer alone
    counts too; off, because what an agent appends to every answer ("no legal advice") would make all of them so.
    """

    words: tuple[str, ...] = ()
    in_answer: bool = False
    self_assessment: Share = 0.3
    hedges: AtLeastOne = 1


@dataclass(frozen=True)
class Disclaimers:
    """Whether answers of MEDIUM confidence and below go on with a disclaimer, and which (empty: the language's)."""

    on: bool = True
    language: str = "en"
    text: Annotated[str, Meta(max_length=2000)] = ""


@dataclass(frozen=True)
class Complexity:
    """What each step adds to a question's complexity: pairs of (more than, adds), the highest first."""

    words: tuple[tuple[Count, Share], ...] = ((100, 0.4), (50, 0.3), (20, 0.2))
    few_words: Share = 0.1
    question_marks: tuple[tuple[Count, Share], ...] = ((2, 0.3), (1, 0.2))
    long_words: tuple[tuple[Count, Share], ...] = ((5, 0.3), (2, 0.2))
    long_word_letters: AtLeastOne = 10

    def __post_init__(self) -> None:
        for name in ("words", "question_marks", "long_words"):
            steps = [step for step, _ in getattr(self, name)]
            _require(steps == sorted(set(steps), reverse=True), f"{name} with the highest step first")


@dataclass(frozen=True)
class Limits:
    """How often one user may be escalated from one agent, by days and weeks (from Monday) of ``zone``."""

    a_day: Count = 10
    a_week: Count = 50
    zone: str = "UTC"

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (KeyError, ValueError, OSError) as error:  # as zoneinfo tells unknown, malformed and unreadable names
            raise ValueError(f'expected a time zone such as "Europe/Berlin" in zone, got "{self.zone}"') from error


@dataclass(frozen=True)
class Routing:
    """The numbers of the nine rules; ``operators.chat.routing`` says what each rule does with them.

    ``tiers``: those that may be escalated for low confidence; None: all, answers without a tier among them.
    ``requires_retrieval``: an agent that never reports what it retrieved is judged as one that found nothing.
    """

    blocked_topics: tuple[str, ...] = ()
    clarify: bool = True
    vague_below_words: Annotated[float, Meta(ge=0, le=1_000)] = 3
    canonical: Share = 0.85
    escalate: bool = True
    tiers: tuple[str, ...] | None = None
    auto_answer: Share = 0.75
    similarity_weight: Share = 0.6
    complexity_weight: Share = 0.2
    retrieved: tuple[tuple[AtLeastOne, Share], ...] = ((5, 0.3), (3, 0.2), (1, 0.1))
    requires_retrieval: bool = True
    least_similarity: Share = 0.20
    novelty: Share = 0.7
    complexity: Share = 0.6
    complexity_of: Complexity = field(default_factory=Complexity)
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        steps = [step for step, _ in self.retrieved]
        _require(steps == sorted(set(steps), reverse=True), "retrieved with the highest step first")


@dataclass(frozen=True)
class Policy:
    """All that judging and routing one agent's answers depends on."""

    mode: Mode = "standard"
    weights: Weights = field(default_factory=Weights)
    stated: Stated = field(default_factory=Stated)
    hedging: Hedging = field(default_factory=Hedging)
    quality: Quality = field(default_factory=Quality)
    levels: Levels = field(default_factory=Levels)
    modes: Modes = field(default_factory=Modes)
    high_stakes: HighStakes = field(default_factory=HighStakes)
    disclaimers: Disclaimers = field(default_factory=Disclaimers)
    routing: Routing = field(default_factory=Routing)


@dataclass(frozen=True)
class Wanted:
    """Shares of all answers that are wanted to be escalated, and to be escalated or reviewed.

    Calibration says which thresholds would do that; it changes none.
    """

    escalated: Share = 0.05
    reviewed: Share = 0.20


T = TypeVar("T")


def overlay(base: T, changes: Mapping[str, Any], where: str) -> T:
    """Return ``base`` (a dataclass) with the given keys changed, tables within tables.

    Raises:
        ConfigError: keys are unknown or values do not fit: all of them; ``where`` stands before the key.

    >>> overlay(Levels(), {"high": 0.9}, "acme.levels")
    Levels(high=0.9, medium=0.6, low=0.4)
    """
    known = {f.name: f for f in fields(base)}  # type: ignore[arg-type]  # a dataclass, which a TypeVar can't say
    values: dict[str, Any] = {}
    faults: list[str] = []
    for key, value in changes.items():
        name = f"{where}.{key}"
        if key not in known:
            faults.append(f"{name}: unknown; expected one of {', '.join(known)}")
        elif not is_dataclass(now := getattr(base, key)):
            try:
                values[key] = msgspec.convert(value, known[key].type)
            except msgspec.ValidationError as error:
                faults.append(_misfit(error, name))
        elif not isinstance(value, Mapping):
            faults.append(f"{name}: expected a table, got {value!r}")
        else:
            try:
                values[key] = overlay(now, value, name)
            except ConfigError as error:
                faults += str(error).splitlines()
    if faults:
        raise ConfigError("\n".join(faults))
    checked = {f: getattr(base, f) for f in known} | values
    nested = {f: v for f, v in checked.items() if is_dataclass(v)}
    try:
        # Each value fits by now; converting asks the table's own rule about all of them.
        converted = msgspec.convert({f: msgspec.to_builtins(v) for f, v in checked.items()}, type(base))
        return replace(converted, **nested)  # type: ignore[type-var]  # as above
    except msgspec.ValidationError as error:
        raise ConfigError(_misfit(error, where)) from error


def _misfit(error: msgspec.ValidationError, where: str) -> str:
    what, _, path = str(error).partition(" - at `$")
    return f"{where}{path.strip('`')}: {what}"


def _tried(base: T, changes: Mapping[str, Any], where: str, faults: list[str]) -> T:
    """Return the overlay; what is below it where that has faults, which are added to the others."""
    try:
        return overlay(base, changes, where)
    except ConfigError as error:
        faults += str(error).splitlines()
        return base


class PolicySource(Protocol):
    """Where the policies of agents are asked for; what it says may change."""

    def of(self, tenant: str, agent: str) -> Policy:
        """Return the policy of an agent."""


class Policies:
    """Which policy holds for an agent of a tenant.

    ``overrides`` are by tenant; each holds keys of ``Policy`` and, under ``agents``, the same by agent. An agent that
    is not named has its tenant's policy, a tenant that is not named the default. All are worked out here, so a lookup
    is two dictionary reads and nothing grows with what the events name. ``where`` gives a tenant's key, for faults.

    >>> policies = Policies(overrides={"acme": {"mode": "lenient", "agents": {"billing": {"mode": "strict"}}}})
    >>> [policies.of("acme", agent).mode for agent in ("billing", "unknown")], policies.of("other", "billing").mode
    (['strict', 'lenient'], 'standard')

    Raises:
        ConfigError: all faults of all entries.
    """

    def __init__(
        self,
        default: Policy | None = None,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        where: Callable[[str], str] = str,
    ) -> None:
        self.default = default or Policy()
        self._tenants: dict[str, Policy] = {}
        self._agents: dict[tuple[str, str], Policy] = {}
        faults: list[str] = []
        for tenant, entry in (overrides or {}).items():
            own = {key: value for key, value in entry.items() if key != AGENTS}
            policy = self._tenants[tenant] = _tried(self.default, own, where(tenant), faults)
            agents = entry.get(AGENTS, {})
            if not isinstance(agents, Mapping) or not all(isinstance(changes, Mapping) for changes in agents.values()):
                faults.append(f"{where(tenant)}.{AGENTS}: expected a table for each agent, got {agents!r}")
                continue
            for agent, changes in agents.items():
                named = f"{where(tenant)}.{AGENTS}.{agent}"
                self._agents[tenant, agent] = _tried(policy, changes, named, faults)
        if faults:
            raise ConfigError("\n".join(faults))

    def of(self, tenant: str, agent: str) -> Policy:
        """Return the policy of an agent."""
        return self._agents.get((tenant, agent)) or self._tenants.get(tenant, self.default)
