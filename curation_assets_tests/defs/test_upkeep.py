from __future__ import annotations

from typing import Any

import dagster as dg

from curation_assets.definitions import build_defs
from curation_assets.pipeline import Pipeline
from curation_assets_tests.conftest import jpeg


def test_the_job_tidies_up_and_tells_and_its_schedule_is_off(
    ready: Pipeline, images: Any, instance: dg.DagsterInstance
) -> None:
    for number in range(3):
        (images / "a").mkdir(exist_ok=True)
        (images / "a" / f"{number}.jpg").write_bytes(jpeg(number))
        ready.scan(["a"], _Silent())
    defs = build_defs(ready.settings)
    schedule = defs.get_repository_def().get_schedule_def("maintain_lake_weekly")
    assert (schedule.default_status, schedule.cron_schedule) == (dg.DefaultScheduleStatus.STOPPED, "0 3 * * 0")
    job = defs.resolve_job_def(schedule.job.name)
    dry = {"ops": {"lake_maintenance": {"config": {"dry_run": True}}}}
    assert job.execute_in_process(instance=instance, run_config=dry).success
    assert len(ready.tables.directory.snapshot().files()) == 3
    result = job.execute_in_process(instance=instance)
    assert result.success
    assert len(ready.tables.directory.snapshot().files()) == 1
    (event,) = result.asset_materializations_for_node("lake_maintenance")
    assert event.metadata["crop_images_directory: small files joined"].value == 3


class _Silent:
    def __getattr__(self, _: str) -> Any:
        return lambda *_args, **_kwargs: None
