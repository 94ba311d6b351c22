"""Dagster and the gallery on a project that lies in a bucket."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest
from starlette.testclient import TestClient

from curation_assets.defs.new_images import build_new_images_sensor
from curation_assets.defs.resources import CurationResource
from curation_assets.gallery.app import create_app
from curation_assets.gallery.gallery import Gallery
from curation_assets.pipeline import Pipeline
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import copy_registry, jpeg
from curation_assets_tests.defs.conftest import report_model
from curation_assets_tests.defs.test_everything import ASSETS, bring_in_line
from curation_assets_tests.stores.s3_server import S3, SECRET

pytestmark = pytest.mark.slow


def test_a_project_in_a_bucket_is_brought_in_line_and_shown(
    s3: S3, tmp_path: Path, registered_model: Path, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dagster's resource, which its pages show, holds no credentials: each process has them of its environment.
    monkeypatch.setenv("CURATION_STORAGE_OPTIONS", json.dumps(s3.options))
    for folder in ("maize", "rye/plot 1"):
        for number in range(2):
            s3.put(f"photos/{folder}/{number}.jpg", jpeg(hash(folder) % 1000 + number))
    copy_registry(registered_model, tmp_path / "mlflow")
    settings = load_settings(
        images_root=f"s3://{s3.bucket}/photos",
        lake_root=f"s3://{s3.bucket}/lake",
        mlflow_root=tmp_path / "mlflow",
        cache_root=tmp_path / "cache",
        model_source="demo",
        settle_seconds=0,
    )
    pipeline = Pipeline(settings)
    report_model(instance, pipeline)
    asked = build_new_images_sensor(settings)(
        dg.build_sensor_context(instance=instance), curation=CurationResource.of(settings)
    )
    assert isinstance(asked, dg.SensorResult)
    assert asked.run_requests

    result = bring_in_line(pipeline, instance)
    assert result.success
    assert set(instance.get_dynamic_partitions("image_folders")) == {"maize", "rye/plot 1"}
    events = [instance.get_latest_materialization_event(dg.AssetKey(asset)) for asset in ASSETS]
    assert all(events)
    assert f"s3://{s3.bucket}/lake/autobricks/agriculture/crop_images_directory" in str(events[1])
    evaluations = result.get_asset_check_evaluations()
    assert {of.partition for of in evaluations} >= {"maize", "rye/plot 1"}
    assert SECRET not in json.dumps([str(entry) for entry in [*events, *evaluations]])

    with TestClient(create_app(Gallery(pipeline)), base_url="http://127.0.0.1") as client:
        found = client.get("/api/search", params={"text": "leaf", "k": 4}).json()["images"]
        assert len(found) == 4
        for page in ("/", "/map", "/problems", "/duplicates", "/clusters", "/datasets"):
            shown = client.get(page)
            assert shown.status_code == 200
            assert SECRET not in shown.text
