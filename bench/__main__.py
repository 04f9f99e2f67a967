"""``python -m bench [NAME [OPTIONS]]``: one benchmark, or all of them."""

import importlib
import sys

from bench.measure import console, machine

NAMES = ("throughput", "memory", "latency")


def main(arguments: list[str]) -> int:
    """Run what was asked for."""
    if arguments and arguments[0] not in NAMES:
        console.print(f"python -m bench [{' | '.join(NAMES)}] [OPTIONS]: there is no benchmark {arguments[0]!r}")
        return 2
    console.print(machine())
    for name in arguments[:1] or NAMES:
        importlib.import_module(f"bench.{name}").main(arguments[1:])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
