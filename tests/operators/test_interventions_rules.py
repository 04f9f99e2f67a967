"""The data that a marketer edits: every fault is told with its file and key, all of them together."""

import re
from pathlib import Path

import pytest

from operators.interventions.config import InterventionConfig
from operators.interventions.content import read_interventions
from operators.interventions.reading import FOLDER
from operators.interventions.rules import read_rules
from operators.interventions.shard import Interventions
from schemas.errors import ConfigError
from schemas.outbound import Signals
from tests.operators.cues import CONTENT, RULES, anomaly, emotion, felt, interventions, run

POLLS = "".join(f'[[polls]]\nid = "p{i}"\nquestion = "Which?"\noptions = ["a", "b"]\n' for i in range(11))
SHOWN = 'to = "user"\nshown_for_s = 9\nheadline = "h"\nbody = "b"\ncall_to_action = "c"\n'
HELP = "[interventions.help]\ncooldown_s = 5\npriority = 'HIGH'\nemotions = { confusion = 0.5 }\n"


def shows(body: str) -> str:
    """Return what an intervention shows, with this body."""
    return SHOWN.replace('"b"', f'"{body}"')


def folder(path: Path, rules: str, content: str) -> Path:
    (path / "interventions.toml").write_text(rules, encoding="utf-8")
    (path / "content.toml").write_text(content, encoding="utf-8")
    return path


def faults(path: Path, emotions: set[str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_interventions(path, emotions)
    return [line.removeprefix(f"{path}/") for line in str(caught.value).splitlines()]


def test_the_rules_that_come_along_are_right() -> None:
    assert len(CONTENT.polls) >= 12
    assert set(RULES.anomalies) == {"SUDDEN_DROP", "GRADUAL_DECLINE", "LOW_ENGAGEMENT", "MASS_EXIT"}
    assert read_rules(emotions=RULES.emotions.keys()) == RULES


def test_all_faults_of_the_mapping_are_told_with_file_and_key(tmp_path: Path) -> None:
    rules = (
        "emotoins = 1\nobserved = ['joy']\n"
        "[interventions]\nplain = 3\n"
        "[interventions.Help]\ncooldown_s = 5\n"
        "[interventions.a]\ncooldown_s = 'day'\npriority = 'URGENT'\nemotions = { joy = 1.5 }\n"
        "[interventions.b]\nemotions = { joy = 0.5 }\ncooldown_s = -1\nuntil = 3\n"
        "[interventions.c]\nemotions = { joy = 0.5, rage = 0.5 }\ncooldown_s = 5\npriority = 'LOW'\n"
        "[interventions.d]\ncooldown_s = 5\npriority = 'LOW'\n"
        "[interventions.e]\ncooldown_s = 5\nemotions = { joy = 0.5 }\n"
        "[anomalies.SLUMP]\ninterventions = []\n"
        "[anomalies.MASS_EXIT]\nwarning_above = 2\ninterventions = [{ intervention = 'c' }]\n"
        "[anomalies.SUDDEN_DROP]\ninterventions = [\n"
        "  { intervention = 'z', priority = 'LOW', confidence = 0.5 },\n"
        "  { intervention = 'c', priority = 'LOW', confidence = 7 },\n"
        "  { intervention = 'c', priority = 'LOW', confidence = 0.5, once = 'day' },\n"
        "  { intervention = 'd', priority = 'LOW', confidence = 0.5 },\n"
        "  { intervention = 'd', priority = 'LOW', confidence = 0.5 },\n"
        "]\n"
    )
    told = faults(folder(tmp_path, rules.replace("emotoins = 1\n", ""), "content = {}\n"), {"anger"})
    mapping = [line.removeprefix("interventions.toml: ") for line in told if line.startswith("interventions.toml: ")]
    assert [line.split(": ")[0] for line in mapping] == [
        "interventions.plain",
        "interventions.plain.cooldown_s",
        "interventions.Help",
        "interventions.a.cooldown_s",
        "interventions.a.emotions.joy",
        "interventions.a.priority",
        "interventions.b.until",
        "interventions.b.cooldown_s",
        "interventions.d",
        "interventions.e",
        "interventions.c.emotions",
        "anomalies.SLUMP",
        "anomalies.MASS_EXIT.warning_above",
        "anomalies.SUDDEN_DROP.interventions[0]",
        "anomalies.SUDDEN_DROP.interventions[1].confidence",
        "anomalies.SUDDEN_DROP.interventions[2].once",
        "anomalies.SUDDEN_DROP.interventions[4]",
    ]
    assert 'no rule finds "rage": expected one of anger, or one that is named under observed' in "".join(mapping)
    assert "content.toml: content.c: missing: what does the intervention show?" in told
    assert faults(folder(tmp_path, rules, "")) == [
        "interventions.toml: the file.emotoins: unknown; expected one of interventions, anomalies, observed"
    ]


def test_all_faults_of_the_texts_are_told_with_file_and_key(tmp_path: Path) -> None:
    rules = (
        HELP + "[interventions.quiz]\ncooldown_s = 5\n[interventions.bare]\ncooldown_s = 5\n"
        "[anomalies.MASS_EXIT]\ninterventions = [{ intervention = 'quiz', priority = 'LOW', confidence = 0.5 }]\n"
    )
    content = (
        f"[content.help]\n{shows('{leave_rate}')}color = 'red'\n"
        f"[content.help.when.joy]\nbody = 'x'\n[content.help.when.confusion]\nheadline = ''\n"
        f"[content.quiz]\n{shows('{leave_rate:.0%} {user_id}')}poll = true\n"
        f"[content.other]\n{SHOWN}colour = 'red'\n[content.other.when.joy]\nheadline = 1\n"
        "[[polls]]\nid = 'a'\nquestion = 'Which?'\noptions = ['one']\n"
        "[[polls]]\nid = 'b'\nquestion = 'Which?'\noptions = ['one', 'two']\n"
        "[[polls]]\nid = 'b'\nquestion = 'Which?'\noptions = ['one', 'two']\n"
    )
    told = [line.removeprefix("content.toml: ") for line in faults(folder(tmp_path, rules, content))]
    assert [line.split(": ")[0] for line in told] == [
        "polls[0].options",
        "polls[2].id",
        "content.other",
        "content.other.colour",
        "content.other.when.joy.headline",
        "content.help.color",
        "content.help.when.joy",
        "content.help.when.confusion.headline",
        "content.help.body",
        "content.quiz.body",
        "content.bare",
        "polls",
    ]


@pytest.mark.parametrize(
    "body, told",
    [
        ("{joy}", "{joy} is nothing that an emotion has; expected one of user_id, emotion, confidence, rule"),
        ("{}", "{} is nothing that an emotion has"),
        ("{emotion", "expected text with values such as {user_id}"),
        ("{confidence:d}", "expected text with values such as {user_id}"),
        ("{user_id.__class__}", "{user_id.__class__} is nothing that an emotion has"),
        ("{confidence:{width}}", "expected text with values such as {user_id}"),
    ],
)
def test_a_template_names_only_what_the_trigger_carries(body: str, told: str, tmp_path: Path) -> None:
    content = f"[content.help]\n{shows(body)}"
    (fault,) = faults(folder(tmp_path, HELP, content))
    assert fault.startswith(f"content.toml: content.help.body: {told}")


@pytest.mark.parametrize("text, told", [(b"a = ", "expected TOML"), (b"\xff", "expected TOML in UTF-8")])
def test_what_is_no_such_file_is_told(text: bytes, told: str, tmp_path: Path) -> None:
    assert faults(tmp_path) == ["interventions.toml: can't be read: No such file or directory"]
    (tmp_path / "interventions.toml").write_bytes(text)
    (fault,) = faults(tmp_path)
    assert fault.startswith(f"interventions.toml: {told}")
    (tmp_path / "interventions.toml").write_text(HELP, encoding="utf-8")
    (tmp_path / "content.toml").write_bytes(text)
    (fault,) = faults(tmp_path)
    assert fault.startswith(f"content.toml: {told}")


def test_what_nests_without_end_is_told_with_its_key(tmp_path: Path) -> None:
    deep = "x = " + "{ x = " * 2_000 + "1" + " }" * 2_000
    for name in ("interventions.toml", "content.toml"):
        folder(tmp_path, HELP, "content = {}\n")
        (tmp_path / name).write_text(f"[a]\n{deep}\n", encoding="utf-8")
        (fault,) = faults(tmp_path)
        assert fault == f"{name}: line 2, a.x: expected at most 16 tables and lists in each other"


def test_the_values_of_the_trigger_stand_in_the_texts(tmp_path: Path) -> None:
    rules = HELP + (
        "[interventions.quiz]\ncooldown_s = 5\n"
        "[anomalies.MASS_EXIT]\ninterventions = [{ intervention = 'quiz', priority = 'LOW', confidence = 0.5 }]\n"
    )
    emotional = "{{{user_id}}}: {emotion} {confidence:.0%} {rule}"
    counted = "{anomaly_type} {severity} {score} {current} {expected} {deviation:.1f} {chat_per_min} {leave_rate:.0%}"
    content = f"[content.help]\n{shows(emotional)}[content.quiz]\n{shows(counted)}"
    found = read_interventions(folder(tmp_path, rules, content))
    of = Interventions(InterventionConfig(), *found)
    signals = Signals(7, 0, 9, 0, 0.0, 0.0, 0.25)
    told = interventions(run(of, [felt(emotion("confusion", 0.8)), anomaly("MASS_EXIT", signals=signals)]))
    bodies = [each.content["body"] for each in told if each.content]
    assert bodies == ["{anna}: confusion 80% rule", "MASS_EXIT CRITICAL 0.9 0.1 0.5 0.4 7 25%"]


def test_nothing_in_the_texts_that_come_along_asks_for_what_is_not_there() -> None:
    named = {name for text in texts() for name in re.findall(r"{(\w+)", text)}
    assert named <= {"active_users", "connected_users", "chat_per_min", "leave_rate"}


def texts() -> list[str]:
    return [getattr(one, name) for one in CONTENT.shown.values() for name in ("headline", "body", "call_to_action")]


def test_the_folder_of_the_rules_is_the_packages() -> None:
    assert {file.name for file in FOLDER.iterdir()} >= {"interventions.toml", "content.toml"}
