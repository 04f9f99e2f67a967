"""``attune db``: prepares the database, keeps it in shape, and erases what somebody asks to have erased."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.common import ConfigOption, load_settings, progress, say, warn_insecure

if TYPE_CHECKING:
    from flows.settings import Settings

group = typer.Typer(help="Prepare the database, keep it in shape, erase.", no_args_is_help=True)


class Mode(StrEnum):
    """What becomes of a person's rows."""

    REMOVE = "remove"
    PSEUDONYMISE = "pseudonymise"


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(group, name="db")


@group.callback()
def _group() -> None:
    """Prepare the database, keep it in shape, erase."""


@group.command()
def migrate(
    delete_old: Annotated[
        bool,
        typer.Option(
            "--delete-old", help="TimescaleDB: set policies that delete what is there already, too; its sums stay."
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Create the tables, or bring them up to date; may be run again, and by several at once.

    With TimescaleDB it also sets how long rows are kept. Where that would delete rows at once, it says so and does not.

    Example: ATTUNE_DATABASE__URL=postgresql://attune@db/attune attune db migrate
    """
    from sinks.postgres import migrate as apply
    from sinks.postgres import refresh as add_up

    settings, conninfo = _database(config)
    database = settings.database
    kept = {
        "raw_retention_days": database.raw_retention_days,
        "rollup_retention_days": database.rollup_retention_days,
        "columnstore_after_days": database.columnstore_after_days,
    }
    told = {name: "off" if days is None else str(days) for name, days in kept.items()}
    applied = []
    if delete_old:
        # Without settings nothing is deleted yet: what goes is to be in the sums.
        applied = apply(conninfo, report=say)
        with progress("refresh") as update:
            add_up(conninfo, update)
        told["delete_old"] = "on"
    applied += apply(conninfo, report=say, settings=told)
    typer.echo(f"{len(applied)} migrations applied" if applied else "the database is up to date")


@group.command()
def refresh(config: ConfigOption = None) -> None:
    """Bring the sums by minute, hour and day up to date with what has changed; to be run every minute, or less often.

    TimescaleDB does so by itself, and this does it at once. May be broken off and run again.

    Example: attune db refresh
    """
    from sinks.postgres import refresh as apply

    _, conninfo = _database(config)
    with progress("refresh") as update:
        steps = apply(conninfo, update)
    typer.echo(f"{steps} steps done" if steps else "nothing has changed")


@group.command()
def retain(config: ConfigOption = None) -> None:
    """Delete what is older than database.raw_retention_days and database.rollup_retention_days; to be run every day.

    TimescaleDB does so by itself, but for dead letters. The sums are brought up to date before.

    Example: attune db retain
    """
    from sinks.postgres import retain as apply

    settings, conninfo = _database(config)
    database = settings.database
    with progress("retain") as update:
        gone = apply(conninfo, database.raw_retention_days, database.rollup_retention_days, update)
    for table, count in gone.items():
        typer.echo(f"{table}: {count} deleted")
    if not gone:
        typer.echo("nothing is that old")


@group.command()
def erase(
    user: Annotated[
        str | None,
        typer.Option(metavar="TENANT/USER", help="Erase a person, sessions of theirs alone too."),
    ] = None,
    tenant: Annotated[str | None, typer.Option(metavar="TENANT", help="Erase all that is a tenant's.")] = None,
    mode: Annotated[
        Mode, typer.Option(help="remove, or keep rows for statistics under a random name that nobody can trace back.")
    ] = Mode.REMOVE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be touched.")] = False,
    config: ConfigOption = None,
) -> None:
    """Erase a person or a tenant from every table, and tell what was touched. A second run touches nothing.

    Kafka's topics and the recovery store are not reached: see docs/database.md.

    Example: attune db erase --user acme/u-17
    """
    from sinks.postgres import erase_person, erase_tenant

    if (user is None) == (tenant is None):
        raise typer.BadParameter("expected one of --user TENANT/USER and --tenant TENANT")
    if tenant is not None:
        if mode is Mode.PSEUDONYMISE:
            raise typer.BadParameter("a tenant is no person and can only be removed", param_hint="--mode")
        if not tenant:
            raise typer.BadParameter("expected a tenant", param_hint="--tenant")
        touched = erase_tenant(_database(config)[1], tenant, dry_run=dry_run)
    else:
        of, slash, name = (user or "").partition("/")
        if not (of and slash and name):
            raise typer.BadParameter("expected TENANT/USER", param_hint="--user")
        touched = erase_person(_database(config)[1], of, name, pseudonymise=mode is Mode.PSEUDONYMISE, dry_run=dry_run)
    would = "would be " if dry_run else ""
    for table in touched:
        typer.echo(f"{table.table}: {table.removed} {would}removed, {table.changed} {would}changed")
    if not touched:
        typer.echo("nothing to erase")


@group.command()
def dictionary(config: ConfigOption = None) -> None:
    """Print the data dictionary of the configured database as Markdown: every table, view and column.

    Example: attune db dictionary > data-dictionary.md
    """
    from sinks.postgres.dictionary import dictionary as describe

    typer.echo(describe(_database(config)[1]), nl=False)


def _database(config: Path | None) -> tuple["Settings", str]:
    """Return the settings and how the database is reached."""
    from flows.settings.servers import conninfo

    settings = load_settings(config)
    warn_insecure(settings)
    return settings, conninfo(settings.database)
