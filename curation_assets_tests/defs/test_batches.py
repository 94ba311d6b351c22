"""The job of several folders: each for itself, told of as the run of its partition would tell."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError
from sqlalchemy import text

from curation_assets.definitions import build_defs
from curation_assets.defs.ingest import folders_config
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.settings import Settings
from curation_assets_tests.defs.conftest import ROWS, SEVERAL
from curation_assets_tests.processes import FORKED

DIRECTORY, EMBEDDINGS = dg.AssetKey("crop_images_directory"), dg.AssetKey("crop_images_directory_embeddings")
INDEX, QUALITY = dg.AssetKey("image_search_index"), dg.AssetKey("image_quality")
PAIRS, GROUPS = dg.AssetKey("image_pairs"), dg.AssetKey("image_groups")


def ingest(defs: dg.Definitions, instance: dg.DagsterInstance, *keys: str, only: Sequence[str] | None = None) -> Any:
    instance.add_dynamic_partitions("image_folders", list(keys))
    return defs.resolve_job_def(SEVERAL).execute_in_process(
        run_config=folders_config(list(keys)), instance=instance, op_selection=only, raise_on_error=False
    )


def told(result: Any, key: dg.AssetKey) -> dict[str | None, dg.AssetMaterialization]:
    """Materializations of an asset that a run recorded, by partition; each once."""
    events = [
        event.step_materialization_data.materialization
        for event in result.all_events
        if event.is_step_materialization and event.asset_key == key
    ]
    assert len({event.partition for event in events}) == len(events)
    return {event.partition: event for event in events}


def checks(result: Any, partition: str) -> dict[tuple[str, str], tuple[Any, ...]]:
    found = [of for of in result.get_asset_check_evaluations() if of.partition == partition]
    assert all(of.target_materialization_data is not None for of in found)
    return {
        (of.asset_key.to_user_string(), of.check_name): (of.passed, of.severity, of.blocking, dict(of.metadata))
        for of in found
    }


def failed_partitions(defs: dg.Definitions, instance: dg.DagsterInstance, key: dg.AssetKey) -> set[str]:
    """Partitions that the asset's page shows as failed."""
    attempts = instance.event_log_storage.get_latest_asset_partition_materialization_attempts_without_materializations
    return set(attempts(key))


def test_each_folder_is_told_of_as_the_run_of_its_partition_tells(
    defs: dg.Definitions, fill: Any, images: Path, instance: dg.DagsterInstance
) -> None:
    for folder in ("maize", "rye"):
        fill(folder, 3)
    (images / "maize" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    result = ingest(defs, instance, "maize", "rye")
    assert result.success
    for asset in (INDEX, PAIRS, GROUPS):
        assert set(told(result, asset)) == {None}
    with dg.DagsterInstance.ephemeral() as other:
        other.add_dynamic_partitions("image_folders", ["maize", "rye"])
        job = defs.resolve_job_def("ingest_image_folder")
        for key in ("maize", "rye"):
            alone = job.execute_in_process(instance=other, partition_key=key)
            assert set(told(alone, GROUPS)) == {None}
            assert told(alone, GROUPS)[None].metadata["images"] == told(result, GROUPS)[None].metadata["images"]
            assert checks(result, key) == checks(alone, key)
            assert len(checks(result, key)) == 8
            for asset in (DIRECTORY, EMBEDDINGS, QUALITY):
                ours, theirs = told(result, asset)[key], told(alone, asset)[key]
                of_work = {"new", "unchanged", "encoded", "measured", "already there", "device", "precision"}
                of_table = {"table version", "table rows"}
                same = set(theirs.metadata) - of_work - of_table - {"seconds", "MB read"}
                assert {name: ours.metadata[name] for name in same} == {name: theirs.metadata[name] for name in same}
                assert set(theirs.metadata) <= set(ours.metadata)
                assert (ours.tags or {})["dagster/data_version"] == (theirs.tags or {})["dagster/data_version"]
    assert instance.get_materialized_partitions(EMBEDDINGS) == {"maize", "rye"}


def test_a_folder_that_fails_fails_alone(
    defs: dg.Definitions,
    ready: Pipeline,
    fill: Any,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for folder in ("maize", "rye", "wheat"):
        fill(folder, 2)
    embed = Pipeline.embed

    def embed_or_fail(self: Pipeline, folder: str, *args: Any, **kwargs: Any) -> Any:
        if folder == "rye":
            raise CurationError("the disk is full")
        return embed(self, folder, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "embed", embed_or_fail)
        result = ingest(defs, instance, "maize", "rye", "wheat")
    assert not result.success
    assert [event.step_key for event in result.all_events if event.is_step_failure] == ["embed[2_rye]"]
    assert set(told(result, DIRECTORY)) == {"maize", "rye", "wheat"}
    assert set(told(result, EMBEDDINGS)) == {"maize", "wheat"}
    assert failed_partitions(defs, instance, EMBEDDINGS) == {"rye"}
    assert failed_partitions(defs, instance, DIRECTORY) == set()
    assert ready.tables.embeddings.snapshot().folders == ["maize", "wheat"]
    again = ingest(defs, instance, "rye", only=ROWS[SEVERAL])
    assert again.success
    assert failed_partitions(defs, instance, EMBEDDINGS) == set()


def test_a_run_that_is_cancelled_keeps_what_its_folders_had_done(
    defs: dg.Definitions,
    ready: Pipeline,
    fill: Any,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for folder in ("maize", "rye", "wheat"):
        fill(folder, 1)
    scan = Pipeline.scan

    def scan_or_stop(self: Pipeline, folders: list[str], *args: Any, **kwargs: Any) -> Any:
        if folders == ["rye"]:  # as Dagster does in the run's process when somebody presses the button
            instance.report_run_canceling(instance.get_runs()[0])
            raise DagsterExecutionInterruptedError
        return scan(self, folders, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "scan", scan_or_stop)
    result = ingest(defs, instance, "maize", "rye", "wheat")
    assert result.dagster_run.status is dg.DagsterRunStatus.CANCELED
    assert [event.step_key for event in result.all_events if event.is_step_start] == [
        "folders",
        "scan[1_maize]",
        "scan[2_rye]",
    ]
    assert instance.get_materialized_partitions(DIRECTORY) == {"maize"}
    assert ready.tables.directory.snapshot().folders == ["maize"]


def test_two_runs_at_once_with_a_folder_in_common_do_everything_once(
    defs: dg.Definitions, ready: Pipeline, fill: Any, on_disk: dg.DagsterInstance
) -> None:
    for folder in ("maize", "rye", "wheat"):
        fill(folder, 3)
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(ingest, defs, on_disk, *keys) for keys in (("maize", "rye"), ("rye", "wheat"))]
        results = [run.result() for run in runs]
        assert all(result.success for result in results)
        encoded = [told(result, EMBEDDINGS) for result in results]
        assert sum(event.metadata["encoded"].value for of in encoded for event in of.values()) == 9  # type: ignore[misc]
        added = [told(result, INDEX)[None].metadata["added"].value for result in results]
        assert sum(added) == 9  # type: ignore[arg-type]
    assert ready.tables.embeddings.snapshot().rows() == 9
    assert ready.searcher.search("leaf", 20).total == 9


def die_in_the_second_folder(settings: Settings, home: str) -> None:
    embed = Pipeline.embed

    def embed_or_die(self: Pipeline, folder: str, *args: Any, **kwargs: Any) -> Any:
        if folder == "rye":
            os.kill(os.getpid(), signal.SIGKILL)
        return embed(self, folder, *args, **kwargs)

    Pipeline.embed = embed_or_die  # type: ignore[method-assign]
    with dg.DagsterInstance.local_temp(home) as instance:
        ingest(build_defs(settings), instance, "maize", "rye")


@pytest.mark.slow
def test_a_run_whose_process_was_killed_loses_no_folder(
    defs: dg.Definitions, ready: Pipeline, fill: Any, tmp_path: Path, empty_instance: Path
) -> None:
    for folder in ("maize", "rye"):
        fill(folder, 2)
    home = shutil.copytree(empty_instance, tmp_path / "dagster")
    killed = FORKED.Process(target=die_in_the_second_folder, args=(ready.settings, str(home)))
    killed.start()
    killed.join(120)
    assert killed.exitcode == -signal.SIGKILL
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        (run,) = instance.get_runs()
        instance.report_run_failed(run)  # as Dagster does when it finds the process gone
        assert instance.get_materialized_partitions(EMBEDDINGS) == {"maize"}
        assert failed_partitions(defs, instance, EMBEDDINGS) == {"rye"}
        result = ingest(defs, instance, "maize", "rye", only=ROWS[SEVERAL])
        assert result.success
        assert told(result, EMBEDDINGS)["maize"].metadata["encoded"].value == 0
        assert told(result, EMBEDDINGS)["rye"].metadata["encoded"].value == 2
    assert ready.tables.embeddings.snapshot().rows() == 4


def test_a_backfill_run_of_many_partitions_gives_each_its_own_data_version_and_checks(
    defs: dg.Definitions, ready: Pipeline, fill: Any, instance: dg.DagsterInstance
) -> None:
    keys = ["maize", "rye", "wheat"]
    for folder in keys:
        fill(folder, 2)
    assert ingest(defs, instance, *keys, only=ROWS[SEVERAL]).success
    versions = {key: latest(instance, DIRECTORY, key).tags for key in keys}
    policies = {defs.resolve_assets_def(key).backfill_policy for key in (DIRECTORY, EMBEDDINGS)}
    assert policies == {dg.BackfillPolicy.multi_run(25)}  # one: Dagster then does both in one run
    result = backfill(defs, instance, "maize", "wheat")
    assert result.success
    for key in keys:
        now = latest(instance, DIRECTORY, key).tags
        assert now["dagster/data_version"] == versions[key]["dagster/data_version"]
        assert now["dagster/data_version"] == ready.tables.content_version([key])
        assert latest(instance, EMBEDDINGS, key).metadata["already there"].value == 2
        assert len(checks(result, key)) == 5


def test_a_backfill_run_tells_of_the_folders_that_did_not_fail(
    defs: dg.Definitions, fill: Any, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("maize", "rye", "wheat"):
        fill(folder, 2)
    instance.add_dynamic_partitions("image_folders", ["maize", "rye", "wheat"])
    scan = Pipeline.scan

    def scan_or_fail(self: Pipeline, folders: list[str], *args: Any, **kwargs: Any) -> Any:
        if folders == ["rye"]:
            raise CurationError("the disk is full")
        return scan(self, folders, *args, **kwargs)

    monkeypatch.setattr(Pipeline, "scan", scan_or_fail)
    assert not backfill(defs, instance, "maize", "wheat").success
    assert instance.get_materialized_partitions(DIRECTORY) == {"maize", "wheat"}
    assert failed_partitions(defs, instance, DIRECTORY) == {"rye"}


def backfill(defs: dg.Definitions, instance: dg.DagsterInstance, start: str, end: str) -> Any:
    """The run that a backfill of neighbouring partitions of both assets makes."""
    assets = [of for of in defs.assets or [] if isinstance(of, dg.AssetsDefinition)]
    tags = {"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": end}
    return dg.materialize(
        assets,
        selection=[DIRECTORY, EMBEDDINGS],
        instance=instance,
        resources=defs.resources,
        tags=tags,
        raise_on_error=False,
    )


def latest(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str) -> Any:
    events = instance.fetch_materializations(dg.AssetRecordsFilter(key, asset_partitions=[partition]), limit=1)
    return events.records[0].asset_materialization


TABLE_CHECKS = {"few_bad_files_anywhere", "every_file_is_usable"}


def stored_checks(instance: dg.DagsterInstance, run_id: str) -> dict[tuple[str, str | None], str]:
    """Rows that Dagster's pages read: check and partition → status, of one run."""
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        rows = connection.execute(
            text("SELECT check_name, partition, execution_status FROM asset_check_executions WHERE run_id = :run"),
            {"run": run_id},
        ).fetchall()
    assert len({row[:2] for row in rows}) == len(rows)
    return {(name, partition): status for name, partition, status in rows}


@pytest.mark.parametrize("folders", [["maize", "rye", "wheat"], ["rye"]])
def test_checks_of_a_backfill_run_are_stored_with_their_partitions(
    folders: list[str], defs: dg.Definitions, fill: Any, images: Path, on_disk: dg.DagsterInstance
) -> None:
    for folder in ("maize", "rye", "wheat"):
        fill(folder, 3)
    (images / "rye" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    assert ingest(defs, on_disk, "maize", "rye", "wheat", only=ROWS[SEVERAL]).success
    result = backfill(defs, on_disk, folders[0], folders[-1])
    assert result.success
    stored = stored_checks(on_disk, result.run_id)
    names = {name for name, _ in stored}
    assert {(name, of) for name, of in stored if name not in TABLE_CHECKS} == {
        (name, folder) for name in names - TABLE_CHECKS for folder in folders
    }
    assert {(name, of) for name, of in stored if name in TABLE_CHECKS} == {(name, None) for name in TABLE_CHECKS}
    failed = {key for key, status in stored.items() if status == "FAILED"}
    assert failed == {("few_bad_files", "rye"), *((name, None) for name in TABLE_CHECKS)}
    assert set(stored.values()) == {"SUCCEEDED", "FAILED"}


def test_checks_of_the_whole_table_see_a_folder_behind_a_newer_good_one(
    defs: dg.Definitions, fill: Any, images: Path, instance: dg.DagsterInstance, ready: Pipeline
) -> None:
    fill("maize", 10)
    (images / "maize" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    fill("rye", 20)
    assert ingest(defs, instance, "maize", only=("folders", "scan")).success
    result = defs.resolve_job_def("ingest_image_folder").execute_in_process(
        instance=instance, partition_key=_added(instance, "rye"), asset_selection=[DIRECTORY]
    )
    assert result.success
    whole = [of for of in result.get_asset_check_evaluations() if of.partition is None and of.asset_key == DIRECTORY]
    found = {of.check_name: of for of in whole}
    assert set(found) == TABLE_CHECKS
    assert {(of.passed, of.severity) for of in found.values()} == {(False, dg.AssetCheckSeverity.WARN)}
    assert found["few_bad_files_anywhere"].description == (
        "in 1 of 2 folders more than 5.0% of the files can't be used: 'maize' 9.1% (1 of 11)"
    )
    assert found["every_file_is_usable"].description == (
        "1 of 31 files can't be used, in 1 folder: 'maize/broken.jpg' (corrupt)"
    )


def _added(instance: dg.DagsterInstance, key: str) -> str:
    instance.add_dynamic_partitions("image_folders", [key])
    return key
