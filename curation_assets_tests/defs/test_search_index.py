"""The index asset in Dagster: its page, its automation, standing queries; and the optional labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from curation_assets.definitions import build_defs
from curation_assets.pipeline import Pipeline
from curation_assets.settings import load_settings

INDEX, MAP, LABELS = (dg.AssetKey(name) for name in ("image_search_index", "image_map", "image_labels"))
QUERIES = {"an orange": -1.0, "a field": 2.0, "rust on a leaf": None}
Fill = Callable[..., list[Path]]


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
    assert shown["embeddings table version"] == ready.embeddings.newest_version()
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


class Automation:
    """What the automation sensors would ask for, tick by tick."""

    def __init__(self, defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._defs, self._instance, self._cursor = defs, instance, None

    def tick(self) -> set[str]:
        """Assets, with the partition where they have one."""
        result = dg.evaluate_automation_conditions(defs=self._defs, instance=self._instance, cursor=self._cursor)
        self._cursor = result.cursor
        found = {key.to_user_string() for key in (INDEX, MAP) if result.get_num_requested(key)}
        if self._defs.resolve_asset_graph().has(LABELS):
            found |= {f"labels {key}" for key in result.get_requested_partitions(LABELS)}
        return found


def test_index_and_map_follow_the_embeddings_by_themselves(
    defs: dg.Definitions, instance: dg.DagsterInstance, materialize: Callable[..., Any], fill: Fill
) -> None:
    automation = Automation(defs, instance)
    assert automation.tick() == set()
    materialize("register_clip_model")
    for folder in ("maize", "wheat"):
        fill(folder, 2)
        materialize("ingest_image_folder", folder)
        assert automation.tick() == {"image_search_index", "image_map"}
        assert automation.tick() == set()
        assert run_asset(defs, instance, INDEX).success
        assert run_asset(defs, instance, MAP).success
        automation.tick()
        assert automation.tick() == set()


def test_what_was_embedded_before_the_index_was_there_is_indexed_on_the_first_look(
    defs: dg.Definitions, instance: dg.DagsterInstance, materialize: Callable[..., Any], fill: Fill
) -> None:
    materialize("register_clip_model")
    fill("maize", 2)
    materialize("ingest_image_folder", "maize")
    automation = Automation(defs, instance)
    assert automation.tick() == {"image_search_index", "image_map"}
    assert automation.tick() == set()


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
    rows = ready.labels.snapshot().read(["relative_path", "label", "score", "margin", "choices"])
    expected = ready.searcher.labels(["a healthy leaf", "an orange"])
    assert rows.select("relative_path", "label").equals(expected.select("relative_path", "label"))
    assert rows["margin"].to_list() == pytest.approx(expected["margin"].to_list(), abs=1e-5)
    version = ready.labels.newest_version()
    assert metadata(run_asset(defs, instance, LABELS, "maize"), LABELS)["changed"] is False
    assert ready.labels.newest_version() == version
    other = labelled(ready, "soil", "sky")
    assert run_asset(other, instance, LABELS, "maize").success
    assert set(ready.labels.snapshot().read(["label"])["label"]) <= {"soil", "sky"}
    for path in sorted((ready.settings.images_root / "maize").iterdir())[1:]:
        path.unlink()
    materialize("ingest_image_folder", "maize")
    run_asset(other, instance, LABELS, "maize")
    assert ready.labels.snapshot().read([])["_file"].len() == 1
    assert isinstance(rows, pl.DataFrame)


def test_labels_follow_their_embeddings_and_other_texts_make_them_anew(
    ready: Pipeline, instance: dg.DagsterInstance, materialize: Callable[..., Any], fill: Fill
) -> None:
    materialize("register_clip_model")
    fill("maize", 2)
    materialize("ingest_image_folder", "maize")
    first = labelled(ready, "a leaf", "an orange")
    automation = Automation(first, instance)
    asked = automation.tick()
    assert "labels maize" in asked
    run_asset(first, instance, LABELS, "maize")
    run_asset(first, instance, INDEX)
    automation.tick()
    assert automation.tick() == set()
    automation._defs = labelled(ready, "soil", "sky")
    assert automation.tick() == {"labels maize"}


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
