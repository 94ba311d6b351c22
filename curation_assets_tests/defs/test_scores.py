"""``image_scores``: what its page tells, what its checks find, when the sensor asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from curation_assets.curate.problems import KINDS
from curation_assets.curate.scores.checks import outliers_as_before, scores_are_finite
from curation_assets.decisions.record import append
from curation_assets.defs.scores import build_scores_sensor, image_scores, score_images
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.review.problem_queue import ProblemQueue
from curation_assets.review.samples import draw_sample
from curation_assets_tests.commands.conftest import copied, pipeline_of
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.defs.conftest import Following, meanwhile, on_disk


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """A lake of six photographs."""
    home = tmp_path_factory.mktemp("scored")
    (home / "images" / "maize").mkdir(parents=True)
    for number in range(6):
        (home / "images" / "maize" / f"{number}.jpg").write_bytes(jpeg(number))
    run(pipeline_of(home, registered_model), LogProgress(), curate=False)
    return home


@pytest.fixture
def lake(ready: Pipeline, made: Path) -> Pipeline:
    return copied(ready, made)


instance = on_disk
_following = Following(score_images.name, build_scores_sensor)
materialize, tick = _following.materialize, _following.tick


def test_the_page_tells_counts_and_shows_pictures(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    done = materialize(lake, instance)
    assert done.success
    (made,) = done.asset_materializations_for_node(image_scores.op.name)
    told = {name: fact.value for name, fact in made.metadata.items()}
    assert (told["images"], told["clusters"], told["outliers"], told["contents scored"]) == (6, 1, 0, 6)
    assert [record.data["name"] for record in told["clusters shown"].records] == ["maize"]  # type: ignore[attr-defined]
    assert str(told["the largest clusters"]).count("data:image/jpeg;base64,") == 1
    assert str(told["the farthest, each beside its nearest"]).count("data:image/jpeg;base64,") == 4
    assert told["dagster/row_count"] == 6
    evaluations = {e.check_name: e.passed for e in done.get_asset_check_evaluations()}
    assert evaluations == {"scores_are_finite": True, "outliers_as_before": True, "reviewed_precision": True}
    outliers = lake.tables.contents([f"maize/{number}.jpg" for number in range(6)])
    rows = pl.DataFrame({"relative_path": [*outliers], "content_sha256": [*outliers.values()]})
    queue = ProblemQueue(KINDS["outlier"], rows.with_columns(score=pl.lit(99.0), at=pl.lit(99.0)), 6)
    sample = draw_sample(lake.tables.samples, queue, lake.thresholds["outlier"], 59, "ann")
    answer = {"field": "quality", "decided_by": "ann", "shown": json.dumps({"sample": sample.sample_id})}
    said = [{"kind": "keep" if at else "remove"} | row | answer for at, row in enumerate(rows.to_dicts())]
    append(lake.tables.decisions, lambda _: said)
    again = materialize(lake, instance)
    assert again.success, "it warns, and keeps nothing from going on"
    (low,) = (e for e in again.get_asset_check_evaluations() if not e.passed)
    assert (low.check_name, low.severity) == ("reviewed_precision", dg.AssetCheckSeverity.WARN)
    assert "outlier: of 6 images 6 were looked at, and 17% have it: less than 80%" in str(low.description)


def test_an_index_that_goes_on_while_scores_are_told_of_is_left_to_the_next_run(
    lake: Pipeline, images: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def goes_on(pipeline: Pipeline) -> None:
        (images / "maize/0.jpg").unlink()
        run(pipeline, LogProgress(), curate=False)

    with monkeypatch.context() as patch:
        meanwhile(patch, "score", goes_on)
        done = materialize(lake, instance)
    assert all(each.passed for each in done.get_asset_check_evaluations())
    assert lake.scores_are_behind()


def test_the_sensor_asks_once_for_each_state(lake: Pipeline, images: Path, instance: dg.DagsterInstance) -> None:
    asked = tick(lake, instance)
    assert isinstance(asked, dg.RunRequest)
    assert materialize(lake, instance, asked.run_key).success
    assert "in line" in str(tick(lake, instance))
    more = Pipeline(lake.settings.model_copy(update={"clusters": 3}))
    again = tick(more, instance)
    assert isinstance(again, dg.RunRequest)
    assert again.run_key != asked.run_key
    assert materialize(more, instance, again.run_key).success
    assert "in line" in str(tick(more, instance))
    (images / "maize" / "0.jpg").unlink()
    more.scan(["maize"], LogProgress())
    assert "index is not in line" in str(tick(more, instance))


def test_what_the_command_did_is_told_and_costs_no_run(lake: Pipeline, instance: dg.DagsterInstance) -> None:
    lake.score(LogProgress())
    assert "no run of Dagster made" in str(tick(lake, instance))
    event = instance.get_latest_materialization_event(image_scores.key)
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["images"].value == 6
    assert "scores are in line" in str(tick(lake, instance))


def test_nothing_is_asked_for_before_anything_is_embedded(pipeline: Pipeline, instance: dg.DagsterInstance) -> None:
    assert "nothing is scanned yet" in str(tick(pipeline, instance))
    pipeline.tables.directory.create()
    assert "index is not in line" in str(tick(pipeline, instance))


def test_rows_that_are_not_as_they_should_be_are_found() -> None:
    images = pl.DataFrame({"relative_path": ["a", "b", "c"], "content_sha256": ["1", "2", "3"]})
    scores = dict.fromkeys(("outlier_score", "uniqueness", "cluster_distance"), 0.5)
    rows = images.with_columns(cluster=pl.lit(0), **{name: pl.lit(value) for name, value in scores.items()})
    assert scores_are_finite(rows, images).passed
    for wrong, number in (
        (rows.head(2), "missing"),
        (pl.concat([rows, rows.head(1)]), "doubled"),
        (pl.concat([rows, rows.head(1).with_columns(relative_path=pl.lit("d"))]), "without_image"),
        (rows.with_columns(uniqueness=pl.lit(float("nan"))), "outside_scale"),
        (rows.with_columns(outlier_score=pl.lit(None, pl.Float64)), "outside_scale"),
        (rows.with_columns(outlier_score=pl.lit(2.5)), "outside_scale"),
        (rows.with_columns(cluster=pl.lit(None, pl.Int32)), "outside_scale"),
    ):
        outcome = scores_are_finite(wrong, images)
        assert not outcome.passed
        assert outcome.numbers[number] > 0
    alone = rows.head(1).with_columns(outlier_score=pl.lit(None, pl.Float64), uniqueness=pl.lit(None, pl.Float64))
    assert scores_are_finite(alone, images.head(1)).passed


def test_a_jump_of_the_share_of_outliers_is_told() -> None:
    assert outliers_as_before(5, 1000, 4, 1000).passed
    assert outliers_as_before(500, 1000, None, 0).passed
    assert not outliers_as_before(200, 1000, 4, 1000).passed
