"""The Numenta Anomaly Benchmark: every series of it through Attune's detector, results as its scorers read them.

A. Lavin and S. Ahmad, "Evaluating Real-time Anomaly Detection Algorithms: the Numenta Anomaly Benchmark", ICMLA 2015
(github.com/numenta/NAB). The data aren't part of the project: ``--data`` takes the benchmark's folder, or a tar of it,
with ``data/<category>/<series>.csv`` in it. Labels are for the scorer; nothing here reads them.
"""

import argparse
import csv
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import measure
from bench.measure import console
from bench.nab_detector import SeriesConfig, SeriesDetector

NAME = "attune"
"""The detector's name: the folder of its results, and the beginning of their files' names."""

PROFILES = {"standard": "standard", "reward_low_FP_rate": "low FP", "reward_low_FN_rate": "low FN"}


@dataclass(frozen=True, slots=True)
class Series:
    """A series of the benchmark: when and what, row by row, as the file has it."""

    category: str
    name: str
    rows: list[tuple[str, str]]


def parser() -> argparse.ArgumentParser:
    """Return what can be chosen."""
    options = argparse.ArgumentParser(prog="python -m bench nab", description=__doc__)
    options.add_argument("--data", type=Path, help="the benchmark's folder, or a tar of it; without it nothing is run")
    options.add_argument("--out", type=Path, help=f"keep the results, as FOLDER/{NAME}/<category>/{NAME}_<series>.csv")
    options.add_argument("--only", default="", help="only series whose <category>/<series>.csv contains this")
    options.add_argument("--seed", type=int, default=SeriesConfig().seed, help="what the trees are grown from")
    options.add_argument("--scorer", type=Path, help="a nab_score.py: run it on the results and print the scores")
    return options


def run(options: argparse.Namespace) -> None:
    """Score all series, write the results, and print how, or how well, they score."""
    if options.data is None:
        console.print("not run: --data names the benchmark's folder or a tar of it", highlight=False)
        return
    with _folder(options.data) as root, tempfile.TemporaryDirectory() as scratch:
        out = (options.out or Path(scratch)) / NAME
        config = replace(SeriesConfig(), seed=options.seed)
        files = [file for file in sorted(root.glob("data/*/*.csv")) if options.only in "/".join(file.parts[-2:])]
        if not files:
            raise SystemExit(f"{options.data}: no series below data/ there, or none that contains {options.only!r}")
        rows, begin = 0, time.process_time()
        for number, file in enumerate(files, 1):
            series = read(file)
            rows += len(series.rows)
            with console.status(f"{number} of {len(files)}: {series.category}/{series.name}"):
                write(out, series, scores(series, config))
            if not console.is_terminal or number == len(files):
                console.print(f"{number} of {len(files)} series, {rows:,} rows", highlight=False)
        spent = time.process_time() - begin
        console.print(f"{spent:.0f} s of processor time, {1e6 * spent / rows:.0f} us a row", highlight=False)
        if options.scorer:
            show(options.scorer, root, out)
        elif options.out:
            console.print(f"to score: python nab_score.py results {out} --nab FOLDER [--cv]", highlight=False)
        else:
            console.print("results are not kept: --out keeps them, --scorer scores them", highlight=False)


def read(file: Path) -> Series:
    """Read a series: a heading, then timestamp and value."""
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        return Series(file.parent.name, file.stem, [(at, value) for at, value, *_ in rows])


def scores(series: Series, config: SeriesConfig) -> list[float]:
    """Score a series, row by row in order of time, by a detector that knows nothing before the first row."""
    detector = SeriesDetector(config)
    return [detector.score_one(datetime.fromisoformat(at), float(value)) for at, value in series.rows]


def write(out: Path, series: Series, scored: list[float]) -> None:
    """Write a result as the benchmark's own detectors do."""
    folder = out / series.category
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{NAME}_{series.name}.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["timestamp", "value", "anomaly_score"])
        table.writerows((at, value, score) for (at, value), score in zip(series.rows, scored, strict=True))


def show(scorer: Path, root: Path, out: Path) -> None:
    """Run the scorer with and without holding categories out, and print both.

    One threshold is set for all series. The benchmark sets it where the score is highest; held out, each category's is
    set by the other categories alone.
    """
    tuned, held_out = _scored(scorer, root, out), _scored(scorer, root, out, "--cv")
    measure.show(
        "Numenta Anomaly Benchmark (0: no alert at all, 100: perfect)",
        ["threshold", *PROFILES.values()],
        [
            [name, *(f"{result[profile]['score']:.1f}" for profile in PROFILES)]
            for name, result in (
                ("from all series, as the benchmark does", tuned),
                ("of each category from the others", held_out),
            )
        ],
        f"Standard profile, from all series: threshold {tuned['standard']['threshold']:.3f}, "
        f"{tuned['standard']['windows_hit']} of {tuned['standard']['windows']} windows are hit, with "
        f"{tuned['standard']['fp_rows']} false alerts.",
    )
    categories = [[category, f"{score:.1f}"] for category, score in tuned["per_category"].items()]
    measure.show("By category, at the one threshold", ["category", "standard"], categories)


def _scored(scorer: Path, root: Path, out: Path, *options: str) -> dict[str, Any]:
    """Return what the scorer says of the results."""
    with tempfile.TemporaryDirectory() as scratch:
        told = Path(scratch) / "scores.json"
        command = [sys.executable, str(scorer), "results", str(out), "--nab", str(root), "--json", str(told), "--quiet"]
        done = subprocess.run([*command, "--per-category", *options], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{scorer} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))[out.name]
        return result


@contextmanager
def _folder(data: Path) -> Iterator[Path]:
    """Give the folder itself, or what a tar unpacks to for as long as it is needed."""
    if data.is_dir():
        yield data
        return
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(data) as tar:
            tar.extractall(scratch, filter="data")
        series = next(Path(scratch).glob("**/data/*/*.csv"), None)
        yield series.parents[2] if series else Path(scratch)
