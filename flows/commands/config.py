"""``attune config check`` and ``attune config show``."""

from typing import Annotated

import typer

from flows.commands.common import ConfigOption, say

group = typer.Typer(help="Check and print the settings.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(group, name="config")


@group.command()
def check(config: ConfigOption = None) -> None:
    """Check the settings file and the environment, and tell every fault at once.

    Example: attune config check --config attune.toml
    """
    from flows.settings.advice import insecurities, unanswered, unproven
    from flows.settings.check import check as checked

    settings = checked(config)
    risks = insecurities(settings)
    for risk in risks:
        say(f"warning: INSECURE: {risk}")
    weak = [*unanswered(settings), *unproven(settings)]
    for each in weak:
        say(f"warning: {each}")
    typer.echo(f"the settings are valid ({settings.environment}, {len(risks) + len(weak)} warnings)")


@group.command()
def show(
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of TOML.")] = False,
) -> None:
    """Print the settings that hold, defaults included, secrets masked.

    Example: ATTUNE_LOG__LEVEL=debug attune config show
    """
    import msgspec

    from flows.settings import load
    from flows.settings.show import as_toml, as_tree

    settings = load(config)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(as_tree(settings))).decode())
    else:
        typer.echo(as_toml(settings), nl=False)
