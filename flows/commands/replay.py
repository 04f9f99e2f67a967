"""``attune replay``: recorded events through the whole conductor, without a server."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.common import ConfigOption, load_settings, progress, say


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(replay)


def replay(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="JSON lines, also .gz; - is standard input.")],
    out: Annotated[Path, typer.Option(help="The folder for one file of each outbound topic.")],
    workers: Annotated[int, typer.Option(min=1, max=256, help="Threads that share the work.")] = 1,
    config: ConfigOption = None,
) -> None:
    """Run recorded events through the conductor and write what it says, the same bytes every time.

    Example: attune replay events.jsonl --out out
    """
    from flows.replay import replay as run
    from flows.settings.convert import conductor_config
    from schemas.registry import OUTBOUND

    if out.exists() and not out.is_dir():
        raise typer.BadParameter(f"{out} is a file; a folder is needed", param_hint="--out")
    settings = load_settings(config)
    with progress("replaying") as update:
        report = run(
            files,
            out,
            workers,
            conductor_config(settings),
            lambda records, phase: update(records, None, f"{records:,} events, {phase}"),
        )
    for topic, count in report.written.items():
        typer.echo(f"{count:>12,}  {out / f'{topic}.jsonl'}")
    say(f"{report.received:,} events read")
    letters = OUTBOUND["dead_letter"].topic
    if aside := report.written.get(letters):
        say(f"{aside:,} set aside: see {out / f'{letters}.jsonl'}")
