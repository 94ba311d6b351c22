"""Published versions: rows of the table of datasets, what they are called, and how one comes to be in one commit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curation_assets.errors import CurationError
from curation_assets.lake.earlier import holding
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import DATASETS
from curation_assets.lake.snapshot import Snapshot
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

_ROWS = [column.name for column in DATASETS.columns if column.name not in ("manifest", "content_id", "published_at")]
_IMAGE = ["relative_path", "content_sha256"]
_SUMMARY = ["version", "kept", "split", "label", "reason", "content_id", "published_at"]
_SIGNED = ["relative_path", "content_sha256", "label", "split", "kept", "reason"]
_ROW_GROUP = 65_536
_WITHDRAWN = "withdrawn"  # reason of the one row that is left of such a version
LIVE = pl.col("content_id") != ""


@dataclass(frozen=True)
class Version:
    """A published version.

    Attributes:
        images: kept.
        left_out: not.
        splits: side → kept images; empty without.
        labels: label → kept images.
    """

    dataset: str
    version: int
    content_id: str
    published_at: datetime
    images: int
    left_out: int
    splits: dict[str, int]
    labels: dict[str, int]


@dataclass(frozen=True)
class Published:
    """What publishing did.

    Attributes:
        version: the one that holds these rows.
        is_new: whether it was made; else an unchanged one was there.
    """

    version: int
    is_new: bool
    content_id: str


def content_id(rows: pl.DataFrame) -> str:
    """SHA-256 over (path, content, label, split, kept, reason) of all rows, sorted by path; hexadecimal."""
    digest = hashlib.sha256()
    for row in rows.select(_SIGNED).sort("relative_path").iter_rows():
        digest.update(json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def as_manifest(facts: Mapping[str, Any]) -> str:
    """Canonical JSON: sorted keys, no spaces; numbers as they are given, so they have to be rounded."""
    return json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def publish(
    table: LakeTable,
    dataset: str,
    rows: pl.DataFrame,
    manifest: Mapping[str, Any],
    parent: int,
    progress: Progress,
    *,
    fresh: bool = False,
) -> Published:
    """Add a version, in one commit; nothing where the last one holds the same.

    Args:
        rows: ``relative_path``, ``content_sha256``, ``kept``, ``reason``, ``witness``, ``similarity``, ``label``,
            ``split`` and ``file``.
        manifest: without the content's id, the version and its line.
        parent: the last version when the rows were made; 0: there was none.
        fresh: whether a new line begins.

    Raises:
        CurationError: another version was published meanwhile, or the table can't be written.
    """
    signed = content_id(rows)
    published = Published(parent, is_new=False, content_id=signed)

    def work(change: Rewrite) -> None:
        nonlocal published
        last = _last(change.base, dataset)
        if last != parent:
            raise CurationError(f"version {last} of {dataset} was published meanwhile; build it again")
        if parent and _id_of(change.base, dataset, parent) == signed:
            return
        number = _last(change.base, dataset, where=None) + 1
        line = int(read_manifest(table, dataset, parent)["line"]) if parent and not fresh else number
        facts = {"content_id": signed, "dataset": dataset, "version": number, "line": line}
        told = as_manifest(dict(manifest) | facts)
        new = rows.sort("relative_path").with_columns(
            version=pl.lit(number, pl.Int32),
            published_at=pl.lit(datetime.now(UTC)).cast(pl.Datetime("us", "UTC")),
            content_id=pl.lit(signed),
            manifest=pl.lit(told),
        )
        schema = DATASETS.file_schema.remove_metadata()
        with change.writer.file() as stage:
            for start in range(0, len(new), _ROW_GROUP):
                part = new[start : start + _ROW_GROUP].select(schema.names).to_arrow().cast(schema)
                for batch in part.to_batches():
                    stage.write(batch)
        change.commit(stage.files, [])
        published = Published(number, is_new=True, content_id=signed)

    table.create()
    rewrite(table, dataset, work, info={"job": "dataset", "dataset": dataset}, progress=progress)
    return published


def last_version(table: LakeTable, dataset: str) -> int:
    """The newest version of a dataset; 0: there is none."""
    return _last(table.latest(), dataset) if table.exists() else 0


def read_version(table: LakeTable, dataset: str, version: int | None = None) -> pl.DataFrame:
    """The rows of a version, sorted by path; None: of the newest.

    Raises:
        CurationError: there is no such dataset or version.
    """
    return rows_of(table, dataset, checked_version(table, dataset, version))


def rows_of(table: LakeTable, dataset: str, version: int, files: Collection[str] = ()) -> pl.DataFrame:
    """The same of a version that is known to be there.

    Args:
        files: data files that hold it, as far as that is known: others needn't be looked through.
    """
    snapshot = table.latest()
    there = [file for file in snapshot.files(dataset) if file.path in files]
    # One that isn't there any more was written anew.
    chosen = there if files and len(there) == len(files) else None
    rows = snapshot.read(_ROWS, dataset, files=chosen, where=pl.col("version") == version).drop("_file")
    return rows.sort("relative_path")


def labels_of(table: LakeTable, dataset: str, version: int) -> set[str]:
    """Labels of what a version keeps."""
    rows = table.latest().read(["label"], dataset, where=(pl.col("version") == version) & pl.col("kept"))
    return set(rows["label"].drop_nulls().unique())


def kept_so_far(table: LakeTable, dataset: str) -> pl.DataFrame | None:
    """Images that versions of the newest line kept, each where it was last: path, content, ``split`` and ``last``.

    ``last`` says whether the newest version keeps it. What a version left out for another lies where that one lay.
    None where there is none.
    """
    newest = last_version(table, dataset)
    if not newest:
        return None
    first = int(read_manifest(table, dataset, newest)["line"])
    columns = ["relative_path", "content_sha256", "split", "version", "kept", "witness"]
    stood_for = pl.col("reason").is_in(["exact", "near", "burst"])
    which = (pl.col("kept") | stood_for) & (pl.col("version") >= first) & LIVE
    rows = table.latest().read(columns, dataset, where=which).drop("_file")
    kept = rows.filter("kept")
    side_of = kept.select("version", witness="relative_path", split="split")
    others = rows.filter(~pl.col("kept")).drop("split").join(side_of, on=["version", "witness"])
    every = pl.concat([kept, others.select(kept.columns)]).drop("witness")
    every = every.sort("version", "kept", "relative_path", descending=[True, True, False])
    every = every.unique(["relative_path", "content_sha256"], keep="first", maintain_order=True)
    return every.with_columns(last=(pl.col("version") == newest) & pl.col("kept")).drop("version", "kept")


def read_manifest(table: LakeTable, dataset: str, version: int) -> dict[str, Any]:
    """What a version was made of."""
    rows = table.latest().read(["manifest"], dataset, where=pl.col("version") == version)
    found: dict[str, Any] = json.loads(rows["manifest"][0])
    return found


def checked_version(table: LakeTable, dataset: str, version: int | None) -> int:
    """A version that is there; None: the newest.

    Raises:
        CurationError: there is no such dataset or version.
    """
    there = table.latest().partitions if table.exists() else []
    if dataset not in there:
        names = f"there are {', '.join(sorted(there))}" if there else "none was built yet"
        raise CurationError(f"there is no dataset {dataset!r}; {names}")
    numbers = table.latest().read(["version"], dataset, where=LIVE)["version"].unique().sort().to_list()
    if version is None:
        if not numbers:
            raise CurationError(f"every version of {dataset} was withdrawn")
        return int(numbers[-1])
    if version not in numbers:
        gone = table.latest().read(["manifest"], dataset, where=pl.col("version") == version)["manifest"]
        why = f" was withdrawn: {json.loads(gone[0])['withdrawn']}" if len(gone) else ""
        raise CurationError(
            f"{dataset}@{version}{why}"
            if why
            else f"{dataset} has no version {version}; it has {_listed(numbers) or 'none'}"
        )
    return version


def versions(table: LakeTable, dataset: str | None = None) -> list[Version]:
    """All versions, by dataset, the newest first."""
    if not table.exists():
        return []
    snapshot, found = table.latest(), []
    for name in sorted(snapshot.partitions) if dataset is None else [dataset]:
        rows = snapshot.read(_SUMMARY, name, where=LIVE)
        for (number,), of_it in rows.sort("version", descending=True).group_by("version", maintain_order=True):
            kept = of_it.filter("kept")
            found.append(
                Version(
                    dataset=name,
                    version=int(str(number)),
                    content_id=of_it["content_id"][0],
                    published_at=of_it["published_at"][0],
                    images=len(kept),
                    left_out=len(of_it) - len(kept),
                    splits=_counted(kept, "split"),
                    labels=_counted(kept, "label"),
                )
            )
    return found


def withdraw(table: LakeTable, dataset: str, version: int, reason: str, progress: Progress) -> None:
    """Take a version back: its rows go, and a row stays that says so; its number isn't used again.

    Raises:
        CurationError: there is no such version, or the table can't be written.
    """
    checked_version(table, dataset, version)
    schema = DATASETS.file_schema.remove_metadata()

    def work(change: Rewrite) -> None:
        rows = change.base.read(["version", "published_at"], dataset, where=pl.col("version") == version)
        touched = set(rows["_file"])
        mark = withdrawn_row(version, rows["published_at"].first(), reason)
        files = [file for file in change.base.files(dataset) if file.path in touched]
        with change.writer.file() as stage:
            for batch in change.base.reader.batches(files, _ROW_GROUP):
                stage.write(batch.filter(pc.not_equal(batch.column("version"), version)))
            stage.write(pa.RecordBatch.from_pylist([mark], schema))
        change.commit(stage.files, files)

    rewrite(table, dataset, work, info={"job": "withdraw", "dataset": dataset}, progress=progress)


def withdrawn_row(version: int, published_at: Any, reason: str) -> dict[str, Any]:
    """The one row that stays of a version that was taken back."""
    return {
        "version": version,
        "relative_path": "",
        "kept": False,
        "reason": _WITHDRAWN,
        "published_at": published_at,
        "content_id": "",
        "manifest": as_manifest({"withdrawn": reason}),
    }


def pinned_files(table: LakeTable, directory: LakeTable) -> set[str]:
    """Data files of the directory table that hold images of versions which it has no more."""
    if not table.exists() or not directory.exists():
        return set()
    kept = table.latest().read([*_IMAGE, "file"], where=pl.col("kept")).unique([*_IMAGE, "file"])
    there = directory.latest().read(_IMAGE).select(_IMAGE)
    return set(held_by(kept.join(there, on=_IMAGE, how="anti"), directory)["file"])


def held_by(images: pl.DataFrame, directory: LakeTable) -> pl.DataFrame:
    """Images that the directory table has no more, each with the earlier data file that holds its bytes.

    Args:
        images: ``relative_path``, ``content_sha256`` and ``file``, which held them when a version was published. Rows
            may have been laid out anew since.

    Returns:
        The same, ``file`` as it is; where none holds an image any more, as it was given.
    """
    there = [file for file in images["file"].unique() if directory.storage.exists(file)]
    is_there = pl.col("file").is_in(there)
    moved = images.filter(~is_there)
    if not len(moved):
        return images
    now = holding(directory, moved).rename({"file": "now"})
    moved = moved.join(now, on=_IMAGE, how="left").with_columns(file=pl.coalesce("now", "file")).drop("now")
    return pl.concat([images.filter(is_there), moved])


def _counted(rows: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(rows.drop_nulls(column).group_by(column).len().sort(column).iter_rows())


def _last(snapshot: Snapshot, dataset: str, where: pl.Expr | None = LIVE) -> int:
    if dataset not in snapshot.partitions:
        return 0
    return int(str(snapshot.read(["version"], dataset, where=where)["version"].max() or 0))


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _id_of(snapshot: Snapshot, dataset: str, version: int) -> str:
    return str(snapshot.read(["content_id"], dataset, where=pl.col("version") == version)["content_id"][0])
