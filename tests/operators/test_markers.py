"""Markers of confidence are read and stripped, in any case and position, as the plain way does it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.chat.config import Stated
from operators.chat.markers import strip_markers


@pytest.mark.parametrize(
    "answer, text, confidence",
    [
        ("Yes. [confidence: high]", "Yes.", 0.9),
        ("Yes. [confidence: medium]", "Yes.", 0.6),
        ("Yes. [confidence: low]", "Yes.", 0.3),
        ("Yes. [confidence: very_low]", "Yes.", 0.1),
        ("Yes. [ CONFIDENCE :  Very Low ]", "Yes.", 0.1),
        ("Yes. (confidence: 85%)", "Yes.", 0.85),
        ("Yes. (Confidence: 85.5 %)", "Yes.", 0.855),
        ("Yes. (confidence: 0%)", "Yes.", 0.0),
        ("Yes. (confidence: 100%)", "Yes.", 1.0),
        ("[confidence: low] Yes.", "Yes.", 0.3),
        ("Yes [confidence: low], it is.", "Yes, it is.", 0.3),
        ("[confidence: low] Yes. (confidence: 70%)", "Yes.", 0.7),
        ("(confidence: 70%) Yes. [confidence: low]", "Yes.", 0.3),
        ("[confidence: low] Yes. (confidence: 900%)", "Yes.", 0.3),
        ("Yes. (confidence: 100.1%)", "Yes.", None),
        ("Yes. (confidence: %)", "Yes.", None),
        ("Yes. (confidence: -5%)", "Yes.", None),
        ("Yes. [confidence: ]", "Yes.", None),
        ("Yes. [confidence: so-so]", "Yes.", None),
        ("Have confidence: it works (really).", "Have confidence: it works (really).", None),
        ("See [the page] (here).", "See [the page] (here).", None),
        ("Nested [confidence: [confidence: low]", "Nested [confidence:", 0.3),
        ("Mixed [confidence: low)", "Mixed [confidence: low)", None),
        ("Arabic digits (confidence: ٨٥%)", "Arabic digits", 0.85),
    ],
)
def test_markers(answer: str, text: str, confidence: float | None) -> None:
    marked = strip_markers(answer, Stated())
    assert marked.text == text
    assert marked.confidence == (None if confidence is None else pytest.approx(confidence))


def strip_naively(answer: str) -> tuple[str, list[str]]:
    """Strip markers one bracket at a time, straight from what a marker is."""
    parts, inside, rest = [], [], answer
    at = 0
    while at < len(rest):
        end = {"[": "]", "(": ")"}.get(rest[at])
        close = min((i for i in (rest.find(c, at + 1) for c in "[]()") if i > 0), default=-1)
        if end and close > 0 and rest[close] == end:
            head, colon, note = rest[at + 1 : close].partition(":")
            if colon and head.strip().lower() == "confidence" and len(note) <= 32:
                parts.append(rest[:at].rstrip(" \t"))
                inside.append(note.strip())
                rest, at = rest[close + 1 :], 0
                continue
        at += 1
    return ("".join([*parts, rest]).strip() if parts else answer), inside


PIECES = st.sampled_from(
    [
        "[",
        "]",
        "(",
        ")",
        "confidence",
        "Confidence",
        ":",
        " ",
        "\t",
        "low",
        "50%",
        "900%",
        "%",
        "x",
        "é",
        "\n",
        "9" * 20,
    ]
)


@given(st.lists(PIECES, max_size=30).map("".join), st.integers(1, 60))
def test_markers_agree_with_the_plain_way_however_often_they_repeat(unit: str, times: int) -> None:
    text, inside = strip_naively(unit * times)
    marked = strip_markers(unit * times, Stated())
    assert marked.text == text
    readable = [note for note in inside if note in ("low", "50%")]
    assert marked.unreadable == len(inside) - len(readable)
    assert marked.confidence == ({"low": 0.3, "50%": 0.5}[readable[-1]] if readable else None)
