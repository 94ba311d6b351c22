"""The scan beside a floor, Spark's binaryFile reader and the notebooks' loop; rescan, memory, the sensor's look.

    python -m benchmarks.scan [--images N] [--only PART]... [--save]

The floor only reads, hashes, decodes at the scale that the preview needs, encodes base64 and writes zstd-1 Parquet, in
one pass with as many threads: no EXIF, no preview, no Delta. Every figure is of a process of its own, on files in the
page cache; each round measures ours and the others in turn, so that whatever else runs on the machine falls on all,
and the ratios are medians of rounds. Peak memory is the operating system's figure (of Spark, its JVM's). Photographs
are drawn by the package's renderer with a camera's noise and EXIF. ``--save`` writes ``benchmarks/results/scan.md``.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import LARGE, SMALL, TYPICAL, Figures, Photographs

MODULE = "benchmarks.scan"
PACKAGES = ("deltalake", "polars", "pyarrow", "pillow", "cykooz.resizer", "pybase64", "pandas", "pyspark")
PARTS = ("floor", "rivals", "memory", "rescan", "sensor")
FACTOR = 16
ROUNDS = 5
RIVAL_ROUNDS = 3
FOLDERS, FILES_A_FOLDER = 1_000, 100  # that the sensor looks at
ROW_GROUP_BYTES = 32 * 2**20


KINDS = ((TYPICAL, 1.0), (SMALL, 16.0), (LARGE, 1 / 16))  # and how many for each of ``--images``


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600, help="photographs of the typical kind (default 600)")
    parser.add_argument("--only", action="append", choices=PARTS, help="measure just this part")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/scan.md")
    parser.add_argument("--child", nargs=3, metavar=("STEP", "IMAGES", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, images, out = arguments.child
        measure.answer(STEPS[step](Path(images), Path(out)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        sections = [MEASURE[part](home, arguments.images) for part in arguments.only or PARTS]
    lines = [line for section in sections for line in [*section, ""]]
    report = "\n".join(["# Scan", "", *lines, *measure.circumstances(MODULE, PACKAGES)])
    print(report)
    if arguments.save:
        measure.save(report, "scan")


# --- what is measured, each in a process of its own ---


def scan(images: Path, out: Path) -> Figures:
    """Our scan, from the listing to the commit; an ``out`` that holds the table already makes it a rescan."""
    from curation_assets.ingest import scan_changed
    from curation_assets.pipeline import Pipeline
    from curation_assets.progress import LogProgress

    pipeline = Pipeline(_settings(images, out))
    started = time.perf_counter()
    results = scan_changed(pipeline, pipeline.source.list_folders(), LogProgress())
    seconds = time.perf_counter() - started
    spent = {
        name: sum(getattr(result, f"{name}_seconds", 0.0) for result in results) for name in ("read", "decode", "write")
    }
    return {"seconds": seconds, "images": sum(result.read for result in results), "spent": spent}


def floor(images: Path, out: Path) -> Figures:
    """The least work: read, hash, decode at the preview's scale, base64, Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    threads, schema = _threads(images, out), pa.schema([(name, pa.string()) for name in ("path", "sha256", "base64")])
    out.mkdir(parents=True)
    started = time.perf_counter()
    written = 0
    with (
        ThreadPoolExecutor(threads) as pool,
        pq.ParquetWriter(
            out / "floor.parquet", schema, compression="zstd", compression_level=1, use_dictionary=False,
            write_statistics=False,
        ) as writer,
    ):  # fmt: skip
        rows: list[tuple[str, str, str]] = []
        size = 0
        for row in _in_order(pool, _floor_rows, _chunks(images), ahead=16 * threads):
            rows.append(row)
            size += len(row[2])
            if size >= ROW_GROUP_BYTES:
                writer.write_table(_floor_table(rows, schema))
                written, rows, size = written + len(rows), [], 0
        if rows:
            writer.write_table(_floor_table(rows, schema))
    return {"seconds": time.perf_counter() - started, "images": written + len(rows)}


def notebook(images: Path, out: Path) -> Figures:
    """The loop of the original notebooks: one file at a time into a list, one DataFrame, one write."""
    import pandas as pd
    from deltalake import write_deltalake
    from PIL import Image

    started = time.perf_counter()
    rows = []
    for path in sorted(images.rglob("*.jpg")):
        status = path.stat()
        with Image.open(path) as image:
            size, details = image.size, {str(tag): str(value) for tag, value in image.getexif().items()}
        rows.append(
            {
                "file_path": str(path), "file_name": path.name, "folder": path.parent.name,
                "size_bytes": status.st_size, "created_at": pd.Timestamp(status.st_ctime, unit="s", tz="UTC"),
                "image_base64": base64.b64encode(path.read_bytes()).decode(),
                "width": size[0], "height": size[1], "exif": json.dumps(details),
            }
        )  # fmt: skip
    write_deltalake(str(out), pd.DataFrame(rows), mode="overwrite")
    return {"seconds": time.perf_counter() - started, "images": len(rows)}


def spark(images: Path, out: Path) -> Figures:
    """Spark's binaryFile reader, straight to zstd-1 Parquet; the JVM is warm."""
    from pyspark.sql import SparkSession

    threads = _threads(images, out)
    session = (
        SparkSession.builder.master(f"local[{threads}]")
        .config("spark.driver.memory", "4g")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.hadoop.parquet.compression.codec.zstd.level", "1")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    some = Path(tempfile.mkdtemp(dir=out.parent))
    for path in sorted(images.rglob("*.jpg"))[:20]:
        shutil.copy(path, some)

    def run(source: Path, target: Path) -> None:
        files = session.read.format("binaryFile").option("recursiveFileLookup", "true").load(str(source))
        files.write.option("compression", "zstd").parquet(str(target))

    run(some, out.with_name(out.name + "-warm"))
    started = time.perf_counter()
    run(images, out)
    seconds = time.perf_counter() - started
    images_done = session.read.parquet(str(out)).count()
    peak = measure.peak_mb(session.sparkContext._gateway.proc.pid)
    session.stop()
    return {"seconds": seconds, "images": images_done, "peak_mb": peak}


def look(images: Path, out: Path) -> Figures:
    """What the sensor does before it decides: list, fingerprint, compare."""
    from curation_assets.pipeline import Pipeline

    pipeline = Pipeline(_settings(images, out))
    started = time.perf_counter()
    tree = pipeline.source.list_folders()
    listed = time.perf_counter()
    changes = pipeline.folder_changes(tree)
    ended = time.perf_counter()
    files = sum(len(listing.files) for listing in tree.folders.values())
    return {
        "seconds": ended - started, "list": listed - started, "compare": ended - listed,
        "files": files, "folders": len(tree.folders), "changes": len(changes),
    }  # fmt: skip


def tick(images: Path, out: Path) -> Figures:
    """The whole sensor, on a tree that matches its table but that Dagster doesn't know yet."""
    import dagster as dg

    from curation_assets.defs.model import clip_model
    from curation_assets.defs.new_images import build_new_images_sensor
    from curation_assets.defs.resources import CurationResource
    from curation_assets.pipeline import Pipeline

    settings = _settings(images, out)
    model = Pipeline(settings).selection.choose().model
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {"dagster/data_version": model.fingerprint}
        instance.report_runless_asset_event(dg.AssetMaterialization(clip_model.key, tags=tags))
        started = time.perf_counter()
        context = dg.build_sensor_context(instance=instance)
        result: Any = build_new_images_sensor(settings)(context, curation=CurationResource.of(settings))
        seconds = time.perf_counter() - started
        if not isinstance(result, dg.SensorResult):
            sys.exit(f"the sensor skipped: {result}")
    return {"seconds": seconds}


def _settings(images: Path, out: Path) -> Any:
    from curation_assets.settings import load_settings

    return load_settings(images_root=str(images), lake_root=str(out), model_source="demo")


def _threads(images: Path, out: Path) -> int:
    return int(_settings(images, out).worker_threads)


def _chunks(images: Path) -> Iterator[list[str]]:
    """Paths in the order of their names, as many at once as make handing them over cost little."""
    chunk: list[str] = []
    size = 0
    for path in sorted(images.rglob("*.jpg")):
        chunk.append(str(path))
        size += path.stat().st_size
        if len(chunk) >= 16 or size >= 2**20:
            yield chunk
            chunk, size = [], 0
    yield chunk


def _floor_rows(paths: list[str]) -> list[tuple[str, str, str]]:
    import pybase64
    from PIL import Image

    from curation_assets.images.preview import PREVIEW_SIDE

    rows = []
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            data = file.readall()
        digest = hashlib.sha256(data).hexdigest()
        image = Image.open(BytesIO(data))
        scale = PREVIEW_SIDE / max(image.size)
        if scale < 1:
            image.draft(None, (round(image.width * scale), round(image.height * scale)))
        image.load()
        rows.append((path, digest, pybase64.b64encode_as_string(data)))
    return rows


def _floor_table(rows: list[tuple[str, str, str]], schema: Any) -> Any:
    import pyarrow as pa

    return pa.table([pa.array(column, pa.string()) for column in zip(*rows, strict=True)], schema=schema)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[list[str]], list[Any]], chunks: Iterator[list[str]], ahead: int
) -> Iterator[Any]:
    waiting: deque[Future[list[Any]]] = deque()
    for chunk in chunks:
        if len(waiting) >= ahead:
            yield from waiting.popleft().result()
        waiting.append(pool.submit(work, chunk))
    while waiting:
        yield from waiting.popleft().result()


STEPS: dict[str, Callable[[Path, Path], Figures]] = {
    step.__name__: step for step in (scan, floor, notebook, spark, look, tick)
}


# --- which of them, on what, and what is said of it ---


def _against_the_floor(home: Path, images: int) -> list[str]:
    lines = [
        f"## Beside the floor, medians of {ROUNDS} rounds",
        "",
        "| photographs | number | MB | scan, images/s | floor, images/s | scan / floor | reading, decoding, writing, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, share in KINDS:
        number = max(8, round(images * share))
        folder = _photographs(home, kind, number)
        rounds = [(_run("scan", folder, home), _run("floor", folder, home)) for _ in range(ROUNDS)]
        ours, least = (statistics.median(pair[i]["seconds"] for pair in rounds) for i in (0, 1))
        ratio = statistics.median(b["seconds"] / a["seconds"] for a, b in rounds)
        spent = ", ".join(f"{value:.2f}" for value in rounds[-1][0]["spent"].values())
        size = _megabytes(folder)
        lines.append(
            f"| {kind.name} | {number} | {size:.0f} | {number / ours:,.0f} | {number / least:,.0f} | {ratio:.2f} | {spent} |"
        )
        shutil.rmtree(folder)
    return lines


def _rivals(home: Path, images: int) -> list[str]:
    folder = _photographs(home, TYPICAL, images)
    steps = ["scan", "notebook"]
    why_not = None
    try:
        import pyspark  # noqa: F401

        steps.append("spark")
    except ImportError as error:
        why_not = f"Spark was left out: {error}."
        print(why_not, file=sys.stderr)
    rounds = [{step: _run(step, folder, home) for step in steps} for _ in range(RIVAL_ROUNDS)]
    names = {
        "scan": "scan", "notebook": "the notebooks' loop (no hash, no decoding)",
        "spark": "Spark binaryFile to Parquet (no hash, no decoding, no base64)",
    }  # fmt: skip
    lines = [
        f"## Beside rivals: {images} photographs of {TYPICAL.name}, medians of {RIVAL_ROUNDS} rounds",
        "",
        "| | images/s | time, scan = 1 | peak MB |",
        "|---|---|---|---|",
    ]
    for step in steps:
        seconds = statistics.median(r[step]["seconds"] for r in rounds)
        relative = statistics.median(r[step]["seconds"] / r["scan"]["seconds"] for r in rounds)
        peak = statistics.median(r[step]["peak_mb"] for r in rounds)
        lines.append(f"| {names[step]} | {images / seconds:,.0f} | {relative:.2f} | {peak:,.0f} |")
    shutil.rmtree(folder)
    return lines if why_not is None else [*lines, "", why_not]


def _memory(home: Path, images: int) -> list[str]:
    lines = [
        f"## Memory: {images} photographs of {TYPICAL.name} and more of them in one folder",
        "",
        "| | photographs | peak MB | more photographs | peak MB | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for step, factor in (("scan", FACTOR), ("floor", FACTOR), ("notebook", 4)):
        small, large = (_photographs(home, TYPICAL, images, copies) for copies in (1, factor))
        peaks = [_run(step, folder, home)["peak_mb"] for folder in (small, large)]
        lines.append(
            f"| {step} | {images:,} | {peaks[0]:,.0f} | {factor * images:,} | {peaks[1]:,.0f} | {peaks[1] / peaks[0]:.2f} |"
        )
        shutil.rmtree(small)
        shutil.rmtree(large)
    return lines


def _rescan(home: Path, images: int) -> list[str]:
    folder, lake = _photographs(home, TYPICAL, images, folders=max(1, images // 20)), home / "rescanned"
    first = _run("scan", folder, home, keep=lake)
    again = [_run("scan", folder, home, keep=lake) for _ in range(5)]
    seconds = statistics.median(r["seconds"] for r in again)
    opened = sum(r["images"] for r in again)
    shutil.rmtree(lake)
    shutil.rmtree(folder)
    return [
        "## Rescan of an unchanged tree",
        "",
        f"{images} photographs of {TYPICAL.name} in {max(1, images // 20)} folders: the first scan takes "
        f"{first['seconds']:.2f} s, the next {seconds:.3f} s (median of 5), **{first['seconds'] / seconds:.0f} times** as "
        f"fast; it opens {opened} files.",
    ]


def _sensor(home: Path, _: int) -> list[str]:
    folder, lake = _small_files(home / "many"), home / "many-lake"
    first = _run("scan", folder, home, keep=lake)
    looks = [_run("look", folder, home, keep=lake) for _ in range(5)]
    again = statistics.median(_run("scan", folder, home, keep=lake)["seconds"] for _ in range(3))
    seconds, listing, comparing = (statistics.median(r[n] for r in looks) for n in ("seconds", "list", "compare"))
    ticks = _run("tick", folder, home, keep=lake)
    shutil.rmtree(folder)
    shutil.rmtree(lake)
    return [
        "## The sensor's look",
        "",
        f"{looks[0]['folders']:,} folders of {FILES_A_FOLDER} files, {looks[0]['files']:,} in all, in a table that holds "
        f"them ({looks[0]['changes']} folders differ): **{seconds:.2f} s** (median of 5), {listing:.2f} s to list and "
        f"{comparing:.2f} s to fingerprint and compare; peak {looks[0]['peak_mb']:.0f} MB. "
        "A tick that also reports all folders to Dagster, which doesn't know them yet, "
        f"takes {ticks['seconds']:.1f} s.",
        "",
        f"The first scan of this tree takes {first['seconds']:.0f} s ({first['images'] / first['seconds']:,.0f} images/s), "
        f"a rescan {again:.2f} s: {first['seconds'] / again:.0f} times as fast.",
    ]


MEASURE = dict(zip(PARTS, (_against_the_floor, _rivals, _memory, _rescan, _sensor), strict=True))


def _run(step: str, images: Path, home: Path, keep: Path | None = None) -> Figures:
    out = keep or home / "out" / "lake"
    out.parent.mkdir(exist_ok=True)
    figures = measure.in_a_process(MODULE, step, images, out)
    shutil.rmtree(home / "out", ignore_errors=True)
    return figures


def _photographs(home: Path, kind: Photographs, number: int, copies: int = 1, folders: int = 1) -> Path:
    root = home / f"{kind.name.replace(' ', '')}-{number * copies}"
    return measure.write_photographs(root, kind, number, folders, copies)


def _small_files(root: Path) -> Path:
    """``FOLDERS`` folders of ``FILES_A_FOLDER`` files of a kilobyte."""
    from PIL import Image

    originals = []
    for spread in range(30, 50):
        out = BytesIO()
        Image.effect_noise((32, 32), spread).convert("RGB").save(out, "JPEG")
        originals.append(out.getvalue())
    for index in range(FOLDERS):
        folder = root / f"field_{index // 50:03}" / f"plot_{index:04}"
        folder.mkdir(parents=True)
        for number in range(FILES_A_FOLDER):
            data = originals[number % len(originals)] + (index * FILES_A_FOLDER + number).to_bytes(8, "big")
            (folder / f"IMG_{number:04}.jpg").write_bytes(data)
    return root


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*.jpg")) / 1e6


if __name__ == "__main__":
    main()
