"""Further columns of images: they join an index by key, follow where they come from, and filter like any other."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from curation_assets.clip.versions import RegisteredModel
from curation_assets.curate.columns import QUALITY_COLUMNS, SCORE_COLUMNS
from curation_assets.errors import CurationError
from curation_assets.ingest import run
from curation_assets.lake.schemas import ZERO_SHOT_LABELS
from curation_assets.lake.table import LakeTable, Snapshot
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.search import image_map
from curation_assets.search.attachments import Attachments, MapSource, TableSource
from curation_assets.search.filters import COLUMNS, make_filter
from curation_assets.search.index import SearchIndex
from curation_assets.search.matching import matching_rows
from curation_assets.search.refresh import as_of
from curation_assets.search.zero_shot_table import label_folder, label_source
from curation_assets_tests.search.conftest import MODEL, Lake, vector_of

Fill = Callable[..., list[Path]]
LABELS = ("a healthy leaf", "rust", "an orange")


def matching(index: SearchIndex, attachments: Attachments, **conditions: Any) -> list[str] | None:
    """Paths that a filter lets through; None: all."""
    rows = matching_rows(index, attachments, make_filter(**conditions))
    return None if rows is None else index.rows["relative_path"].gather(rows).to_list()


# ---------------------------------------------------------------- by key


def test_columns_join_by_path_and_count_only_for_the_content_they_tell_of(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x", "2.jpg": "y", "3.jpg": "z"})
    index = lake.refresh().index
    contents = dict(index.rows.select("relative_path", "content_sha256").iter_rows())
    frame = pl.DataFrame(
        {
            "relative_path": ["a/3.jpg", "a/1.jpg", "a/2.jpg", "gone.jpg"],
            "content_sha256": [contents["a/3.jpg"], contents["a/1.jpg"], "an earlier content", "0"],
            "grade": [3, 1, 2, 9],
        }
    )
    assert index.attach(frame)["grade"].to_list() == [1, None, 3]
    assert index.attach(frame.drop("content_sha256"))["grade"].to_list() == [1, 2, 3]


def test_of_several_rows_of_an_image_the_first_that_counts_is_its_own(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x", "2.jpg": "y"})
    index = lake.refresh().index
    now = index.rows["content_sha256"][0]
    frame = pl.DataFrame(
        {
            "relative_path": ["a/1.jpg"] * 3,
            "content_sha256": ["an earlier content", now, now],
            "grade": [1, 2, 3],
        }
    )
    assert index.attach(frame)["grade"].to_list() == [2, None]
    assert index.attach(frame.drop("content_sha256"))["grade"].to_list() == [1, None]


# ------------------------------------------------------- labels, synthetic


@pytest.fixture
def labels(tmp_path: Path) -> LakeTable:
    """Where labels will be; there is no table yet."""
    return LakeTable(tmp_path / "labels", ZERO_SHOT_LABELS)


def label(lake: Lake, labels: LakeTable, folder: str, nearest: dict[str, str], model: RegisteredModel = MODEL) -> None:
    """Label a folder's vectors with texts whose vectors are those of contents."""
    labels.create()
    vectors = np.stack([vector_of(content) for content in nearest.values()])
    label_folder(lake.embeddings, labels, folder, model, list(nearest), vectors)


def test_labels_are_columns_that_a_condition_may_name(lake: Lake, labels: LakeTable) -> None:
    lake.put("a", {"1.jpg": "x", "2.jpg": "y"})
    lake.put("b", {"1.jpg": "x"})
    index, attachments = lake.refresh().index, Attachments([label_source(labels)])
    label(lake, labels, "a", {"rust": "x", "leaf": "y"})
    assert matching(index, attachments, where="zero_shot_label = 'rust'") == ["a/1.jpg"]
    assert matching(index, attachments, where="zero_shot_label IS NULL") == ["b/1.jpg"]
    assert matching(index, attachments, where="zero_shot_score > 0.99 AND zero_shot_margin > 0.1", folder="a") == [
        "a/1.jpg",
        "a/2.jpg",
    ]
    assert matching(index, attachments, where="zero_shot_label = 'rust' AND folder = 'b'") == []
    assert attachments.shown(index).columns == ["zero_shot_label", "zero_shot_score", "zero_shot_margin"]


def test_labels_follow_their_table_while_the_index_stays(lake: Lake, labels: LakeTable) -> None:
    lake.put("a", {"1.jpg": "x"})
    lake.put("b", {"1.jpg": "x"})
    index, attachments = lake.refresh().index, Attachments([label_source(labels)])
    where = "zero_shot_label = 'rust'"
    assert matching(index, attachments, where=where) == []  # there is no table
    label(lake, labels, "a", {"rust": "x", "leaf": "y"})
    assert matching(index, attachments, where=where) == ["a/1.jpg"]
    label(lake, labels, "b", {"rust": "x", "leaf": "y"})
    assert matching(index, attachments, where=where) == ["a/1.jpg", "b/1.jpg"]
    label(lake, labels, "a", {"leaf": "x", "rust": "y"})
    assert matching(index, attachments, where=where) == ["b/1.jpg"]


def test_a_label_of_an_earlier_content_does_not_count(lake: Lake, labels: LakeTable) -> None:
    lake.put("a", {"1.jpg": "x", "2.jpg": "x"})
    label(lake, labels, "a", {"rust": "x", "leaf": "y"})
    then = lake.directory.snapshot(), lake.embeddings.snapshot()
    lake.put("a", {"1.jpg": "other", "2.jpg": "x"})
    index, attachments = lake.refresh().index, Attachments([label_source(labels)])
    assert matching(index, attachments, where="zero_shot_label = 'rust'") == ["a/2.jpg"]
    before = as_of(index, *then, MODEL)
    assert matching(before, attachments, where="zero_shot_label = 'rust'") == ["a/1.jpg", "a/2.jpg"]


def test_only_labels_of_the_searched_models_vectors_count(lake: Lake, labels: LakeTable) -> None:
    other = replace(MODEL, version="2", fingerprint="e" * 32)
    lake.put("a", {"1.jpg": "x"})
    lake.embed("a", {"1.jpg": "x"}, other)
    attachments = Attachments([label_source(labels)])
    label(lake, labels, "a", {"rust": "x", "leaf": "y"}, other)
    theirs = lake.refresh(model=other).index
    assert matching(theirs, attachments, where="zero_shot_label = 'rust'") == ["a/1.jpg"]
    lake.index = lake.index.with_name("another")
    assert matching(lake.refresh().index, attachments, where="zero_shot_label = 'rust'") == []


def test_a_version_of_a_table_is_read_once_for_each_index_whoever_asks(
    lake: Lake, labels: LakeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake.put("a", {"1.jpg": "x"})
    label(lake, labels, "a", {"rust": "x", "leaf": "y"})
    index, attachments = lake.refresh().index, Attachments([MapSource(), label_source(labels)])
    read: list[Path] = []
    real = Snapshot.read

    def counted(snapshot: Snapshot, *args: Any, **kwargs: Any) -> pl.DataFrame:
        read.append(Path(snapshot.storage.location))
        return real(snapshot, *args, **kwargs)

    monkeypatch.setattr(Snapshot, "read", counted)
    assert matching(index, attachments, where="width IS NULL") == ["a/1.jpg"]
    assert read == []  # nothing asked for a label
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(matching, index, attachments, where="zero_shot_label = 'rust'") for _ in range(8)]
    assert [one.result() for one in asked] == [["a/1.jpg"]] * 8
    assert attachments.shown(index)["zero_shot_label"].to_list() == ["rust"]
    assert read == [labels.path]
    label(lake, labels, "a", {"leaf": "x", "rust": "y"})
    read.clear()
    assert matching(index, attachments, where="zero_shot_label = 'leaf'") == ["a/1.jpg"]
    assert read == [labels.path]


def test_a_column_that_is_nowhere_is_one_line_that_lists_those_that_are(lake: Lake, labels: LakeTable) -> None:
    lake.put("a", {"1.jpg": "x"})
    index, attachments = lake.refresh().index, Attachments([MapSource(), label_source(labels)])
    with pytest.raises(CurationError, match="there is no column quality") as error:
        matching(index, attachments, where="quality > 1")
    said = str(error.value)
    assert said.endswith(
        ", ".join((*COLUMNS, "map_x", "map_y", "zero_shot_label", "zero_shot_score", "zero_shot_margin"))
    )
    assert "\n" not in said
    with pytest.raises(CurationError, match="where="):
        matching(index, attachments, where="zero_shot_score = 'much'")


def test_another_table_is_one_source_more(lake: Lake, labels: LakeTable) -> None:
    lake.put("a", {"1.jpg": "x", "2.jpg": "y"})
    index = lake.refresh().index
    attachments = Attachments(
        [label_source(labels), TableSource(lake.embeddings, {"embedded_at": "seen_at", "model_name": "seen_by"})]
    )
    assert matching(index, attachments, where="seen_by = 'c.s.model' AND zero_shot_label IS NULL") == [
        "a/1.jpg",
        "a/2.jpg",
    ]
    assert matching(index, attachments, where="seen_at > DATE '2100-01-01'") == []


# --------------------------------------------------------------- the map


def test_places_on_the_map_are_columns_and_a_region_is_a_condition_over_them(lake: Lake) -> None:
    images = {f"{number}.jpg": f"c{number}" for number in range(20)}
    lake.put("a", images)
    index, attachments = lake.refresh().index, Attachments([MapSource()])
    left = ((-2.0, -2.0), (0.0, -2.0), (0.0, 2.0), (-2.0, 2.0))
    assert matching(index, attachments, where="map_x < 0") == []  # there is no map
    points = image_map.refresh(index, LogProgress()).points
    expected = points.filter(pl.col("x") < 0)["relative_path"].to_list()
    assert 0 < len(expected) < 20
    assert matching(index, attachments, where="map_x < 0") == expected
    assert matching(index, attachments, region=left) == expected
    assert matching(index, attachments, region=left, where="map_x >= 0") == []
    lake.put("a", images | {"0.jpg": "of another content, where the map has its place still"})
    assert matching(lake.refresh().index, attachments, region=left) == expected
    earlier = as_of(index, lake.directory.snapshot(), lake.embeddings.snapshot(), MODEL)
    assert matching(earlier, attachments, where="map_x IS NULL") == sorted(index.rows["relative_path"])


# ------------------------------------------------------------- by a search


def test_a_search_finds_by_label_and_follows_new_labels(ready: Pipeline, fill: Fill) -> None:
    fill("a", 6)
    pipeline = Pipeline(ready.settings.model_copy(update={"labels": list(LABELS)}))
    run(pipeline, LogProgress())
    searcher, model = pipeline.searcher, pipeline.registry.champion()
    assert searcher.search("leaf", where=f"zero_shot_label = '{LABELS[0]}'").total == 0
    pipeline.label_zero_shot("a", model)
    expected = searcher.labels(LABELS)
    for text in LABELS:
        found = searcher.search("leaf", 10, where=f"zero_shot_label = '{text}'")
        assert (
            sorted(found.rows["relative_path"]) == expected.filter(pl.col("label") == text)["relative_path"].to_list()
        )
    region = ((-2, -2), (2, -2), (2, 2))
    with pytest.raises(CurationError, match="no map of these images yet; `curation map` makes it"):
        searcher.search("leaf", region=region)
    with pytest.raises(CurationError, match="the map is one of the newest images"):
        searcher.search("leaf", region=region, table_version=pipeline.tables.embeddings.newest_version())
    result = searcher.search("leaf", 10)
    further = searcher.further(result.index, result.numbers)
    labels = ["zero_shot_label", "zero_shot_score", "zero_shot_margin"]
    assert further.columns == [*labels, *QUALITY_COLUMNS, "problems", *SCORE_COLUMNS]
    rows = result.rows.select("relative_path").hstack(further).sort("relative_path")
    assert rows["zero_shot_label"].to_list() == expected["label"].to_list()
    assert rows["zero_shot_score"].to_list() == pytest.approx(expected["score"].to_list(), abs=1e-6)
    fill("a", 7)
    run(pipeline, LogProgress())
    assert searcher.search("leaf", 10, where="zero_shot_label IS NULL").rows["relative_path"].to_list() == [
        "a/photo_0006.jpg"
    ]
    pipeline.label_zero_shot("a", model)
    assert searcher.search("leaf", 10, where="zero_shot_label IS NULL").total == 0
    assert len(searcher.labels(LABELS, where=f"zero_shot_label IN ('{LABELS[0]}', '{LABELS[1]}')")) == sum(
        searcher.search("leaf", where=f"zero_shot_label = '{text}'").total for text in LABELS[:2]
    )
