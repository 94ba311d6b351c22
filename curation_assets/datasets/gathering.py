"""What the tables say of the images of a lake, as one frame that a dataset is built of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.annotations.columns import counting_labels
from curation_assets.annotations.formats.folders import compiled_pattern
from curation_assets.annotations.standing import COUNTING
from curation_assets.curate.duplicates.comparison import not_compared
from curation_assets.curate.duplicates.grouping import decided, ranking_facts
from curation_assets.curate.duplicates.groups import Words, group_rows
from curation_assets.curate.duplicates.judging import Thresholds as Agreements
from curation_assets.curate.neighbours.vectors import Floats
from curation_assets.curate.overview import as_decided
from curation_assets.curate.problems import KINDS, OF_PICTURE
from curation_assets.datasets.columns import BEGINS as OF_VERSIONS
from curation_assets.datasets.given import Given, read_given, sides_given, told_lacking
from curation_assets.datasets.recipe import ANNOTATIONS, Labels, Recipe, Split
from curation_assets.decisions.record import read_decisions
from curation_assets.decisions.standing import Decisions
from curation_assets.errors import CurationError
from curation_assets.lake.schemas import GROUPS
from curation_assets.search.filters import columns_named, make_filter
from curation_assets.search.index import SearchIndex
from curation_assets.search.searcher import Searcher
from curation_assets.tables import Tables

_KEY = ["relative_path", "content_sha256"]
_OF_INDEX = [
    *_KEY,
    "folder",
    "file_name",
    "captured_at",
    "camera",
    "latitude",
    "longitude",
    "size_bytes",
    "_file",
]


@dataclass(frozen=True)
class Gathered:
    """A lake at one moment.

    Attributes:
        images: usable ones that a recipe looks at, sorted by path: of the index ``relative_path``, ``content_sha256``,
            ``folder``, ``file_name``, ``captured_at``, ``camera``, ``latitude``, ``longitude``, ``size_bytes`` and
            ``_file``; the columns of ``keepers.CRITERIA``; ``values`` (labels), ``against`` (a person's word),
            ``unsure``, ``examined``, ``problem`` (the first kind that the recipe leaves out), ``flagged`` (whether it
            has any problem) and ``doubted`` (one of its labels or boxes), if the gate asks, ``given_split`` (where
            annotations or a file say it lies, if the recipe asks them), ``together_…``, what has to be equal on one
            side, and ``of_group``, the group that it is in, if the recipe makes sides of groups. ``must_have``: whether
            a person said to keep it. ``position`` of its vector (null: it has none) and ``last``, the first kind of
            problem of its picture (null: none), if the recipe has a subset by vectors.
        groups: ``kind``, ``group_id`` (for this once), ``relative_path``, ``content_sha256``, ``similarity`` of all.
        pairs: ``first``, ``second``, ``kind``, ``similarity``.
        decisions: that count.
        given: the file that says where images lie; None: there is none.
        notes: what a person should know.
        segments: arrays of vectors, as the index has them.
    """

    images: pl.DataFrame
    groups: pl.DataFrame
    pairs: pl.DataFrame
    decisions: Decisions
    given: Given | None = None
    notes: Sequence[str] = ()
    segments: Sequence[Floats] = ()

    @property
    def words(self) -> Words:
        """What people said of pairs."""
        return Words(self.decisions.same_pairs(), self.decisions.different_pairs())


def gather(
    recipe: Recipe,
    tables: Tables,
    searcher: Searcher,
    index: SearchIndex,
    order: Sequence[str],
    agreements: Agreements,
    judged: Callable[[dict[str, float]], pl.DataFrame],
) -> Gathered:
    """Read what a recipe needs.

    Args:
        order: of sources of annotations.
        agreements: with which images have to be compared.
        judged: the rows of the quality table with verdicts, by thresholds in place of the settings'.

    Raises:
        CurationError: a condition, folder, column or label of the recipe can't be used.
    """
    _refuse_versions(recipe, searcher)
    rows = _chosen(recipe, searcher, index)
    images = index.rows[rows].select(_OF_INDEX)
    decisions = read_decisions(tables.decisions)
    pairs = tables.pairs.latest().read(["first", "second", "kind", "similarity", "method"]).drop("_file")
    directory = tables.directory.latest()
    facts = ranking_facts(directory, tables.quality, tables.annotations, decided(decisions))
    words = Words(decisions.same_pairs(), decisions.different_pairs())
    nothing = pl.DataFrame(schema=pl.Schema(GROUPS.arrow_schema.remove_metadata()))
    groups = group_rows(facts, pairs, words, recipe.keep.order, nothing, datetime.now(UTC))
    images = images.join(facts.drop("content_sha256"), on="relative_path", how="left", maintain_order="left")
    field = recipe.labels.field if recipe.labels is not None else None
    asks = recipe.split is not None and recipe.split.given == ANNOTATIONS
    counting = COUNTING.to_frame()
    if field is not None or asks:
        said = (tables.annotations, tables.decisions, tables.pairs)
        counting = counting_labels(*said, order, images.select(_KEY))
    given, notes = None, list[str]()
    if recipe.split is not None and recipe.split.given_file is not None:
        images, given, notes = _with_given_file(images, recipe.split, recipe.folder)
    else:
        images = _with_given(images, recipe.split if asks else None, counting)
    images = _with_labels(images, recipe.labels, counting, searcher, index, rows)
    images = _with_doubts(images, recipe, decisions)
    waiting = not_compared(directory, tables.compared.latest() if tables.compared.exists() else None, agreements)
    images = images.with_columns(examined=~pl.col("content_sha256").is_in(waiting.implode()))
    images = _with_problems(images, recipe, judged)
    if recipe.subset.is_by_vectors:
        images = _for_subset(images, recipe, index, judged)
    if recipe.split is not None:
        together = recipe.split.together
        for number, pattern in enumerate(together.path):
            images = _with_part(images, pattern, f"together_path_{number}", "split.together.path")
        told = {f"together_{text}": searcher.values(index, text, "split.together.column") for text in together.column}
        images = images.with_columns(**{name: values[rows] for name, values in told.items()})
        images = _with_group(images, recipe.split, searcher, index, rows)
    return Gathered(images, groups, pairs, decisions, given, notes, index.segments)


def _refuse_versions(recipe: Recipe, searcher: Searcher) -> None:
    """What is made of versions of datasets would be another with each of them, and no table of it is noted."""
    asked = [] if recipe.images.where is None else [("images.where", recipe.images.where)]
    if recipe.split is not None:
        asked += [("split.together.column", text) for text in recipe.split.together.column]
        if recipe.split.groups is not None and not recipe.split.groups_are_of_paths:
            asked.append(("split.groups", recipe.split.groups))
    of_versions = {name for name in searcher.further_columns if name.startswith(OF_VERSIONS)}
    for key, text in asked:
        if named := sorted(columns_named(text) & of_versions):
            raise CurationError(f"{key}: {', '.join(named)} tells of a dataset's versions, of which none can be made")


def _chosen(recipe: Recipe, searcher: Searcher, index: SearchIndex) -> NDArray[np.int64]:
    """Numbers of the rows of usable images that a recipe looks at."""
    asked = recipe.images
    chosen = make_filter(folder=asked.folders, status=("ok",), tag=asked.tags, where=asked.where)
    rows = searcher.matching(index, chosen)
    numbers = np.arange(len(index.rows)) if rows is None else np.sort(rows)
    found: NDArray[np.int64] = numbers[index.rows[numbers]["content_sha256"].is_not_null().to_numpy()]
    if not len(found):
        raise CurationError("images: none is chosen by [images]")
    return found


def _with_given(images: pl.DataFrame, split: Split | None, counting: pl.DataFrame) -> pl.DataFrame:
    """``given_split``: the side that annotations put an image on, if the recipe asks them."""
    if split is None:
        return images.with_columns(given_split=pl.lit(None, pl.String))
    found = counting.drop_nulls("split").select("relative_path", given_split="split")
    found = found.unique("relative_path", keep="first")
    names = split.sides.names
    if unknown := sorted(set(found["given_split"]).difference(names)):
        raise CurationError(f"split.given: annotations name {', '.join(unknown)}; the recipe has {', '.join(names)}")
    return images.join(found, on="relative_path", how="left", maintain_order="left")


def _with_given_file(images: pl.DataFrame, split: Split, folder: Path) -> tuple[pl.DataFrame, Given, list[str]]:
    """``given_split``: the side that a file puts an image on; the file, and what of it there is to say."""
    given = read_given(folder, str(split.given_file), split.sides.names)
    found, lacking = sides_given(images, given)
    told = [told_lacking(given, lacking)] if len(lacking) else []
    found = found.rename({"split": "given_split"})
    return (
        images.join(found, on="relative_path", how="left", maintain_order="left"),
        replace(given, images=len(found)),
        told,
    )


def _with_labels(
    images: pl.DataFrame,
    labels: Labels | None,
    counting: pl.DataFrame,
    searcher: Searcher,
    index: SearchIndex,
    rows: NDArray[np.int64],
) -> pl.DataFrame:
    """``values`` of each image.

    Args:
        counting: what counts of annotations.
    """
    nothing = pl.lit(None, pl.List(pl.String))
    if labels is None:
        return images.with_columns(values=nothing)
    if labels.path is not None:
        expression, names = compiled_pattern(labels.path)
        part = names.index("class")
        found = images["relative_path"].str.extract_groups(expression).struct.unnest().to_series(part)
        return images.with_columns(values=pl.when(found.is_not_null()).then(pl.concat_list(found)).otherwise(nothing))
    if labels.zero_shot:
        text = searcher.further(index, rows, ["zero_shot_label"])["zero_shot_label"]
        if text.null_count() == len(text):
            raise CurationError(
                "labels.zero_shot: no image has a zero-shot label; CURATION_LABELS gives the texts, and "
                "`curation dataset build` without --no-curate, or the asset image_labels, chooses between them"
            )
        return images.with_columns(values=pl.when(text.is_not_null()).then(pl.concat_list(text)).otherwise(nothing))
    of_field = counting.filter((pl.col("field") == labels.field) & pl.col("values").is_not_null())
    if not len(of_field):
        there = ", ".join(sorted(counting["field"].unique())) or "none; `curation annotate` reads some"
        raise CurationError(f"labels.field: no image has an annotation of {labels.field!r}; fields are {there}")
    images = images.join(of_field.select(*_KEY, "values"), on=_KEY, how="left", maintain_order="left")
    if labels.predictions is None:
        return images
    names = [f"predicted_{labels.field}", f"confidence_{labels.field}"]
    if not set(names) <= set(searcher.columns):
        raise CurationError(f"labels.predictions: nothing predicts {labels.field}; `curation classify` does")
    predicted, confidence = searcher.further(index, rows, names).get_columns()
    sure = (confidence >= labels.predictions).fill_null(value=False)
    return images.with_columns(
        values=pl.when(pl.col("values").is_null() & sure).then(pl.concat_list(predicted)).otherwise("values")
    )


def _with_doubts(images: pl.DataFrame, recipe: Recipe, decisions: Decisions) -> pl.DataFrame:
    """``against`` (a person's word), ``unsure`` and ``must_have``."""
    removed = decisions.removed().select("content_sha256").unique().with_columns(_removed=pl.lit(value=True))
    spare = decisions.removed_duplicates().select(_KEY).unique().with_columns(_spare=pl.lit(value=True))
    images = images.join(removed, on="content_sha256", how="left", maintain_order="left")
    images = images.join(spare, on=_KEY, how="left", maintain_order="left")
    wanted = decisions.kept_duplicates().select(_KEY).unique().with_columns(_wanted=pl.lit(value=True))
    images = images.join(wanted, on=_KEY, how="left", maintain_order="left")
    field = pl.lit(recipe.labels.field if recipe.labels is not None else None, pl.String)
    doubted = decisions.rows.filter((pl.col("kind") == "unsure") & (pl.col("field") == field))["content_sha256"]
    return images.with_columns(
        against=pl.any_horizontal(pl.col("_removed", "_spare").fill_null(value=False)),
        unsure=pl.col("content_sha256").is_in(doubted.implode()),
        must_have=pl.col("content_sha256").is_in(decisions.kept()["content_sha256"].implode())
        | pl.col("_wanted").fill_null(value=False),
    ).drop("_removed", "_spare", "_wanted")


def _with_problems(
    images: pl.DataFrame, recipe: Recipe, judged: Callable[[dict[str, float]], pl.DataFrame]
) -> pl.DataFrame:
    """``problem``: the first kind that a recipe leaves out; ``flagged``, ``doubted``: whether there is any."""
    out = recipe.leave_out
    kinds = [kind for kind in KINDS if kind in out.kinds]
    kinds += [kind for kind in ("mislabelled", "conflicting") if getattr(out, kind) == "suspected" and recipe.labels]
    gate = recipe.gate
    if not kinds and gate.share_flagged is None and gate.undecided_label_issues is None:
        none = pl.lit(value=False)
        return images.with_columns(problem=pl.lit(None, pl.String), flagged=none, doubted=none)
    rows = as_decided(judged({kind: limit for kind, limit in out.kinds.items() if limit is not None}))
    told_of = [pl.when(pl.col(kind)).then(pl.lit(kind)) for kind in kinds]
    first = pl.coalesce(pl.lit(None, pl.String), *told_of)
    of_labels = [kind.name for kind in KINDS.values() if kind.told_by == "label_issues"]
    told = rows.select(
        *_KEY, problem=first, flagged=pl.any_horizontal(list(KINDS)), doubted=pl.any_horizontal(of_labels)
    ).unique(_KEY, keep="first")
    found = images.join(told, on=_KEY, how="left", maintain_order="left")
    return found.with_columns(
        pl.col("flagged", "doubted").fill_null(value=False),
        examined=pl.col("examined") & pl.col("flagged").is_not_null(),
    )


def _for_subset(
    images: pl.DataFrame,
    recipe: Recipe,
    index: SearchIndex,
    judged: Callable[[dict[str, float]], pl.DataFrame],
) -> pl.DataFrame:
    """``position`` of each image's vector, and ``last``, why it comes last."""
    of_content = index.rows.select("content_sha256", "position").drop_nulls().unique("content_sha256", keep="first")
    images = images.join(of_content, on="content_sha256", how="left", maintain_order="left")
    rows = as_decided(judged({kind: limit for kind, limit in recipe.leave_out.kinds.items() if limit is not None}))
    kinds = [kind.name for kind in KINDS.values() if kind.told_by in OF_PICTURE]
    first = pl.coalesce(pl.lit(None, pl.String), *[pl.when(pl.col(kind)).then(pl.lit(kind)) for kind in kinds])
    told = rows.select(*_KEY, last=first).unique(_KEY, keep="first")
    return images.join(told, on=_KEY, how="left", maintain_order="left")


def _with_group(
    images: pl.DataFrame, split: Split, searcher: Searcher, index: SearchIndex, rows: NDArray[np.int64]
) -> pl.DataFrame:
    """``of_group`` of each image, if groups are sides; null: it is in none."""
    if split.groups is None:
        return images
    if split.groups_are_of_paths:
        return _with_part(images, split.groups, "of_group", "split.groups")
    values = searcher.values(index, split.groups, "split.groups")[rows].replace("", None)
    if values.null_count() == len(values):
        raise CurationError(f"split.groups: no image has a value of {split.groups!r}")
    return images.with_columns(of_group=values)


def _with_part(images: pl.DataFrame, pattern: str, name: str, key: str) -> pl.DataFrame:
    """What the named parts of a pattern are in each path, as a column; null where it doesn't match."""
    expression, names = compiled_pattern(pattern)
    parts = images["relative_path"].str.extract_groups(expression).struct.unnest()
    told = parts.select(pl.concat_str(parts.columns[: len(names)], separator="/"))
    column = told.to_series().alias(name)
    if column.null_count() == len(column):
        raise CurationError(f"{key}: {pattern!r} matches no image")
    return images.with_columns(column)
