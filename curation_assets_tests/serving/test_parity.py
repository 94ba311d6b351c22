"""What MLflow's own scoring server answers to the same requests, with the same registered model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from curation_assets.clip.predictor import ClipPredictor, PredictorConfig
from curation_assets.clip.registry import Registry
from curation_assets.serving.app import create_app
from curation_assets.serving.limits import Limits
from curation_assets.serving.metrics import Metrics
from curation_assets_tests.serving.conftest import encoded

JSON = "application/json"


@pytest.fixture(scope="module")
def stock(registered_model: Path) -> Iterator[TestClient]:
    import mlflow
    from mlflow.pyfunc.scoring_server import init

    # Not any folder with a model: other tests register versions whose files lie beside this one's.
    registry = Registry("autobricks.agriculture.clip_embedding", registered_model, own=True)
    folder = registry.load_encoder(registry.champion(), "cpu", "float32").folder.parents[1]
    model = mlflow.pyfunc.load_model(str(folder), model_config={"device": "cpu", "precision": "float32"})
    with TestClient(init(model)) as client:
        yield client


@pytest.fixture(scope="module")
def ours(model_folder: Path) -> Iterator[TestClient]:
    predictor = ClipPredictor(model_folder, PredictorConfig(device="cpu", precision="float32"))
    limits = Limits(max_body_bytes=2**20, max_rows=100, max_requests=8, timeout_seconds=60)
    with TestClient(create_app(predictor, limits, Metrics(), access_log=False)) as client:
        yield client


def ask(client: TestClient, body: Any, content_type: str) -> Any:
    content = body if isinstance(body, str) else json.dumps(body)
    return client.post("/invocations", content=content, headers={"Content-Type": content_type})


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"dataframe_split": {"columns": ["text"], "data": [["a"], ["b"]]}}, JSON),
        ({"dataframe_split": {"columns": ["text"], "index": [3, 4], "data": [["a"], ["b"]]}}, JSON),
        ({"dataframe_records": [{"text": "a"}, {"text": "b"}]}, JSON),
        ({"dataframe_records": [{"text": "a"}, {"image": encoded()}]}, JSON),
        ({"dataframe_records": [{"image": "data:image/jpeg;base64," + encoded()}]}, "application/json; charset=utf-8"),
        ({"dataframe_records": [{"input_data": encoded()}], "params": {"input_type": "image"}}, JSON),
        ({"dataframe_records": [{"text": "a", "other": 1}]}, JSON),
        ({"instances": [{"text": "a"}, {"text": "b"}]}, JSON),
        ({"inputs": {"text": ["a", "b"]}}, JSON),
        ({"inputs": [{"text": "a"}]}, JSON),
        ("text\na\nb\n", "text/csv"),
        ({"dataframe_records": [{"text": "1"}], "params": {"unknown": 1}}, JSON),
    ],
)
def test_the_same_request_gets_the_same_vectors(
    ours: TestClient, stock: TestClient, body: Any, content_type: str
) -> None:
    found, expected = (ask(client, body, content_type) for client in (ours, stock))
    assert (found.status_code, expected.status_code) == (200, 200), (found.text, expected.text)
    assert found.headers["content-type"] == expected.headers["content-type"]
    assert found.json().keys() == expected.json().keys()
    np.testing.assert_allclose(found.json()["predictions"], expected.json()["predictions"], atol=1e-5)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"dataframe_records": [{"image": "%%%"}]}, JSON),
        ({"dataframe_records": [{"text": "a", "image": encoded()}]}, JSON),
        ({"dataframe_records": [{"image": 3}]}, JSON),
        ({"dataframe_records": []}, JSON),
        ({"dataframe_records": [{"other": "a"}]}, JSON),
        ({"inputs": {"text": ["a", "b"], "image": ["c"]}}, JSON),
        ({}, JSON),
        ([1], JSON),
        ("{", JSON),
        ("a", "text/plain"),
        ("{}", "application/json; charset=latin-1"),
    ],
)
def test_the_same_fault_gets_the_same_status(ours: TestClient, stock: TestClient, body: Any, content_type: str) -> None:
    found, expected = (ask(client, body, content_type) for client in (ours, stock))
    assert found.status_code == expected.status_code
    if expected.headers["content-type"] == JSON:
        assert {"error_code", "message"} <= expected.json().keys()
    assert found.json().keys() == {"error_code", "message"}
