"""The evaluation: known precision and recall by construction, spans, the picture, and the command end to end."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from typer.testing import CliRunner, Result

from flows.cli import app
from flows.evaluate import read
from flows.evaluate.figures import Figures, TypeFigures, figures
from flows.evaluate.judge import GRACE_TICKS, Report, judge
from flows.evaluate.picture import draw, rows, wanted_sessions
from flows.evaluate.spans import Span, judge_spans
from flows.evaluate.svg import Svg
from flows.generate import Plan
from flows.generate.lab.episodes import Cause, Episode, LabSession, LabTruth, TypeName, TypeTruth
from flows.generate.lab.expectation import TICK_MS
from flows.generate.lab.labels import TYPES
from flows.generate.lab.traffic import LabTraffic
from schemas.errors import ConfigError
from schemas.outbound import Anomaly, DetectorScores, Signals

MIN = 60_000
SVG = "{http://www.w3.org/2000/svg}"
DROP: TypeName = "SUDDEN_DROP"
LOW: TypeName = "LOW_ENGAGEMENT"


def of(name: TypeName, first: int, last: int, onset: int | None = None) -> TypeTruth:
    return TypeTruth(name, [(first, last)], onset)


def episode(*types: TypeTruth, ambiguous: Cause | None = None) -> Episode:
    first, last = min(t.spans[0][0] for t in types), max(t.spans[-1][1] for t in types)
    return Episode(first - 10_000, first, last, ambiguous, list(types))


def session(name: str, *episodes: Episode, healthy: bool = False, end: int | None = 60 * MIN) -> LabSession:
    return LabSession(
        tenant_id="t", session_id=name, kind="drop" if not healthy else "steady", people=50, by_acts_alone=False,
        start_ts=0, over_ts=60 * MIN, end_ts=end, healthy=healthy, audience_ticks=720, changes=[],
        episodes=list(episodes), first_tick=TICK_MS, expected=[0.5] * 720, sd=[0.02] * 720,
    )  # fmt: skip


def report(name: str, ts: int, kind: str = DROP) -> Report:
    return Report("t", name, kind, ts)


def one(found: Figures, name: str) -> TypeFigures:
    return next(row for row in found.types if row.anomaly_type == name)


TROUBLED = session("a", episode(of(DROP, 10 * MIN, 12 * MIN, 10 * MIN + 10_000)))


def verdicts(sessions: Sequence[LabSession], *reports: Report) -> list[str]:
    return [judged.verdict for judged in judge(sessions, reports).reports]


def test_a_report_is_right_where_its_type_is_open_and_a_little_later() -> None:
    last = 12 * MIN + GRACE_TICKS * TICK_MS
    assert verdicts([TROUBLED], report("a", 10 * MIN)) == ["right"]
    assert verdicts([TROUBLED], report("a", last)) == ["right"]
    assert verdicts([TROUBLED], report("a", 10 * MIN - TICK_MS), report("a", last + TICK_MS)) == ["false", "false"]
    assert verdicts([TROUBLED], report("a", 10 * MIN, LOW)) == ["false"]


def test_repeats_count_once_and_what_is_ambiguous_not_at_all() -> None:
    vague = session("b", episode(of(DROP, MIN, 2 * MIN), ambiguous="poll"), healthy=True)
    reports = [report("a", 10 * MIN + n * 30_000) for n in range(3)] + [report("b", MIN), report("b", 90_000)]
    judgement = judge([TROUBLED, vague], reports)
    assert [j.verdict for j in judgement.reports] == ["right", "repeat", "repeat", "ambiguous", "ambiguous"]
    found = figures(judgement)
    assert (one(found, DROP).precision, one(found, DROP).right, one(found, DROP).repeats) == (1.0, 1, 2)
    assert found.ambiguous == {"poll": 2}
    assert found.total.false_per_hour == 0.0


def test_nothing_is_right_after_the_session_was_ended() -> None:
    short = session("a", episode(of(DROP, 10 * MIN, 12 * MIN, 10 * MIN)), end=11 * MIN)
    assert verdicts([short], report("a", 11 * MIN), report("a", 11 * MIN + TICK_MS)) == ["right", "false"]


def test_a_report_of_an_unknown_session_is_false_and_of_no_healthy_one() -> None:
    found = figures(judge([session("h", healthy=True)], [report("elsewhere", MIN)]))
    assert (found.total.false, found.total.false_per_hour, found.false_by_kind) == (1, 0.0, {"unknown": 1})


def test_delays_are_told_from_the_onset_and_from_the_change() -> None:
    truth = judge([TROUBLED], [report("a", 10 * MIN + 25_000)]).truths[0]
    assert (truth.delay_ticks, truth.delay_s) == (3, 35.0)
    early = judge([TROUBLED], [report("a", 10 * MIN)]).truths[0]
    assert (early.delay_ticks, early.delay_s) == (-2, 10.0)
    missed = judge([TROUBLED], []).truths[0]
    assert (missed.report, missed.delay_ticks, missed.delay_s) == (None, None, None)


def test_the_type_ahead_may_stand_in_where_it_is_open_and_the_type_behind_may_not() -> None:
    onset = 10 * MIN + TICK_MS
    both = session("a", episode(of(LOW, 10 * MIN, 12 * MIN), of(DROP, 10 * MIN, 12 * MIN, onset)))
    low_first = judge([both], [report("a", onset, LOW), report("a", onset + 60_000)])
    assert (low_first.truths[0].instead, low_first.truths[0].delay_ticks) == (True, 0)
    assert one(figures(low_first), DROP).recall == 1.0
    own_at_once = judge([both], [report("a", onset, LOW), report("a", onset)])
    assert not own_at_once.truths[0].instead
    behind = session("a", episode(of(LOW, 10 * MIN, 12 * MIN, onset), of(DROP, 10 * MIN, 12 * MIN)))
    missed = judge([behind], [report("a", onset)])
    assert missed.truths[0].report is None
    assert [j.verdict for j in missed.reports] == ["right"]  # for a drop is open there, too


def test_precision_recall_and_false_alarms_are_those_that_were_built() -> None:
    sessions = [session(f"s{n}", episode(of(DROP, 10 * MIN, 12 * MIN, 10 * MIN))) for n in range(10)]
    sessions += [session(f"h{n}", healthy=True) for n in range(4)]
    hits = [report(f"s{n}", 10 * MIN + n * TICK_MS) for n in range(8)]
    false = [report("h0", MIN), report("h0", 2 * MIN), report("h3", MIN), report("s0", 50 * MIN)]
    row = one(figures(judge(sessions, hits + false)), DROP)
    assert (row.truths, row.found, row.missed, row.right, row.false) == (10, 8, 2, 8, 4)
    assert row.recall == pytest.approx(0.8)
    assert row.precision == pytest.approx(8 / 12)
    assert row.false_per_hour == pytest.approx(3 / 4)  # three in four healthy sessions of an hour
    assert row.prompt == pytest.approx(0.3)  # 0, 1 and 2 ticks, of ten
    assert (row.delay_ticks_median, row.delay_ticks_p95) == (3, 7)
    quiet = one(figures(judge(sessions, [])), DROP)
    assert (quiet.recall, quiet.precision, quiet.delay_ticks_median) == (0.0, None, None)
    assert one(figures(judge(sessions, [])), LOW).recall is None


@pytest.fixture(scope="module")
def lab() -> LabTruth:
    traffic = LabTraffic(Plan(sessions=60, people=200, minutes=12, seed=5))
    for _ in traffic.events():
        pass
    return traffic.truth()


def at_onsets(truth: LabTruth) -> list[Report]:
    """Return what a detector would report that knew everything."""
    return [
        Report(s.tenant_id, s.session_id, t.anomaly_type, t.onset_ts)
        for s in truth.sessions
        for e in s.episodes
        for t in e.types
        if t.onset_ts is not None
    ]


def test_who_knows_the_truth_is_perfect_on_a_lab(lab: LabTruth) -> None:
    found = figures(judge(lab.sessions, at_onsets(lab)))
    assert {row.anomaly_type for row in found.types if row.truths} == set(TYPES)
    for row in (*found.types, found.total):
        assert (row.recall, row.precision, row.prompt) == (1.0, 1.0, 1.0)
        assert row.delay_ticks_p95 is not None
        assert row.delay_ticks_p95 <= 0
        assert row.false_per_hour == 0.0


def test_who_reports_too_late_or_elsewhere_is_told_so(lab: LabTruth) -> None:
    late = [Report(r.tenant_id, r.session_id, r.anomaly_type, r.ts + 60 * MIN) for r in at_onsets(lab)]
    found = figures(judge(lab.sessions, late))
    assert found.total.recall == 0.0
    assert found.total.precision == 0.0
    healthy = [s for s in lab.sessions if s.healthy and s.audience_ticks]
    noisy = [Report(s.tenant_id, s.session_id, DROP, s.first_tick) for s in healthy]
    hours = sum(s.audience_ticks for s in healthy) * 5 / 3600
    assert one(figures(judge(lab.sessions, noisy)), DROP).false_per_hour == pytest.approx(len(healthy) / hours)


def test_spans_widen_by_the_clock_and_the_window() -> None:
    spans = [Span("x", 10 * MIN, 11 * MIN), Span("x", 30 * MIN, 31 * MIN), Span("y", 5 * MIN, 5 * MIN)]

    def exits(*places: tuple[str, int]) -> list[Report]:
        return [Report("irc", name, "MASS_EXIT", ts) for name, ts in places]

    def hits(*places: tuple[str, int]) -> tuple[int, int, int, int]:
        found = judge_spans(spans, exits(*places), MIN)
        return found.found, found.right, found.repeats, found.false

    assert hits(("x", 9 * MIN), ("x", 30 * MIN)) == (2, 2, 0, 0)
    assert hits(("x", 9 * MIN - 1)) == (0, 0, 0, 1)
    assert hits(("x", 13 * MIN)) == (1, 1, 0, 0)
    assert hits(("x", 13 * MIN + 1)) == (0, 0, 0, 1)
    assert hits(("x", 7 * MIN), ("x", 12 * MIN), ("y", 20 * MIN), ("z", MIN)) == (1, 1, 0, 3)
    assert hits(("x", 10 * MIN), ("x", 15 * MIN - 1), ("x", 29 * MIN), ("x", 34 * MIN)) == (2, 2, 0, 1), "told again"
    found = judge_spans(spans, [*exits(("x", 10 * MIN), ("y", 20 * MIN)), report("y", 5 * MIN)], MIN)
    assert found.recall == pytest.approx(1 / 3)
    assert (found.precision, found.reports) == (0.5, 2)
    assert judge_spans(spans, [], MIN).precision is None


def test_a_picture_shows_finds_misses_and_false_reports(lab: LabTruth) -> None:
    reports = at_onsets(lab)[1:] + [Report(s.tenant_id, s.session_id, DROP, s.first_tick) for s in lab.sessions[:3]]
    judgement = judge(lab.sessions, reports)
    found = figures(judgement)
    chosen = rows(judgement, found)
    keys = wanted_sessions(chosen)
    scores = {key: [(TICK_MS * n, 0.4) for n in range(1, 200)] for key in keys}
    root = ET.fromstring(str(draw("Anomalies <lab>", chosen, judgement, scores)))  # noqa: S314 - our own picture
    words = ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]
    assert words[0] == "Anomalies <lab>"
    assert [word.split(":")[0] for word in words if ": recall" in word] == list(TYPES)
    assert any(word.startswith("the worst truth") and word.endswith("missed") for word in words)
    assert sum(word.startswith("a false report: ") for word in words) == 1
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for shape in root.iter():
        points = [tuple(map(float, p.split(","))) for p in shape.attrib.get("points", "").split()]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)


def test_a_picture_of_nothing_says_so() -> None:
    judgement = judge([session("h", healthy=True)], [])
    chosen = rows(judgement, figures(judgement))
    drawn = str(draw("empty", chosen, judgement, {}))
    assert drawn.count("no truth was found") == 2 * len(TYPES)
    assert drawn.count("no report is false") == len(TYPES)


def test_svg_escapes_and_leaves_out_what_has_no_extent() -> None:
    svg = Svg(10, 10)
    svg.text(1, 1, "a < b & c")
    svg.rectangle(1, 1, 0, 5, "#000000")
    root = ET.fromstring(str(svg))  # noqa: S314 - our own picture
    assert [element.tag for element in root] == [f"{SVG}rect", f"{SVG}text"]
    assert root[1].text == "a < b & c"


def within(*arguments: str | Path) -> Result:
    runner = CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"})
    return runner.invoke(app, ["evaluate", "anomalies", *map(str, arguments)], prog_name="attune")


def anomaly(found: Report, state: str = "raised") -> bytes:
    record = Anomaly(
        id=f"{found.session_id}/{found.anomaly_type}/{found.ts}/{state}", tenant_id=found.tenant_id,
        session_id=found.session_id, ts=found.ts, session_start=0, anomaly_type=found.anomaly_type,  # type: ignore[arg-type]  # a name of TYPES
        severity="WARNING", state=state, score=0.7, current=0.2, expected=0.4, deviation=0.2,  # type: ignore[arg-type]  # one of the two
        detector=DetectorScores(0.7, 0.7, 0.7), signals=Signals(0, 0, 9, 0, 0.0, 0.0, 0.0),
    )  # fmt: skip
    return msgspec.json.encode(record)


@pytest.fixture
def files(lab: LabTruth, tmp_path: Path) -> tuple[Path, Path]:
    """Return records that miss a truth and hold a false report and a resolved one, and the labels."""
    records, truth = tmp_path / "records.jsonl", tmp_path / "truth.json"
    healthy = next(s for s in lab.sessions if s.healthy)
    reports = at_onsets(lab)
    wrong = Report(healthy.tenant_id, healthy.session_id, "MASS_EXIT", healthy.first_tick)
    lines = [anomaly(found) for found in (*reports[1:], wrong)] + [anomaly(wrong, "resolved")]
    records.write_bytes(b"\n".join(lines) + b"\n")
    truth.write_bytes(msgspec.json.encode(lab))
    return records, truth


def test_the_command_judges_files(files: tuple[Path, Path], lab: LabTruth, tmp_path: Path) -> None:
    records, truth = files
    picture = tmp_path / "p.svg"
    result = within("--records", records, "--truth", truth, "--picture", picture, "--json")
    assert result.exit_code == 0, result.stderr
    told: dict[str, Any] = json.loads(result.stdout)
    wanted = len(at_onsets(lab))
    assert told["total"]["truths"] == wanted
    assert told["total"]["missed"] == 1
    assert told["total"]["false"] == 1
    assert ET.parse(picture).getroot().tag == f"{SVG}svg"  # noqa: S314 - our own picture
    table = within("--records", records, "--truth", truth, "--picture", picture).stdout
    assert all(name in table for name in TYPES)


def test_the_command_judges_spans(tmp_path: Path) -> None:
    records, spans = tmp_path / "records.jsonl", tmp_path / "spans.json"
    records.write_bytes(anomaly(Report("irc", "x", "MASS_EXIT", 10 * MIN)) + b"\n")
    spans.write_text(json.dumps([{"session_id": "x", "start": 10 * MIN, "end": 11 * MIN, "quits": 9}]))
    result = within("--records", records, "--spans", spans)
    assert result.exit_code == 0, result.stderr
    assert "recall 1.000 (1 of 1 spans), precision 1.000" in result.stdout
    assert json.loads(within("--records", records, "--spans", spans, "--json").stdout)["right"] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("--truth", "t.json"),
        ("--records", "r.jsonl"),
        ("--records", "r.jsonl", "--truth", "t", "--spans", "s"),
        ("--scenario", "live"),
        ("--sessions", "0"),
    ],
)
def test_wrong_use_exits_with_2(arguments: tuple[str, ...]) -> None:
    result = within(*arguments)
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_files_that_are_no_records_or_labels_are_named(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    records.write_bytes(anomaly(report("a", MIN)) + b'\n{"type": "engagement"}\n')
    with pytest.raises(ConfigError, match=r"records\.jsonl:2: is no anomaly record"):
        read.reports(records)
    with pytest.raises(ConfigError, match=r"nowhere\.jsonl: cannot be read"):
        read.reports(tmp_path / "nowhere.jsonl")
    with pytest.raises(ConfigError, match="expected the labels of a lab"):
        read.labels(records)
    with pytest.raises(ConfigError, match="expected a list of spans"):
        read.spans(records)
    result = within("--records", tmp_path / "nowhere.jsonl", "--truth", records)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr


def test_a_lab_goes_through_the_whole_flow(tmp_path: Path) -> None:
    keep, picture = tmp_path / "keep", tmp_path / "p.svg"
    result = within(
        "--sessions", "3", "--people", "9", "--minutes", "4", "--seed", "3",
        "--keep", keep, "--picture", picture, "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    labels = read.labels(keep / "events.jsonl.truth.json")
    assert told["sessions"] == len(labels.sessions) == 3
    assert (labels.seed, labels.scenario) == (3, "lab")
    keys = [(s.tenant_id, s.session_id) for s in labels.sessions]
    scores = read.scores(keep / "out" / "attune.engagement.v1.jsonl", keys)
    for lab_session, key in zip(labels.sessions, keys, strict=True):
        ticks = [ts for ts, _ in scores[key] if ts <= lab_session.over_ts]
        assert len(ticks) >= 40
        assert ticks[0] - lab_session.first_tick <= 60_000
    assert (keep / "out" / "attune.deadletters.v1.jsonl").read_bytes() == b""
    assert picture.is_file()
