"""``attune deadletters replay``: puts dead letters back where they came from."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.common import ConfigOption, load_settings, say, warn_insecure

if TYPE_CHECKING:
    from flows.putback import Return
    from flows.settings import Settings
    from schemas.outbound import DeadLetter

DELIVERY_S = 60.0
"""How long a record may wait for its brokers before the command gives up."""

group = typer.Typer(help="Deal with records that could not be used.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(group, name="deadletters")


@group.callback()
def _group() -> None:
    """Deal with records that could not be used."""


@group.command()
def replay(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR|FILE]", help="A replay's folder or dead letters as JSON lines. (default: Kafka)"),
    ] = None,
    reason: Annotated[list[str] | None, typer.Option(help="Only this reason; may be given again.")] = None,
    topic: Annotated[list[str] | None, typer.Option(help="Only from this topic or file; may be given again.")] = None,
    letter_id: Annotated[list[str] | None, typer.Option("--id", help="Only this one; may be given again.")] = None,
    to: Annotated[str | None, typer.Option(help="The topic to put them on. (default: where they came from)")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the payloads to this file instead, a line each.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only tell what would be done.")] = False,
    config: ConfigOption = None,
) -> None:
    """Put dead letters back on the topic they came from; without --yes, only tell what would be done.

    Example: attune deadletters replay --reason refused_by_database --yes
    """
    from typing import get_args

    from flows.putback import Refusal, Return, plan, wanted
    from schemas.outbound import Reason

    if unknown := sorted(set(reason or ()) - set(get_args(Reason))):
        raise typer.BadParameter(
            f"{', '.join(unknown)}: expected some of {', '.join(get_args(Reason))}", param_hint="--reason"
        )
    settings = load_settings(config)
    if source is None or (yes and not out):
        warn_insecure(settings)
    letters = _from_files(source) if source else _from_kafka(settings)
    names = dict(settings.kafka.topics)
    chosen = wanted(letters, frozenset(reason or ()), frozenset(topic or ()), frozenset(letter_id or ()))
    plans = [plan(letter, names, to) for letter in chosen]
    returns = [each for each in plans if isinstance(each, Return)]
    for refusal in (each for each in plans if isinstance(each, Refusal)):
        say(f"stays: {refusal.letter.id} ({refusal.letter.reason}): {refusal.why}")
    _tell(returns, out)
    if not yes:
        typer.echo(f"{len(returns)} of {len(plans)} dead letters would be put back; --yes does it")
        return
    if out:
        _write(out, returns)
    elif returns:
        _produce(settings, returns)
    typer.echo(f"{len(returns)} of {len(plans)} dead letters were put back")


def _tell(returns: "list[Return]", out: Path | None) -> None:
    """Say what goes where, and what will come back."""
    from flows.putback import WILL_RETURN

    counts = Counter((each.letter.reason, str(out or each.topic)) for each in returns)
    for (reason, target), count in sorted(counts.items()):
        typer.echo(f"{count:>8} {reason} -> {target}")
    for reason in sorted({each.letter.reason for each in returns} & set(WILL_RETURN)):
        say(f"warning: {reason}: will be {WILL_RETURN[reason]}")


def _write(out: Path, returns: "list[Return]") -> None:
    if spoilt := [each.letter.id for each in returns if b"\n" in each.payload]:
        say(f"warning: {len(spoilt)} payloads have line breaks inside, which become spaces (the first: {spoilt[0]})")
    with out.open("wb") as lines:
        lines.writelines(each.payload.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n" for each in returns)


def _produce(settings: "Settings", returns: "list[Return]") -> None:
    from flows.settings.servers import sink_config
    from sinks.kafka import produce_raw

    # The records' time is now: with the old one they would be behind stream time and late for sure.
    messages = [(each.topic, None, each.key, each.payload) for each in returns]
    produce_raw(sink_config(settings.kafka, DELIVERY_S), messages)


def _from_files(source: Path) -> "Iterator[DeadLetter]":
    from flows.letters import read_lines
    from schemas.errors import ConfigError
    from schemas.registry import OUTBOUND

    file = source / f"{OUTBOUND['dead_letter'].topic}.jsonl" if source.is_dir() else source
    if not file.is_file():
        raise ConfigError(f"{file} is not there")
    return read_lines(file)


def _from_kafka(settings: "Settings") -> "Iterator[DeadLetter]":
    from flows.letters import read_topic
    from flows.settings.servers import connection
    from schemas.registry import OUTBOUND

    topic = OUTBOUND["dead_letter"].topic
    kafka = settings.kafka
    return read_topic(connection(kafka), kafka.topics.get(topic, topic), kafka.preflight_timeout_s)
