"""``dg dev`` killed whole, at random, again and again over a growing tree; at the end every folder is done.

    python -m curation_assets_tests.defs.killed_dagster --kills 20

The test of the suite kills it once, while a run is at work.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from curation_assets.pipeline import Pipeline
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.defs.dagster_process import DagsterDev, environment, stop, wait_for

UNDER_WAY = [dg.DagsterRunStatus[name] for name in ("NOT_STARTED", "QUEUED", "STARTING", "STARTED", "CANCELING")]


@dataclass(frozen=True)
class Outcome:
    """What was left when all was done.

    Attributes:
        caught: how many runs a kill found in each status.
        ended: runs that were ended because their process was gone.
    """

    folders: int
    images: int
    vectors: int
    caught: dict[str, int]
    statuses: dict[str, int]
    ended: int
    seconds: float


def grow(images: Path, number: int, random_: random.Random) -> int:
    """Write some folders more; how many images they have."""
    made = 0
    for part in range(random_.randint(1, 3)):
        folder = images / f"area_{number % 3}" / f"day_{number:02}_{part}"
        folder.mkdir(parents=True)
        for index in range(random_.randint(3, 12)):
            (folder / f"{index:03}.jpg").write_bytes(jpeg(1000 * number + 100 * part + index))
            made += 1
    return made


def trial(base: Path, kills: int, seed: int) -> Outcome:
    """Kill ``dg dev`` so many times, then let it finish."""
    began, chance = time.monotonic(), random.Random(seed)
    home, images = base / "home", base / "images"
    env = environment(home, images, BATCH_SIZE="1", THREADS="1")
    made, caught = 0, Counter[str]()
    for number in range(kills):
        made += grow(images, number, chance)
        dev = DagsterDev(env, base / f"dg_{number:02}.log")
        time.sleep(chance.uniform(0, 25))
        os.killpg(dev.process.pid, signal.SIGKILL)
        dev.process.wait()
        with dg.DagsterInstance.from_config(str(home)) as instance:
            caught.update(run.status.value for run in under_way(instance))
    pipeline = Pipeline(load_settings(images_root=images, lake_root=home / "lake", model_source="demo"))
    dev = DagsterDev(env, base / "dg_last.log")
    try:
        with dg.DagsterInstance.from_config(str(home)) as instance:
            wait_for("every image has its vector", lambda: _vectors(pipeline) == made, 400)
            # In one look: what follows a run begins some seconds after it.
            wait_for("no run is under way, no slot held", lambda: not under_way(instance) and not slots(instance))
            runs = instance.get_runs()
            ended = sum(run.status is dg.DagsterRunStatus.FAILURE and was_ended(instance, run) for run in runs)
            return Outcome(
                folders=len(pipeline.tables.directory.snapshot().folders),
                images=made,
                vectors=_vectors(pipeline),
                caught=dict(caught),
                statuses=dict(Counter(run.status.value for run in runs)),
                ended=ended,
                seconds=round(time.monotonic() - began, 1),
            )
    finally:
        stop(dev.process)


def _vectors(pipeline: Pipeline) -> int:
    model = pipeline.selection.current()
    if model is None or pipeline.tables.embeddings.newest_version() < 1:
        return 0
    return int(pipeline.tables.status(model)["embedded"].sum())


def under_way(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    """Runs that are not at their end."""
    return instance.get_runs(dg.RunsFilter(statuses=UNDER_WAY))


def slots(instance: dg.DagsterInstance) -> int:
    """How many of all pools are held."""
    storage = instance.event_log_storage
    return sum(len(storage.get_concurrency_info(key).claimed_slots) for key in storage.get_concurrency_keys())


def was_ended(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run failed because its process was gone."""
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    return any("The process of this run is gone" in entry.message for entry in entries)


def main() -> None:
    """Say what became of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="killed-dagster-") as folder:
        print(trial(Path(folder), chosen.kills, chosen.seed))


if __name__ == "__main__":
    main()
