"""The table of predictions, brought in line with vectors and annotations.

Whether a field is in line is told by its rows alone: the same images with the same contents and labels, made with the
same method, settings and examples. Nothing is computed then. Where only images without a label came, the classifier
that is kept beside the index predicts them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.curate.duplicates.rows import merge_files, replace_rows
from curation_assets.curate.labels import kept
from curation_assets.curate.labels.classifier import Classifier, Judged, judge
from curation_assets.curate.labels.examples import Examples
from curation_assets.curate.neighbours.vectors import Floats, Ids, NodeVectors
from curation_assets.curate.scores.scoring import images_of
from curation_assets.embed.vectors import MODEL_COLUMNS, is_current
from curation_assets.lake import hive
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import PREDICTIONS
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress
from curation_assets.search.index import SearchIndex

_COLUMNS = list(PREDICTIONS.arrow_schema.names)
_KEY = list(PREDICTIONS.key)
_IMAGE = ["relative_path", "content_sha256"]
_OF_CONTENT = ["predicted", "confidence", "out_of_fold"]
_OF_LABEL = ["label_quality", "suggested"]
_BLOCK = 4096
_EMPTY = pl.DataFrame(schema=pl.Schema(PREDICTIONS.arrow_schema.remove_metadata()))


@dataclasses.dataclass
class FieldPredictions:
    """What became of one field.

    Attributes:
        images: with a row now; 0 where no classifier can be fitted, which ``why_not`` tells.
        labelled: of them, with a label that they are judged by.
        classes: how many.
        fitted: contents that a classifier was fitted to now; 0: what there was still holds.
        predicted: contents without one label of a usable class that were predicted now.
        few: classes that are left out → how many contents they have.
        several, nothing, no_vector, conflicting: images, as in ``Examples``.
    """

    field: str
    images: int = 0
    labelled: int = 0
    classes: int = 0
    fitted: int = 0
    predicted: int = 0
    why_not: str | None = None
    few: dict[str, int] = dataclasses.field(default_factory=dict)
    several: int = 0
    nothing: int = 0
    no_vector: int = 0
    conflicting: int = 0


@dataclasses.dataclass
class Predictions:
    """What bringing the predictions in line did.

    Attributes:
        changed: rows that are new or other than before, and rows that went.
        index: whose images were predicted; None where no classifier can be fitted, and there are no rows.
    """

    fields: list[FieldPredictions] = dataclasses.field(default_factory=list)
    changed: int = 0
    commits: int = 0
    version: int = -1
    seconds: float = 0.0
    index: SearchIndex | None = dataclasses.field(default=None, repr=False, compare=False)


def bring_predictions_in_line(
    index: SearchIndex,
    model: RegisteredModel,
    predictions: LakeTable,
    examples: Sequence[Examples],
    progress: Progress,
    only: str | None = None,
) -> Predictions:
    """Predict the images of an index for every field, and write what differs.

    Rows of other model versions go, and of fields that no classifier can be fitted for.

    Args:
        index: a stored one.
        examples: of every field.
        only: a field; rows of the others stay as they are.

    Raises:
        CurationError: the table can't be read or written.
    """
    started = time.perf_counter()
    result = Predictions(index=index)
    judged: dict[str, tuple[pl.DataFrame, Classifier]] = {}  # by made_with: a plan that is made anew fits nothing twice

    def work(change: Rewrite) -> None:
        result.fields = [told_of(each) for each in examples if only in (None, each.field)]
        images = images_of(index)
        before = change.base.read(_COLUMNS).select(_COLUMNS)
        broken = [file for file, _ in change.base.broken()]
        right = before.filter(is_current(model))
        parts = [] if only is None else [right.filter(pl.col("field") != only)]
        for each in examples:
            if each.why_not is None and only in (None, each.field):
                told = next(one for one in result.fields if one.field == each.field)
                parts.append(_rows(index, images, right, model, each, told, judged, progress))
        rows = pl.concat([_EMPTY, *parts]).unique(_KEY, keep="first", maintain_order=True)
        differing = rows.join(before, on=_COLUMNS, how="anti", nulls_equal=True).select(_KEY)
        gone = before.join(rows, on=_KEY, how="anti").select(_KEY)
        doubled = before.filter(pl.struct(_KEY).is_duplicated()).select(_KEY)  # by another writer
        changed = pl.concat([differing, gone, doubled]).unique()
        result.changed = len(changed)
        if not len(changed) and not broken:
            return
        new = rows.join(changed, on=_KEY, how="semi", maintain_order="left")
        if own := change.base.added_columns:  # users' own, which stay with path, content and field
            of_row = [*_IMAGE, "field"]
            of_users = change.base.read([*of_row, *own]).drop("_file").unique(of_row, keep="first")
            new = new.join(of_users, on=of_row, how="left", maintain_order="left")
        result.commits += replace_rows(change, _KEY, changed, new, leaving=broken)
        result.commits += merge_files(change)

    result.version = rewrite(predictions, hive.WHOLE, work, info={"job": "predictions"}, progress=progress).version
    if index.path is not None and only is None:
        kept.sweep(index.path, [each.field for each in examples if each.why_not is None])
    result.seconds = time.perf_counter() - started
    return result


def told_of(examples: Examples) -> FieldPredictions:
    """What is known of a field before anything is done."""
    return FieldPredictions(
        field=examples.field,
        labelled=len(examples.labelled),
        classes=len(examples.classes),
        why_not=examples.why_not,
        few=examples.few,
        several=examples.several,
        nothing=examples.nothing,
        no_vector=examples.no_vector,
        conflicting=examples.conflicting,
    )


def predictions_are_behind(
    index: SearchIndex, predictions: Snapshot, model: RegisteredModel, examples: Sequence[Examples]
) -> bool:
    """Whether :func:`bring_predictions_in_line` would change something."""
    if predictions.broken():
        return True
    rows, images = predictions.read([*_IMAGE, *MODEL_COLUMNS, "field", "label", "made_with"]), images_of(index)
    usable = [each for each in examples if each.why_not is None]
    parts = [_wanted(images, each, model) for each in usable]
    wanted = pl.concat(
        [pl.DataFrame(schema=dict.fromkeys([*_IMAGE, "label", "field", "made_with"], pl.String)), *parts]
    )
    if len(rows) != len(wanted):
        return True
    right = rows.filter(is_current(model))
    return len(wanted.join(right, on=wanted.columns, how="anti", nulls_equal=True)) > 0


def _wanted(images: pl.DataFrame, examples: Examples, model: RegisteredModel) -> pl.DataFrame:
    """What the rows of a field are to be of: path, content, label, field and ``made_with``."""
    rows = images.join(examples.labelled, on=_IMAGE, how="left", maintain_order="left")
    said = {"field": examples.field, "made_with": examples.made_with(model)}
    return rows.select(*_IMAGE, "label", **{name: pl.lit(value) for name, value in said.items()})


def _rows(
    index: SearchIndex,
    images: pl.DataFrame,
    before: pl.DataFrame,
    model: RegisteredModel,
    examples: Examples,
    told: FieldPredictions,
    judged: dict[str, tuple[pl.DataFrame, Classifier]],
    progress: Progress,
) -> pl.DataFrame:
    """The rows of a field as they should be.

    Args:
        before: those that there were, of this model.
    """
    wanted, made_with = _wanted(images, examples, model), examples.made_with(model)
    told.images = len(wanted)
    earlier = before.filter((pl.col("field") == examples.field) & (pl.col("made_with") == made_with))
    of_labels = earlier.drop_nulls("label").select("content_sha256", "label", *_OF_CONTENT, *_OF_LABEL)
    of_labels = of_labels.unique(["content_sha256", "label"], keep="first")
    contents = images.select("content_sha256").unique().sort("content_sha256")
    rest = contents.join(examples.entries, on="content_sha256", how="anti", maintain_order="left")
    known = earlier.join(rest, on="content_sha256", how="semi").select("content_sha256", *_OF_CONTENT)
    known = known.unique("content_sha256", keep="first")
    unknown = rest.join(known, on="content_sha256", how="anti", maintain_order="left")["content_sha256"]
    lacking = len(examples.entries.join(of_labels, on=["content_sha256", "label"], how="anti"))
    stored = None
    if not lacking and len(unknown) and made_with not in judged and index.path is not None:
        stored = kept.read(index.path, examples.field, made_with)
    if lacking or (len(unknown) and stored is None):
        if made_with not in judged:
            judged[made_with] = _judged(index, examples, progress)
            if index.path is not None:
                kept.write(index.path, examples.field, made_with, examples.classes, judged[made_with][1])
        of_labels, classifier = judged[made_with]
        told.fitted = int(examples.entries["fitted"].sum())
        known, unknown = known.clear(), rest["content_sha256"]
    elif stored is not None:
        classifier = stored[1]
    if len(unknown):
        told.predicted = len(unknown)
        known = pl.concat([known, _predicted(index, unknown, classifier, examples.classes, progress)])
    of_contents = pl.concat([known, of_labels.select(known.columns).unique("content_sha256", keep="first")])
    rows = wanted.join(of_contents, on="content_sha256", how="left", maintain_order="left")
    of_label = of_labels.select("content_sha256", "label", *_OF_LABEL)
    rows = rows.join(of_label, on=["content_sha256", "label"], how="left", maintain_order="left")
    told_of_model = dict(zip(MODEL_COLUMNS, (model.name, model.version, model.fingerprint), strict=True))
    return rows.with_columns(**{name: pl.lit(value) for name, value in told_of_model.items()}).select(_COLUMNS)


def _judged(index: SearchIndex, examples: Examples, progress: Progress) -> tuple[pl.DataFrame, Classifier]:
    """What cross-validation says of each entry, and the classifier for everything else."""
    entries, names = examples.entries, pl.Series(examples.classes, dtype=pl.String)
    vectors = _vectors(index, entries["content_sha256"])
    labels = np.searchsorted(names.to_numpy().astype(str), entries["label"].to_numpy().astype(str))
    groups, fitted = entries["group"].to_numpy().astype(np.int64), entries["fitted"].to_numpy().copy()
    for ids in vectors.blocks(_BLOCK):  # a vector whose components are no numbers tells nothing
        fitted[ids] &= np.isfinite(vectors.take(ids)).all(axis=1)
    found: Judged = judge(vectors, labels, groups, fitted, len(names), progress)
    suggested = names.gather(np.maximum(found.suggested, 0)).to_frame("name").with_columns(there=found.suggested >= 0)
    rows = entries.select("content_sha256", "label").with_columns(
        **_told(names, found.predicted, found.confidence),
        out_of_fold=pl.lit(value=True),
        label_quality=pl.Series(found.quality, dtype=pl.Float32).fill_nan(None),
        suggested=suggested.select(pl.when("there").then("name")).to_series(),
    )
    return rows, found.classifier


def _predicted(
    index: SearchIndex, contents: pl.Series, classifier: Classifier, classes: list[str], progress: Progress
) -> pl.DataFrame:
    """Class and confidence of contents that have no label."""
    vectors = _vectors(index, contents)
    best, confidence = np.empty(len(contents), np.int64), np.empty(len(contents), np.float32)
    progress.start("predictions", len(contents))
    for ids in vectors.blocks(_BLOCK):
        probabilities: NDArray[np.float64] = classifier.probabilities(vectors.take(ids))
        best[ids], confidence[ids] = probabilities.argmax(axis=1), probabilities.max(axis=1)
        progress.advance(len(ids))
    names = pl.Series(classes, dtype=pl.String)
    return pl.DataFrame(
        {
            "content_sha256": contents,
            **_told(names, best, confidence),
            "out_of_fold": pl.repeat(value=False, n=len(contents), eager=True),
        }
    )


def _told(names: pl.Series, best: Ids, confidence: Floats) -> dict[str, pl.Series]:
    """The columns of a prediction; null where the confidence is no number."""
    found = pl.DataFrame({"predicted": names.gather(best), "confidence": pl.Series(confidence, dtype=pl.Float32)})
    return found.with_columns(pl.when(pl.col("confidence").is_not_nan()).then(pl.all())).to_dict()


def _vectors(index: SearchIndex, contents: pl.Series) -> NodeVectors:
    """One vector for each of some contents."""
    there = index.rows.filter(pl.col("position").is_not_null()).unique("content_sha256", keep="first")
    at = contents.to_frame("content_sha256").join(
        there.select("content_sha256", "position"), on="content_sha256", how="left", maintain_order="left"
    )
    return NodeVectors(index.segments, at["position"].to_numpy().astype(np.int64))
