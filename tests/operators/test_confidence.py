"""Confidence by hand: every formula worked out in a comment, every boundary on both sides, and any text at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.chat.confidence import Judge, Judgement, hedging_score, length_score, level_of, specificity_score
from operators.chat.config import Hedging, Levels, Mode, Policy, Quality, overlay
from operators.chat.phrases import Phrases, read_phrases
from operators.chat.question import Reader, complexity

PHRASES = read_phrases()
READER = Reader(PHRASES)
JUDGE = Judge(PHRASES, READER)
POLICY = Policy()
MODES: tuple[Mode, ...] = ("lenient", "standard", "strict")
SPECIFIC = "What specific medication should I take for my rare condition?"


def judge(question: str, answer: str, self_assessment: float | None = None, policy: Policy = POLICY) -> Judgement:
    return JUDGE.judge(READER.read(question, policy), answer, self_assessment, policy)


def signal(judged: Judgement, name: str) -> float | None:
    return next((one.score for one in judged.signals if one.name == name), None)


def test_all_three_signals() -> None:
    # Self-assessment: the marker, 0.6. Hedging: 1 hedging, 0 assertive: 1 - 1/3 = 0.666667. Quality: length 0.9 (short
    # question), completeness 0.8, specificity 0.5 + 0.2 (number) = 0.7: 2.4 / 3 = 0.8.
    # (0.5 * 0.6 + 0.25 * 0.666667 + 0.15 * 0.8) / 0.9 = 0.586667 / 0.9 = 0.651852.
    judged = judge("How long does it take?", "It might take 3 days. [confidence: medium]")
    assert [one.name for one in judged.signals] == ["self_assessment", "hedging", "response_quality"]
    assert signal(judged, "hedging") == pytest.approx(2 / 3)
    assert signal(judged, "response_quality") == pytest.approx(0.8)
    assert judged.confidence == pytest.approx(0.651852, abs=1e-6)
    assert judged.level == "MEDIUM"


def test_without_self_assessment_the_others_weigh_the_whole() -> None:
    # Hedging 1, quality (0.9 + 0.8 + 0.5) / 3 = 0.733333: (0.25 + 0.15 * 0.733333) / 0.4 = 0.36 / 0.4 = 0.9.
    judged = judge("How long does it take?", "It takes three days.")
    assert [one.name for one in judged.signals] == ["hedging", "response_quality"]
    assert judged.confidence == pytest.approx(0.9)


def test_the_field_wins_over_the_marker_which_is_stripped_all_the_same() -> None:
    judged = judge("How long does it take?", "Three days. [confidence: low]", 0.95)
    assert signal(judged, "self_assessment") == 0.95
    assert judged.text == "Three days."


@pytest.mark.parametrize(
    "hedges, assertive, expected",
    [
        (0, 0, 1.0),  # 1 - max(0, 0)
        (1, 0, 1 - 1 / 3),
        (3, 0, 0.0),  # 1 - min(3/3, 1)
        (4, 0, 0.0),  # no more than full
        (0, 2, 1.0),  # max(0, 0 - 0.5): assertion alone gives nothing beyond 1
        (1, 1, 1 - (1 / 3 - 0.25)),
        (3, 2, 0.5),  # 1 - (1 - 0.5 * 1)
        (3, 9, 0.5),  # two assertive are all that count
        (2, 2, 1 - (2 / 3 - 0.5)),
    ],
)
def test_hedging(hedges: int, assertive: int, expected: float) -> None:
    assert hedging_score(hedges, assertive, Hedging()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "question, answer, expected",
    [(11, 14, 0.3), (11, 15, 0.9), (10, 14, 0.9), (1, 500, 0.9), (1, 501, 0.6), (11, 500.5, 0.6), (10.5, 14.5, 0.3)],
)
def test_length(question: float, answer: float, expected: float) -> None:
    assert length_score(question, answer, Quality()) == expected


@pytest.mark.parametrize(
    "question, answer, complete",
    [
        ("Which plan?", "I can't help with that.", 0.2),
        ("Which plan?", "It depends.", 0.5),
        ("which plan is it", "It depends.", 0.5),  # a question by its first word
        ("Tell me which plan", "It depends.", 0.8),  # no question
        ("Which plan?", "It depends, so please contact support.", 0.2),  # the deflection comes first
        ("Which plan?", "The small one.", 0.8),
    ],
)
def test_completeness(question: str, answer: str, complete: float) -> None:
    # Length 0.9 and specificity 0.5 throughout, so quality is (1.4 + completeness) / 3.
    assert signal(judge(question, answer), "response_quality") == pytest.approx((1.4 + complete) / 3)


@pytest.mark.parametrize(
    "answer, specific",
    [
        ("On your desk.", 0.5),
        ("After 3 days.", 0.7),  # number
        ("In october.", 0.7),  # month
        ("On Friday.", 0.7),  # weekday
        ("In 2024.", 0.9),  # a year is a number too
        ("In 1899.", 0.7),  # no year
        ("In 2099.", 0.9),
        ("In 2100.", 0.7),
        ("It costs $2024.", 0.7),  # a price
        ("It weighs 2024.5 g.", 0.7),  # a fraction
        ("Part X2024.", 0.5),  # a name
        ("On Friday, 12 March 2024.", 1.0),  # 0.5 + 4 * 0.2, at most 1
        ("On 3 and 4 and 5.", 0.7),  # each kind counts once
        ("March on.", 0.5),  # a verb
        ("On March 5.", 0.9),
        ("On 5 May.", 0.9),
        ("In May.", 0.7),
        ("Some stuff.", 0.3),  # 0.5 - 0.2
        ("Some stuff, things, several, various.", 0.2),  # 0.5 - 0.5, at least 0.2
        ("Some 3 things.", 0.5),  # 0.5 + 0.2 - 0.2
    ],
)
def test_specificity(answer: str, specific: float) -> None:
    # Length 0.9 and completeness 0.8 throughout, so quality is (1.7 + specificity) / 3.
    assert signal(judge("Where?", answer), "response_quality") == pytest.approx((1.7 + specific) / 3)


def test_specificity_alone() -> None:
    assert specificity_score(0, 3, Quality()) == pytest.approx(0.2)
    assert specificity_score(0, 2, Quality()) == pytest.approx(0.3)
    assert specificity_score(3, 1, Quality()) == 1.0


@pytest.mark.parametrize(
    "words, marks, long, expected",
    [
        (20, 1, 2, 0.1),
        (21, 1, 2, 0.2),
        (50, 1, 2, 0.2),
        (51, 1, 2, 0.3),
        (100, 1, 2, 0.3),
        (101, 1, 2, 0.4),
        (0, 2, 0, 0.3),  # 0.1 + 0.2
        (0, 3, 0, 0.4),
        (0, 0, 3, 0.3),
        (0, 0, 5, 0.3),
        (0, 0, 6, 0.4),
        (101, 3, 6, 1.0),  # 0.4 + 0.3 + 0.3
    ],
)
def test_complexity(words: float, marks: int, long: int, expected: float) -> None:
    assert complexity(words, marks, long, POLICY.routing.complexity_of) == pytest.approx(expected)


def test_a_word_over_ten_letters_has_eleven() -> None:
    ten, eleven = "abcdefghij", "abcdefghijk"
    plain = READER.read(" ".join([ten] * 9), POLICY)
    long = READER.read(" ".join([eleven] * 3), POLICY)
    assert plain.complexity == pytest.approx(0.1)
    assert long.complexity == pytest.approx(0.3)


@pytest.mark.parametrize(
    "confidence, level",
    [
        (1.0, "HIGH"),
        (0.8, "HIGH"),
        (0.7999, "MEDIUM"),
        (0.6, "MEDIUM"),
        (0.5999, "LOW"),
        (0.4, "LOW"),
        (0.3999, "VERY_LOW"),
    ],
)
def test_levels(confidence: float, level: str) -> None:
    assert level_of(confidence, Levels()) == level


@pytest.mark.parametrize(
    "mode, confidence, action",
    [
        ("lenient", 0.1999, "immediate_escalation"),
        ("lenient", 0.20, "suggest_review"),
        ("lenient", 0.3999, "suggest_review"),
        ("lenient", 0.40, "send_with_disclaimer"),
        ("standard", 0.2999, "immediate_escalation"),
        ("standard", 0.30, "suggest_review"),
        ("standard", 0.5999, "suggest_review"),
        ("standard", 0.60, "send_with_disclaimer"),
        ("standard", 0.7999, "send_with_disclaimer"),
        ("standard", 0.80, "continue"),
        ("strict", 0.4999, "immediate_escalation"),
        ("strict", 0.50, "suggest_review"),
        ("strict", 0.7499, "suggest_review"),
        ("strict", 0.75, "send_with_disclaimer"),
        ("strict", 0.80, "continue"),
    ],
)
def test_modes(mode: Mode, confidence: float, action: str) -> None:
    # With the other weights all but 0 the self-assessment is the confidence.
    weights = {"self_assessment": 1.0, "hedging": 0.0, "response_quality": 1e-12}
    policy = overlay(POLICY, {"mode": mode, "weights": weights}, "test")
    assert judge("Where is it?", "On your desk.", confidence, policy).action == action


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "answer",
    [
        "You might take the blue one.",
        "I think it is definitely, absolutely the blue one, on Friday, 5 March 2026.",
        "Take the blue one. [confidence: low]",
        "Take the blue one. [CONFIDENCE: Very_Low]",
        "(confidence: 30%) Take the blue one.",
    ],
)
def test_high_stakes_need_one_hedge_or_little_self_assessment(mode: Mode, answer: str) -> None:
    judged = judge(SPECIFIC, answer, None, overlay(POLICY, {"mode": mode}, "test"))
    assert (judged.action, judged.high_stakes) == ("immediate_escalation", "medication")


@pytest.mark.parametrize("mode", MODES)
def test_high_stakes_use_the_strict_row(mode: Mode) -> None:
    # Self-assessment 0.31 is just above what withholds at once. Hedging 1, quality (0.9 + 0.8 + 0.5) / 3 = 0.733333:
    # (0.155 + 0.25 + 0.11) / 0.9 = 0.572222, below the strict 0.75 and not below its 0.50.
    policy = overlay(POLICY, {"mode": mode}, "test")
    judged = judge(SPECIFIC, "Take the blue one.", 0.31, policy)
    assert judged.confidence == pytest.approx(0.572222, abs=1e-6)
    assert judged.action == "suggest_review"
    assert judge(SPECIFIC, "Take the blue one.", 0.30, policy).action == "immediate_escalation"


@pytest.mark.parametrize(
    "question, domain",
    [
        ("Is it a MEDICAL question?", "medical"),
        ("paramedical and illegal", ""),
        ("my lawsuits", "lawsuit"),
        ("the investment's risk", "investment"),
        ("health-care", "health"),
        ("my healthy wealth", ""),
    ],
)
def test_domains_are_whole_words(question: str, domain: str) -> None:
    assert READER.read(question, POLICY).domain == domain


def test_every_domain_of_the_contract_is_there() -> None:
    named = ["medical", "legal", "financial", "health", "diagnosis", "medication", "lawsuit", "investment", "emergency"]
    assert [READER.read(f"about {word} now", POLICY).domain for word in named] == named


def test_a_domain_in_the_answer_counts_where_it_is_asked_to() -> None:
    question, answer = "What should I do with my money?", "Perhaps an investment."
    assert judge(question, answer).action != "immediate_escalation"
    watchful = overlay(POLICY, {"high_stakes": {"in_answer": True}}, "test")
    judged = judge(question, answer, None, watchful)
    assert (judged.action, judged.high_stakes) == ("immediate_escalation", "investment")


@pytest.mark.parametrize("answer", ["", "  \n\t", "[confidence: high]", "\u200b\u2060", "\ufeff (confidence: 99%) "])
def test_an_empty_answer_has_no_confidence(answer: str) -> None:
    judged = judge("Where is it?", answer, 1.0)
    assert (judged.confidence, judged.level, judged.action) == (0.0, "VERY_LOW", "immediate_escalation")


def test_an_answer_without_words_is_not_empty() -> None:
    assert judge("Where is it?", "👍").confidence > 0.5


LONG = """[ ( [confidence [confidence: (confidence: 9 a. a_ a' not_ é ? ' " 1. 1, _ not_sure_ confidence: [low]"""


@pytest.mark.parametrize(
    "unit",
    [
        *LONG.split(),
        " ",
        "i think ",
        "not sure ",
        "me\u0301",
        "\u0301",
        "a\u0301.",
        "a\u0301'",
        "ก",
        "漢",
        "字 ",
        "\u200d",
        "\uff21",
        "\ufdfa",
        'א"',
        "(confidence:  ",
    ],
)
def test_64_kib_of_one_thing(unit: str) -> None:
    text = unit * (65_536 // len(unit.encode()))
    judged = judge(text, text, None)
    assert 0.0 <= judged.confidence <= 1.0


@given(st.text(max_size=200), st.text(max_size=200), st.none() | st.floats(0, 1), st.sampled_from(MODES))
def test_any_text_in_any_script(question: str, answer: str, assessed: float | None, mode: Mode) -> None:
    judged = judge(question, answer, assessed, overlay(POLICY, {"mode": mode}, "test"))
    assert 0.0 <= judged.confidence <= 1.0
    assert all(0.0 <= one.score <= 1.0 and one.reason for one in judged.signals)
    assert judged.level == level_of(judged.confidence, Levels())
    if judged.action == "continue":
        assert judged.level == "HIGH"


def test_another_language_by_its_lists() -> None:
    german = Phrases(hedging=("vielleicht", "かもしれません"), human=("mit einem menschen sprechen",))
    reader = Reader(german)
    judged = Judge(german, reader).judge(reader.read("Wann?", POLICY), "VIELLEICHT morgen.", None, POLICY)
    assert signal(judged, "hedging") == pytest.approx(2 / 3)
    inside = Judge(german, reader).judge(reader.read("いつ", POLICY), "明日かもしれません。", None, POLICY)
    assert signal(inside, "hedging") == pytest.approx(2 / 3)
    assert reader.read("Ich will mit einem Menschen sprechen!", POLICY).wants_human
