"""Damage of every kind to a lake: what goes on without, what is said, and what a repair makes anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation_assets import ingest
from curation_assets.commands.ingest import exit_code
from curation_assets.errors import CurationError
from curation_assets.lake.broken import BrokenFiles
from curation_assets.lake.table import LakeTable
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.repair import repair
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import copy_registry, jpeg

FOLDERS = ("a", "b", "c")


def run(pipeline: Pipeline, *, curate: bool = False, **options: Any) -> ingest.RunSummary:
    return ingest.run(pipeline, LogProgress(), curate=curate, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Pipeline:
    """A pipeline after its first run, and beside its lake a copy of that."""
    home = tmp_path_factory.mktemp("repair")
    for place, folder in enumerate(FOLDERS):
        (home / "images" / folder).mkdir(parents=True)
        for number in range(2):
            (home / "images" / folder / f"{number}.jpg").write_bytes(jpeg(10 * place + number))
    copy_registry(registered_model, home / "mlflow")
    settings = load_settings(
        images_root=home / "images", lake_root=home / "lake", model_source="demo", settle_seconds=0
    )
    pipeline = Pipeline(settings)
    assert exit_code(run(pipeline)) == 0
    shutil.copytree(home / "lake", home / "whole")
    return pipeline


@pytest.fixture
def lake(finished: Pipeline) -> Pipeline:
    """The lake of that run, to be damaged; its images stay as they are."""
    root = finished.settings.lake_root
    shutil.rmtree(root)
    shutil.copytree(root.parent / "whole", root)
    return anew(finished)


@pytest.fixture
def images(lake: Pipeline) -> Path:
    return lake.settings.images_root


def anew(pipeline: Pipeline) -> Pipeline:
    """As another process would open it."""
    for table in (pipeline.tables.directory, pipeline.tables.embeddings):
        BrokenFiles.of(str(table.path))._found.clear()
    return Pipeline(pipeline.settings)


def data_file(table: LakeTable, folder: str) -> Path:
    (file,) = table.snapshot().files(folder)
    return table.path / file.path


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def zeroed(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def rotten(path: Path) -> None:
    """One bit of the largest column."""
    import pyarrow.parquet as pq

    group = pq.ParquetFile(path).metadata.row_group(0)
    column = max((group.column(at) for at in range(group.num_columns)), key=lambda c: c.total_compressed_size)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size // 2] ^= 0x04
    path.write_bytes(data)


def is_whole(pipeline: Pipeline) -> bool:
    summary = run(anew(pipeline))
    counts = {row["folder"]: (row["ok"], row["embedded"]) for row in summary.status.to_dicts()}
    return (exit_code(summary), counts) == (0, dict.fromkeys(FOLDERS, (2, 2)))


@pytest.mark.parametrize(
    ("which", "spoil"),
    [("directory", cut), ("embeddings", emptied), ("directory", zeroed), ("embeddings", Path.unlink)],
)
def test_a_broken_data_file_costs_its_own_rows_and_a_repair_makes_them_anew(
    lake: Pipeline, images: Path, spoil: Callable[[Path], object], which: str
) -> None:
    table: LakeTable = getattr(lake.tables, which)
    path = data_file(table, "a")
    (images / "b" / "new.jpg").write_bytes(jpeg(99))
    spoil(path)
    summary = run(anew(lake), curate=True)
    assert exit_code(summary) == 1
    assert [(file["table"], file["folder"], path.name in file["file"]) for file in summary.broken] == [
        (table.path.name, "a", True)
    ]
    counts = {row["folder"]: row["embedded"] for row in summary.status.to_dicts()}
    assert (counts["b"], counts["c"]) == (3, 2), "other folders go on"
    assert {file["folder"] for file in anew(lake).tables.broken()} == set(), "what no read fails at is not looked at"
    pipeline = anew(lake)
    assert len(pipeline.searcher.search("leaf", k=20).rows) == 7, "the index has them still"
    (images / "b" / "new.jpg").unlink()

    report = repair(anew(lake), LogProgress(), dry_run=True)
    assert [(damage.table, damage.partition, damage.rows) for damage in report.found] == [(table.path.name, "a", 2)]
    assert not is_whole(lake), "a dry run changes nothing"
    report = repair(anew(lake), LogProgress())
    assert (report.read, report.encoded) == ((2, 0) if which == "directory" else (0, 2))
    assert not report.not_mended
    assert is_whole(lake)
    assert repair(anew(lake), LogProgress()).found == []


def test_a_rescan_of_the_folder_mends_it_and_says_so(lake: Pipeline) -> None:
    path = data_file(lake.tables.directory, "a")
    cut(path)
    other = data_file(lake.tables.directory, "b")
    emptied(other)
    summary = run(anew(lake), folders=["a"], rescan=True)
    assert [Path(file).name for file in summary.lost] == [path.name]
    assert summary.scans[0].ok == 2
    summary = run(anew(lake), rescan=True)
    assert [Path(file).name for file in summary.lost] == [other.name]
    assert is_whole(lake)


@pytest.mark.parametrize("which", ["directory", "embeddings"])
def test_a_lost_bit_is_found_by_the_checksum_of_its_page(lake: Pipeline, which: str) -> None:
    table: LakeTable = getattr(lake.tables, which)
    rotten(data_file(table, "b"))
    (found,) = repair(anew(lake), LogProgress()).found
    assert (found.table, found.partition) == (table.path.name, "b")
    assert "damaged" in found.reason
    assert is_whole(lake)


def last_commit(table: LakeTable) -> Path:
    return table.path / "_delta_log" / f"{table.newest_version():020}.json"


@pytest.mark.parametrize(
    ("which", "content"),
    [
        ("directory", b""),
        ("embeddings", b""),
        ("directory", b'{"commitInfo":{"timest'),
        ("embeddings", b"\0" * 700),
        ("directory", b"\xff\xfe"),
    ],
)
def test_a_commit_that_was_not_written_to_its_end_is_put_aside(lake: Pipeline, content: bytes, which: str) -> None:
    table: LakeTable = getattr(lake.tables, which)
    torn = last_commit(table)
    torn.write_bytes(content)
    if content:  # an empty one is a commit of nothing to whoever reads it, and what it lacks is done again
        with pytest.raises(CurationError, match="curation repair"):
            run(anew(lake))
    report = repair(anew(lake), LogProgress())
    assert [damage.file for damage in report.found] == [f"_delta_log/{torn.name}"]
    (aside,) = (table.path / "_repaired").iterdir()
    assert aside.name.endswith(torn.name)
    assert aside.read_bytes() == content
    assert is_whole(lake)


def test_a_damaged_checkpoint_is_put_aside(lake: Pipeline) -> None:
    from deltalake import DeltaTable

    table = lake.tables.directory
    DeltaTable(str(table.path)).create_checkpoint()
    (checkpoint,) = (table.path / "_delta_log").glob("*.checkpoint.parquet")
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    report = repair(anew(lake), LogProgress())
    assert {damage.file.rpartition("/")[2] for damage in report.found} == {checkpoint.name, "_last_checkpoint"}
    assert is_whole(lake)


def test_a_log_with_a_hole_is_not_mended_and_that_is_one_line(lake: Pipeline) -> None:
    table = lake.tables.directory
    (table.path / "_delta_log" / f"{0:020}.json").unlink()
    with pytest.raises(
        CurationError,
        match=r"the log of table .* can't be mended: move the table away, and `curation run` makes it anew",
    ):
        repair(anew(lake), LogProgress())


def test_nothing_is_repaired_from_a_disk_that_is_away(lake: Pipeline, images: Path) -> None:
    cut(data_file(lake.tables.directory, "a"))
    for folder in FOLDERS:
        (images / folder).rename(images.parent / folder)
    with pytest.raises(CurationError, match="no images under"):
        repair(anew(lake), LogProgress())
    for folder in FOLDERS:
        (images.parent / folder).rename(images / folder)
    repair(anew(lake), LogProgress())
    assert is_whole(lake)


def test_a_model_that_cannot_be_had_is_told_before_the_scan(finished: Pipeline, tmp_path: Path) -> None:
    other = {"model_source": str(tmp_path / "nowhere"), "lake_root": tmp_path / "lake"}
    nowhere = finished.settings.model_copy(update=other)
    with pytest.raises(CurationError, match="nowhere"):
        run(Pipeline(nowhere))
    assert Pipeline(nowhere).tables.directory.snapshot().rows() == 0


def test_the_report_is_json(lake: Pipeline) -> None:
    from curation_assets.commands.reports import repair_facts

    cut(data_file(lake.tables.directory, "a"))
    facts = json.loads(json.dumps(repair_facts(repair(anew(lake), LogProgress()))))
    assert facts["found"][0]["partition"] == "a"
