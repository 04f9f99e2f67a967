"""``attune run FLOW``: a flow against the configured Kafka, database and gateway, until it is told to stop."""

import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.common import ConfigOption, load_settings, say, warn_insecure

if TYPE_CHECKING:
    from flows.engine import Placement
    from flows.settings import Settings


class FlowName(StrEnum):
    """The flows that can be run."""

    CONDUCTOR = "conductor"
    ARCHIVE = "archive"
    GATEWAY = "gateway"
    COLLECTOR = "collector"


class SinkName(StrEnum):
    """Where the conductor sends its records."""

    KAFKA = "kafka"
    DATABASE = "database"
    GATEWAY = "gateway"


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(run)


def run(  # noqa: PLR0913, PLR0917 - every option of the command is an argument
    flow: Annotated[
        FlowName,
        typer.Argument(
            help="conductor: all of it; archive: output topics to the database; gateway: output topics to websockets; "
            "collector: HTTP to the inbound topics.",
            show_choices=True,
        ),
    ],
    workers: Annotated[int, typer.Option("--workers", "-w", min=1, max=256, help="Threads of each process.")] = 1,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes on this machine, as one cluster.")] = 1,
    process_id: Annotated[int | None, typer.Option(min=0, help="This process's place in --addresses.")] = None,
    addresses: Annotated[
        str | None, typer.Option(help="host:port of every process of a cluster on several machines, separated by ;")
    ] = None,
    recovery: Annotated[
        Path | None, typer.Option(help="The folder for positions and state. (default: recovery.path)")
    ] = None,
    sink: Annotated[
        list[SinkName] | None,
        typer.Option(help="Where conductor writes; may be given again. (default: kafka, gateway, the database)"),
    ] = None,
    parent: Annotated[int | None, typer.Option(hidden=True, help="End with this process.")] = None,
    config: ConfigOption = None,
) -> None:
    """Run a flow until SIGTERM or Ctrl-C, which let it drain: what was read is written, then it exits with 0.

    Example: attune run conductor --workers 2 --recovery /var/lib/attune
    """
    _check_cluster(processes, process_id, addresses)
    if flow is FlowName.COLLECTOR:
        if processes > 1 or workers > 1 or addresses or recovery or sink:
            raise typer.BadParameter(
                "the collector is one process without state: run several, each with a collector.port of its own",
                param_hint="collector",
            )
        _collect(load_settings(config))
        return
    settings = load_settings(config)
    folder = recovery or settings.recovery.path
    if processes > 1:
        from flows.processes import run_processes

        if folder:
            _prepare(folder, settings)
        warn_insecure(settings)
        # Each child is this very command, with its place in the cluster added.
        raise typer.Exit(run_processes([*_without_processes(sys.argv[1:])], processes))
    from flows.engine import Placement

    if process_id in (None, 0):
        warn_insecure(settings)
    placement = Placement(process_id or 0, tuple(addresses.split(";")) if addresses else (), workers)
    _run_here(flow.value, settings, placement, folder, frozenset(name.value for name in sink or ()), parent)


def _collect(settings: "Settings") -> None:
    import structlog

    from flows import collect
    from flows.lifecycle import stop_on_signals

    warn_insecure(settings)
    with stop_on_signals(threading.Event()) as stop, collect.collect(settings) as (collector, told):
        for line in told:
            say(line)
        structlog.get_logger(__name__).info("flow starts", flow="collector")
        collect.wait(collector, stop)


def _check_cluster(processes: int, process_id: int | None, addresses: str | None) -> None:
    if (process_id is None) != (addresses is None):
        raise typer.BadParameter("--process-id and --addresses go together", param_hint="--process-id")
    if addresses is None or process_id is None:
        return
    if processes > 1:
        raise typer.BadParameter("give --processes or --addresses, not both", param_hint="--processes")
    listed = addresses.split(";")
    for address in listed:
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isdecimal()):
            raise typer.BadParameter(f"{address!r} is not host:port", param_hint="--addresses")
    if process_id >= len(listed):
        raise typer.BadParameter(f"{process_id} has no place among {len(listed)} addresses", param_hint="--process-id")


def _without_processes(arguments: list[str]) -> list[str]:
    """Return the command line without ``--processes``.

    >>> _without_processes(["run", "conductor", "--processes", "2", "--workers=3", "--processes=4"])
    ['run', 'conductor', '--workers=3']
    """
    kept: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--processes":
            next(rest, None)
        elif not argument.startswith("--processes="):
            kept.append(argument)
    return kept


def _prepare(folder: Path, settings: "Settings") -> None:
    """Make the recovery store before several processes look at it."""
    from flows.engine import prepare_recovery

    prepare_recovery(folder, settings.recovery.partitions)


def _run_here(
    flow: str,
    settings: "Settings",
    placement: "Placement",
    folder: Path | None,
    sinks: frozenset[str],
    parent: int | None,
) -> None:
    import structlog

    from flows import engine
    from flows.compose import compose
    from flows.lifecycle import stop_on_signals, stop_with_parent

    log = structlog.get_logger(__name__)
    keep = settings.recovery
    store = engine.prepare_recovery(folder, keep.partitions, keep.backup_interval_s) if folder else None
    if store is None:
        log.warning("no recovery folder: a restart begins at kafka.start, with empty windows")
    with stop_on_signals(threading.Event()) as stop:
        if parent is not None:
            stop_with_parent(stop, parent)
        with compose(flow, settings, placement, stop, sinks) as composed:
            for line in composed.told:
                say(line)
            log.info("flow starts", flow=flow, workers=placement.workers, process=placement.process_id)
            engine.run(composed.flow, placement, keep.epoch_interval_s, store)
            log.info("flow ended", flow=flow, process=placement.process_id)
