"""The command ``attune``: one Typer application, and the way every command ends.

Exit codes: 0 done, 1 failed, 2 used wrongly. A command imports what it needs when it runs, so that ``--help`` is quick.
"""

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from flows.commands import config, database, deadletters, demo, evaluate, explain, generate, replay, run, token, topics
from flows.commands.common import fail, version
from schemas.errors import AttuneError


class Ending(TyperGroup):
    """Ends every command the same way: what a person can mend is told in a line, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; with ``ATTUNE_DEBUG`` set, its error goes on as it is."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # Whoever read our output has what he wanted. Python would complain while it flushes: give it a sink.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return None
        except (AttuneError, OSError) as error:
            if os.environ.get("ATTUNE_DEBUG"):
                raise
            fail(_words(error))
        except KeyboardInterrupt:
            fail("interrupted")


def _words(error: AttuneError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


app = typer.Typer(
    name="attune",
    cls=Ending,
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
evaluate.register(app)
explain.register(app)
database.register(app)
topics.register(app)
token.register(app)
config.register(app)
deadletters.register(app)


def main() -> None:
    """Run the command line and exit with its code."""
    app(prog_name="attune")


if __name__ == "__main__":
    main()
