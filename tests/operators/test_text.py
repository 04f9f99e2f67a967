"""Words are those of UAX 29, by its rules written out; the quick ways of reading give what the general one gives."""

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from operators.chat import text
from operators.chat.text import Words, fold, long_words, question_marks, read

AHL = ("ALetter", "Hebrew_Letter")
CLASSES = (
    *AHL,
    *("Numeric", "Katakana", "ExtendNumLet", "MidLetter", "MidNum", "MidNumLet", "Single_Quote", "Double_Quote"),
    *("Extend", "Format", "ZWJ"),
)
UNSPACED = regex.compile(r"[\p{WB=Katakana}[\p{L}&&\p{WB=Other}]]", regex.V1)


def word_break(character: str) -> str:
    """Return a character's property Word_Break, as far as words need it."""
    return next((name for name in CLASSES if regex.match(rf"\p{{WB={name}}}", character)), "Other")


def joined(before: str, left: str, right: str, after: str) -> bool:
    """Tell by the rules WB5 to WB13b of UAX 29 whether there is no boundary between left and right."""
    letters = left in AHL and right in AHL
    letter_mid = ("MidLetter", "MidNumLet", "Single_Quote")
    number_mid = ("MidNum", "MidNumLet", "Single_Quote")
    word = (*AHL, "Numeric", "Katakana")
    return (
        letters
        or (left in AHL and right in letter_mid and after in AHL)
        or (before in AHL and left in letter_mid and right in AHL)
        or (left == "Hebrew_Letter" and (right == "Single_Quote" or (right == "Double_Quote" and after == left)))
        or (before == right == "Hebrew_Letter" and left == "Double_Quote")
        or (left in (*AHL, "Numeric") and right in (*AHL, "Numeric"))
        or (before == right == "Numeric" and left in number_mid)
        or (left == after == "Numeric" and right in number_mid)
        or (left == right == "Katakana")
        or (left in (*word, "ExtendNumLet") and right == "ExtendNumLet")
        or (left == "ExtendNumLet" and right in word)
    )


def words_naively(folded: str) -> float:
    """Count segments with a letter or digit by the rules as such; two letters of a script without spaces are one."""
    kinds = ["", *(k for k in map(word_break, folded) if k not in ("Extend", "Format", "ZWJ")), "", ""]  # WB4
    words, is_word = 0, False
    for at in range(1, len(kinds) - 1):
        if not joined(kinds[at - 2] if at > 1 else "", kinds[at - 1], kinds[at], kinds[at + 1]):
            words += is_word
            is_word = False
        is_word = is_word or kinds[at] in (*AHL, "Numeric")
    return words + is_word + len(UNSPACED.findall(folded)) / 2


SIGNS = st.sampled_from(
    [*"aZé5٣_.,:;'\"\u2019-?! \n", "ß", "א", "한", "ю", "क", "ि", "漢", "カ", "ก", "ั", "🎉", "\u0301", "\u200d"]
)


@given(st.lists(SIGNS, max_size=25).map("".join) | st.text(max_size=40))
def test_words_are_those_of_unicode(written: str) -> None:
    folded = fold(written)
    if regex.search(r"_[\p{WB=Katakana}]|[\p{WB=Katakana}][\p{WB=Extend}]*_", folded):
        return  # an underscore binds katakana to words; here katakana are letters that count by themselves
    assert read(written).count == words_naively(folded)


@given(st.text(st.characters(max_codepoint=127), max_size=60) | st.lists(SIGNS.filter(str.isascii)).map("".join))
def test_the_quick_way_for_ascii_is_the_way_for_every_script(written: str) -> None:
    folded = fold(written)
    assert text._ascii(folded) == text._any_script(folded)


def test_the_quick_way_for_plain_words_is_the_way_for_every_script() -> None:
    letters = [chr(code) for code in range(128, ord(text._SPACED)) if fold(chr(code)).isalpha()]
    assert len(letters) > 1_500
    for letter in letters:
        folded = fold(letter)
        if max(folded) < text._SPACED:
            assert text._any_script(folded) == Words([folded], 1), hex(ord(letter))


@pytest.mark.parametrize(
    "written, tokens, count",
    [
        ("Don\u2019t \u201cquote\u201d me\u2014ever\u2026", ["don't", "quote", "me", "ever"], 4),
        ("'tis the dogs' home", ["tis", "the", "dogs", "home"], 4),
        ("snake_case and _emphasis_", ["snake", "case", "and", "emphasis"], 3),
        ("1,234.56 or 3.14", ["1", "234", "56", "or", "3", "14"], 3),
        ("e.g. a:b", ["e", "g", "a", "b"], 2),
        ("end.Next", ["end", "next"], 1),
        ("end. Next", ["end", "next"], 2),
        ("med\u00adical", ["medical"], 1),
        ("\uff2d\uff41\uff39\uff42\uff45", ["maybe"], 1),
        ("Straße", ["strasse"], 1),
        ("हिन्दी में", ["हिन्दी", "में"], 2),
        ("값이 얼마예요", ["값이", "얼마예요"], 2),
        ("中文", ["中", "文"], 1),
        ("ไทย", ["ไ", "ท", "ย"], 1.5),
    ],
)
def test_words(written: str, tokens: list[str], count: float) -> None:
    assert read(written) == Words([fold(token) for token in tokens], count)


def test_question_marks_of_every_script() -> None:
    assert question_marks("a? b\uff1f c\u061f d\u037e e\u055e f") == 5
    assert question_marks("none;") == 0


def test_digits_are_no_letters_of_a_long_word() -> None:
    assert long_words(["abcdefghijk", "abcdefghij1", "ab'cdefghijk"], 10) == 2
