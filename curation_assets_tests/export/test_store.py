"""Exports into a bucket: what a disk would get, whole or known as unfinished, and nobody's objects touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from curation_assets.errors import CurationError
from curation_assets.export.exporting import Exported
from curation_assets.export.formats import NAMES
from curation_assets.export.protocol import Options
from curation_assets.export.record import exports_of
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.options import StorageOptions
from curation_assets_tests.export.conftest import Command, Export, pipeline_at
from curation_assets_tests.stores.s3_server import S3, SECRET, Fault

Store = Callable[..., Exported]


@pytest.fixture
def there(home: Path, s3: S3, tmp_path: Path) -> Pipeline:
    """The lake, with the bucket's credentials."""
    changes = {"storage_options": StorageOptions.parse(s3.options), "cache_root": tmp_path / "cache"}
    return Pipeline(pipeline_at(home).settings.model_copy(update=changes))


@pytest.fixture
def store(there: Pipeline, s3: S3) -> Store:
    """Export ``leaves`` into the bucket."""

    def call(to: str, out: str = "exports/out", **options: Any) -> Exported:
        place = StoreAddress.parse(f"s3://{s3.bucket}/{out}")
        return there.export_dataset("leaves", None, to, place, Options(**options), LogProgress())

    return call


def objects(s3: S3, prefix: str = "exports/out") -> dict[str, bytes]:
    """Content of all below a prefix, by what they are called there."""
    found = s3.client.list_objects_v2(Bucket=s3.bucket, Prefix=prefix).get("Contents", ())
    return {
        one["Key"].removeprefix(prefix): s3.client.get_object(Bucket=s3.bucket, Key=one["Key"])["Body"].read()
        for one in found
    }


# What a format writes differs by nothing but the place, which some of the files name.
@pytest.mark.parametrize("to", [name for name in NAMES if name not in ("yolo", "coco")])
def test_objects_are_the_files_that_a_disk_gets(to: str, home: Path, export: Export, store: Store, s3: S3) -> None:
    name = f"out.{to}" if to in ("csv", "jsonl", "parquet") else "out"
    on_disk, in_store = export(to, name), store(to, f"exports/{name}")
    assert (on_disk.images, on_disk.files, on_disk.bytes) == (in_store.images, in_store.files, in_store.bytes)
    assert in_store.out == f"s3://{s3.bucket}/exports/{name}"
    found, out = objects(s3, f"exports/{name}"), home / name
    if out.is_file():
        assert found[""] == out.read_bytes()
        assert set(found) == {"", ".croissant.json"}
        return
    files = {f"/{path.relative_to(out).as_posix()}": path for path in out.rglob("*") if path.is_file()}
    assert found.keys() == files.keys()
    for name, path in files.items():
        if name not in ("/croissant.json", "/export.json"):
            assert found[name] == path.read_bytes(), name
    assert not any((there := home.parent / "cache" / "exports").rglob("*")), [*there.rglob("*")]


def test_an_export_that_broke_off_is_known_as_unfinished_and_gone_on_with(store: Store, s3: S3) -> None:
    s3.fail(Fault("PUT", "exports/out/(train|test)/", status=403, skip=2))
    with pytest.raises(CurationError, match="what is whole stays") as ended:
        store("folders")
    assert SECRET not in str(ended.value)
    assert "/_unfinished.json" in objects(s3)
    s3.fail()
    s3.forget()
    done = store("folders")
    assert done.resumed >= 2
    assert sum("exports/out/t" in key for key in s3.of("PUT")) == 6 - done.resumed
    assert "/_unfinished.json" not in objects(s3)
    assert len([name for name in objects(s3) if name.endswith((".jpg", ".JPG", ".png"))]) == 6


def test_what_is_there_is_left_alone(store: Store, s3: S3) -> None:
    s3.put("exports/out/of somebody.txt", b"mine")
    s3.put("exports/list.csv", b"mine")
    with pytest.raises(CurationError, match="is not empty"):
        store("folders")
    with pytest.raises(CurationError, match="is there already"):
        store("csv", "exports/list.csv")
    s3.put("exports/other/_unfinished.json", json.dumps({"export": "0" * 16}).encode())
    with pytest.raises(CurationError, match="another export"):
        store("folders", "exports/other")
    with pytest.raises(CurationError, match="--link hard"):
        store("folders", "exports/new", link="hard")
    assert objects(s3, "exports/") == {
        "out/of somebody.txt": b"mine",
        "list.csv": b"mine",
        "other/_unfinished.json": b'{"export": "0000000000000000"}',
    }


def test_who_forgets_is_told_of_exports_in_a_store(there: Pipeline, store: Store, s3: S3) -> None:
    store("folders")
    store("folders", "exports/second")
    for name in objects(s3, "exports/second"):
        s3.client.delete_object(Bucket=s3.bucket, Key=f"exports/second{name}")
    contents = there.tables.directory.latest().read(["content_sha256"])["content_sha256"]
    told = {noted.place: noted.is_there for noted in exports_of(there.tables.exports, [("leaves", 1)], contents)}
    assert told == {f"s3://{s3.bucket}/exports/out": True, f"s3://{s3.bucket}/exports/second": False}


def test_the_command_takes_an_address(home: Path, s3: S3, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURATION_STORAGE_OPTIONS", json.dumps(s3.options))
    monkeypatch.setenv("CURATION_CACHE_ROOT", os.fspath(home / "cache"))
    code, said, _ = command("leaves", "--to", "folders", "--out", f"s3://{s3.bucket}/exports/out")
    assert code == 0
    assert f"s3://{s3.bucket}/exports/out" in said
    assert len(objects(s3)) == 12
    code, _, said = command("leaves", "--to", "folders", "--out", f"s3://key:secret@{s3.bucket}/x")
    assert code == 2
    assert "secret" not in said
    assert len(said.splitlines()) == 1
