from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from curation_assets.defs.state import FOLDERS_A_RUN
from curation_assets.pipeline import Pipeline
from curation_assets.settings import load_settings
from curation_assets_tests.defs.conftest import folders_of, report_model
from curation_assets_tests.defs.dagster_process import environment, stop, wait_for

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("killed_daemon.py")
FOLDERS = [f"field_{number:02}" for number in range(2 * FOLDERS_A_RUN + 1)]


def test_a_daemon_killed_inside_a_tick_and_again_loses_and_doubles_no_folder(
    tmp_path: Path, images: Path, fill: Any
) -> None:
    for folder in FOLDERS:
        fill(folder, 1)
    home = tmp_path / "home"
    # Nothing is listening for runs here: they are only to be queued, once each.
    env = environment(home, images)
    pipeline = Pipeline(load_settings(images_root=images, lake_root=home / "lake", model_source="demo"))
    pipeline.selection.choose()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        report_model(instance, pipeline)
        for point in ("add_dynamic_partitions", "submit_run"):
            killed = _daemon(point, env, tmp_path / f"{point}.log")
            try:
                assert killed.wait(120) == -signal.SIGKILL
            finally:
                stop(killed)
            assert set(instance.get_dynamic_partitions("image_folders")) == set(FOLDERS)
            assert asked_for(instance).total() < len(FOLDERS)
        daemon = _daemon("never", env, tmp_path / "daemon.log")
        try:
            wait_for("every folder has its run", lambda: asked_for(instance).total() >= len(FOLDERS))
            ticks = _ticks(instance)
            wait_for("two more ticks have passed", lambda: _ticks(instance) >= ticks + 2)
        finally:
            stop(daemon)
        assert asked_for(instance) == Counter(FOLDERS)


def asked_for(instance: dg.DagsterInstance) -> Counter[str]:
    """How many runs were asked for each folder."""
    return Counter(key for run in instance.get_runs() for key in folders_of(run))


def _daemon(point: str, env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), point], env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


def _ticks(instance: dg.DagsterInstance) -> int:
    states = [s for s in instance.all_instigator_state() if s.instigator_name == "new_images_sensor"]
    return sum(len(instance.get_ticks(s.instigator_origin_id, s.selector_id)) for s in states)
