"""Exports beside copying and hashing the same files, and their memory as a version grows.

    python -m benchmarks.export [--images N] [--save]

Drawn photographs are scanned, and all of them are a version of a dataset with two sides and four classes. Turn by turn, three
times, they are copied by four threads that read, hash and write each file and bring it to the disk; and exported in each
format, which does the same and writes list, manifest and card. The best time of each counts. Peak memory is that of an export
of all, and of a quarter, in processes of their own. ``--save`` writes ``benchmarks/results/export.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import polars as pl

from benchmarks import measure
from curation_assets.datasets.versions import publish
from curation_assets.export.protocol import Options
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings

MODULE = "benchmarks.export"
FORMATS = ("folders", "hf-imagefolder", "hf-parquet", "webdataset")
ROUNDS, THREADS = 3, 4


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000, help="photographs of each size (default 4000)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/export.md")
    arguments = parser.parse_args()
    if arguments.child:
        _, home, dataset, to = arguments.child
        exported(Path(home), to, dataset)
        measure.answer({})
        return
    report = "\n".join(reported(arguments.images))
    print(report)
    if arguments.save:
        measure.save(report, "export")


def reported(number: int) -> list[str]:
    """The report of both sizes of photographs."""
    lines = ["# Exports", "", "Seconds, and in brackets the ratio to copying and hashing the same files.", ""]
    lines += [
        f"| photographs | bytes of one | copied | {' | '.join(FORMATS)} |",
        "|---|---:|---:|" + "---:|" * len(FORMATS),
    ]
    peaks = []
    for kind in (measure.TYPICAL, measure.SMALL):
        with tempfile.TemporaryDirectory() as directory:
            home = Path(directory)
            lake(home, kind, number)
            size = sum(path.stat().st_size for path in (home / "images").rglob("*.jpg")) // number
            ways: dict[str, Callable[[], None]] = {"copied": partial(copied, home)}
            ways |= {to: partial(exported, home, to, "all") for to in FORMATS}
            best = {name: min(times) for name, times in timed(home, ways).items()}
            told = [f"{best[to]:.2f} ({best[to] / best['copied']:.2f})" for to in FORMATS]
            lines.append(f"| {number:,} of {kind.name} | {size:,} | {best['copied']:.2f} | {' | '.join(told)} |")
            for to in FORMATS:
                peak = [measure.in_a_process(MODULE, "export", home, of, to)["peak_mb"] for of in ("quarter", "all")]
                peaks.append(f"| {kind.name} | {to} | {peak[0]:.0f} | {peak[1]:.0f} |")
    lines += ["", "Peak memory, MB, of a quarter of these and of all:", ""]
    lines += ["| photographs | format | a quarter | all |", "|---|---|---:|---:|", *peaks, ""]
    return [*lines, *measure.circumstances(MODULE, ("polars", "pyarrow"))]


def lake(home: Path, kind: measure.Photographs, number: int) -> None:
    """Scan photographs, and publish all of them, and a quarter."""
    measure.write_photographs(home / "images", kind, number, folders=8)
    pipeline = at(home)
    pipeline.scan([f"field_{folder:04}" for folder in range(8)], LogProgress())
    known = pipeline.tables.directory.latest().read(["relative_path", "content_sha256"]).rename({"_file": "file"})
    rows = (
        known.sort("relative_path")
        .with_row_index("at")
        .with_columns(
            kept=pl.lit(value=True),
            label=pl.format("class_{}", pl.col("at") % 4),
            split=pl.when(pl.col("at") % 5 == 0).then(pl.lit("test")).otherwise(pl.lit("train")),
            reason=pl.lit(None, pl.String),
            witness=pl.lit(None, pl.String),
            similarity=pl.lit(None, pl.Float32),
        )
    )
    for name, part in (("all", rows), ("quarter", rows.filter(pl.col("at") % 4 == 0))):
        publish(pipeline.tables.datasets, name, part.drop("at"), {"recipe": {}}, 0, LogProgress())


def at(home: Path) -> Pipeline:
    """The lake of a folder."""
    return Pipeline(load_settings(images_root=home / "images", lake_root=home / "lake", recipes=home / "recipes"))


def exported(home: Path, to: str, dataset: str) -> None:
    """Export a dataset."""
    shutil.rmtree(home / "out", ignore_errors=True)
    at(home).export_dataset(dataset, None, to, home / "out", Options(), LogProgress())


def copied(home: Path) -> None:
    """Read, hash and write every file, and bring it to the disk."""
    target = home / "out"

    def one(path: Path) -> str:
        data = path.read_bytes()
        place = target / path.relative_to(home / "images")
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        return hashlib.sha256(data).hexdigest()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, sorted((home / "images").rglob("*.jpg"))))


def timed(home: Path, ways: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Seconds of each, turn by turn; once before, for what is only imported then."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            shutil.rmtree(home / "out", ignore_errors=True)
            begin = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - begin)
    return times


if __name__ == "__main__":
    main()
