"""Texts come back from bytes as they went in, however they were put together."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.texts import TextColumn, Texts

LISTS = st.lists(st.text(max_size=40), max_size=20)


@given(st.lists(LISTS))
def test_texts_come_back_one_behind_another(lists: list[list[str]]) -> None:
    joined = Texts.joined([Texts.of(texts) for texts in lists])
    assert joined.unpacked() == [text for texts in lists for text in texts]
    assert joined.number == len(joined.unpacked())


@pytest.mark.parametrize("number", [0, 1, 15, 16, 65_535, 65_536])
def test_there_may_be_many(number: int) -> None:
    texts = [f"e\0{i}" for i in range(number)]
    assert Texts.joined([Texts.of(texts), Texts.of(["last"])]).unpacked() == [*texts, "last"]


@given(st.lists(st.sampled_from([0, 128, 256]), max_size=4), st.integers(0, 300), st.randoms(use_true_random=False))
def test_a_text_of_a_column_is_found_by_its_place(full: list[int], last: int, random: Random) -> None:
    texts = [f"e{i}" for i in range(sum(full) + last)]
    column, begin = TextColumn(), 0
    for count in (*full, last):
        column.extend(texts[begin : begin + count])
        begin += count
    assert len(column) == len(texts)
    assert column.packed().unpacked() == texts
    places = random.choices(range(len(texts)), k=5) if texts else []
    assert column.at(places) == [texts[place] for place in places]


def test_nothing_is_appended_behind_a_part_that_is_not_full() -> None:
    column = TextColumn(["a"])
    column.extend([])
    with pytest.raises(ValueError, match="multiple of 128"):
        column.extend(["b"])
