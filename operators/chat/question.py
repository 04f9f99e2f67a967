"""What a question is: how long and how complex, whether it greets, wants a human, or touches what needs care."""

from collections.abc import Sequence
from typing import Final

import msgspec

from operators.chat.config import Complexity, Policy
from operators.chat.lexicon import Lexicon, named
from operators.chat.phrases import Phrases
from operators.chat.text import Words, long_words, question_marks, read

_DOMAIN, _BLOCKED, _QUESTION = "domain ", "blocked", "question"
_WHOLE: Final = ("greetings", "thanks", "human_alone", "courtesies")
"""Groups that count where they make up the whole message."""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What was found in a question; ``words`` counts two letters of a script without spaces as one word.

    ``wants_human``, ``blocked`` and ``domain`` are what told it (empty: nothing did); ``complexity`` is 0..1.
    """

    words: float
    complexity: float
    is_question: bool
    greeting: bool
    wants_human: str
    blocked: str
    domain: str


def settled(value: float) -> float:
    """Return a computed share (0..1) to nine places, so that the last bit's noise keeps none from a threshold.

    >>> 0.1 + 0.7 >= 0.8, settled(0.1 + 0.7) >= 0.8
    (False, True)
    """
    return int(value * 1e9 + 0.5) / 1e9


def step(value: float, steps: Sequence[tuple[int, float]], otherwise: float = 0.0) -> float:
    """Return what the first step adds that the value is more than.

    >>> step(21, ((50, 0.3), (20, 0.2)), 0.1), step(20, ((50, 0.3), (20, 0.2)), 0.1)
    (0.2, 0.1)
    """
    for more_than, adds in steps:
        if value > more_than:
            return adds
    return otherwise


def at_least(value: int, steps: Sequence[tuple[int, float]]) -> float:
    """Return what the first step adds that the value reaches, 0 if none.

    >>> at_least(4, ((5, 0.3), (3, 0.2), (1, 0.1)))
    0.2
    """
    for least, adds in steps:
        if value >= least:
            return adds
    return 0.0


def complexity(words: float, marks: int, long: int, config: Complexity) -> float:
    """Return a question's complexity, 0..1, from its words, question marks and long words. Contract, section 7.

    >>> complexity(60, 2, 3, Complexity())
    0.7
    """
    of_words = step(words, config.words, config.few_words)
    return settled(min(1.0, of_words + step(marks, config.question_marks) + step(long, config.long_words)))


class Reader:
    """Reads questions by the phrase lists and by what a policy adds to them.

    Caches one lexicon for each set of a tenant's own words, as many as there are policies at most.
    """

    def __init__(self, phrases: Phrases) -> None:
        self._phrases = phrases
        self._lexicons: dict[tuple[tuple[str, ...], tuple[str, ...]], Lexicon] = {}

    def read(self, question: str, policy: Policy) -> Asked:
        """Return what a question is."""
        words = read(question)
        tokens = words.tokens
        marks = question_marks(question)
        config = policy.routing.complexity_of
        asks, covered, domain = marks > 0, 0, ""
        greetings, alone, human, blocked = [], [], [], []
        for hit in self._lexicon(policy).find(tokens):
            group = hit.group
            if group in _WHOLE:
                covered += hit.end - hit.start
                if group == "human_alone":
                    alone.append(hit)
                elif group != "courtesies":
                    greetings.append(hit)
            elif group == _QUESTION:
                asks = asks or hit.start == 0
            elif group == "human":
                human.append(hit)
            elif group == _BLOCKED:
                blocked.append(hit)
            elif group.startswith(_DOMAIN):
                domain = domain or group.removeprefix(_DOMAIN)
        whole = covered == len(tokens)
        return Asked(
            words.count,
            complexity(words.count, marks, long_words(tokens, config.long_word_letters), config),
            asks,
            whole and bool(greetings),
            named(human, tokens) or (named(alone, tokens) if whole else ""),
            named(blocked, tokens),
            domain,
        )

    def domain(self, words: Words, policy: Policy) -> str:
        """Return the first high-stakes domain that a text names, empty if none."""
        hits = self._lexicon(policy).find(words.tokens)
        return next((hit.group.removeprefix(_DOMAIN) for hit in hits if hit.group.startswith(_DOMAIN)), "")

    def _lexicon(self, policy: Policy) -> Lexicon:
        own = policy.high_stakes.words, policy.routing.blocked_topics
        if own not in self._lexicons:
            phrases = self._phrases
            domains = {**phrases.domains, **{word: (word,) for word in own[0]}}
            self._lexicons[own] = Lexicon(
                [
                    {"human": phrases.human, "not_human": phrases.not_human},
                    {name: getattr(phrases, name) for name in _WHOLE},
                    {_DOMAIN + name: _possessive(words) for name, words in domains.items()},
                    {_BLOCKED: _possessive(own[1])},
                    {_QUESTION: phrases.question_words},
                ]
            )
        return self._lexicons[own]


def _possessive(words: Sequence[str]) -> list[str]:
    """Return phrases beside their genitives: "the medication's side effects" is about medication."""
    return [*words, *(f"{word}'s" for word in words)]
