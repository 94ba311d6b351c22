"""The table of scores, brought in line with the vectors of one model version.

Whether it is in line is told by its rows alone: the same images with the same contents, made with the same method and
settings. All scores are functions of the set of images, so nothing is computed then.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.curate.duplicates.rows import merge_files, replace_rows
from curation_assets.curate.neighbours.stored import Neighbours, open_neighbours
from curation_assets.curate.neighbours.vectors import NodeVectors
from curation_assets.curate.scores.clusters import Clustering, cluster
from curation_assets.curate.scores.names import by_folders, by_labels
from curation_assets.curate.scores.outliers import outlier_scores, sample_size
from curation_assets.embed.vectors import MODEL_COLUMNS, is_current
from curation_assets.errors import CurationError
from curation_assets.images.listing import directories_of
from curation_assets.lake import hive
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import SCORES
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress
from curation_assets.search.index import SearchIndex

SCORES_VERSION = 1  # raised when a score or a name is computed otherwise
_METHOD = f"{SCORES_VERSION}-"
_COLUMNS = list(SCORES.arrow_schema.names)
_KEY = list(SCORES.key)
_IMAGE = ["relative_path", "content_sha256"]


@dataclass
class Scoring:
    """What bringing the scores in line did.

    Attributes:
        images: with a row now.
        clusters: how many there are now.
        scored: contents whose outlier score was computed; the others kept theirs.
        changed: rows that are new or other than before, and rows that went.
        laid_out: whether the clusters were laid out anew.
        index: whose images were scored.
    """

    images: int = 0
    clusters: int = 0
    scored: int = 0
    changed: int = 0
    laid_out: bool = False
    commits: int = 0
    version: int = -1
    seconds: float = 0.0
    index: SearchIndex | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Wanted:
    """What clusters are to be like.

    Attributes:
        clusters: how many; None: by the number of images.
        labels: texts that clusters are named by; none: by folder names.
        label_vectors: gives (labels, dimension), when they are needed.
        highest: number that a cluster ever had, as far as the table of scores may have forgotten it; -1: none. New
            clusters get higher ones.
    """

    clusters: int | None = None
    labels: Sequence[str] = ()
    label_vectors: Callable[[], NDArray[np.float32]] | None = None
    highest: int = -1

    @property
    def made_with(self) -> str:
        """The version of the method, and 12 hex digits of this."""
        said = json.dumps([self.clusters, list(self.labels)])
        return f"{_METHOD}{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def bring_scores_in_line(
    index: SearchIndex,
    graph: Neighbours,
    model: RegisteredModel,
    scores: LakeTable,
    wanted: Wanted,
    progress: Progress,
) -> Scoring:
    """Score and cluster the images of an index, and write what differs. Rows of other model versions go.

    Args:
        graph: of that very index.

    Raises:
        CurationError: the table can't be read or written.
    """
    started = time.perf_counter()
    result = Scoring(index=index)

    def work(change: Rewrite) -> None:
        images = images_of(index)
        known = images.filter(graph.node_of(images["content_sha256"].to_list()) >= 0)
        before = change.base.read(_COLUMNS).select(_COLUMNS)
        broken = [file for file, _ in change.base.broken()]
        result.images = len(known)
        if not broken and is_in_line(before, known, model, wanted):
            result.clusters = before["cluster"].n_unique()
            return
        rows = _scored(index, graph, known, before, model, wanted, result, progress)
        differing = rows.join(before, on=_COLUMNS, how="anti", nulls_equal=True).select(_KEY)
        gone = before.join(rows, on=_KEY, how="anti").select(_KEY)
        doubled = before.filter(pl.struct(_KEY).is_duplicated()).select(_KEY)  # by another writer
        changed = pl.concat([differing, gone, doubled]).unique()
        result.changed = len(changed)
        new = rows.join(changed, on=_KEY, how="semi", maintain_order="left")
        if own := change.base.added_columns:  # users' own, which stay with path and content
            of_users = change.base.read([*_IMAGE, *own]).drop("_file").unique(_IMAGE, keep="first")
            new = new.join(of_users, on=_IMAGE, how="left", maintain_order="left")
        result.commits += replace_rows(change, _KEY, changed, new, leaving=broken)
        result.commits += merge_files(change)

    result.version = rewrite(scores, hive.WHOLE, work, info={"job": "scores"}, progress=progress).version
    result.seconds = time.perf_counter() - started
    return result


def images_of(index: SearchIndex) -> pl.DataFrame:
    """Images of an index that have a vector: relative_path, content_sha256; sorted by path."""
    there = pl.col("position").is_not_null() & pl.col("content_sha256").is_not_null()
    return index.rows.filter(there).select(_IMAGE).sort("relative_path")


def is_in_line(rows: pl.DataFrame, images: pl.DataFrame, model: RegisteredModel, wanted: Wanted) -> bool:
    """Whether rows of the table are of these images as they are, of this model, and made like this.

    Args:
        rows: with ``relative_path``, ``content_sha256``, the model's columns and ``made_with``.
        images: with the first two; each path once.
    """
    right = {"model_name": model.name, "model_version": model.version, "model_fingerprint": model.fingerprint}
    right |= {"made_with": wanted.made_with}
    if len(rows) != len(images):
        return False
    same = pl.all_horizontal(pl.col(name).eq_missing(pl.lit(value)) for name, value in right.items())
    return len(images.join(rows.filter(same), on=_IMAGE, how="semi")) == len(images)


def scores_are_behind(index: SearchIndex, scores: Snapshot, model: RegisteredModel, wanted: Wanted) -> bool:
    """Whether :func:`bring_scores_in_line` would change something."""
    rows, images = scores.read([*_IMAGE, *MODEL_COLUMNS, "made_with"]), images_of(index)
    if scores.broken():
        return True
    if is_in_line(rows, images, model, wanted):
        return False
    graph = None
    with suppress(CurationError):  # damaged: it is made anew
        graph = None if index.path is None else open_neighbours(index.path)
    if graph is None or not graph.info.covers(index.info):
        return True
    # A vector whose components are no numbers is no node, and has no row.
    known = images.filter(graph.node_of(images["content_sha256"].to_list()) >= 0)
    return not is_in_line(rows, known, model, wanted)


def not_scored(index: SearchIndex, scores: LakeTable, model: RegisteredModel) -> int:
    """How many images of an index with a vector have no row of their content and this model."""
    images = images_of(index)
    if not scores.exists():
        return len(images)
    return len(images.join(scores.latest().read(_IMAGE, where=is_current(model)), on=_IMAGE, how="anti"))


def _scored(
    index: SearchIndex,
    graph: Neighbours,
    images: pl.DataFrame,
    before: pl.DataFrame,
    model: RegisteredModel,
    wanted: Wanted,
    result: Scoring,
    progress: Progress,
) -> pl.DataFrame:
    """The rows as they should be, in the order of their paths."""
    if not len(images):
        return SCORES_EMPTY
    positions = index.rows.filter(pl.col("position").is_not_null()).unique("content_sha256", keep="first")
    at = pl.DataFrame({"content_sha256": graph.contents}).join(
        positions.select("content_sha256", "position"), on="content_sha256", how="left", maintain_order="left"
    )
    vectors = NodeVectors(index.segments, at["position"].to_numpy().astype(np.int64))
    earlier = before.filter(is_current(model))
    earlier = at.select("content_sha256").join(
        earlier.unique("content_sha256", keep="first"), on="content_sha256", how="left", maintain_order="left"
    )
    outliers = _outliers(vectors, graph, before, earlier, result, progress)
    nearest = np.asarray(graph.cosines[:, 0], np.float32)
    uniqueness = np.where(np.isfinite(nearest), np.maximum(np.float32(1) - nearest, 0), np.nan)
    had = earlier["cluster"].fill_null(-1).to_numpy().astype(np.int32)
    later = earlier["came_later"].fill_null(value=False).to_numpy() & (had >= 0)
    made = cluster(vectors, had, later, wanted.clusters, progress, wanted.highest)
    result.laid_out, result.clusters = made.laid_out, len(made.centres)
    nodes = pl.DataFrame(
        {
            "content_sha256": graph.contents,
            "outlier_score": pl.Series(outliers, dtype=pl.Float32).fill_nan(None),
            "uniqueness": pl.Series(uniqueness, dtype=pl.Float32).fill_nan(None),
            "cluster": made.cluster,
            "cluster_distance": made.distance,
            "is_medoid": made.is_medoid,
            "came_later": made.came_later,
        }
    )
    rows = images.join(nodes, on="content_sha256", how="left", maintain_order="left")
    names = _names(rows, made, wanted)
    first = pl.col("relative_path").first().over("content_sha256")  # of copies of the medoid
    return rows.with_columns(
        model_name=pl.lit(model.name),
        model_version=pl.lit(model.version),
        model_fingerprint=pl.lit(model.fingerprint),
        cluster_name=pl.col("cluster").replace_strict(names, return_dtype=pl.String),
        is_medoid=pl.col("is_medoid") & (pl.col("relative_path") == first),
        made_with=pl.lit(wanted.made_with),
    ).select(_COLUMNS)


def _outliers(
    vectors: NodeVectors,
    graph: Neighbours,
    before: pl.DataFrame,
    earlier: pl.DataFrame,
    result: Scoring,
    progress: Progress,
) -> NDArray[np.float32]:
    """(nodes,) scores: where the sample is what it was, those of before stay.

    Args:
        earlier: rows of before, null where a node had none.
    """
    contents = graph.contents
    sample, near = sample_size(len(contents))
    # Rows of another method, of another model or written by somebody else don't show what the sample was.
    told = before["content_sha256"].unique().sort()
    kept = earlier["outlier_score"].to_numpy().astype(np.float32)
    same = (
        sample_size(len(told)) == (sample, near)
        and bool(before["made_with"].str.starts_with(_METHOD).all())
        and len(earlier["model_version"].drop_nulls().unique()) == before["model_version"].n_unique() == 1
        and told.head(sample).equals(contents.head(sample))
        and earlier["made_with"].head(sample).null_count() == 0
    )
    rows = np.flatnonzero(np.isnan(kept)) if same else np.arange(len(contents), dtype=np.int64)
    result.scored = len(rows)
    found = kept.copy() if same else np.full(len(contents), np.nan, np.float32)
    found[rows] = outlier_scores(vectors, rows, progress)
    return found


def _names(rows: pl.DataFrame, made: Clustering, wanted: Wanted) -> dict[int, str]:
    if wanted.labels and wanted.label_vectors is not None:
        return by_labels(made.centres, wanted.labels, wanted.label_vectors())
    return by_folders(rows.select("cluster", folder=directories_of(rows["relative_path"])))


SCORES_EMPTY = pl.DataFrame(schema=pl.Schema(SCORES.arrow_schema.remove_metadata()))
