"""A lake in a bucket: tables are written, read and changed by several at once without locks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.errors import CurationError
from curation_assets.ingest import run
from curation_assets.lake.table import PartitionChangedError
from curation_assets.maintain import maintain
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import copy_registry, jpeg
from curation_assets_tests.stores.s3_server import S3, SECRET, Fault

FOLDERS = ("maize", "rye/plot 1", "rye/plot ü%20")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """Images on a disk, and a registry."""
    home = tmp_path_factory.mktemp("lake_in_s3")
    for place, folder in enumerate(FOLDERS):
        (home / "images" / folder).mkdir(parents=True)
        for name in range(4):
            (home / "images" / folder / f"{name:02}.jpg").write_bytes(jpeg(100 * place + name))
    copy_registry(registered_model, home / "mlflow")
    return home


@pytest.fixture
def images(home: Path) -> Iterator[Path]:
    """Those images; what a test adds to them goes again."""
    before = set((home / "images").rglob("*.jpg"))
    yield home / "images"
    for added in set((home / "images").rglob("*.jpg")) - before:
        added.unlink()


@pytest.fixture
def make(s3: S3, images: Path, tmp_path: Path, home: Path) -> Callable[..., Pipeline]:
    """Makes a pipeline of those images and a lake in the bucket."""

    def made(**settings: Any) -> Pipeline:
        return Pipeline(
            load_settings(
                images_root=images,
                lake_root=f"s3://{s3.bucket}/lake",
                model_source="demo",
                settle_seconds=0,
                storage_options=s3.options,
                **{"cache_root": tmp_path / "cache", "mlflow_root": home / "mlflow", **settings},
            )
        )

    return made


_objects: dict[str, bytes] = {}


@pytest.fixture
def filled(make: Callable[..., Pipeline], s3: S3) -> Callable[..., Pipeline]:
    """Makes a pipeline whose images a run has brought into the bucket: the first one for all tests."""
    if _objects:
        for key, data in _objects.items():
            s3.put(key, data)
        return make
    run(make(), LogProgress(), curate=False)
    for page in s3.client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket):
        for one in page["Contents"]:
            _objects[one["Key"]] = s3.client.get_object(Bucket=s3.bucket, Key=one["Key"])["Body"].read()
    return make


def rows(pipeline: Pipeline) -> pl.DataFrame:
    table = pipeline.tables.directory.latest()
    return table.read([column.name for column in table.spec.columns]).drop("_file").sort("relative_path")


def test_a_run_writes_what_it_writes_to_a_disk(
    make: Callable[..., Pipeline], s3: S3, images: Path, tmp_path: Path
) -> None:
    (images / "rye" / "copy.jpg").write_bytes((images / "maize" / "00.jpg").read_bytes())
    pipeline = make()
    run(pipeline, LogProgress())
    disk = Pipeline(pipeline.settings.model_copy(update={"lake_root": tmp_path / "disk" / "lake"}))
    run(disk, LogProgress())
    assert rows(pipeline).equals(rows(disk))
    for name in ("embeddings", "quality", "groups", "scores"):
        one, other = (getattr(each.tables, name).latest() for each in (pipeline, disk))
        assert one.rows() == other.rows() > 0, name
    found = pipeline.searcher.search("leaf", 20).rows["relative_path"].to_list()
    assert found == disk.searcher.search("leaf", 20).rows["relative_path"].to_list()
    again = run(make(), LogProgress())
    assert sum(scan.read for scan in again.scans) == 0
    s3.forget()
    other_machine = make(cache_root=tmp_path / "cache of another machine")
    assert other_machine.searcher.search("leaf", 20).rows["relative_path"].to_list() == found
    assert not s3.of("PUT"), "it has fetched the index, and made none"
    assert make().tables.directory.path.name == "crop_images_directory"


def test_images_and_lake_may_both_lie_there(make: Callable[..., Pipeline], s3: S3, images: Path) -> None:
    for path in images.rglob("*.jpg"):
        s3.put(f"lake/photos/{path.relative_to(images)}", path.read_bytes())
    settings = make().settings.model_copy(update={"images_root": make().settings.lake_root / "photos"})
    run(Pipeline(settings), LogProgress(), curate=False)
    assert len(rows(make())) == 12
    tree = Pipeline(settings.model_copy(update={"images_root": settings.lake_root.parent})).source.list_folders()
    assert not tree.folders, "the lake's own folder is not walked into"


def test_two_who_write_one_folder_leave_each_row_once(filled: Callable[..., Pipeline], images: Path) -> None:
    for number in range(10, 20):
        (images / "maize" / f"{number}.jpg").write_bytes(jpeg(500 + number))
    with ThreadPoolExecutor(4) as threads:
        done = [threads.submit(run, filled(), LogProgress(), curate=False) for _ in range(4)]
        ended = [one.exception() for one in done]
    assert all(error is None or isinstance(error, CurationError) for error in ended), ended
    run(filled(), LogProgress(), curate=False)
    assert Counter(rows(filled())["relative_path"]).most_common(1)[0][1] == 1
    assert len(rows(filled())) == 22
    vectors = filled().tables.embeddings.latest().read(["relative_path"])["relative_path"]
    assert Counter(vectors).most_common(1)[0][1] == 1
    assert len(vectors) == 22


def test_a_commit_whose_answer_is_lost_is_known_as_ones_own(
    filled: Callable[..., Pipeline], s3: S3, images: Path
) -> None:
    (images / "maize" / "new.jpg").write_bytes(jpeg(999))
    s3.forget()
    s3.fail(Fault("PUT", r"crop_images_directory/_delta_log/.*[.]json$", status=500, landed=True, times=3))
    run(filled(), LogProgress(), curate=False)
    assert sum("crop_images_directory/_delta_log/" in key for key in s3.of("PUT")) > 0
    assert Counter(rows(filled())["relative_path"])["maize/new.jpg"] == 1
    assert len(rows(filled())) == 13
    assert rows(filled())["status"].to_list() == ["ok"] * 13


def test_who_plans_on_a_folder_that_changed_is_told(filled: Callable[..., Pipeline]) -> None:
    table, base = filled().tables.directory, filled().tables.directory.latest()
    files = base.files("maize")
    with table.writer("maize") as writer, writer.file() as stage:
        for batch in base.reader.batches(files, 64):
            stage.write(batch)
    other = filled().tables.directory
    other.replace("maize", base, add=[], remove=files)
    with pytest.raises(PartitionChangedError):
        table.replace("maize", base, add=stage.files, remove=files)


def test_a_file_that_is_missing_is_named_and_its_rows_are_made_anew(filled: Callable[..., Pipeline], s3: S3) -> None:
    (file,) = filled().tables.directory.latest().files("maize")
    s3.client.delete_object(Bucket=s3.bucket, Key=f"lake/autobricks/agriculture/crop_images_directory/{file.path}")
    assert len(rows(filled())) == 8
    done = run(filled(), LogProgress(), curate=False)
    assert [one["file"] for one in done.broken] == [file.path]


def test_maintaining_deletes_what_nobody_names(filled: Callable[..., Pipeline], s3: S3, images: Path) -> None:
    for number in range(30, 32):
        (images / "maize" / f"{number}.jpg").write_bytes(jpeg(number))
        run(filled(), LogProgress(), curate=False)
    report = maintain(filled(), LogProgress(), retention_hours=0)
    assert sum(table.vacuumed for table in report.tables) > 0
    assert len(rows(filled())) == 14


def test_a_bucket_that_is_not_there_is_one_line_without_secrets(make: Callable[..., Pipeline]) -> None:
    settings = make().settings
    other = settings.model_copy(update={"lake_root": type(settings.lake_root).parse("s3://no-such-bucket/lake")})
    with pytest.raises(CurationError) as refused:
        run(Pipeline(other), LogProgress(), curate=False)
    assert "s3://no-such-bucket/lake" in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_credentials_that_expire_end_a_run_in_a_line_and_the_next_one_goes_on(
    make: Callable[..., Pipeline], s3: S3
) -> None:
    s3.fail(Fault("PUT", "/lake/|lake/", status=401, skip=8))
    with pytest.raises(CurationError) as ended:
        run(make(), LogProgress(), curate=False)
    assert "401" in str(ended.value)
    assert "\n" not in str(ended.value)
    assert SECRET not in str(ended.value)
    s3.fail()
    run(make(), LogProgress(), curate=False)
    assert rows(make())["status"].to_list() == ["ok"] * 12
    assert make().tables.embeddings.latest().rows() == 12


def test_a_clock_that_is_an_hour_off_loses_nothing_of_other_writers(
    filled: Callable[..., Pipeline], images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, table = filled().tables.directory, filled().tables.directory
    base = table.latest()
    with table.writer("maize") as writer, writer.file() as stage:
        for batch in base.reader.batches(base.files("maize"), 64):
            stage.write(batch)
        really = time.time
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: really() + 3600)
            (images / "rye" / "plot 1" / "new.jpg").write_bytes(jpeg(999))
            run(filled(), LogProgress(), curate=False)
            slow.sweep()
    table.replace("maize", base, add=stage.files, remove=base.files("maize"))
    assert Counter(rows(filled())["relative_path"]).most_common(1)[0][1] == 1
    assert len(rows(filled())) == 13
