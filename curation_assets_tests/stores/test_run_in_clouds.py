"""A run with images, tables and index in a store of Google's or Microsoft's, as far as this machine can have one."""

from __future__ import annotations

import uuid
from pathlib import Path

import polars as pl
import pytest

from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.search.query import Like, Query
from curation_assets.settings import load_settings
from curation_assets.stores.address import StoreAddress
from curation_assets.stores.opening import open_store
from curation_assets.stores.options import StorageOptions
from curation_assets_tests.conftest import copy_registry, jpeg

pytestmark = pytest.mark.slow

KEYS = [f"{folder}/{name}.jpg" for folder in ("maize", "rye/plot ü 1") for name in range(3)]


@pytest.fixture(params=["gs", "azure"])
def root(request: pytest.FixtureRequest) -> tuple[StoreAddress, StorageOptions]:
    """An empty prefix, and what opens it."""
    if request.param == "gs":
        s3 = request.getfixturevalue("s3")
        return StoreAddress.parse(f"gs://{s3.bucket}/field"), StorageOptions.parse(s3.google_options)
    azure = request.getfixturevalue("azure")
    name = f"container-{uuid.uuid4().hex[:12]}"
    azure.create(name)
    return StoreAddress.parse(f"az://{name}/field"), StorageOptions.parse(azure.options)


def test_a_run_finds_there_what_it_finds_on_a_disk(
    root: tuple[StoreAddress, StorageOptions], tmp_path: Path, registered_model: Path
) -> None:
    import obstore

    address, options = root
    store = open_store(address.root, options)
    for number, key in enumerate(KEYS):
        data = jpeg(number)
        obstore.put(store, address.key(f"photos/{key}"), data)
        (tmp_path / "photos" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / key).write_bytes(data)
    copy_registry(registered_model, tmp_path / "mlflow")

    def made(place: StoreAddress | Path) -> Pipeline:
        return Pipeline(
            load_settings(
                images_root=place / "photos",
                lake_root=place / "lake",
                cache_root=tmp_path / "cache",
                mlflow_root=tmp_path / "mlflow",
                model_source="demo",
                settle_seconds=0,
                storage_options=options,
            )
        )

    there, here = made(address), made(tmp_path)
    for pipeline in (there, here):
        summary = run(pipeline, LogProgress(), curate=False)
        assert summary.status["embedded"].sum() == len(KEYS)
        pipeline.searcher.refresh()

    def rows(pipeline: Pipeline) -> pl.DataFrame:
        table = pipeline.tables.embeddings.latest()
        return table.read(["relative_path", "content_sha256", "embeddings"]).drop("_file").sort("relative_path")

    assert rows(there).equals(rows(here))
    found = there.searcher.search(Query((Like(KEYS[0]),)), 3).rows["relative_path"].to_list()
    assert found == here.searcher.search(Query((Like(KEYS[0]),)), 3).rows["relative_path"].to_list()
    obstore.put(store, address.key(f"photos/{KEYS[1]}"), jpeg(99))
    obstore.delete(store, address.key(f"photos/{KEYS[2]}"))
    (scan,) = run(there, LogProgress(), curate=False).scans
    assert (scan.changed, scan.vanished, scan.read) == (1, 1, 1)
    there.searcher.refresh()  # in the place of the index that is there

    assert len(made(address).searcher.open().rows) == len(KEYS) - 1
    assert not run(there, LogProgress(), curate=False).scans
