"""The table of label issues, brought in line with annotations, decisions, groups and predictions.

It is a function of those tables, so what it should hold is made of them and compared with what it holds; only files
with rows that differ are written anew. Of which versions it was made is noted beside the index, so that nothing is read
where nothing changed. The note may be deleted at any time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from curation_assets.annotations.columns import near_pairs
from curation_assets.annotations.record import KEY as ANNOTATED
from curation_assets.annotations.record import read_rows
from curation_assets.annotations.said import SCHEMA
from curation_assets.annotations.standing import conflicts, counting
from curation_assets.clip.notes import read_note, write_note
from curation_assets.curate.duplicates.groups import Words
from curation_assets.curate.duplicates.rows import merge_files, replace_rows
from curation_assets.curate.labels.answered import by_person, unsure_of
from curation_assets.curate.labels.boxes import FOUND, box_faults
from curation_assets.curate.labels.boxes import KINDS as BOX_KINDS
from curation_assets.curate.labels.conflicting import conflicting
from curation_assets.curate.labels.questions import ISSUES, are_others, likely, questions
from curation_assets.curate.problems import CONFLICTING, LIKELY_WRONG, MISLABELLED
from curation_assets.decisions.record import read_decisions
from curation_assets.decisions.standing import Decisions
from curation_assets.embed.vectors import MODEL_COLUMNS
from curation_assets.lake import hive
from curation_assets.lake.rewrite import Rewrite, rewrite
from curation_assets.lake.schemas import LABEL_ISSUES
from curation_assets.lake.snapshot import Snapshot, partitions_in_parts
from curation_assets.lake.table import LakeTable
from curation_assets.progress import Progress
from curation_assets.tables import Tables

ISSUES_VERSION = 1  # raised when an issue is found or told otherwise
KINDS = (MISLABELLED, CONFLICTING, *BOX_KINDS)
_COLUMNS = list(LABEL_ISSUES.arrow_schema.names)
_ROWS = pl.Schema(LABEL_ISSUES.arrow_schema.remove_metadata())
_KEY = list(LABEL_ISSUES.key)
_IMAGE = ["relative_path", "content_sha256"]
_OF = [*_IMAGE, "field"]
_COUNTED = ["kind", "label_quality", "asked_again", *_IMAGE]
_IS_FIRST = pl.col("asked_again").is_null()  # nobody answered it
_AT_ONCE = 50_000  # rows whose boxes are looked at
_AS_ONE = "\x1f"  # between labels that are compared as one text; a comma may be within them


@dataclass
class LabelIssues:
    """What bringing the label issues in line did.

    Attributes:
        rows: that there are now; of each kind ``kinds``.
        likely_wrong: images with a label whose quality is below the threshold, but for those that are to be kept.
        changed: rows that are new or other than before, and rows that went.
    """

    rows: int = 0
    kinds: dict[str, int] = field(default_factory=dict)
    likely_wrong: int = 0
    changed: int = 0
    commits: int = 0
    version: int = -1
    seconds: float = 0.0


def bring_label_issues_in_line(
    tables: Tables, order: Sequence[str], note: Path, progress: Progress, limit: float = LIKELY_WRONG
) -> LabelIssues:
    """Find what speaks against labels and boxes, and write what differs.

    Args:
        order: of sources of annotations, the first counts most.
        note: where it is noted what they were made of.
        limit: quality of a label below which it counts as likely wrong.

    Raises:
        CurationError: a table can't be read or written.
    """
    started = time.perf_counter()
    result = LabelIssues()
    made_of = _made_of(tables, order, limit)  # before they are read: who changes one meanwhile is seen the next time

    def work(change: Rewrite) -> None:
        in_line = _is_noted(note, made_of, change.base)
        rows = change.base.read(_COUNTED) if in_line else label_issues(tables, order, limit)
        changed = rows.clear() if in_line else _changed(rows, change.base, is_whole=_is_whole(tables))
        counts = dict(rows["kind"].value_counts().iter_rows())
        result.rows, result.kinds = len(rows), {kind: counts.get(kind, 0) for kind in KINDS}
        result.likely_wrong = _likely_wrong(rows, tables.decisions, limit)
        result.changed = len(changed)
        broken = [file for file, _ in change.base.broken()]
        if not len(changed) and not broken:
            return
        new = rows.join(changed, on=_KEY, how="semi", nulls_equal=True, maintain_order="left")
        if own := change.base.added_columns:  # users' own, which stay with the key
            of_users = change.base.read([*_KEY, *own]).drop("_file").unique(_KEY, keep="first")
            new = new.join(of_users, on=_KEY, how="left", nulls_equal=True, maintain_order="left")
        result.commits += replace_rows(change, _KEY, changed, new, leaving=broken)
        result.commits += merge_files(change)

    issues = tables.label_issues
    after = rewrite(issues, hive.WHOLE, work, info={"job": "label issues"}, progress=progress)
    if made_of is not None and not _is_noted(note, made_of, after):
        write_note(note, made_of | _own(after))
    result.version = after.version
    result.seconds = time.perf_counter() - started
    return result


def _likely_wrong(rows: pl.DataFrame, decisions: LakeTable, limit: float) -> int:
    """Images as ``problems`` counts them: several fields or models make no more of one."""
    low = rows.filter((pl.col("kind") == MISLABELLED) & (pl.col("label_quality") < limit) & _IS_FIRST)
    if not len(low):
        return 0
    kept = read_decisions(decisions).kept()
    return low.join(kept, on="content_sha256", how="anti")["relative_path"].n_unique()


def label_issues_behind(tables: Tables, order: Sequence[str], note: Path, limit: float = LIKELY_WRONG) -> int:
    """How many rows :func:`bring_label_issues_in_line` would write or let go."""
    made_of = _made_of(tables, order, limit)
    if tables.label_issues.exists() and _is_noted(note, made_of, tables.label_issues.latest()):
        return 0
    rows = label_issues(tables, order, limit)
    if not tables.label_issues.exists():
        return len(rows)
    base = tables.label_issues.latest()
    return len(_changed(rows, base, is_whole=_is_whole(tables))) + sum(max(file.rows, 1) for file, _ in base.broken())


def _inputs(tables: Tables) -> list[Snapshot]:
    inputs = (tables.directory, tables.annotations, tables.decisions, tables.pairs, tables.groups, tables.predictions)
    return [table.latest() for table in inputs if table.exists()]


def _is_whole(tables: Tables) -> bool:
    """Whether every data file that the rows are made of can be read."""
    return not any(snapshot.broken() for snapshot in _inputs(tables))


def _made_of(tables: Tables, order: Sequence[str], limit: float) -> dict[str, Any] | None:
    """The versions of all that the rows are made of; None where a data file can't be read, and is left out."""
    there = _inputs(tables)
    if any(snapshot.broken() for snapshot in there):
        return None
    versions = [[snapshot.table_id, snapshot.version] for snapshot in there]
    return {"method": ISSUES_VERSION, "sources": list(order), "limit": limit, "tables": versions}


def _own(issues: Snapshot) -> dict[str, Any]:
    return {"label_issues": [issues.table_id, issues.version]}


def _is_noted(note: Path, made_of: dict[str, Any] | None, issues: Snapshot) -> bool:
    """Whether the rows were made of just that, and nobody changed them since."""
    return made_of is not None and not issues.broken() and read_note(note) == made_of | _own(issues)


def label_issues(tables: Tables, order: Sequence[str], limit: float = LIKELY_WRONG) -> pl.DataFrame:
    """The rows as they should be, sorted by their key.

    Args:
        limit: as of :func:`bring_label_issues_in_line`.

    Raises:
        CurationError: a table can't be read.
    """
    if not tables.directory.exists() or not tables.annotations.exists():
        return _ROWS.to_frame()
    directory = tables.directory.latest()
    images = directory.read([*_IMAGE, "status"]).filter(pl.col("status") == "ok").select(_IMAGE)
    images = images.unique("relative_path", keep="first")
    decisions = read_decisions(tables.decisions)
    near = near_pairs(tables.pairs) if len(decisions.relabelled()) else None
    said = read_rows(tables.annotations, columns=[*ANNOTATED, "values", "content_sha256"])
    said = said.with_columns(split=None, boxes=None).cast({"boxes": SCHEMA["boxes"], "split": pl.String})
    counts = _as_text(counting(said, order, images, decisions, near))
    given = counts.select(*_OF, "given")
    found = [
        _conflicting(tables, counts, conflicts(said, images), decisions),
        _mislabelled(tables.predictions, counts),
        _boxes(directory, tables.annotations, order),
    ]
    rows = pl.concat([one.select(*_OF, "kind", *_rest(one)) for one in found], how="diagonal_relaxed")
    rows = rows.join(given, on=_OF, how="left") if len(rows) else rows.with_columns(given=pl.lit(None, pl.String))
    rows = _unanswered(rows, counts, decisions, limit)
    lacking = [pl.lit(None, of).alias(name) for name, of in _ROWS.items() if name not in rows.columns]
    return rows.with_columns(*lacking).select(_COLUMNS).cast(_ROWS).sort(_KEY)


def _rest(frame: pl.DataFrame) -> list[str]:
    return [name for name in frame.columns if name not in (*_OF, "kind")]


def _as_text(counts: pl.DataFrame) -> pl.DataFrame:
    """Labels that count: ``given`` as people read them, and ``key``, in which equal ones are equal in any order."""
    labels = pl.col("values").list.unique().list.sort()
    some = counts.filter(pl.col("values").is_not_null())
    return some.select(
        *_OF, "values", "source", given=labels.list.join(", "), key=labels.list.join(_AS_ONE).fill_null("")
    )


def _conflicting(tables: Tables, counts: pl.DataFrame, disagreeing: pl.DataFrame, decisions: Decisions) -> pl.DataFrame:
    """One photograph with two labels, and sources that disagree about one image."""
    words = Words(decisions.same_pairs(), decisions.different_pairs())
    groups = _read(tables.groups, ["kind", "group_id", "content_sha256"])
    pairs = _read(tables.pairs, ["first", "second", "kind", "similarity"])
    copies = conflicting(counts, groups, pairs, words)
    nothing, labelled = pl.lit("with nothing on it"), pl.format("labelled {}", "nearest_given")
    label = pl.when(pl.col("nearest_given") == "").then(nothing).otherwise(labelled)
    what = pl.when("is_copy").then(pl.lit("the same file")).otherwise(pl.lit("the same photograph"))
    several = pl.format(", and {} more images differ", pl.col("number") - 1)
    one_more = pl.when(pl.col("number") == 2).then(pl.lit(", and 1 more image differs"))
    others = one_more.when(pl.col("number") > 2).then(several).otherwise(pl.lit(""))
    copy = pl.format("{} is {}, {}{}", "nearest", what, label, others)
    of_copies = copies.select(*_OF, "number", "evidence", "suggested", copy=copy)
    told = pl.format("{} says {}", "sources", pl.col("labels").replace("", "nothing"))
    of_sources = (
        disagreeing.explode("sources", "labels")
        .join(counts.select(*_OF, "given"), on=_OF, maintain_order="left")
        .group_by(_OF, maintain_order=True)
        .agg(
            disagree=pl.format("sources disagree: {}", told.str.join(", ")),
            unlike=(pl.col("labels") != pl.col("given")).sum().cast(pl.Int64),
        )
    )
    both = of_copies.join(of_sources, on=_OF, how="full", coalesce=True)
    return both.select(
        *_OF,
        "suggested",
        "evidence",
        kind=pl.lit(CONFLICTING),
        number=pl.col("number").fill_null(0) + pl.col("unlike").fill_null(0),
        reason=pl.concat_str("disagree", "copy", separator="; ", ignore_nulls=True),
        made_with=pl.lit(str(ISSUES_VERSION)),
    )


def _mislabelled(predictions: LakeTable, counts: pl.DataFrame) -> pl.DataFrame:
    """Labels that a classifier which was fitted without the image speaks against, as far as they are those it saw."""
    columns = [*_OF, *MODEL_COLUMNS, "label", "suggested", "label_quality", "confidence", "made_with"]
    where = pl.col("suggested").is_not_null() & pl.col("label").is_not_null()
    rows = _read(predictions, columns, where).unique(["relative_path", "field", "model_version"])
    single = counts.filter(pl.col("values").list.len() == 1).select(*_OF, label=pl.col("values").list.first())
    rows = rows.join(single, on=[*_OF, "label"], how="semi")
    quality = pl.col("label_quality").round(3)
    return rows.select(
        *_OF,
        *MODEL_COLUMNS,
        "suggested",
        "label_quality",
        kind=pl.lit(MISLABELLED),
        reason=pl.format("it looks like {}; quality of the label {}: {}", "suggested", "label", quality),
        made_with=pl.format("{}-{}", pl.lit(ISSUES_VERSION), "made_with"),
    )


def _boxes(directory: Snapshot, annotations: LakeTable, order: Sequence[str]) -> pl.DataFrame:
    """What is wrong with the boxes that count; read in parts, as there may be many."""
    found = [FOUND.to_frame()]
    rows = annotations.latest()
    has, is_ok = pl.col("boxes").list.len() > 0, pl.col("status") == "ok"
    for folders in partitions_in_parts(rows, rows=_AT_ONCE):
        columns = [*ANNOTATED, "boxes", "content_sha256"]
        boxed = rows.read(columns, files=rows.files_of(folders), where=pl.col("boxes").is_not_null())
        boxed = boxed.drop("_file").unique(ANNOTATED, keep="first")
        if not len(boxed.filter(has)):
            continue
        sizes = directory.read([*_IMAGE, "width", "height"], files=directory.files_of(folders), where=is_ok)
        sizes = sizes.drop("_file").unique("relative_path", keep="first")
        said = boxed.with_columns(values=None, split=None).cast({"values": SCHEMA["values"], "split": pl.String})
        best = counting(said, order, sizes.select(_IMAGE)).filter(has)
        found.append(box_faults(best.join(sizes, on=_IMAGE).select(*_OF, "boxes", "width", "height")))
    return pl.concat(found).with_columns(made_with=pl.lit(str(ISSUES_VERSION)))


def _unanswered(rows: pl.DataFrame, counts: pl.DataFrame, decisions: Decisions, limit: float) -> pl.DataFrame:
    """Rows without what a person has answered: the label that counts is theirs, or they can't tell.

    What is another question by now stays, and says so in ``asked_again``.
    """
    of_labels = pl.col("kind").is_in(ISSUES)
    asked = questions(rows.filter(of_labels & likely(limit)))
    others = asked.filter(are_others(asked, decisions)).select(*_OF, asked_again=pl.lit(value=True))
    by_someone = by_person(counts).with_columns(_by=pl.lit(value=True))
    unsure = unsure_of(decisions).with_columns(_unsure=pl.lit(value=True))
    rows = rows.join(by_someone, on=_OF, how="left", maintain_order="left")
    rows = rows.join(unsure, on=["content_sha256", "field"], how="left", maintain_order="left")
    rows = rows.join(others, on=_OF, how="left", maintain_order="left")
    rows = rows.with_columns(asked_again=pl.when(of_labels).then("asked_again"))
    is_answered = (of_labels & pl.col("_by")).fill_null(value=False) | pl.col("_unsure").fill_null(value=False)
    return rows.filter(~is_answered | ~_IS_FIRST).drop("_by", "_unsure")


def _read(table: LakeTable, columns: list[str], where: pl.Expr | None = None) -> pl.DataFrame:
    """Some columns; no rows where there is no table."""
    if not table.exists():
        types = pl.Schema(table.spec.arrow_schema.remove_metadata())
        return pl.DataFrame(schema={name: types[name] for name in columns})
    return table.latest().read(columns, where=where).drop("_file")


def _changed(rows: pl.DataFrame, base: Snapshot, *, is_whole: bool) -> pl.DataFrame:
    """Keys of rows that are new, other than before, gone or doubled.

    Args:
        is_whole: whether all that they are made of could be read; else what is lacking is not taken for gone.
    """
    before = base.read(_COLUMNS).select(_COLUMNS).cast(_ROWS)
    differing = rows.join(before, on=_COLUMNS, how="anti", nulls_equal=True).select(_KEY)
    gone = before.join(rows, on=_KEY, how="anti", nulls_equal=True).select(_KEY)
    gone = gone if is_whole else gone.clear()
    doubled = before.filter(pl.struct(_KEY).is_duplicated()).select(_KEY)  # by another writer
    return pl.concat([differing, gone, doubled]).unique()
