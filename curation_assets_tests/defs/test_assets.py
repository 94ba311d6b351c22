from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from curation_assets.definitions import build_defs
from curation_assets.embed import local
from curation_assets.partition_keys import key_of
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.defs.conftest import ROWS, meanwhile

DIRECTORY, EMBEDDINGS = dg.AssetKey("crop_images_directory"), dg.AssetKey("crop_images_directory_embeddings")


def latest(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None) -> Any:
    events = instance.fetch_materializations(
        dg.AssetRecordsFilter(key, asset_partitions=None if partition is None else [partition]), limit=1
    )
    return events.records[0].asset_materialization


def failure_of(result: Any) -> str:
    return " ".join(str(e.event_specific_data) for e in result.all_events if e.is_step_failure)


def test_a_folder_is_scanned_and_embedded_and_its_page_tells_the_story(
    ready: Pipeline,
    fill: Any,
    images: Path,
    materialize_rows: Callable[..., Any],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "_WORTH_MEASURING", 0)
    fill("maize", 4)
    (images / "maize" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (images / "maize" / "notes.txt").touch()
    assert materialize_rows("ingest_image_folder", "maize").success
    facts = latest(instance, DIRECTORY).metadata
    assert facts["images"].value == 4
    assert facts["bad files"].value == 1
    assert facts["dagster/partition_row_count"].value == 5
    assert facts["dagster/uri"].value == ready.tables.directory.path.as_uri()
    assert facts["why bad"].value.records[0].data["relative_path"] == "maize/broken.jpg"
    assert facts["passed over"].value == {"not an image name": 1}
    assert facts["thumbnails"].value.startswith("![4 images](data:image/jpeg;base64,")
    assert facts["glimpse"].value.startswith("![a few of the images](data:image/webp;base64,")
    assert len(facts["glimpse"].value) < 1000  # or Dagster hides it behind a link
    assert facts["images per second"].value > 0
    facts = latest(instance, EMBEDDINGS).metadata
    assert (facts["vectors"].value, facts["encoded"].value) == (4, 4)
    assert facts["model"].value == "models:/autobricks.agriculture.clip_embedding/1"
    assert facts["device"].value == "cpu"
    assert facts["images per second"].value > 0
    assert 0 < facts["share of the device's limit"].value < 1.5
    assert facts["MB read"].value > 0
    assert "not for decisions" in facts["note"].value
    assert ready.tables.status(ready.selection.current()).row(0) == ("maize", 5, 4, 1, 4, 0)


def test_images_that_land_while_a_folder_is_worked_on_fail_no_run(
    ready: Pipeline, fill: Any, materialize: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill("maize", 2)
    landed = 2

    def land(pipeline: Pipeline) -> None:
        nonlocal landed
        fill("maize", 1, first=landed)
        landed += 1
        pipeline.scan(["maize"], LogProgress())

    for work in ("embed", "measure"):
        meanwhile(monkeypatch, work, land)
    of_folder = [DIRECTORY, EMBEDDINGS, dg.AssetKey("image_quality")]
    result = materialize("ingest_image_folder", "maize", only=of_folder)
    assert (result.success, landed) == (True, 4)
    assert all(check.passed for check in result.get_asset_check_evaluations())
    assert ready.tables.status(ready.selection.current()).row(0) == ("maize", 4, 4, 0, 2, 2)


def test_many_bad_files_are_a_warning_and_do_not_stop_the_embedding(
    fill: Any, images: Path, materialize_rows: Callable[..., Any]
) -> None:
    fill("maize", 2)
    (images / "maize" / "empty.jpg").touch()
    result = materialize_rows("ingest_image_folder", "maize")
    check = next(c for c in result.get_asset_check_evaluations() if c.check_name == "few_bad_files")
    assert (check.passed, check.severity, check.partition) == (False, dg.AssetCheckSeverity.WARN, "maize")
    assert result.success


def test_a_doubled_row_stops_the_embedding(
    ready: Pipeline, fill: Any, materialize_rows: Callable[..., Any], instance: dg.DagsterInstance
) -> None:
    fill("maize", 2)
    ready.tables.directory.create()
    ready.scan(["maize"], _Silent())
    base = ready.tables.directory.snapshot()
    rows = pl.read_parquet(base.storage.uri(base.files("maize")[0].path)).head(1)
    with ready.tables.directory.writer("maize") as writer:
        with writer.file() as stage:
            schema = ready.tables.directory.spec.file_schema
            stage.write(rows.select(schema.names).to_arrow().cast(schema).to_batches()[0])
        assert stage.staged is not None
        ready.tables.directory.replace("maize", base, add=[stage.staged], remove=[])
    result = materialize_rows("ingest_image_folder", "maize")
    assert not result.success
    check = next(c for c in result.get_asset_check_evaluations() if c.check_name == "directory_key_is_unique")
    assert not check.passed
    assert instance.get_latest_materialization_event(EMBEDDINGS) is None


def test_the_directory_keeps_its_data_version_while_the_folder_stays_the_same(
    fill: Any, materialize_rows: Callable[..., Any], instance: dg.DagsterInstance
) -> None:
    fill("maize", 2)
    versions = []
    for more in (0, 0, 1):
        if more:
            fill("maize", 1, first=2)
        materialize_rows("ingest_image_folder", "maize")
        versions.append(latest(instance, DIRECTORY).tags["dagster/data_version"])
    assert versions[0] == versions[1] != versions[2]


def test_the_same_model_is_no_new_version_and_keeps_its_data_version(
    materialize: Callable[..., Any], instance: dg.DagsterInstance, ready: Pipeline
) -> None:
    for _ in range(2):
        assert materialize("register_clip_model").success
        event = latest(instance, dg.AssetKey("clip_model"))
        assert event.metadata["version"].value == "1"
        assert event.metadata["new version"].value is False
        assert event.tags["dagster/data_version"] == ready.registry.champion().fingerprint


def test_a_model_that_cannot_be_had_fails_with_one_clear_line_and_without_retries(
    tmp_path: Path, images: Path, instance: dg.DagsterInstance
) -> None:
    settings = load_settings(images_root=images, lake_root=tmp_path / "lake", model_source="nobody/nothing")
    job = build_defs(settings).resolve_job_def("register_clip_model")
    result = job.execute_in_process(instance=instance, raise_on_error=False)
    assert "CURATION_MODEL_SOURCE=nobody/nothing" in failure_of(result)
    assert not [e for e in result.all_events if e.event_type_value == "STEP_UP_FOR_RETRY"]


def test_embedding_without_a_registered_model_says_what_to_do(
    pipeline: Pipeline, fill: Any, instance: dg.DagsterInstance
) -> None:
    fill("maize", 1)
    instance.add_dynamic_partitions("image_folders", ["maize"])
    job = build_defs(pipeline.settings).resolve_job_def("ingest_image_folder")
    result = job.execute_in_process(
        instance=instance, partition_key="maize", asset_selection=ROWS[job.name], raise_on_error=False
    )
    assert "materialize the asset clip_model" in failure_of(result)


def test_one_run_embeds_several_folders_and_a_bad_one_costs_its_neighbours_nothing(
    ready: Pipeline, fill: Any, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    for folder in ("a", "b", "c"):
        fill(folder, 2)
    ready.tables.directory.create()
    ready.scan(["a", "b", "c"], _Silent())
    instance.add_dynamic_partitions("image_folders", ["a", "b", "c"])
    broken = ready.tables.directory.path / ready.tables.directory.snapshot().files("b")[0].path
    good = broken.read_bytes()
    broken.write_bytes(good[: len(good) // 2])
    assert not _embed_range(defs, instance, "a", "c").success
    assert ready.tables.embeddings.snapshot().folders == ["a", "c"]
    broken.write_bytes(good)
    result = _embed_range(defs, instance, "a", "c")
    assert result.success
    events = result.asset_materializations_for_node("crop_images_directory_embeddings")
    encoded = {event.partition: event.metadata["encoded"].value for event in events}
    assert encoded == {"a": 0, "b": 2, "c": 0}


def test_a_folder_with_an_odd_name_goes_through(ready: Pipeline, fill: Any, materialize: Callable[..., Any]) -> None:
    folder = "field 7, [north]...100%/Größe 'x'"
    fill(folder, 2)

    assert materialize("ingest_image_folder", key_of(folder)).success
    assert ready.tables.status(ready.selection.current()).row(0) == (folder, 2, 2, 0, 2, 0)


def _embed_range(defs: dg.Definitions, instance: dg.DagsterInstance, start: str, end: str) -> Any:
    assets = [a for a in defs.assets or [] if isinstance(a, dg.AssetsDefinition)]
    return dg.materialize(
        assets,
        selection=[EMBEDDINGS],
        instance=instance,
        resources=defs.resources,
        tags={"dagster/asset_partition_range_start": start, "dagster/asset_partition_range_end": end},
        raise_on_error=False,
    )


class _Silent:
    def step(self, phase: str, index: int, total: int) -> None: ...
    def start(self, task: str, total: int) -> None: ...
    def advance(self, images: int) -> None: ...
    def note(self, message: str) -> None: ...
