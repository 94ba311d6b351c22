"""A pipeline's predictions: they follow annotations, decisions and images, whatever kills or damages them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import polars as pl
import pytest

from curation_assets.annotations.record import remove
from curation_assets.annotations.sources import make_source
from curation_assets.decisions.record import append
from curation_assets.demo.render import render
from curation_assets.errors import CurationError
from curation_assets.ingest import run
from curation_assets.lake.schemas import PREDICTIONS
from curation_assets.maintain import maintain
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.repair import repair
from curation_assets_tests.commands.conftest import copied, pipeline_of
from curation_assets_tests.commands.test_clusters import write
from curation_assets_tests.curate.killed import AFTER_THE_COMMIT, BEFORE_THE_COMMIT, kill


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> tuple[Path, Path]:
    """Seven apples and seven tomatoes, annotated by their folders, and a photograph of neither; and a lake of them,
    before and after its first predictions."""
    home = tmp_path_factory.mktemp("predicted")
    for kind in ("apple", "tomato"):
        for number in range(7):
            write(home / "images" / kind / f"{number}.jpg", render(kind, random.Random(f"{kind}{number}"), (96, 72)))
    write(home / "images" / "new" / "0.jpg", render("apple", random.Random(99), (96, 72)))
    pipeline = pipeline_of(home, registered_model)
    run(pipeline, LogProgress())
    lines = [f"{kind}/{number}.jpg,{kind}" for kind in ("apple", "tomato") for number in range(7)]
    file = pipeline.settings.lake_root / "labels.csv"
    file.write_text("\n".join(["path,class", *lines]))
    pipeline.annotate(make_source(format="csv", path=file), LogProgress())
    before = shutil.copytree(home, tmp_path_factory.mktemp("annotated") / "home")
    pipeline.classify(LogProgress())
    return before, home


@pytest.fixture
def annotated(ready: Pipeline, made: tuple[Path, Path]) -> Pipeline:
    return copied(ready, made[0])


@pytest.fixture
def lake(ready: Pipeline, made: tuple[Path, Path]) -> Pipeline:
    return copied(ready, made[1])


def rows(pipeline: Pipeline) -> pl.DataFrame:
    columns = list(PREDICTIONS.arrow_schema.names)
    return pipeline.tables.predictions.snapshot().read(columns).select(columns).sort("relative_path", "field")


def test_a_run_follows_labels_and_images(annotated: Pipeline, images: Path) -> None:
    lake = annotated
    summary = run(lake, LogProgress())
    assert summary.predictions is not None, summary.predictions_error
    assert (summary.predictions.fields[0].fitted, len(rows(lake))) == (14, 15)
    (images / "new" / "0.jpg").rename(images / "new" / "renamed.jpg")
    again = run(lake, LogProgress()).predictions
    assert again is not None
    assert (again.fields[0].fitted, again.fields[0].predicted, again.changed) == (0, 0, 2), "the content is the same"
    (images / "apple" / "0.jpg").unlink()
    gone = run(lake, LogProgress()).predictions
    assert gone is not None
    assert (gone.fields[0].fitted, len(rows(lake))) == (13, 14)
    last = run(lake, LogProgress()).predictions
    assert last is not None
    assert (last.changed, last.commits) == (0, 0)


def test_a_word_of_a_person_counts_before_the_annotations(lake: Pipeline) -> None:
    content = lake.tables.contents(["apple/0.jpg"])["apple/0.jpg"]
    said = {"kind": "relabel", "content_sha256": content, "field": "class", "value": "tomato", "decided_by": "ann"}
    append(lake.tables.decisions, lambda _: [said])
    lake.classify(LogProgress())
    assert rows(lake).filter(pl.col("relative_path") == "apple/0.jpg")["label"].to_list() == ["tomato"]


def test_a_field_that_is_gone_takes_its_rows_along(lake: Pipeline) -> None:
    (source,) = lake.tables.annotations.latest().read(["source"])["source"].unique()
    remove(lake.tables.annotations, source)
    file = lake.settings.lake_root / "labels.csv"
    file.write_text("path,pest\napple/0.jpg,yes\n")
    lake.annotate(make_source(format="csv", path=file), LogProgress())
    lake.classify(LogProgress())
    assert len(rows(lake)) == 0
    assert not lake.predictions_are_behind()
    with pytest.raises(CurationError, match="there are pest"):
        lake.classify(LogProgress(), "class")


PLACES = {
    "while fitting": ("curation_assets.curate.labels.classifier", "", "_temperature"),
    "before the classifier is kept": ("curation_assets.curate.labels.kept", "", "write_whole"),
    "before the commit": BEFORE_THE_COMMIT,
    "after the commit": AFTER_THE_COMMIT,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_process_leaves_the_table_whole_and_the_next_one_finishes(
    place: str, lake: Pipeline, images: Path
) -> None:
    before = rows(lake)
    (images / "apple" / "0.jpg").unlink()
    run(lake, LogProgress(), curate=False)
    kill(lake.settings, "classify", PLACES[place])
    again = Pipeline(lake.settings)
    if place != "after the commit":
        assert rows(again).equals(before)
    again.classify(LogProgress())
    assert len(rows(again)) == 14
    assert rows(again)["made_with"].n_unique() == 1
    there = {path.name for path in lake.tables.predictions.path.glob("*.parquet")}
    assert there >= {file.path for file in again.tables.predictions.snapshot().files()}
    done = again.classify(LogProgress())
    assert done is not None
    assert done.commits == 0


def test_a_damaged_data_file_is_made_anew(lake: Pipeline) -> None:
    before = rows(lake)
    (file,) = lake.tables.predictions.snapshot().files()
    (lake.tables.predictions.path / file.path).write_bytes(b"no Parquet")
    repair(Pipeline(lake.settings), LogProgress())
    assert rows(Pipeline(lake.settings)).equals(before)


def test_maintenance_knows_the_table(lake: Pipeline) -> None:
    report = maintain(Pipeline(lake.settings), LogProgress(), retention_hours=168)
    assert lake.tables.predictions.path.name in [upkeep.table for upkeep in report.tables]
    assert len(rows(lake)) == 15
