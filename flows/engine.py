"""Runs a dataflow: threads, a cluster of processes, and the recovery store it goes on from.

Everything goes through the engine's ``cluster_main``, for a single worker too: it hands an operator's exception on
instead of printing a panic, and it does not look at ``BYTEWAX_DATAFLOW_API_ENABLED``, which would open a port on all
addresses (bytewax 0.21.1).
"""

import ctypes
import gc
import os
import sqlite3
import stat
import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main

from operators.snapshot import SnapshotError
from schemas.errors import AttuneError, ConfigError, TerminalError


@dataclass(frozen=True, slots=True)
class Placement:
    """Which process of a cluster this is: its place in ``addresses`` (``host:port``), alone if there are none."""

    process_id: int = 0
    addresses: tuple[str, ...] = ()
    workers: int = 1


_KEPT = {
    "MALLOC_MMAP_THRESHOLD_": (-3, 32 << 20),
    "MALLOC_TRIM_THRESHOLD_": (-1, 256 << 20),
    "MALLOC_TOP_PAD_": (-2, 16 << 20),
}
"""By the environment variable that sets it: the number of an option of glibc's ``mallopt``, and bytes."""


def tune_memory() -> None:
    """Let Python look for cyclic garbage seldom, and glibc's allocator keep what was given back to it.

    What is remembered of visitors are many small objects that live long, and hardly anything here makes cycles: by
    default Python would walk through all of them again and again, which costs a third of their time.

    A closing and a snapshot need megabytes for an instant. Taken from the system anew each time, page by page, they are
    most of what a snapshot costs. What the environment sets stays.
    """
    gc.set_threshold(5_000, 1_000, 100)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None and "glibc.malloc." not in os.environ.get("GLIBC_TUNABLES", ""):
        for variable, (option, nbytes) in _KEPT.items():
            if variable not in os.environ:
                mallopt(option, nbytes)


def run(flow: Dataflow, placement: Placement, epoch_interval_s: float, recovery: RecoveryConfig | None = None) -> None:
    """Run a flow until its sources end.

    Raises:
        AttuneError: what a source, an operator or a sink has raised.
        TerminalError: the engine's own failure, or an exception that nobody foresaw.
    """
    tune_memory()
    try:
        cluster_main(
            flow,
            list(placement.addresses),
            placement.process_id,
            epoch_interval=timedelta(seconds=epoch_interval_s),
            recovery_config=recovery,
            worker_count_per_proc=placement.workers,
        )
    except Exception as error:
        causes = _causes(error)
        ours = next((cause for cause in causes if isinstance(cause, AttuneError)), None)
        if ours is None:
            what = str(causes[-1]) or type(causes[-1]).__name__
            raise TerminalError(
                f"flow {flow.flow_id}: {what} ({causes[0]}); ATTUNE_DEBUG=1 shows the traceback"
            ) from error
    else:
        return
    if isinstance(ours, SnapshotError) and recovery is not None:
        ours = SnapshotError(f"recovery folder {recovery.db_dir}: {ours}")
    # Outside of the handler: raised inside it, the error would become the cause of its own cause.
    raise ours


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return an error and what led to it, the engine's wrapping first."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def prepare_recovery(folder: Path, partitions: int, backup_interval_s: float = 0.0) -> RecoveryConfig:
    """Make the recovery store on first use, check it afterwards, and return how the engine finds it.

    The folder is closed to everybody else, because its files are unpickled: who writes there runs code here.

    Raises:
        ConfigError: others may enter the folder, or it was made with another number of partitions.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigError(
            f"recovery folder {folder}: expected one that only this user may enter, got mode "
            f"{stat.S_IMODE(found.st_mode):04o} of user {found.st_uid}; its files are run as code: make sure that "
            "nobody else has written there, then chmod 700 it"
        )
    unfinished = folder / "unfinished"
    if unfinished.exists():  # whoever made it was killed meanwhile: no flow has written there yet
        for part in folder.glob("part-*"):
            part.unlink()
    there = len(list(folder.glob("part-*.sqlite3")))
    if there == 0:
        unfinished.touch()
        init_db_dir(folder, partitions)
        for part in folder.glob("part-*.sqlite3"):
            _write_large_pages(part)
        unfinished.unlink()
    elif there != partitions:
        raise ConfigError(
            f"recovery folder {folder}: it was made with {there} partitions and cannot be changed, "
            f"got recovery.partitions = {partitions}; set it to {there}, or start with an empty folder"
        )
    return RecoveryConfig(folder, timedelta(seconds=backup_interval_s))


def _write_large_pages(part: Path) -> None:
    """Have an empty part of the store written in pages of 64 KiB instead of 4.

    Snapshots are few and large, and events wait while they are written: it takes half the time.
    """
    with closing(sqlite3.connect(part, isolation_level=None)) as database:
        (mode,) = database.execute("PRAGMA journal_mode").fetchone()
        database.execute("PRAGMA journal_mode = DELETE")  # with a write-ahead log the size cannot be changed
        database.execute("PRAGMA page_size = 65536")
        database.execute("VACUUM")
        database.execute(f"PRAGMA journal_mode = {mode}")
