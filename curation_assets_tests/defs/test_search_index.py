"""The index asset in Dagster: its page, its automation, standing queries; and the optional labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from curation_assets.definitions import build_defs
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.search.searcher import Searcher
from curation_assets.search.zero_shot_table import label_folder
from curation_assets.settings import load_settings

INDEX, MAP, LABELS = (dg.AssetKey(name) for name in ("image_search_index", "image_map", "image_labels"))
QUERIES = {"an orange": -1.0, "a field": 2.0, "rust on a leaf": None}
Fill = Callable[..., list[Path]]


@pytest.fixture
def materialize(materialize_rows: Callable[..., Any]) -> Callable[..., Any]:
    """Bring folders in without the index, so that a test says itself when that is refreshed."""
    return materialize_rows


def run_asset(
    defs: dg.Definitions, instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None = None
) -> Any:
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance, asset_selection=[key], partition_key=partition, raise_on_error=False
    )


def metadata(result: Any, key: dg.AssetKey) -> dict[str, Any]:
    (event,) = [event for event in result.get_asset_materialization_events() if event.asset_key == key]
    return {name: value.value for name, value in event.materialization.metadata.items()}


def observations(result: Any) -> list[Any]:
    return [event.asset_observation_data.asset_observation for event in result.get_asset_observation_events()]


@pytest.fixture
def watching(ready: Pipeline) -> dg.Definitions:
    """Definitions with standing queries: one that always passes, one that never does, one without a threshold."""
    return build_defs(ready.settings.model_copy(update={"standing_queries": QUERIES}))


def test_the_page_shows_counts_recall_latency_and_what_the_newest_folder_holds_for_each_standing_query(
    watching: dg.Definitions, instance: dg.DagsterInstance, materialize: Callable[..., Any], ready: Pipeline, fill: Fill
) -> None:
    for folder in ("maize", "wheat"):
        fill(folder, 2)
        materialize("ingest_image_folder", folder)
    result = run_asset(watching, instance, INDEX)
    assert result.success
    shown = metadata(result, INDEX)
    assert (shown["images"], shown["vectors"], shown["added"], shown["removed"]) == (4, 4, 4, 0)
    assert (shown["search"], shown["recall at 10"]) == ("exact", 1.0)
    assert shown["milliseconds a query"] > 0
    assert shown["embeddings table version"] == ready.tables.embeddings.newest_version()
    for text in QUERIES:
        sheet = shown[f"standing query: {text}"]
        assert sheet.startswith("best of wheat, cosines ")
        assert "data:image/jpeg;base64," in sheet
    told = observations(result)
    assert sorted(o.metadata["image folder"].value for o in told) == ["maize", "wheat"]
    assert {o.metadata["standing query"].value for o in told} == {"an orange"}
    assert all(o.metadata["score"].value >= o.metadata["threshold"].value for o in told)


def test_only_a_new_partition_is_told_of_and_nothing_new_tells_nothing(
    watching: dg.Definitions, instance: dg.DagsterInstance, materialize: Callable[..., Any], ready: Pipeline, fill: Fill
) -> None:
    fill("maize", 2)
    materialize("ingest_image_folder", "maize")
    assert len(observations(run_asset(watching, instance, INDEX))) == 1
    again = run_asset(watching, instance, INDEX)
    assert observations(again) == []
    assert metadata(again, INDEX)["standing query: an orange"].startswith("best of maize")
    fill("wheat", 1)
    materialize("ingest_image_folder", "wheat")
    ready.searcher.refresh()  # somebody else did it first: new is what came since the last materialization
    (told,) = observations(run_asset(watching, instance, INDEX))
    assert told.metadata["image folder"].value == "wheat"
    assert told.metadata["best image"].value == "wheat/photo_0000.jpg"
    assert told.description.startswith("standing query 'an orange': ")
    records = instance.fetch_observations(INDEX, limit=5).records
    assert len(records) == 2


def test_before_anything_is_embedded_it_fails_with_one_clear_line(
    defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = run_asset(defs, instance, INDEX)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "curation run" in str(failure.event_specific_data.error_display_string)


def test_the_map_is_made_of_the_index_and_shows_a_picture(
    defs: dg.Definitions, instance: dg.DagsterInstance, materialize: Callable[..., Any], fill: Fill
) -> None:
    fill("maize", 6)
    materialize("ingest_image_folder", "maize")
    run_asset(defs, instance, INDEX)
    shown = metadata(run_asset(defs, instance, MAP), MAP)
    assert (shown["images"], shown["laid out anew"]) == (6, True)
    assert "data:image/png;base64," in shown["picture"]


def asked(defs: dg.Definitions, instance: dg.DagsterInstance) -> str | None:
    """The run key that the sensor of the index asks for, or None."""
    sensor = defs.get_repository_def().get_sensor_def("search_index_sensor")
    resource: Any = (defs.resources or {})["curation"]
    context = dg.build_sensor_context(instance=instance, resources={"curation": resource})
    found = sensor(context)
    assert isinstance(found, dg.RunRequest | dg.SkipReason)
    return found.run_key if isinstance(found, dg.RunRequest) else None


def refreshed(defs: dg.Definitions, instance: dg.DagsterInstance, run_key: str) -> None:
    """The run that the sensor asked for."""
    job = defs.resolve_job_def("refresh_search_index")
    assert job.execute_in_process(instance=instance, tags={"dagster/run_key": run_key}).success


def test_index_and_map_follow_the_tables_by_themselves(
    defs: dg.Definitions, instance: dg.DagsterInstance, materialize: Callable[..., Any], ready: Pipeline, fill: Fill
) -> None:
    assert asked(defs, instance) is None
    materialize("register_clip_model")
    keys = []
    for folder in ("maize", "wheat"):
        fill(folder, 2)
        materialize("ingest_image_folder", folder)
        key = asked(defs, instance)
        assert key is not None
        keys.append(key)
        refreshed(defs, instance, key)
        assert asked(defs, instance) is None
    assert len(set(keys)) == 2
    assert ready.searcher.search("leaf", 9).total == 4
    assert instance.get_latest_materialization_event(MAP) is not None


def test_a_folders_own_run_brings_the_index_in_line_and_the_map_is_left_to_the_sensor(
    defs: dg.Definitions, instance: dg.DagsterInstance, ready: Pipeline, fill: Fill
) -> None:
    fill("maize", 2)
    instance.add_dynamic_partitions("image_folders", ["maize"])
    job = defs.resolve_job_def("ingest_image_folder")
    shown = metadata(job.execute_in_process(instance=instance, partition_key="maize"), INDEX)
    assert (shown["vectors"], shown["added"]) == (2, 2)
    assert ready.searcher.search("leaf", 9).total == 2
    again = metadata(job.execute_in_process(instance=instance, partition_key="maize"), INDEX)
    assert (again["added"], again["laid out anew"]) == (0, False)
    key = asked(defs, instance)
    assert key is not None
    refreshed(defs, instance, key)
    assert asked(defs, instance) is None


def test_embeddings_that_land_while_the_index_is_refreshed_are_not_lost(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    materialize: Callable[..., Any],
    fill: Fill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    materialize("register_clip_model")
    fill("maize", 2)
    materialize("ingest_image_folder", "maize")
    key = asked(defs, instance)
    assert key is not None
    fill("wheat", 1)
    real = Searcher.refresh

    def slowly(self: Searcher, *args: Any) -> Any:
        done = real(self, *args)
        monkeypatch.setattr(Searcher, "refresh", real)
        materialize("ingest_image_folder", "wheat")
        return done

    monkeypatch.setattr(Searcher, "refresh", slowly)
    refreshed(defs, instance, key)
    again = asked(defs, instance)
    assert again is not None
    assert again != key
    refreshed(defs, instance, again)
    assert asked(defs, instance) is None


def test_a_run_that_failed_is_not_asked_for_again_until_something_changes(
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    materialize: Callable[..., Any],
    fill: Fill,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    materialize("register_clip_model")
    fill("maize", 1)
    materialize("ingest_image_folder", "maize")
    key = asked(defs, instance)

    def broken(*_: Any) -> Any:
        raise CurationError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(Searcher, "refresh", broken)
        job = defs.resolve_job_def("refresh_search_index")
        tags = {"dagster/run_key": str(key)}
        assert not job.execute_in_process(instance=instance, tags=tags, raise_on_error=False).success
    assert asked(defs, instance) is None
    fill("wheat", 1)
    materialize("ingest_image_folder", "wheat")
    assert asked(defs, instance) is not None


def test_an_index_that_was_lost_tells_of_no_old_image_again(
    watching: dg.Definitions, instance: dg.DagsterInstance, materialize: Callable[..., Any], ready: Pipeline, fill: Fill
) -> None:
    fill("maize", 2)
    materialize("ingest_image_folder", "maize")
    assert len(observations(run_asset(watching, instance, INDEX))) == 1
    shutil.rmtree(ready.settings.index_dir)
    assert observations(run_asset(watching, instance, INDEX)) == []
    shutil.rmtree(ready.settings.index_dir)
    fill("wheat", 1)
    materialize("ingest_image_folder", "wheat")
    (told,) = observations(run_asset(watching, instance, INDEX))
    assert told.metadata["image folder"].value == "wheat"


def test_when_the_last_image_is_gone_index_and_map_are_empty(
    watching: dg.Definitions, instance: dg.DagsterInstance, materialize: Callable[..., Any], ready: Pipeline, fill: Fill
) -> None:
    for path in fill("maize", 2):
        materialize("ingest_image_folder", "maize")
        path.unlink()
    materialize("ingest_image_folder", "maize")
    assert metadata(run_asset(watching, instance, INDEX), INDEX)["vectors"] == 0
    assert metadata(run_asset(watching, instance, MAP), MAP)["images"] == 0


def labelled(ready: Pipeline, *labels: str) -> dg.Definitions:
    return build_defs(ready.settings.model_copy(update={"labels": list(labels)}))


def test_labels_are_an_asset_only_where_some_are_set(ready: Pipeline) -> None:
    assert not build_defs(ready.settings).resolve_asset_graph().has(LABELS)
    assert labelled(ready, "a leaf", "an orange").resolve_asset_graph().has(LABELS)


def test_every_image_of_a_folder_gets_its_label_once(
    ready: Pipeline, instance: dg.DagsterInstance, materialize: Callable[..., Any], fill: Fill
) -> None:
    defs = labelled(ready, "a healthy leaf", "an orange")
    materialize("register_clip_model")
    fill("maize", 3)
    materialize("ingest_image_folder", "maize")
    result = run_asset(defs, instance, LABELS, "maize")
    assert result.success
    shown = metadata(result, LABELS)
    assert shown["dagster/partition_row_count"] == 3
    assert sum(record.data["images"] for record in shown["labels"].records) == 3
    rows = ready.tables.zero_shot_labels.snapshot().read(["relative_path", "label", "score", "margin", "choices"])
    expected = ready.searcher.labels(["a healthy leaf", "an orange"])
    assert rows.select("relative_path", "label").equals(expected.select("relative_path", "label"))
    assert rows["margin"].to_list() == pytest.approx(expected["margin"].to_list(), abs=1e-5)
    version = ready.tables.zero_shot_labels.newest_version()
    assert metadata(run_asset(defs, instance, LABELS, "maize"), LABELS)["changed"] is False
    assert ready.tables.zero_shot_labels.newest_version() == version
    other = labelled(ready, "soil", "sky")
    assert run_asset(other, instance, LABELS, "maize").success
    assert set(ready.tables.zero_shot_labels.snapshot().read(["label"])["label"]) <= {"soil", "sky"}
    for path in sorted((ready.settings.images_root / "maize").iterdir())[1:]:
        path.unlink()
    materialize("ingest_image_folder", "maize")
    run_asset(other, instance, LABELS, "maize")
    assert ready.tables.zero_shot_labels.snapshot().read([])["_file"].len() == 1
    assert isinstance(rows, pl.DataFrame)


def test_labels_follow_their_embeddings_and_other_texts_make_them_anew(
    ready: Pipeline, instance: dg.DagsterInstance, materialize: Callable[..., Any], fill: Fill
) -> None:
    materialize("register_clip_model")
    fill("maize", 2)
    materialize("ingest_image_folder", "maize")
    first = labelled(ready, "a leaf", "an orange")
    cursor = None

    def labels_asked(of: dg.Definitions) -> set[str]:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(defs=of, instance=instance, cursor=cursor)
        cursor = result.cursor
        return {str(key) for key in result.get_requested_partitions(LABELS)}

    assert labels_asked(first) == {"maize"}
    run_asset(first, instance, LABELS, "maize")
    labels_asked(first)
    assert labels_asked(first) == set()
    assert labels_asked(labelled(ready, "soil", "sky")) == {"maize"}


def test_a_folder_that_waits_for_another_models_vectors_keeps_its_labels(
    ready: Pipeline, instance: dg.DagsterInstance, materialize: Callable[..., Any], fill: Fill
) -> None:
    fill("maize", 2)
    materialize("ingest_image_folder", "maize")
    defs = labelled(ready, "a leaf", "an orange")
    run_asset(defs, instance, LABELS, "maize")
    champion = ready.registry.champion()
    other = replace(champion, version="2", fingerprint="another")
    vectors = ready.searcher.embed_texts(["a", "b"], champion)
    done = label_folder(ready.tables.embeddings, ready.tables.zero_shot_labels, "maize", other, ["a", "b"], vectors)
    assert (done.changed, done.rows) == (False, 2)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("standing_queries", "rust", "JSON object of texts and thresholds"),
        ("standing_queries", '{"rust": "high"}', "JSON object of texts and thresholds"),
        ("labels", '["one", 2]', "JSON list of texts"),
        ("labels", "leaf, orange", "JSON list of texts"),
    ],
)
def test_a_wrong_setting_is_named_with_an_example(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CURATION_{name.upper()}", value)
    with pytest.raises(Exception, match=f"CURATION_{name.upper()}.*{said}"):
        load_settings()


def test_standing_queries_are_texts_with_or_without_thresholds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_STANDING_QUERIES", '{"rust": 0.27, "weeds": null}')
    assert load_settings().standing_queries == {"rust": 0.27, "weeds": None}
    monkeypatch.setenv("CURATION_STANDING_QUERIES", '["rust"]')
    assert load_settings().standing_queries == {"rust": None}


def test_settings_in_the_resource_come_back_as_they_were(
    watching: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    del instance
    resource: Any = watching.resources["curation"]  # type: ignore[index]
    assert resource.pipeline().settings.standing_queries == QUERIES
