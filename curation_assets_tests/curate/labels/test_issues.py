"""The table of label issues follows annotations, decisions, groups and predictions; what people answered stays so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable, Field

from curation_assets.annotations.record import change_rows
from curation_assets.annotations.said import SCHEMA as ANNOTATED
from curation_assets.annotations.sources import make_source
from curation_assets.curate.findings import IssuesOfLabels
from curation_assets.curate.labels import issues
from curation_assets.curate.labels.issues import LabelIssues
from curation_assets.decisions.record import append
from curation_assets.errors import CurationError
from curation_assets.lake import hive
from curation_assets.lake.appending import append_rows
from curation_assets.lake.rewrite import rewrite
from curation_assets.lake.schemas import ANNOTATIONS, LABEL_ISSUES, PREDICTIONS
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.repair import repair
from curation_assets.review.label_queue import doubted_labels, label_queue
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.curate.killed import AFTER_THE_COMMIT, BEFORE_THE_COMMIT, kill

Fill = Callable[..., list[Path]]
ONE, TWO, THREE, COPY = "a/photo_0000.jpg", "a/photo_0001.jpg", "a/photo_0002.jpg", "b/copy.jpg"


@pytest.fixture(scope="module")
def doubted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs and a copy of the first, which another name labels otherwise; and a lake of them."""
    home = tmp_path_factory.mktemp("doubted")
    for seed, path in enumerate((ONE, TWO, THREE, COPY)):
        (home / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        (home / "images" / path).write_bytes(jpeg(seed % 3))
    made = Pipeline(load_settings(images_root=home / "images", lake_root=home / "lake", model_source="demo"))
    made.scan(["a", "b"], LogProgress())
    csv(made, home, f"path,class\n{ONE},rust\n{TWO},rust\n{THREE},miner\n{COPY},miner\n")
    made.compare_all(LogProgress())
    return home


@pytest.fixture
def lake(pipeline: Pipeline, doubted: Path, tmp_path: Path) -> Pipeline:
    """That lake, of the test's own."""
    shutil.copytree(doubted, tmp_path, dirs_exist_ok=True)
    return pipeline


def csv(pipeline: Pipeline, tmp_path: Path, text: str, source: str = "anna") -> None:
    (tmp_path / "labels.csv").write_text(text)
    pipeline.annotate(make_source(format="csv", path=tmp_path / "labels.csv", source=source), LogProgress())


def find(pipeline: Pipeline) -> LabelIssues:
    done = pipeline.find_label_issues(LogProgress())
    assert done is not None
    assert pipeline.label_issues_behind() == 0
    return done


def rows(pipeline: Pipeline, *columns: str) -> list[tuple[Any, ...]]:
    found = pipeline.tables.label_issues.latest().read(list(LABEL_ISSUES.arrow_schema.names))
    return found.sort("relative_path", "kind").select(columns or ("relative_path", "kind", "given", "suggested")).rows()


def decide(
    pipeline: Pipeline, kind: str, path: str, field: str = "class", value: str | None = None, **shown: Any
) -> None:
    content = pipeline.tables.contents([path])[path]
    row = {"kind": kind, "relative_path": path, "content_sha256": content, "field": field, "value": value}
    row |= {"decided_by": "me", "shown": json.dumps(shown) if shown else None}
    append(pipeline.tables.decisions, lambda _: [row])


def predict(pipeline: Pipeline, *said: tuple[str, str, str | None, float]) -> None:
    """Rows of the predictions: path, label, suggested, quality of the label."""
    table = pipeline.tables.predictions
    table.create()
    contents = pipeline.tables.contents([path for path, *_ in said])
    made = [
        {
            "relative_path": path,
            "content_sha256": contents[path],
            "model_name": "m",
            "model_version": "1",
            "model_fingerprint": "f",
            "field": "class",
            "predicted": suggested or label,
            "confidence": 0.9,
            "label": label,
            "label_quality": quality,
            "suggested": suggested,
            "out_of_fold": True,
            "made_with": "1-x",
        }
        for path, label, suggested, quality in said
    ]
    frame = pl.DataFrame(made, pl.Schema(PREDICTIONS.arrow_schema.remove_metadata()))

    def work(change: Any) -> None:
        with change.writer.file() as stage:
            for batch in frame.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches():
                stage.write(batch)
        change.commit(stage.files, change.base.files())

    rewrite(table, hive.WHOLE, work, info={})


def test_copies_with_two_labels_are_found_and_nothing_is_written_again(lake: Pipeline) -> None:
    assert lake.label_issues_behind() == 2
    done = find(lake)
    assert (done.rows, done.changed, done.commits, done.kinds["conflicting"]) == (2, 2, 1, 2)
    assert rows(lake, "relative_path", "kind", "given", "number", "evidence", "reason", "model_version") == [
        (ONE, "conflicting", "rust", 1, [COPY], f"{COPY} is the same file, labelled miner", None),
        (COPY, "conflicting", "miner", 1, [ONE], f"{ONE} is the same file, labelled rust", None),
    ]
    again = find(lake)
    assert (again.rows, again.changed, again.commits, again.version) == (2, 0, 0, done.version)


def test_where_nothing_changed_nothing_is_read_and_the_note_may_go(
    lake: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    find(lake)
    read: list[str] = []
    really = issues.label_issues

    def counted(*asked: Any) -> pl.DataFrame:
        read.append("all")
        return really(*asked)

    monkeypatch.setattr(issues, "label_issues", counted)
    assert (find(lake).kinds["conflicting"], read) == (2, [])
    lake.settings.label_issues_note.write_text("{")
    assert (find(lake).commits, read) == (0, ["all"])
    table = DeltaTable(lake.tables.label_issues.path)
    table.delete(f"relative_path = '{COPY}'")
    assert lake.label_issues_behind() == 1
    assert find(lake).changed == 1
    assert len(rows(lake)) == 2
    first = Pipeline(lake.settings)
    csv(first, tmp_path, f"path,class\n{ONE},rust\n{COPY},rust\n")
    assert find(first).rows == 0


def test_a_reason_tells_the_nearest_and_how_many_more(lake: Pipeline, images: Path, tmp_path: Path) -> None:
    for number in range(2):
        (images / "b" / f"{number}.jpg").write_bytes((images / ONE).read_bytes())
    lake.scan(["b"], LogProgress())
    csv(lake, tmp_path, f"path,class\nb/0.jpg,miner\n{ONE},rust\n{COPY},miner\n")
    find(lake)
    told = dict(rows(lake, "relative_path", "reason"))
    assert told[ONE] == "b/0.jpg is the same file, labelled miner, and 1 more image differs"
    csv(lake, tmp_path, f"path,class\nb/0.jpg,miner\nb/1.jpg,phoma\n{ONE},rust\n{COPY},miner\n")
    find(lake)
    found = {path: rest for path, *rest in rows(lake, "relative_path", "reason", "suggested", "number")}
    assert found[ONE] == ["b/0.jpg is the same file, labelled miner, and 2 more images differ", "miner", 3]
    assert found[COPY][1:] == [None, 2]


def test_sources_that_disagree_are_an_issue_beside_the_copies(lake: Pipeline, tmp_path: Path) -> None:
    csv(lake, tmp_path, f"path,class\n{ONE},miner\n{TWO},phoma\n{THREE},miner\n", source="berta")
    find(lake)
    assert rows(lake, "relative_path", "number", "evidence", "reason") == [
        (
            ONE,
            2,
            [COPY],
            f"sources disagree: anna says rust, berta says miner; {COPY} is the same file, labelled miner",
        ),
        (TWO, 1, None, "sources disagree: anna says rust, berta says phoma"),
        (COPY, 1, [ONE], f"{ONE} is the same file, labelled rust"),
    ]


def test_predictions_that_speak_against_a_label_are_issues_while_it_is_that_label(
    lake: Pipeline, tmp_path: Path
) -> None:
    predict(lake, (TWO, "rust", "miner", 0.07), (THREE, "miner", None, 0.98), (COPY, "rust", "phoma", 0.1))
    find(lake)
    said = "it looks like miner; quality of the label rust: 0.07"
    told = rows(lake, "relative_path", "kind", "suggested", "reason", "model_version", "made_with")
    assert told[1:2] == [(TWO, "mislabelled", "miner", said, "1", "1-1-x")]
    assert len(rows(lake)) == 3, "of a label that the classifier did not see nothing is said"
    csv(lake, tmp_path, f"path,class\n{ONE},rust\n{TWO},miner\n{THREE},miner\n{COPY},rust\n")
    assert find(lake).changed == 4
    assert rows(lake) == [(COPY, "mislabelled", "rust", "phoma")]


def test_what_a_person_answered_is_not_asked_again(lake: Pipeline) -> None:
    predict(lake, (TWO, "rust", "miner", 0.07), (THREE, "miner", "rust", 0.2))
    find(lake)
    assert [path for path, *_ in rows(lake)] == [ONE, TWO, THREE, COPY]
    decide(lake, "relabel", ONE, value="rust")
    decide(lake, "relabel", TWO, value="rust")
    decide(lake, "unsure", THREE)
    find(lake)
    assert rows(lake) == []


def test_what_is_another_question_by_now_is_asked_again_and_no_problem_until_it_is_answered(lake: Pipeline) -> None:
    predict(lake, (TWO, "rust", "miner", 0.04), (THREE, "miner", "rust", 0.04))
    find(lake)
    shown = {"issues": ["mislabelled"], "label_quality": 0.04}
    decide(lake, "relabel", TWO, value="rust", given="rust", suggested="miner", **shown)
    decide(lake, "unsure", THREE, given="miner", suggested="rust", **shown)
    find(lake)
    assert [path for path, *_ in rows(lake)] == [ONE, COPY]
    predict(lake, (TWO, "rust", "phoma", 0.03), (THREE, "miner", "rust", 0.03))
    done = find(lake)
    told = rows(lake, "relative_path", "kind", "suggested", "asked_again")
    assert [row for row in told if row[3]] == [(TWO, "mislabelled", "phoma", True)]
    assert (len(told), done.likely_wrong) == (3, 0)
    assert [*IssuesOfLabels(lake.tables.label_issues).read()["relative_path"].sort()] == [ONE, COPY]
    decide(lake, "relabel", TWO, value="rust", given="rust", suggested="phoma", **shown)
    find(lake)
    assert [path for path, *_ in rows(lake)] == [ONE, COPY]


def test_a_table_of_a_version_that_asked_nothing_again_is_read_and_goes_on(lake: Pipeline) -> None:
    find(lake)
    table = lake.tables.label_issues
    there = table.latest().read(list(LABEL_ISSUES.arrow_schema.names)).drop("_file", "asked_again")
    shutil.rmtree(table.path)
    columns = tuple(column for column in LABEL_ISSUES.columns if column.name != "asked_again")
    earlier = LakeTable(table.path, replace(LABEL_ISSUES, columns=columns))
    earlier.create()
    rewrite(earlier, hive.WHOLE, lambda change: append_rows(change, there), info={})
    lake = Pipeline(lake.settings)
    assert len(IssuesOfLabels(lake.tables.label_issues).read()) == 2
    assert len(label_queue(lake.tables.label_issues, 0.05).rows) == len(doubted_labels(table, "conflicting").rows) == 2
    assert lake.label_issues_behind() == 0
    assert find(lake).changed == 0
    decide(lake, "unsure", ONE, given="phoma", issues=["conflicting"])
    find(lake)
    assert rows(lake, "relative_path", "asked_again") == [(ONE, True), (COPY, True)]


def test_a_label_that_a_person_gave_is_asked_about_in_others_that_are_near(lake: Pipeline, tmp_path: Path) -> None:
    decide(lake, "relabel", ONE, value="rust")
    first, second = sorted(lake.tables.contents([TWO, THREE]).values())  # type: ignore[type-var]
    row = {"kind": "same", "content_sha256": first, "other_sha256": second, "decided_by": "me"}
    append(lake.tables.decisions, lambda _: [row])
    lake.compare_all(LogProgress())
    find(lake)
    assert rows(lake) == [(TWO, "conflicting", "rust", None), (THREE, "conflicting", "miner", None)]


BOXES = "path,class,x,y,width,height\n"


def test_boxes_of_the_source_that_counts_are_looked_at(lake: Pipeline, tmp_path: Path) -> None:
    csv(lake, tmp_path, f"{BOXES}{TWO},rust,1,1,20,20\n{TWO},rust,1,1,20,20\n{THREE},,5,5,10,1\n", source="boxes")
    csv(lake, tmp_path, f"{BOXES}{TWO},rust,1,1,20,2\n", source="later")
    find(lake)
    told = [row for row in rows(lake, "relative_path", "kind", "number", "reason") if row[1] != "conflicting"]
    assert told == [
        (TWO, "box_doubled", 1, "box 'rust' at 1, 1 of 20 × 20 is there twice"),
        (THREE, "box_tiny", 1, "box '' at 5, 5 of 10 × 1 is tiny"),
        (THREE, "box_unlabelled", 1, "box '' at 5, 5 of 10 × 1 has no label"),
    ]


def test_a_box_that_another_program_wrote_outside_of_the_picture_is_found(lake: Pipeline) -> None:
    content = lake.tables.contents([TWO])[TWO]
    box = {"label": "rust", "x": 60.0, "y": 1.0, "width": 20.0, "height": 20.0}
    row = {"relative_path": TWO, "folder": "a", "field": "pest", "source": "x", "boxes": [box]}
    row |= {"content_sha256": content}
    new = pl.DataFrame([row], ANNOTATED)
    change_rows(lake.tables.annotations, lambda _: (new.select(ANNOTATIONS.key).clear(), new), {}, None)
    find(lake)
    assert (TWO, "box_outside", None, None) in rows(lake)


def test_an_image_that_is_gone_takes_its_issues_along(lake: Pipeline, images: Path) -> None:
    find(lake)
    (images / COPY).unlink()
    lake.scan(["b"], LogProgress())
    assert find(lake).rows == 0


def test_columns_of_users_stay_with_their_rows(lake: Pipeline, tmp_path: Path) -> None:
    find(lake)
    table = DeltaTable(lake.tables.label_issues.path)
    table.alter.add_columns([Field("mine", "string")])
    table.update(updates={"mine": "'seen'"})
    csv(lake, tmp_path, f"path,class\n{ONE},rust\n{TWO},miner\n{THREE},miner\n{COPY},phoma\n")
    predict(lake, (THREE, "miner", "rust", 0.2))
    find(Pipeline(lake.settings))
    found = LakeTable(lake.tables.label_issues.path, LABEL_ISSUES).latest().read(["relative_path", "given", "mine"])
    assert found.drop("_file").sort("relative_path").rows() == [
        (ONE, "rust", "seen"),
        (THREE, "miner", None),
        (COPY, "phoma", "seen"),
    ]


def test_without_annotations_there_is_nothing_to_find(pipeline: Pipeline, fill: Fill) -> None:
    fill("a", 1)
    pipeline.scan(["a"], LogProgress())
    assert pipeline.find_label_issues(LogProgress()) is None
    assert not pipeline.tables.label_issues.exists()


PLACES = {
    "while comparing": ("curation_assets.curate.labels.issues", "", "_changed"),
    "before the commit": BEFORE_THE_COMMIT,
    "after the commit": AFTER_THE_COMMIT,
}


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_process_leaves_the_table_whole_and_the_next_one_finishes(
    place: str, lake: Pipeline, tmp_path: Path
) -> None:
    find(lake)
    before = rows(lake)
    csv(lake, tmp_path, f"path,class\n{ONE},rust\n{COPY},phoma\n")
    kill(lake.settings, "find_label_issues", PLACES[place])
    again = Pipeline(lake.settings)
    after = [(ONE, "conflicting", "rust", None), (COPY, "conflicting", "phoma", None)]
    assert rows(again) == (after if place == "after the commit" else before)
    find(again)
    assert rows(again) == after
    assert find(again).commits == 0


def test_what_a_damaged_table_lacks_is_not_taken_for_gone(lake: Pipeline) -> None:
    find(lake)
    before = rows(lake)
    (file, *_) = lake.tables.annotations.snapshot().files()
    (lake.tables.annotations.path / file.path).write_bytes(b"no Parquet")
    again = Pipeline(lake.settings)
    lake.settings.label_issues_note.unlink()
    with suppress(CurationError):  # whoever finds it first
        again.tables.annotations.latest().read(["values"])
    done = again.find_label_issues(LogProgress())
    assert done is not None
    assert (done.commits, rows(again)) == (0, before)
    assert not lake.settings.label_issues_note.exists()


def test_a_damaged_data_file_is_made_anew(ready: Pipeline, lake: Pipeline) -> None:
    find(lake)
    before = rows(lake)
    (file,) = lake.tables.label_issues.snapshot().files()
    (lake.tables.label_issues.path / file.path).write_bytes(b"no Parquet")
    repair(Pipeline(ready.settings), LogProgress())
    assert rows(Pipeline(lake.settings)) == before
