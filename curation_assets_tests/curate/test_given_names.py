"""Names that people give clusters: the last one counts, two never share one, and each is of one model's clusters."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

from curation_assets.curate.scores import given_names
from curation_assets.curate.scores.given_names import (
    Named,
    RefusedError,
    RenamedError,
    as_named,
    checked_name,
    highest_named,
    name_cluster,
    read_names,
)
from curation_assets.curate.scores.scoring import Wanted
from curation_assets.lake.schemas import CLUSTER_NAMES, SCORES
from curation_assets.lake.table import LakeTable
from curation_assets_tests.curate.test_scores import MODEL, score, three_bunches

Call = Callable[..., Named]


@pytest.fixture
def tables(tmp_path: Path) -> tuple[LakeTable, LakeTable]:
    """No names yet, and scores with clusters 0 to 2."""
    scores = LakeTable(tmp_path / "scores", SCORES)
    scores.create()
    score(scores, tmp_path / "index", three_bunches(8), Wanted(3))
    return LakeTable(tmp_path / "names", CLUSTER_NAMES), scores


@pytest.fixture
def call(tables: tuple[LakeTable, LakeTable]) -> Call:
    return lambda cluster, name, by="ann", seen=None: name_cluster(*tables, cluster, name, by, seen)


def test_of_those_who_want_one_name_at_once_one_gets_it(call: Call, tables: tuple[LakeTable, LakeTable]) -> None:
    def attempt(number: int) -> bool:
        try:
            return call(number % 3, "Rust" if number % 2 else "rust", f"person {number}").is_new
        except RefusedError:
            return False

    with ThreadPoolExecutor(6) as people:
        got = list(people.map(attempt, range(6)))
    counts = read_names(tables[0])
    assert counts["name"].str.to_lowercase().to_list() == ["rust"]
    cluster = counts["cluster"].item()
    assert {number % 3 for number, is_new in enumerate(got) if is_new} == {cluster}


def test_the_last_name_counts_also_where_a_clock_runs_behind(
    call: Call, tables: tuple[LakeTable, LakeTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    call(1, "first")
    behind = SimpleNamespace(now=lambda _: datetime(2020, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(given_names, "datetime", behind)
    call(1, "second", "bob", "first")
    assert read_names(tables[0]).select("name", "named_by").row(0) == ("second", "bob")
    with pytest.raises(RenamedError, match="bob named cluster 1 'second' meanwhile, it was 'first'"):
        call(1, "third", "ann", "first")
    assert not call(1, "second", "ann", "first").is_new, "it is called so already"
    assert call(1, None, "ann", "second").by is None
    assert not len(read_names(tables[0]))
    assert call(1, "first").is_new


def test_names_are_of_the_model_whose_clusters_they_are(call: Call, tables: tuple[LakeTable, LakeTable]) -> None:
    call(2, "two")
    rows = tables[1].latest().read(SCORES.arrow_schema.names)
    named = as_named(rows, read_names(tables[0]))
    assert named.columns == rows.columns
    assert named.filter(pl.col("cluster") == 2)["cluster_name"].unique().to_list() == ["two"]
    assert named.filter(pl.col("cluster") != 2).equals(rows.filter(pl.col("cluster") != 2))
    other = rows.with_columns(model_fingerprint=pl.lit("another"))
    assert as_named(other, read_names(tables[0])).equals(other)
    assert highest_named(tables[0], MODEL) == 2
    call(2, None)
    assert highest_named(tables[0], MODEL) == 2, "whoever remembers that name means another cluster"


def test_names_are_kept_as_they_are_read() -> None:
    assert checked_name("  Cafe\u0301 <b>1</b> ") == "Caf\u00e9 <b>1</b>"
    assert checked_name("x" * 100) == "x" * 100
    for wrong in ("", " \t", "a\nb", "a\u202eb", "a\x00", "\ud800", "x" * 101):
        with pytest.raises(RefusedError):
            checked_name(wrong)
