"""All that ``curation forget`` does: images leave the lake, its history, and whatever was made of them, for good."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from curation_assets.datasets.forgetting import Held, find_held, forget_in_versions
from curation_assets.datasets.versions import held_by
from curation_assets.errors import CurationError, explained
from curation_assets.export.record import NotedExport, exports_of
from curation_assets.files import waiting_lock
from curation_assets.forgetting.removing import Found, delete_earlier, find, remove_rows, save_pinned
from curation_assets.forgetting.wanted import Wanted, find_wanted
from curation_assets.images.names import printable
from curation_assets.lake.earlier import earlier_files, read_earlier
from curation_assets.lake.storage import Storage, storage_of
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import Progress
from curation_assets.scan.comparison import ComparedNotes
from curation_assets.tables import Tables

_NOTE = "_forgetting.json"  # beside the tables
_IMAGE = ["relative_path", "content_sha256"]


@dataclass
class Forgotten:
    """What there was of some images, and went, or would.

    Attributes:
        contents: SHA-256 of their bytes.
        paths: where they lay.
        files: of these, whose file is still there with these bytes.
        tables: rows of each table that has some.
        versions: of datasets that held them.
        exports: that held them, as far as they were made from this lake; they stay as they are.
        near: paths of other images that are the same photograph, and stay.
        derived_bytes: of indexes and other files beside the lake; they are made anew of what is left.
    """

    contents: list[str]
    paths: list[str]
    files: list[str]
    tables: list[Found] = field(default_factory=list)
    versions: list[Held] = field(default_factory=list)
    exports: list[NotedExport] = field(default_factory=list)
    near: list[str] = field(default_factory=list)
    derived_bytes: int = 0


def forget(
    pipeline: Pipeline,
    paths: Iterable[Sequence[str]],
    contents: Iterable[str],
    progress: Progress,
    *,
    dry_run: bool = True,
    delete_files: bool = False,
) -> Forgotten:
    """Let images go for good, whatever copy of them lies where.

    Nothing else should write to the lake meanwhile. Which images they are is noted in the lake until all is done: where
    this is killed, whoever calls it next finishes it.

    Args:
        paths: of each image, the relative paths that may be meant: every content that ever lay there goes.
        contents: SHA-256 of images' bytes.
        dry_run: only say what there is.
        delete_files: delete the image files too; without, they have to be gone.

    Raises:
        CurationError: nothing is known of an image, its file is still there, or something can't be read or written.
    """
    source = pipeline.source
    directory = pipeline.tables.directory
    beside = storage_of(directory.path.parent, directory.options)
    unfinished = _noted(beside)
    paths, contents = [*paths], [*contents]
    if not paths and not contents and unfinished is None:
        raise CurationError("name the images to forget: by their paths, or --content and the SHA-256 of their bytes")
    wanted = find_wanted(pipeline.tables.directory, paths, contents)
    if unfinished is not None:
        progress.note(f"forgetting {len(unfinished.paths):,} images was not finished: they go with these")
        wanted = wanted.with_others(unfinished)
    told = _found(pipeline, wanted, progress)
    if not told.tables and unfinished is None:
        raise CurationError(f"nothing is known of {', '.join(told.contents)} in {beside.location}")
    if dry_run:
        return told
    if not source.stands(""):
        raise CurationError(f"{source.location} is not there, so it can't be told whether the images' files are gone")
    if told.files and not delete_files:
        more = f" and {len(told.files) - 1:,} more" if len(told.files) > 1 else ""
        raise CurationError(
            f"{printable(source.location_of(told.files[0]))}{more} would be scanned again: delete the files, "
            "or give --delete-files"
        )
    with explained((OSError,), lambda reason: f"not all of the images' files can be deleted: {reason}"):
        for path in told.files:
            source.delete(path)
    facts = {"contents": told.contents, "paths": told.paths}
    with explained((OSError,), lambda reason: f"{beside.uri(_NOTE)} can't be written: {reason}"):
        beside.put_whole(_NOTE, json.dumps(facts).encode())
    _remove(pipeline, told, wanted, progress)
    with explained((OSError,), lambda reason: f"{beside.uri(_NOTE)} can't be deleted: {reason}"):
        beside.delete(_NOTE)
    return told


def _noted(beside: Storage) -> Wanted | None:
    """What was not finished."""
    with explained((ValueError, KeyError, OSError), lambda reason: f"{beside.uri(_NOTE)} can't be read: {reason}"):
        try:
            facts = json.loads(beside.get(_NOTE))
        except FileNotFoundError:
            return None
        return Wanted.of(facts["contents"], facts["paths"])


def _found(pipeline: Pipeline, wanted: Wanted, progress: Progress) -> Forgotten:
    tables, spec = pipeline.tables, pipeline.tables.datasets.spec
    there = tables.there
    progress.start("look for them", len(there))
    found = []
    for table in there:
        found.append(find(table, wanted))
        progress.advance(1)
    versions = find_held(tables.datasets, wanted.rows(spec))
    kept_in = [(each.dataset, each.version) for each in versions if each.kept]
    return Forgotten(
        contents=wanted.contents.to_list(),
        paths=wanted.paths.to_list(),
        files=_files_there(pipeline, wanted),
        tables=[one for one in found if one.rows or one.paths],
        versions=versions,
        exports=exports_of(tables.exports, kept_in, wanted.contents),
        near=_near(tables, wanted),
        derived_bytes=sum(file.stat().st_size for file in _derived(pipeline)),
    )


def _remove(pipeline: Pipeline, told: Forgotten, wanted: Wanted, progress: Progress) -> None:
    """The directory table last, as published versions need files of its history."""
    tables = pipeline.tables
    found = {one.table: one for one in told.tables}
    last = (tables.directory, tables.datasets)
    if tables.datasets.exists():
        _empty_cards(pipeline, told.versions, progress)
    progress.start("forget", len(found))
    for table in tables.there:
        if table not in last and (one := found.get(table.path.name)) is not None:
            remove_rows(table, one, wanted, progress)
            _delete_all_earlier(table, wanted)
            progress.advance(1)
    if tables.datasets.exists():
        spec = tables.datasets.spec
        forget_in_versions(tables.datasets, wanted.rows(spec), wanted.mentions(spec), told.paths, progress)
        _delete_all_earlier(tables.datasets, wanted)
    _empty_derived(pipeline)
    with explained((OSError,), lambda reason: f"what was noted of scans can't be written: {reason}"):
        ComparedNotes(tables.directory.storage).forget(set(told.paths))
    if (one := found.get(tables.directory.path.name)) is not None:
        remove_rows(tables.directory, one, wanted, progress)
        earlier = find(tables.directory, wanted).paths
        if tables.datasets.exists():
            save_pinned(tables.directory, _pinned(tables), earlier, progress)
        delete_earlier(tables.directory, [*earlier])


def _empty_cards(pipeline: Pipeline, held: Sequence[Held], progress: Progress) -> None:
    """Before the versions' rows go, which say whose cards show an image."""
    try:
        pipeline.empty_cards([(each.dataset, each.version) for each in held])
    except CurationError as error:
        progress.note(f"cards of versions that show them stay in MLflow: {error}")


def _delete_all_earlier(table: LakeTable, wanted: Wanted) -> None:
    delete_earlier(table, [*find(table, wanted).paths])


def _pinned(tables: Tables) -> pl.DataFrame:
    """Images of versions that the directory table has no more, with the files that hold them."""
    kept = tables.datasets.latest().read([*_IMAGE, "file"], where=pl.col("kept")).unique([*_IMAGE, "file"])
    there = tables.directory.latest().read(_IMAGE).select(_IMAGE)
    return held_by(kept.drop("_file").join(there, on=_IMAGE, how="anti"), tables.directory)


def _files_there(pipeline: Pipeline, wanted: Wanted) -> list[str]:
    """Paths whose file still has the bytes."""
    source, contents, found = pipeline.source, set(wanted.contents), []
    for path in wanted.paths:
        try:
            if hashlib.sha256(source.read(path)).hexdigest() in contents:
                found.append(path)
        except OSError:
            if source.is_there(path) and not len(wanted.contents):
                found.append(path)  # one that never could be read
    return found


def _near(tables: Tables, wanted: Wanted) -> list[str]:
    """Paths of other images that are the same photograph as one of these."""
    if not tables.pairs.exists():
        return []
    about = wanted.rows(tables.pairs.spec) & (pl.col("kind") == "near")
    columns = ["first", "second"]
    earlier, _ = read_earlier(tables.pairs, columns, about, sorted(earlier_files(tables.pairs)))
    pairs = pl.concat([tables.pairs.latest().read(columns, where=about), earlier])
    others = {*pairs["first"], *pairs["second"]}.difference(wanted.contents)
    where = pl.col("content_sha256").is_in(sorted(others))
    return sorted(tables.directory.latest().read(["relative_path"], where=where)["relative_path"])


def _derived(pipeline: Pipeline) -> list[Path]:
    """Files of search indexes, compared pictures, maps and classifiers, which are all made anew from the tables."""
    folders = (pipeline.settings.index_dir, pipeline.settings.pictures_dir)
    return [
        file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file() and file.suffix != ".lock"
    ]


def _empty_derived(pipeline: Pipeline) -> None:
    """Delete them, each folder's while no other process writes to it; the file that names the others first.

    Of indexes in a store, other machines' copies go when those look at it next.
    """
    if (mirror := pipeline.settings.index_mirror) is not None:
        for name in mirror.names():
            mirror.delete(name)
    by_folder: dict[Path, list[Path]] = {}
    for file in _derived(pipeline):
        by_folder.setdefault(file.parent, []).append(file)
    with explained((OSError,), lambda reason: f"not all files beside the lake can be deleted: {reason}"):
        for folder, files in by_folder.items():
            with waiting_lock(folder / "_writer.lock"):
                for file in sorted(files, key=lambda one: one.name != "current.json"):
                    file.unlink(missing_ok=True)
