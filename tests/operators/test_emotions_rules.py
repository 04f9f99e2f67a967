"""A rules file that can't work is refused at the start; and what a page says does not grow what is remembered."""

from pathlib import Path

import pytest

from operators.emotions.matcher import Matcher
from operators.emotions.roles import sorters_of
from operators.emotions.rules import read_rules
from operators.emotions.visitor import Visitor
from schemas.errors import ConfigError
from schemas.inbound import PageView, Search

FILE = """
[events]
click = {{ type = "telemetry.click" }}
view = {{ type = "telemetry.page_view" }}
looked_at = {pattern}
[[rules]]
name = "r"
emotion = "e"
confidence = 0.5
on = ["looked_at", "view"]
{rule}
"""


def faults(path: Path, pattern: str, rule: str = "") -> list[str]:
    file = path / "emotions.toml"
    file.write_text(FILE.format(pattern=pattern, rule=rule), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_rules(file)
    return [line.removeprefix(f"{file}: ") for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    "pattern, rule, said",
    [
        (
            '{ type = ["telemetry.click", "telemetry.scroll"], turned = "direction" }',
            "",
            "events.looked_at.turned: expected types with the field direction, got telemetry.click",
        ),
        (
            '{ type = "telemetry.click", returned = true }',
            "",
            "events.looked_at.returned: expected telemetry.page_view alone, got telemetry.click",
        ),
        (
            '{ type = "telemetry.click", came_from = ["cart"] }',
            "",
            "events.looked_at.came_from: expected telemetry.page_view alone, got telemetry.click",
        ),
        (
            '{ type = "telemetry.click" }',
            'count = 2\nwithin_s = 60\ndistinct = "url"',
            "rules.r.distinct: looked_at may be telemetry.click, which has no field 'url'",
        ),
    ],
)
def test_what_events_do_not_have_is_a_fault(tmp_path: Path, pattern: str, rule: str, said: str) -> None:
    assert faults(tmp_path, pattern, rule) == [said]


def test_a_number_beyond_all_bounds_is_a_fault(tmp_path: Path) -> None:
    (said,) = faults(tmp_path, f'{{ type = "telemetry.click", x = {{ over = 1{"0" * 400} }} }}')
    assert said.startswith("events.looked_at.x: expected a number")


def test_a_turn_without_a_type_is_one_of_events_that_have_the_field(tmp_path: Path) -> None:
    file = tmp_path / "emotions.toml"
    file.write_text(FILE.format(pattern='{ turned = "direction" }', rule=""), encoding="utf-8")
    patterns = read_rules(file).patterns
    assert [struct.__name__ for struct in patterns.types_of("looked_at")] == ["Scroll"]


def test_long_urls_are_told_apart_but_not_remembered() -> None:
    rules = read_rules()
    matcher, visitor = Matcher(rules), Visitor("u", 1)
    sorter = sorters_of(rules)[PageView]
    told = []
    long = "\N{SNOWMAN}" * 4_000
    for number, end in enumerate("abca"):
        view = PageView(f"e{number}", "t", "s", "u", 20_000 + number, f"/{long}{end}?q", "product")
        told += matcher.feed(visitor, view, sorter.mask(view), 0, -1, ()) or []
    assert [shown.rule.name for shown in told] == ["products_compared"]
    assert all(len(str(mark)) < 100 for marks in visitor.marks.values() for mark in marks)


def test_long_texts_are_sorted_but_not_remembered(tmp_path: Path) -> None:
    file = tmp_path / "emotions.toml"
    query = '{ type = "telemetry.search", query = { contains = ["voucher"] } }'
    file.write_text(FILE.format(pattern=query, rule=""), encoding="utf-8")
    patterns = read_rules(file).patterns
    sorter = patterns.sorters({}, 0)[Search]
    for text, fits in (("a voucher", True), ("x" * 3_000 + "voucher", True), ("x" * 3_000, False)):
        mask = sorter.mask(Search("e", "t", "s", "u", 1, text, 1))
        assert bool(mask & patterns.bits["looked_at"]) == fits
    assert len(sorter._known) == 1
