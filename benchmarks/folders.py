"""What a folder costs: photographs one to a folder beside the same photographs in one folder, scan and embedding.

    python -m benchmarks.folders [--folders N] [--save]

Each run is a process of its own with the embedded model loaded; figures are of ``Pipeline.scan`` and
``Pipeline.embed_all``, and the difference by folder is what locks, plans, Parquet files and commits take. ``--save``
writes ``benchmarks/results/folders.md``. The goal: 0.05 s a folder, encoding its photograph included.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from benchmarks import measure
from benchmarks.measure import Figures

MODULE = "benchmarks.folders"
GOAL_SECONDS = 0.05


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=int, default=1000, help="photographs (default 1000)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/folders.md")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        measure.answer(_run(*map(Path, arguments.child[1:])))
        return
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        measured = {}
        for name, folders in (("one to a folder", arguments.folders), ("all in one folder", 1)):
            tree = measure.write_photographs(home / name / "images", measure.SMALL, arguments.folders, folders)
            measured[name] = measure.in_a_process(MODULE, "run", tree, home / name / "lake")
    report = _report(arguments.folders, measured)
    print(report)
    if arguments.save:
        measure.save(report, "folders")


def _run(images: Path, lake: Path) -> Figures:
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress
    from curation_assets.settings import load_settings

    pipeline = Pipeline(load_settings(images_root=images, lake_root=lake, model_source="demo"), own_registry=True)
    progress, figures = LogProgress(), {}
    model = pipeline.selection.choose().model
    pipeline.encoders.load(model).load_vision()
    folders = sorted(pipeline.source.list_folders().folders)
    for step, work in (
        ("scan", lambda: pipeline.scan(folders, progress)),
        ("embed", lambda: pipeline.embed_all(folders, model, progress)),
        ("scan again", lambda: pipeline.scan(folders, progress)),
        ("embed again", lambda: pipeline.embed_all(folders, model, progress)),
    ):
        started = time.perf_counter()
        work()
        figures[step] = time.perf_counter() - started
    figures["commits"] = pipeline.tables.directory.newest_version() + pipeline.tables.embeddings.newest_version()
    return figures


def _report(number: int, measured: dict[str, Figures]) -> str:
    apart, together = measured.values()
    lines = [
        f"# {number:,} photographs of 256 x 192, one to a folder and all in one",
        "",
        "| step | one to a folder, s | all in one folder, s | ratio | seconds a folder |",
        "|---|---:|---:|---:|---:|",
    ]
    for step in ("scan", "embed", "scan again", "embed again"):
        ratio = apart[step] / together[step]
        lines.append(
            f"| {step} | {apart[step]:.1f} | {together[step]:.1f} | {ratio:.1f} | {apart[step] / number:.4f} |"
        )
    whole = (apart["scan"] + apart["embed"]) / number
    lines += [
        "",
        f"Scanned and embedded: **{whole:.3f} s a folder** (goal {GOAL_SECONDS}), in {apart['commits']:.0f} commits "
        f"beside {together['commits']:.0f}.",
        "",
        *measure.circumstances(MODULE, ("deltalake", "polars", "pyarrow", "torch")),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
