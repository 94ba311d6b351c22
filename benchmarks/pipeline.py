"""Speed and peak memory of scan, rescan and embed, on one folder and on one of eight times as many photographs.

    python -m benchmarks.pipeline [--images N] [--save]

Each step runs in a process of its own, whose peak resident memory is the operating system's figure. Photographs are
drawn by the package's sample renderer; bytes after the end marker make every file's content its own. The model is the
embedded demo model, so "embed" measures the pipeline around the encoder, not an encoder. ``--save`` writes the table
to ``benchmarks/results/pipeline.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

from benchmarks.measure import SCENES, cpu_name, peak_mb

FACTOR = 8
STEPS = ("scan", "rescan", "embed", "embed again")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600, help="photographs in the small folder (default 600)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/pipeline.md")
    parser.add_argument("--child", nargs=3, metavar=("STEP", "IMAGES", "LAKE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        _child(*arguments.child)
        return
    with tempfile.TemporaryDirectory() as scratch:
        sizes = (arguments.images, FACTOR * arguments.images)
        measured = [_measure(Path(scratch) / str(size), size) for size in sizes]
    report = _report(sizes, measured)
    print(report)
    if arguments.save:
        target = Path(__file__).parent / "results" / "pipeline.md"
        target.parent.mkdir(exist_ok=True)
        target.write_text(report)


def _measure(home: Path, size: int) -> dict[str, dict[str, float]]:
    megabytes = _write_photographs(home / "images" / "field", size) / 1e6
    _run("register", home)
    results = {}
    for step in STEPS:
        results[step] = _run(step, home)
        print(f"{size} photographs, {megabytes:.0f} MB: {step} {results[step]}", file=sys.stderr)
    return results


def _run(step: str, home: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.pipeline", "--child", step, str(home / "images"), str(home / "lake")]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(out.splitlines()[-1])
    return result


def _child(step: str, images: str, lake: str) -> None:
    from curation_assets.ingest import scan_changed
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress
    from curation_assets.settings import load_settings

    pipeline = Pipeline(load_settings(images_root=images, lake_root=lake, model_source="demo"))
    progress = LogProgress()
    if step == "register":
        pipeline.selection.choose()
        print("{}")
        return
    model = pipeline.registry.champion() if step.startswith("embed") else None
    started = time.perf_counter()
    if model is not None:
        result = pipeline.embed("field", model, progress)
        images_done = result.encoded
    else:
        images_done = sum(scan.read for scan in scan_changed(pipeline, pipeline.source.list_folders(), progress))
    print(
        json.dumps(
            {
                "images": images_done,
                "seconds": round(time.perf_counter() - started, 3),
                "peak_mb": round(peak_mb(), 1),
            }
        )
    )


def _write_photographs(folder: Path, number: int) -> int:
    from curation_assets.demo.render import render

    folder.mkdir(parents=True)
    originals = []
    for index in range(24):
        out = BytesIO()
        render(SCENES[index % len(SCENES)], random.Random(index), (1280, 960)).save(out, "JPEG", quality=92)
        originals.append(out.getvalue())
    written = 0
    for index in range(number):
        data = originals[index % len(originals)] + index.to_bytes(8, "big")
        (folder / f"IMG_{index:06}.jpg").write_bytes(data)
        written += len(data)
    return written


def _report(sizes: tuple[int, int], measured: list[dict[str, dict[str, float]]]) -> str:
    small, large = measured
    lines = [
        f"# Scan and embed: {sizes[0]} and {sizes[1]} photographs in one folder",
        "",
        f"| step | images/s, {sizes[0]} | images/s, {sizes[1]} | peak MB, {sizes[0]} | peak MB, {sizes[1]} | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for step in STEPS:
        rates = [f"{size / result[step]['seconds']:,.0f}" for size, result in zip(sizes, measured, strict=True)]
        peaks = [result[step]["peak_mb"] for result in measured]
        lines.append(
            f"| {step} | {rates[0]} | {rates[1]} | {peaks[0]:.0f} | {peaks[1]:.0f} | {peaks[1] / peaks[0]:.2f} |"
        )
    faster = [result["scan"]["seconds"] / result["rescan"]["seconds"] for result in (small, large)]
    lines += [
        "",
        f"A rescan of the unchanged folder is {faster[0]:.0f} and {faster[1]:.0f} times as fast as the scan, and opens "
        f"{large['rescan']['images']:.0f} files; embedding again computes {large['embed again']['images']:.0f} images.",
        "",
        f"- Command: `python -m benchmarks.pipeline --images {sizes[0]} --save`",
        f"- Machine: {platform.machine()}, {os.cpu_count()} cores, {cpu_name()}, Python {platform.python_version()}",
        "- Versions: "
        + ", ".join(f"{name} {version(name)}" for name in ("deltalake", "polars", "pyarrow", "pillow", "torch")),
        "- Times are of one run on a shared machine; the ratios are what to trust.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
