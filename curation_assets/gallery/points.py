"""The map's points in the form a browser draws: coordinates and folder numbers as flat arrays."""

from __future__ import annotations

import base64
import hashlib
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.errors import CurationError
from curation_assets.search import image_map
from curation_assets.search.filters import MAX_CONDITION, PROBLEMS, is_equal
from curation_assets.search.index import SearchIndex
from curation_assets.search.searcher import Searcher

CLUSTER, OUTLIER = "cluster", "outlier_score"
_MEASURED = "brightness"  # a measure that every picture has that could be measured
PROBLEM_COLUMNS = [PROBLEMS, _MEASURED]
NO_LABEL = 255
_MOST_VALUES = NO_LABEL - 1  # one place is left for all others
# Shares of the images that are told apart by their outlier score, the farthest first.
_STEPS = ((0.01, "the farthest 1 %"), (0.05, "to 5 %"), (0.2, "to 20 %"), (0.5, "to half"), (1.0, "the others"))


@dataclass(frozen=True)
class Points:
    """The map of one index.

    Attributes:
        id: changes when the points or their order do.
        paths: relative path of each point.
        xy: (n, 2) float32.
        folder: (n,) uint32, of each point the place in ``folders``.
        folders: sorted.
    """

    id: str
    paths: pl.Series
    xy: NDArray[np.float32]
    folder: NDArray[np.uint32]
    folders: list[str]


class Maps:
    """Keeps the points of the map that was asked for last."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._held: Points | None = None
        self._lock = threading.Lock()

    def of(self, index: SearchIndex) -> Points:
        """The points of an index's map.

        Raises:
            CurationError: there is none yet; the message says how to make it.
        """
        identity = _identity(index)
        with self._lock:
            if self._held is None or self._held.id != identity:
                self._held = self._read(index, identity)
            return self._held

    def _read(self, index: SearchIndex, identity: str) -> Points:
        of_index = index.rows.select("relative_path", "folder")
        points = self._searcher.map_of(index).select("relative_path", "x", "y")
        # A point whose image is gone since leads nowhere.
        points = points.join(of_index, on="relative_path", how="inner", maintain_order="left")
        folders = points["folder"].unique().sort().to_list()
        numbers = points["folder"].cast(pl.Enum(folders)).to_physical().cast(pl.UInt32).to_numpy()
        return Points(
            identity,
            points["relative_path"],
            np.ascontiguousarray(points.select("x", "y").to_numpy(), "<f4"),
            np.ascontiguousarray(numbers, "<u4"),
            folders,
        )


def labels_of(points: Points, labelled: pl.DataFrame, labels: list[str]) -> NDArray[np.uint8]:
    """(n,) of each point the place of its label in ``labels``.

    Args:
        labelled: relative_path and label, as ``Searcher.labels`` gives them.
    """
    place = pl.DataFrame({"label": labels, "place": pl.Series(range(len(labels)), dtype=pl.UInt8)})
    known = labelled.select("relative_path", "label").join(place, on="label")
    found = points.paths.to_frame().join(known, on="relative_path", how="left", maintain_order="left")
    return found["place"].fill_null(NO_LABEL).to_numpy()


@dataclass(frozen=True)
class Step:
    """What some points have in common.

    Attributes:
        condition: in SQL, that their images meet; None: it is too long for an address.
        others: how many values that are; 0: it is one.
    """

    label: str
    condition: str | None
    others: int = 0


def clusters_of(rows: pl.DataFrame) -> tuple[list[Step], NDArray[np.uint8]]:
    """The clusters of points, the largest first, and what is beyond the number there is for them.

    Args:
        rows: of each point ``cluster`` and ``cluster_name``, null where it isn't scored.

    Returns:
        Them, and (n,) of each point its place.
    """
    largest = rows.drop_nulls("cluster").group_by("cluster", "cluster_name").len()
    largest = largest.sort("len", "cluster", descending=[True, False])
    told = list(largest.select("cluster", "cluster_name").head(_MOST_VALUES).iter_rows())
    place = largest.select("cluster", place=pl.int_range(pl.len()).clip(0, _MOST_VALUES).cast(pl.UInt8))
    found = rows.join(place, on="cluster", how="left", maintain_order="left")["place"].fill_null(NO_LABEL)
    steps = [Step(f"{number}: {name}", f"cluster = {number}") for number, name in told]
    return steps + _others(len(largest) - _MOST_VALUES), found.to_numpy()


def values_of(values: pl.Series) -> tuple[list[Step], NDArray[np.uint8]]:
    """The values of a column of points, the most frequent first, and what is beyond the number there is for them.

    Args:
        values: (n,) text, null where a point has none; called as the column is in conditions.

    Returns:
        Them, and (n,) of each point its place.
    """
    counts = values.drop_nulls().value_counts().sort("count", values.name, descending=[True, False])
    told, rest = counts[values.name].head(_MOST_VALUES).to_list(), len(counts) - _MOST_VALUES
    steps = [Step(one, _is_value(values.name, one)) for one in told] + _others(rest)
    place = pl.DataFrame({values.name: told, "place": range(len(told))}, {values.name: pl.String, "place": pl.UInt8})
    found = values.to_frame().join(place, on=values.name, how="left", maintain_order="left")
    beyond = pl.when(pl.col(values.name).is_null()).then(NO_LABEL).otherwise(len(told)).cast(pl.UInt8)
    return steps, found.select(pl.col("place").fill_null(beyond))["place"].to_numpy()


def _others(number: int) -> list[Step]:
    return [Step(f"{number:,} others", None, number)] if number > 0 else []


def problems_of(rows: pl.DataFrame) -> tuple[list[Step], NDArray[np.uint8]]:
    """Kinds of problem of points, the most frequent first; then several at once, and none.

    Args:
        rows: of each point ``PROBLEM_COLUMNS``.

    Returns:
        Them, and (n,) of each point its place.
    """
    several, none = pl.lit("several problems"), pl.lit("no problem")
    told = rows.select(
        pl.when(pl.col(PROBLEMS).str.contains(", ", literal=True))
        .then(several)
        .when(pl.col(PROBLEMS).is_not_null())
        .then(PROBLEMS)
        .when(pl.col(_MEASURED).is_not_null())
        .then(none)
        .alias(PROBLEMS)
    )[PROBLEMS]
    conditions = {
        "several problems": f"{PROBLEMS} LIKE '%, %'",
        "no problem": f"{PROBLEMS} IS NULL AND {_MEASURED} IS NOT NULL",
    }
    steps, places = values_of(told)
    order = sorted(range(len(steps)), key=lambda at: (steps[at].label in conditions, steps[at].label == "no problem"))
    new = np.full(NO_LABEL + 1, NO_LABEL, np.uint8)
    new[order] = np.arange(len(order))
    kinds = [steps[at] for at in order]
    return [Step(one.label.replace("_", " "), conditions.get(one.label, one.condition)) for one in kinds], new[places]


def without(column: str) -> Step:
    """Points of which a column says nothing."""
    if column == PROBLEMS:
        return Step("not measured", f"{PROBLEMS} IS NULL AND {_MEASURED} IS NULL AND status = 'ok'")
    label = {CLUSTER: "in no cluster", OUTLIER: "not scored"}.get(column, "none")
    return Step(label, f"{_quoted(column)} IS NULL AND status = 'ok'")


def _quoted(column: str) -> str:
    return column if column.isidentifier() else f'"{column}"'


def _is_value(column: str, value: str) -> str | None:
    condition = is_equal(column, value)
    return condition if len(condition) <= MAX_CONDITION else None


def steps_of(rows: pl.DataFrame) -> tuple[list[Step], NDArray[np.uint8]]:
    """Steps of the outlier score of points, the farthest first; and (n,) of each point its place in them.

    Args:
        rows: of each point ``outlier_score``, null where it isn't scored.
    """
    scores = rows["outlier_score"].to_numpy().astype(np.float64)
    place = np.full(len(scores), NO_LABEL, np.uint8)
    known = np.isfinite(scores)
    if not known.any():
        return [], place
    limits = [round(float(np.quantile(scores[known], 1 - share)), 3) for share, _ in _STEPS]
    steps, above = [], ""
    for at, ((_, label), limit) in enumerate(zip(_STEPS, limits, strict=True)):
        least = limit if at < len(_STEPS) - 1 else 0.0
        steps.append(Step(f"{label}, from {least:g}", f"outlier_score >= {least:g}{above}"))
        place[known & (place == NO_LABEL) & (scores >= least)] = at
        above = f" AND outlier_score < {least:g}"
    return steps, place


def encoded(array: NDArray[Any]) -> str:
    """base64 of an array's bytes."""
    return base64.b64encode(array.tobytes()).decode()


def _identity(index: SearchIndex) -> str:
    if index.path is None:
        raise CurationError("there is no map of an earlier version of the table")
    made = image_map.version_of(image_map.location_of(index.path)) or 0
    return hashlib.sha256(f"{made} {index.info.rows_file} {index.info.built_at}".encode()).hexdigest()[:16]
