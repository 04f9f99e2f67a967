"""``attune explain``: why a window has its score, a tick no anomaly, an answer its route, an intervention its fate."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.common import ConfigOption

if TYPE_CHECKING:
    from flows.breakdown import Breakdown, Explainable
    from schemas.outbound import Decision, Intervention


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(explain)


def explain(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="[FILE|DIR|-]", help="A file with the record as JSON, a replay's folder, or (with --session) a log."
        ),
    ] = Path("-"),
    record_id: Annotated[str | None, typer.Option("--id", help="The record's id, looked up in DIR.")] = None,
    conversation_id: Annotated[
        str | None, typer.Option("--conversation", help="A conversation, whose answers in DIR are listed.")
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(
            metavar="TENANT/SESSION",
            help="With --at: why a tick was no anomaly, or which; FILE is a log. With DIR: what was felt and done.",
        ),
    ] = None,
    user: Annotated[str | None, typer.Option("--user", help="With --session and DIR: of this user alone.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The tick: ms since 1970 UTC, or like 2026-01-31T09:15:05Z.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigOption = None,
) -> None:
    """Print the breakdown of a score, a decision, an intervention or a calibration, or why a tick was no anomaly.

    Example: head -1 out/attune.engagement.v1.jsonl | attune explain
    """
    import msgspec

    from flows.breakdown import break_down, conversation
    from flows.settings import load
    from flows.settings.convert import score_config
    from schemas.outbound import Intervention

    if user is not None and (session is None or at is not None):
        raise typer.BadParameter("--user goes with --session and a replay's folder", param_hint="--user")
    _be_there(source)
    if session is not None and at is None and source.is_dir():
        if record_id is not None or conversation_id is not None:
            raise typer.BadParameter("--session goes with neither --id nor --conversation", param_hint="--session")
        _explain_session(source, session, user, as_json)
        return
    if session is not None or at is not None:
        if session is None or at is None or record_id is not None or conversation_id is not None:
            raise typer.BadParameter("--session and --at go together, and with a log alone", param_hint="--session")
        _explain_tick(source, session, at, config, as_json)
        return
    if conversation_id is not None:
        if record_id is not None or not source.is_dir():
            problem = "--conversation needs the folder that a replay has written, and no --id"
            raise typer.BadParameter(problem, param_hint="--conversation")
        decisions = conversation(source, conversation_id)
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(decisions)).decode())
        else:
            _list(decisions)
        return
    record = _record(source, record_id)
    if source.is_dir() and isinstance(record, Intervention):
        _explain_intervention(source, record, config, as_json)
        return
    found = break_down(record, score_config(load(config).engagement))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
    else:
        _print(found)


def _be_there(source: Path) -> None:
    from schemas.errors import ConfigError

    if str(source) != "-" and not source.exists():
        raise ConfigError(f"{source} is not there")


def _explain_intervention(folder: Path, record: "Intervention", config: Path | None, as_json: bool) -> None:
    import msgspec

    from flows.chain import chain, lines_of
    from flows.settings import load
    from operators.interventions.reading import FOLDER
    from operators.interventions.rules import read_rules

    found = chain(folder, record, read_rules(load(config).interventions.rules or FOLDER))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    typer.echo(f"intervention {record.intervention} in {record.tenant_id}/{record.session_id} at {_iso(record.ts)}")
    for what, line in lines_of(found):
        typer.echo(f"{what:>10}  {line}")


def _explain_session(folder: Path, session: str, user: str | None, as_json: bool) -> None:
    import msgspec

    from flows.chain import line_of, story

    steps = story(folder, *_tenant_and_session(session), user)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(steps)).decode())
        return
    for step in steps:
        typer.echo(f"{_iso(step.ts)}  {line_of(step)}")


def _tenant_and_session(text: str) -> tuple[str, str]:
    tenant, slash, name = text.partition("/")
    if not slash:
        raise typer.BadParameter("expected TENANT/SESSION", param_hint="--session")
    return tenant, name


def _iso(ts: int) -> str:
    return datetime.fromtimestamp(ts / 1000, UTC).isoformat(timespec="milliseconds")


def _explain_tick(log: Path, session: str, at: str, config: Path | None, as_json: bool) -> None:
    import msgspec

    from flows.retrace import retrace
    from flows.settings import load
    from flows.settings.convert import conductor_config

    tenant, name = _tenant_and_session(session)
    found = retrace([str(log)], tenant, name, _moment(at), conductor_config(load(config)))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    told = ", ".join(found.told) or "nothing"
    people = "" if found.audience is None else f", {found.audience} people within the last minutes"
    typer.echo(f"score {found.score:.4f}{people}; told: {told}")
    typer.echo("\n".join(found.why.lines()) if found.why else "too few people for an audience: nothing is looked for")


def _moment(text: str) -> int:
    """Return milliseconds since 1970 UTC."""
    if text.isdecimal():
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"expected milliseconds or a time like 2026-01-31T09:15:05Z, got {text}") from error
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def _record(source: Path, record_id: str | None) -> "Explainable":
    from flows.breakdown import find, parse

    if source.is_dir():
        if record_id is None:
            problem = "a folder holds many records: name one with --id, or a --conversation"
            raise typer.BadParameter(problem, param_hint="--id")
        return find(source, record_id)
    if record_id is not None:
        raise typer.BadParameter("--id needs the folder that a replay has written", param_hint="--id")
    if str(source) == "-":
        return parse(sys.stdin.buffer.readline(), "standard input")
    with source.open("rb") as lines:
        return parse(lines.readline(), f"{source}:1")


def _print(found: "Breakdown") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from operators.chat.routing import told

    when = _iso(found.ts)
    # As wide as the table needs where nobody looks: a pipe has no width to fit into.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    whose = "/".join(filter(None, (found.tenant_id, found.session_id)))  # a calibration belongs to no session
    console.print(f"{found.type} of {whose} at {when}", markup=False)
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
            console.print(f"{name:>17}  {_text(value)}", markup=False)
    if found.rules:
        # Not wrapped: each rule is a line, however long what it needs.
        typer.echo(f"\n{told(found.rules)}")


def _list(decisions: "list[Decision]") -> None:
    """Print a line for each answer of a conversation: when, where it went, how sure it was, and why."""
    for one in decisions:
        when = datetime.fromtimestamp(one.ts / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
        typer.echo(
            f"{when}  {one.letter} {one.path:<12} {one.reason:<19} confidence {one.confidence:.2f} "
            f"similarity {one.similarity:.2f}  {one.id}"
        )


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} from {_text(least)}" for name, least in value.items())
    return f"{value:.4f}" if isinstance(value, float) else str(value)
