"""``attune explain``: why a window has its score, an answer its route, an intervention its fate."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.common import ConfigOption

if TYPE_CHECKING:
    from flows.breakdown import Breakdown, Explainable


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(explain)


def explain(
    source: Annotated[
        Path, typer.Argument(metavar="[FILE|DIR|-]", help="A file with the record as JSON, or a replay's folder.")
    ] = Path("-"),
    record_id: Annotated[str | None, typer.Option("--id", help="The record's id, looked up in DIR.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print the breakdown of an engagement score, a routing decision or an intervention.

    Example: head -1 out/attune.engagement.v1.jsonl | attune explain
    """
    import msgspec

    from flows.breakdown import break_down
    from flows.settings import load
    from flows.settings.convert import score_config

    found = break_down(_record(source, record_id), score_config(load(config).engagement))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(found)


def _record(source: Path, record_id: str | None) -> "Explainable":
    from flows.breakdown import find, parse

    if source.is_dir():
        if record_id is None:
            raise typer.BadParameter("a folder holds many records: name one with --id", param_hint="--id")
        return find(source, record_id)
    if record_id is not None:
        raise typer.BadParameter("--id needs the folder that a replay has written", param_hint="--id")
    if str(source) == "-":
        return parse(sys.stdin.buffer.readline(), "standard input")
    if not source.is_file():
        raise typer.BadParameter(f"{source} is not there", param_hint="FILE")
    with source.open("rb") as lines:
        return parse(lines.readline(), f"{source}:1")


def _print(found: "Breakdown") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    when = datetime.fromtimestamp(found.ts / 1000, UTC).isoformat(timespec="milliseconds")
    # As wide as the table needs where nobody looks: a pipe has no width to fit into.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(f"{found.type} of {found.tenant_id}/{found.session_id} at {when}", markup=False)
    table = Table(box=box.SIMPLE_HEAD)
    weighted = any(row.weight is not None for row in found.rows)
    for heading in ("", "signal", *(("term", "weight", "contribution") if weighted else ()), ""):
        table.add_column(heading, justify="left" if not heading else "right", overflow="fold")
    for row in found.rows:
        numbers = (row.term, row.weight, row.contribution) if weighted else ()
        table.add_row(row.name, _text(row.signal), *map(_text, numbers), row.note)
    console.print(table)
    for name, value in found.facts.items():
        if value is not None:
            console.print(f"{name:>16}  {_text(value)}", markup=False)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} from {_text(least)}" for name, least in value.items())
    return f"{value:.4f}" if isinstance(value, float) else str(value)
