"""``attune evaluate``: how good the detectors are, measured on labelled data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.common import ConfigOption, load_settings, number, progress, say, table_console
from flows.commands.evaluate_emotions import emotions

if TYPE_CHECKING:
    from flows.evaluate.figures import Figures, TypeFigures
    from flows.evaluate.judge import Judgement, Report
    from flows.evaluate.spans import SpanFigures
    from flows.generate.lab.episodes import LabTruth

PICTURE = Path("anomalies.svg")

app = typer.Typer(help="Measure how good the detectors are.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(emotions)
    root.add_typer(app, name="evaluate")


@app.callback()
def evaluate() -> None:
    """Measure how good the detectors are, on labelled data."""


@app.command()
def anomalies(  # noqa: PLR0913, PLR0917 - every option of the command is an argument
    sessions: Annotated[int, typer.Option(min=1, max=100_000, help="Sessions of the lab.")] = 200,
    seed: Annotated[
        int | None, typer.Option(help="The lab's seed; those from 9000 on are for evaluation alone. (default: 9001)")
    ] = None,
    scenario: Annotated[str, typer.Option(help="lab, or one kind: lab-KIND (see attune generate --list).")] = "lab",
    people: Annotated[int | None, typer.Option(min=1, max=100_000, help="Audience. (default: 5 to 5,000)")] = None,
    minutes: Annotated[float | None, typer.Option(min=1, max=10_000, help="Length. (default: 10 to 60)")] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Threads that share the work.")] = 1,
    keep: Annotated[
        Path | None, typer.Option(help="A folder for events, labels and records. (default: none stay)")
    ] = None,
    records: Annotated[Path | None, typer.Option(help="Judge this file of attune.anomalies.v1 instead.")] = None,
    truth: Annotated[Path | None, typer.Option(help="The lab's labels that belong to --records.")] = None,
    spans: Annotated[
        Path | None, typer.Option(help="Spans of mass exits that belong to --records: [{session_id, start, end}].")
    ] = None,
    tolerance_s: Annotated[float, typer.Option(min=0, help="How coarse the clock of --spans is.")] = 60.0,
    picture: Annotated[Path, typer.Option(help="Where the picture goes (SVG).")] = PICTURE,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Measure precision, recall, time to detect and false alarms of the anomaly detector.

    Example: attune evaluate anomalies --sessions 200 --picture anomalies.svg
    """
    if records is not None:
        if (truth is None) == (spans is None):
            raise typer.BadParameter("give one of --truth and --spans with it", param_hint="--records")
        if spans is not None:
            _judge_spans(records, spans, tolerance_s, as_json)
        elif truth is not None:
            _judge_file(records, truth, picture, as_json)
        return
    if truth is not None or spans is not None:
        raise typer.BadParameter("--truth and --spans belong to a file of --records", param_hint="--records")
    from flows.evaluate.lab import EVALUATION_SEED, Workshop, play
    from flows.generate import SCENARIOS, Plan
    from flows.settings.convert import conductor_config

    if scenario not in SCENARIOS or not scenario.startswith("lab"):
        labs = ", ".join(name for name in SCENARIOS if name.startswith("lab"))
        raise typer.BadParameter(f"{scenario!r} is none of: {labs}", param_hint="--scenario")
    plan = Plan(sessions, people, minutes, EVALUATION_SEED if seed is None else seed)
    settings = conductor_config(load_settings(config))
    with (
        Workshop(keep) as folder,
        progress("generating") as generating,
        progress("replaying") as replaying,
    ):
        outcome = play(scenario, plan, folder, settings, workers, generating, replaying)
        _tell(outcome.labels, outcome.reports, outcome.engagement, picture, as_json)


def _judge_file(records: Path, truth: Path, picture: Path, as_json: bool) -> None:
    from flows.evaluate import read
    from flows.evaluate.lab import topic

    # What a replay wrote lies side by side; a lone file of anomalies shows the expected scores alone.
    engagement = topic(records.parent, "engagement")
    _tell(read.labels(truth), read.reports(records), engagement, picture, as_json)


def _judge_spans(records: Path, spans: Path, tolerance_s: float, as_json: bool) -> None:
    import msgspec

    from flows.evaluate import read
    from flows.evaluate.spans import judge_spans

    found = judge_spans(read.spans(spans), read.reports(records), round(tolerance_s * 1000))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print_spans(found)


def _tell(labels: "LabTruth", reports: "list[Report]", engagement: Path, picture: Path, as_json: bool) -> None:
    import msgspec

    from flows.evaluate.figures import figures
    from flows.evaluate.judge import judge

    judgement = judge(labels.sessions, reports)
    found = figures(judgement)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(found)
    title = f"Anomalies of {labels.scenario}, seed {labels.seed}: {found.sessions} sessions"
    _draw(title, judgement, found, engagement, picture)
    say(f"picture in {picture}")


def _draw(title: str, judgement: "Judgement", found: "Figures", engagement: Path, picture: Path) -> None:
    from flows.evaluate import read
    from flows.evaluate.picture import draw, rows, wanted_sessions

    chosen = rows(judgement, found)
    scores = read.scores(engagement, wanted_sessions(chosen)) if engagement.is_file() else {}
    draw(title, chosen, judgement, scores).write(picture)


def _print(found: "Figures") -> None:
    from rich import box
    from rich.table import Table

    console = table_console()
    table = Table(box=box.SIMPLE_HEAD)
    headings = (
        "type", "truths", "found", "instead", "missed", "recall", "reports", "right", "false", "precision",
        "in 2 ticks", "ticks", "p95", "s", "p95", "false/h",
    )  # fmt: skip
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right" if place else "left", no_wrap=True)
    for row in (*found.types, found.total):
        table.add_row(*_cells(row))
    console.print(table)
    console.print(
        "ticks: median delay from when it could be told; s: from the change; p95: 95 % are quicker", markup=False
    )
    console.print(
        f"{found.sessions} sessions; {found.healthy_hours:.1f} h of healthy ones with an audience", markup=False
    )
    if not found.total.truths:
        console.print("nothing in this lab had to be found: more sessions, or another seed, tell more", markup=False)
    for what, counts in (("counted neither way, by cause", found.ambiguous), ("false, by kind", found.false_by_kind)):
        if counts:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            console.print(f"{what}: {told}", markup=False)


def _cells(row: "TypeFigures") -> list[str]:
    return [
        row.anomaly_type, str(row.truths), str(row.found), str(row.instead), str(row.missed), number(row.recall, 3),
        str(row.reports), str(row.right), str(row.false), number(row.precision, 3), number(row.prompt, 3),
        number(row.delay_ticks_median, 0), number(row.delay_ticks_p95, 0), number(row.delay_s_median, 0),
        number(row.delay_s_p95, 0), number(row.false_per_hour, 3),
    ]  # fmt: skip


def _print_spans(found: "SpanFigures") -> None:
    table_console().print(
        f"MASS_EXIT: recall {number(found.recall, 3)} ({found.found} of {found.spans} spans), "
        f"precision {number(found.precision, 3)} ({found.right} right, {found.false} false, {found.repeats} repeats)",
        markup=False,
    )
