"""The table of predictions: what counts, what is left out, and how it follows vectors and annotations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from deltalake import DeltaTable, Field

from curation_assets.clip.versions import RegisteredModel
from curation_assets.curate.labels import kept, predicting
from curation_assets.curate.labels.examples import Examples, examples_of
from curation_assets.curate.labels.predicting import (
    FieldPredictions,
    Predictions,
    bring_predictions_in_line,
    predictions_are_behind,
)
from curation_assets.curate.scores.scoring import images_of
from curation_assets.lake.schemas import PREDICTIONS
from curation_assets.lake.table import LakeTable
from curation_assets.progress import LogProgress
from curation_assets_tests.curate.labels.test_classifier import bunches
from curation_assets_tests.curate.test_neighbours import Vectors, content_of, index_of

MODEL = RegisteredModel("m", "1", "f", 16, 32, 1, "demo", True, "run")
NONE = pl.DataFrame(schema={"first": pl.String, "second": pl.String})
Labels = Mapping[str, list[str]]  # content → values


def drawn(each: list[int], seed: int = 0) -> tuple[Vectors, dict[str, list[str]]]:
    """Contents, their vectors and their labels, ``class 0`` onwards."""
    vectors, classes = bunches(each, wide=0.5, seed=seed)
    names = [content_of((seed, at)) for at in range(len(classes))]
    labels = {name: [f"class {one}"] for name, one in zip(names, classes, strict=True)}
    return dict(zip(names, vectors, strict=True)), labels


class Lake:
    """An index of vectors, annotations of the first copy of each content, and the table."""

    def __init__(self, path: Path) -> None:
        self.path = path / "index"
        self.table = LakeTable(path / "predictions", PREDICTIONS)
        self.table.create()
        self.links = NONE
        self.model = MODEL
        self.version = 0

    def examples(self, vectors: Vectors, labels: Labels, field: str = "class", **layout: object) -> Examples:
        index = index_of(self.path, vectors, **layout)  # type: ignore[arg-type]
        said = [(f"0/{content}.jpg", content, values) for content, values in labels.items()]
        schema = {"relative_path": pl.String, "content_sha256": pl.String, "values": pl.List(pl.String)}
        return examples_of(field, pl.DataFrame(said, schema, orient="row"), images_of(index), self.links)

    def bring(
        self, vectors: Vectors, labels: Labels | list[Examples], only: str | None = None, **layout: object
    ) -> tuple[Predictions, pl.DataFrame]:
        self.version += 1
        index = index_of(self.path, vectors, self.version, **layout)  # type: ignore[arg-type]
        examples = labels if isinstance(labels, list) else [self.examples(vectors, labels, **layout)]
        done = bring_predictions_in_line(index, self.model, self.table, examples, LogProgress(), only)
        if only is None:
            assert not predictions_are_behind(index, self.table.latest(), self.model, examples)
        return done, self.rows()

    def rows(self) -> pl.DataFrame:
        columns = [column.name for column in PREDICTIONS.columns]
        return self.table.latest().read(columns).select(columns).sort("field", "relative_path")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path)


def test_labelled_images_are_judged_out_of_fold_and_the_others_predicted(lake: Lake) -> None:
    vectors, labels = drawn([20, 20, 20])
    rest = list(labels)[:15]
    truth = {content: labels.pop(content)[0] for content in rest}
    done, rows = lake.bring(vectors, labels)
    (told,) = done.fields
    assert told == FieldPredictions("class", images=60, labelled=45, classes=3, fitted=45, predicted=15)
    known, unknown = rows.filter(pl.col("label").is_not_null()), rows.filter(pl.col("label").is_null())
    assert dict(unknown.select("content_sha256", "predicted").iter_rows()) == truth
    assert (known["label"] == known["predicted"]).mean() > 0.9
    assert known["out_of_fold"].all()
    assert known["label_quality"].is_between(0, 1).all()
    assert not unknown["out_of_fold"].any()
    assert unknown["label_quality"].is_null().all()
    assert rows["confidence"].is_between(0, 1).all()


def test_a_wrong_label_has_a_low_quality_and_another_suggested(lake: Lake) -> None:
    vectors, labels = drawn([20, 20])
    wrong = next(iter(labels))
    labels[wrong] = ["class 1" if labels[wrong] == ["class 0"] else "class 0"]
    _, rows = lake.bring(vectors, labels)
    (row,) = rows.filter(pl.col("suggested").is_not_null()).to_dicts()
    assert (row["content_sha256"], row["label"]) == (wrong, labels[wrong][0])
    assert row["suggested"] == row["predicted"] != row["label"]
    assert row["label_quality"] < 0.05


def test_several_labels_none_and_rare_classes_are_left_out_and_counted(lake: Lake) -> None:
    vectors, labels = drawn([10, 10])
    first, second, third, fourth, *_ = labels
    labels[first] = ["class 0", "class 1"]
    labels[second] = []
    labels[third] = labels[fourth] = ["rare"]
    labels[content_of("not embedded")] = ["class 0"]
    done, rows = lake.bring(vectors, labels)
    (told,) = done.fields
    assert (told.several, told.nothing, told.no_vector, told.few) == (1, 1, 1, {"rare": 2})
    assert (told.labelled, told.images) == (16, 20)
    left = rows.filter(pl.col("content_sha256").is_in([first, second, third, fourth]))
    assert left["label"].is_null().all()
    assert left["predicted"].is_in(["class 0", "class 1"]).all()


@pytest.mark.parametrize(
    ("each", "why"),
    [
        ([20], "only one class has 5"),
        ([4, 4], "no class has 5"),
        ([20, 4], "too few: class 1 \\(4\\)"),
        ([], "no class"),
    ],
)
def test_one_class_is_no_classifier_and_that_is_told(lake: Lake, each: list[int], why: str) -> None:
    vectors, labels = drawn(each) if each else ({}, {})
    done, rows = lake.bring(vectors, labels)
    (told,) = done.fields
    assert told.why_not is not None
    assert pl.Series([told.why_not]).str.contains(why).all(), told.why_not
    assert (len(rows), done.commits) == (0, 0)


def test_where_nothing_changed_nothing_is_computed(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, labels = drawn([10, 10])
    lake.bring(vectors, labels)
    version = lake.table.newest_version()
    monkeypatch.setattr(predicting, "judge", None)
    monkeypatch.setattr(kept, "read", None)
    done, _ = lake.bring(vectors, labels)
    assert (done.changed, done.commits, done.fields[0].fitted, done.fields[0].predicted) == (0, 0, 0, 0)
    assert lake.table.newest_version() == version


def test_what_is_new_without_a_label_is_predicted_by_the_kept_classifier(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vectors, labels = drawn([10, 10])
    new, _ = drawn([3, 3], seed=1)
    _, before = lake.bring(vectors, labels)
    with monkeypatch.context() as patch:
        patch.setattr(predicting, "judge", None)
        done, rows = lake.bring(vectors | new, labels)
    assert (done.changed, done.fields[0].predicted, done.fields[0].fitted) == (6, 6, 0)
    assert rows.filter(pl.col("content_sha256").is_in(list(vectors))).equals(before)
    _, whole = Lake(tmp_path / "other").bring(vectors | new, labels, pieces=3, hole_every=5)
    assert whole.equals(rows), "the same as all at once, whatever the order"


@pytest.mark.parametrize("content", [b"no archive", b"", None])
def test_a_kept_classifier_that_is_gone_or_damaged_is_made_anew(lake: Lake, content: bytes | None) -> None:
    vectors, labels = drawn([10, 10])
    new, _ = drawn([3, 3], seed=1)
    _, before = lake.bring(vectors, labels)
    (file,) = kept.location_of(lake.path).iterdir()
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content)
    done, rows = lake.bring(vectors | new, labels)
    assert (done.changed, done.fields[0].fitted) == (6, 20)
    assert rows.filter(pl.col("content_sha256").is_in(list(vectors))).equals(before)


def test_another_label_or_group_is_fitted_anew(lake: Lake) -> None:
    vectors, labels = drawn([10, 10])
    _, before = lake.bring(vectors, labels)
    one, other, *_ = (content for content in sorted(labels) if labels[content] == ["class 0"])
    lake.links = pl.DataFrame({"first": [one], "second": [other]})
    done, rows = lake.bring(vectors, labels)
    assert done.fields[0].fitted == 20
    assert set(rows["made_with"]).isdisjoint(before["made_with"])
    labels.pop(one)
    done, rows = lake.bring(vectors, labels)
    assert (done.fields[0].fitted, done.fields[0].predicted) == (19, 1)
    assert rows.filter(pl.col("content_sha256") == one)["label"].to_list() == [None]


def test_copies_share_the_prediction_and_only_the_labelled_one_has_a_label(lake: Lake) -> None:
    vectors, labels = drawn([10, 10])
    _, rows = lake.bring(vectors, labels, copies=2)
    assert len(rows) == 40
    same = rows.group_by("content_sha256").agg(pl.col("predicted", "confidence").n_unique(), pl.col("label").count())
    assert same.select(pl.col("predicted", "confidence", "label").max()).row(0) == (1, 1, 1)
    assert rows["out_of_fold"].all(), "a copy of what is fitted on is no new image"


def test_a_content_with_two_labels_is_judged_by_others(lake: Lake) -> None:
    vectors, labels = drawn([10, 10])
    examples = lake.examples(vectors, labels, copies=2)
    one = next(content for content in labels if labels[content] == ["class 0"])
    said = [(f"0/{content}.jpg", content, values) for content, values in labels.items()]
    said += [(f"1/{one}.jpg", one, ["class 1"])]
    schema = {"relative_path": pl.String, "content_sha256": pl.String, "values": pl.List(pl.String)}
    images = images_of(index_of(lake.path, vectors, copies=2))
    examples = examples_of("class", pl.DataFrame(said, schema, orient="row"), images, NONE)
    done, rows = lake.bring(vectors, [examples], copies=2)
    assert (done.fields[0].conflicting, done.fields[0].fitted) == (2, 19)
    found = rows.filter(pl.col("content_sha256") == one).sort("relative_path")
    assert found["label"].to_list() == ["class 0", "class 1"]
    assert found["suggested"].to_list() == [None, "class 0"]
    assert found["label_quality"][0] > 0.9 > 0.1 > found["label_quality"][1]


def test_fields_do_not_touch_each_other(lake: Lake) -> None:
    vectors, labels = drawn([10, 10])
    pest = {content: ["yes" if at % 2 else "no"] for at, content in enumerate(labels)}
    both = [lake.examples(vectors, labels), lake.examples(vectors, pest, "pest")]
    done, rows = lake.bring(vectors, both)
    assert [told.field for told in done.fields] == ["class", "pest"]
    assert rows.group_by("field").len().sort("field")["len"].to_list() == [20, 20]
    pest.pop(next(iter(pest)))
    changed = [lake.examples(vectors, labels), lake.examples(vectors, pest, "pest")]
    done, after = lake.bring(vectors, changed, only="class")
    assert (done.changed, [told.field for told in done.fields]) == (0, ["class"])
    assert after.equals(rows)
    done, after = lake.bring(vectors, changed[:1])
    assert (done.changed, after["field"].unique().to_list()) == (20, ["class"])
    assert len(list(kept.location_of(lake.path).iterdir())) == 1


def test_another_model_takes_the_place_of_the_rows(lake: Lake) -> None:
    vectors, labels = drawn([10, 10])
    lake.bring(vectors, labels)
    lake.model = replace(MODEL, version="2", fingerprint="g")
    done, rows = lake.bring(vectors, labels)
    assert done.fields[0].fitted == 20
    assert rows["model_version"].unique().to_list() == ["2"]


def test_images_that_are_gone_and_vectors_that_are_no_numbers(lake: Lake) -> None:
    vectors, labels = drawn([10, 10])
    broken, labelled = content_of("broken"), next(iter(vectors))
    vectors |= {broken: np.full(16, np.nan, np.float32), labelled: np.full(16, np.nan, np.float32)}
    _, rows = lake.bring(vectors, labels)
    told = rows.filter(pl.col("predicted").is_null())
    assert set(told["content_sha256"]) == {broken, labelled}
    assert told["confidence"].is_null().all()
    del vectors[broken]
    done, rows = lake.bring(vectors, labels)
    assert (done.changed, len(rows), done.fields[0].fitted) == (1, 20, 0)


def test_columns_of_users_stay_with_the_image(lake: Lake) -> None:
    vectors, labels = drawn([10, 10])
    lake.bring(vectors, labels)
    DeltaTable(lake.table.path).alter.add_columns([Field("mine", "string")])
    DeltaTable(lake.table.path).update(updates={"mine": "substr(content_sha256, 1, 4)"})
    lake.table = LakeTable(lake.table.path, PREDICTIONS)
    labels.pop(next(iter(labels)))
    done, _ = lake.bring(vectors, labels)
    assert done.changed == 20
    rows = lake.table.latest().read(["content_sha256", "mine"])
    assert (rows["mine"] == rows["content_sha256"].str.head(4)).all()
