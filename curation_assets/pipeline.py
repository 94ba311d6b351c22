"""The three jobs with settings applied: what the Dagster assets and the ``curation`` command both call."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from curation_assets.clip.champion import SeenSource
from curation_assets.clip.registry import NotRegisteredError, Registry
from curation_assets.clip.source import resolve
from curation_assets.clip.versions import RegisteredModel
from curation_assets.embed.job import Engine, embed_folder
from curation_assets.embed.known import KnownContents
from curation_assets.embed.local import LocalEngine
from curation_assets.embed.plan import MODEL_COLUMNS, folders_behind, is_current
from curation_assets.embed.result import EmbedResult
from curation_assets.errors import CurationError
from curation_assets.images.listing import TreeListing, list_folders
from curation_assets.images.names import folder_of, text_from_path
from curation_assets.images.record import ReadLimits
from curation_assets.lake.schemas import DIRECTORY, EMBEDDINGS, ZERO_SHOT_LABELS
from curation_assets.lake.table import LakeTable, Snapshot, folders_in_parts
from curation_assets.progress import Progress
from curation_assets.scan.changes import ABSENT, FolderChange, folder_changes
from curation_assets.scan.job import scan_folder
from curation_assets.scan.result import ScanResult
from curation_assets.settings import Settings, source_key

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from curation_assets.clip.encoder import Encoder
    from curation_assets.scan.spark import SparkScan
    from curation_assets.search.refresh import IndexRefresh
    from curation_assets.search.searcher import Searcher
    from curation_assets.search.zero_shot_table import LabelResult

_KEY = ["relative_path", "content_sha256"]
_COUNTS = ("files", "ok", "bad", "embedded", "stale")
BAD_COLUMNS = ["relative_path", "status", "error"]


class Pipeline:
    """Tables, registry and jobs of one configuration. Holds at most one loaded model, once a device.

    Args:
        settings: names, paths and limits.
        own_registry: keep to the registry beside the lake, whatever MLflow's variables say.
        spark: gives the session for ``ENGINE=spark``; None opens one when it is needed.
    """

    def __init__(
        self, settings: Settings, own_registry: bool = False, spark: Callable[[], SparkSession] | None = None
    ) -> None:
        self.settings = settings
        self._spark = spark
        self._own_registry = own_registry
        self.directory = LakeTable(settings.table_path(settings.directory_table), DIRECTORY)
        self.embeddings = LakeTable(settings.table_path(settings.embeddings_table), EMBEDDINGS)
        self.zero_shot_labels = LakeTable(settings.table_path(settings.labels_table), ZERO_SHOT_LABELS)
        self._known: KnownContents | None = None
        self._loading = threading.Lock()
        self._encoders: dict[tuple[str, str], Encoder] = {}  # by version and device, of one version

    @cached_property
    def registry(self) -> Registry:
        """The model registry."""
        return Registry(self.settings.registered_model, self.settings.mlflow_dir, own=self._own_registry)

    @property
    def depth(self) -> int | None:
        """``FOLDER_DEPTH`` as the listing takes it."""
        return None if self.settings.folder_depth == "deepest" else self.settings.folder_depth

    def list_folders(self, only: Iterable[str] | None = None) -> TreeListing:
        """List the images root.

        Raises:
            CurationError: it can't be listed.
        """
        return list_folders(self.settings.images_root, self.depth, only)

    def scan(self, folders: Iterable[str], progress: Progress, *, rescan: bool = False) -> list[ScanResult]:
        """Bring the rows of some folders in line with the disk; a folder that is gone loses its rows."""
        self.directory.create()
        return self._scan_each(list(folders), progress, rescan)

    def scan_changed(self, tree: TreeListing, progress: Progress) -> list[ScanResult]:
        """Scan those folders of a listed tree that differ from the table, and those of the table that are gone."""
        self.directory.create()
        # Folders that are gone go first: after a change of FOLDER_DEPTH their images come back in others.
        changes = sorted(self.folder_changes(tree), key=lambda change: (change.fingerprint != ABSENT, change.folder))
        return self._scan_each([change.folder for change in changes], progress, rescan=False)

    def folder_changes(self, tree: TreeListing) -> list[FolderChange]:
        """Folders of a listed tree that differ from the directory table, and those of the table that are gone."""
        table = self.directory.snapshot() if self.directory.exists() else None
        return folder_changes(tree, table, self.settings.images_root, self._limits)

    def register_model(self) -> tuple[RegisteredModel, bool]:
        """Register the model of ``MODEL_SOURCE`` if it is new; it becomes the champion unless another was promoted.

        Returns:
            The champion and whether a version was registered.

        Raises:
            CurationError: the model can't be had.
        """
        source = resolve(self.settings.model_source)
        return self.registry.register(source)

    def choose_model(self) -> ChosenModel:
        """Register the model of ``MODEL_SOURCE`` if it is new, and give the champion.

        Where that model can't be had, a champion that was chosen by hand over the same setting is used all the same.

        Raises:
            CurationError: the model can't be had, and no such champion is there.
        """
        try:
            source = resolve(self.settings.model_source)
        except CurationError as error:
            kept = None
            with suppress(NotRegisteredError):
                kept = self.registry.chosen_by_hand(self.settings.model_source)
            if kept is None:
                raise
            return ChosenModel(kept, False, self.registry.overruled(), unavailable=str(error))
        model, is_new = self.registry.register(source)
        return ChosenModel(model, is_new, self.registry.overruled())

    def promote(self, version: str) -> RegisteredModel:
        """Make a version the champion, until ``MODEL_SOURCE`` is another model than it is now.

        Raises:
            CurationError: as of ``Registry.promote``.
        """
        return self.registry.promote(version, self._source_now())

    def rollback(self) -> RegisteredModel:
        """Make the champion before this one the champion again, until ``MODEL_SOURCE`` is another model than now.

        Raises:
            CurationError: as of ``Registry.rollback``.
        """
        return self.registry.rollback(self._source_now())

    def has_model(self) -> bool:
        """Whether a champion is registered."""
        try:
            self.registry.champion()
        except NotRegisteredError:
            return False
        return True

    def embed(
        self, folder: str, model: RegisteredModel, progress: Progress, earlier: Snapshot | None = None
    ) -> EmbedResult:
        """Bring a folder's embeddings in line with its rows, for one model version.

        Args:
            earlier: an older snapshot of the embeddings, whose vectors may be copied too.
        """
        self.embeddings.create()
        engine = self._engine(model)
        if self._known is None or self._known.model != model:
            self._known = KnownContents(model)
        return embed_folder(
            self.directory, self.embeddings, folder, model, engine, progress, earlier=earlier, known=self._known
        )

    @cached_property
    def searcher(self) -> Searcher:
        """Finds images by words, by example and by looking."""
        from curation_assets.search.searcher import Searcher
        from curation_assets.search.zero_shot_table import label_source

        settings = self.settings
        return Searcher(
            self.directory,
            self.embeddings,
            self.registry,
            self.load_encoder,
            settings.index_dir,
            settings.search_exact_vectors,
            [label_source(self.zero_shot_labels)],
        )

    def label_zero_shot(self, folder: str, model: RegisteredModel) -> LabelResult:
        """Bring a folder's zero-shot labels in line with its embeddings and ``LABELS``.

        Raises:
            CurationError: ``LABELS`` are not texts that can be chosen between.
        """
        from curation_assets.search.zero_shot import check_labels
        from curation_assets.search.zero_shot_table import label_folder

        choices = check_labels(self.settings.labels)
        self.zero_shot_labels.create()
        vectors = self.searcher.embed_texts(choices, model)
        return label_folder(self.embeddings, self.zero_shot_labels, folder, model, choices, vectors)

    def bad_files(self, folders: Iterable[str] | None = None) -> pl.DataFrame:
        """Rows whose status isn't ok: relative_path, status, error."""
        chosen = None if folders is None else pl.col("folder").is_in(list(folders))
        bad = pl.col("status") != "ok"
        rows = self.directory.snapshot().read([*BAD_COLUMNS, "folder"], where=bad if chosen is None else bad & chosen)
        return rows.select(BAD_COLUMNS).sort("relative_path")

    def status(self) -> pl.DataFrame:
        """One row a folder: folder, files, ok, bad, embedded, stale; ``stale`` are ok rows without a current vector."""
        images = self.directory.snapshot()
        vectors, model = None, None
        if self.embeddings.exists():
            with suppress(NotRegisteredError):
                vectors, model = self.embeddings.snapshot(), self.registry.champion()
        ok, embedded = pl.col("status") == "ok", pl.col("_embedded").fill_null(False) & (pl.col("status") == "ok")
        counts = [pl.DataFrame(schema={"folder": pl.String} | dict.fromkeys(_COUNTS, pl.UInt32))]
        for folders in folders_in_parts(images):
            columns = ["folder", "relative_path", "content_sha256", "status"]
            rows = images.read(columns, files=images.files_of(folders)).drop("_file")
            known = pl.DataFrame(schema=dict.fromkeys(_KEY, pl.String))
            if vectors is not None and model is not None:
                known = vectors.read(_KEY, files=vectors.files_of(folders), where=is_current(model)).select(_KEY)
            joined = rows.join(known.with_columns(_embedded=pl.lit(True)), on=_KEY, how="left")
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
        images = pl.DataFrame(schema=dict.fromkeys(_KEY, pl.String))
        if self.directory.exists():
            images = self.directory.snapshot().read([*_KEY, "status"]).filter(pl.col("status") == "ok").select(_KEY)
        if not self.embeddings.exists():
            return len(images), {model.version: 0 for model in models}
        vectors = self.embeddings.snapshot().read([*_KEY, *MODEL_COLUMNS]).join(images, on=_KEY, how="semi")
        return len(images), {model.version: len(vectors.filter(is_current(model))) for model in models}

    def load_encoder(self, model: RegisteredModel) -> Encoder:
        """A version's encoder, on the device and in the precision of the settings.

        Raises:
            CurationError: it can't be had.
        """
        from curation_assets.clip.encoder import all_devices

        return self._load_encoder(model, all_devices(self.settings.device)[0])

    def load_encoders(self, model: RegisteredModel) -> list[Encoder]:
        """The same, one for every device of the settings: all GPUs, or the one device that is named.

        Raises:
            CurationError: it can't be had.
        """
        from curation_assets.clip.encoder import all_devices

        return [self._load_encoder(model, device) for device in all_devices(self.settings.device)]

    def content_version(self, folders: Iterable[str]) -> str:
        """32 hex digits over path, content and status of some folders' rows: what their embeddings depend on."""
        snapshot, digest = self.directory.snapshot(), hashlib.sha256()
        for folder in sorted(folders):
            rows = snapshot.read(["relative_path", "content_sha256", "status"], folder).drop("_file")
            for row in rows.sort("relative_path").iter_rows():
                digest.update("\0".join(map(str, row)).encode() + b"\0")
        return digest.hexdigest()[:32]

    def known_paths(self) -> pl.DataFrame:
        """Columns folder, relative_path and file_path of the directory table; no rows where there is no table."""
        columns = ["folder", "relative_path", "file_path"]
        if not self.directory.exists():
            return pl.DataFrame(schema=dict.fromkeys(columns, pl.String))
        return self.directory.snapshot().read(columns).drop("_file")

    def row(self, relative_path: str) -> dict[str, Any] | None:
        """One image's row of the directory table without the image itself; None if there is none."""
        columns = [c.name for c in DIRECTORY.columns if c.name not in ("image_base64", "preview")]
        found = self.directory.snapshot().read(columns, where=pl.col("relative_path") == relative_path)
        return found.drop("_file").row(0, named=True) if len(found) else None

    def vectors_of(self, relative_path: str) -> pl.DataFrame:
        """Vectors of an image: model_name, model_version, content_sha256, dimension, embedded_at of each."""
        if not self.embeddings.exists():
            return pl.DataFrame()
        columns = ["model_name", "model_version", "content_sha256", "embeddings", "embedded_at"]
        found = self.embeddings.snapshot().read(columns, where=pl.col("relative_path") == relative_path)
        return found.drop("_file").with_columns(dimension=pl.col("embeddings").list.len()).drop("embeddings")

    def _source_now(self) -> SeenSource:
        """``MODEL_SOURCE`` as far as it can be told without the network; reads every byte of a model that is here."""
        name, fingerprint = self.settings.model_source, None
        with suppress(CurationError):
            fingerprint = resolve(name, download=False).fingerprint
        return SeenSource(source_key(name), fingerprint, by_hand=True)

    @property
    def _limits(self) -> ReadLimits:
        settings = self.settings
        return ReadLimits(settings.store_images, settings.max_pixels, settings.max_file_bytes)

    def _engine(self, model: RegisteredModel) -> Engine:
        settings = self.settings
        batch_size = None if settings.batch_size == "auto" else settings.batch_size
        if settings.engine == "spark":
            from curation_assets.embed.spark import EncoderSource, SparkEngine

            registry = (settings.registered_model, settings.mlflow_dir, self._own_registry)
            source = EncoderSource(
                model, registry, settings.device, settings.precision, batch_size, settings.max_pixels
            )
            name = [settings.catalog_name, settings.schema_name, settings.directory_table]
            by_name = ".".join(f"`{part}`" for part in name) if settings.spark_read_by_name else None
            return SparkEngine(self._session, source, by_name)
        return LocalEngine(
            lambda: self.load_encoders(model),
            threads=settings.worker_threads,
            batch_size=batch_size,
            max_pixels=settings.max_pixels,
        )

    @cached_property
    def _spark_scan(self) -> SparkScan | None:
        if self.settings.engine != "spark":
            return None
        from curation_assets.scan.spark import SparkScan

        return SparkScan(self._session, self.settings.spark_scan_files)

    def _session(self) -> SparkSession:
        from curation_assets.spark.session import open_session

        return open_session(self.settings) if self._spark is None else self._spark()

    def _load_encoder(self, model: RegisteredModel, device: str) -> Encoder:
        with self._loading:
            if any(uri != model.uri for uri, _ in self._encoders):
                self._encoders.clear()
            if (model.uri, device) not in self._encoders:
                loaded = self.registry.load_encoder(model, device, self.settings.precision)
                self._encoders[model.uri, device] = loaded
            return self._encoders[model.uri, device]

    def _scan_each(self, folders: list[str], progress: Progress, rescan: bool) -> list[ScanResult]:
        results = []
        for index, folder in enumerate(folders, 1):
            progress.step("scan", index, len(folders))
            results.append(
                scan_folder(
                    self.directory,
                    self.settings.images_root,
                    folder,
                    self._limits,
                    progress,
                    threads=self.settings.worker_threads,
                    depth=self.depth,
                    rescan=rescan,
                    spark=self._spark_scan,
                )
            )
        return results


@dataclass(frozen=True)
class ChosenModel:
    """What embeddings are to be made with.

    Attributes:
        model: the champion.
        is_new: a version was registered.
        overruled: the version of ``MODEL_SOURCE``, where another was promoted and is the champion.
        unavailable: why the model of ``MODEL_SOURCE`` can't be had, where the champion was chosen by hand.
    """

    model: RegisteredModel
    is_new: bool
    overruled: RegisteredModel | None
    unavailable: str | None = None


@dataclass
class RunSummary:
    """What a whole run did.

    Attributes:
        chosen: the model it used.
        folders: image folders on disk, and folders of the table that were gone.
        tree: the listing it worked from.
        bad: rows whose status isn't ok, in the folders of this run: relative_path, status, error.
        index: what became of the search index; None where it could not be brought in line, which ``index_error`` tells.
    """

    chosen: ChosenModel
    tree: TreeListing
    folders: list[str]
    scans: list[ScanResult]
    embeds: list[EmbedResult]
    bad: pl.DataFrame
    status: pl.DataFrame
    failed: list[tuple[str, str]] = field(default_factory=list)
    index: IndexRefresh | None = None
    index_error: str | None = None


def run(
    pipeline: Pipeline,
    progress: Progress,
    *,
    folders: list[str] | None = None,
    rescan: bool = False,
    prune: bool = False,
) -> RunSummary:
    """Scan, register, embed: every folder, or those named; then bring the search index in line.

    Args:
        folders: values of the ``folder`` column; None takes all on disk and all in the table.
        rescan: read every file again, also those that look unchanged.
        prune: go on although the images root looks like another tree than the table's, and remove rows.

    Raises:
        CurationError: nothing to work on, or something is set wrong; what was committed until then stays.
    """
    tree = pipeline.list_folders(folders)
    rows = pipeline.known_paths()
    in_table = sorted(set(rows["folder"]))
    if folders is None:
        _refuse_another_tree(pipeline.settings.images_root, tree, rows, prune)
    else:
        _refuse_unknown_folders(pipeline, tree, rows, folders)
    if folders is not None or rescan:
        chosen = folders if folders is not None else sorted({*tree.folders, *in_table})
        scans = pipeline.scan(chosen, progress, rescan=rescan)
    else:
        scans = pipeline.scan_changed(tree, progress)
        chosen = sorted({*tree.folders, *(scan.folder for scan in scans)})
    choice = pipeline.choose_model()
    model = choice.model
    pipeline.embeddings.create()
    before = pipeline.embeddings.snapshot()
    images = pipeline.directory.snapshot()
    behind = folders_behind(images, before, model)
    to_embed = behind if folders is None else [folder for folder in folders if folder in behind]
    # Folders that are gone lose their rows before others copy them, so that no image ever has two.
    to_embed.sort(key=lambda folder: images.rows(folder) > 0)
    embeds = []
    for index, folder in enumerate(to_embed, 1):
        progress.step("embed", index, len(to_embed))
        embeds.append(pipeline.embed(folder, model, progress, earlier=before))
    status = pipeline.status()
    refreshed, index_error = None, None
    try:
        refreshed = pipeline.searcher.refresh(progress, model.version)
    except CurationError as error:  # the tables are done, which is what counts; the next run tries again
        index_error = str(error)
    return RunSummary(
        chosen=choice,
        tree=tree,
        folders=chosen,
        scans=scans,
        embeds=embeds,
        bad=pipeline.bad_files(folders),
        status=status if folders is None else status.filter(pl.col("folder").is_in(folders)),
        failed=[failure for embed in embeds for failure in embed.failed],
        index=refreshed,
        index_error=index_error,
    )


def _refuse_unknown_folders(pipeline: Pipeline, tree: TreeListing, rows: pl.DataFrame, folders: list[str]) -> None:
    unknown = set(folders).difference(tree.folders, rows["folder"])
    if unknown:
        names = ", ".join(map(repr, sorted(unknown)))
        raise CurationError(f"no image folder {names} under {pipeline.settings.images_root}")
    directories = rows.select("folder", below=pl.col("relative_path").str.replace("/?[^/]*$", "")).unique()
    if any(folder_of(below, pipeline.depth) != folder for folder, below in directories.iter_rows()):
        raise CurationError(
            "the table was written with another CURATION_FOLDER_DEPTH; run once without --folders to lay it out anew"
        )


def _refuse_another_tree(root: Path, tree: TreeListing, rows: pl.DataFrame, prune: bool) -> None:
    """An empty or altogether different tree is likelier a wrong path or an unmounted disk than a wish to lose rows."""
    if prune:
        return
    if not tree.folders:
        seen = f" ({tree.passed_over.total()} other files passed over)" if tree.passed_over else ""
        raise CurationError(f"no images under {root}{seen}; nothing was changed")
    if not len(rows):
        return
    on_disk = pl.concat([listing.files.select("relative_path") for listing in tree.folders.values()])
    found = len(rows.join(on_disk, on="relative_path", how="semi"))
    prefix = text_from_path(str(root)).rstrip("/") + "/"
    elsewhere = not rows["file_path"].str.starts_with(prefix).all()
    if found == 0 or (elsewhere and found < len(rows) / 2):
        raise CurationError(
            f"only {found:,} of the table's {len(rows):,} images are under {root}: set CURATION_LAKE_ROOT (--lake) to "
            "a lake of its own for this tree, or say --prune to remove the rows of the others"
        )
