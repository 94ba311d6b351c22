"""Files of a registered model in a bucket, read by MLflow with its own variables."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import jpeg
from curation_assets_tests.stores.s3_server import S3


@pytest.mark.slow
def test_a_model_is_registered_into_a_bucket_and_embeds_from_there(
    s3: S3, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", s3.url)
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "somebody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    (images / "a").mkdir()
    (images / "a" / "1.jpg").write_bytes(jpeg())
    pipeline = Pipeline(
        load_settings(
            images_root=images,
            lake_root=tmp_path / "lake",
            artifacts_root=f"s3://{s3.bucket}/mlflow",
            model_source="demo",
            settle_seconds=0,
        )
    )
    run(pipeline, LogProgress(), curate=False)
    assert pipeline.tables.embeddings.latest().rows() == 1
    keys = [one["Key"] for one in s3.client.list_objects_v2(Bucket=s3.bucket, Prefix="mlflow/")["Contents"]]
    assert any(key.endswith("model.safetensors") for key in keys)
    assert not (tmp_path / "mlflow" / "artifacts").exists()
