"""Spark's executors read photographs and write tables in a bucket by themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.scan import plan
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import copy_registry, jpeg
from curation_assets_tests.stores.s3_server import S3

pytestmark = pytest.mark.slow

FOLDERS = ("maize", "rye/plot ü%20")
COUNT = 12


def table(of: Any) -> pl.DataFrame:
    snapshot = of.latest()
    times = ("scanned_at", "embedded_at", "measured_at")
    columns = [column.name for column in snapshot.spec.columns if column.name not in times]
    return snapshot.read(columns).drop("_file").sort("relative_path")


def test_tables_equal_those_that_one_process_makes(
    s3: S3, spark: Any, tmp_path: Path, registered_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "UNIT_FILES", 4)
    copy_registry(registered_model, tmp_path / "mlflow")
    for place, folder in enumerate(FOLDERS):
        for name in range(COUNT):
            s3.put(f"photographs/{folder}/{name:02}.jpg", jpeg(100 * place + name))

    def made(lake: str, **settings: Any) -> Pipeline:
        return Pipeline(
            load_settings(
                images_root=f"s3://{s3.bucket}/photographs",
                lake_root=f"s3://{s3.bucket}/{lake}",
                cache_root=tmp_path / "cache",
                mlflow_root=tmp_path / "mlflow",
                model_source="demo",
                settle_seconds=0,
                store_images=False,
                storage_options=s3.options,
                **settings,
            ),
            spark=lambda: spark,
        )

    here, there = made("here"), made("there", engine="spark", spark_scan_files=5)
    for pipeline in (here, there):
        summary = run(pipeline, LogProgress(), curate=False)
        assert [scan.ok for scan in summary.scans] == [COUNT] * len(FOLDERS)
        pipeline.measure(list(FOLDERS), LogProgress())
    for name in ("directory", "embeddings", "quality"):
        assert table(getattr(there.tables, name)).equals(table(getattr(here.tables, name))), name
    assert there.tables.directory.latest().rows() == COUNT * len(FOLDERS)
    listed = s3.client.list_objects_v2(Bucket=s3.bucket, Prefix="there/")["Contents"]
    assert not [each["Key"] for each in listed if each["Key"].endswith((".unit", ".error"))]
    assert not run(there, LogProgress(), curate=False).embeds
