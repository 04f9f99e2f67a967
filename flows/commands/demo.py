"""``attune demo``: everything on this machine, with nothing installed but Python packages."""

import threading
import time
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.common import PLAIN_EVERY_S, ConfigOption, say

if TYPE_CHECKING:
    from rich.table import Table

    from flows.demo import Demo
    from flows.settings import Settings
    from flows.watch import Seen

BAR = 15
"""Characters of a full score's bar."""
BAR_FROM = 110
"""Columns of a terminal that has room for the bars."""
COUNTS_FROM = 95
"""Columns of a terminal that has room for the counts."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(demo)


def demo(
    seconds: Annotated[float | None, typer.Option(min=1, max=31_536_000, help="End after this long.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="The dashboard's port; 0: any. (default: gateway.port)")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same audience.")] = 1,
    open_page: Annotated[bool, typer.Option("--open", help="Open the dashboard in the browser.")] = False,
    config: ConfigOption = None,
) -> None:
    """Run broker, database, traffic, flow, gateway, dashboard and collector here, until Ctrl-C or for --seconds.

    Example: attune demo --seconds 60
    """
    from flows.demo import demo as run
    from flows.lifecycle import stop_on_signals

    settings = _settings(config, port)
    with stop_on_signals(threading.Event()) as stop, run(settings, stop, say, seed) as running:
        for line in running.told:
            typer.echo(line)
        if open_page and not webbrowser.open(running.told[0].split()[-1]):
            say("no browser could be started here")
        typer.echo("scores appear within 15 s; Ctrl-C ends it")
        _show(running, None if seconds is None else time.monotonic() + seconds)
        say("stopping")
    say(f"{running.sent:,} events in, {running.watch.records:,} records out")


def _settings(config: "ConfigOption", port: int | None) -> "Settings":
    from flows import logs
    from flows.settings import load
    from flows.settings.show import secrets

    settings = load(config)
    # What the parts say about each other would scroll the table away; what fails is told in any case.
    level = "error" if settings.log.level == "info" else settings.log.level
    logs.configure(level, settings.log.format, secrets(settings))
    if port is None:
        return settings
    update: dict[str, object] = {"gateway": settings.gateway.model_copy(update={"port": port})}
    if port == 0:
        update["metrics"] = settings.metrics.model_copy(update={"port": 0})
        update["collector"] = settings.collector.model_copy(update={"port": 0})
    return settings.model_copy(update=update)


def _show(running: "Demo", until: float | None) -> None:
    """Show the scores until the demo is stopped or its time is over: a table on a terminal, lines otherwise."""
    from rich.console import Console
    from rich.live import Live

    console = Console()
    left = (lambda: None) if until is None else (lambda: max(0.0, until - time.monotonic()))
    if console.is_terminal:
        with Live(console=console, refresh_per_second=2, transient=False) as screen:
            while left() != 0.0 and not running.stop.wait(0.5):
                screen.update(_table(running, console.width))
        return
    last = ""
    while left() != 0.0 and not running.stop.wait(min(PLAIN_EVERY_S, left() or PLAIN_EVERY_S)):
        line = "  ".join(f"{seen.now.session_id} {seen.now.score:.2f}" for seen in running.watch.seen())
        if line != last:
            typer.echo(line)
        last = line


def _table(running: "Demo", width: int) -> "Table":
    """Return the newest scores. On a narrow terminal the bar goes first, then the counts: no name is cut for them."""
    from rich import box
    from rich.table import Table

    bar, counts = width >= BAR_FROM, width >= COUNTS_FROM
    table = Table(box=box.SIMPLE_HEAD, title=f"{running.sent:,} events in, {running.watch.records:,} records out")
    for heading, least in (("tenant", 8), ("session", 10), ("score", 6), ("category", 9)):
        table.add_column(heading, no_wrap=True, min_width=least)
    if counts:
        for heading in ("people", "active", "chat", "react", "poll"):
            table.add_column(heading, justify="right", no_wrap=True)
    if bar:
        table.add_column("", no_wrap=True)
    for seen in running.watch.seen():
        now, signals = seen.now, seen.now.signals
        row = [now.tenant_id, now.session_id, f"{now.score:.2f} {_trend(seen)}", now.category]
        if counts:
            row += map(str, (signals.connected_users, signals.active_users))
            row += map(str, (signals.chat_per_min, signals.reactions_per_min))
            row.append(f"{signals.poll_participation:.0%}" if signals.poll_participation else "")
        if bar:
            row.append(f"{'█' * round(now.score * BAR):<{BAR}}")
        table.add_row(*row)
    return table


def _trend(seen: "Seen") -> str:
    if seen.before is None or abs(seen.now.score - seen.before) < 0.005:
        return " "
    return "↑" if seen.now.score > seen.before else "↓"
