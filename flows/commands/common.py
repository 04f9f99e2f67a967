"""What the commands share: settings, the way to end, tables and progress."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from flows.settings import Settings

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Settings file. (default: $ATTUNE_CONFIG, else ./attune.toml if it is there)"),
]

Update = Callable[[float, float | None, str], None]
"""Tells progress: how much is done, of how much (None: unknown), and a word about it."""

PLAIN_EVERY_S = 2.0


def version() -> str:
    """Return the version of the installed package."""
    try:
        return installed("attune")
    except PackageNotFoundError:
        return "not installed"


def fail(message: str, code: int = 1) -> NoReturn:
    """Say what went wrong on standard error and exit with the code."""
    typer.echo(f"error: {message}", err=True)
    sys.exit(code)


def say(message: str) -> None:
    """Tell something that is not the command's output: on standard error."""
    typer.echo(message, err=True)


def load_settings(path: Path | None) -> "Settings":
    """Load the settings and set up logging by them."""
    from flows import logs
    from flows.settings import load
    from flows.settings.show import secrets

    settings = load(path)
    logs.configure(settings.log.level, settings.log.format, secrets(settings))
    return settings


def warn_insecure(settings: "Settings") -> None:
    """Tell loudly what is not safe enough outside development."""
    from flows.settings.advice import insecurities

    for risk in insecurities(settings):
        say(f"warning: INSECURE: {risk}")


def number(value: float | None, digits: int) -> str:
    """Write a figure, or a dash where there is none.

    >>> number(0.98765, 3), number(None, 3)
    ('0.988', '-')
    """
    return "-" if value is None else f"{value:.{digits}f}"


def table_console() -> "Console":
    """Return what tables are printed to: as wide as they need where nobody looks, for a pipe has no width."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


@contextmanager
def progress(title: str) -> Iterator[Update]:
    """Give a function that tells progress: a bar on a terminal, a plain line now and then otherwise."""
    if sys.stderr.isatty():
        with _bar(title) as update:
            yield update
    else:
        yield _lines(title)


@contextmanager
def _bar(title: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, note="")
        yield lambda done, total, note: bar.update(task, completed=done, total=total, note=note)


def _lines(title: str) -> Update:
    last = time.monotonic()

    def update(done: float, total: float | None, note: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            share = f"{100 * done / total:.0f} % " if total else ""
            say(f"{title}: {share}{note}")

    return update
