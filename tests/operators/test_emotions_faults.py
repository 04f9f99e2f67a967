"""The rules of emotions are data that a marketer edits: every fault is told with its key, all of them together."""

from pathlib import Path

import pytest

from operators.emotions.rules import read_rules
from schemas.errors import ConfigError

RULE = 'emotion = "joy"\nconfidence = 0.8\non = "seen"\n'


def faults(path: Path, text: str) -> list[str]:
    file = path / "emotions.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_rules(file)
    return [line.removeprefix(f"{file}: ") for line in str(caught.value).splitlines()]


def test_no_fault_hides_another(tmp_path: Path) -> None:
    told = faults(
        tmp_path,
        'extra = 1\n[settled]\nby = "sold"\nabout = ["price"]\n'
        '[young]\nabout = ["price"]\nsilent_s = -1\nunsure_s = 9\nlowered_by = 0.1\n'
        '[events]\nNoisy = { type = "telemetry.click" }\nseen = { type = "telemetry.page_view", page = "pricy" }\n'
        'odd = { type = "telemetry.sniff" }\n'
        '[[rules]]\nname = "a"\nemotion = "Großer Ärger"\nconfidence = 7\non = "seen"\n'
        f'[[rules]]\nname = "b"\n{RULE}cuont = 2\n'
        f'[[rules]]\nname = "c"\n{RULE}count = 2\n'
        '[[rules]]\nname = "d"\nemotion = "joy"\nconfidence = 0.8\non = "sene"\n'
        '[[rules]]\nname = "e"\n',
    )
    assert [line.split(": ")[0] for line in told] == [
        "extra",
        "events.Noisy",
        "rules.a.emotion",
        "rules.a.confidence",
        "rules.b.cuont",
        "rules.e.emotion",
        "rules.e.confidence",
        "rules.e.on",
        "young.silent_s",
        "young.not_below",
        "events.seen.page",
        "events.odd.type",
        "settled.by",
        "rules.c.count",
        "rules.d.on",
    ]
    assert "rules.a.emotion: expected lower-case letters, digits, `_`, `.` or `-`" in told


@pytest.mark.parametrize(
    "text, told",
    [
        ("events = 1\nrules = 2\n", ["events: expected a table, got 1", "rules: Expected `array`, got `int`"]),
        ("", ["events: missing", "rules: missing"]),
        ("events = {}\nrules = [1]\n", ["rules.0: expected a table, got 1", "rules.0.name: missing"]),
        ("events = {}\nrules = [" + "{}," * 201 + "]\n", ["rules: Expected `array` of length <= 200"]),
    ],
)
def test_what_is_no_rules_file_is_told(text: str, told: list[str], tmp_path: Path) -> None:
    assert faults(tmp_path, text)[: len(told)] == told


@pytest.mark.parametrize(
    "condition, where",
    [
        (
            "page = { type = 'telemetry.click', page = " + "{ not = " * 2_000 + "'cart'" + " }" * 2_000 + " }",
            "line 2, events.page",
        ),
        ("page.page" + ".not" * 2_000 + " = 'cart'", "events.page.page" + ".not" * 14),
        ("page.page" + ".not" * 15 + " = 'cart'", "events.page.page" + ".not" * 14),
        ("page = " + "[" * 2_000 + "]" * 2_000, "line 2, events.page"),
        ("page = [1,\n" + "[" * 2_000 + "]" * 2_000 + "]", "line 3, events."),
    ],
)
def test_what_nests_without_end_is_a_fault_with_its_key(condition: str, where: str, tmp_path: Path) -> None:
    told = faults(tmp_path, f"[events]\n{condition}\n[[rules]]\nname = 'a'\n")
    assert told == [f"{where}: expected at most 16 tables and lists in each other"]


def test_a_not_of_a_not_is_read(tmp_path: Path) -> None:
    file = tmp_path / "emotions.toml"
    file.write_text(f"[events]\nseen.page{'.not' * 14} = 'cart'\n[[rules]]\nname = 'a'\n{RULE}", encoding="utf-8")
    assert read_rules(file).emotions == {"joy"}
