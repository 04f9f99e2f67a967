"""The evaluation of emotions: known figures by construction, calm visitors, and the command end to end."""

import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.evaluate.emotion_figures import EmotionFigures, Row, figures
from flows.evaluate.emotions import TOLERANCE_MS, Verdict, judge
from flows.generate import Plan
from flows.generate.visitors.traffic import VisitorsTraffic
from flows.generate.visitors.truth import EMOTIONS, Shown, Visitor
from schemas.outbound import Emotion, Intervention, Trigger
from schemas.registry import OUTBOUND
from tests.model_emotions import felt_in

Priority = Literal["LOW", "MEDIUM", "HIGH", "CRITICAL"]


def visitor(*shown: Shown, user: str = "a", persona: str = "doubts", calm: bool = False) -> Visitor:
    return Visitor("t", "s", user, persona, calm, 0, 100_000, list(shown))


def shown(rule: str, ts: int) -> Shown:
    return Shown(EMOTIONS[rule], rule, ts, "because")


def record(rule: str, ts: int, user: str = "a", emotion: str = "") -> Emotion:
    return Emotion(
        id=f"{rule}/{ts}/{user}", tenant_id="t", session_id="s", ts=ts, user_id=user,
        emotion=emotion or EMOTIONS.get(rule, "joy"), confidence=0.9, rule=rule, evidence=["e1"],
    )  # fmt: skip


def given(name: str, priority: Priority, user: str, *, revision: int = 0, suppressed: bool = False) -> Intervention:
    return Intervention(
        id=f"{name}/{user}", tenant_id="t", session_id="s", ts=1, intervention=name, recipient=user, user_id=user,
        trigger=Trigger("emotion", "x", "confusion"), confidence=0.9, priority=priority,
        status="suppressed" if suppressed else "fired", revision=revision,
    )  # fmt: skip


def verdicts(one: Visitor, *records: Emotion) -> list[Verdict]:
    return [judged.verdict for judged in judge([one], records).records]


def row(rows: list[Row], name: str) -> Row:
    return next(row for row in rows if name in (row.rule or row.emotion,))


def test_a_record_is_right_within_the_tolerance() -> None:
    one = visitor(shown("doubts", 50_000))
    for off in (-TOLERANCE_MS, 0, TOLERANCE_MS):
        assert verdicts(one, record("doubts", 50_000 + off)) == ["right"]
    assert verdicts(one, record("doubts", 50_000 - TOLERANCE_MS - 1)) == ["false"]
    assert verdicts(one, record("doubts", 50_000 + TOLERANCE_MS + 1)) == ["false"]
    assert verdicts(one, record("doubts", 50_000, emotion="anxiety")) == ["false"]
    assert verdicts(one, record("doubts", 50_000, user="b")) == ["false"]


def test_one_record_finds_one_truth_of_its_own_rule_first() -> None:
    one = visitor(shown("dead_clicks", 50_000), shown("rage_click", 50_400))
    alone = judge([one], [record("rage_click", 50_000)])
    assert [truth.record is not None for truth in alone.truths] == [False, True]
    both = judge([one], [record("rage_click", 50_400), record("a_rule_of_ones_own", 50_900, emotion="frustration")])
    assert [truth.record.rule if truth.record else None for truth in both.truths] == [
        "a_rule_of_ones_own",
        "rage_click",
    ]


def test_repeats_within_the_cooldown_count_once_and_later_ones_are_false() -> None:
    one = visitor(shown("rage_click", 50_000), shown("doubts", 70_000))
    assert verdicts(one, *(record("rage_click", ts) for ts in (50_000, 52_000, 60_000, 60_001))) == [
        "right", "repeat", "repeat", "false",
    ]  # fmt: skip
    assert verdicts(one, *(record("doubts", ts) for ts in (70_000, 75_000, 75_001))) == ["right", "repeat", "false"]


def test_figures_are_those_of_the_definition() -> None:
    people = [visitor(shown("doubts", 1000 * n), user=f"u{n}") for n in range(10)]
    told = [record("doubts", 1000 * n, user=f"u{n}") for n in range(7)]
    found = figures(judge(people, [*told, record("exits", 5, "u9"), record("doubts", 50_000, "u9")]), [])
    skeptical = row(found.emotions, "skeptical")
    assert (skeptical.truths, skeptical.found, skeptical.recall) == (10, 7, 0.7)
    assert (skeptical.records, skeptical.right, skeptical.false, skeptical.precision) == (8, 7, 1, 0.875)
    exits = row(found.rules, "exits")
    assert (exits.truths, exits.recall, exits.precision) == (0, None, 0.0)
    assert [(e.what, e.rule, e.user_id) for e in found.examples] == [
        *(("false", "exits", "u9"), ("missed", "doubts", "u7"), ("missed", "doubts", "u8"), ("missed", "doubts", "u9")),
        ("false", "doubts", "u9"),
    ]
    assert len(figures(judge(people, []), [], examples=3).examples) == 3


def test_interventions_of_calm_visitors_are_counted_by_priority() -> None:
    people = [
        visitor(user=user, persona=persona, calm=True)
        for user, persona in [("a", "reader"), ("b", "buyer"), ("c", "buyer")]
    ]
    acts = [
        given("help_chat", "HIGH", "b"),
        given("help_chat", "HIGH", "b", revision=1),
        given("urgency_banner", "MEDIUM", "b"),
        given("urgency_banner", "MEDIUM", "c", suppressed=True),
        given("exit_intent", "CRITICAL", "somebody else"),
    ]
    found = figures(judge(people, []), acts)
    reader, buyer = found.calm
    assert (reader.persona, reader.visitors, reader.touched, sum(reader.given.values())) == ("reader", 1, 0, 0)
    assert buyer.given == {"CRITICAL": 0, "HIGH": 1, "MEDIUM": 1, "LOW": 0}
    assert (buyer.visitors, buyer.suppressed, buyer.touched, buyer.urgent) == (2, 1, 1, 1)
    assert found.interventions == {"exit_intent": 1, "help_chat": 1, "urgency_banner": 1}


def test_a_plain_reading_of_the_contract_is_perfect_and_half_of_it_is_half() -> None:
    traffic = VisitorsTraffic(Plan(200, seed=12))
    felt = felt_in(list(traffic.events()))
    told = [
        Emotion(
            id=f"{user.session_id}/{one.rule}/{one.ts}/{user.user_id}", tenant_id=user.tenant_id,
            session_id=user.session_id, ts=one.ts, user_id=user.user_id, emotion=one.emotion,
            confidence=one.confidence, rule=one.rule, evidence=list(one.evidence),
        )
        for user, ones in felt.items()
        for one in ones
    ]  # fmt: skip
    people = traffic.truth().visitors
    perfect = figures(judge(people, told), [])
    assert all((r.recall, r.precision, r.repeats, r.delay_ms) == (1.0, 1.0, 0, 0) for r in perfect.emotions)
    assert sum(r.truths for r in perfect.rules) == len(told)
    assert perfect.examples == []
    half = figures(judge(people, told[::2]), [])
    assert sum(r.found for r in half.emotions) == len(told[::2])


def attune(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["evaluate", "emotions", *arguments])


def test_the_flow_finds_what_unseen_visitors_show_and_leaves_calm_ones_alone(tmp_path: Path) -> None:
    result = attune("--sessions", "270", "--seed", "9003", "--keep", str(tmp_path), "--json")
    assert result.exit_code == 0, result.output
    found = msgspec.json.decode(result.stdout, type=EmotionFigures)
    assert len(found.emotions) == 13
    for emotion in found.emotions:
        assert emotion.truths >= 5
        assert min(emotion.recall or 0, emotion.precision or 0) >= 0.95, emotion
    calm = {kind.persona: kind for kind in found.calm}
    assert calm["reader"].visitors >= 60
    assert calm["reader"].touched == calm["reader"].suppressed == 0
    assert sum(kind.urgent for kind in found.calm) == 0
    assert sum(found.interventions.values()) > 50

    out, truth = tmp_path / "out", tmp_path / "events.jsonl.truth.json"
    again = attune("--records", str(out), "--truth", str(truth), "--json")
    assert json.loads(again.stdout) == json.loads(result.stdout)

    # With every second record lost it can no longer be right; the tables say so, with examples to look at.
    told = out / f"{OUTBOUND['emotion'].topic}.jsonl"
    told.write_text("".join(told.read_text(encoding="utf-8").splitlines(keepends=True)[::2]), encoding="utf-8")
    table = attune("--records", str(out), "--truth", str(truth), "--examples", "3")
    assert table.exit_code == 0
    assert table.stdout.count("\n  missed ") == 3
    assert "calm visitors" in table.stdout


def test_live_sessions_in_trouble_set_their_interventions_off() -> None:
    result = attune("--scenario", "visitors-live", "--sessions", "20", "--seed", "9001", "--json")
    assert result.exit_code == 0, result.output
    given = json.loads(result.stdout)["interventions"]
    assert {"poll", "chat_prompt", "gamification", "notification"} <= set(given)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--scenario", "lab"], "is none of: visitors, visitors-calm, visitors-live"),
        (["--records", "nowhere"], "go together"),
        (["--truth", "nowhere"], "go together"),
    ],
)
def test_wrong_use_is_told(arguments: list[str], says: str) -> None:
    result = attune(*arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.output.replace("│", " ").split())


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    wrong: Any = tmp_path / "truth.json"
    wrong.write_text('{"visitors": 3}', encoding="utf-8")
    result = attune("--records", str(tmp_path), "--truth", str(wrong))
    assert result.exit_code == 1
    assert "expected the truth about visitors" in str(result.exception) + result.output
