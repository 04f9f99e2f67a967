"""tenants.toml: what is nearest wins, and every fault is told with its key and the file."""

import re
import time
from datetime import datetime
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from flows.settings import load
from flows.settings.convert import conductor_config, current_tenants, intervention_config
from flows.settings.tenants import read_tenants
from flows.tenants import TenantsWatcher
from operators.chat.answers import ChatConfig
from operators.chat.config import Limits, Policy
from operators.interventions.config import InterventionConfig
from operators.interventions.policies import Policies as InterventionPolicies
from operators.interventions.policies import Policy as InterventionPolicy
from operators.interventions.policies import QuietHours, RateLimit, local_clock
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
        "[tenants.three.chat.routing.limits]\na_day = -1\na_week = 'x'\n"
        "[tenants.four.chat]\nmodus = 1\nlevels = { high = 0.1 }\nmodes = 3\n"
        "agents = { a = { mode = 'x' }, b = { mode = 'y' } }\n",
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
        "tenants.three.chat.routing.limits.a_week",
        "tenants.four.chat.modus",
        "tenants.four.chat.levels",
        "tenants.four.chat.modes",
        "tenants.four.chat.agents.a.mode",
        "tenants.four.chat.agents.b.mode",
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


# Interventions.


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_a_tenant_without_settings_has_the_defaults(tmp_path: Path) -> None:
    plain = InterventionPolicy()
    assert (plain.enabled, plain.mode, plain.allowed, plain.quiet_hours) == (True, "AUTO", "all", "off")
    assert (plain.budget_per_hour, plain.holdout, plain.thresholds) == ("off", 0.0, {})
    assert plain.rate_limits == (RateLimit(times=1, within_s=30), RateLimit(times=10, within_s=300))
    tenants = read_tenants(written(tmp_path, '[tenants.acme.interventions]\nmode = "MANUAL"\n'))
    assert tenants.interventions.of("other", 0) == plain
    assert tenants.interventions.of("acme", 0).mode == "MANUAL"


def test_what_is_nearest_wins_and_the_rest_is_as_above_it(tmp_path: Path) -> None:
    found = read_tenants(
        written(
            tmp_path,
            "[defaults.interventions]\nholdout = 0.1\nthresholds = { poll = 0.9, help_chat = 0.8 }\n"
            'quiet_hours = { from = "22:00", to = "07:00", zone = "Europe/Berlin" }\n'
            "[tenants.acme.interventions]\nbudget_per_hour = 50\nthresholds = { poll = 0.5 }\n"
            'allowed = ["poll", "help_chat"]\nrate_limits = [{ times = 3, within_s = 60 }]\n'
            '[tenants.bolt.interventions]\nquiet_hours = "off"\nholdout = 0\n',
        )
    ).interventions
    acme, bolt = found.of("acme", 0), found.of("bolt", 0)
    assert (acme.holdout, acme.budget_per_hour, acme.thresholds) == (0.1, 50, {"poll": 0.5, "help_chat": 0.8})
    assert acme.quiet_hours == QuietHours(start="22:00", end="07:00", zone="Europe/Berlin")
    assert (acme.allowed, acme.rate_limits) == (("poll", "help_chat"), (RateLimit(times=3, within_s=60),))
    assert (bolt.quiet_hours, bolt.holdout, bolt.thresholds) == ("off", 0.0, {"poll": 0.9, "help_chat": 0.8})


def test_what_has_a_time_holds_from_then_on_by_event_time(tmp_path: Path) -> None:
    found = read_tenants(
        written(
            tmp_path,
            "[defaults.interventions]\nholdout = 0.1\n"
            "[[defaults.interventions.changes]]\nfrom = 2026-02-01T00:00:00Z\nholdout = 0.2\nbudget_per_hour = 7\n"
            '[tenants.acme.interventions]\nmode = "MANUAL"\n'
            '[[tenants.acme.interventions.changes]]\nfrom = 2026-03-01T01:00:00+01:00\nmode = "AUTO"\n'
            "[[tenants.acme.interventions.changes]]\nfrom = 2026-01-01T00:00:00Z\nenabled = false\n"
            "[[tenants.acme.interventions.changes]]\nfrom = 2026-01-02T00:00:00Z\nenabled = true\nholdout = 0.0\n",
        )
    ).interventions

    def acme(when: str) -> tuple[bool, str, float, object]:
        policy = found.of("acme", ms(when))
        return policy.enabled, policy.mode, policy.holdout, policy.budget_per_hour

    assert acme("2025-12-31T23:59:59.999Z") == (True, "MANUAL", 0.1, "off")
    assert acme("2026-01-01T00:00:00Z") == (False, "MANUAL", 0.1, "off")
    assert acme("2026-01-02T00:00:00Z") == (True, "MANUAL", 0.0, "off")
    assert acme("2026-02-01T00:00:00Z") == (True, "MANUAL", 0.0, 7)
    assert acme("2026-02-28T23:59:59.999Z") == (True, "MANUAL", 0.0, 7)
    assert acme("2026-03-01T00:00:00Z") == (True, "AUTO", 0.0, 7)
    assert [found.of("other", ms(f"2026-0{month}-15T00:00:00Z")).holdout for month in (1, 2)] == [0.1, 0.2]


def test_all_faults_of_interventions_are_told_with_file_and_key(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "[defaults.interventions]\nholdout = 2\nmode = 'SOMETIMES'\nkill = true\n"
        "[tenants.a.interventions]\nallowed = ['poll', 'pol']\nthresholds = { pole = 0.5 }\n"
        "[tenants.b.interventions]\nthresholds = { poll = 1.5 }\nbudget_per_hour = -1\n"
        "rate_limits = [{ times = 0, within_s = 30 }]\n"
        "[tenants.c.interventions]\nquiet_hours = { from = '25:00', to = '07:00' }\n"
        "[tenants.d.interventions]\nquiet_hours = { from = '07:00', to = '07:00' }\n"
        "[tenants.e.interventions]\nquiet_hours = { from = '07:00', to = '08:00', zone = 'Mars' }\n"
        "allowed = ['pool']\n"
        "[tenants.f.interventions]\nchanges = 3\n"
        "[[tenants.g.interventions.changes]]\nfrom = 2026-03-01\n"
        "[[tenants.g.interventions.changes]]\nfrom = 2026-03-01T00:00:00\nmode = 'X'\n"
        "[[tenants.g.interventions.changes]]\nenabled = false\n"
        "[[tenants.h.interventions.changes]]\nfrom = 2026-03-01T00:00:00Z\n"
        "[[tenants.h.interventions.changes]]\nfrom = 2026-03-01T01:00:00+01:00\n"
        "[tenants.i.chat]\nmode = 'hard'\n",
    )
    with pytest.raises(ConfigError) as caught:
        read_tenants(path)
    told = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in told)
    assert [line.removeprefix(f"{path}: ").split(": ")[0] for line in told] == [
        "tenants.i.chat.mode",
        "defaults.interventions.kill",
        "defaults.interventions.mode",
        "defaults.interventions.holdout",
        "tenants.a.interventions.allowed",
        "tenants.a.interventions.thresholds",
        "tenants.b.interventions.thresholds.poll",
        "tenants.b.interventions.budget_per_hour",
        "tenants.b.interventions.rate_limits[0].times",
        "tenants.c.interventions.quiet_hours.from",
        "tenants.d.interventions.quiet_hours",
        "tenants.e.interventions.quiet_hours",
        "tenants.e.interventions.allowed",
        "tenants.f.interventions.changes",
        "tenants.g.interventions.changes[0].from",
        "tenants.g.interventions.changes[1].mode",
        "tenants.g.interventions.changes[1].from",
        "tenants.g.interventions.changes[2].from",
        "tenants.h.interventions.changes[1].from",
    ]


def test_quiet_hours_are_those_of_the_tenants_clocks() -> None:
    night = QuietHours(start="22:00", end="06:00", zone="Europe/Berlin")
    day = QuietHours(start="06:00", end="22:00", zone="Europe/Berlin")
    for when, quiet in (
        ("2026-01-15T20:59:59Z", False),
        ("2026-01-15T21:00:00Z", True),
        ("2026-01-15T04:59:59Z", True),
        ("2026-01-15T05:00:00Z", False),
        ("2026-07-15T20:00:00Z", True),  # summer time
        ("2026-07-15T04:00:00Z", False),
    ):
        assert night.hold(ms(when)) is quiet, when
        assert day.hold(ms(when)) is not quiet, when
    assert local_clock(253_402_300_799_999, "Pacific/Kiritimati") == "13:59"


def test_the_interventions_section_says_what_the_core_does_by_default_and_otherwise(tmp_path: Path) -> None:
    names = ("memory_ms", "approval_ms", "pending_most", "rules", "score")
    settings = load(None, {})
    plain, given = intervention_config(settings, current_tenants(settings)), InterventionConfig()
    assert [getattr(plain, name) for name in names] == [getattr(given, name) for name in names]
    environ = {
        "ATTUNE_INTERVENTIONS__MEMORY_S": "3600",
        "ATTUNE_INTERVENTIONS__APPROVAL_S": "60",
        "ATTUNE_INTERVENTIONS__PENDING_MOST": "7",
        "ATTUNE_INTERVENTIONS__RULES": str(tmp_path),
    }
    settings = load(None, environ)
    other = intervention_config(settings, current_tenants(settings))
    assert [getattr(other, name) for name in names[:-1]] == [3_600_000, 60_000, 7, tmp_path]
    with pytest.raises(ConfigError, match="approval_s of at most memory_s"):
        load(None, {"ATTUNE_INTERVENTIONS__APPROVAL_S": "90000"})


def test_config_check_tells_faults_of_the_mapping_and_of_tenants_together(tmp_path: Path) -> None:
    written(tmp_path, "[tenants.acme.interventions]\nholdout = 7\nmode = 1\n")
    (tmp_path / "attune.toml").write_text('[interventions]\nrules = "rules"\n', encoding="utf-8")
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "interventions.toml").write_text("[interventions.quiz]\ncooldown = 1\n", encoding="utf-8")
    (tmp_path / "rules" / "content.toml").write_text("[content]\n", encoding="utf-8")
    done = attune("config", "check", cwd=tmp_path)
    assert done.returncode == 1
    for told in (
        "tenants.acme.interventions.holdout: Expected `float` <= 1.0",
        "tenants.acme.interventions.mode: Expected `str`",
        "interventions.quiz.cooldown: unknown",
        "interventions.quiz.cooldown_s: missing",
        "content.quiz: missing",
    ):
        assert told in " ".join(done.stderr.split()), told


# Reading again.


def read_count(result: str) -> float:
    return REGISTRY.get_sample_value("attune_tenants_read_total", {"result": result}) or 0.0


def test_a_change_holds_for_all_parts_and_a_faulty_file_is_refused_as_a_whole(tmp_path: Path) -> None:
    path = written(tmp_path, '[tenants.acme.chat]\nmode = "lenient"\n')
    watcher = TenantsWatcher(path, None)
    chat, interventions = watcher.current.chat, watcher.current.interventions
    assert (chat.of("acme", "a").mode, interventions.of("acme", 0).enabled) == ("lenient", True)
    assert not watcher.look()

    taken, refused = read_count("taken"), read_count("refused")
    written(tmp_path, '[tenants.acme.chat]\nmode = "strict"\n[defaults.interventions]\nenabled = false\n')
    assert watcher.look()
    assert (chat.of("acme", "a").mode, interventions.of("acme", 0).enabled) == ("strict", False)

    written(tmp_path, '[tenants.acme.chat]\nmode = "lenient"\n[defaults.interventions]\nenabled = "maybe"\n')
    with capture_logs() as logs:
        assert not watcher.look()
    assert (logs[0]["log_level"], logs[0]["file"]) == ("error", str(path))
    assert "defaults.interventions.enabled" in logs[0]["faults"][0]
    assert (chat.of("acme", "a").mode, interventions.of("acme", 0).enabled) == ("strict", False)
    path.unlink()
    with capture_logs() as logs:
        assert not watcher.look()
    assert (len(logs), chat.of("acme", "a").mode) == (1, "strict")
    written(tmp_path, "")
    assert watcher.look()
    assert (chat.of("acme", "a").mode, interventions.of("acme", 0).enabled) == ("standard", True)
    assert (read_count("taken") - taken, read_count("refused") - refused) == (2, 2)


def test_a_link_that_points_elsewhere_is_a_change(tmp_path: Path) -> None:
    for name, mode in (("one", "MANUAL"), ("two", "AUTO")):
        (tmp_path / name).mkdir()
        written(tmp_path / name, f'[tenants.acme.interventions]\nmode = "{mode}"\n')
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "one")
    watcher = TenantsWatcher(link / "tenants.toml", None)
    assert watcher.current.interventions.of("acme", 0).mode == "MANUAL"
    (tmp_path / "new").symlink_to(tmp_path / "two")
    (tmp_path / "new").rename(link)
    assert watcher.look()
    assert watcher.current.interventions.of("acme", 0).mode == "AUTO"


def test_the_watcher_looks_by_itself_and_for_a_file_that_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    watcher = TenantsWatcher(None, None, poll_s=0.01)
    watcher.start()
    try:
        written(tmp_path, "[defaults.interventions]\nenabled = false\n")
        until = time.monotonic() + 30
        while watcher.current.interventions.of("acme", 0).enabled:
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        watcher.stop()
    assert InterventionPolicies().of("acme", 0).enabled


def test_a_file_of_brackets_does_not_end_the_watching(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text("", encoding="utf-8")
    watcher = TenantsWatcher(file, None, poll_s=0.01)
    watcher.start()
    try:
        file.write_text(f"x = {'[' * 5_000}\n", encoding="utf-8")
        time.sleep(0.2)
        file.write_text("[tenants.acme.interventions]\nenabled = false\n", encoding="utf-8")
        deadline = time.monotonic() + 10
        while watcher.current.interventions.of("acme", 0).enabled and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        watcher.stop()
    assert not watcher.current.interventions.of("acme", 0).enabled
