"""``python -m bench [NAME [OPTIONS]]``: one benchmark, or all of them with their defaults."""

import importlib
import sys

from bench.measure import Company, console, machine

NAMES = {
    "throughput": "events in memory to encoded records, beside a bare loop and the engine's own window",
    "kafka": "the same from a real Kafka, beside a bare consumer",
    "memory": "what sessions and users take, what a tick of 100,000 sessions costs, the recovery folder over a day",
    "detection": "scoring and finding anomalies, a session and tick, when many are due at once",
    "latency": "an event into a real Kafka to the record at a websocket client",
    "gateway": "deliveries to thousands of websocket clients, one that never reads, many that reconnect",
    "beacon": "a rage click to help_chat at its page's socket and, in Chromium, on its screen, in the demo",
    "reaction": "an event into a real Kafka to the intervention about it on the output topic",
    "answers": "chat answers through confidence and routing, by script and by length",
    "interventions": "emotions and scores through the governor and the ledger",
    "database": "engagement rows into PostgreSQL through the sink, beside a bare COPY",
    "views": "every view for analysts, for one tenant and one day of 10,000 sessions, on PostgreSQL",
    "nab": "the Numenta Anomaly Benchmark through the anomaly detector (--data names it)",
}


def main(arguments: list[str]) -> int:
    """Run what was asked for; returns the exit code."""
    name = arguments[0] if arguments else None
    if name in ("-h", "--help") or (name is not None and name not in NAMES):
        console.print(usage(), highlight=False)
        return 0 if name in ("-h", "--help") else 2
    for each in [name] if name else NAMES:
        module = importlib.import_module(f"bench.{each}")
        options = module.parser().parse_args(arguments[1:])
        console.print(f"\n[bold]{each}[/bold]: {machine()}", highlight=False)
        company = Company()
        module.run(options)
        console.print(company.told(), style="dim", highlight=False)
    return 0


def usage() -> str:
    """Return what can be run."""
    names = "\n".join(f"  {name:<15}{what}" for name, what in NAMES.items())
    return f"python -m bench: all benchmarks\npython -m bench NAME [OPTIONS] (--help tells which): one of\n{names}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
