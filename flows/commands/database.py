"""``attune db migrate``: prepares the database."""

import typer

from flows.commands.common import ConfigOption, load_settings, say, warn_insecure

group = typer.Typer(help="Prepare the database.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(group, name="db")


@group.callback()
def _group() -> None:
    """Prepare the database."""


@group.command()
def migrate(config: ConfigOption = None) -> None:
    """Create the tables, or bring them up to date; may be run again, and by several at once.

    Example: ATTUNE_DATABASE__URL=postgresql://attune@db/attune attune db migrate
    """
    from flows.settings.servers import conninfo
    from sinks.postgres import migrate as apply

    settings = load_settings(config)
    warn_insecure(settings)
    applied = apply(conninfo(settings.database), report=say)
    typer.echo(f"{len(applied)} migrations applied" if applied else "the database is up to date")
