"""What a change writes, and what bringing it to the disk costs.

    python -m benchmarks.rewriting [--images N] [--save]

Writing: a folder of photographs of 80 KB is scanned, then changed in several ways; the figure is bytes of new data
files over bytes of the rows that changed. Syncing: the same scan with every ``fsync`` and with none, in turns, as a
ratio, for one large folder and for many small ones. ``--save`` writes ``benchmarks/results/rewriting.md``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import measure
from curation_assets import files
from curation_assets.lake import storage
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings

MODULE = "benchmarks.rewriting"
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000, help="photographs (default 2000)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/rewriting.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as scratch:
        report = _writing(Path(scratch), arguments.images) + _syncing(Path(scratch), arguments.images)
    print(report)
    if arguments.save:
        heading = "# What a change writes, and what bringing it to the disk costs"
        lines = [heading, "", *measure.circumstances(MODULE, ("deltalake", "pyarrow")), "", report]
        measure.save("\n".join(lines), "rewriting")


def _pipeline(home: Path, images: Path) -> Pipeline:
    return Pipeline(load_settings(images_root=str(images), lake_root=str(home)))


def _writing(home: Path, number: int) -> str:
    tree = measure.write_photographs(home / "images", measure.SMALL, number, 1)
    (folder,) = [path for path in tree.iterdir() if path.is_dir()]
    for path in folder.iterdir():  # as large as the photograph of a phone that was made smaller
        path.write_bytes(path.read_bytes() + os.urandom(max(0, 80_000 - path.stat().st_size)))
    pipeline = _pipeline(home / "lake", tree)
    pipeline.scan([folder.name], LogProgress())
    paths = sorted(folder.iterdir())

    def touch(which: list[Path]) -> Callable[[], int]:
        def change() -> int:
            for path in which:
                os.utime(path)
            return len(which)

        return change

    def remove() -> int:
        paths[7].unlink()
        return 1

    def add() -> int:
        (folder / f"new{time.time_ns()}.jpg").write_bytes(paths[0].read_bytes() + os.urandom(9))
        return 1

    changes: list[tuple[str, int, Callable[[], int]]] = [
        ("one image changed", 1, touch(paths[number // 2 : number // 2 + 1])),
        ("one image removed", 1, remove),
        ("one in a hundred changed, here and there", 1, touch(paths[50::100])),
        ("one in a hundred changed, in a row", 1, touch(paths[100 : 100 + number // 100])),
        ("fifty scans, one new image each", 50, add),
    ]
    lines = ["| change | rows | written, MB | times the rows' bytes |", "|---|---|---|---|"]
    table = pipeline.tables.directory
    row = table.snapshot().bytes() / number
    for name, times, change in changes:
        rows = written = 0
        for _ in range(times):
            known = {file.path for file in table.latest().files()}
            rows += change()
            pipeline.scan([folder.name], LogProgress())
            written += sum(file.size_bytes for file in table.latest().files() if file.path not in known)
        lines.append(f"| {name} | {rows} | {written / 1e6:,.1f} | {written / (rows * row):,.1f} |")
    made = table.snapshot()
    heading = f"## What a change writes: {number:,} photographs of 80 KB in one folder\n\n"
    return heading + "\n".join(lines) + f"\n\n{len(made.files())} data files, {made.bytes() / 1e6:,.0f} MB.\n\n"


def _syncing(home: Path, number: int) -> str:
    trees = {
        "one folder": measure.write_photographs(home / "one", measure.TYPICAL, number // 4, 1),
        f"{number // 10} folders of ten": measure.write_photographs(home / "many", measure.SMALL, number, number // 10),
    }
    synced = files.sync
    lines = ["| scan of | with every fsync, over none | fsyncs |", "|---|---|---|"]
    for name, tree in trees.items():
        ratios, count = [], 0
        for round_ in range(ROUNDS):
            seconds = {}
            for mode in ("with", "without"):
                calls = 0

                def counted(path: Path) -> None:
                    nonlocal calls
                    calls += 1
                    synced(path)

                files.sync = storage.sync = counted if mode == "with" else lambda _: None
                pipeline = _pipeline(home / f"{name} {round_} {mode}", tree)
                os.sync()
                started = time.perf_counter()
                pipeline.scan(sorted(pipeline.source.list_folders().folders), LogProgress())
                seconds[mode] = time.perf_counter() - started
                count = max(count, calls)
            ratios.append(seconds["with"] / seconds["without"])
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {name} | {spread} | {count} |")
    files.sync = storage.sync = synced
    return f"## What syncing costs: medians of {ROUNDS} rounds in turns\n\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
