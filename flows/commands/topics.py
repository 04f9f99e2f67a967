"""``attune topics create``: prepares Kafka."""

from typing import Annotated

import typer

from flows.commands.common import ConfigOption, load_settings, warn_insecure

group = typer.Typer(help="Prepare Kafka's topics.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(group, name="topics")


@group.callback()
def _group() -> None:
    """Prepare Kafka's topics."""


@group.command()
def create(
    create_time: Annotated[
        bool, typer.Option("--create-time", help="Keep the producer's timestamps: for a recorded log.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Create the topics that are missing, and tell where existing ones differ; may be run again.

    Example: attune topics create --config attune.toml
    """
    from flows.settings.servers import connection, inbound_topics, outbound_topics
    from sources.kafka import create_topics

    settings = load_settings(config)
    warn_insecure(settings)
    kafka = settings.kafka
    outcome = create_topics(
        connection(kafka),
        kafka.partitions,
        kafka.replication_factor,
        create_time=create_time,
        inbound=inbound_topics(kafka),
        outbound=outbound_topics(kafka),
        timeout_s=kafka.preflight_timeout_s,
    )
    width = max(len(topic) for topic, _ in outcome)
    for topic, what in outcome:
        typer.echo(f"{topic:<{width}}  {what}")
    if any(what.startswith("differs") for _, what in outcome):
        raise typer.Exit(1)
