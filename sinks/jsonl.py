"""Records as files of JSON lines, one for each topic, sorted on disk: a replay's output may be larger than memory."""

import contextlib
import heapq
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from schemas.batches import Records
from schemas.errors import ConfigError
from schemas.registry import OUTBOUND

_RUN_BYTES = 16 << 20
"""Bytes of one topic that a part holds before it writes them down as a sorted run."""
_FAN_IN = 64
"""Runs that are merged at a time: bounds open files."""
_END = b"\0"
"""Ends each part of a sorting key: below every character that an id may hold, and never in encoded JSON."""


class JsonlSink(FixedPartitionedSink[Records, None]):
    """Writes sorted runs while the flow runs; ``finish`` merges them into ``<folder>/<topic>.jsonl``.

    Every outbound topic gets its file, empty or not, in order of ``ts``, ``id``, ``revision``, whatever the number of
    parts. Files of an earlier run are replaced, and only once the new ones are complete.
    """

    def __init__(self, folder: Path, parts: int = 1) -> None:
        """Prepare the folder.

        Raises:
            ConfigError: it can't be made or written to.
        """
        self._folder = folder
        self._parts = parts
        self._runs = folder / ".runs"
        try:
            shutil.rmtree(self._runs, ignore_errors=True)
            self._runs.mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written to ({error.strerror}). Give another folder.") from error

    def list_parts(self) -> list[str]:
        """Return a part for each worker."""
        return [str(i) for i in range(self._parts)]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> "_JsonlPart":
        """Begin with nothing: a replay has no resume."""
        return _JsonlPart(self._runs, for_part)

    def finish(self) -> dict[str, int]:
        """Merge the runs into the final files; return the records in each topic."""
        counts = {}
        for entry in OUTBOUND.values():
            runs = sorted(self._runs.glob(f"{entry.topic}.*"))
            for number in itertools.count():
                if len(runs) <= _FAN_IN:
                    break
                merged = self._runs / f"{entry.topic}.merged-{number}"
                _merge(runs[:_FAN_IN], merged, strip=False)
                runs = [*runs[_FAN_IN:], merged]
            unready = self._runs / f"{entry.topic}-final"
            counts[entry.topic] = _merge(runs, unready, strip=True)
            unready.replace(self._folder / f"{entry.topic}.jsonl")
        shutil.rmtree(self._runs)
        return counts

    def abandon(self) -> None:
        """Remove what a replay that failed had written."""
        shutil.rmtree(self._runs, ignore_errors=True)


class _JsonlPart(StatefulSinkPartition[Records, None]):
    def __init__(self, folder: Path, part: str) -> None:
        self._folder = folder
        self._part = part
        self._lines: dict[str, list[bytes]] = {}
        self._bytes: dict[str, int] = {}
        self._number = itertools.count()

    def write_batch(self, values: list[Records]) -> None:
        for records in values:
            topic = OUTBOUND[records.type].topic
            revisions = records.revisions or itertools.repeat(0)
            lines = [
                b"%015d%s%s%s%010d%s%s\n" % (ts, _END, ident.encode(), _END, revision, _END, payload)
                for ts, ident, revision, payload in zip(
                    records.ts, records.ids, revisions, records.payloads, strict=False
                )
            ]
            self._lines.setdefault(topic, []).extend(lines)
            self._bytes[topic] = self._bytes.get(topic, 0) + sum(map(len, lines))
            if self._bytes[topic] >= _RUN_BYTES:
                self._write_run(topic)

    def _write_run(self, topic: str) -> None:
        lines = self._lines.pop(topic)
        self._bytes[topic] = 0
        lines.sort()
        with (self._folder / f"{topic}.{self._part}-{next(self._number)}").open("wb") as file:
            file.writelines(lines)

    def snapshot(self) -> None:
        return None

    def close(self) -> None:
        for topic in list(self._lines):
            self._write_run(topic)


def _merge(runs: list[Path], target: Path, *, strip: bool) -> int:
    """Merge sorted runs and remove them; ``strip`` leaves the payload of each line alone. Return the lines."""
    count = 0
    with contextlib.ExitStack() as stack:
        merged: Iterator[bytes] = heapq.merge(*(stack.enter_context(run.open("rb")) for run in runs))
        with target.open("wb") as file:
            for line in merged:
                count += 1
                file.write(line[line.rindex(_END) + 1 :] if strip else line)
    for run in runs:
        run.unlink()
    return count
