"""How soon the gallery's first page is there in a browser, of a lake of 100,000 images, beside a plain page of files.

    python -m benchmarks.gallery [--images N] [--save]

A real lake is written: 100 folders, a preview of some 10 kB and a vector of the embedded model's dimension in every row.
Then `curation gallery` runs as a process, and headless Chromium opens its first page and the page of a text search, each
ten times with an empty cache. A page counts as there when every tile on the screen shows its thumbnail. The limit, opened
in turn with it, is a file: a page whose markup names the same thumbnails, as files beside it, served by Starlette with
uvicorn. ``--save`` writes ``benchmarks/results/gallery.md``. Chromium has to be installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import TYPICAL

FOLDERS, ROUNDS = 100, 10
GOAL_MS = 300
SIZE = {"width": 1440, "height": 900}
PORT, LIMIT_PORT = 8471, 8472
PACKAGES = ("fastapi", "starlette", "uvicorn", "polars", "playwright")
# Notes when every image on the screen is drawn, in milliseconds since the navigation began; looks once a frame.
WATCH = """window.there = 0;
const look = () => {
  const shots = [...document.images].filter(i => { const r = i.getBoundingClientRect();
    return r.top < innerHeight && r.bottom > 0 && r.width > 20; });
  if (shots.length >= 10 && shots.every(i => i.complete && i.naturalWidth > 0)) window.there = performance.now();
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);"""


def write_lake(home: Path, number: int) -> Any:
    """Tables of so many images, a registered model, an index."""
    import numpy as np
    import polars as pl
    from PIL import Image

    from curation_assets.lake.schemas import DIRECTORY, EMBEDDINGS
    from curation_assets.pipeline import Pipeline
    from curation_assets.settings import load_settings

    settings = load_settings(images_root=home / "images", lake_root=home / "lake", model_source="demo")
    pipeline = Pipeline(settings, own_registry=True)
    model = pipeline.selection.choose().model
    previews = []
    for seed in range(24):
        with Image.open(BytesIO(measure.photograph(TYPICAL, seed))) as image:
            image.thumbnail((384, 384))
            out = BytesIO()
            image.save(out, "JPEG", quality=80)
            previews.append(out.getvalue())
    pipeline.tables.directory.create()
    pipeline.tables.embeddings.create()
    rng, now = np.random.default_rng(0), datetime.now(UTC)
    each = number // FOLDERS
    for folder in range(FOLDERS):
        name = f"farm_{folder // 10}/plot_{folder % 10}"
        files = [f"IMG_{folder * each + row:06}.jpg" for row in range(each)]
        vectors = rng.standard_normal((each, model.dimension)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        common = {
            "file_path": [f"/photos/{name}/{file}" for file in files],
            "relative_path": [f"{name}/{file}" for file in files],
            "file_name": files,
            "size_bytes": rng.integers(100_000, 5_000_000, each),
            "created_at": [now] * each,
            "content_sha256": [hashlib.sha256(file.encode()).hexdigest() for file in files],
        }
        facts = {
            "format": "JPEG",
            "mode": "RGB",
            "width": 1280,
            "height": 960,
            "status": "ok",
            "camera": "Canon EOS 90D",
        }
        images = common | {key: [value] * each for key, value in facts.items()}
        images |= {"preview": [previews[row % len(previews)] for row in range(each)], "captured_at": [now] * each}
        made = {"model_name": model.name, "model_version": model.version, "model_fingerprint": model.fingerprint}
        rows = common | {key: [value] * each for key, value in made.items()}
        rows |= {"embeddings": vectors.tolist(), "embedded_at": [now] * each}
        for table, spec, columns in (
            (pipeline.tables.directory, DIRECTORY, images),
            (pipeline.tables.embeddings, EMBEDDINGS, rows),
        ):
            schema = pl.Schema(pl.DataFrame(spec.file_schema.empty_table()).schema)
            frame = pl.DataFrame({c: columns.get(c, [None] * each) for c in schema}, schema=schema)
            with table.writer(name) as writer:
                before = table.snapshot()
                with writer.file() as stage:
                    for batch in frame.to_arrow().cast(spec.file_schema).to_batches():
                        stage.write(batch)
                table.replace(name, before, add=stage.files, remove=[])
    pipeline.searcher.refresh()
    return pipeline


def write_plain_page(folder: Path, pipeline: Any) -> None:
    """The thumbnails of the first page as files, and a page that names them."""
    folder.mkdir()
    searcher = pipeline.searcher
    keys = searcher.search(k=60).rows["relative_path"].to_list()
    for number, preview in enumerate(searcher.previews(searcher.open(), keys).values()):
        (folder / f"{number}.jpg").write_bytes(preview)
    images = "".join(f'<img src="{number}.jpg" width="200" height="150">' for number in range(len(keys)))
    (folder / "index.html").write_text(f"<!DOCTYPE html><title>plain</title>{images}")


def serve_plain(folder: Path) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder, html=True))])
    uvicorn.run(app, host="127.0.0.1", port=LIMIT_PORT, log_level="error")


def wait_for(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"{url} doesn't answer")


def measure_pages(pages: dict[str, str]) -> dict[str, list[float]]:
    from playwright.sync_api import sync_playwright

    from curation_assets_tests.chromium import installed

    times: dict[str, list[float]] = {name: [] for name in pages}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=["--no-sandbox"])
        for number in range(ROUNDS + 1):
            for name, url in pages.items():
                context = browser.new_context(viewport=SIZE)
                context.add_init_script(WATCH)
                page = context.new_page()
                page.goto(url, wait_until="commit")
                until, taken = time.monotonic() + 20, 0.0
                while not taken and time.monotonic() < until:
                    time.sleep(0.5)
                    taken = page.evaluate("window.there")
                if not taken:
                    sys.exit(f"{url} was not there after 20 s")
                if number:  # the first warms up the server
                    times[name].append(taken)
                context.close()
        browser.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.plain:
        serve_plain(arguments.plain)
        return
    home = Path(tempfile.mkdtemp(prefix="gallery-benchmark-"))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        pipeline = write_lake(home, arguments.images)
        write_plain_page(home / "plain", pipeline)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("CURATION_", "MLFLOW_"))}
        environment |= {
            "CURATION_IMAGES_ROOT": str(home / "images"),
            "CURATION_LAKE_ROOT": str(home / "lake"),
            "CURATION_MODEL_SOURCE": "demo",
        }
        curation = Path(sys.executable).with_name("curation")
        processes.append(subprocess.Popen([str(curation), "gallery", "--port", str(PORT)], env=environment))
        processes.append(subprocess.Popen([sys.executable, "-m", "benchmarks.gallery", "--plain", str(home / "plain")]))
        text = "?text=rust+on+a+coffee+leaf"
        pages = {
            "first page": f"http://127.0.0.1:{PORT}/",
            "search by text": f"http://127.0.0.1:{PORT}/{text}",
            "search by text in a folder": f"http://127.0.0.1:{PORT}/{text}&folder=farm_3",
            "plain page of the same thumbnails": f"http://127.0.0.1:{LIMIT_PORT}/",
        }
        for url in pages.values():
            wait_for(url)
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/search{text}").close()
        times = measure_pages(pages)
        memory = measure.peak_mb(processes[0].pid)
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(30)
        shutil.rmtree(home)
    plain = statistics.median(times["plain page of the same thumbnails"])
    lines = [
        "# Gallery",
        "",
        f"{arguments.images:,} images in {FOLDERS} folders; {SIZE['width']} x {SIZE['height']} pixels, headless Chromium, an empty cache each time.",
        f"Milliseconds from the beginning of the navigation until every thumbnail on the screen is drawn, of {ROUNDS} times. Goal: the first page in {GOAL_MS} ms.",
        "",
        "| page | median ms | fastest | slowest | of the plain page |",
        "|---|---|---|---|---|",
        *(
            f"| {name} | **{statistics.median(found):.0f}** | {min(found):.0f} | {max(found):.0f} | {statistics.median(found) / plain:.1f} |"
            for name, found in times.items()
        ),
        "",
        f"Peak memory of the gallery's process: {memory:,.0f} MB, mapped files and the model included.",
        "",
        *measure.circumstances("benchmarks.gallery", PACKAGES),
    ]
    report = "\n".join(lines)
    print(report)
    if arguments.save:
        measure.save(report, "gallery")


if __name__ == "__main__":
    main()
