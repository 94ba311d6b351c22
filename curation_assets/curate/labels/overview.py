"""What the predictions tell of a field: how sure they are, what is confused, which labels are likely wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.curate.labels.answered import without_answered
from curation_assets.curate.labels.classifier import calibration_error
from curation_assets.curate.problems import LIKELY_WRONG as LIKELY_WRONG
from curation_assets.decisions.standing import Decisions
from curation_assets.errors import CurationError
from curation_assets.lake.table import LakeTable

_READ = ["field", "relative_path", "content_sha256", "predicted", "confidence", "label", "label_quality", "suggested"]
_OF = ["relative_path", "content_sha256", "field"]
NOT_JUDGED: Mapping[str, str] = MappingProxyType(
    {
        "without_label": "without a label",
        "nothing": "with nothing on them",
        "several_labels": "with several labels",
        "class_left_out": "of a class that is left out",
    }
)  # why an image is predicted only, and how a reader is told


@dataclass(frozen=True)
class Said:
    """What is said of labels now.

    Attributes:
        counts: of each image and field, with ``values`` and ``source``.
        decisions: of people; what they answered is not doubted again.
    """

    counts: pl.DataFrame
    decisions: Decisions


@dataclass(frozen=True)
class ClassReport:
    """One class, out of fold.

    Attributes:
        images: with this label.
        predicted: that are said to be of it; ``right`` of them are.
    """

    name: str
    images: int
    predicted: int
    right: int

    @property
    def precision(self) -> float | None:
        """Share of those that are said to be of it that are; None where none is."""
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float:
        """Share of its images that are said to be of it."""
        return self.right / self.images

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.right / (self.images + self.predicted)


@dataclass(frozen=True)
class FieldReport:
    """What the predictions of a field tell.

    Attributes:
        images: with a row.
        classes: by name.
        matrix: (classes, classes) images by label (rows) and by what is predicted out of fold (columns).
        calibration_error: expected, of the confidence.
        predicted: classes of images that are not judged → how many.
        not_judged: why those are not, of ``NOT_JUDGED`` → how many.
        rows: of the labelled images whose content has one label: path, label, predicted, confidence, …
        suspected: rows whose label is likely wrong and that nobody answered for, the likeliest first.
    """

    field: str
    images: int
    classes: list[ClassReport]
    matrix: NDArray[np.int64]
    calibration_error: float
    predicted: dict[str, int]
    not_judged: dict[str, int]
    rows: pl.DataFrame
    suspected: pl.DataFrame

    @property
    def labelled(self) -> int:
        """Images that are judged."""
        return len(self.rows)

    @property
    def accuracy(self) -> float:
        """Share of the labelled images whose label is predicted, out of fold."""
        return float(np.trace(self.matrix)) / max(1, self.labelled)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall of the classes."""
        return float(np.mean([one.recall for one in self.classes])) if self.classes else 0.0

    @property
    def weakest(self) -> list[ClassReport]:
        """The classes, those that are told worst first."""
        return sorted(self.classes, key=lambda one: (one.f1, one.name))

    @property
    def confusions(self) -> list[tuple[str, str, int]]:
        """Label, what is predicted in its place, and of how many images; the most first."""
        names = [one.name for one in self.classes]
        found = [
            (names[row], names[column], int(self.matrix[row, column]))
            for row, column in zip(*np.nonzero(self.matrix), strict=True)
            if row != column
        ]
        return sorted(found, key=lambda one: (-one[2], one[0], one[1]))

    def confused(self, label: str, predicted: str) -> pl.DataFrame:
        """The images of one confusion, the surest first."""
        found = self.rows.filter((pl.col("label") == label) & (pl.col("predicted") == predicted))
        return found.sort("confidence", "relative_path", descending=[True, False])


def prediction_rows(predictions: LakeTable, field: str | None = None) -> pl.DataFrame:
    """Rows of the table, of one field or all.

    Raises:
        CurationError: nothing is predicted yet, or not of the field; or the table can't be read.
    """
    if predictions.newest_version() < 1:
        raise CurationError(f"nothing is predicted yet in {predictions.path}; `curation classify` does that")
    rows = predictions.latest().read(_READ).drop("_file").unique(["relative_path", "field"], keep="first")
    if field is None:
        return rows
    names = rows["field"].unique().sort().to_list()
    if field not in names:
        raise CurationError(f"nothing is predicted of {field!r}; there are {', '.join(names) or 'no fields'}")
    return rows.filter(pl.col("field") == field)


def reports_of(rows: pl.DataFrame, said: Said) -> list[FieldReport]:
    """A report for each field, by name."""
    parts = rows.sort("field", "relative_path").group_by("field", maintain_order=True)
    return [report_of(str(name), some, said) for (name,), some in parts]


def report_of(field: str, rows: pl.DataFrame, said: Said) -> FieldReport:
    """The report of one field.

    Args:
        rows: of the table, sorted by path.
    """
    labelled = rows.drop_nulls(["label", "predicted"])
    single = labelled.filter(pl.col("label").n_unique().over("content_sha256") == 1)
    names = pl.concat([single["label"], single["predicted"]]).unique().sort().to_list()
    matrix = np.zeros((len(names), len(names)), np.int64)
    np.add.at(matrix, (_places(names, single["label"]), _places(names, single["predicted"])), 1)
    there = np.flatnonzero(matrix.sum(axis=1))
    classes = [
        ClassReport(names[at], int(matrix[at].sum()), int(matrix[:, at].sum()), int(matrix[at, at])) for at in there
    ]
    right = (single["label"] == single["predicted"]).to_numpy()
    others = rows.filter(pl.col("label").is_null()).drop_nulls("predicted")
    counted = others["predicted"].value_counts().sort("count", "predicted", descending=[True, False])
    return FieldReport(
        field=field,
        images=len(rows),
        classes=classes,
        matrix=matrix[np.ix_(there, there)],
        calibration_error=calibration_error(single["confidence"].to_numpy(), right),
        predicted=dict(counted.iter_rows()),
        not_judged=_not_judged(others, said.counts),
        rows=single,
        suspected=suspected_of(without_answered(labelled, said.counts, said.decisions)),
    )


def _not_judged(rows: pl.DataFrame, counts: pl.DataFrame) -> dict[str, int]:
    labels = counts.select(*_OF, number=pl.col("values").list.drop_nulls().list.n_unique())
    number = rows.join(labels, on=_OF, how="left")["number"]
    found = (number.is_null(), number == 0, number > 1, number == 1)
    return {why: int(which.sum()) for why, which in zip(NOT_JUDGED, found, strict=True)}


def suspected_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows whose label is likely wrong, the likeliest first."""
    found = rows.filter((pl.col("label_quality") < LIKELY_WRONG) & pl.col("suggested").is_not_null())
    return found.sort("label_quality", "relative_path")


def _places(names: Sequence[str], of: pl.Series) -> NDArray[np.int64]:
    return np.searchsorted(np.array(names, dtype=object), of.to_numpy().astype(object)) if len(of) else np.empty(0, int)
