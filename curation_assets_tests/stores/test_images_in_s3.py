"""A lake on a disk of photographs in a bucket: scanned, embedded, shown, exported and forgotten."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image
from starlette.testclient import TestClient

from curation_assets.errors import CurationError
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.commands.conftest import called
from curation_assets_tests.conftest import copy_registry, jpeg
from curation_assets_tests.stores.s3_server import S3, SECRET, Fault

FOLDERS = ("maize", "rye/plot 1", "rye/plot ü%20")


def photographs(number: int) -> dict[str, bytes]:
    return {
        f"{folder}/{name:02}.jpg": jpeg(100 * place + name)
        for place, folder in enumerate(FOLDERS)
        for name in range(number)
    }


@pytest.fixture
def keys(s3: S3) -> dict[str, bytes]:
    """Photographs in the bucket, below a prefix."""
    made = photographs(4)
    for key, data in made.items():
        s3.put(f"photos/{key}", data)
    return made


@pytest.fixture
def make(s3: S3, keys: dict[str, bytes], tmp_path: Path, registered_model: Path) -> Callable[..., Pipeline]:
    def made(**settings: Any) -> Pipeline:
        of = load_settings(
            images_root=f"s3://{s3.bucket}/photos",
            lake_root=tmp_path / "lake",
            model_source="demo",
            settle_seconds=0,
            storage_options=s3.options,
            **settings,
        )
        if not of.mlflow_dir.exists():
            copy_registry(registered_model, of.mlflow_dir)
        return Pipeline(of)

    return made


def rows(pipeline: Pipeline) -> pl.DataFrame:
    table = pipeline.tables.directory.latest()
    return table.read([column.name for column in table.spec.columns]).drop("_file").sort("relative_path")


def vectors(pipeline: Pipeline) -> dict[str, list[float]]:
    return dict(pipeline.tables.embeddings.latest().read(["relative_path", "embeddings"]).drop("_file").iter_rows())


@pytest.mark.parametrize("stored", [True, False])
def test_rows_and_vectors_are_those_of_a_disk_for_a_request_an_image(
    stored: bool, s3: S3, keys: dict[str, bytes], make: Callable[..., Pipeline], tmp_path: Path
) -> None:
    pipeline = make(store_images=stored)
    run(pipeline, LogProgress(), curate=False)
    assert s3.of("GET") == {f"photos/{key}": 1 if stored else 2 for key in keys}
    assert not s3.of("HEAD")
    for key, data in keys.items():
        path = tmp_path / "disk" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    settings = pipeline.settings.model_copy(update={"images_root": tmp_path / "disk", "lake_root": tmp_path / "other"})
    disk = Pipeline(settings)
    run(disk, LogProgress(), curate=False)
    of_places = ["file_path", "created_at", "modified_at", "mtime_ns", "etag"]
    assert rows(pipeline).drop(of_places).equals(rows(disk).drop(of_places))
    assert vectors(pipeline) == vectors(disk)
    assert rows(pipeline)["file_path"].to_list() == [f"s3://{s3.bucket}/photos/{key}" for key in sorted(keys)]
    assert rows(pipeline)["etag"].to_list() == [hashlib.md5(keys[key]).hexdigest() for key in sorted(keys)]


def test_what_did_not_change_is_not_read_again_and_what_did_is(
    s3: S3, keys: dict[str, bytes], make: Callable[..., Pipeline]
) -> None:
    run(make(), LogProgress(), curate=False)
    s3.forget()
    run(make(), LogProgress(), curate=False)
    assert not s3.of("GET")
    first, second, *_ = sorted(keys)
    s3.put(f"photos/{first}", jpeg(999))
    s3.client.delete_object(Bucket=s3.bucket, Key=f"photos/{second}")
    s3.put("photos/rye/plot 1/new.jpg", jpeg(998))
    done = run(make(), LogProgress(), curate=False)
    assert s3.of("GET") == {f"photos/{first}": 1, "photos/rye/plot 1/new.jpg": 1}
    assert sum(scan.vanished for scan in done.scans) == 1
    assert len(rows(make())) == len(keys)


def test_an_object_that_is_replaced_between_listing_and_reading_is_a_changed_file(
    s3: S3, keys: dict[str, bytes], make: Callable[..., Pipeline]
) -> None:
    key = "photos/maize/00.jpg"
    old, new = keys["maize/00.jpg"], jpeg(997, (80, 60))

    s3.replace_at(key, new)
    run(make(), LogProgress(), curate=False)
    row = rows(make()).row(by_predicate=pl.col("relative_path") == "maize/00.jpg", named=True)
    assert (row["status"], row["content_sha256"]) == ("ok", hashlib.sha256(new).hexdigest())
    assert row["content_sha256"] != hashlib.sha256(old).hexdigest()
    s3.forget()
    run(make(), LogProgress(), curate=False)
    assert not s3.of("GET")


def test_a_run_whose_credentials_expire_ends_in_a_line_and_the_next_one_goes_on(
    s3: S3, keys: dict[str, bytes], make: Callable[..., Pipeline]
) -> None:
    s3.fail(Fault("GET", status=401, skip=6))
    with pytest.raises(CurationError, match="what was done stays") as ended:
        run(make(), LogProgress(), curate=False)
    assert SECRET not in str(ended.value)
    s3.fail()
    done = run(make(), LogProgress(), curate=False)
    assert not len(done.bad)
    assert set(rows(make())["status"]) == {"ok"}
    assert len(vectors(make())) == len(keys)


def test_a_broken_object_is_a_row_with_a_reason(s3: S3, keys: dict[str, bytes], make: Callable[..., Pipeline]) -> None:
    s3.put("photos/maize/broken.jpg", keys["maize/00.jpg"][:200])
    s3.put("photos/maize/empty.jpg", b"")
    s3.fail(Fault(key="maize/01.jpg$", status=403))
    run(make(), LogProgress(), curate=False)
    told = dict(rows(make()).select("relative_path", "error").drop_nulls().iter_rows())
    assert set(told) == {"maize/broken.jpg", "maize/empty.jpg", "maize/01.jpg"}
    assert "403 Forbidden" in told["maize/01.jpg"]
    s3.fail()
    run(make(), LogProgress(), curate=False)
    assert "maize/01.jpg" not in dict(rows(make()).select("relative_path", "error").drop_nulls().iter_rows())


def test_the_gallery_shows_and_serves_them(s3: S3, keys: dict[str, bytes], make: Callable[..., Pipeline]) -> None:
    from curation_assets.gallery.app import create_app
    from curation_assets.gallery.gallery import Gallery

    pipeline = make(store_images=False)
    run(pipeline, LogProgress(), curate=False)
    with TestClient(create_app(Gallery(pipeline)), base_url="http://127.0.0.1") as client:
        key = "rye/plot ü%20/01.jpg"
        original = client.get("/original", params={"key": key})
        assert (original.status_code, original.content) == (200, keys[key])
        picture = client.get("/picture", params={"key": key})
        assert Image.open(BytesIO(picture.content)).size == (64, 48)
        page = client.get("/image", params={"key": key}).text
        assert f"s3://{s3.bucket}/photos/" in page
        assert SECRET not in page
        s3.put(f"photos/{key}", jpeg(5))
        assert "has changed since it was scanned" in client.get("/original", params={"key": key}).text


def test_a_dataset_of_them_is_built_verified_and_exported(
    keys: dict[str, bytes], make: Callable[..., Pipeline], tmp_path: Path, s3: S3
) -> None:
    from curation_assets.datasets.comparing import verify
    from curation_assets.datasets.reading import read_recipe
    from curation_assets.datasets.versions import read_version
    from curation_assets.export.protocol import Options

    recipe = tmp_path / "recipes" / "all.toml"
    recipe.parent.mkdir()
    recipe.write_text('name = "all"\n')
    pipeline = make(store_images=False, recipes=recipe.parent)
    run(pipeline, LogProgress())
    pipeline.build_dataset(read_recipe(recipe), LogProgress())
    kept = read_version(pipeline.tables.datasets, "all", 1).filter("kept")
    assert len(kept)
    assert verify(kept, pipeline.source, LogProgress()).gone == {}
    pipeline.export_dataset("all", 1, "folders", tmp_path / "out", Options(), LogProgress())
    written = {path.read_bytes() for path in (tmp_path / "out").rglob("*.jpg")}
    assert written == {keys[key] for key in kept["relative_path"]}
    s3.client.delete_object(Bucket=s3.bucket, Key=f"photos/{kept['relative_path'][0]}")
    assert list(verify(kept, pipeline.source, LogProgress()).gone) == [kept["relative_path"][0]]


def test_forgetting_deletes_the_object(s3: S3, keys: dict[str, bytes], make: Callable[..., Pipeline]) -> None:
    from curation_assets.forgetting.forget import forget

    pipeline = make()
    run(pipeline, LogProgress(), curate=False)
    with pytest.raises(CurationError, match="--delete-files"):
        forget(pipeline, [["maize/00.jpg"]], [], LogProgress(), dry_run=False, delete_files=False)
    forget(pipeline, [["maize/00.jpg"]], [], LogProgress(), dry_run=False, delete_files=True)
    left = s3.client.list_objects_v2(Bucket=s3.bucket, Prefix="photos/maize/")["Contents"]
    assert [one["Key"] for one in left] == ["photos/maize/01.jpg", "photos/maize/02.jpg", "photos/maize/03.jpg"]
    assert len(rows(pipeline)) == len(keys) - 1


@pytest.fixture
def curation(
    make: Callable[..., Pipeline], s3: S3, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command in this process, with the bucket as images root."""
    settings = make().settings
    monkeypatch.setenv("CURATION_IMAGES_ROOT", str(settings.images_root))
    monkeypatch.setenv("CURATION_LAKE_ROOT", str(settings.lake_root))
    monkeypatch.setenv("CURATION_MODEL_SOURCE", "demo")
    monkeypatch.setenv("CURATION_STORAGE_OPTIONS", json.dumps(s3.options))

    return called(monkeypatch, capfd)


def test_the_command_takes_addresses(s3: S3, curation: Callable[..., tuple[int, str, str]]) -> None:
    code, text, error = curation("run", "--no-curate", "--json")
    assert (code, json.loads(text)["images_root"]) == (0, f"s3://{s3.bucket}/photos"), error
    assert SECRET not in text + error
    code, text, _ = curation("run", "--no-curate", "--images", f"s3://{s3.bucket}/photos/", "--folders", "rye")
    assert (code, "0 files read" in text) == (0, True)
    named = f"s3://{s3.bucket}/photos/rye/plot 1"
    code, text, _ = curation("run", "--no-curate", "--folders", named)
    assert (code, "rye/plot 1" in text) == (0, True)
    code, text, _ = curation("show", f"s3://{s3.bucket}/photos/maize/00.jpg")
    assert (code, "maize/00.jpg" in text) == (0, True)
    code, _, error = curation("run", "--images", "s3://no-such-bucket")
    assert (code, error.count("\n")) == (2, 1)
    assert "s3://no-such-bucket cannot be listed: 404 Not Found, NoSuchBucket" in error
    code, _, error = curation("run", "--images", "s3://somebody:hush@bucket")
    assert (code, "CURATION_STORAGE_OPTIONS" in error, "hush" in error) == (2, True, False)
