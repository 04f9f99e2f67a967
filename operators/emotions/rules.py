"""Reads the rules of emotions, checked and typed: data that a marketer may edit is told where it is wrong."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from operators.emotions.patterns import TELEMETRY, Patterns
from operators.interventions.reading import Key, Tell, checked, misfits, parsed, table, text_of
from schemas.errors import ConfigError
from schemas.inbound import Ratio

FILE: Final = Path(__file__).parents[1] / "rules" / "emotions.toml"
ANYTHING: Final = "anything"
"""What stands for every event of a user, telemetry or not, where a rule says ``unless``."""

MAX_COUNT: Final = 20
MAX_RULES: Final = 200

About = Literal["price", "cart", "leaving"]
Seconds = Annotated[float, Meta(ge=0, le=3600)]


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A rule as it is written."""

    name: Key
    emotion: Key
    confidence: Ratio
    on: str | list[str]
    count: Annotated[int, Meta(ge=1, le=MAX_COUNT)] = 1
    within_s: Seconds | None = None
    gap_s: Seconds | None = None
    gap_px: Annotated[float, Meta(ge=0)] | None = None
    once_per_burst: bool = False
    distinct: str | None = None
    same_pages: bool = False
    after: str | list[str] = msgspec.field(default_factory=list)
    after_lasts: bool = False
    unless: str | list[str] = msgspec.field(default_factory=list)
    for_s: Seconds | None = None
    cooldown_s: Seconds = 5.0
    about: list[About] = msgspec.field(default_factory=list)


class _Settled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: str
    about: list[About]


class _Young(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    about: list[About]
    silent_s: Seconds
    unsure_s: Seconds
    lowered_by: Ratio
    not_below: Ratio


class _File(msgspec.Struct, frozen=True):
    events: dict[str, Any]
    rules: list[_Rule]
    settled: _Settled | None = None
    young: _Young | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as the matcher takes it; times in ms, patterns as bits, 0 where there are none.

    ``number`` is its place in the file. ``after`` are the patterns that must have come before, in order; they are used
    up by what they lead to, unless ``after_lasts``. ``unless_anything``: every event of the user stops the wait.
    ``until_settled``: it is over after an order. ``cautious``: a young session is treated with care.
    """

    number: int
    name: str
    emotion: str
    confidence: float
    on: int
    count: int
    within_ms: int
    gap_ms: int
    gap_px: float
    once_per_burst: bool
    distinct: str
    same_pages: bool
    after: tuple[int, ...]
    after_lasts: bool
    unless: int
    unless_anything: bool
    for_ms: int
    cooldown_ms: int
    until_settled: bool
    cautious: bool


@dataclass(frozen=True, slots=True)
class Young:
    """How long (ms) a young session shows nothing of some rules, and then less of them."""

    silent_ms: int = 0
    unsure_ms: int = 0
    lowered_by: float = 0.0
    not_below: float = 0.0

    def confidence(self, of_rule: float, age_ms: int) -> float | None:
        """Return the confidence at an age of the session; None: not to be shown.

        >>> young = Young(5_000, 15_000, 0.2, 0.4)
        >>> [young.confidence(c, age) for c, age in ((0.92, 4_999), (0.92, 5_000), (0.5, 5_000), (0.92, 15_000))]
        [None, 0.72, 0.4, 0.92]
        """
        if age_ms < self.silent_ms:
            return None
        if age_ms < self.unsure_ms:
            return min(of_rule, max(self.not_below, round(of_rule - self.lowered_by, 9)))
        return of_rule


@dataclass(frozen=True)
class Rules:
    """All rules in the order of the file, and the patterns that they ask for; ``digest`` tells files apart."""

    patterns: Patterns
    rules: tuple[Rule, ...]
    settled_by: int
    young: Young
    digest: str

    @property
    def emotions(self) -> frozenset[str]:
        """The emotions that the rules can show."""
        return frozenset(rule.emotion for rule in self.rules)


def read_rules(file: Path = FILE) -> Rules:
    """Read a rules file.

    Raises:
        ConfigError: it can't be read or does not fit; all faults, each with file, rule and key.
    """
    faults: list[str] = []
    text = text_of(file, faults.append)
    tree = None if text is None else parsed(text, faults.append)
    if text is None or tree is None:
        raise ConfigError("\n".join(f"{file}: {fault}" for fault in faults))
    found = _shaped(tree, faults.append)
    patterns = Patterns(found.events)
    faults += [*patterns.faults, *_faults(found, patterns)]
    if faults:
        raise ConfigError("\n".join(f"{file}: {fault}" for fault in faults))
    settled, young = found.settled, found.young
    return Rules(
        patterns,
        tuple(_rule(number, rule, found, patterns) for number, rule in enumerate(found.rules)),
        patterns.bits[settled.by] if settled else 0,
        Young(_ms(young.silent_s), _ms(young.unsure_s), young.lowered_by, young.not_below) if young else Young(),
        hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
    )


def _shaped(tree: Mapping[str, Any], tell: Tell) -> _File:
    """Return what has the right shape, and tell what is wrong with the rest: no fault hides those of other parts."""
    known = _File.__struct_fields__
    for key in tree:
        if key not in known:
            tell(f"{key}: unknown; expected one of {', '.join(known)}")
    for key in ("events", "rules"):
        if key not in tree:
            tell(f"{key}: missing")
    events = table(tree.get("events", {}), "events", tell)
    for fault in misfits(events, dict[Key, Any], "events"):
        tell(fault)
    rules: list[_Rule] = []
    written = tree.get("rules", [])
    for fault in misfits(written, Annotated[list[Any], Meta(max_length=MAX_RULES)], "rules"):
        tell(fault)
    for at, each in enumerate(written if isinstance(written, list) else []):
        where = f"rules.{_called(each, at)}"
        rule = checked(_Rule, table(each, where, tell), where, tell)
        if rule is not None:
            rules.append(rule)
    settled = checked(_Settled, table(tree["settled"], "settled", tell), "settled", tell) if "settled" in tree else None
    young = checked(_Young, table(tree["young"], "young", tell), "young", tell) if "young" in tree else None
    return _File(dict(events), rules, settled, young)


def _called(rule: Any, at: int) -> str:
    name = rule.get("name") if isinstance(rule, Mapping) else None
    return name if isinstance(name, str) and name else str(at)


def _names(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _faults(found: _File, patterns: Patterns) -> Iterator[str]:
    """Yield what the types can't say: patterns and fields that are not there, and keys that need each other."""
    seen: set[str] = set()
    if ANYTHING in found.events:
        yield f"events.{ANYTHING}: this name stands for every event; choose another"
    if found.settled and found.settled.by not in patterns.bits:
        yield f"settled.by: no pattern {found.settled.by!r} under events"
    for rule in found.rules:
        where = f"rules.{rule.name}"
        if rule.name in seen:
            yield f"{where}.name: a rule of this name is there already"
        seen.add(rule.name)
        for key, known in (("on", patterns.bits), ("after", patterns.bits), ("unless", {*patterns.bits, ANYTHING})):
            for name in _names(getattr(rule, key)):
                if name not in known:
                    yield f"{where}.{key}: no pattern {name!r} under events"
        if not _names(rule.on):
            yield f"{where}.on: expected a pattern"
        yield from _misfits(rule, where)
        for name in _names(rule.on) if rule.distinct is not None and _is_field(rule.distinct) else ():
            kinds = patterns.types_of(name) if name in patterns.bits else []
            without = [str(s.__struct_config__.tag) for s in kinds if rule.distinct not in s.__struct_fields__]
            if without:
                yield f"{where}.distinct: {name} may be {', '.join(without)}, which has no field {rule.distinct!r}"


def _misfits(rule: _Rule, where: str) -> Iterator[str]:
    needs: tuple[tuple[str, bool, str], ...] = (
        ("count", rule.count > 1 and rule.within_s is None and rule.gap_s is None, "within_s or gap_s beside it"),
        ("gap_s", rule.gap_s is not None and rule.count == 1, "a count of 2 and more beside it"),
        ("gap_px", rule.gap_px is not None and rule.gap_s is None, "gap_s beside it"),
        ("once_per_burst", rule.once_per_burst and rule.gap_s is None, "gap_s beside it"),
        ("distinct", rule.distinct is not None and rule.count == 1, "a count of 2 and more beside it"),
        ("same_pages", rule.same_pages and rule.count == 1, "a count of 2 and more beside it"),
        ("after", bool(rule.after) and rule.within_s is None, "within_s beside it"),
        ("after", bool(rule.after) and rule.count > 1, "a count of 1 beside it"),
        ("after_lasts", rule.after_lasts and not rule.after, "after beside it"),
        ("within_s", rule.within_s is not None and rule.count == 1 and not rule.after, "count or after beside it"),
        ("unless", bool(rule.unless) and not rule.for_s, "for_s beside it, more than 0"),
        ("for_s", rule.for_s is not None and not rule.unless, "unless beside it"),
        ("distinct", rule.distinct is not None and not _is_field(rule.distinct), "a field of the telemetry"),
    )
    for key, wrong, expected in needs:
        if wrong:
            yield f"{where}.{key}: expected {expected}"


def _is_field(name: str) -> bool:
    return any(name in struct.__struct_fields__ for struct in TELEMETRY.values())


def _rule(number: int, rule: _Rule, found: _File, patterns: Patterns) -> Rule:
    def bits(names: str | list[str]) -> int:
        mask = 0
        for name in _names(names):
            mask |= patterns.bits.get(name, 0)
        return mask

    about = set(rule.about)
    return Rule(
        number=number,
        name=rule.name,
        emotion=rule.emotion,
        confidence=rule.confidence,
        on=bits(rule.on),
        count=rule.count,
        within_ms=_ms(rule.within_s or 0),
        gap_ms=_ms(rule.gap_s or 0),
        gap_px=rule.gap_px if rule.gap_px is not None else float("inf"),
        once_per_burst=rule.once_per_burst,
        distinct=rule.distinct or "",
        same_pages=rule.same_pages,
        after=tuple(bits(name) for name in _names(rule.after)),
        after_lasts=rule.after_lasts,
        unless=bits(rule.unless),
        unless_anything=ANYTHING in _names(rule.unless),
        for_ms=_ms(rule.for_s or 0),
        cooldown_ms=_ms(rule.cooldown_s),
        until_settled=bool(found.settled and about & set(found.settled.about)),
        cautious=bool(found.young and about & set(found.young.about)),
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
