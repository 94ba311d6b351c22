"""``image_predictions``: what its page tells, what its checks find, when the sensor asks for it."""

from __future__ import annotations

import random
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from curation_assets.annotations.sources import make_source
from curation_assets.curate.labels.prediction_checks import accuracy_as_before, predictions_are_whole
from curation_assets.defs.predictions import build_predictions_sensor, classify_images, image_predictions
from curation_assets.demo.render import render
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import copied, pipeline_of
from curation_assets_tests.commands.test_clusters import write
from curation_assets_tests.defs.conftest import Following, meanwhile, on_disk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """A lake of seven apples and seven tomatoes."""
    home = tmp_path_factory.mktemp("predicted")
    for kind in ("apple", "tomato"):
        for number in range(7):
            write(home / "images" / kind / f"{number}.jpg", render(kind, random.Random(f"{kind}{number}"), (96, 72)))
    run(pipeline_of(home, registered_model), LogProgress(), curate=False)
    return home


@pytest.fixture
def lake(ready: Pipeline, made: Path) -> Pipeline:
    return copied(ready, made)


def annotate(lake: Pipeline, pattern: str = "{class}/*") -> None:
    lake.annotate(make_source(format="folders", pattern=pattern), LogProgress())


instance = on_disk
_following = Following(classify_images.name, build_predictions_sensor)
materialize, tick = _following.materialize, _following.tick


def test_the_page_tells_accuracy_and_shows_confusions(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    annotate(lake)
    done = materialize(lake, instance)
    assert done.success
    (made,) = done.asset_materializations_for_node(image_predictions.op.name)
    told = {name: fact.value for name, fact in made.metadata.items()}
    assert (told["images"], told["contents fitted to"], told["changed rows"]) == (14, 14, 14)
    assert 0 <= float(str(told["accuracy class"])) <= 1
    assert "data:image/png;base64," in str(told["confusions of class"])
    assert {record.data["class"] for record in told["weakest classes"].records} == {"apple", "tomato"}  # type: ignore[attr-defined]
    assert told["dagster/row_count"] == 14
    evaluations = {e.check_name: e.passed for e in done.get_asset_check_evaluations()}
    assert evaluations == {"predictions_are_whole": True, "accuracy_as_before": True}


def test_where_nothing_can_be_fitted_the_run_is_fine_and_says_why(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    done = materialize(lake, instance)
    assert done.success
    (made,) = done.asset_materializations_for_node(image_predictions.op.name)
    assert "nothing is embedded or annotated" in str(made.metadata["note"].value)
    annotate(lake, "apple/{class}.jpg")
    done = materialize(lake, instance)
    assert done.success
    (made,) = done.asset_materializations_for_node(image_predictions.op.name)
    assert "no class has 5" in str(made.metadata["not classified"].value)
    assert all(e.passed for e in done.get_asset_check_evaluations())


def test_an_index_that_goes_on_while_predictions_are_told_of_is_left_to_the_next_run(
    lake: Pipeline, images: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def goes_on(pipeline: Pipeline) -> None:
        (images / "apple/0.jpg").unlink()
        run(pipeline, LogProgress(), curate=False)

    annotate(lake)
    with monkeypatch.context() as patch:
        meanwhile(patch, "classify", goes_on)
        done = materialize(lake, instance)
    assert all(each.passed for each in done.get_asset_check_evaluations())
    assert lake.predictions_are_behind()


def test_the_sensor_asks_once_for_each_state(lake: Pipeline, images: Path, instance: dg.DagsterInstance) -> None:
    assert "nothing is annotated" in str(tick(lake, instance))
    annotate(lake)
    asked = tick(lake, instance)
    assert isinstance(asked, dg.RunRequest)
    assert materialize(lake, instance, asked.run_key).success
    assert "in line" in str(tick(lake, instance))
    (images / "labels.csv").write_text("path,class\napple/1.jpg,tomato\n")
    lake.annotate(make_source(format="csv", path=images / "labels.csv", source="anna"), LogProgress())
    again = tick(lake, instance)
    assert isinstance(again, dg.RunRequest), "anna comes before folders, and says otherwise"
    assert again.run_key != asked.run_key
    assert materialize(lake, instance, again.run_key).success
    assert "in line" in str(tick(lake, instance))
    (images / "apple" / "0.jpg").unlink()
    lake.scan(["apple"], LogProgress())
    assert "index is not in line" in str(tick(lake, instance))


def test_what_the_command_did_is_told_and_costs_no_run(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    annotate(lake)
    lake.classify(LogProgress())
    assert "no run of Dagster made" in str(tick(lake, instance))
    event = instance.get_latest_materialization_event(image_predictions.key)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["images"].value == 14
    assert "predictions are in line" in str(tick(lake, instance))


def test_nothing_is_asked_for_where_no_class_has_enough(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    annotate(lake, "apple/{class}.jpg")
    assert "no field has two classes" in str(tick(lake, instance))


def test_rows_that_are_not_as_they_should_be_are_found() -> None:
    images = pl.DataFrame({"relative_path": ["a", "b", "c"], "content_sha256": ["1", "2", "3"]})
    said = {"field": pl.lit("class"), "confidence": pl.lit(0.5), "label_quality": pl.lit(None, pl.Float64)}
    rows = images.with_columns(**said)
    assert predictions_are_whole(rows, images, ["class"]).passed
    assert predictions_are_whole(rows.clear(), images, []).passed
    for wrong, number in (
        (rows.head(2), "missing"),
        (pl.concat([rows, rows.head(1)]), "doubled"),
        (pl.concat([rows, rows.head(1).with_columns(field=pl.lit("pest"))]), "without_image"),
        (rows.with_columns(confidence=pl.lit(1.5)), "outside_scale"),
        (rows.with_columns(label_quality=pl.lit(-0.5)), "outside_scale"),
        (rows.with_columns(confidence=pl.lit(float("nan"))), "outside_scale"),
    ):
        outcome = predictions_are_whole(wrong, images, ["class"])
        assert not outcome.passed
        assert outcome.numbers[number] > 0


def test_a_fall_of_the_accuracy_is_told() -> None:
    assert accuracy_as_before({"class": (95, 100)}, {}).passed
    assert accuracy_as_before({"class": (90, 100)}, {"class": (95, 100)}).passed, "as chance has it"
    assert accuracy_as_before({"class": (9, 19)}, {"class": (19, 19)}).passed, "too few"
    found = accuracy_as_before({"class": (70, 100), "pest": (10, 100)}, {"class": (95, 100)})
    assert not found.passed
    assert found.description == "class: 70.0% of 100 are right, before 95.0% of 100"
