"""What grows with the table: a snapshot, a commit, a plan, the look for known contents, the whole-tree questions.

    python -m benchmarks.scaling [--rows N]... [--save]

Writes an embeddings and a directory table of N rows without images (1,000 rows a folder, one file each; vectors of two
numbers, as no step reads them) and times each step on it. ``--save`` writes ``benchmarks/results/scaling.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import Figures

MODULE = "benchmarks.scaling"
ROWS_A_FOLDER = 1_000
STEPS = {
    "list": "snapshot of the embeddings table",
    "commit": "commit of one more file",
    "plan": "plan of one folder (both tables)",
    "known_first": "known contents, first folder of a process",
    "known_next": "known contents, next folder",
    "behind": "which folders lack vectors (`curation run`)",
    "status": "`curation status`",
    "peak_mb": "peak memory of the process, MB",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", help="rows of each table (default 100,000 and 1,000,000)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/scaling.md")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure.answer(_timed(Path(arguments.child[1])))
        return
    sizes = arguments.rows or [100_000, 1_000_000]
    runs = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            _write_tables(Path(scratch), size)
            runs.append(measure.in_a_process(MODULE, "timed", scratch))
    head = "| | " + " | ".join(f"{size:,} rows, {size // ROWS_A_FOLDER:,} folders" for size in sizes) + " |"
    lines = ["# What grows with the tables", "", head, "|---|" + "---|" * len(sizes)]
    for step, name in STEPS.items():
        unit = "" if step == "peak_mb" else " s"
        lines.append(f"| {name} | " + " | ".join(f"{run[step]:,.3g}{unit}" for run in runs) + " |")
    report = "\n".join([*lines, "", *measure.circumstances(MODULE, ("deltalake", "polars", "pyarrow"))])
    print(report)
    if arguments.save:
        measure.save(report, "scaling")


def _pipeline(home: Path) -> Any:
    from curation_assets.pipeline import Pipeline
    from curation_assets.settings import load_settings

    return Pipeline(load_settings(images_root=str(home), lake_root=str(home / "lake"), model_source="demo"), True)


def _timed(home: Path) -> Figures:
    import polars as pl

    from curation_assets.embed.known import KnownContents
    from curation_assets.embed.plan import folders_behind, plan_embed

    pipeline = _pipeline(home)
    model = pipeline.registry.champion()
    figures: Figures = {}

    def time_it(step: str, work: Callable[[], Any], rounds: int = 3) -> Any:
        seconds = []
        for _ in range(rounds):
            started = time.perf_counter()
            result = work()
            seconds.append(time.perf_counter() - started)
        figures[step] = statistics.median(seconds)
        return result

    table = time_it("list", pipeline.tables.embeddings.snapshot)
    images = pipeline.tables.directory.snapshot()
    time_it("plan", lambda: plan_embed(images, table, "plot_00000", model))
    known, fresh = KnownContents(model), pl.DataFrame({"content_sha256": [_sha256(-n) for n in range(1, 1001)]})
    time_it("known_first", lambda: known.among([table], fresh), 1)
    time_it("known_next", lambda: known.among([table], fresh))
    time_it("behind", lambda: folders_behind(images, table, model))
    time_it("status", lambda: pipeline.tables.status(model))
    time_it("commit", lambda: _add(pipeline.tables.embeddings, "plot_00000", _rows("more", 1, model), table), 1)
    return figures


def _write_tables(home: Path, rows: int) -> None:
    """All folders in one commit a table, through the table's own writer."""
    pipeline = _pipeline(home)
    model = pipeline.selection.choose().model
    for table in (pipeline.tables.directory, pipeline.tables.embeddings):
        table.create()
        for number in range(rows // ROWS_A_FOLDER):
            _add(table, f"plot_{number:05}", _rows(f"plot_{number:05}", ROWS_A_FOLDER, model), table.snapshot())


def _add(table: Any, folder: str, rows: dict[str, list[Any]], base: Any) -> None:
    import pyarrow as pa

    with table.writer(folder) as writer:
        with writer.file() as stage:
            schema = table.spec.file_schema
            length = len(rows["relative_path"])
            stage.write(
                pa.record_batch(
                    [pa.array(rows.get(field.name, [None] * length), field.type) for field in schema], schema=schema
                )
            )
        table.replace(folder, base, add=[stage.staged], remove=[])


def _rows(folder: str, number: int, model: Any) -> dict[str, list[Any]]:
    names = [f"IMG_{index:06}.jpg" for index in range(number)]
    return {
        "file_path": [f"/data/images/{folder}/{name}" for name in names],
        "relative_path": [f"{folder}/{name}" for name in names],
        "file_name": names,
        "size_bytes": [250_000] * number,
        "content_sha256": [_sha256(f"{folder}/{name}") for name in names],
        "status": ["ok"] * number,
        "model_name": [model.name] * number,
        "model_version": [model.version] * number,
        "model_fingerprint": [model.fingerprint] * number,
        "embeddings": [[1.0, 0.0]] * number,
    }


def _sha256(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


if __name__ == "__main__":
    main()
