"""The table of annotations: a source's rows brought in line with what it says, in one commit however many folders.

A source's rows of a field are what it said the last time, all of them: what it says no more goes. Rows that stay as
they were keep their time, and where nothing changed nothing is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl
import pyarrow as pa

from curation_assets.annotations.boxes import upright
from curation_assets.annotations.matching import matched, read_images
from curation_assets.annotations.said import BOXES, COLUMNS, SCHEMA, Said
from curation_assets.errors import CurationError
from curation_assets.images.names import printable
from curation_assets.lake import hive
from curation_assets.lake.layout import SMALL_FILES, small_files
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.snapshot import Snapshot, partitions_in_parts
from curation_assets.lake.staging import StagedFile
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress

KEY = ["relative_path", "field", "source"]
_SAID = ["values", "split", "boxes", "kept_apart", "content_sha256", "folder"]  # what makes a row another
_COPY_ROWS = 8192
_ONE_EXAMPLE = 5  # labels with one image that are named


@dataclass
class Import:
    """What an import did, or would do.

    Attributes:
        source: whose rows they are.
        rows: that it has now, of the fields that it speaks of; ``images`` that they are of.
        labels: of each field, how many images have each label, the most first.
        splits: how many images are in each.
        boxes: how many there are.
        added, changed, removed: rows, against what the source said before.
        notes: what is worth a look, and what is not taken over.
    """

    source: str
    rows: int = 0
    images: int = 0
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    boxes: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    version: int = -1
    notes: list[str] = field(default_factory=list)


def read_rows(table: LakeTable, where: pl.Expr | None = None, columns: Iterable[str] = COLUMNS) -> pl.DataFrame:
    """Rows of the table, in no order; none where there is no table.

    Raises:
        CurationError: it can't be read.
    """
    names = list(columns)
    if not table.exists():
        return pl.DataFrame(schema={name: SCHEMA[name] for name in names})
    found = table.latest().read(names, where=where).drop("_file")
    keyed = [name for name in KEY if name in names]
    return found.unique(keyed, keep="first") if len(keyed) == len(KEY) else found


def rows_of(said: Said, directory: Snapshot, root: str, source: str, *, is_stored: bool = False) -> pl.DataFrame:
    """Rows of the table that a source's words make: one an image and field.

    Args:
        root: the images root, below which a name may be a path on disk.
        is_stored: boxes are of images as they are stored, before EXIF's orientation.

    Raises:
        FaultyAnnotationsError: something of it is wrong; all is looked at before.
    """
    faults = said.faults
    rows = matched(said, read_images(directory), root)
    rows = _one_an_image(said, upright(said, rows, is_stored=is_stored))
    if not faults.number and not len(rows):
        faults.add("it says nothing of any image")
    faults.check()
    return rows.with_columns(source=pl.lit(source), annotated_at=pl.lit(datetime.now(UTC)).cast(SCHEMA["annotated_at"]))


def put(
    table: LakeTable,
    source: str,
    rows: pl.DataFrame,
    progress: Progress | None = None,
    *,
    add: bool = False,
    every_field: bool = False,
    dry_run: bool = False,
) -> Import:
    """Bring a source's rows in line with what it says; creates the table where there is none.

    Args:
        rows: as :func:`rows_of` makes them.
        add: what it said of other images stays.
        every_field: what it said of fields that it speaks of no more goes too.
        dry_run: only say what would be done.

    Raises:
        CurationError: the table can't be read or written; nothing of the source is changed then.
    """
    done = Import(source, len(rows), rows["relative_path"].n_unique(), *_counts(rows), boxes=_boxes(rows))
    done.notes = _single(rows)
    fields = rows["field"].unique().to_list()

    def plan(base: Snapshot | None) -> tuple[pl.DataFrame, pl.DataFrame]:
        mine = pl.col("source").eq(source)
        there = _stored(base, mine if every_field else mine & pl.col("field").is_in(fields))
        # Of a row that another writer doubled, both go, so that one comes.
        before = there.unique(KEY, keep="none")
        now = rows.select(*KEY, _now=_mark()).join(before, on=KEY, how="left", maintain_order="left")
        same = now.filter(pl.col("_now").eq_missing(pl.col("_before"))).select(KEY)
        gone = (there.join(rows, on=KEY, how="semi") if add else there).select(KEY).unique()
        leaving = gone.join(same, on=KEY, how="anti")
        new = rows.join(same, on=KEY, how="anti", maintain_order="left") if len(same) else rows
        done.added = len(new.join(gone, on=KEY, how="anti"))
        done.changed = len(new) - done.added
        done.removed = len(leaving) - done.changed
        if base is not None and base.added_columns and len(leaving):  # what users added stays with the key
            where = pl.col("relative_path").is_in(new["relative_path"].unique().implode())
            more = base.read([*KEY, *base.added_columns], where=where).drop("_file").unique(KEY, keep="first")
            new = new.join(more, on=KEY, how="left")
        return leaving, new

    if dry_run:
        plan(table.latest() if table.exists() else None)
    else:
        table.create()
        done.version = change_rows(table, plan, {"job": "annotate", "source": source}, progress)
    return done


def remove(table: LakeTable, source: str, progress: Progress | None = None, *, dry_run: bool = False) -> int:
    """Let all rows of a source go; how many there were.

    Raises:
        CurationError: there is no such source, or the table can't be written.
    """
    known = read_rows(table, columns=["source"])["source"].value_counts()
    number = int(dict(known.iter_rows()).get(source, 0))
    if not number:
        there = ", ".join(sorted(known["source"])) or "none"
        raise CurationError(f"there is no source of annotations {source!r}; there are: {there}")
    if not dry_run:

        def plan(base: Snapshot) -> tuple[pl.DataFrame, pl.DataFrame]:
            going = base.read(KEY, where=pl.col("source").eq(source)).select(KEY).unique()
            return going, _no_rows()

        change_rows(table, plan, {"job": "annotate", "removed": source}, progress)
    return number


def change_rows(
    table: LakeTable,
    plan: Callable[[Snapshot], tuple[pl.DataFrame, pl.DataFrame]],
    info: dict[str, str],
    progress: Progress | None,
) -> int:
    """Let rows of some keys leave and others join, in one commit; the version after it.

    Args:
        plan: of a snapshot, keys of rows that leave, and rows that come, with what users added to them.
    """

    def work(change: Rewrite) -> None:
        leaving, coming = plan(change.base)
        if len(leaving) or len(coming):
            _rewrite(change, leaving.select(KEY), coming)

    return rewrite(table, hive.WHOLE, work, info=info, progress=progress).version


def _rewrite(change: Rewrite, leaving: pl.DataFrame, coming: pl.DataFrame) -> None:
    base, writer = change.base, change.writer
    held = base.read([*KEY, "folder"]).join(leaving, on=KEY, how="semi")
    touched = set(held["_file"])
    by_folder = coming.partition_by("folder", as_dict=True, maintain_order=True)
    folders = sorted({*held["folder"], *(str(folder) for (folder,) in by_folder)})
    staged: list[StagedFile] = []
    files = []
    for folder in folders:
        base.refuse_broken(folder)
        mine = [file for file in base.files(folder) if file.path in touched]
        if len(small := small_files(base.files(folder))) >= SMALL_FILES:
            mine += [file for file in small if file.path not in touched]
        with writer.of(folder).file() as stage:
            for batch in base.reader.batches(mine, _COPY_ROWS):
                keys = pl.DataFrame(batch.select(KEY)).with_row_index("_at")
                kept = keys.join(leaving, on=KEY, how="anti", maintain_order="left")
                if len(kept):
                    stage.write(batch.take(pa.array(kept["_at"].to_numpy())))
            new = by_folder.get((folder,))
            for batch in _arrow_batches(new, base) if new is not None else ():
                stage.write(batch)
        staged += stage.files
        files += mine
    change.commit(staged, files)


def _arrow_batches(rows: pl.DataFrame, base: Snapshot) -> list[pa.RecordBatch]:
    """Rows as the table's files hold them, what users added to them too."""
    types = pa.schema([field for field in base.file_schema if field.name in rows.columns])
    table = rows.select(types.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(types)
    batches: list[pa.RecordBatch] = table.to_batches()
    return batches


def _one_an_image(said: Said, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the columns of the table, one an image and field."""
    key = ["relative_path", "field"]
    wanted = [*key, "folder", "values", "split", "boxes", "kept_apart", "content_sha256", "row"]
    rows = rows.select(wanted)
    again = rows.filter(pl.struct(key).is_duplicated()) if len(rows) else rows
    if not len(again):
        return rows.drop("row")
    if not said.may_repeat:
        first = (
            again.sort("row")
            .with_columns(_first=pl.col("row").first().over(key))
            .filter(pl.col("row") != pl.col("_first"))
        )
        said.faults.extend(
            first,
            lambda row: (
                f"{said.place(row['row'])}: {printable(row['relative_path'])} again, after {said.place(row['_first'])}"
            ),
        )
        return rows.drop("row")
    once = rows.join(again.select(key).unique(), on=key, how="anti")
    splits = (
        again.drop_nulls("split").group_by(key).agg(pl.col("split").unique(maintain_order=True), pl.col("row").last())
    )
    said.faults.extend(
        splits.filter(pl.col("split").list.len() > 1).sort("row"),
        lambda row: (
            f"{said.place(row['row'])}: {printable(row['relative_path'])} is in the splits {', '.join(row['split'])}"
        ),
    )
    # Null (nothing said) is not empty (nothing there), so what only nulls say stays null.
    has = {name: pl.col(name).is_not_null().any().alias(f"_{name}") for name in ("values", "boxes")}
    joined = (
        again.sort("row")
        .group_by(key, maintain_order=True)
        .agg(
            pl.col("folder", "kept_apart", "content_sha256").first(),
            pl.col("split").drop_nulls().first(),
            *has.values(),
            pl.col("values").drop_nulls().explode(empty_as_null=False).unique(maintain_order=True),
            pl.col("boxes").drop_nulls().explode(empty_as_null=False),
        )
        .with_columns(pl.when(f"_{name}").then(pl.col(name)).alias(name) for name in has)
    )
    columns = [name for name in wanted if name != "row"]
    return pl.concat([once.select(columns), joined.select(columns).cast({"boxes": BOXES})])


def _mark() -> pl.Expr:
    """64 bits that tell a row from another of the same key."""
    return pl.struct(_SAID).struct.json_encode().hash()


def _stored(base: Snapshot | None, where: pl.Expr) -> pl.DataFrame:
    """Of rows of a table the key and ``_before``, what tells them from others; read in parts, as rows may be large."""
    found = [pl.DataFrame(schema=dict.fromkeys(KEY, pl.String) | {"_before": pl.UInt64})]
    if base is not None:
        for folders in partitions_in_parts(base):
            rows = base.read([*KEY, *_SAID], files=base.files_of(folders), where=where)
            found.append(rows.select(*KEY, _before=_mark()))
    return pl.concat(found)


def _no_rows() -> pl.DataFrame:
    return pl.DataFrame(schema=SCHEMA)


def _counts(rows: pl.DataFrame) -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    """Images by field and label, and by split."""
    labels = (
        labels_of(rows).group_by("field", "label").len().sort("field", "len", "label", descending=[False, True, False])
    )
    found: dict[str, dict[str, int]] = {str(name): {} for name in sorted(rows["field"].unique())}
    for name, label, number in labels.iter_rows():
        found[name][label] = number
    splits = (
        rows.drop_nulls("split")
        .unique(["relative_path", "split"])
        .group_by("split")
        .len()
        .sort("len", "split", descending=[True, False])
    )
    return found, dict(splits.iter_rows())


def labels_of(rows: pl.DataFrame) -> pl.DataFrame:
    """Every label of every row: ``relative_path``, ``field``, ``label``; once each."""
    flat = rows.select("relative_path", "field", label="values").explode("label").drop_nulls("label")
    return flat.unique(maintain_order=True)


def _boxes(rows: pl.DataFrame) -> int:
    found = rows.select(pl.col("boxes").list.len().sum()).item()
    return int(found or 0)


def _single(rows: pl.DataFrame) -> list[str]:
    """Labels that one image alone has: a slip of the pen, or too few to learn from."""
    labels = labels_of(rows)
    single = labels.filter(pl.len().over("field", "label") == 1).sort("field", "label")
    notes = [
        f"label '{printable(row['label'])}' of {row['field']} is on one image alone: {printable(row['relative_path'])}"
        for row in single.head(_ONE_EXAMPLE).iter_rows(named=True)
    ]
    if len(single) > _ONE_EXAMPLE:
        notes.append(f"and {len(single) - _ONE_EXAMPLE:,} more labels are on one image alone")
    return notes
