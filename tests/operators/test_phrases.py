"""Phrase files are checked and told where they are wrong; phrases are found as the plain way finds them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.chat.lexicon import Hit, Lexicon
from operators.chat.phrases import FOLDER, Phrases, phrase_files, read_phrases
from operators.chat.text import read
from schemas.errors import ConfigError

GOOD = 'language = "xx"\ndisclaimer = "Careful."\n'


def write(folder: Path, body: str, name: str = "phrases.toml") -> Path:
    file = folder / name
    file.write_text(body, encoding="utf-8")
    return file


def test_what_comes_with_attune() -> None:
    phrases = read_phrases()
    assert len(phrases.hedging) >= 32
    assert len(phrases.assertive) >= 9
    assert len(phrases.vague) >= 7
    assert all((phrases.deflections, phrases.human, phrases.greetings, phrases.thanks, phrases.disclaimers["en"]))
    assert list(phrases.domains) == (
        ["medical", "legal", "financial", "health", "diagnosis", "medication", "lawsuit", "investment", "emergency"]
    )


def test_every_phrase_is_found_where_it_stands_alone() -> None:
    phrases = read_phrases()
    for name in ("hedging", "assertive", "vague", "deflections", "depends", "human", "not_human", "greetings"):
        lexicon = Lexicon([{name: getattr(phrases, name)}])
        for phrase in getattr(phrases, name):
            tokens = read(f"Well: {phrase.upper()}!").tokens
            assert lexicon.find(tokens) == [Hit(name, 1, len(tokens))], phrase


def test_another_language_is_another_file(tmp_path: Path) -> None:
    write(tmp_path, (FOLDER / "phrases.toml").read_text("utf-8"))
    write(
        tmp_path,
        'language = "de"\ndisclaimer = "Ohne Gewähr."\nhedging = ["vielleicht"]\n[domains]\nmedical = ["medizinisch"]',
        "phrases.de.toml",
    )
    english, both = read_phrases(), read_phrases(phrase_files(tmp_path))
    assert both.hedging == (*english.hedging, "vielleicht")
    assert both.domains["medical"] == ("medical", "medizinisch")
    assert both.disclaimers == {**english.disclaimers, "de": "Ohne Gewähr."}


@pytest.mark.parametrize(
    "body, said",
    [
        ("hedging = [", "expected TOML in UTF-8: "),
        ('language = "xx"', "the whole file: Object missing required field `disclaimer`"),
        (GOOD + "hedging = 3", "hedging: Expected `array`, got `int`"),
        (GOOD + 'hedging = ["maybe", 3]', "hedging[1]: Expected `str`, got `int`"),
        (GOOD + 'hedgin = ["maybe"]', "the whole file: Object contains unknown field `hedgin`"),
        (GOOD + 'hedging = ["maybe", "..."]', 'hedging[1]: expected a phrase with a letter or digit, got "..."'),
        (GOOD + 'hedging = ["maybe", "MAYBE!"]', 'hedging[1]: "MAYBE!" is there already, as "maybe"'),
        (GOOD + 'vague = [""]', "vague[0]: Expected `str` of length >= 1"),
        (GOOD + 'hedging = ["sure"]\nassertive = ["Sure"]', 'assertive: "Sure" stands in hedging too'),
        (GOOD + 'human = ["agent"]\nnot_human = ["agent"]', 'not_human: "agent" stands in human too'),
        (GOOD + '[domains]\nmedical = ["?"]', "domains.medical[0]: expected a phrase with a letter or digit"),
        ('language = "English"\ndisclaimer = "x"', "language: Expected `str` matching regex"),
        (GOOD + 'disclaimer = "again"', "expected TOML in UTF-8: "),
    ],
)
def test_a_wrong_file_is_told_with_its_key(tmp_path: Path, body: str, said: str) -> None:
    file = write(tmp_path, body)
    with pytest.raises(ConfigError) as raised:
        read_phrases([file])
    assert str(raised.value).startswith(f"{file}: {said}")


def test_all_faults_of_all_files_are_told_together(tmp_path: Path) -> None:
    one = write(tmp_path, GOOD + 'vague = ["?", "!"]')
    two = write(tmp_path, GOOD, "phrases.xx.toml")
    absent = tmp_path / "absent.toml"
    with pytest.raises(ConfigError) as raised:
        read_phrases([one, two, absent])
    faults = str(raised.value).splitlines()
    assert [fault.split(": ")[1] for fault in faults] == ["vague[0]", "vague[1]", "language", "can't be read"]


def test_lists_of_two_languages_may_not_contradict(tmp_path: Path) -> None:
    one = write(tmp_path, GOOD + 'hedging = ["gift"]')
    two = write(tmp_path, 'language = "yy"\ndisclaimer = "x"\nassertive = ["gift"]', "phrases.yy.toml")
    with pytest.raises(ConfigError, match='together: assertive: "gift" stands in hedging too'):
        read_phrases([one, two])


def find_naively(lane: dict[str, list[str]], tokens: list[str]) -> list[Hit]:
    """Find the longest phrase at each token in turn, going on behind it."""
    hits, at = [], 0
    while at < len(tokens):
        here = [
            Hit(group, at, at + len(words))
            for group, phrases in lane.items()
            for words in (phrase.split() for phrase in phrases)
            if tokens[at : at + len(words)] == words
        ]
        longest = max(here, key=lambda hit: hit.end, default=None)
        if longest:
            hits.append(longest)
        at = longest.end if longest else at + 1
    return hits


PHRASE = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(" ".join)


@given(
    st.lists(st.lists(PHRASE, max_size=5, unique=True), min_size=1, max_size=3),
    st.lists(st.sampled_from("abcd"), max_size=12),
    st.integers(1, 20),
)
def test_phrases_are_found_as_the_plain_way_finds_them(lanes: list[list[str]], unit: list[str], times: int) -> None:
    tokens = unit * times
    groups = [{f"{lane} even": phrases[::2], f"{lane} odd": phrases[1::2]} for lane, phrases in enumerate(lanes)]
    found = Lexicon(groups).find(tokens)
    for lane in groups:
        assert [hit for hit in found if hit.group in lane] == find_naively(lane, tokens)
    assert [hit.start for hit in found] == sorted(hit.start for hit in found)


def test_no_phrases_at_all() -> None:
    assert Lexicon([]).find(["a"]) == []
    assert read_phrases([]) == Phrases()
