"""The whole way with nothing on the disk but a registry and copies: images, tables, index and exports in a bucket."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path

import pytest

from curation_assets_tests.commands.conftest import Curation, called
from curation_assets_tests.conftest import copy_registry, jpeg
from curation_assets_tests.curate.duplicates.drawn import jpeg as drawn
from curation_assets_tests.curate.duplicates.drawn import photograph
from curation_assets_tests.stores.s3_server import S3, SECRET

pytestmark = pytest.mark.slow


@pytest.fixture
def curation(
    s3: S3,
    tmp_path: Path,
    registered_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Curation:
    """The command, on a bucket of eleven photographs, one of them a copy, and one broken object."""
    for number in range(10):
        label = "rust" if number % 2 else "healthy"
        s3.put(f"photos/{label}/field {number // 4}/{number}.jpg", drawn(photograph(number)))
    s3.put("photos/rust/field 9/copy.jpg", drawn(photograph(1)))
    s3.put("photos/rust/field 9/broken.jpg", jpeg()[:300])
    copy_registry(registered_model, tmp_path / "mlflow")
    (tmp_path / "recipes").mkdir()
    recipe = 'name = "leaves"\n[labels]\npath = "{class}/**"\n[split]\ntrain = 0.6\ntest = 0.4\n'
    (tmp_path / "recipes" / "leaves.toml").write_text(recipe)
    for name, value in {
        "IMAGES_ROOT": f"s3://{s3.bucket}/photos",
        "LAKE_ROOT": f"s3://{s3.bucket}/lake",
        "STORAGE_OPTIONS": json.dumps(s3.options),
        "MLFLOW_ROOT": str(tmp_path / "mlflow"),
        "CACHE_ROOT": str(tmp_path / "cache"),
        "RECIPES": str(tmp_path / "recipes"),
        "MODEL_SOURCE": "demo",
        "SETTLE_SECONDS": "0",
        "STORE_IMAGES": "false",
    }.items():
        monkeypatch.setenv(f"CURATION_{name}", value)
    call = called(monkeypatch, capfd)

    def watched(*arguments: str) -> tuple[int, str, str]:
        code, said, errors = call(*arguments)
        assert SECRET not in said + errors
        assert "Traceback" not in errors, errors
        return code, said, errors

    return watched


def test_from_photographs_to_a_dataset_and_back_to_nothing(
    s3: S3, curation: Curation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said, errors = curation("run", "--json")
    assert code == 1, errors  # one object is broken
    told = json.loads(said)
    assert told["total"]["files"] == 12
    assert told["total"]["embedded"] == 11
    assert [bad["relative_path"] for bad in told["bad"]] == ["rust/field 9/broken.jpg"]
    assert curation("run", "--json")[1].count('"read": 0')

    code, said, errors = curation("search", "leaf", "-k", "3", "--json")
    assert (code, len(json.loads(said)["images"])) == (0, 3), errors
    code, said, errors = curation("duplicates", "--json")
    assert code == 0, errors
    assert "rust/field 9/copy.jpg" in said
    for command in (["problems"], ["status"], ["show", "rust/field 9/copy.jpg"], ["clusters"], ["decisions", "list"]):
        code, said, errors = curation(*command)
        assert code in (0, 1), (command, errors)
    assert curation("decisions", "add", "remove", "healthy/field 0/0.jpg", "--by", "ann")[0] == 0

    code, said, errors = curation("dataset", "build", "leaves")
    assert code == 0, said + errors
    out = f"s3://{s3.bucket}/exports/leaves"
    code, said, errors = curation("dataset", "export", "leaves", "--to", "folders", "--out", out)
    assert code == 0, errors
    listed = s3.client.get_object(Bucket=s3.bucket, Key="exports/leaves/images.csv")["Body"].read().decode()
    rows = list(csv.DictReader(StringIO(listed)))
    assert 0 < len(rows) < 11
    for row in rows:
        key = f"exports/leaves/{row['file']}"
        exported = s3.client.get_object(Bucket=s3.bucket, Key=key)["Body"].read()
        original = s3.client.get_object(Bucket=s3.bucket, Key=f"photos/{row['relative_path']}")["Body"].read()
        assert exported == original
    assert curation("dataset", "verify", "leaves")[0] == 0

    # Another machine, which has nothing of this one's but the registry.
    monkeypatch.setenv("CURATION_CACHE_ROOT", str(tmp_path / "another"))
    assert curation("search", "leaf", "-k", "3")[0] == 0
    assert curation("dataset", "list")[1].count("leaves") >= 1

    kept = rows[0]["relative_path"]
    code, said, errors = curation("forget", kept, "--delete-files", "--yes")
    assert code == 0, errors
    assert out in said + errors, "who forgets is told of the export"
    code, said, errors = curation("run", "--json")
    assert json.loads(said)["total"]["files"] < 12
    code, said, errors = curation("maintain", "--retention-hours", "0")
    assert code == 0, errors
    keys = {
        one["Key"]
        for page in s3.client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket)
        for one in page.get("Contents", ())
    }
    assert not [key for key in keys if "/_writers/" in key and key.endswith(".parquet")]
    assert {key.partition("/")[0] for key in keys} <= {"photos", "lake", "lake_index", "exports"}
