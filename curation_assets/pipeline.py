"""One configuration put together: its tables, its models, and the jobs on a folder with the settings applied.

What the Dagster assets, the ``curation`` command and the gallery all build on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from curation_assets.clip.encoders import Encoders
from curation_assets.clip.registry import Registry
from curation_assets.clip.selection import ModelSelection
from curation_assets.clip.versions import RegisteredModel
from curation_assets.decisions.record import read_decisions
from curation_assets.embed.job import Engine, embed_folders
from curation_assets.embed.known import KnownContents
from curation_assets.embed.local import LocalEngine
from curation_assets.embed.result import EmbedResult
from curation_assets.embed.vectors import MODEL_COLUMNS
from curation_assets.errors import CurationError
from curation_assets.images.listing import TreeListing
from curation_assets.images.record import ReadLimits
from curation_assets.images.source import ImageSource, LocalTree
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress
from curation_assets.scan.changes import FolderChange, folder_changes
from curation_assets.scan.job import scan_folders
from curation_assets.scan.prune import PruneQuestion, prune_question
from curation_assets.scan.result import ScanResult
from curation_assets.settings import Settings
from curation_assets.stores.volumes import VolumeAddress, needed, unmounted
from curation_assets.tables import Tables
from curation_assets.workspace import is_configured

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from curation_assets.annotations.configured import Followed
    from curation_assets.annotations.record import Import
    from curation_assets.annotations.sources import Source
    from curation_assets.curate.duplicates.candidates import NeighbourLists
    from curation_assets.curate.duplicates.comparison import Comparison
    from curation_assets.curate.duplicates.grouping import Grouping
    from curation_assets.curate.duplicates.judging import Thresholds as Agreements
    from curation_assets.curate.duplicates.overview import Duplicates
    from curation_assets.curate.duplicates.spark import SparkVerification
    from curation_assets.curate.evidence import Evidence
    from curation_assets.curate.findings import Findings
    from curation_assets.curate.labels.examples import Examples
    from curation_assets.curate.labels.issues import LabelIssues
    from curation_assets.curate.labels.not_told import Lacking
    from curation_assets.curate.labels.overview import Said
    from curation_assets.curate.labels.predicting import Predictions
    from curation_assets.curate.leaks import Leaks
    from curation_assets.curate.neighbours.spark import SparkLists
    from curation_assets.curate.neighbours.stored import Neighbours
    from curation_assets.curate.problems import Thresholds
    from curation_assets.curate.quality import QualityResult
    from curation_assets.curate.scores.scoring import Scoring, Wanted
    from curation_assets.curate.spark import SparkMeasuring
    from curation_assets.datasets.changes.moments import Moment
    from curation_assets.datasets.making import Outcome
    from curation_assets.datasets.mining.mining import Asked, Mined
    from curation_assets.datasets.recipe import Recipe
    from curation_assets.export.archive import ArchiveTarget
    from curation_assets.export.exporting import Exported, ImagesWritten
    from curation_assets.export.protocol import Content, Options
    from curation_assets.export.store_staging import StoreTarget
    from curation_assets.export.targets import Target
    from curation_assets.scan.spark import SparkScan
    from curation_assets.search.image_map import MapRefresh
    from curation_assets.search.index import SearchIndex
    from curation_assets.search.refresh import IndexRefresh
    from curation_assets.search.searcher import Searcher
    from curation_assets.search.zero_shot_table import LabelResult
    from curation_assets.stores.address import StoreAddress


_OF_TABLES = ("searcher", "findings", "leaks")  # cached properties that hold tables


def _source(settings: Settings) -> ImageSource:
    """Where the photographs lie."""
    root = settings.images_root
    if isinstance(root, Path) and (volume := unmounted(root)) is not None and is_configured():
        root = volume
    if isinstance(root, Path):
        return LocalTree(root, settings.depth, settings.walk_rules)
    from curation_assets.images.store_tree import StoreTree
    from curation_assets.stores.keys import keys_at

    return StoreTree(keys_at(root, settings.storage_options), settings.depth, settings.walk_rules)


class Pipeline:
    """The composition root.

    Args:
        settings: names, paths and limits.
        own_registry: keep to the registry beside the lake, whatever MLflow's variables say.
        spark: gives the session for ``ENGINE=spark``; None opens one when it is needed.

    Attributes:
        tables: all of the lake.
        source: where the photographs lie.
        encoders: of the model versions, loaded when they are first used.
        is_now: whether its tables are the lake's, at their newest versions.
    """

    def __init__(
        self, settings: Settings, own_registry: bool = False, spark: Callable[[], SparkSession] | None = None
    ) -> None:
        self.settings = settings
        self.tables = Tables(settings)
        self.source = _source(settings)
        self._registry_arguments = (settings.registered_model, settings.mlflow_dir, own_registry)
        self.encoders = Encoders(
            self._registry_arguments,
            settings.device,
            settings.precision,
            settings.images_a_batch,
            settings.decode_options,
        )
        self._spark = spark
        self._limits = ReadLimits(
            settings.store_images,
            settings.max_pixels,
            settings.max_file_bytes,
            settings.bands,
            settings.decode_seconds,
        )
        self._known: KnownContents | None = None
        self.is_now = True

    @cached_property
    def registry(self) -> Registry:
        """The model registry."""
        name, folder, own = self._registry_arguments
        return Registry(name, folder, own=own, artifacts=self._artifacts)

    @property
    def _artifacts(self) -> str | None:
        place = self.settings.artifacts_root
        return None if place is None else place.as_uri()

    @cached_property
    def selection(self) -> ModelSelection:
        """Which of its versions is used."""
        return ModelSelection(self.registry, self.settings.model_source)

    @cached_property
    def searcher(self) -> Searcher:
        """Finds images by words, by example and by looking."""
        from curation_assets.annotations.columns import AnnotationSource
        from curation_assets.curate.columns import (
            GroupSource,
            IssueSource,
            ProblemSource,
            ScoreSource,
            quality_source,
        )
        from curation_assets.curate.labels.columns import PredictionSource
        from curation_assets.datasets.columns import DatasetSource
        from curation_assets.review.columns import DecidedSource
        from curation_assets.search.attachments import warning_source
        from curation_assets.search.searcher import Searcher
        from curation_assets.search.zero_shot_table import label_source

        return Searcher(
            self.tables.directory,
            self.tables.embeddings,
            self.registry,
            self.encoders.load,
            self.settings.index_dir,
            self.settings.search_exact_vectors,
            [
                label_source(self.tables.zero_shot_labels),
                quality_source(self.tables.quality),
                ProblemSource(self.tables.quality, self.thresholds, self.tables.decisions, self.findings),
                IssueSource(self.tables.label_issues),
                ScoreSource(self.tables.scores, self.tables.cluster_names),
                GroupSource(self.tables.groups),
                PredictionSource(self.tables.predictions),
                AnnotationSource(
                    self.tables.annotations, self.tables.decisions, self.tables.pairs, self.annotation_order
                ),
                DecidedSource(self.tables.decisions),
                DatasetSource(self.tables.datasets),
                warning_source(self.tables.directory),
            ],
            self.settings.index_mirror,
        )

    @cached_property
    def thresholds(self) -> Thresholds:
        """From which score on an image has a problem."""
        from curation_assets.curate.problems import thresholds

        return thresholds(self.settings.problem_thresholds)

    @cached_property
    def findings(self) -> Sequence[Findings]:
        """What other tables than that of quality tell of problems."""
        from curation_assets.curate.findings import IssuesOfLabels, OutlierScores

        return OutlierScores(self.tables.scores), IssuesOfLabels(self.tables.label_issues), self.leaks

    @cached_property
    def leaks(self) -> Leaks:
        """What lies on two sides of the splits that count of the annotations."""
        from curation_assets.curate.leaks import Leaks

        return Leaks(self.tables, self.annotation_order, self.settings.keeper_order)

    @cached_property
    def agreements(self) -> Agreements:
        """From which agreement on two pictures are the same photograph, or one scene."""
        from curation_assets.curate.duplicates.judging import Thresholds

        given = self.settings
        return Thresholds(
            given.near_agreement, given.burst_agreement, given.burst_agreement_alone, given.burst_likeness
        )

    def with_tables(self, others: Mapping[str, LakeTable]) -> Pipeline:
        """The same, but for some tables, by the names of ``Tables``: for reading a lake as it was."""
        found = copy.copy(self)
        found.is_now = False
        found.tables = self.tables.with_others(others)
        for name in _OF_TABLES:
            found.__dict__.pop(name, None)
        return found

    def folder_changes(self, tree: TreeListing) -> list[FolderChange]:
        """Folders of a listed tree that differ from the directory table, and those of the table that are gone."""
        directory = self.tables.directory
        table = directory.latest() if directory.exists() else None
        return folder_changes(tree, table, self.source, self._limits)

    def prune_question(
        self, tree: TreeListing, folders: Iterable[str], *, is_whole: bool = True
    ) -> PruneQuestion | None:
        """Rows that should not go without a question, though their files are gone.

        Args:
            folders: to look at; those that match their rows need not be.
            is_whole: whether all of the tree was listed.
        """
        directory = self.tables.directory
        if not directory.exists():
            return None
        return prune_question(tree, directory.latest(), self.source, list(folders), is_whole=is_whole)

    def scan(
        self,
        folders: Iterable[str],
        progress: Progress,
        *,
        rescan: bool = False,
        repair: bool = False,
        staying: pl.DataFrame | None = None,
    ) -> list[ScanResult]:
        """Bring the rows of some folders in line with the disk; a folder that is gone loses its rows.

        Args:
            rescan: read every file again, and repair.
            repair: replace data files of the table that can't be read, in place of leaving such a folder as it is.
            staying: rows that stay although their files are gone.
        """
        self.tables.directory.create()
        return scan_folders(
            self.tables.directory,
            self.source,
            list(folders),
            self._limits,
            progress,
            threads=self.settings.worker_threads,
            rescan=rescan,
            repair=repair,
            spark=self._spark_scan,
            staying=staying,
        )

    def scan_one(self, folder: str, progress: Progress) -> ScanResult:
        """The same of one folder.

        Raises:
            CurationError: also where it was left as it is.
        """
        (result,) = self.scan([folder], progress)
        return result.checked()

    def embed_all(
        self,
        folders: Iterable[str],
        model: RegisteredModel,
        progress: Progress,
        earlier: Snapshot | None = None,
        *,
        repair: bool = False,
    ) -> list[EmbedResult]:
        """Bring the embeddings of some folders in line with their rows, for one model version.

        Args:
            earlier: an older snapshot of the embeddings, whose vectors may be copied too.
            repair: replace data files of the table that can't be read, in place of leaving such a folder as it is.
        """
        tables = self.tables
        tables.embeddings.create()
        if self._known is None or self._known.model != model:
            self._known = KnownContents(model)
        return embed_folders(
            tables.directory,
            tables.embeddings,
            list(folders),
            model,
            self._engine,
            progress,
            earlier=earlier,
            known=self._known,
            repair=repair,
        )

    def embed(
        self, folder: str, model: RegisteredModel, progress: Progress, earlier: Snapshot | None = None
    ) -> EmbedResult:
        """The same of one folder.

        Raises:
            CurationError: also where it was left as it is.
        """
        (result,) = self.embed_all([folder], model, progress, earlier)
        return result.checked()

    def measure(self, folders: Iterable[str], progress: Progress, *, repair: bool = False) -> list[QualityResult]:
        """Bring the quality rows of some folders in line with their images.

        Args:
            repair: replace data files of the table that can't be read, in place of leaving such a folder as it is.
        """
        from curation_assets.curate.quality import measure_folders

        tables = self.tables
        tables.quality.create()
        return measure_folders(
            tables.directory,
            tables.quality,
            self.source,
            list(folders),
            self.settings.decode_options,
            progress,
            threads=self.settings.worker_threads,
            repair=repair,
            spark=self._spark_measuring,
        )

    def measure_all(self, progress: Progress, *, repair: bool = False) -> list[QualityResult]:
        """The same of every folder that is behind."""
        from curation_assets.curate.quality import folders_behind

        tables = self.tables
        tables.quality.create()
        return self.measure(folders_behind(tables.directory.latest(), tables.quality.latest()), progress, repair=repair)

    def compare_all(self, progress: Progress) -> Duplicates:
        """Bring pairs and groups of images in line: what is the same photograph, or the same scene."""
        from curation_assets.curate.duplicates.overview import Duplicates

        return Duplicates(self.compare(progress), self.group(progress))

    def compare(self, progress: Progress) -> Comparison:
        """Bring the pairs in line.

        With the neighbours of the champion, as far as its search index goes.

        Raises:
            CurationError: a table can't be read or written; what was finished stays.
        """
        from curation_assets.curate.duplicates.comparison import compare_contents

        tables, settings = self.tables, self.settings
        for table in (tables.pairs, tables.compared):
            table.create()
        return compare_contents(
            tables.directory,
            tables.pairs,
            tables.compared,
            settings.pictures_dir,
            self.agreements,
            progress,
            threads=settings.worker_threads,
            neighbours=self._neighbour_lists(progress),
            spark=self._spark_verification,
        )

    def group(self, progress: Progress) -> Grouping:
        """Form the groups anew of the pairs and of what people said."""
        from curation_assets.curate.duplicates.grouping import bring_groups_in_line

        tables = self.tables
        tables.pairs.create()
        tables.groups.create()
        return bring_groups_in_line(
            tables.directory,
            tables.pairs,
            tables.quality,
            tables.annotations,
            tables.groups,
            read_decisions(tables.decisions),
            self.settings.keeper_order,
            progress,
        )

    def _neighbour_lists(self, progress: Progress) -> NeighbourLists | None:
        """Whom the champion's vectors bring together; None where nothing is embedded or indexed."""
        from curation_assets.curate.duplicates.candidates import BY_NEIGHBOURS, NeighbourLists

        if (found := self._graph(progress)) is None:
            return None
        model, _, graph = found
        return NeighbourLists(graph.contents, *graph.distinct(BY_NEIGHBOURS), model.version, model.fingerprint)

    def _graph(self, progress: Progress) -> tuple[RegisteredModel, SearchIndex, Neighbours] | None:
        """The champion, its index, and the graph of neighbours in line with that; None: nothing embedded or indexed."""
        from curation_assets.curate.neighbours.refresh import refresh_neighbours

        if (found := self.champion_index()) is None:
            return None
        exact, spark = self.settings.search_exact_vectors, self._spark_lists
        done = refresh_neighbours(found[1], progress, exact_vectors=exact, spark=spark)
        if done.changed:
            self.searcher.share_index(found[0])
        return *found, done.neighbours

    def champion_index(self) -> tuple[RegisteredModel, SearchIndex] | None:
        """The champion, and its search index as far as it goes; None where nothing is embedded or indexed."""
        from curation_assets.search.index import SearchIndex

        if not self.tables.embeddings.exists() or (model := self.selection.current()) is None:
            return None
        index = SearchIndex.open(self.searcher.location_of(model))
        return None if index is None or not index.info.is_of(model) else (model, index)

    def refresh_index(self, progress: Progress) -> IndexRefresh | None:
        """Bring the champion's search index in line with the tables, or build it; None where nothing is embedded.

        Raises:
            CurationError: no image has a vector of the champion, or the index can't be written.
        """
        if not self.tables.embeddings.exists() or self.selection.current() is None:
            return None
        return self.searcher.refresh(progress)

    def refresh_map(self, progress: Progress) -> tuple[SearchIndex, MapRefresh]:
        """Bring the map in line with the champion's search index, and that with the tables.

        Raises:
            CurationError: nothing is embedded yet, or one of them can't be written.
        """
        from curation_assets.search import image_map

        index = self.searcher.refresh(progress).index
        done = image_map.refresh(index, progress)
        self.searcher.share_index(self.searcher.model(index.info.model_version))
        return index, done

    def score(self, progress: Progress) -> Scoring | None:
        """Bring outlier scores and clusters in line with the champion's vectors, as far as its search index goes.

        Returns:
            What was done; None where nothing is embedded or indexed.

        Raises:
            CurationError: a table can't be read or written, or ``LABELS`` are not texts that can be chosen between.
        """
        from curation_assets.curate.scores.given_names import highest_named
        from curation_assets.curate.scores.scoring import bring_scores_in_line

        if (found := self._graph(progress)) is None:
            return None
        model, index, graph = found
        self.tables.scores.create()
        wanted = replace(self.wanted_clusters(model), highest=highest_named(self.tables.cluster_names, model))
        return bring_scores_in_line(index, graph, model, self.tables.scores, wanted, progress)

    def scores_are_behind(self) -> bool:
        """Whether :meth:`score` would do something, as far as the champion's search index goes."""
        from curation_assets.curate.scores.scoring import scores_are_behind

        if (found := self.champion_index()) is None:
            return False
        model, index = found
        if not self.tables.scores.exists():
            return index.info.vectors > 0
        return scores_are_behind(index, self.tables.scores.latest(), model, self.wanted_clusters(model))

    def not_scored(self) -> int:
        """How many images with a vector have no outlier score and cluster, as far as the champion's search index goes.

        Raises:
            CurationError: the index or the table can't be read.
        """
        from curation_assets.curate.scores.scoring import not_scored

        found = self.champion_index()
        return 0 if found is None else not_scored(found[1], self.tables.scores, found[0])

    def scores_of(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Outlier score and cluster of an image, given by its row of the directory table, and its nearest others.

        None where it isn't scored. ``neighbours`` are ``relative_path`` and ``cosine`` of each, nearest first.
        """
        from curation_assets.curate.columns import SCORE_COLUMNS
        from curation_assets.curate.scores.given_names import as_named, read_names

        columns = [*SCORE_COLUMNS, "is_medoid"]
        if self.tables.scores.newest_version() < 1:
            return None
        is_it = (pl.col("relative_path") == row["relative_path"]) & (pl.col("content_sha256") == row["content_sha256"])
        rows = self.tables.scores.latest().read([*columns, *MODEL_COLUMNS], where=is_it)
        if not len(rows):
            return None
        near = self.nearest([row["relative_path"]]).get(row["relative_path"], [])
        told = [{"relative_path": path, "cosine": cosine} for path, cosine in near]
        rows = as_named(rows, read_names(self.tables.cluster_names))
        return rows.select(columns).row(0, named=True) | {"neighbours": told}

    def classify(self, progress: Progress, field: str | None = None) -> Predictions | None:
        """Bring the predictions in line with annotations and the champion's vectors, as far as its search index goes.

        Args:
            field: of the annotations; None: every one.

        Returns:
            What was done; None where nothing is embedded or indexed.

        Raises:
            CurationError: a table can't be read or written, or no annotation is of the field.
        """
        from curation_assets.curate.labels.predicting import Predictions, bring_predictions_in_line, told_of

        if (found := self.champion_index()) is None:
            return None
        model, index = found
        examples = self.examples(index)
        names = [each.field for each in examples]
        if field is not None and field not in names:
            raise CurationError(f"no image has an annotation of {field!r}; there are {', '.join(names) or 'none'}")
        table = self.tables.predictions
        if not table.exists() and all(each.why_not for each in examples if field in (None, each.field)):
            return Predictions([told_of(each) for each in examples if field in (None, each.field)])
        table.create()
        return bring_predictions_in_line(index, model, table, examples, progress, only=field)

    def examples(self, index: SearchIndex) -> list[Examples]:
        """Of every field of annotations what a classifier is fitted to.

        Args:
            index: whose images have vectors.
        """
        from curation_assets.curate.labels.examples import read_examples
        from curation_assets.curate.scores.scoring import images_of

        tables = self.tables
        images = tables.directory.latest().read(["relative_path", "content_sha256"]).drop("_file")
        said = tables.annotations, tables.decisions, tables.pairs
        return read_examples(*said, self.annotation_order, images, images_of(index))

    def predictions_are_behind(self) -> bool:
        """Whether :meth:`classify` would do something, as far as the champion's search index goes."""
        from curation_assets.curate.labels.predicting import predictions_are_behind

        if (found := self.champion_index()) is None:
            return False
        model, index = found
        examples = self.examples(index)
        if not self.tables.predictions.exists():
            return any(each.why_not is None for each in examples)
        return predictions_are_behind(index, self.tables.predictions.latest(), model, examples)

    def said_of_labels(self) -> Said:
        """What counts of labels now, and what people decided: what reports of predictions need besides.

        Raises:
            CurationError: a table can't be read.
        """
        from curation_assets.annotations.columns import counting_labels
        from curation_assets.curate.labels.overview import Said

        tables = self.tables
        images = pl.DataFrame(schema={"relative_path": pl.String, "content_sha256": pl.String})
        if tables.directory.exists():
            images = tables.directory.latest().read(images.columns).select(images.columns)
        counts = counting_labels(tables.annotations, tables.decisions, tables.pairs, self.annotation_order, images)
        return Said(counts, read_decisions(tables.decisions))

    def why_not_classified(self) -> list[str]:
        """Of each field of which no classifier can be fitted why; none where nothing is embedded, indexed or labelled.

        Raises:
            CurationError: index or a table can't be read.
        """
        if (found := self.champion_index()) is None:
            return []
        return [each.why_not for each in self.examples(found[1]) if each.why_not is not None]

    def predictions_of(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """What classifiers say of an image, given by its row of the directory table.

        Returns:
            ``field``, ``predicted``, ``confidence``, ``label``, ``label_quality`` and ``suggested`` of each field.
        """
        columns = ["field", "predicted", "confidence", "label", "label_quality", "suggested"]
        if self.tables.predictions.newest_version() < 1:
            return []
        is_it = (pl.col("relative_path") == row["relative_path"]) & (pl.col("content_sha256") == row["content_sha256"])
        return self.tables.predictions.latest().read(columns, where=is_it).select(columns).sort("field").to_dicts()

    def nearest(self, paths: Iterable[str]) -> dict[str, list[tuple[str, float]]]:
        """Of some images the nearest others by the champion's vectors: relative path and cosine of each.

        Nothing where index or graph can't be read: it only shows what stands beside, and the next run makes them anew.
        """
        from curation_assets.curate.scores.overview import nearest_of

        with suppress(CurationError):
            found = self.champion_index()
            return {} if found is None else nearest_of(found[1], paths)
        return {}

    def wanted_clusters(self, model: RegisteredModel) -> Wanted:
        """How many clusters the settings ask for, and what they are named by."""
        from curation_assets.curate.scores.scoring import Wanted
        from curation_assets.search.zero_shot import check_labels

        labels = check_labels(self.settings.labels) if self.settings.labels else []
        return Wanted(self.settings.clusters, labels, lambda: self.searcher.embed_texts(labels, model))

    def judged_rows(self, limits: Thresholds | None = None) -> pl.DataFrame:
        """Every measured image with the verdicts of all kinds of problem.

        Args:
            limits: in place of the settings' thresholds.

        Raises:
            CurationError: nothing is measured yet, or a table can't be read.
        """
        from curation_assets.curate.overview import judged_rows

        return judged_rows(self.tables.quality, limits or self.thresholds, self.tables.decisions, self.findings)

    def quality_of(self, row: dict[str, Any]) -> dict[str, Any] | None:
        """Measures of an image, given by its row of the directory table, and the names of its problems.

        What a person decided to keep has none. None where it isn't measured.
        """
        from curation_assets.curate.columns import QUALITY_COLUMNS
        from curation_assets.curate.overview import as_decided
        from curation_assets.curate.problems import KINDS

        if self.tables.quality.newest_version() < 1:
            return None
        rows = as_decided(self.judged_rows()).filter(
            pl.col("relative_path").eq(row["relative_path"]) & pl.col("content_sha256").eq(row["content_sha256"])
        )
        if not len(rows):
            return None
        found = rows.row(0, named=True)
        return {name: found[name] for name in QUALITY_COLUMNS} | {"problems": [n for n in KINDS if found[n]]}

    @property
    def annotation_order(self) -> list[str]:
        """Sources of annotations that ``ANNOTATIONS`` names, the first counts most."""
        return [source.name for source in self.settings.annotations]

    @property
    def has_annotations(self) -> bool:
        """Whether there is something to follow."""
        return bool(self.settings.annotations) or self.tables.annotations.exists()

    @property
    def has_labels(self) -> bool:
        """Whether there may be something that classifiers are fitted to, or were."""
        tables = self.tables
        return tables.annotations.exists() or tables.decisions.exists() or tables.predictions.newest_version() > 0

    def annotate(self, source: Source, progress: Progress, *, add: bool = False, dry_run: bool = False) -> Import:
        """Bring the annotations of a source in line with what it says.

        Args:
            add: what it said of other images before stays.
            dry_run: only say what would be done.

        Raises:
            CurationError: something of the source is wrong, or a table can't be read or written; nothing is imported.
        """
        from curation_assets.annotations.record import put, rows_of
        from curation_assets.annotations.sources import read_source

        tables = self.tables
        images = tables.directory.latest()
        said = read_source(source, images)
        is_stored = source.orientation == "stored"
        rows = rows_of(said, images, str(self.settings.images_root), source.name, is_stored=is_stored)
        done = put(tables.annotations, source.name, rows, progress, add=add, dry_run=dry_run)
        done.notes += said.notes
        return done

    def follow_annotations(self, progress: Progress) -> Followed:
        """Let annotations go where their images were moved to, and read the sources of the setting again if need be.

        Raises:
            CurationError: a table can't be read or written. What is wrong with a source is in ``failed``.
        """
        from curation_assets.annotations.configured import follow_sources

        tables, settings = self.tables, self.settings
        return follow_sources(
            tables.directory,
            tables.annotations,
            settings.annotations,
            str(settings.images_root),
            settings.annotations_note,
            progress,
            self._is_settled,
        )

    def _is_settled(self) -> bool:
        """Whether the directory table is as the disk is; no where that can't be told."""
        try:
            tree = self.source.list_folders()
            return not tree.unlisted and not self.folder_changes(tree)
        except (CurationError, OSError):
            return False

    def evidence(self, kind: str, rows: pl.DataFrame) -> dict[str, Evidence]:
        """What speaks for a kind of problem of some images, by relative path; see ``curate.evidence``.

        Args:
            rows: of :meth:`judged_rows`.
        """
        from curation_assets.curate.evidence import evidence_of

        return evidence_of(kind, rows, self.tables, self.annotation_order, self.leaks, self.nearest)

    def label_issues_of(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """What speaks against labels and boxes of an image, given by its row of the directory table.

        Returns:
            ``evidence.ISSUE_COLUMNS`` of each.
        """
        from curation_assets.curate.evidence import ISSUE_COLUMNS

        if self.tables.label_issues.newest_version() < 1:
            return []
        is_it = (pl.col("relative_path") == row["relative_path"]) & (pl.col("content_sha256") == row["content_sha256"])
        rows = self.tables.label_issues.latest().read(ISSUE_COLUMNS, where=is_it)
        return rows.select(ISSUE_COLUMNS).sort("field", "kind").to_dicts()

    def annotations_of(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """What sources say of an image, given by its row of the directory table; and what people decided of its labels.

        Returns:
            ``field``, ``source``, ``values``, ``split``, ``boxes`` of each, by field the first that counts before
            others; ``counts`` tells whether its values do. A decision's source is ``decided``.
        """
        from curation_assets.annotations.columns import near_pairs
        from curation_assets.annotations.record import read_rows
        from curation_assets.annotations.standing import counting, in_order

        path, content = row["relative_path"], row["content_sha256"]
        rows = read_rows(
            self.tables.annotations, pl.col("relative_path").eq(path) & pl.col("content_sha256").eq(content)
        )
        decisions = read_decisions(self.tables.decisions)
        near = near_pairs(self.tables.pairs) if len(decisions.relabelled()) else None
        images = pl.DataFrame({"relative_path": [path], "content_sha256": [content]})
        found: list[dict[str, Any]] = []
        for best in counting(rows, self.annotation_order, images, decisions, near).iter_rows(named=True):
            mine = {said["source"]: said for said in rows.filter(pl.col("field") == best["field"]).to_dicts()}
            said = [mine[name] for name in in_order(list(mine), self.annotation_order)]
            if best["source"] is not None and best["source"] not in mine:
                said = [best | {"split": None, "boxes": None}, *said]
            columns = ("field", "source", "values", "split", "boxes")
            found += [{n: one[n] for n in columns} | {"counts": one["source"] == best["source"]} for one in said]
        return found

    def find_label_issues(self, progress: Progress) -> LabelIssues | None:
        """Bring the label issues in line with annotations, decisions, groups and predictions.

        Returns:
            What was done; None where there are no annotations.

        Raises:
            CurationError: a table can't be read or written.
        """
        from curation_assets.curate.labels.issues import bring_label_issues_in_line
        from curation_assets.curate.problems import MISLABELLED

        tables = self.tables
        if not tables.annotations.exists() or not tables.directory.exists():
            return None
        tables.label_issues.create()
        note, limit = self.settings.label_issues_note, self.thresholds[MISLABELLED]
        return bring_label_issues_in_line(tables, self.annotation_order, note, progress, limit)

    def label_issues_behind(self) -> int:
        """How many rows of the label issues :meth:`find_label_issues` would write or let go.

        Raises:
            CurationError: a table can't be read.
        """
        from curation_assets.curate.labels.issues import label_issues_behind
        from curation_assets.curate.problems import MISLABELLED

        note, limit = self.settings.label_issues_note, self.thresholds[MISLABELLED]
        return label_issues_behind(self.tables, self.annotation_order, note, limit)

    def build_dataset(
        self,
        recipe: Recipe,
        progress: Progress,
        *,
        dry_run: bool = False,
        fresh: bool = False,
        override: dict[str, str] | None = None,
    ) -> Outcome:
        """Build a recipe on the tables as they are and, if its gate holds, publish a version.

        Of tables as they were (:meth:`with_tables`) nothing is published, and each is taken as it stands.

        Args:
            dry_run: only say what it would be.
            fresh: don't hold to what the last version kept, and where.
            override: conditions of the gate that may fail this once → why.

        Raises:
            CurationError: the recipe doesn't fit the lake, the tables are behind, or one can't be read or written.
        """
        from curation_assets.curate.problems import KINDS, OUTLIER, thresholds
        from curation_assets.datasets.making import Lake, make

        if not self.is_now and not dry_run:
            raise ValueError("what is built of earlier tables is not published")
        if self.is_now and recipe.needs_label_issues and self.label_issues_behind():
            raise CurationError("label issues are not as they would be now; `curation curate` brings them in line")
        asks_scores = OUTLIER in recipe.leave_out.kinds or recipe.subset.is_by_vectors
        if self.is_now and asks_scores and self.scores_are_behind():
            raise CurationError("outlier scores are not as they would be now; `curation curate` brings them in line")
        lake = Lake(
            self.tables,
            self.searcher,
            self.source,
            self.annotation_order,
            self.agreements,
            self.settings.worker_threads,
            lambda limits: self.judged_rows(thresholds(self.settings.problem_thresholds | limits)),
            {kind: self.thresholds[kind] for kind in KINDS},
        )
        self.searcher.open()
        self._graph(progress)  # in line, so that the same is sampled on a copy of the lake
        outcome = make(recipe, lake, progress, dry_run=dry_run, fresh=fresh, override=override)
        if outcome.published is not None:
            try:
                outcome.run_id = self.log_version(recipe.name, outcome.published.version)
            except CurationError as error:  # the version is there all the same; the next build logs it
                outcome.not_logged = str(error)
        return outcome

    def log_version(self, dataset: str, version: int) -> str:
        """Log a published version in MLflow as a dataset, once; gives the id of its run.

        Raises:
            CurationError: there is no such version, or MLflow can't be reached or written.
        """
        from curation_assets.clip.connection import Connection
        from curation_assets.datasets.versions import read_manifest, versions
        from curation_assets.tracking.published import log_version

        _, folder, own = self._registry_arguments
        table = self.tables.datasets
        (told,) = [each for each in versions(table, dataset) if each.version == version]
        manifest, cards = read_manifest(table, dataset, version), self.version_card(dataset, version)
        return log_version(Connection(folder, own, self._artifacts), told, table.path, manifest, cards)

    def empty_cards(self, versions: Collection[tuple[str, int]]) -> None:
        """Let MLflow's cards of versions go that show an image which is forgotten, and those of withdrawn versions.

        Args:
            versions: dataset and number.

        Raises:
            CurationError: MLflow can't be reached or written.
        """
        from curation_assets.clip.connection import Connection
        from curation_assets.datasets.versions import versions as live
        from curation_assets.tracking.published import empty_cards

        _, folder, own = self._registry_arguments
        stay = {(each.dataset, each.version) for each in live(self.tables.datasets)}.difference(versions)
        names = {f"{dataset}@{number}" for dataset, number in stay}
        empty_cards(Connection(folder, own, self._artifacts), self.tables.datasets.path, names)

    def version_card(self, dataset: str, version: int | None) -> dict[str, str]:
        """The card of a version, as ``card.md`` and ``card.html``.

        Raises:
            CurationError: there is no such dataset or version.
        """
        from curation_assets.datasets.reading import card_now
        from curation_assets.datasets.versions import checked_version, read_manifest, read_version
        from curation_assets.export.card import as_html, as_markdown, card_of
        from curation_assets.export.gathering import previews_of

        table = self.tables.datasets
        number = checked_version(table, dataset, version)
        rows, manifest = read_version(table, dataset, number), read_manifest(table, dataset, number)
        card = card_of(dataset, number, manifest, rows, card_now(self.settings.recipes, dataset))
        previews = previews_of(card.examples, self.tables.directory)
        return {"card.md": as_markdown(card), "card.html": as_html(card, previews)}

    def export_dataset(
        self,
        dataset: str,
        version: int | None,
        to: str,
        target: Path | StoreAddress,
        options: Options,
        progress: Progress,
    ) -> Exported:
        """Write a version of a dataset as files of a format.

        Args:
            version: None: the newest.
            to: name of the format.
            target: folder that isn't there or is empty, or file that isn't there; absolute; or the same in a
                store.

        Raises:
            CurationError: there is no such version or format, the format can't hold it, an image can't be had, or the
                place can't be written to.
        """
        from curation_assets.export.formats import format_of

        if format_of(to).has_images:
            self._refuse_images_root("--out", target)
        return self._export(dataset, version, to, self._target(target), options, progress)

    def send_export(
        self, dataset: str, version: int, to: str, target: ArchiveTarget, options: Options, progress: Progress
    ) -> Exported:
        """Write a version of a dataset as an archive, to who takes it meanwhile.

        Args:
            to: name of a format that is a folder.

        Raises:
            CurationError: as :meth:`export_dataset` does, or nobody takes it any more.
        """
        return self._export(dataset, version, to, target, options, progress)

    def check_export(self, dataset: str, version: int, to: str, options: Options) -> tuple[int, int, list[str]]:
        """What an export would be, before it is made: images, their bytes as they were scanned, and what is lost.

        Raises:
            CurationError: there is no such version or format, or the format can't hold it.
        """
        from curation_assets.export.exporting import check
        from curation_assets.export.formats import format_of

        content = self._content(dataset, version, options)
        notes = check(content, format_of(to))
        return len(content.rows), int(content.rows["size_bytes"].sum()), notes

    def _export(
        self, dataset: str, version: int | None, to: str, target: Target, options: Options, progress: Progress
    ) -> Exported:
        from curation_assets.export.exporting import export
        from curation_assets.export.formats import format_of
        from curation_assets.export.gathering import previews_of
        from curation_assets.export.reading import ImageReader

        directory, threads = self.tables.directory, self.settings.worker_threads

        def note(told: Exported) -> None:
            about = {"dataset": told.dataset, "version": told.version, "content_id": told.content_id}
            self._note_export(about | {"format": told.format, "images": told.images}, target, progress)

        return export(
            self._content(dataset, version, options),
            format_of(to),
            target,
            ImageReader(self.source, directory, threads),
            partial(previews_of, directory=directory),
            threads,
            self.settings.decode_options,
            progress,
            note,
        )

    def _content(self, dataset: str, version: int | None, options: Options) -> Content:
        from curation_assets.datasets.reading import card_now
        from curation_assets.export.gathering import content_of

        said = card_now(self.settings.recipes, dataset)
        return content_of(self.tables, dataset, version, self.annotation_order, options, said)

    def write_list(
        self, dataset: str, version: int, to: str, target: Path, card: Mapping[str, Any] | None = None
    ) -> None:
        """Write a version as a list, for who takes it away: it holds no images, and stays at no place to be noted.

        Args:
            to: name of a format of lists.
            target: file that isn't there; absolute.
            card: what people say of the data; None: what the version's recipe says.

        Raises:
            CurationError: there is no such version or list, or a table can't be read.
        """
        from curation_assets.export.formats import LISTS, format_of
        from curation_assets.export.gathering import content_of
        from curation_assets.export.lists import write_list
        from curation_assets.export.protocol import Options

        if to not in LISTS:
            raise CurationError(f"{to} is no list; there are {', '.join(LISTS)}")
        content = content_of(self.tables, dataset, version, self.annotation_order, Options(), card)
        write_list(content, format_of(to), target)

    def export_found(
        self, rows: pl.DataFrame, about: Mapping[str, Any], target: Path | StoreAddress, progress: Progress
    ) -> ImagesWritten:
        """Write what a search found as files, with a list.

        Args:
            rows: of the images, in their order.
            about: the query.
            target: folder that isn't there or is empty; absolute; or the same in a store.

        Raises:
            CurationError: an image can't be had, or the place can't be written to.
        """
        from curation_assets.export.found import export_found
        from curation_assets.export.reading import ImageReader

        settings, directory = self.settings, self.tables.directory
        self._refuse_images_root("--export-images", target)
        threads, place = settings.worker_threads, self._target(target)
        reader = ImageReader(self.source, directory, threads)

        def note(told: ImagesWritten) -> None:
            self._note_export({"format": "images", "images": told.images}, place, progress, rows["content_sha256"])

        decode = settings.decode_options
        return export_found(rows, about, place, directory, reader, threads, decode, progress, note)

    def _note_export(
        self,
        about: Mapping[str, Any],
        target: Target,
        progress: Progress,
        contents: pl.Series | None = None,
    ) -> None:
        """Note where images are, for who has to find them later; of a lake that can't be written it can't be."""
        from curation_assets.export.record import note_export

        try:
            note_export(self.tables.exports, about, target, contents)
        except CurationError as error:
            progress.note(f"that this export was made can't be noted in the lake: {error}")

    def _target(self, place: Path | StoreAddress) -> Path | StoreTarget:
        """Where an export is made.

        Raises:
            CurationError: it is to be in a volume that isn't mounted, and no workspace is configured.
        """
        from curation_assets.export.store_staging import StoreTarget

        if isinstance(place, Path):
            if (volume := unmounted(place)) is None:
                return place
            if not is_configured():  # else a folder of this name would be made on this machine's disk
                raise CurationError(f"{place} can't be written: {needed(place)}")
            place = volume
        return StoreTarget(place, self.settings.storage_options, self.settings.cache_root / "exports")

    def _refuse_images_root(self, option: str, target: Path | StoreAddress) -> None:
        root = self.settings.images_root
        if isinstance(root, Path):
            place = Path(str(target)) if isinstance(target, VolumeAddress) else target
            is_below = isinstance(place, Path) and place.resolve().is_relative_to(root.resolve())
        else:
            is_below = str(target) == str(root) or root.below(str(target)) is not None
        if is_below:
            raise CurationError(f"{option} {target} lies in {root}: `curation run` would take its images for new ones")

    def mine(
        self, given: Sequence[str], asked: Asked, keys_of: Callable[[str], Sequence[str]], progress: Progress
    ) -> Mined:
        """Images that are most worth labelling, for what a model failed on.

        Args:
            given: paths of images, in the lake or not, and CSV files that name some, perhaps with ``loss``.
            keys_of: relative paths that one of them may mean.

        Raises:
            CurationError: one can't be used, a condition can't, a table is not there, or no image is left.
        """
        from curation_assets.curate.duplicates.pictures import open_pictures
        from curation_assets.datasets.mining.failures import placed, read_failures
        from curation_assets.datasets.mining.mining import mine
        from curation_assets.datasets.mining.outside import Outside, outside

        failures = read_failures(given)
        index = self.searcher.open()

        decode = self.settings.decode_options

        def looked_at(data: bytes, name: str) -> Outside:
            return outside(data, self.searcher.embed_image(data, decode, name).vector, decode)

        failed = placed(failures, index, keys_of, looked_at, progress)
        return mine(
            failed,
            asked,
            self.tables,
            self.searcher,
            index,
            self.annotation_order,
            self.agreements,
            lambda: open_pictures(self.settings.pictures_dir),
            self.judged_rows,
        )

    def dataset_changes(self, one: tuple[str, int | None], other: tuple[str, int | None]) -> pl.DataFrame:
        """What is otherwise from one version of a dataset to another, and why.

        Args:
            one, other: dataset and version; None: the newest.

        Returns:
            ``comparing.CHANGE`` and ``causes.WHY``.

        Raises:
            CurationError: there is no such version, or a table can't be read.
        """
        from curation_assets.datasets.changes.causes import WHY
        from curation_assets.datasets.changes.reasons import explained
        from curation_assets.datasets.comparing import as_changes, changes
        from curation_assets.datasets.versions import checked_version, read_manifest, read_version

        table = self.tables.datasets
        numbers = [(dataset, checked_version(table, dataset, version)) for dataset, version in (one, other)]
        found = changes(*(read_version(table, *each) for each in numbers))
        return as_changes(explained(found, *(self._moment(read_manifest(table, *each)) for each in numbers)), WHY)

    def built_changes(self, one: Outcome, other: Outcome, other_tables: Pipeline | None = None) -> pl.DataFrame:
        """The same of two that were built just now and not published.

        Args:
            other_tables: what the second was built by, if by other tables.
        """
        from curation_assets.datasets.changes.causes import WHY
        from curation_assets.datasets.changes.reasons import explained
        from curation_assets.datasets.comparing import as_changes, changes

        found = changes(one.built.rows, other.built.rows)
        moments = self._moment_of(one.built.recipe), (other_tables or self)._moment_of(other.built.recipe)
        return as_changes(explained(found, *moments), WHY)

    def _moment(self, manifest: Mapping[str, Any]) -> Moment:
        """What a version was made of."""
        from curation_assets.datasets.changes.moments import keys_of, tables_of

        then = self.with_tables(tables_of(manifest, self.tables))
        model, recipe = manifest["model"], keys_of(manifest["recipe"])
        return then._as_moment(manifest, recipe, (model["name"], model["version"]), manifest.get("thresholds", {}))

    def _moment_of(self, recipe: Recipe) -> Moment:
        """What a recipe is built of."""
        from curation_assets.datasets.changes.moments import keys_of

        model = self.searcher.model()
        return self._as_moment({"dataset": recipe.name, "line": 0}, keys_of(recipe), (model.name, model.version), {})

    def _as_moment(
        self, of: Mapping[str, Any], recipe: Mapping[str, Any], model: tuple[str, str], limits: Mapping[str, float]
    ) -> Moment:
        """This lake with a recipe.

        Args:
            limits: by kind of problem; of those that the recipe leaves out, where none is given, its own or the
                settings'.
        """
        from curation_assets.curate.problems import KINDS, thresholds
        from curation_assets.datasets.changes.moments import Moment

        usual, said = self.settings.problem_thresholds, {kind: recipe.get(f"leave_out.{kind}") for kind in KINDS}
        own = {kind: value for kind, value in said.items() if isinstance(value, float)}
        used = {kind: self.thresholds[kind] for kind, value in said.items() if value is True} | own | dict(limits)
        return Moment(
            of["dataset"],
            of["line"],
            recipe,
            self.tables,
            model,
            self.annotation_order,
            used,
            lambda limits: self.judged_rows(thresholds(usual | dict(limits))),
        )

    def labels_lacking(self, *, judged: bool = True) -> Lacking:
        """What is not told of problems with labels and boxes, or told of earlier tables.

        Args:
            judged: also whether the predictions are behind.

        Raises:
            CurationError: a table can't be read.
        """
        from curation_assets.curate.labels.not_told import Lacking, not_told

        lacking = not_told(self.tables)
        if not self.tables.label_issues.exists() or not self.tables.annotations.exists():
            return Lacking(lacking)
        predictions_behind = False
        with suppress(CurationError):  # of an index that can't be read; the next run makes it anew
            predictions_behind = judged and not lacking and self.has_labels and self.predictions_are_behind()
        return Lacking(lacking, self.label_issues_behind(), predictions_behind)

    def label_zero_shot(self, folder: str, model: RegisteredModel) -> LabelResult:
        """Bring a folder's zero-shot labels in line with its embeddings and ``LABELS``.

        Raises:
            CurationError: ``LABELS`` are not texts that can be chosen between.
        """
        from curation_assets.search.zero_shot import check_labels
        from curation_assets.search.zero_shot_table import label_folder

        tables, choices = self.tables, check_labels(self.settings.labels)
        tables.zero_shot_labels.create()
        vectors = self.searcher.embed_texts(choices, model)
        return label_folder(tables.embeddings, tables.zero_shot_labels, folder, model, choices, vectors)

    def label_all(self, progress: Progress) -> list[LabelResult]:
        """The same of every folder that has embeddings, by the champion.

        Raises:
            CurationError: as :meth:`label_zero_shot`, or there is no champion.
        """
        model, folders = self.registry.champion(), self.tables.embeddings.latest().partitions
        progress.start("label", len(folders))
        done = []
        for folder in folders:
            done.append(self.label_zero_shot(folder, model))
            progress.advance(1)
        return done

    @cached_property
    def _engine(self) -> Engine:
        settings = self.settings
        if settings.engine == "spark":
            from curation_assets.embed.spark import SparkEngine

            name = [settings.catalog_name, settings.schema_name, settings.directory_table]
            by_name = ".".join(f"`{part}`" for part in name) if settings.spark_read_by_name else None
            return SparkEngine(self._session, self.encoders, self.source, by_name)
        return LocalEngine(self.encoders, self.source, threads=settings.worker_threads)

    @cached_property
    def _spark_scan(self) -> SparkScan | None:
        if self.settings.engine != "spark":
            return None
        from curation_assets.scan.spark import SparkScan

        return SparkScan(self._session, self.settings.spark_scan_files)

    @cached_property
    def _spark_measuring(self) -> SparkMeasuring | None:
        if self.settings.engine != "spark":
            return None
        from curation_assets.curate.spark import SparkMeasuring

        return SparkMeasuring(self._session, self.settings.spark_scan_files)

    @cached_property
    def _spark_verification(self) -> SparkVerification | None:
        if self.settings.engine != "spark" or self.settings.index_mirror is not None:  # then pictures are here alone
            return None
        from curation_assets.curate.duplicates.spark import SparkVerification

        return SparkVerification(self._session, self.settings.spark_scan_files)

    @cached_property
    def _spark_lists(self) -> SparkLists | None:
        if self.settings.engine != "spark" or self.settings.index_mirror is not None:  # then copies are here alone
            return None
        from curation_assets.curate.neighbours.spark import SparkLists

        return SparkLists(self._session, self.settings.spark_scan_files)

    def _session(self) -> SparkSession:
        from curation_assets.spark.session import open_session

        return open_session(self.settings) if self._spark is None else self._spark()
