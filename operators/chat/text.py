"""Words of any script: what the phrase lists are matched against, and how long a text is.

Words are those of Unicode's default word boundaries (UAX 29): runs of letters, digits and marks, in which an
apostrophe, a full stop, a colon or an underscore between two letters, and a full stop or comma between two digits, are
part of the word. Scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese ...) have no such runs; UAX 29
leaves their words to dictionaries. Here each of their letters is a token, so that a phrase is found inside of a
sentence, and two letters count as one word, so that 6 letters are as long as 3 words.

Every pattern is one pass without nested choice: repeats are possessive, lookarounds look at one run, and what is
repeated never shares a character with what follows it. So reading takes time linear in the text.
"""

import re
import unicodedata
from itertools import groupby
from typing import Final

import msgspec
import regex

LETTERS_PER_WORD: Final = 2
"""Letters of a script without spaces that count as one word: 6 letters are 3 words (contract, section 7)."""

QUESTION_MARKS: Final = "?\uff1f\u061f\u037e\u055e\u1367\u2e2e\u1945\u2cfa\u2cfb\ua60f\ua6f7"
"""Question marks of the scripts that have one: Latin, full width, Arabic, Greek, Armenian, Ethiopic, reversed, Limbu,
Coptic (two), Vai, Bamum."""

_TYPOGRAPHIC: Final = (("\u2019", "'"), ("\u02bc", "'"), ("\u2018", " "), ("\u201c", " "), ("\u201d", " "))
_DASHES: Final = (("\u2013", " "), ("\u2014", " "), ("\u2026", " "), ("\u00a0", " "), ("\u2022", " "))
_FOLDED: Final = _TYPOGRAPHIC + _DASHES
"""What makes most texts other than ASCII: apostrophes, and signs that end a word wherever they stand."""

# ASCII, where a letter is [a-z], a digit [0-9], and the joints are those of UAX 29, WB6, WB7, WB11 to WB13b. Each
# pattern begins with the signs that it looks for, so that the others are skipped at the speed of a search for bytes.
_TABLE: Final = bytes(
    ord(chr(code).lower()) if chr(code).isalnum() or code == ord("'") else ord(" ") for code in range(128)
) + bytes(128)
_QUOTE: Final = re.compile(r"'(?:(?![a-z])|(?<![a-z]'))")
_JOINT: Final = re.compile(
    r"[.:,;'_](?:(?<=[a-z][.:])(?=[a-z])|(?<=[0-9][.,;'])(?=[0-9])|(?<=[a-z0-9]_)_*+(?=[a-z0-9]))"
)

_SIGNS: Final = ".,!?:;\"'()[]{}<>*#/\\|&%+=-\u00ab\u00bb\u201e\u00a1\u00bf"
_SPACED: Final = "\u0e00"
"""Below this code point every letter is one of a script with spaces."""

# The same for every script, by the properties of UAX 29. Marks (Extend) belong to the letter before them.
_LETTER: Final = r"\p{WB=ALetter}\p{WB=Hebrew_Letter}"
_MARKS: Final = r"[\p{WB=Extend}\p{WB=Format}]*+"
_TOKEN: Final = regex.compile(
    rf"[{_LETTER}\p{{WB=Numeric}}][{_LETTER}\p{{WB=Numeric}}\p{{WB=Extend}}\p{{WB=Format}}]*+"
    rf"(?:(?<=[{_LETTER}]{_MARKS})'{_MARKS}[{_LETTER}]"
    rf"[{_LETTER}\p{{WB=Numeric}}\p{{WB=Extend}}\p{{WB=Format}}]*+)*+"
    rf"|[\p{{WB=Katakana}}[\p{{L}}&&\p{{WB=Other}}]]{_MARKS}",
    regex.V1,
)
_JOINT_ANY: Final = regex.compile(
    rf"[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}](?<=[{_LETTER}]{_MARKS}.){_MARKS}(?=[{_LETTER}])"
    rf"|[\p{{WB=MidNum}}\p{{WB=MidNumLet}}'](?<=\p{{WB=Numeric}}{_MARKS}.){_MARKS}(?=\p{{WB=Numeric}})"
    rf"|\"(?<=\p{{WB=Hebrew_Letter}}{_MARKS}.){_MARKS}(?=\p{{WB=Hebrew_Letter}})"
    rf"|\p{{WB=ExtendNumLet}}(?<=[{_LETTER}\p{{WB=Numeric}}]{_MARKS}.)"
    rf"[\p{{WB=ExtendNumLet}}\p{{WB=Extend}}\p{{WB=Format}}]*+(?=[{_LETTER}\p{{WB=Numeric}}])",
    regex.V1 | regex.DOTALL,
)
_UNSPACED: Final = regex.compile(r"[\p{WB=Katakana}[\p{L}&&\p{WB=Other}]]", regex.V1)
_IGNORABLE: Final = regex.compile(r"\p{Default_Ignorable_Code_Point}++", regex.V1)


class Words(msgspec.Struct, frozen=True, gc=False):
    """A text as tokens, folded for matching, and its length in words (2 letters of a script without spaces are one)."""

    tokens: list[str]
    count: float


def fold(text: str) -> str:
    r"""Return a text as it is compared: without regard to case, width, ligatures and invisible characters.

    This is Unicode's NFKC_Casefold, up to the order of its steps.

    >>> fold("\uff2daybe the \ufb01ne STRASSE"), fold("straße")
    ('maybe the fine strasse', 'strasse')
    """
    if text.isascii():
        return text.lower()
    for typographic, plain in _FOLDED:
        text = text.replace(typographic, plain)
    if text.isascii():
        return text.lower()
    text = _IGNORABLE.sub("", text)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def read(text: str) -> Words:
    """Cut a text into tokens and count its words; for tokens, a joint other than an apostrophe ends a word.

    >>> read("Don't pay 3.50 at example.com!")
    Words(tokens=["don't", 'pay', '3', '50', 'at', 'example', 'com'], count=5)
    >>> read("値段は").count
    1.5
    """
    text = fold(text)
    if text.isascii():
        return _ascii(text)
    tokens: list[str] = []
    count = 0.0
    # No word goes across white space, so plain words can be told apart without looking at every character.
    for ascii_only, chunks in groupby(text.split(), str.isascii):
        if ascii_only:
            part = _ascii(" ".join(chunks))
            tokens += part.tokens
            count += part.count
            continue
        for chunk in chunks:
            word = chunk.strip(_SIGNS)
            if word.isalpha() and max(word) < _SPACED:
                tokens.append(word)
                count += 1
            else:
                part = _any_script(word)
                tokens += part.tokens
                count += part.count
    return Words(tokens, count)


def _ascii(text: str) -> Words:
    joints = len(_JOINT.findall(text))
    if "'" in text:
        text = _QUOTE.sub(" ", text)
    tokens = text.encode("ascii").translate(_TABLE).decode("ascii").split()
    return Words(tokens, len(tokens) - joints)


def _any_script(text: str) -> Words:
    tokens: list[str] = _TOKEN.findall(text)
    unspaced = sum(map(_is_unspaced, tokens))
    return Words(tokens, len(tokens) - unspaced - len(_JOINT_ANY.findall(text)) + unspaced / LETTERS_PER_WORD)


def _is_unspaced(token: str) -> bool:
    return token[0] >= _SPACED and _UNSPACED.match(token) is not None


def long_words(tokens: list[str], letters: int) -> int:
    """Return how many tokens have more than so many letters.

    >>> long_words(["incomprehensibilities", "word", "x1234567890123"], 10)
    1
    """
    long = [token for token in tokens if len(token) > letters]
    return sum(sum(map(str.isalpha, token)) > letters for token in long) if long else 0


def question_marks(text: str) -> int:
    r"""Return how many question marks of any script a text holds.

    >>> question_marks("Why?? なぜ\uff1f")
    3
    """
    return text.count("?") if text.isascii() else sum(map(text.count, QUESTION_MARKS))
