"""How long people wait for Dagster: a photograph that lands, and a backfill of unchanged folders, beside `curation run`.

    python -m benchmarks.dagster [--rounds N] [--save]

A real `dg dev` (webserver, daemon, code server) runs on a tree of 17 folders that the command brought in before. A
photograph is dropped into one of them, and the clock runs until the search index holds it, less the sensor's interval
and the time a folder has to rest. Then all 17 folders of both assets are backfilled over GraphQL, as the button
"Materialize all" does; the daemon looks for backfills every 30 seconds, which no setting changes, so the time that its
run takes stands beside the time until Dagster says that it is done. `curation run` does the same in a new process on
the same tree once Dagster is stopped: a photograph more, and nothing new. ``--save`` writes
``benchmarks/results/dagster.md``.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.measure import TYPICAL
from curation_assets_tests.defs.dagster_process import DagsterDev, environment, stop, wait_for

FOLDERS, PHOTOGRAPHS = 17, 51
INTERVAL, SETTLE = 5, 1  # seconds; the daemon itself looks at its sensors every 5
GOAL_LANDING, GOAL_BACKFILL = 20, 30
ASSETS = ["crop_images_directory", "crop_images_directory_embeddings"]
PACKAGES = ("dagster", "deltalake", "mlflow", "torch", "transformers")


def curation_run(env: dict[str, str]) -> float:
    """Seconds of `curation run` in a new process."""
    began = time.monotonic()
    command = [str(Path(sys.executable).with_name("curation")), "run"]
    subprocess.run(command, env=env, check=True, capture_output=True)
    return time.monotonic() - began


def land(images: Path, number: int) -> Path:
    """One more photograph in one of the folders."""
    path = images / f"field_{number % FOLDERS:04}" / f"landed_{number:03}.jpg"
    path.write_bytes(measure.photograph(TYPICAL, number % 24) + b"landed" + number.to_bytes(8, "big"))
    return path


def landing(dev: DagsterDev, images: Path, pipeline: Any, number: int) -> tuple[float, float]:
    """Drop a photograph into a running project.

    Returns:
        Seconds until the index holds it, and of them those in which its run existed.
    """
    from curation_assets.search.index import read_info

    index = pipeline.searcher.location_of(pipeline.registry.champion())
    before = read_info(index)
    path, began, wall = land(images, number), time.monotonic(), time.time()
    while (info := read_info(index)) is None or info.vectors == before.vectors:
        time.sleep(0.05)
        if time.monotonic() - began > 600:
            sys.exit(f"{path.name} never came to the index")
    seconds = time.monotonic() - began
    run = max(dev.runs_of(path.parent.name), key=lambda run: float(run["creationTime"]))
    wait_for("its run is over", lambda: dev.status(run["id"]) == "SUCCESS", 300)
    wait_for("the map has followed", lambda: _idle(dev), 300)
    return seconds, wall + seconds - float(run["creationTime"])


def _idle(dev: DagsterDev) -> bool:
    """Whether no run is under way, nor was asked for just now."""
    time.sleep(2 * INTERVAL)
    return all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in dev.runs())


def backfill(dev: DagsterDev) -> tuple[float, float, int]:
    """Backfill all folders of both assets.

    Returns:
        Seconds until Dagster says it is done; seconds from its first run's creation to its last run's end; runs.
    """
    began = time.monotonic()
    chosen = dev.backfill(ASSETS, [f"field_{number:04}" for number in range(FOLDERS)])
    wait_for("the backfill is done", lambda: dev.backfill_status(chosen) == "COMPLETED_SUCCESS", 900)
    seconds = time.monotonic() - began
    runs = dev.runs(backfill=chosen)
    worked = max(float(run["endTime"]) for run in runs) - min(float(run["creationTime"]) for run in runs)
    return seconds, worked, len(runs)


def main() -> None:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of each figure; the middle one counts")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/dagster.md")
    arguments = parser.parse_args()
    from curation_assets.pipeline import Pipeline
    from curation_assets.settings import load_settings

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        images, home = root / "images", root / "home"
        measure.write_photographs(images, TYPICAL, PHOTOGRAPHS, FOLDERS)
        chosen = {"SENSOR_INTERVAL_SECONDS": str(INTERVAL), "SETTLE_SECONDS": str(SETTLE)}
        env = environment(home, images, **chosen)
        curation_run(env)
        pipeline = Pipeline(load_settings(images_root=images, lake_root=home / "lake", model_source="demo"))
        dev = DagsterDev(env, root / "dg.log")
        try:
            wait_for("Dagster knows the folders", lambda: _known(dev) == FOLDERS, 300)
            wait_for("it has nothing to do", lambda: _idle(dev), 600)
            landed = [landing(dev, images, pipeline, number) for number in range(arguments.rounds)]
            filled = [backfill(dev) for _ in range(arguments.rounds)]
        finally:
            stop(dev.process)
        curation_run(env)
        changed, unchanged = [], []
        for number in range(arguments.rounds):
            land(images, 100 + number)
            changed.append(curation_run(env))
            unchanged.append(curation_run(env))
    report = _report(landed, filled, changed, unchanged)
    print(report)
    if arguments.save:
        measure.save(report, "dagster")


def _known(dev: DagsterDev) -> int:
    query = """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
        partitionStats { numMaterialized } } } }"""
    node = dev.ask(query, key={"path": [ASSETS[1]]})["assetNodeOrError"]
    return int((node.get("partitionStats") or {}).get("numMaterialized") or 0)


def _report(
    landed: list[tuple[float, float]],
    filled: list[tuple[float, float, int]],
    changed: list[float],
    unchanged: list[float],
) -> str:
    middle = statistics.median
    plain, nothing = middle(changed), middle(unchanged)
    beyond = middle(seconds for seconds, _ in landed) - INTERVAL - SETTLE
    in_run = middle(run for _, run in landed)
    said, worked = (middle(one[position] for one in filled) for position in (0, 1))
    rows = [
        ("a photograph lands: until the index holds it, less interval and rest", beyond, plain),
        ("of that since its run was asked for", in_run, plain),
        ("`curation run` after a photograph landed", plain, plain),
        (
            f"backfill of {FOLDERS} unchanged folders, two assets: from its first run to the end of its last",
            worked,
            nothing,
        ),
        ("until Dagster says that it is done, with the daemon's pauses of 30 s", said, nothing),
        ("`curation run` on the unchanged tree", nothing, nothing),
    ]
    lines = [
        "# Dagster",
        "",
        f"{FOLDERS} folders, {PHOTOGRAPHS} photographs, the embedded model; sensors every {INTERVAL} s, a folder rests "
        f"{SETTLE} s. The middle of {len(landed)} times each. Load of the machine at the end: {os.getloadavg()[1]:.1f} on "
        f"{os.cpu_count()} cores. Goals: {GOAL_LANDING} s for the first line, {GOAL_BACKFILL} s for the backfill.",
        "",
        "| what | seconds | of `curation run` |",
        "|---|---|---|",
        *(f"| {what} | **{seconds:.1f}** | {seconds / beside:.1f} |" for what, seconds, beside in rows),
        "",
        f"Runs of a backfill: {middle(one[2] for one in filled):.0f}.",
        "",
        *measure.circumstances("benchmarks.dagster", PACKAGES),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
