"""Photographs in an object store beside the same on a disk: scan, embed and look, with every answer 20 ms late.

    python -m benchmarks.stores [--images N] [--keys N] [--save]

The store is ``benchmarks/s3_stand_in.py``, a process of its own on the same cores, so that its work counts against the
store's figures. Each round measures disk and store in turn; the ratios are medians of rounds. ``--save`` writes
``benchmarks/results/stores.md``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import TYPICAL, Figures

MODULE = "benchmarks.stores"
PACKAGES = ("obstore", "deltalake", "polars", "pyarrow", "pillow", "torch")
ROUNDS = 3
PAUSE = 0.02


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="photographs (default 1000)")
    parser.add_argument("--keys", type=int, default=1_000_000, help="keys that are listed (default a million)")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/stores.md")
    parser.add_argument("--child", nargs=3, metavar=("STEP", "IMAGES", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, images, out = arguments.child
        measure.answer(STEPS[step](images, Path(out)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        lines = [*_speed(home, arguments.images), "", *_listing(home, arguments.keys), ""]
    report = "\n".join(["# Object stores", "", *lines, *measure.circumstances(MODULE, PACKAGES)])
    print(report)
    if arguments.save:
        measure.save(report, "stores")


# --- what is measured, each in a process of its own ---


def scan(images: str, out: Path) -> Figures:
    """The scan, from the listing to the commit."""
    from curation_assets.ingest import scan_changed
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress

    pipeline = Pipeline(_settings(images, out))
    started = time.perf_counter()
    results = scan_changed(pipeline, pipeline.source.list_folders(), LogProgress())
    return {"seconds": time.perf_counter() - started, "images": sum(result.read for result in results)}


def embed(images: str, out: Path) -> Figures:
    """Embedding what was scanned, of files that the table doesn't hold."""
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress

    pipeline = Pipeline(_settings(images, out))
    model = pipeline.selection.choose().model
    pipeline.encoders.load(model).load_vision()
    folders = pipeline.tables.directory.latest().folders
    started = time.perf_counter()
    done = pipeline.embed_all(folders, model, LogProgress())
    return {"seconds": time.perf_counter() - started, "images": sum(result.encoded for result in done)}


def look(images: str, out: Path) -> Figures:
    """List every key, and compare all with a table that holds them."""
    import polars as pl

    from curation_assets.images.listing import fingerprint
    from curation_assets.pipeline import Pipeline

    pipeline = Pipeline(_settings(images, out))
    before = measure.peak_mb()
    started = time.perf_counter()
    tree = pipeline.source.list_folders()
    listed = time.perf_counter() - started
    keys = sum(len(listing.files) for listing in tree.folders.values())
    known = pl.concat([listing.files for listing in tree.folders.values()])
    started = time.perf_counter()
    prints = [fingerprint(listing.files) for listing in tree.folders.values()]
    compared = time.perf_counter() - started
    return {
        "seconds": listed,
        "compared": compared,
        "images": keys,
        "folders": len(prints),
        "table_mb": known.estimated_size("mb"),
        "before_mb": before,
    }


STEPS = {"scan": scan, "embed": embed, "look": look}


def _settings(images: str, out: Path) -> Any:
    from curation_assets.settings import load_settings

    options = {"aws_region": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    place, _, port = images.partition("#")
    if port:
        options |= {"aws_endpoint_url": f"http://127.0.0.1:{port}", "aws_allow_http": "true"}
    return load_settings(
        images_root=place, lake_root=out / "lake", model_source="demo", store_images=False, storage_options=options
    )


# --- how ---


@contextmanager
def stand_in(what: object, pause: float) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """A server, and its port."""
    command = [sys.executable, "-m", "benchmarks.s3_stand_in", str(what), "--pause", str(pause)]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline()), server
    finally:
        server.kill()
        server.wait()


def _requests(server: subprocess.Popen[str]) -> dict[str, int]:
    said: dict[str, int] = json.loads(server.communicate()[0].splitlines()[-1].replace("'", '"'))
    return said


def _speed(home: Path, number: int) -> list[str]:
    images = measure.write_photographs(home / "images", TYPICAL, number, folders=8)
    figures: dict[tuple[str, str], list[Figures]] = {}
    asked: dict[str, int] = {}
    for round_ in range(ROUNDS):
        with stand_in(images, PAUSE) as (port, server):
            for place, where in (("disk", str(images)), ("store", f"s3://bucket#{port}")):
                out = home / f"{place}-{round_}"
                for step in ("scan", "embed"):
                    figures.setdefault((step, place), []).append(measure.in_a_process(MODULE, step, where, out))
            asked = _requests(server)
    lines = [
        f"{number:,} photographs of {TYPICAL.name} in 8 folders, `STORE_IMAGES=false`, {PAUSE * 1000:.0f} ms before each "
        f"answer of the store; the last round asked for {asked.get('GET', 0):,} objects and {asked.get('LIST', 0)} pages.",
        "",
        "| | disk, images/s | store, images/s | store / disk | peak, MB: disk | store |",
        "|---|---|---|---|---|---|",
    ]
    for step in ("scan", "embed"):
        disk, store = figures[step, "disk"], figures[step, "store"]
        ratio = statistics.median(one["seconds"] / other["seconds"] for one, other in zip(disk, store, strict=True))
        speeds = [statistics.median(each["images"] / each["seconds"] for each in rounds) for rounds in (disk, store)]
        peaks = [max(each["peak_mb"] for each in rounds) for rounds in (disk, store)]
        lines.append(
            f"| {step} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {ratio:.2f} | {peaks[0]:,.0f} | {peaks[1]:,.0f} |"
        )
    return lines


def _listing(home: Path, keys: int) -> list[str]:
    lines = [
        f"{keys:,} keys in folders of a thousand, {PAUSE * 1000:.0f} ms before each page (the stand-in writes a page in "
        "some ms of one core, which is most of it):",
        "",
        "| keys | listed in | pages | one page after the other would wait | peak, MB | of it the listing, MB |",
        "|---|---|---|---|---|---|",
    ]
    for number in (keys // 10, keys):
        with stand_in(number, PAUSE) as (port, server):
            done = measure.in_a_process(MODULE, "look", f"s3://bucket#{port}", home / f"look-{number}")
            pages = _requests(server)["LIST"]
        lines.append(
            f"| {done['images']:,} | {done['seconds']:.1f} s | {pages:,} | {number / 1000 * PAUSE:.0f} s | "
            f"{done['peak_mb']:,.0f} | {done['table_mb']:,.0f} |"
        )
    return lines


if __name__ == "__main__":
    main()
