"""``attune evaluate emotions``: how well the rules find what generated visitors show, and what calm ones are given."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.common import ConfigOption, load_settings, number, progress, table_console

if TYPE_CHECKING:
    from rich.table import Table

    from flows.evaluate.emotion_figures import EmotionFigures, Row
    from flows.generate.visitors.truth import Visitor

SCENARIO = "visitors"


def emotions(  # noqa: PLR0913, PLR0917 - every option of the command is an argument
    sessions: Annotated[int, typer.Option(min=1, max=100_000, help="Visits.")] = 1000,
    seed: Annotated[
        int | None, typer.Option(help="The seed; those from 9000 on are for evaluation alone. (default: 9001)")
    ] = None,
    scenario: Annotated[str, typer.Option(help="visitors, visitors-calm or visitors-live.")] = SCENARIO,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Threads that share the work.")] = 1,
    jitter_s: Annotated[
        float, typer.Option(min=0, max=60, help="Deliver each event up to so many seconds late, out of order.")
    ] = 0.0,
    examples: Annotated[int, typer.Option(min=0, help="How many misses and false records to show.")] = 10,
    keep: Annotated[
        Path | None, typer.Option(help="A folder for events, truth and records. (default: none stay)")
    ] = None,
    records: Annotated[Path | None, typer.Option(help="Judge what a replay wrote into this folder instead.")] = None,
    truth: Annotated[Path | None, typer.Option(help="The visitors' truth that belongs to --records.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Measure precision and recall of the emotions, and count the interventions for calm visitors.

    Example: attune evaluate emotions --sessions 2000
    """
    if (records is None) != (truth is None):
        raise typer.BadParameter("--records and --truth go together", param_hint="--records")
    if records is not None and truth is not None:
        from flows.evaluate import read

        _tell(_figures(read.visitors(truth).visitors, records, examples), as_json)
        return
    from typing import cast

    from flows.evaluate.lab import EVALUATION_SEED, Workshop, produce
    from flows.generate import SCENARIOS, Plan
    from flows.generate.visitors.truth import VisitorsTruth
    from flows.settings.convert import conductor_config

    if scenario not in SCENARIOS or not scenario.startswith(SCENARIO):
        known = ", ".join(name for name in SCENARIOS if name.startswith(SCENARIO))
        raise typer.BadParameter(f"{scenario!r} is none of: {known}", param_hint="--scenario")
    plan = Plan(sessions, seed=EVALUATION_SEED if seed is None else seed)
    settings = conductor_config(load_settings(config))
    with (
        Workshop(keep) as folder,
        progress("generating") as generating,
        progress("replaying") as replaying,
    ):
        told, out = produce(scenario, plan, folder, settings, workers, generating, replaying, jitter_s * 1000)
        found = _figures(cast(VisitorsTruth, told).visitors, out, examples)
    _tell(found, as_json)


def _figures(visitors: "list[Visitor]", out: Path, examples: int) -> "EmotionFigures":
    from flows.evaluate import read
    from flows.evaluate.emotion_figures import figures
    from flows.evaluate.emotions import judge
    from flows.evaluate.lab import topic

    judgement = judge(visitors, read.emotions(topic(out, "emotion")))
    return figures(judgement, read.interventions(topic(out, "intervention")), examples)


def _tell(found: "EmotionFigures", as_json: bool) -> None:
    import msgspec

    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    console = table_console()
    console.print(_table("emotion", found.emotions))
    console.print(_table("rule", found.rules))
    if found.examples:
        console.print(_examples(found))
    console.print(_calm(found))
    given = ", ".join(f"{name} {count}" for name, count in found.interventions.items()) or "none"
    console.print(f"{found.visitors} visitors; interventions given to all of them: {given}", markup=False)


def _table(title: str, rows: "list[Row]") -> "Table":
    table = _bare(title, "truths", "found", "recall", "records", "right", "repeats", "false", "precision", "ms")
    for row in rows:
        name = row.rule or row.emotion
        counts = (row.records, row.right, row.repeats, row.false)
        cells = [name, str(row.truths), str(row.found), number(row.recall, 3), *map(str, counts)]
        table.add_row(*cells, number(row.precision, 3), number(row.delay_ms, 0))
    return table


def _examples(found: "EmotionFigures") -> "Table":
    table = _bare("example", "rule", "when", "session", "user", "persona", "why or evidence", left=True)
    for one in found.examples:
        when = datetime.fromtimestamp(one.ts / 1000, UTC).isoformat(timespec="milliseconds")
        session = f"{one.tenant_id}/{one.session_id}"
        table.add_row(one.what, one.rule, f"{one.ts} {when[11:23]}", session, one.user_id, one.persona, one.why)
    return table


def _calm(found: "EmotionFigures") -> "Table":
    from flows.evaluate.emotion_figures import PRIORITIES

    table = _bare("calm visitors", "visitors", *PRIORITIES, "held back", "given any", "given urgent")
    for kind in found.calm:
        counts = [*kind.given.values(), kind.suppressed, kind.touched, kind.urgent]
        table.add_row(kind.persona, str(kind.visitors), *map(str, counts))
    return table


def _bare(first: str, *others: str, left: bool = False) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    return table
