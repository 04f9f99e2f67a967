"""docs/interventions.md can be followed, and the way from an event to an effect can be told from a replay's folder."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flows.chain import story
from flows.settings.tenants import read_tenants
from operators.emotions.rules import read_rules
from operators.interventions.policies import Policy
from schemas.errors import ConfigError
from tests.flows.running import ROOT, attune
from tests.test_readme import environment

PAGE = (ROOT / "docs" / "interventions.md").read_text(encoding="utf-8")
CONFUSED = "acme/s/1000000/intervention/c1/observed/help_chat"
LEAVING = "acme/s/1010000/intervention/r1/observed/exit_intent"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_who_follows_the_page_has_a_new_emotion_and_intervention(tmp_path: Path) -> None:
    (tmp_path / "operators").symlink_to(ROOT / "operators")
    copy, check, try_it = blocks("sh")
    run(copy, tmp_path)
    for block in blocks("toml"):
        if named := re.match(r"# (\S+\.toml)\n", block):
            with (tmp_path / named[1]).open("a", encoding="utf-8") as file:
                file.write(f"\n{block}")
    run(check, tmp_path)
    (shown,) = blocks("text")
    assert run(try_it, tmp_path).endswith(f"out/attune.deadletters.v1.jsonl\n{shown}")


def test_the_table_of_the_page_is_that_of_the_rules() -> None:
    table = re.findall(r"^\| `(\w+)` \| (\w+) \| .* \| (0\.\d\d) \|$", PAGE, re.MULTILINE)
    assert table == [(rule.name, rule.emotion, f"{rule.confidence:.2f}") for rule in read_rules().rules]


def run(script: str, folder: Path) -> str:
    (folder / "home").mkdir(exist_ok=True)
    place = folder / "home" / str(len(list((folder / "home").iterdir())))
    place.mkdir()
    command = ["bash", "-e", "-o", "pipefail", "-c", script]
    done = subprocess.run(
        command, cwd=folder, env=environment(place), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_settings_of_the_page_are_right_and_its_defaults_the_cores(tmp_path: Path) -> None:
    (shown,) = (block for block in blocks("toml") if "[defaults.interventions]" in block)
    (tmp_path / "tenants.toml").write_text(shown, encoding="utf-8")
    tenants = read_tenants(tmp_path / "tenants.toml").interventions
    before, after = tenants.of("acme", 1_700_000_000_000), tenants.of("acme", 1_800_000_000_000)
    assert (before.mode, before.holdout, after.mode, after.holdout) == ("SEMI_AUTO", 0.1, "AUTO", 0.05)
    assert after.budget_per_hour == 500
    table = PAGE.partition("All keys, with what holds by default:")[2].partition("```")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(Policy.__struct_fields__)


def test_a_flow_with_mistakes_in_its_rules_does_not_start_and_names_them_all(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "operators" / "rules", tmp_path / "rules")
    for name, mistake in (
        ("interventions.toml", "[interventions.voucher_card]\nemotions = { bargain_hunting = 1.2 }\ncooldown_s = 1\n"),
        ("interventions.toml", "[interventions.gift]\nemotions = { joy = 0.5 }\ncooldown_s = 1\npriority = 'LOW'\n"),
        ("content.toml", "[content.gifts]\n"),
    ):
        with (tmp_path / "rules" / name).open("a", encoding="utf-8") as file:
            file.write(mistake)
    (tmp_path / "log.jsonl").write_text(events(*OBSERVED), encoding="utf-8")
    done = attune("replay", "log.jsonl", "--out", "out", cwd=tmp_path, ATTUNE_INTERVENTIONS__RULES="rules")
    assert done.returncode == 1
    for told in (
        "rules/interventions.toml: interventions.voucher_card.emotions.bargain_hunting: Expected `float` <= 1.0",
        'rules/interventions.toml: interventions.gift.emotions: no rule finds "joy"',
        "rules/content.toml: content.gifts: there is no intervention of this name",
        "rules/content.toml: content.gift: missing",
    ):
        assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_config_check_warns_of_a_rule_that_nothing_answers_to(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "operators" / "rules", tmp_path / "rules")
    with (tmp_path / "rules" / "emotions.toml").open("a", encoding="utf-8") as file:
        file.write('[[rules]]\nname = "glee"\nemotion = "joy"\nconfidence = 0.8\non = "view"\n')
        file.write('[events.view]\ntype = "telemetry.page_view"\n')
    done = attune("config", "check", cwd=tmp_path, ATTUNE_INTERVENTIONS__RULES="rules")
    assert done.returncode == 0, done.stderr
    assert "warning: emotions.toml: rules.glee: no intervention answers to joy" in done.stderr


def events(*more: dict[str, Any]) -> str:
    about = {"tenant_id": "acme", "session_id": "s", "user_id": "anna"}
    page = {"type": "telemetry.page_view", "url": "/", "page": "home"}
    views = [page | {"event_id": f"v{ts}", "ts": ts} for ts in range(990_000, 1_100_000, 10_000)]
    lines = sorted([*views, *more], key=lambda each: each["ts"])
    return "".join(json.dumps(about | each) + "\n" for each in lines)


OBSERVED = [
    {"type": "emotion.observed", "event_id": "c1", "ts": 1_000_000, "emotion": "confusion", "confidence": 0.85},
    {"type": "emotion.observed", "event_id": "c2", "ts": 1_001_000, "emotion": "confusion", "confidence": 0.85},
    {"type": "emotion.observed", "event_id": "r1", "ts": 1_010_000, "emotion": "exit_risk", "confidence": 0.9},
    {"type": "emotion.observed", "event_id": "j1", "ts": 1_020_000, "emotion": "joy", "confidence": 0.9},
]
SHOWN = {
    "type": "intervention.outcome", "event_id": "o1", "ts": 1_002_000, "intervention_id": CONFUSED, "outcome": "shown",
}  # fmt: skip
CONVERTED = SHOWN | {"event_id": "o2", "ts": 1_090_000, "outcome": "converted"}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the output of a replay in ``out``."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "log.jsonl").write_text(events(*OBSERVED, SHOWN, CONVERTED), encoding="utf-8")
    done = attune("replay", "log.jsonl", "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def told(folder: Path, topic: str) -> list[dict[str, Any]]:
    lines = (folder / "out" / f"attune.{topic}.v1.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_chain_of_an_intervention_is_told_from_its_evidence_to_its_effect(out: Path) -> None:
    done = attune("explain", "out", "--id", CONFUSED, cwd=out)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert lines[0] == "intervention help_chat in acme/s at 1970-01-01T00:16:40.000+00:00"
    wanted = [
        "evidence  c1",
        "rule  observed",
        "emotion  confusion, confidence 0.85, of anna",
        "mapping  choice 1 of 1 for confusion: help_chat, from 0.65, again after 300 s, HIGH",
        "governor  fired: confidence 0.85, at least 0.65; nothing hindered it",
        "content  headline: Can we help?",
        "outcome  shown, 2 s after",
        "outcome  converted, 90 s after",
    ]
    assert [line for line in lines if line in wanted] == wanted
    effects = [line for line in lines if line.startswith("effect")]
    assert len(effects) == 2
    assert effects[1].endswith("converted, reward 1.00")
    data = json.loads(attune("explain", "out", "--id", CONFUSED, "--json", cwd=out).stdout)
    assert data["trigger"] == told(out, "emotions")[0]
    assert data["effects"] == [each for each in told(out, "effects") if each["intervention_id"] == CONFUSED]


def test_what_was_felt_done_and_not_done_is_listed(out: Path) -> None:
    done = attune("explain", "out", "--session", "acme/s", "--user", "anna", cwd=out)
    lines = [line.split("  ", 1)[1].split(":")[0] for line in done.stdout.splitlines()]
    assert lines[:9] == [
        "felt     confusion 0.85 (observed) by anna",
        "done     help_chat for anna",
        "felt     confusion 0.85 (observed) by anna",
        "not done help_chat for anna",
        "then     help_chat shown by anna",
        "felt     exit_risk 0.90 (observed) by anna",
        "done     exit_intent for anna",
        "felt     joy 0.90 (observed) by anna",
        "effect   help_chat",
    ]
    assert "not done help_chat for anna: suppressed, cooldown: done 1 s ago, again after 300 s" in done.stdout
    assert LEAVING in done.stdout
    everybody = [type(each).__name__ for each in story(out / "out", "acme", "s", None)]
    assert set(everybody) == {"Emotion", "Intervention", "Outcome", "InterventionEffect"}


@pytest.mark.parametrize(
    "folder, session, user, said",
    [
        ("out", "nowhere", None, "nothing was felt, seen or done about acme/nowhere"),
        ("out", "s", "bert", "nothing was felt, seen or done about bert in acme/s"),
        (".", "s", None, "expected a replay's folder, with attune.anomalies.v1.jsonl"),
    ],
)
def test_what_is_not_there_is_said(out: Path, folder: str, session: str, user: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        story(out / folder, "acme", session, user)


def test_options_that_do_not_fit_are_said(out: Path) -> None:
    done = attune("explain", "out", "--user", "anna", cwd=out)
    assert done.returncode == 2
    assert "--user goes with --session" in done.stderr


def test_an_approved_intervention_is_told_with_who_approved(out: Path, tmp_path: Path) -> None:
    approval = {
        "type": "intervention.approval", "event_id": "a1", "ts": 1_030_000, "intervention_id": CONFUSED,
        "approved": True, "by": "boss",
    }  # fmt: skip
    unknown = approval | {"event_id": "a2", "ts": 1_031_000, "intervention_id": "never/was"}
    (tmp_path / "tenants.toml").write_text('[tenants.acme.interventions]\nmode = "MANUAL"\n', encoding="utf-8")
    (tmp_path / "log.jsonl").write_text(events(*OBSERVED, approval, unknown), encoding="utf-8")
    assert attune("replay", "log.jsonl", "--out", "out", cwd=tmp_path).returncode == 0
    done = attune("explain", "out", "--id", CONFUSED, cwd=tmp_path)
    governor = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("governor")]
    assert governor == [
        "governor  pending (approval): mode MANUAL: a person approves",
        "governor  fired, by boss: boss approved it",
    ]
    assert {each["status"] for each in told(tmp_path, "interventions") if each["id"] == LEAVING} == {
        "pending",
        "expired",
    }
    (letter,) = told(tmp_path, "deadletters")
    assert (letter["reason"], letter["detail"]["got"]) == ("unknown_intervention", "never/was")
