"""How sure an answer is: three signals, their weighted mean, a level, and what has to be done about it."""

import re
from typing import Final, Literal

import msgspec

from operators.chat.config import Hedging, Levels, Policy, Quality, Thresholds
from operators.chat.lexicon import Hit, Lexicon, named
from operators.chat.markers import Marked, strip_markers
from operators.chat.phrases import Phrases
from operators.chat.question import Asked, Reader, settled
from operators.chat.text import fold, read
from schemas.outbound import ConfidenceSignal

Action = Literal["immediate_escalation", "suggest_review", "send_with_disclaimer", "continue"]
Level = Literal["HIGH", "MEDIUM", "LOW", "VERY_LOW"]

# A number begins with a digit; a year is one of four digits that is neither a price nor the whole part of a fraction.
_NUMBER: Final = re.compile(r"\d(?<![^\W_]\d)")
_YEAR: Final = re.compile(r"\d{4}(?<![^\W_]\d{4})(?<![$€£¥]\d{4})(?![^\W_]|[.,]\d)")


_UNHEDGED: Final = ConfidenceSignal("hedging", 1.0, "no hedging")


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """An answer's confidence (0..1), what it is the mean of, and what follows.

    ``why`` says in words what decided on the action. ``text`` is the answer without its markers, with the disclaimer
    if the action is to send it with one.
    """

    confidence: float
    level: Level
    signals: tuple[ConfidenceSignal, ...]
    action: Action
    why: str
    text: str
    high_stakes: str


def hedging_score(hedges: int, assertive: int, config: Hedging) -> float:
    """Return 1 for an answer without hedging, 0 for one full of it. Contract, section 7.

    >>> hedging_score(0, 0, Hedging()), hedging_score(2, 1, Hedging())
    (1.0, 0.583333333)
    """
    unsure = min(hedges / config.full, 1.0) - config.assertive * min(assertive / config.assertive_full, 1.0)
    return settled(1.0 - max(0.0, unsure))


def length_score(question_words: float, answer_words: float, config: Quality) -> float:
    """Return how well an answer's length fits its question.

    >>> length_score(11, 14, Quality()), length_score(11, 15, Quality()), length_score(3, 501, Quality())
    (0.3, 0.9, 0.6)
    """
    if question_words > config.long_question and answer_words < config.short_answer:
        return config.too_short
    return config.too_long if answer_words > config.long_answer else config.good_length


def specificity_score(details: int, vague: int, config: Quality) -> float:
    """Return how specific an answer is: ``details`` are the kinds of number, month, year and weekday that it names.

    >>> specificity_score(1, 3, Quality()), specificity_score(0, 9, Quality()), specificity_score(4, 0, Quality())
    (0.4, 0.2, 1.0)
    """
    score = config.specificity + config.specific_detail * details - config.vague_word * vague
    return settled(min(1.0, max(config.least_specificity, score)))


def level_of(confidence: float, config: Levels) -> Level:
    """Return the level of a confidence.

    >>> [level_of(value, Levels()) for value in (0.8, 0.79, 0.6, 0.4, 0.39)]
    ['HIGH', 'MEDIUM', 'MEDIUM', 'LOW', 'VERY_LOW']
    """
    if confidence >= config.high:
        return "HIGH"
    if confidence >= config.medium:
        return "MEDIUM"
    return "LOW" if confidence >= config.low else "VERY_LOW"


class Judge:
    """Judges answers by the phrase lists; what it returns depends on its arguments alone."""

    def __init__(self, phrases: Phrases, reader: Reader) -> None:
        self._reader = reader
        self._disclaimers = phrases.disclaimers
        self._lexicon = Lexicon(
            [
                {"hedging": phrases.hedging, "assertive": phrases.assertive},
                {"vague": phrases.vague},
                {"deflections": phrases.deflections},
                {"depends": phrases.depends},
                {"month": phrases.months},
                {"month?": phrases.months_beside_number},
                {"weekday": phrases.weekdays},
            ]
        )

    def judge(self, asked: Asked, answer: str, self_assessment: float | None, policy: Policy) -> Judgement:
        """Judge one answer to a question that was read before.

        ``self_assessment`` (0..1) wins over a marker in the answer; the marker is stripped all the same. An answer of
        nothing but white space and markers has confidence 0, whatever the agent says of it.
        """
        marked = strip_markers(answer, policy.stated)
        words = read(marked.text)
        if not words.tokens and not fold(marked.text).strip():
            nothing = ConfidenceSignal("response_quality", 0.0, "the answer is empty")
            return self._act(asked, marked.text, 0.0, (nothing,), (None, 0), asked.domain, policy)
        found: dict[str, list[Hit]] = {}
        for hit in self._lexicon.find(words.tokens):
            found.setdefault(hit.group, []).append(hit)
        hedges = len(found.get("hedging", ()))
        assessed, assessment = _assessment(self_assessment, marked)
        weights = policy.weights
        hedging = _hedging(found, words.tokens, policy.hedging)
        quality = _quality(asked, marked.text, words.count, found, words.tokens, policy.quality)
        signals: tuple[ConfidenceSignal, ...] = (hedging, quality)
        total = weights.hedging * hedging.score + weights.response_quality * quality.score
        weight = weights.hedging + weights.response_quality
        if assessment is not None and assessed is not None:
            total += weights.self_assessment * assessed
            weight += weights.self_assessment
            signals = (assessment, *signals)
        domain = asked.domain
        if not domain and policy.high_stakes.in_answer:
            domain = self._reader.domain(words, policy)
        return self._act(asked, marked.text, settled(total / weight), signals, (assessed, hedges), domain, policy)

    def _act(
        self,
        asked: Asked,
        text: str,
        confidence: float,
        signals: tuple[ConfidenceSignal, ...],
        risk: tuple[float | None, int],
        domain: str,
        policy: Policy,
    ) -> Judgement:
        """Decide on the action, the first that holds; ``risk`` is self-assessment and hedges, for high stakes."""
        level = level_of(confidence, policy.levels)
        mode = "strict" if domain else policy.mode
        row: Thresholds = getattr(policy.modes, mode)
        assessed, hedges = risk
        stakes = policy.high_stakes
        action: Action = "immediate_escalation"
        if confidence < row.immediate:
            why = f"confidence {confidence:.2f} below {row.immediate:g} ({mode})"
        elif domain and assessed is not None and assessed <= stakes.self_assessment:
            why = f"high stakes ({domain}), self-assessment {assessed:g} of at most {stakes.self_assessment:g}"
        elif domain and hedges >= stakes.hedges:
            why = f"high stakes ({domain}), {hedges} hedging"
        elif asked.wants_human:
            why = "requested"
        elif confidence < row.review:
            action, why = "suggest_review", f"confidence {confidence:.2f} below {row.review:g} ({mode})"
        elif policy.disclaimers.on and level != "HIGH":
            action, why = "send_with_disclaimer", f"confidence {confidence:.2f} is {level}"
            text = self._disclaimed(text, policy)
        else:
            action, why = "continue", f"confidence {confidence:.2f} is {level}"
        return Judgement(confidence, level, signals, action, why, text, domain)

    def _disclaimed(self, text: str, policy: Policy) -> str:
        """Append the tenant's disclaimer, or else that of the language, or else that of English."""
        of_language = self._disclaimers.get(policy.disclaimers.language) or self._disclaimers.get("en", "")
        disclaimer = policy.disclaimers.text or of_language
        return f"{text}\n\n{disclaimer}" if disclaimer else text


def _assessment(field: float | None, marked: Marked) -> tuple[float | None, ConfidenceSignal | None]:
    if field is not None:
        return field, ConfidenceSignal("self_assessment", field, "the agent's self-assessment")
    if marked.confidence is not None:
        return marked.confidence, ConfidenceSignal("self_assessment", marked.confidence, "a marker in the answer")
    return None, None


def _hedging(found: dict[str, list[Hit]], tokens: list[str], config: Hedging) -> ConfidenceSignal:
    hedging, assertive = found.get("hedging", []), found.get("assertive", [])
    if not hedging and not assertive:
        return _UNHEDGED
    reason = f"{len(hedging)} hedging ({named(hedging, tokens)})" if hedging else "no hedging"
    if assertive:
        reason += f", {len(assertive)} assertive ({named(assertive, tokens)})"
    return ConfidenceSignal("hedging", hedging_score(len(hedging), len(assertive), config), reason)


def _quality(
    asked: Asked, text: str, count: float, found: dict[str, list[Hit]], tokens: list[str], config: Quality
) -> ConfidenceSignal:
    length = length_score(asked.words, count, config)
    if "deflections" in found:
        complete, completeness = config.deflection, "a deflection"
    elif asked.is_question and "depends" in found:
        complete, completeness = config.depends, "it depends"
    else:
        complete, completeness = config.complete, "complete"
    details = []
    number = _NUMBER.search(text)
    if number is not None:
        details.append("number")
        years = _YEAR.findall(text, number.start())
        if years and any(config.first_year <= int(year) <= config.last_year for year in years):
            details.append("year")
    if "month" in found or ("month?" in found and _beside_number(found["month?"], tokens)):
        details.append("month")
    if "weekday" in found:
        details.append("weekday")
    vague = len(found.get("vague", ()))
    specific = specificity_score(len(details), vague, config)
    reason = (
        f"length {length} ({count:g} words), {completeness} {complete}, "
        f"specificity {specific} ({', '.join(details) or 'no detail'}, {vague} vague)"
    )
    return ConfidenceSignal("response_quality", settled((length + complete + specific) / 3), reason)


def _beside_number(hits: list[Hit], tokens: list[str]) -> bool:
    """Tell whether a word such as "May" stands beside a number, and so is a month."""
    beside = [tokens[max(0, hit.start - 1) : hit.start] + tokens[hit.end : hit.end + 1] for hit in hits]
    return any(token[0].isdecimal() for neighbours in beside for token in neighbours)
