"""Photographs that stand once: at whose place, shown as which image, and how many are folded."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import polars as pl
import pytest

from curation_assets.curate.columns import GroupSource
from curation_assets.search.attachments import Attachments
from curation_assets.search.index import SearchIndex
from curation_assets.search.ordering import Folded, Photographs, distinct
from curation_assets.search.query import Query
from curation_assets.search.ranking import best_photographs, best_rows
from curation_assets_tests.search.conftest import Lake, vector_of

COPIES = 40


class Groups:
    """A near group of some images, the first to be kept."""

    is_shown = False
    columns = GroupSource.columns

    def __init__(self, *members: str) -> None:
        self.members = members

    def version(self, index: SearchIndex) -> Hashable | None:
        return len(self.members) or None

    def read(self, index: SearchIndex) -> pl.DataFrame:
        rows = index.rows.filter(pl.col("relative_path").is_in(self.members)).select("relative_path", "content_sha256")
        return rows.with_columns(
            near_group=pl.lit("group"),
            near_keeper=pl.col("relative_path") == self.members[0],
            near_copies=pl.lit(len(rows) - 1, pl.Int32),
            burst_group=pl.lit(None, pl.String),
        )


@pytest.fixture
def index(lake: Lake) -> SearchIndex:
    """Forty copies of one content, then seven others; ``a/x.jpg`` has no vector."""
    lake.scan("a", {"x.jpg": "x"})
    lake.put("b", {f"copy {number:02}.jpg": "same" for number in range(COPIES)})
    lake.put("c", {f"{number}.jpg": f"other {number}" for number in range(7)})
    return lake.refresh().index


def best(index: SearchIndex, k: int, groups: Groups) -> tuple[list[str], list[float], int, Folded]:
    rows = index.ranked_rows()
    photographs = Photographs.among(index, rows, Attachments([groups]))
    found, scores, total = best_photographs(index, Query(), vector_of("same")[None, :], rows, k, photographs)
    return index.rows["relative_path"].gather(found).to_list(), scores.tolist(), total, photographs.folded


def test_as_many_photographs_come_as_are_asked_for_however_many_copies_the_best_has(index: SearchIndex) -> None:
    whole, scores, total, folded = best(index, 100, Groups())
    assert (total, len(whole), whole[0]) == (8, 8, "b/copy 00.jpg")
    assert scores == sorted(scores, reverse=True)
    assert folded == Folded(COPIES - 1, 0, are_near_known=False)
    for k in range(1, 9):
        assert best(index, k, Groups())[0] == whole[:k]


def test_a_photograph_has_the_place_of_its_best_copy_and_is_shown_as_the_one_to_keep(index: SearchIndex) -> None:
    everything, cosines, _ = best_rows(index, Query(), vector_of("same")[None, :], None, 100, approximate=False)
    paths = index.rows["relative_path"].gather(everything).to_list()
    alone = best(index, 100, Groups())[0]
    second, last = alone[1], alone[-1]
    whole, scores, total, folded = best(index, 100, Groups(last, second))
    assert whole == [alone[0], last, *alone[2:-1]]
    assert scores[1] == pytest.approx(cosines[paths.index(second)])
    assert (total, folded) == (7, Folded(COPIES - 1, 1, are_near_known=True))
    without_vector = best(index, 100, Groups("a/x.jpg", second))[0]
    assert without_vector == alone, "whom to keep can't be found by its vector"


def test_a_list_stays_in_its_order_with_the_one_to_keep_at_its_own_place(index: SearchIndex) -> None:
    numbers = np.arange(len(index.rows))[::-1]
    photographs = Photographs.among(index, numbers, Attachments([Groups("a/x.jpg", "c/3.jpg")]))
    paths = index.rows["relative_path"].gather(distinct(numbers, photographs)).to_list()
    assert paths == [*[f"c/{number}.jpg" for number in (6, 5, 4, 2, 1, 0)], f"b/copy {COPIES - 1}.jpg", "a/x.jpg"]
    assert photographs.folded == Folded(COPIES - 1, 1, are_near_known=True)


def test_nothing_is_no_photograph(index: SearchIndex) -> None:
    nothing = np.zeros(0, np.int64)
    photographs = Photographs.among(index, nothing, Attachments([Groups()]))
    assert (len(distinct(nothing, photographs)), photographs.folded.facts()) == (0, {"copies": 0, "near_copies": 0})
