"""A recorded log through the whole conductor, from files to files, without a server."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bytewax.testing import cluster_main

from flows.conductor import ConductorConfig, build
from flows.engine import tune_memory
from schemas.errors import AttuneError, ConfigError
from sinks.jsonl import JsonlSink
from sources import files

_NEVER = timedelta(days=365)
"""A replay keeps no recovery store, so it needs no epochs: nothing is snapshotted."""


@dataclass(frozen=True)
class ReplayReport:
    """What a replay read and wrote: records received, and records in each outbound topic."""

    received: int
    written: dict[str, int]


def replay(
    paths: Sequence[str],
    out: Path,
    workers: int = 1,
    config: ConductorConfig | None = None,
    progress: Callable[[int, str], None] = lambda records, phase: None,
) -> ReplayReport:
    """Run the files at ``paths`` (``-``: standard input) through the flow and write ``out/<topic>.jsonl``.

    ``progress`` is called now and then with the records read so far and what is being done.

    Raises:
        ConfigError: a file can't be read or the folder can't be written to.
    """
    if list(paths).count(files.STDIN) > 1:
        raise ConfigError("standard input (-) can be read once only; name it once")
    logs = [files.log(path) for path in paths]
    sink = JsonlSink(out, workers)
    tune_memory()
    read = files.Progress()
    flow = build(config or ConductorConfig(), files.FileSource(logs, read), {"jsonl": sink})
    fault: list[BaseException] = []

    def run() -> None:
        try:
            cluster_main(flow, [], 0, epoch_interval=_NEVER, worker_count_per_proc=workers)
        except BaseException as error:  # noqa: BLE001  handed to the caller's thread, whatever it is
            fault.append(error)

    # The engine blocks its thread and takes no Ctrl-C while it does; the main thread shows progress and stays awake.
    engine = threading.Thread(target=run, name="engine", daemon=True)
    engine.start()
    try:
        while engine.is_alive():
            engine.join(timeout=0.2)
            progress(read.records, "closing" if read.done.is_set() else "reading")
        if fault:
            raise _cause(fault[0])
        progress(read.records, "sorting")
        return ReplayReport(read.records, sink.finish())
    except BaseException:
        sink.abandon()
        raise


def _cause(error: BaseException) -> BaseException:
    """Return the error of ours that the engine wrapped, or the error itself."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, AttuneError):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error
