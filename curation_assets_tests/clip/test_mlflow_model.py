from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from curation_assets.clip.encoder import Encoder
from curation_assets.clip.registry import Registry
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.errors import CurationError
from curation_assets.images.guard import DecodeOptions
from curation_assets_tests.clip.test_predictor import b64, bomb
from curation_assets_tests.conftest import jpeg, mlflow_at
from curation_assets_tests.processes import Begun

NAME = "autobricks.agriculture.clip_embedding"
CHECKOUT = Path(__file__).resolve().parents[2]
EXACT = {"device": "cpu", "precision": "float32"}
ONE, TWO = jpeg(1, (300, 260)), jpeg(2, (100, 400))


def image_vector(encoder: Encoder, data: bytes) -> Any:
    return encoder.embed_images(encoder.preprocessing.load(data, DecodeOptions(10**9))[None])[0]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(DEMO_FOLDER, "cpu", "float32")


@pytest.fixture(scope="module")
def known(encoder: Encoder) -> dict[str, Any]:
    """Vectors that requests below should get."""
    texts = ["maize rust", "a coffee leaf", b64(ONE), "1"]
    vectors = dict(zip(texts, encoder.embed_texts(texts), strict=True))
    return vectors | {"ONE": image_vector(encoder, ONE), "TWO": image_vector(encoder, TWO)}


@pytest.fixture(scope="module")
def uri(registered_model: Path) -> str:
    registry = Registry(NAME, registered_model)
    mlflow_at(registry)  # which a champion known from its note would not need
    return registry.champion().uri


@pytest.fixture(scope="module")
def loaded(uri: str) -> Any:
    return mlflow.pyfunc.load_model(uri, model_config=EXACT)


@pytest.fixture(scope="module")
def server(uri: str, registered_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's own server of the registered model, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    env = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{registered_model / 'mlflow.db'}",
        "SERVING_MODEL_CONFIG": json.dumps(EXACT | {"max_rows": 50, "max_image_bytes": 100_000}),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = ["models", "serve", "-m", uri, "--env-manager", "local", "-p", str(port)]
    process = Begun("from mlflow.cli import cli; cli()", *command, env=env, stderr=log, cwd=log.parent)
    try:
        end = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def post(url: str, body: Any, content_type: str = "application/json") -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def same(found: Any, known: dict[str, Any], *names: str) -> None:
    np.testing.assert_allclose(np.array(found, np.float64), np.stack([known[name] for name in names]), atol=1e-5)


MIXED = [{"image": b64(ONE)}, {"text": "maize rust"}, {"image": f"data:image/jpeg;base64,{b64(TWO)}"}]
AS_IMAGE, AS_TEXT = {"input_type": "image"}, {"input_type": "text"}

REQUESTS: dict[str, tuple[Any, dict[str, str] | None, tuple[str, ...]]] = {
    "mixed records": (MIXED, None, ("ONE", "maize rust", "TWO")),
    "images": ({"image": [b64(ONE), b64(TWO)]}, None, ("ONE", "TWO")),
    "texts": ({"text": ["maize rust", "a coffee leaf"]}, None, ("maize rust", "a coffee leaf")),
    "older, images": ({"input_data": [b64(ONE), b64(TWO)]}, AS_IMAGE, ("ONE", "TWO")),
    "older, texts": ({"input_data": ["maize rust", b64(ONE)]}, AS_TEXT, ("maize rust", b64(ONE))),
    "older, nothing said": ({"input_data": ["maize rust", MIXED[2]["image"]]}, None, ("maize rust", "TWO")),
    "unnamed, images": ([b64(ONE), b64(TWO)], AS_IMAGE, ("ONE", "TWO")),
    "unnamed, texts": (["a coffee leaf"], AS_TEXT, ("a coffee leaf",)),
    "unnamed, nothing said": (["maize rust", MIXED[2]["image"]], None, ("maize rust", "TWO")),
}


@pytest.mark.parametrize(("data", "params", "names"), REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("shape", ["as it is", "frame", "series", "array", "bytes"])
def test_every_contract_is_answered_in_process(
    shape: str, data: Any, params: Any, names: tuple[str, ...], loaded: Any, known: dict[str, Any]
) -> None:
    if shape == "frame":
        data = pd.DataFrame(data)
    elif shape == "series" and isinstance(data, dict):
        ((column, values),) = data.items()
        data = pd.Series(values, name=column)
    elif shape == "series":
        data = pd.Series(data) if isinstance(data[0], str) else pd.DataFrame(data, index=[5, 5, 5])
    elif shape == "array":
        data = {k: np.array(v) for k, v in data.items()} if isinstance(data, dict) else data
        data = np.array(data) if isinstance(data, list) and isinstance(data[0], str) else data
    elif shape == "bytes" and "image" in data:
        data = pd.DataFrame({"image": [ONE, TWO]})
    elif isinstance(data, dict):
        data = {k: tuple(v) for k, v in data.items()}  # not lists: see below
    vectors = loaded.predict(data, params=params)
    same(vectors, known, *names)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, atol=1e-5)


FORMS = [
    (form, name)
    for form in ("dataframe_records", "dataframe_split", "inputs", "instances")
    for name in REQUESTS
    # MLflow makes a column of each key of the instances, of different lengths if they are mixed: refused, see below.
    if (form, name) != ("instances", "mixed records")
]


@pytest.mark.slow
@pytest.mark.parametrize(("form", "name"), FORMS)
def test_every_contract_is_answered_by_mlflows_server(form: str, name: str, server: str, known: dict[str, Any]) -> None:
    data, params, names = REQUESTS[name]
    frame = pd.DataFrame(data, dtype=object)
    unnamed = list(frame.columns) == [0]
    body: dict[str, Any] = {form: data}
    if form == "dataframe_records" and not unnamed:
        body = {form: json.loads(frame.to_json(orient="records"))}
    elif form == "dataframe_split":
        body = {form: json.loads(frame.to_json(orient="split"))}
        if unnamed:
            del body[form]["columns"], body[form]["index"]
    status, answer = post(server, body | ({"params": params} if params else {}))
    assert status == 200, answer
    same(answer["predictions"], known, *names)


def test_a_frame_in_csv_is_answered_by_mlflows_server(server: str, known: dict[str, Any]) -> None:
    rows = f"image,text\n,maize rust\n{b64(ONE)},\n".encode()
    status, answer = post(server, rows, "text/csv")
    assert status == 200, answer
    same(answer["predictions"], known, "maize rust", "ONE")


GOOD = {"text": "maize rust"}
BAD: dict[str, tuple[Any, str]] = {
    "an integer for an image": ({"dataframe_records": [{"image": 123}]}, "row 0: `image` must be a string"),
    "an integer among images": (
        {"dataframe_records": [{"image": b64(ONE)}, {"image": 123}]},
        "row 1: `image` must be a string (base64 or a data URL), not int",
    ),
    "an integer beside a text": ({"dataframe_records": [GOOD, {"image": 123}]}, "row 1: `image` must be a string"),
    "integers as inputs": ({"inputs": {"image": [1, 2]}}, "row 0: `image`"),
    "integers as instances": ({"instances": [{"image": 1}, {"image": 2}]}, "row 0: `image`"),
    "a number for a text": ({"dataframe_records": [GOOD, {"text": 1.5}]}, "row 1: `text` must be a string, not float"),
    "a truth for a text": ({"dataframe_records": [{"text": True}]}, "row 0: `text` must be a string, not bool"),
    "a list for a text": ({"dataframe_records": [GOOD, {"text": ["a", "b"]}]}, "row 1: `text` must be a string"),
    "one list for a text": ({"dataframe_records": [{"text": ["a", "b"]}]}, "row 0: `text` must be a string, not list"),
    "one list in a split frame": (
        {"dataframe_split": {"columns": ["text"], "data": [[["a", "b"]]]}},
        "row 0: `text` must be a string, not list",
    ),
    "one list among inputs": ({"inputs": [{"text": ["a", "b"]}]}, "row 0: `text` must be a string, not ndarray"),
    "one list among instances": ({"instances": [{"text": ["a"]}]}, "row 0: `text` must be a string, not list"),
    "an object for a text": ({"dataframe_records": [GOOD, {"text": {"a": 1}}]}, "row 1: `text` must be a string"),
    "no base64": ({"dataframe_records": [GOOD, {"image": "?"}]}, "row 1: `image` is not base64"),
    "no image": ({"dataframe_records": [GOOD, {"image": b64(b"<html>")}]}, "row 1: `image`: not an image"),
    "a broken image": ({"dataframe_records": [GOOD, {"image": b64(ONE[:900])}]}, "row 1: `image`: broken"),
    "an image bomb": (
        {"dataframe_records": [GOOD, {"image": b64(bomb(50_000, 50_000))}]},
        "row 1: `image` has 50000 x 50000 pixels, more than 100,000,000",
    ),
    "a large image": (
        {"dataframe_records": [GOOD, {"image": b64(bytes(100_001))}]},
        "row 1: `image` has 100,001 bytes, more than 100,000 (`max_image_bytes`)",
    ),
    "image and text": ({"dataframe_records": [GOOD, {"image": "x", "text": "y"}]}, "row 1: give either"),
    "neither": ({"dataframe_records": [GOOD, {"text": None}]}, "row 1: give either"),
    "blank": ({"dataframe_records": [GOOD, {"text": "  "}]}, "row 1: give either"),
    "half a character": ({"dataframe_records": [GOOD, {"text": "\ud83c"}]}, "surrogates not allowed"),
    "another column": ({"dataframe_records": [{"picture": "x"}]}, "give either `image` or `text`"),
    "two columns without names": ({"dataframe_split": {"columns": ["a", "b"], "data": [["x", "y"]]}}, "give either"),
    "no rows": ({"dataframe_records": []}, "give either `image` or `text`"),
    "too many rows": ({"inputs": ["a"] * 51}, "51 rows are more than the 50 of a request (`max_rows`)"),
    "an unknown type": ({"inputs": ["a"], "params": {"input_type": "video"}}, "`input_type` must be `image` or `text`"),
    "mixed instances": ({"instances": MIXED}, "All arrays must be of the same length"),
}


@pytest.mark.parametrize(("body", "reason"), BAD.values(), ids=BAD)
def test_a_request_that_cannot_be_used_is_answered_400_with_the_row_and_the_reason(
    body: Any, reason: str, server: str
) -> None:
    status, answer = post(server, body)
    assert status == 400, answer
    assert answer["error_code"] in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
    assert reason in answer["message"]
    assert "stack_trace" not in answer


def test_clients_at_once_get_their_own_vectors_and_their_own_errors_from_mlflows_server(
    server: str, encoder: Encoder
) -> None:
    texts = [f"field {number}" for number in range(40)]
    expected = encoder.embed_texts(texts)

    def ask(number: int) -> tuple[int, Any]:
        row = {"image": "?"} if number % 5 == 0 else {"text": texts[number]}
        return post(server, {"dataframe_records": [row]})

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(40)))
    for number, (status, answer) in enumerate(answers):
        assert status == (400 if number % 5 == 0 else 200)
        if status == 200:
            np.testing.assert_allclose(answer["predictions"][0], expected[number], atol=1e-5)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pd.DataFrame({"image": [b64(ONE), 123]}, dtype=object), "row 1: `image` must be a string"),
        (pd.DataFrame({"image": [123]}), "Incompatible input types for column image"),
        (pd.DataFrame({"picture": [b64(ONE)]}), "give either `image` or `text`"),
        ({"image": (b64(ONE), "?")}, "row 1: `image` is not base64"),
        (
            {"image": [b64(ONE), b64(TWO)]},
            "row 0: `image` must be .* not list .* MLflow makes one row: give it a frame",
        ),
        ({"image": (b64(ONE), b64(TWO)), "text": ("a", "b")}, "row 0: give either .* are both given"),
        (5, "Incompatible input types for column 0"),
    ],
    ids=["an integer", "only integers", "another column", "a bad image", "a dict of lists", "both columns", "a number"],
)
def test_a_request_that_cannot_be_used_fails_in_process_and_is_never_answered_with_nothing(
    data: Any, reason: str, loaded: Any
) -> None:
    with pytest.raises(MlflowException, match=reason) as caught:
        loaded.predict(data)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert caught.value.get_http_status_code() == 400


def test_no_rows_of_a_known_column_give_no_vectors(loaded: Any) -> None:
    assert loaded.predict(pd.DataFrame({"text": pd.Series([], dtype=str)})).shape == (0, 128)


def test_a_model_with_too_much_to_do_answers_429_and_one_that_ends_503(uri: str) -> None:
    model = mlflow.pyfunc.load_model(uri, model_config=EXACT | {"max_queue": 1})
    predictor = model.unwrap_python_model().predictor
    with predictor.batcher.admit({"text": 1}), pytest.raises(MlflowException, match="try again later") as busy:
        model.predict(["a"])
    assert busy.value.get_http_status_code() == 429
    predictor.close()
    with pytest.raises(MlflowException, match="shutting down") as closed:
        model.predict(["a"])
    assert closed.value.get_http_status_code() == 503


def test_a_failure_of_the_model_itself_is_answered_500(uri: str) -> None:
    model = mlflow.pyfunc.load_model(uri, model_config=EXACT)

    def fail(texts: list[str]) -> Any:
        raise RuntimeError("CUDA out of memory")

    model.unwrap_python_model().predictor.batcher._compute["text"] = fail
    with pytest.raises(MlflowException, match="the model failed: RuntimeError: CUDA out of memory") as caught:
        model.predict(["a"])
    assert caught.value.get_http_status_code() == 500


@pytest.mark.parametrize("config", [{"device": "tpu"}, {"precision": "float16"}, {"max_rows": -1}], ids=str)
def test_a_model_config_that_cannot_be_used_is_refused_when_the_model_is_loaded(
    config: dict[str, Any], uri: str
) -> None:
    ((key, value),) = config.items()
    with pytest.raises(CurationError, match=f"^model_config {key}='?{value}"):
        mlflow.pyfunc.load_model(uri, model_config={"device": "cpu"} | config)


def test_device_and_precision_are_those_of_the_model_config(uri: str) -> None:
    model = mlflow.pyfunc.load_model(uri, model_config={"device": "cpu", "precision": "bfloat16"})
    encoder = model.unwrap_python_model().predictor._encoder
    assert (str(encoder.device), encoder.precision) == ("cpu", "bfloat16")


def test_a_model_loaded_twice_has_its_weights_in_memory_once(uri: str) -> None:
    models = [mlflow.pyfunc.load_model(uri, model_config=EXACT) for _ in range(2)]
    encoders = [model.unwrap_python_model().predictor._encoder for model in models]
    assert encoders[0] is encoders[1]


def test_a_registered_model_tells_how_to_use_it(uri: str, loaded: Any, registered_model: Path) -> None:
    version = mlflow.MlflowClient(f"sqlite:///{registered_model / 'mlflow.db'}").get_model_version(NAME, "1")
    for words in (
        "vector of 128 float32",
        "shortest edge of 144 pixels (bicubic)",
        "77 tokens",
        "0.4815",
        "not for decisions",
    ):
        assert words in version.description
    tags = {key.removeprefix("curation."): value for key, value in version.tags.items()}
    assert tags["source"] == "demo"
    assert tags["revision"] == ""
    assert tags["fingerprint"] == loaded.metadata.metadata["fingerprint"]
    assert len(tags["fingerprint"]) == 32
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    requirements = (folder / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in requirements} >= {"mlflow", "torch", "transformers", "pillow", "numpy"}
    assert all("==" in line and "+" not in line for line in requirements)
    vectors = loaded.predict(loaded.input_example)
    assert vectors.shape == (2, 128)


def test_the_example_stored_with_a_model_is_what_its_server_takes(uri: str, server: str) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    body = (folder / "serving_input_example.json").read_text()
    json.loads(body, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    status, answer = post(server, body.encode())
    assert status == 200
    assert np.array(answer["predictions"]).shape == (2, 128)


def test_the_mlflow_model_loads_where_the_package_is_not_installed(
    registered_model: Path, encoder: Encoder, tmp_path: Path
) -> None:
    script = """
import importlib.util, json, sys
sys.meta_path = [f for f in sys.meta_path if "Editable" not in getattr(f, "__name__", type(f).__name__)]
sys.path = [p for p in sys.path if "__editable__" not in p and p != sys.argv[1]]
assert importlib.util.find_spec("curation_assets") is None, "the checkout can still be imported"
import mlflow
mlflow.set_tracking_uri(sys.argv[2])
model = mlflow.pyfunc.load_model(sys.argv[3], model_config={"device": "cpu", "precision": "float32"})
import pandas as pd
vectors = model.predict(pd.DataFrame([{"image": sys.argv[4], "text": None}, {"image": None, "text": "maize"}]))
import curation_assets
print(json.dumps({"vectors": vectors.tolist(), "package": curation_assets.__file__}))
"""
    data = jpeg(5, (40, 30))
    uri = f"sqlite:///{registered_model / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(CHECKOUT), uri, f"models:/{NAME}/1", b64(data)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert not Path(said["package"]).is_relative_to(CHECKOUT)
    expected = [
        encoder.embed_images(np.stack([encoder.preprocessing.load(data, DecodeOptions(10**9))]))[0],
        encoder.embed_texts(["maize"])[0],
    ]
    assert np.allclose(said["vectors"], expected, atol=1e-5)
