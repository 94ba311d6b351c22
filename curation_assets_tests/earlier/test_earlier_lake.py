"""A lake, index, map, labels and registry that version 0.1.0 wrote are opened, searched, scanned and embedded."""

from __future__ import annotations

import os
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from curation_assets.curate.duplicates.overview import waiting
from curation_assets.curate.overview import as_decided, judged_rows
from curation_assets.curate.problems import thresholds
from curation_assets.decisions.record import append, read_decisions
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.search import image_map
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.earlier.make_lake import FOLDERS, LABELS

ARCHIVE = Path(__file__).with_name("lake_0_1_0.tar.xz")
IMAGES = sum(FOLDERS.values()) + 1  # and a copy
BAD = ["maize/plot 1/cut.jpg", "x=1/page.jpg"]


def _moved_registry(database: Path, old: str, new: str) -> None:
    """Let every path in a registry's database lead to where the archive was unpacked."""
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            columns = [(row[1], row[2]) for row in connection.execute(f'PRAGMA table_info("{table}")')]
            for column, kind in columns:
                if kind.upper().startswith(("VARCHAR", "TEXT")):
                    connection.execute(
                        f'UPDATE "{table}" SET "{column}" = replace("{column}", ?, ?) WHERE "{column}" LIKE ?',
                        (old, new, f"%{old}%"),
                    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        # Python 3.11 has it from 3.11.4 on.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)
    old = (tmp_path / "root.txt").read_text()
    _moved_registry(tmp_path / "mlflow" / "mlflow.db", old, str(tmp_path))
    return tmp_path


@pytest.fixture
def earlier(home: Path) -> Pipeline:
    return Pipeline(
        load_settings(
            images_root=home / "images", lake_root=home / "lake", model_source=str(home / "model"), labels=LABELS
        )
    )


def test_it_can_be_asked_and_searched_before_anything_is_written(earlier: Pipeline, home: Path) -> None:
    files = [path for path in home.rglob("*") if path.is_file() and "mlflow" not in path.parts]
    before = {path: path.stat().st_mtime_ns for path in files}
    tables = earlier.tables
    totals = tables.status(earlier.registry.champion()).drop("folder").sum().row(0)
    assert totals == (IMAGES + 2, IMAGES, 2, IMAGES, 0)
    assert tables.bad_files()["relative_path"].to_list() == BAD
    assert waiting(tables.directory, tables.compared, earlier.agreements) == IMAGES - 1, "of a copy nothing is asked"
    found = earlier.searcher.search("a green leaf", k=5)
    assert found.total == IMAGES
    assert found.behind is None
    copies = earlier.searcher.search(filter=None, where="content_sha256 = '" + _content(earlier, "x=1/copy.jpg") + "'")
    assert copies.rows["relative_path"].to_list() == ["maize/plot 1/photo_0.jpg", "x=1/copy.jpg"]
    assert len(earlier.searcher.map_of(found.index)) == IMAGES
    assert set(tables.zero_shot_labels.snapshot().read(["label"])["label"]) <= set(LABELS)
    assert {path: path.stat().st_mtime_ns for path in files} == before


def _content(pipeline: Pipeline, key: str) -> str:
    row = pipeline.tables.row(key)
    assert row is not None
    return str(row["content_sha256"])


def test_a_run_follows_the_moved_tree_reads_each_file_once_and_encodes_and_registers_nothing(
    earlier: Pipeline, home: Path, opened: list[str]
) -> None:
    summary = run(earlier, LogProgress())
    assert len(opened) == len(set(opened)) == IMAGES + 2, "this version reads JPEGs otherwise than that of the lake"
    assert sum(scan.outdated for scan in summary.scans) == IMAGES + 2
    opened.clear()
    assert not summary.chosen.is_new
    assert sum(embed.encoded for embed in summary.embeds) == 0
    assert summary.status.drop("folder").sum().row(0) == (IMAGES + 2, IMAGES, 2, IMAGES, 0)
    for table in (earlier.tables.directory, earlier.tables.embeddings):
        paths = table.snapshot().read(["file_path"])["file_path"]
        assert paths.str.starts_with(f"{home / 'images'}/").all()
    assert summary.index is not None
    assert not summary.index.rebuilt, "the index of the earlier version was gone on from"
    assert summary.scores is not None, summary.scores_error
    assert summary.scores.images == IMAGES
    assert set(earlier.tables.scores.latest().read(["cluster_name"])["cluster_name"]) <= set(LABELS)
    assert summary.predictions is None, "nothing is annotated"
    assert not earlier.tables.predictions.exists()
    again = run(earlier, LogProgress())
    assert opened == []
    assert sum(scan.commits for scan in again.scans) + sum(embed.commits for embed in again.embeds) == 0


def test_new_and_changed_images_alone_are_read_and_encoded(earlier: Pipeline, home: Path, opened: list[str]) -> None:
    run(earlier, LogProgress())
    opened.clear()
    (home / "images" / "x=1" / "photo_1.jpg").write_bytes(jpeg(7))
    (home / "images" / "oats").mkdir()
    (home / "images" / "oats" / "new.jpg").write_bytes(jpeg(8))
    summary = run(earlier, LogProgress())
    assert sorted(opened) == ["oats/new.jpg", "x=1/photo_1.jpg"]
    assert sum(embed.encoded for embed in summary.embeds) == 2
    assert summary.index is not None
    assert (len(summary.index.added), summary.index.removed, summary.index.rebuilt) == (2, 1, False)
    assert earlier.searcher.search("a green leaf").total == IMAGES + 1
    images = image_map.refresh(earlier.searcher.open(), LogProgress())
    assert (images.new, images.fresh_layout) == (2, False)


@pytest.mark.parametrize("rescan", [False, True])
def test_columns_that_users_added_survive_rewriting(
    earlier: Pipeline, home: Path, rescan: bool, add_column: Callable[[Path, str, str], None]
) -> None:
    tables = earlier.tables
    for table in (tables.directory, tables.embeddings, tables.zero_shot_labels):
        add_column(table.path, "field_note", "'of ' || relative_path")
    os.utime(home / "images" / "x=1" / "photo_0.jpg", (1, 1))  # is read again, with the others of its file rewritten
    (home / "images" / "x=1" / "photo_2.jpg").unlink()
    run(earlier, LogProgress(), rescan=rescan)
    champion = earlier.registry.champion()
    for folder in FOLDERS:
        earlier.label_zero_shot(folder, champion)
    left = IMAGES - 1
    for table, rows in ((tables.directory, left + 2), (tables.embeddings, left), (tables.zero_shot_labels, left)):
        frame = table.snapshot().read(["relative_path", "field_note"])
        assert len(frame) == rows
        assert (frame["field_note"] == "of " + frame["relative_path"]).all(), table.path.name
        assert pl.scan_delta(str(table.path)).select("field_note").collect().null_count().item() == 0


@pytest.fixture
def add_column() -> Callable[[Path, str, str], None]:
    """Add a text column and fill it, as a user does with deltalake."""
    import pyarrow as pa
    from deltalake import Schema

    def add(path: Path, name: str, value: str) -> None:
        DeltaTable(str(path)).alter.add_columns(Schema.from_arrow(pa.schema([pa.field(name, pa.string())])).fields)
        DeltaTable(str(path)).update(updates={name: value})

    return add


def test_its_quality_is_measured_from_the_stored_images_once(earlier: Pipeline, home: Path) -> None:
    for path in (home / "images").rglob("*.jpg"):
        path.unlink()  # what the table holds is not read again
    results = earlier.measure_all(LogProgress())
    assert sum(result.measured for result in results) == IMAGES
    assert sum(result.done.read_again for result in results) == IMAGES
    assert not any(result.done.waiting or result.done.failed for result in results)
    found = earlier.tables.quality.snapshot().read(["relative_path", "sharpness", "brightness"])
    assert found["brightness"].null_count() == 0
    version = earlier.tables.quality.latest().version
    again = Pipeline(earlier.settings)
    assert again.measure_all(LogProgress()) == []
    assert again.tables.quality.latest().version == version
    assert again.tables.unmeasured() == 0


def test_it_takes_decisions_and_its_problems_follow_them(earlier: Pipeline) -> None:
    tables = earlier.tables
    assert read_decisions(tables.decisions).rows.is_empty()
    earlier.measure_all(LogProgress())
    row = tables.row("x=1/copy.jpg")
    assert row is not None
    content = str(row["content_sha256"])
    said = {"decided_by": "ann", "kind": "keep", "field": "quality", "content_sha256": content}
    append(tables.decisions, lambda _: [said])
    limits = thresholds({"blurry": 9.0})
    rows = as_decided(judged_rows(tables.quality, limits, tables.decisions))
    assert sorted(rows.filter(~pl.col("blurry"))["relative_path"]) == ["maize/plot 1/photo_0.jpg", "x=1/copy.jpg"]
