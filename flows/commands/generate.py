"""``attune generate``: synthetic traffic as JSON lines or to Kafka, with the truth beside it."""

import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.common import ConfigOption, Update, load_settings, progress, say

if TYPE_CHECKING:
    from flows.generate import Plan, Traffic
    from flows.generate.write import Destination
    from schemas.inbound import Event

DELIVERY_S = 60.0
"""How long a record may wait for its brokers before the command gives up."""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(generate)


def generate(  # noqa: PLR0913, PLR0917 - every option of the command is an argument
    scenario: Annotated[str, typer.Option(help="Such as live, lab, visitors; --list tells them all.")] = "live",
    sessions: Annotated[int, typer.Option(min=1, max=100_000, help="Sessions side by side.")] = 3,
    people: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Mean audience. (default: live 20; lab 5 to 5,000)")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, max=100_000, help="A session's length. (default: live 10; lab 10 to 60)")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
    tenants: Annotated[int, typer.Option(min=1, max=100_000, help="Tenants that the sessions belong to.")] = 1,
    start: Annotated[
        str | None,
        typer.Option(help="When it begins: an ISO time, or now. (default: 2025-01-01T00:00:00Z; now with --live)"),
    ] = None,
    rate: Annotated[float, typer.Option(min=0.0, max=10_000, help="Multiplies chat messages and reactions.")] = 1.0,
    list_scenarios: Annotated[bool, typer.Option("--list", help="List the scenarios and do nothing else.")] = False,
    live: Annotated[bool, typer.Option("--live", help="At the pace of the clock, until interrupted.")] = False,
    kafka: Annotated[bool, typer.Option("--kafka", help="To the configured Kafka topics.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="A file for the events; the truth goes to FILE.truth.json. (default: stdout)")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Generate labelled traffic: JSON lines in order of time, and what is true about them.

    Example: attune generate --sessions 5 --minutes 20 --seed 7 --out events.jsonl
    """
    from flows.generate import SCENARIOS, Plan
    from flows.generate.plan import DEFAULT_START

    if list_scenarios:
        for name, known in SCENARIOS.items():
            typer.echo(f"{name:<15} {known.summary}")
        return
    if scenario not in SCENARIOS:
        raise typer.BadParameter(f"{scenario!r} is none of: {', '.join(SCENARIOS)}", param_hint="--scenario")
    if kafka and out:
        raise typer.BadParameter("give one of --kafka and --out", param_hint="--kafka")
    begin = _start(start) if start else _start("now") if live else DEFAULT_START
    plan = Plan(sessions, people, minutes, seed, tenants, begin, rate, repeat=live, truth=out is not None)
    traffic = SCENARIOS[scenario].make(plan)
    if kafka:
        _to_kafka(config, plan, traffic, live)
    elif out:
        _to_file(out, plan, traffic, live)
    else:
        from flows.generate.write import Lines

        _send(traffic, Lines(sys.stdout.buffer), live)


def _start(text: str) -> int:
    """Return the time that was asked for, in ms since 1970."""
    if text == "now":
        return int(time.time() * 1000)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is neither now nor a time such as 2025-01-31T12:00:00Z") from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    if when.timestamp() < 0:
        raise typer.BadParameter(f"{text!r} is before 1970")
    return int(when.timestamp() * 1000)


def _to_file(out: Path, plan: "Plan", traffic: "Traffic", live: bool) -> None:
    import msgspec

    from flows.generate.write import Lines

    truth = out.with_name(f"{out.name}.truth.json")
    with out.open("wb") as stream, progress("generating") as update:
        count = _send(traffic, Lines(stream), live, _Meter(plan, traffic, update))
    truth.write_bytes(msgspec.json.encode(traffic.truth()) + b"\n")
    say(f"{count:,} events in {out}, the truth in {truth}")


def _to_kafka(config: Path | None, plan: "Plan", traffic: "Traffic", live: bool) -> None:
    from flows.generate.write import Topics
    from flows.settings.servers import sink_config
    from sinks.kafka import Delivery

    settings = load_settings(config).kafka
    with progress("generating") as update:
        to = Topics(Delivery(sink_config(settings, DELIVERY_S)), dict(settings.topics))
        count = _send(traffic, to, live, _Meter(plan, traffic, update))
    say(f"{count:,} events to {settings.bootstrap_servers}")


class _Meter:
    """Tells how far along the traffic's time the events are."""

    def __init__(self, plan: "Plan", traffic: "Traffic", update: Update) -> None:
        self._start, self._length, self._update = plan.start_ts, traffic.end_ts - plan.start_ts, update
        self._endless = plan.repeat

    def __call__(self, ts: int, count: int) -> None:
        total = None if self._endless else float(self._length)
        self._update(ts - self._start, total, f"{count:,} events")


def _send(traffic: "Traffic", to: "Destination", live: bool, meter: _Meter | None = None) -> int:
    """Send everything, or until a signal comes; return how many events it was."""
    from flows.lifecycle import stop_on_signals

    count = 0
    with stop_on_signals(threading.Event()) as stop:
        for batch in _batches(traffic, live, stop):
            if batch:
                to.send(batch)
                count += len(batch)
                if meter:
                    meter(batch[-1].ts, count)
            if stop.is_set():
                break
        to.finish()
    return count


def _batches(traffic: "Traffic", live: bool, stop: threading.Event) -> "Iterator[list[Event]]":
    from flows.generate.write import batches, paced

    return paced(traffic.events(), stop) if live else batches(traffic.events())
