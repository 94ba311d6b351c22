"""How soon pages of decisions are there, and the next image, of a lake of 100,000 images.

    python -m benchmarks.review [--images N] [--save]

The lake is that of ``benchmarks.gallery``, with drawn measures of quality, scores and clusters, 10,000 groups of
duplicates, 10,000 doubted labels, a label and a split of each image, and a version of a dataset built on all of that. `curation gallery` runs as a process. Headless Chromium opens each page with an
empty cache, until every thumbnail on the screen is drawn, in turn with that benchmark's limit: a plain page of as many
thumbnails as files. Then images are decided on one by one by key, each until the next one's picture is drawn and named
(the preview, as this lake holds no files). Beside that the slider's count, and the time until a decision is
acknowledged, over HTTP. ``--save`` writes ``benchmarks/results/review.md``. Chromium has to be installed.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks import measure
from benchmarks.gallery import FOLDERS, LIMIT_PORT, SIZE, WATCH, wait_for, write_lake, write_plain_page
from curation_assets.annotations.record import put
from curation_assets.curate.duplicates.verification import VERIFICATION_VERSION
from curation_assets.curate.quality import MEASURES_VERSION
from curation_assets.datasets.reading import parse_recipe
from curation_assets.embed.vectors import MODEL_COLUMNS
from curation_assets.lake import hive
from curation_assets.lake.appending import append_rows
from curation_assets.lake.rewrite import rewrite
from curation_assets.lake.schemas import ANNOTATIONS, COMPARED, GROUPS, LABEL_ISSUES, PAIRS, QUALITY, SCORES
from curation_assets.progress import LogProgress
from curation_assets_tests.chromium import installed

PORT, ROUNDS, DECIDED, CLUSTERS, GROUPS_DRAWN = 8473, 10, 60, 50, 10_000
PAGES = {
    "first view of all problems": "/problems",
    "first view of a kind": "/problems?kind=blurry",
    "first view of groups": "/duplicates",
    "first view of labels": "/labels",
    "first view of clusters": "/clusters",
    "first view of leakage": "/leakage",
    "first view of a version": "/datasets?name=drawn",
}
# A histogram leaves room for a row. Numbers of a version come before its images, which are there when they are listed.
SHOWN = {"first view of a version": '>= 1 && document.querySelector("#list li")'}
PLAIN = "plain page of as many thumbnails"
GOALS_MS = dict.fromkeys(PAGES, 300) | {
    "next image after a key": 100,
    "count of a threshold": 50,
    "next groups": 100,
    "next labels": 100,
}
PACKAGES = ("fastapi", "starlette", "uvicorn", "polars", "playwright")
AT = f"http://127.0.0.1:{PORT}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/review.md")
    arguments = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="review-benchmark-"))
    processes: list[subprocess.Popen[bytes]] = []
    try:
        lake = write_lake(home, arguments.images)
        write_quality(lake)
        write_scores(lake)
        write_groups(lake)
        write_label_issues(lake)
        write_annotations(lake)
        write_version(lake)
        write_plain_page(home / "plain", lake)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("CURATION_", "MLFLOW_"))}
        environment |= {
            "CURATION_IMAGES_ROOT": str(home / "images"),
            "CURATION_LAKE_ROOT": str(home / "lake"),
            "CURATION_MODEL_SOURCE": "demo",
        }
        curation = Path(sys.executable).with_name("curation")
        processes.append(subprocess.Popen([str(curation), "gallery", "--port", str(PORT)], env=environment))
        processes.append(subprocess.Popen([sys.executable, "-m", "benchmarks.gallery", "--plain", str(home / "plain")]))
        wait_for(AT)
        wait_for(f"http://127.0.0.1:{LIMIT_PORT}/")
        begin = time.perf_counter()
        asked("/api/problems")
        first = time.perf_counter() - begin
        times = in_a_browser() | over_http()
        memory = measure.peak_mb(processes[0].pid)
    finally:
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait(30)
        shutil.rmtree(home)
    plain = statistics.median(times[PLAIN])
    lines = [
        "# Deciding in the gallery",
        "",
        f"{arguments.images:,} images in {FOLDERS} folders; {SIZE['width']} x {SIZE['height']} pixels, headless Chromium. Milliseconds.",
        "",
        "| what | median | fastest | slowest | goal | of the plain page |",
        "|---|---:|---:|---:|---:|---:|",
        *(
            f"| {name} | **{statistics.median(found):.0f}** | {min(found):.0f} | {max(found):.0f} | {GOALS_MS.get(name, '')} "
            f"| {f'{statistics.median(found) / plain:.1f}' if name in (*PAGES, PLAIN) else ''} |"
            for name, found in times.items()
        ),
        "",
        f"The first question after a start, which judges all images: {first:.1f} s. Peak memory of the gallery's process: {memory:,.0f} MB.",
        "",
        *measure.circumstances("benchmarks.review", PACKAGES),
    ]
    report = "\n".join(lines)
    print(report)
    if arguments.save:
        measure.save(report, "review")


def write_quality(pipeline: Any) -> None:
    """Drawn measures of every image of a lake."""
    table, rng, now = pipeline.tables.quality, np.random.default_rng(1), datetime.now(UTC)
    table.create()
    snapshot = pipeline.tables.directory.latest()
    rows = snapshot.read(["relative_path", "folder", "content_sha256", "width", "height", "camera"]).drop("_file")
    schema = pl.Schema(pl.DataFrame(QUALITY.file_schema.empty_table()).schema)
    for (folder,), part in rows.group_by("folder", maintain_order=True):
        each = len(part)
        drawn = {
            "sharpness": rng.beta(8, 3, each),
            "brightness": rng.beta(5, 5, each),
            "contrast": rng.beta(6, 4, each),
            "shadows": rng.beta(2, 9, each),
            "highlights": rng.beta(9, 2, each),
            "exposure": rng.beta(2, 9, each),
            "clipped": rng.beta(1, 30, each),
            "entropy": 8 * rng.beta(9, 2, each),
            "colourfulness": 60 * rng.beta(3, 4, each),
        }
        made = {"aspect_ratio": 4 / 3, "measures_version": MEASURES_VERSION, "measured_at": now}
        frame = part.with_columns(
            *(pl.Series(name, values) for name, values in drawn.items()),
            *(pl.lit(value).alias(name) for name, value in made.items()),
            *(
                pl.lit(None, of).alias(name)
                for name, of in schema.items()
                if name not in (*drawn, *made, *part.columns)
            ),
        )
        with table.writer(str(folder)) as writer:
            before = table.snapshot()
            with writer.file() as stage:
                for batch in (
                    frame.select(schema.names()).cast(schema).to_arrow().cast(QUALITY.file_schema).to_batches()
                ):
                    stage.write(batch)
            table.replace(str(folder), before, add=stage.files, remove=[])


def write_scores(pipeline: Any) -> None:
    """Drawn scores and clusters of every image of a lake."""
    index, rng = pipeline.searcher.refresh().index, np.random.default_rng(3)
    rows = index.rows.select("relative_path", "content_sha256")
    number = np.floor(CLUSTERS * rng.beta(1, 3, len(rows))).astype(np.int32)
    rows = rows.with_columns(
        *(pl.Series(name, rng.beta(2, 9, len(rows))) for name in ("outlier_score", "uniqueness", "cluster_distance")),
        cluster=pl.Series(number),
        cluster_name=pl.Series([f"cluster {at}" for at in number]),
    )
    known = {name: getattr(index.info, name) for name in MODEL_COLUMNS}
    known |= {"is_medoid": False, "came_later": False, "made_with": "drawn"}
    add(pipeline.tables.scores, as_rows(SCORES, rows, known))


def write_groups(pipeline: Any) -> None:
    """Near groups of two to four images each, and their pairs; whatever else there is was compared."""
    rng, rows = (
        np.random.default_rng(4),
        pipeline.searcher.refresh().index.rows.select("relative_path", "content_sha256"),
    )
    sizes = rng.integers(2, 5, GROUPS_DRAWN)
    group = np.repeat(np.arange(GROUPS_DRAWN), sizes)
    chosen = rows[rng.permutation(len(rows))[: len(group)].tolist()]
    is_keeper = np.r_[True, group[1:] != group[:-1]]
    made = chosen.with_columns(
        group_id=pl.Series([f"{at:032x}" for at in group]),
        is_keeper=pl.Series(is_keeper),
        similarity=pl.Series(rng.uniform(0.9, 1, len(group))),
    )
    made = made.with_columns(keeper=pl.col("relative_path").first().over("group_id"))
    known = {"kind": "near", "rule": "more pixels", "first_seen_at": datetime.now(UTC)}
    add(pipeline.tables.groups, as_rows(GROUPS, made, known))
    now = {"verification_version": VERIFICATION_VERSION, "thresholds": str(pipeline.agreements)}
    members = made.select("group_id", "similarity", first="content_sha256")
    pairs = members.join(members.select("group_id", second="first"), on="group_id").filter(
        pl.col("first") < pl.col("second")
    )
    whole = {"mirrored": False, "rotation": 0, "x": 0.0, "y": 0.0, "width": 1.0, "height": 1.0, "scale": 1.0}
    said = {"kind": "near", "method": "neighbours", "found_at": datetime.now(UTC)} | now
    transform = pl.struct(**{name: pl.lit(value) for name, value in whole.items()})
    add(pipeline.tables.pairs, as_rows(PAIRS, pairs, said).with_columns(transform=transform).cast(schema_of(PAIRS)))
    add(
        pipeline.tables.compared,
        as_rows(COMPARED, rows.select("content_sha256"), {"compared_at": datetime.now(UTC)} | now),
    )


def write_label_issues(pipeline: Any) -> None:
    """Labels that are likely wrong."""
    rng, index = np.random.default_rng(5), pipeline.searcher.refresh().index
    rows = index.rows.select("relative_path", "content_sha256", "folder")
    known = {
        "field": "class",
        "kind": "mislabelled",
        "given": "rust",
        "suggested": "miner",
        "reason": "it looks like miner",
        "made_with": "drawn",
    }
    made = rows[rng.permutation(len(rows))[:GROUPS_DRAWN].tolist()].with_columns(
        label_quality=pl.Series(rng.uniform(0, 0.05, GROUPS_DRAWN))
    )
    add(pipeline.tables.label_issues, as_rows(LABEL_ISSUES, made, known))


def write_annotations(pipeline: Any) -> None:
    """A class and a split of every image, which leave many groups on two sides."""
    rng, snapshot = np.random.default_rng(6), pipeline.tables.directory.latest()
    rows = snapshot.read(["relative_path", "folder", "content_sha256"]).drop("_file")
    made = rows.with_columns(
        pl.Series("split", rng.choice(["train", "val", "test"], len(rows), p=[0.7, 0.15, 0.15])),
        pl.Series("values", [[name] for name in rng.choice(["rust", "miner", "healthy", "mildew"], len(rows))]),
    )
    said = {"field": "class", "source": "drawn", "annotated_at": datetime.now(UTC)}
    put(pipeline.tables.annotations, "drawn", as_rows(ANNOTATIONS, made, said))


def write_version(pipeline: Any) -> None:
    """A dataset of what is left."""
    split = {"train": 0.7, "val": 0.15, "test": 0.15}
    asked = {"name": "drawn", "labels": {"field": "class"}, "leave_out": {"conflicting": "confirmed"}, "split": split}
    recipe = parse_recipe(asked, "recipe")
    # All have one of few previews, by which the gate compares some of them anew.
    pipeline.build_dataset(recipe, LogProgress(), override={"leaks": "drawn photographs repeat"})


def schema_of(table: Any) -> pl.Schema:
    return pl.Schema(table.arrow_schema.remove_metadata())


def as_rows(table: Any, rows: pl.DataFrame, said: dict[str, Any]) -> pl.DataFrame:
    """Rows of a table that say the same in some columns, and nothing in others."""
    lacking = {name: None for name in schema_of(table) if name not in (*rows.columns, *said)}
    made = rows.with_columns(pl.lit(value).alias(name) for name, value in (said | lacking).items())
    return made.select(schema_of(table).names()).cast(schema_of(table))


def add(table: Any, rows: pl.DataFrame) -> None:
    """Rows of a table that has one partition."""
    table.create()
    rewrite(table, hive.WHOLE, lambda change: append_rows(change, rows), info={"job": "benchmark"})


def asked(path: str, body: Any = None) -> Any:
    """The gallery's answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(AT + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def timed(times: list[float], path: str, body: Any = None) -> Any:
    begin = time.perf_counter()
    answer = asked(path, body)
    times.append(1000 * (time.perf_counter() - begin))
    return answer


def over_http() -> dict[str, list[float]]:
    """Counts of thresholds, and decisions of one image until they are acknowledged."""
    counts: list[float] = []
    decisions: list[float] = []
    rng = np.random.default_rng(2)
    asked("/api/problems/blurry?k=0")
    for _ in range(50):
        timed(counts, f"/api/problems/blurry?k=0&threshold={rng.uniform(0.2, 0.9):.4f}")
    for one in asked("/api/problems/blurry?k=20&undecided=true")["images"]:
        key = one["image"]["relative_path"]
        said = {"token": secrets.token_hex(8), "kind": "keep", "key": key}
        timed(decisions, "/api/decisions", {"by": "ann", "decisions": [said]})
    groups, labels, clusters = list[float](), list[float](), list[float]()
    for at in range(20):
        timed(groups, f"/api/duplicates?k=20&images=100&rest=true&undecided=true&offset={400 * at}")
        timed(labels, f"/api/label-issues?k=30&undecided=true&offset={400 * at}")
        timed(clusters, "/api/clusters?k=24&folder=farm_1")
    return {
        "count of a threshold": counts,
        "decision until it is acknowledged": decisions,
        "next groups": groups,
        "next labels": labels,
        "clusters of a folder": clusters,
    }


def in_a_browser() -> dict[str, list[float]]:
    """Pages with an empty cache, and one image after the other."""
    from playwright.sync_api import sync_playwright

    pages = {name: AT + path for name, path in PAGES.items()} | {PLAIN: f"http://127.0.0.1:{LIMIT_PORT}/"}
    found: dict[str, list[float]] = {name: [] for name in pages}
    nexts = list[float]()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=installed(), args=["--no-sandbox"])
        for number in range(ROUNDS + 1):
            for name, url in pages.items():
                context = browser.new_context(viewport=SIZE)
                context.add_init_script(WATCH.replace(">= 10", SHOWN.get(name, ">= 5")))
                page = context.new_page()
                page.goto(url, wait_until="commit")
                until, taken = time.monotonic() + 20, 0.0
                while not taken and time.monotonic() < until:
                    time.sleep(0.5)
                    taken = page.evaluate("window.there")
                if not taken:
                    sys.exit(f"{url} was not there after 20 s")
                if number:  # the first warms up the server
                    found[name].append(taken)
                context.close()
        page = browser.new_context(viewport=SIZE).new_page()
        page.goto(AT + PAGES["first view of a kind"])
        page.evaluate("localStorage.setItem('curation name', '\"ann\"')")
        page.click("#begin")
        page.wait_for_selector("#review img")
        page.wait_for_timeout(1500)  # as one looks at the first
        for number in range(DECIDED):
            nexts.append(page.evaluate(NEXT, "kr"[number % 2]))
            page.wait_for_timeout(300)
        browser.close()
    return found | {"next image after a key": nexts}


# Presses a key, and waits until another image is named and its picture is drawn; milliseconds.
NEXT = """key => new Promise(done => {
  const named = () => document.querySelector("#review figcaption a")?.textContent;
  const before = named(), begin = performance.now();
  dispatchEvent(new KeyboardEvent("keydown", { key }));
  const look = () => {
    const picture = document.querySelector("#review img");
    if (named() !== before && picture?.complete && picture.naturalWidth) done(performance.now() - begin);
    else requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
})"""


if __name__ == "__main__":
    main()
