"""From what a model failed on to a list of images to label: who may be mined, who is, and near to which failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from curation_assets.annotations.columns import counting_labels
from curation_assets.curate.duplicates.comparison import not_compared
from curation_assets.curate.duplicates.groups import Words
from curation_assets.curate.duplicates.judging import Thresholds as Agreements
from curation_assets.curate.duplicates.pictures import Pictures
from curation_assets.curate.neighbours.vectors import NodeVectors
from curation_assets.curate.overview import as_decided
from curation_assets.curate.problems import KINDS, OF_PICTURE
from curation_assets.datasets.mining import candidates as may
from curation_assets.datasets.mining.choosing import mined
from curation_assets.datasets.mining.failures import Placed
from curation_assets.datasets.mining.outside import shown_in_lake
from curation_assets.decisions.record import read_decisions
from curation_assets.errors import CurationError
from curation_assets.search.filters import Filter
from curation_assets.search.index import SearchIndex
from curation_assets.search.searcher import Searcher
from curation_assets.tables import Tables

_ROW = ["relative_path", "content_sha256"]


@dataclass(frozen=True)
class Asked:
    """What is asked for.

    Attributes:
        size: how many images.
        chosen: conditions that they meet.
        not_in: dataset and version (None: the newest) that they are not in.
        labelled: whether they may be labelled.
        field: of annotations that counts as a label; None: any.
    """

    size: int
    chosen: Filter
    not_in: Sequence[tuple[str, int | None]] = ()
    labelled: bool = False
    field: str | None = None


@dataclass(frozen=True)
class Mined:
    """What was found.

    Attributes:
        images: in the order in which they were taken: ``relative_path``, ``content_sha256``, ``file_path``, ``cosine``
            with the failure that it was taken for, ``failed`` (its name, as it was given) and ``loss``.
        candidates: how many could be taken.
        aside: why others could not → how many.
        failures: distinct contents that the model failed on; ``outside``: of these in no lake.
        behind: how far the tables have gone on since the index was made; None if they have not.
    """

    images: pl.DataFrame
    candidates: int
    aside: dict[str, int]
    failures: int
    outside: int
    behind: str | None


def mine(
    failed: Placed,
    asked: Asked,
    tables: Tables,
    searcher: Searcher,
    index: SearchIndex,
    order: Sequence[str],
    agreements: Agreements,
    pictures: Callable[[], Pictures],
    judged: Callable[[], pl.DataFrame],
) -> Mined:
    """Find the images that are most worth labelling.

    Args:
        order: of sources of annotations.
        agreements: with which images have to be compared.
        pictures: of the contents of the lake, to compare files with that are not in it.
        judged: the rows of the quality table with verdicts.

    Raises:
        CurationError: a condition or dataset can't be used, a table is not there, or no image is left.
    """
    for table in (tables.pairs, tables.groups, tables.quality):
        if not table.exists():
            raise CurationError(f"there is no table at {table.path}; `curation curate` creates it")
    pairs = tables.pairs.latest().read(["first", "second", "kind", "similarity"]).drop("_file")
    groups = tables.groups.latest().read(["kind", "group_id", "content_sha256", "similarity"]).drop("_file")
    decisions = read_decisions(tables.decisions)
    words = Words(decisions.same_pairs(), decisions.different_pairs())
    images = index.rows.select(*_ROW, "position", "file_path", reason=pl.lit(None, pl.String))
    images = images.filter(pl.col("content_sha256").is_not_null())
    if (rows := searcher.matching(index, asked.chosen)) is not None:
        meeting = index.rows["relative_path"].gather(rows)
        images = may.set_aside(images, ~pl.col("relative_path").is_in(meeting.implode()), may.NOT_ASKED)
    images = may.set_aside(images, pl.col("position").is_null(), may.NO_VECTOR)
    said = counting_labels(tables.annotations, tables.decisions, tables.pairs, order, images.select(_ROW))
    if asked.field is not None and asked.field not in (fields := sorted(said["field"].unique())):
        raise CurationError(
            f"--field: no image has an annotation of {asked.field!r}; fields are {', '.join(fields) or 'none'}"
        )
    tested = may.in_test(tables.datasets, said.select(*_ROW, "split"))
    images = may.set_aside_with_kin(images, tested, may.TEST, groups, pairs, words)
    contents = failed.contents
    if failed.outside:
        sizes = index.rows.select("content_sha256", "width", "height").drop_nulls()
        contents = [*contents, *shown_in_lake(failed.outside, index, pictures(), sizes, agreements)]
    own = pl.DataFrame({"relative_path": contents, "content_sha256": contents}).unique()
    images = may.set_aside_with_kin(images, own, may.FAILED, groups, pairs, words)
    for name, kept in may.kept_by(tables.datasets, asked.not_in).items():
        images = may.set_aside_with_kin(images, kept, name, groups, pairs, words)
    if not asked.labelled:
        counts = pl.lit(value=True) if asked.field is None else pl.col("field") == asked.field
        with_label = said.filter(pl.col("values").is_not_null() & counts)["content_sha256"]
        images = may.set_aside(images, pl.col("content_sha256").is_in(with_label.implode()), may.LABELLED)
    removed = pl.concat([decisions.removed(), decisions.removed_duplicates().select("content_sha256", "reason")])
    images = may.set_aside(images, pl.col("content_sha256").is_in(removed["content_sha256"].implode()), may.REMOVED)
    compared = tables.compared.latest() if tables.compared.exists() else None
    waiting = not_compared(tables.directory.latest(), compared, agreements)
    images = may.set_aside(images, pl.col("content_sha256").is_in(waiting.implode()), may.NOT_EXAMINED)
    images = _without_problems(images, judged())
    is_copy = pl.col("reason").is_null() & (pl.int_range(pl.len()).over("content_sha256", "reason") > 0)
    images = may.set_aside(images.sort("relative_path"), is_copy, may.COPY)
    aside = dict(images.drop_nulls("reason")["reason"].value_counts().sort("reason").iter_rows())
    free = images.filter(pl.col("reason").is_null()).sort("content_sha256")
    if not len(free):
        told = ", ".join(f"{reason} {number:,}" for reason, number in sorted(aside.items(), key=lambda one: -one[1]))
        raise CurationError(f"no image is left to mine: {told or 'the index holds none'}")
    vectors = NodeVectors(index.segments, free["position"].to_numpy().astype(np.int64))
    found = mined(
        vectors, failed.vectors, failed.losses, asked.size, _Kin(free["content_sha256"], groups, pairs, words)
    )
    taken = free[[candidate for candidate, _, _ in found]].select(*_ROW, "file_path")
    taken = taken.with_columns(
        cosine=pl.Series([cosine for _, _, cosine in found], dtype=pl.Float32),
        failed=pl.Series([failed.names[failure] for _, failure, _ in found], dtype=pl.String),
        loss=pl.Series([float(failed.losses[failure]) for _, failure, _ in found], dtype=pl.Float64),
    )
    return Mined(taken, len(free), aside, len(failed.names), len(failed.outside), searcher.behind(index))


def _without_problems(images: pl.DataFrame, judged: pl.DataFrame) -> pl.DataFrame:
    """Set aside what has a problem of its picture, or was not measured."""
    kinds = [kind.name for kind in KINDS.values() if kind.told_by in OF_PICTURE]
    first = pl.coalesce(pl.lit(None, pl.String), *[pl.when(pl.col(kind)).then(pl.lit(kind)) for kind in kinds])
    told = as_decided(judged).select(*_ROW, problem=first, is_measured=pl.lit(value=True)).unique(_ROW, keep="first")
    images = images.join(told, on=_ROW, how="left", maintain_order="left")
    images = may.set_aside(images, pl.col("is_measured").is_null(), may.NOT_EXAMINED)
    return may.set_aside(images, pl.col("problem").is_not_null(), pl.col("problem")).drop("problem", "is_measured")


class _Kin:
    """Candidates that show the same photograph or scene as one of them, by groups and pairs.

    Args:
        contents: of the candidates, in their order.
    """

    def __init__(self, contents: pl.Series, groups: pl.DataFrame, pairs: pl.DataFrame, words: Words) -> None:
        numbers = pl.DataFrame({"content_sha256": contents}).with_row_index("number")
        members = groups.join(numbers, on="content_sha256").select("kind", "group_id", "number").unique()
        members = members.group_by("kind", "group_id").agg("number").filter(pl.col("number").list.len() > 1)
        key = ["first", "second"]
        known = (
            pl.concat([words.same.select(key), pairs.select(key)]).unique().join(words.different, on=key, how="anti")
        )
        for side in key:
            known = known.join(numbers.rename({"content_sha256": side, "number": f"{side}_number"}), on=side)
        self._near: dict[int, list[int]] = {}
        for one, other in known.select("first_number", "second_number").iter_rows():
            self._near.setdefault(one, []).append(other)
            self._near.setdefault(other, []).append(one)
        self._of: dict[int, list[int]] = {}
        self._members: list[list[int]] = members["number"].to_list()
        for place, numbers_of in enumerate(self._members):
            for number in numbers_of:
                self._of.setdefault(number, []).append(place)

    def __call__(self, candidate: int) -> list[int]:
        """Numbers of the others."""
        found = [*self._near.get(candidate, ())]
        for place in self._of.get(candidate, ()):
            found += self._members[place]
        return found
