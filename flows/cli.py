"""The command ``attune``: one Typer application, and the way every command ends.

Exit codes: 0 done, 1 failed, 2 used wrongly. A command imports what it needs when it runs, so that ``--help`` is quick.
"""

import os
import sys
from typing import Annotated

import typer

from flows.commands import config, database, deadletters, demo, explain, generate, replay, run, topics
from flows.commands.common import fail, version
from schemas.errors import AttuneError

app = typer.Typer(
    name="attune",
    help="Attune reads how a live audience feels from its events, and answers while it still matters.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"attune {version()}")
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Attune reads how a live audience feels from its events, and answers while it still matters."""


demo.register(app)
run.register(app)
replay.register(app)
generate.register(app)
explain.register(app)
database.register(app)
topics.register(app)
config.register(app)
deadletters.register(app)


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        app()
    except AttuneError as error:
        if os.environ.get("ATTUNE_DEBUG"):
            raise
        fail(str(error))
    except BrokenPipeError:
        # Whoever read our output has what he wanted. Python would complain while it flushes: give it somewhere to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        fail("interrupted")


if __name__ == "__main__":
    main()
