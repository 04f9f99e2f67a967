"""tenants.toml: what is nearest wins, and every fault is told with its key and the file."""

import re
from pathlib import Path

import pytest

from flows.settings import load
from flows.settings.convert import conductor_config
from flows.settings.tenants import read_tenants
from operators.chat.answers import ChatConfig
from operators.chat.config import Limits, Policy
from schemas.errors import ConfigError
from tests.flows.running import attune

ROOT = Path(__file__).parents[2]


def written(folder: Path, text: str) -> Path:
    path = folder / "tenants.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_settings_of_the_documentation_are_right(tmp_path: Path) -> None:
    (shown,) = re.findall(
        r"^```toml\n(.*?)^```", (ROOT / "docs" / "chat.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    policies = read_tenants(written(tmp_path, shown)).chat
    billing, other, stranger = policies.of("acme", "billing"), policies.of("acme", "other"), policies.of("who", "x")
    assert (billing.mode, billing.routing.auto_answer) == ("strict", 0.8)
    assert (other.mode, other.routing.auto_answer) == ("standard", 0.75)
    assert billing.routing.limits == other.routing.limits == Limits(5, 20, "Europe/Berlin")
    assert billing.high_stakes.words == ("reactor", "dosage")
    assert {one.disclaimers.on for one in (billing, other, stranger)} == {False}
    assert stranger.routing == Policy().routing


def test_all_faults_are_told_with_file_and_key(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "default = 1\n[defaults]\nchta = {}\n"
        '[defaults.chat]\nmode = "hard"\n[defaults.chat.agents.a]\nmode = "strict"\n'
        "[tenants]\nplain = 3\n[tenants.one.chat.levels]\nhigh = 2\n[tenants.two.chat.agents.a]\nmodus = 1\n"
        "[tenants.three.chat.routing.limits]\na_day = -1\n",
    )
    with pytest.raises(ConfigError) as caught:
        read_tenants(path)
    told = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in told)
    assert [line.removeprefix(f"{path}: ").split(": ")[0] for line in told] == [
        "default",
        "defaults.chta",
        "defaults.chat.agents",
        "tenants.plain",
        "defaults.chat.mode",
        "tenants.one.chat.levels.high",
        "tenants.two.chat.agents.a.modus",
        "tenants.three.chat.routing.limits.a_day",
    ]


@pytest.mark.parametrize("text, told", [("a = ", "expected TOML"), ("tenants = 3", "tenants: expected a table, got 3")])
def test_what_is_no_such_file_is_told(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        read_tenants(written(tmp_path, text))
    with pytest.raises(ConfigError, match=r"tenants\.path: expected readable UTF-8 in .*nowhere\.toml"):
        read_tenants(tmp_path / "nowhere.toml")


def test_the_file_is_the_named_one_or_the_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert conductor_config(load(None, {})).chat.policies.of("acme", "a") == Policy()
    written(tmp_path, '[tenants.acme.chat]\nmode = "lenient"\n')
    other = tmp_path / "other.toml"
    other.write_text('[tenants.acme.chat]\nmode = "strict"\n', encoding="utf-8")
    assert conductor_config(load(None, {})).chat.policies.of("acme", "a").mode == "lenient"
    settings = load(None, {"ATTUNE_TENANTS__PATH": str(other)})
    assert conductor_config(settings).chat.policies.of("acme", "a").mode == "strict"


def test_the_chat_section_says_what_the_core_does_by_default_and_otherwise() -> None:
    plain, given = conductor_config(load(None, {})).chat, ChatConfig()
    names = ("wanted", "conversation_ms", "repeats_kept", "calibration_ms", "tally_ms")
    assert [getattr(plain, name) for name in names] == [getattr(given, name) for name in names]
    environ = {
        "ATTUNE_CHAT__CONVERSATION_TIMEOUT_S": "60",
        "ATTUNE_CHAT__REPEATS_KEPT": "7",
        "ATTUNE_CHAT__CALIBRATION_INTERVAL_S": "120",
        "ATTUNE_CHAT__CALIBRATION_MEMORY_S": "86400",
        "ATTUNE_CHAT__WANTED_ESCALATED": "0.1",
        "ATTUNE_CHAT__WANTED_REVIEWED": "0.3",
    }
    other = conductor_config(load(None, environ)).chat
    assert [getattr(other, name) for name in names[1:]] == [60_000, 7, 120_000, 86_400_000]
    assert (other.wanted.escalated, other.wanted.reviewed) == (0.1, 0.3)


def test_config_check_tells_a_tenants_fault(tmp_path: Path) -> None:
    written(tmp_path, "[tenants.acme.chat.routing]\nnovelty = 7\n")
    done = attune("config", "check", cwd=tmp_path)
    assert done.returncode == 1
    assert "tenants.toml: tenants.acme.chat.routing.novelty: Expected `float` <= 1.0" in done.stderr
