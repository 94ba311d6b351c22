"""The index on disk: what earlier versions of this package wrote is opened, under the names it has always had there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from curation_assets.progress import LogProgress
from curation_assets.search import image_map
from curation_assets.search.index import CURRENT, SearchIndex
from curation_assets_tests.search.conftest import Lake, vector_of

STORED = Path(__file__).with_name("index_of_format_2")  # of the images a/1.jpg, a/2.jpg and b/c/1.jpg, in two pieces


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "stored"))


def test_an_index_that_the_first_version_wrote_opens_and_finds_what_it_holds(stored: Path) -> None:
    index = SearchIndex.open(stored)
    assert index is not None
    assert (index.info.embeddings_version, index.info.built_at_version, index.info.vectors) == (2, 1, 3)
    assert dict(index.keys.select("relative_path", "first_seen_version").iter_rows()) == {
        "a/1.jpg": 1,
        "a/2.jpg": 1,
        "b/c/1.jpg": 2,
    }
    for path, content in (("a/1.jpg", "x"), ("a/2.jpg", "y"), ("b/c/1.jpg", "z")):
        rows, cosines = index.nearest(vector_of(content)[None], 1)
        assert index.rows["relative_path"].gather(rows[0]).to_list() == [path]
        assert cosines[0] == pytest.approx([1], abs=1e-5)


def test_a_map_that_the_first_version_wrote_is_read(stored: Path) -> None:
    points = image_map.read(image_map.location_of(stored))
    assert points is not None
    assert points["relative_path"].to_list() == ["a/1.jpg", "a/2.jpg", "b/c/1.jpg"]


def test_a_map_is_written_under_the_names_that_the_first_version_gave(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x"})
    image_map.refresh(lake.refresh().index, LogProgress())
    before, now = (pq.read_schema(image_map.location_of(path) / "map.parquet") for path in (STORED, lake.index))
    assert now.equals(before)
    assert list(json.loads(now.metadata[b"curation"])) == list(json.loads(before.metadata[b"curation"]))


def test_an_index_is_written_under_the_names_that_the_first_version_gave(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x"})
    info = lake.refresh().index.info
    before, now = (json.loads((path / CURRENT).read_text()) for path in (STORED, lake.index))
    assert list(now) == list(before)
    for kind in ("rows_file", "vectors_file"):
        schemas = [pl.read_ipc_schema(path / said[kind]) for path, said in ((STORED, before), (lake.index, now))]
        assert schemas[0] == schemas[1]
    assert info.files == {file.name for file in lake.index.iterdir()} - {CURRENT, "_writer.lock"}


def test_an_index_that_the_first_version_wrote_is_gone_on_from(lake: Lake) -> None:
    lake.put("a", {"1.jpg": "x", "2.jpg": "y"})
    lake.put("b/c", {"1.jpg": "z"})
    shutil.copytree(STORED, lake.index)
    said = json.loads((lake.index / CURRENT).read_text())
    said["table_id"], said["directory_id"] = (t.snapshot().table_id for t in (lake.embeddings, lake.directory))
    (lake.index / CURRENT).write_text(json.dumps(said))  # as if it were of these tables
    lake.put("d", {"1.jpg": "w"})
    done = lake.refresh()
    assert not done.rebuilt
    assert done.index.info.built_at_version == 1
    assert done.index.rows["relative_path"].to_list() == ["a/1.jpg", "a/2.jpg", "b/c/1.jpg", "d/1.jpg"]
    assert done.index.keys.filter(pl.col("relative_path") == "d/1.jpg")["first_seen_version"].to_list() == [3]
