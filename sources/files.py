"""A recorded log as a source: files of JSON lines, merged by `ts` into one stream, for a replay without servers."""

import contextlib
import gzip
import io
import re
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec
import numpy as np
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from schemas.batches import END_OF_TIME, Int64s, RawBatch
from schemas.errors import AttuneError, ConfigError
from schemas.inbound import MAX_TS
from sources.merge import Merger, Share

STDIN = "-"
BATCH = 4_096
"""Lines in a batch: enough to be quick, few enough that the ticks of a sparse log's hours fit into memory."""
DAY_MS = 86_400_000
_CHUNK = 1 << 20
_LONGEST = 1 << 24
"""Bytes of a line that are kept: it is set aside as too large all the same, but memory stays bounded."""


class _Stamp(msgspec.Struct, gc=False):
    ts: int


_stamps = msgspec.json.Decoder(_Stamp)


_ODD = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Log:
    """A file of a replay: how errors and dead letters call it, and how to open it."""

    name: str
    open: Callable[[], IO[bytes]]


def log(path: str) -> Log:
    """Return the log at a path (``.gz`` or plain), or standard input for ``-``.

    Raises:
        ConfigError: there is no such file, or it can't be read.
    """
    if path == STDIN:
        return Log("stdin", lambda: sys.stdin.buffer)
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}). Give files of JSON lines, plain or .gz."
        ) from error
    # The name goes into dead letters and their ids: no control characters there, and no halves of a surrogate pair.
    name = _ODD.sub(lambda odd: f"\\x{ord(odd[0]) & 0xFF:02x}", path)
    if path.endswith(".gz"):
        return Log(name, lambda: io.BufferedReader(gzip.open(path)))
    return Log(name, lambda: Path(path).open("rb"))


class Progress:
    """How many records of the files have been read, for whoever shows it; read from another thread."""

    def __init__(self) -> None:
        self.records = 0
        self.done = threading.Event()


class _Lane:
    """One file: its lines in order, each with a timestamp to merge by."""

    def __init__(self, source: Log, latest: int) -> None:
        self._source = source
        self._latest = latest
        self._lines = self._read()
        self._top = 0
        self.line = 0

    def _read(self) -> Iterator[list[bytes]]:
        try:
            with self._source.open() as file:
                while lines := _lines(file):
                    yield lines
        except (OSError, EOFError, zlib.error) as error:
            raise AttuneError(
                f"{self._source.name}: reading stopped after line {self.line} ({error}). Is the file complete?"
            ) from error

    def next(self) -> tuple[list[bytes], Int64s, Int64s] | None:
        """Return the next lines, their record timestamps and their numbers; None at the end."""
        lines = next(self._lines, None)
        if lines is None:
            return None
        ts = self._timestamps(lines)
        numbers = np.arange(self.line + 1, self.line + 1 + len(lines))
        self.line += len(lines)
        return lines, ts, numbers

    def _timestamps(self, lines: list[bytes]) -> Int64s:
        """Return each line's ``ts``; where there is none to go by, the highest so far."""
        found: list[int] = []
        # Only lines that begin and end as objects may be decoded together: see operators.decode.
        if all(line.startswith(b"{") and line.endswith(b"}") for line in lines):
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                found = [stamp.ts for stamp in _stamps.decode_lines(b"\n".join(lines))]
        if len(found) != len(lines):
            found = [_stamp(line) for line in lines]
        ts = np.fromiter((t if 0 <= t <= self._latest else -1 for t in found), np.int64, len(found))
        highest = np.maximum(np.maximum.accumulate(ts), self._top)
        self._top = int(highest[-1])
        return np.where(ts < 0, highest, ts)


def _stamp(line: bytes) -> int:
    try:
        return _stamps.decode(line).ts
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return -1


def _lines(file: IO[bytes]) -> list[bytes]:
    """Read about a mebibyte of lines, without their line feeds; of an endless line only the beginning is kept."""
    lines: list[bytes] = []
    size = 0
    while size < _CHUNK and len(lines) < BATCH and (line := file.readline(_LONGEST)):
        size += len(line)
        if not line.endswith(b"\n") and len(line) == _LONGEST:
            while (rest := file.readline(_CHUNK)) and not rest.endswith(b"\n"):
                pass
        lines.append(line.removesuffix(b"\n").removesuffix(b"\r"))
    return lines


class FileSource(FixedPartitionedSource[RawBatch, None]):
    """Files merged by ``ts`` into partition 0, each in its own order. A record's timestamp is its ``ts``.

    A ``ts`` of more than a day beyond the wall clock, or none at all, stamps its record with the highest so far in its
    file. Behind the last line time runs on until every session has ended.
    """

    def __init__(self, logs: list[Log], progress: Progress | None = None, now: Callable[[], float] = time.time) -> None:
        self._logs = logs
        self._progress = progress or Progress()
        self._now = now

    def list_parts(self) -> list[str]:
        """Return the one part."""
        return ["0"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_FilePart":
        """Open the files from their beginning: a replay has no resume."""
        return _FilePart(self._logs, self._progress, min(MAX_TS, int(self._now() * 1000) + DAY_MS))


class _FilePart(StatefulSourcePartition[RawBatch, None]):
    def __init__(self, logs: list[Log], progress: Progress, latest: int) -> None:
        self._topics = tuple(source.name for source in logs)
        self._lanes: dict[int, _Lane] = {i: _Lane(source, latest) for i, source in enumerate(logs)}
        self._merger = Merger(len(logs))
        self._progress = progress
        self._stream_time = 0
        self._ended = False

    def next_batch(self) -> list[RawBatch]:
        if self._ended:
            raise StopIteration
        merged = self._merger.pop(BATCH)
        while merged is None and self._lanes:
            self._fill()
            merged = self._merger.pop(BATCH)
        before = self._stream_time
        if merged is None:
            self._ended = True
            self._progress.done.set()
            none = np.zeros(0, np.int64)
            return [RawBatch(0, self._topics, [], none, none.astype(np.uint16), none, before, END_OF_TIME)]
        self._stream_time = max(before, int(merged.record_ts.max()))
        self._progress.records += len(merged)
        return [
            RawBatch(
                0, self._topics, merged.values, merged.record_ts, merged.lane.astype(np.uint16), merged.offset, before
            )
        ]

    def _fill(self) -> None:
        """Read on in every file of which nothing is held; a file that ended holds nobody up."""
        for i, lane in list(self._lanes.items()):
            if self._merger.held(i)[0]:
                continue
            found = lane.next()
            if found is None:
                self._merger.prove(i, float("inf"), END_OF_TIME)
                del self._lanes[i]
                continue
            lines, ts, numbers = found
            self._merger.push(
                [Share(i, len(lines), sum(map(len, lines)))], np.fromiter(lines, object), ts, numbers, 0.0
            )

    def snapshot(self) -> None:
        return None
