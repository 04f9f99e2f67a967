"""Texts come back from bytes as they went in, however they were put together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.texts import Texts

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
