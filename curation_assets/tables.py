"""All Delta tables of one configuration, and what is asked of several of them or of a single image's rows."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.vectors import KEY, MODEL_COLUMNS, is_current
from curation_assets.lake.schemas import (
    ANNOTATIONS,
    CLUSTER_NAMES,
    COMPARED,
    DATASETS,
    DECISIONS,
    DIRECTORY,
    EMBEDDINGS,
    EXPORTS,
    GROUPS,
    LABEL_ISSUES,
    PAIRS,
    PREDICTIONS,
    QUALITY,
    SAMPLES,
    SCORES,
    ZERO_SHOT_LABELS,
    TableSpec,
)
from curation_assets.lake.snapshot import partitions_in_parts
from curation_assets.lake.table import LakeTable
from curation_assets.settings import Settings

_COUNTS = ("files", "ok", "bad", "embedded", "stale")
_BAD = ["relative_path", "status", "error"]


class Tables:
    """The tables; opening them is left to whoever reads or writes.

    Attributes:
        directory: a row for every image file.
        embeddings: a vector for every usable image and model version.
        zero_shot_labels: the label of every embedded image.
        quality: measures of every usable image.
        pairs: contents that are the same photograph or scene.
        compared: contents that were compared with all others.
        groups: images of the same bytes, photograph or scene.
        annotations: what sources say is on images.
        decisions: what people said of images.
        samples: images that were drawn to measure a kind of problem.
        cluster_names: names that people gave clusters.
        scores: outlier scores and clusters of every embedded image.
        predictions: what a classifier fitted to the annotations says of every embedded image.
        label_issues: labels and boxes that something speaks against.
        datasets: versions of datasets.
        exports: what was exported, and where to.
    """

    def __init__(self, settings: Settings) -> None:
        def of(name: str, spec: TableSpec) -> LakeTable:
            return LakeTable(settings.table_path(name), spec, settings.storage_options)

        self.directory = of(settings.directory_table, DIRECTORY)
        self.embeddings = of(settings.embeddings_table, EMBEDDINGS)
        self.zero_shot_labels = of(settings.labels_table, ZERO_SHOT_LABELS)
        self.quality = of(settings.quality_table, QUALITY)
        self.pairs = of(settings.pairs_table, PAIRS)
        self.compared = of(settings.compared_table, COMPARED)
        self.groups = of(settings.groups_table, GROUPS)
        self.annotations = of(settings.annotations_table, ANNOTATIONS)
        self.decisions = of(settings.decisions_table, DECISIONS)
        self.samples = of(settings.samples_table, SAMPLES)
        self.cluster_names = of(settings.cluster_names_table, CLUSTER_NAMES)
        self.scores = of(settings.scores_table, SCORES)
        self.predictions = of(settings.predictions_table, PREDICTIONS)
        self.label_issues = of(settings.label_issues_table, LABEL_ISSUES)
        self.datasets = of(settings.datasets_table, DATASETS)
        self.exports = of(settings.exports_table, EXPORTS)

    def with_others(self, others: Mapping[str, LakeTable]) -> Tables:
        """The same, but for some, by their attributes' names: as they were at a version, say."""
        found = copy.copy(self)
        for name, table in others.items():
            setattr(found, name, table)
        return found

    @property
    def there(self) -> list[LakeTable]:
        """Those that exist."""
        compared = (self.pairs, self.compared, self.groups)
        said = (self.annotations, self.decisions, self.samples, self.cluster_names)
        made = (self.quality, *compared, *said, self.scores, self.predictions, self.label_issues)
        put_out = (self.datasets, self.exports)
        every = (self.directory, self.embeddings, self.zero_shot_labels, *made, *put_out)
        return [table for table in every if table.exists()]

    def broken(self) -> list[dict[str, str]]:
        """Data files that a read of this process failed at: table, folder, file and reason of each."""
        found = []
        for table in self.there:
            for file, reason in table.latest().broken():
                found.append({"table": table.path.name, "folder": file.partition, "file": file.path, "reason": reason})
        return found

    def status(self, model: RegisteredModel | None) -> pl.DataFrame:
        """Counts of images by folder.

        Args:
            model: whose vectors count; None where none is registered, and then no image has one.

        Returns:
            folder, files, ok, bad, embedded, stale; ``stale`` are ok rows without a vector of their content.
        """
        images = self.directory.latest()
        vectors = self.embeddings.latest() if model is not None and self.embeddings.exists() else None
        ok, embedded = pl.col("status") == "ok", pl.col("_embedded").fill_null(False) & (pl.col("status") == "ok")
        counts = [pl.DataFrame(schema={"folder": pl.String} | dict.fromkeys(_COUNTS, pl.UInt32))]
        for folders in partitions_in_parts(images):
            columns = ["folder", "relative_path", "content_sha256", "status"]
            rows = images.read(columns, files=images.files_of(folders)).drop("_file")
            known = pl.DataFrame(schema=dict.fromkeys(KEY, pl.String))
            if vectors is not None and model is not None:
                known = vectors.read(KEY, files=vectors.files_of(folders), where=is_current(model)).select(KEY)
            joined = rows.join(known.with_columns(_embedded=pl.lit(True)), on=KEY, how="left")
            counts.append(
                joined.group_by("folder")
                .agg(
                    files=pl.len(),
                    ok=ok.sum(),
                    bad=(~ok).sum(),
                    embedded=embedded.sum(),
                    stale=(ok & ~embedded).sum(),
                )
                .sort("folder")
            )
        return pl.concat(counts)

    def coverage(self, models: Iterable[RegisteredModel]) -> tuple[int, dict[str, int]]:
        """How many usable images there are, and how many of them have a vector of each version.

        Returns:
            Images; and version → images with its vector.
        """
        images = pl.DataFrame(schema=dict.fromkeys(KEY, pl.String))
        if self.directory.exists():
            images = self.directory.latest().read([*KEY, "status"]).filter(pl.col("status") == "ok").select(KEY)
        if not self.embeddings.exists():
            return len(images), {model.version: 0 for model in models}
        vectors = self.embeddings.latest().read([*KEY, *MODEL_COLUMNS]).join(images, on=KEY, how="semi")
        return len(images), {model.version: len(vectors.filter(is_current(model))) for model in models}

    def unmeasured(self) -> int:
        """How many usable images have no row of their content in the quality table."""
        images = self.directory.latest()
        measured = self.quality.latest() if self.quality.exists() else None
        found = 0
        for folders in partitions_in_parts(images):
            rows = images.read([*KEY, "status"], files=images.files_of(folders)).filter(pl.col("status") == "ok")
            if measured is not None:
                rows = rows.join(measured.read(KEY, files=measured.files_of(folders)), on=KEY, how="anti")
            found += len(rows)
        return found

    def bad_files(self, folders: Iterable[str] | None = None) -> pl.DataFrame:
        """Rows whose status isn't ok: relative_path, status, error."""
        chosen = None if folders is None else pl.col("folder").is_in(list(folders))
        bad = pl.col("status") != "ok"
        rows = self.directory.latest().read([*_BAD, "folder"], where=bad if chosen is None else bad & chosen)
        return rows.select(_BAD).sort("relative_path")

    def content_version(self, folders: Iterable[str]) -> str:
        """32 hex digits over path, content, status and picture of some folders' rows: what embeddings depend on."""
        snapshot, digest = self.directory.latest(), hashlib.sha256()
        for folder in sorted(folders):
            columns = ["relative_path", "content_sha256", "status", "pixels_as"]
            rows = snapshot.read(columns, folder).select(columns)
            for *row, picture in rows.sort("relative_path").iter_rows():
                row += [picture] if picture is not None else []
                digest.update("\0".join(map(str, row)).encode() + b"\0")
        return digest.hexdigest()[:32]

    def known_paths(self) -> pl.DataFrame:
        """Columns folder, relative_path and file_path of the directory table; no rows where there is no table."""
        columns = ["folder", "relative_path", "file_path"]
        if not self.directory.exists():
            return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        return self.directory.latest().read(columns).drop("_file")

    def row(self, relative_path: str) -> dict[str, Any] | None:
        """One image's row of the directory table without the image itself; None if there is none."""
        columns = [c.name for c in DIRECTORY.columns if c.name not in ("image_base64", "preview")]
        found = self.directory.latest().read(columns, where=pl.col("relative_path") == relative_path)
        return found.drop("_file").row(0, named=True) if len(found) else None

    def pictures(self, paths: Iterable[str]) -> dict[str, tuple[str, bytes | None]]:
        """Of some images the full path and the preview, by relative path."""
        wanted = pl.Series("relative_path", sorted(set(paths)), dtype=pl.String)
        where = pl.col("relative_path").is_in(wanted.implode())
        rows = self.directory.latest().read(["relative_path", "file_path"], where=where)
        found: dict[str, tuple[str, bytes | None]] = {}
        for (file,), part in rows.group_by("_file"):
            previews = self.directory.cells(str(file), "preview", part["relative_path"].to_list())
            found |= {path: (where, previews.get(path)) for path, where in part.drop("_file").iter_rows()}
        return found

    def contents(self, paths: Iterable[str]) -> dict[str, str | None]:
        """SHA-256 of some images by relative path; those that have no row are left out."""
        wanted = pl.Series("relative_path", sorted(set(paths)), dtype=pl.String)
        if not len(wanted) or not self.directory.exists():
            return {}
        where = pl.col("relative_path").is_in(wanted.implode())
        found = self.directory.latest().read(["relative_path", "content_sha256"], where=where)
        return dict(found.drop("_file").iter_rows())

    def copies_of(self, row: dict[str, Any]) -> list[str]:
        """Relative paths of other images with the content of one, given by its row of the directory table; sorted."""
        if row["content_sha256"] is None:
            return []
        same = pl.col("content_sha256") == row["content_sha256"]
        found = self.directory.latest().read(["relative_path"], where=same)["relative_path"]
        return sorted(path for path in found if path != row["relative_path"])

    def vectors_of(self, relative_path: str) -> pl.DataFrame:
        """Vectors of an image: model_name, model_version, content_sha256, dimension, embedded_at of each."""
        if not self.embeddings.exists():
            return pl.DataFrame()
        columns = ["model_name", "model_version", "content_sha256", "embeddings", "embedded_at"]
        found = self.embeddings.latest().read(columns, where=pl.col("relative_path") == relative_path)
        return found.drop("_file").with_columns(dimension=pl.col("embeddings").list.len()).drop("embeddings")
