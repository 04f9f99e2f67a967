"""Reads and strips what an agent writes into its answer about its own confidence: ``[confidence: high]``."""

import re
from typing import Final

import msgspec

from operators.chat.config import Stated

_MARKER: Final = re.compile(
    r"\[\s*+confidence\s*+:([^\[\]()]{0,32}+)\]|\(\s*+confidence\s*+:([^\[\]()]{0,32}+)\)", re.IGNORECASE
)
"""A bracketed note of at most 32 characters.

Linear: a match can only begin at a bracket, what follows is possessive and holds no further bracket up to its end, so
no character is looked at from two beginnings.
"""
_PERCENT: Final = re.compile(r"(\d++(?:[.,]\d++)?+)\s*+%")


class Marked(msgspec.Struct, frozen=True, gc=False):
    """An answer without its markers, and what the last readable one said (0..1; None: none could be read)."""

    text: str
    confidence: float | None
    unreadable: int = 0


def strip_markers(answer: str, stated: Stated) -> Marked:
    """Read and take out every marker, in any case and position; ``stated`` says what each word is worth.

    ``[confidence: WORD]`` with a word of ``stated``, ``(confidence: N%)`` with 0 to 100, either kind in either bracket.
    The last one that can be read counts. One that can't (no number, 900 %) is stripped too, since such a note is never
    meant for the person who asked, and otherwise counts for nothing: to take 900 % for 100 would reward a broken agent.

    >>> strip_markers("Yes [confidence: LOW], it is. (confidence: 85%)", Stated())
    Marked(text='Yes, it is.', confidence=0.85, unreadable=0)
    >>> strip_markers("No. (confidence: 900%)", Stated())
    Marked(text='No.', confidence=None, unreadable=1)
    """
    if "[" not in answer and "(" not in answer:
        return Marked(answer, None)
    parts: list[str] = []
    confidence, unreadable, end = None, 0, 0
    for match in _MARKER.finditer(answer):
        said = _value((match[1] or match[2] or "").strip(), stated)
        if said is None:
            unreadable += 1
        else:
            confidence = said
        parts.append(answer[end : match.start()].rstrip(" \t"))
        end = match.end()
    if not parts:
        return Marked(answer, None)
    return Marked("".join([*parts, answer[end:]]).strip(), confidence, unreadable)


def _value(said: str, stated: Stated) -> float | None:
    percent = _PERCENT.fullmatch(said)
    if percent:
        number = float(percent[1].replace(",", "."))
        return number / 100 if number <= 100 else None
    words = {"high": stated.high, "medium": stated.medium, "low": stated.low, "very_low": stated.very_low}
    return words.get("_".join(said.lower().replace("-", " ").replace("_", " ").split()))
