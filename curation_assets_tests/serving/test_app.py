"""The application without a network: every form of a request, every way to refuse one, what is counted."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from curation_assets.clip.batching import Batch
from curation_assets.clip.predictor import ClipPredictor, PredictorConfig
from curation_assets.clip.rows import Row
from curation_assets.serving.app import create_app
from curation_assets.serving.limits import Limits
from curation_assets.serving.metrics import Metrics
from curation_assets_tests.serving.conftest import encoded
from curation_assets_tests.waiting import wait_until

LIMITS = Limits(max_body_bytes=200_000, max_rows=8, max_requests=4, timeout_seconds=20)
TEXTS = ["rust on a maize leaf", "a field of wheat"]
Serve = Callable[..., TestClient]


class Gated(ClipPredictor):
    """Answers when it may."""

    def __init__(self, folder: Path, config: PredictorConfig) -> None:
        super().__init__(folder, config)
        self.entered, self.gate = threading.Semaphore(0), threading.Event()

    def embed_rows(self, rows: Sequence[Row], timeout: float | None = None) -> Any:
        self.entered.release()
        assert self.gate.wait(20)
        return super().embed_rows(rows, timeout)


@pytest.fixture
def serve(model_folder: Path) -> Iterator[Serve]:
    """An application with limits and settings of one's own."""
    with ExitStack() as stack:

        def start(
            predictor: ClipPredictor | None = None,
            metrics: Metrics | None = None,
            token: str | None = None,
            **limits: Any,
        ) -> TestClient:
            predictor = predictor or ClipPredictor(model_folder, config())
            chosen = Limits(**(LIMITS.__dict__ | limits))
            app = create_app(predictor, chosen, metrics or Metrics(), token, access_log=True)
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield start


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve()


def config(**values: Any) -> PredictorConfig:
    return PredictorConfig(device="cpu", precision="float32", **values)


def metric(client: TestClient, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def send(client: TestClient, body: Any, content_type: str = "application/json", **headers: str) -> Any:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post("/invocations", content=content, headers={"Content-Type": content_type} | headers)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["text"], "data": [[text] for text in TEXTS]}},
        {"dataframe_split": {"columns": ["image", "text"], "data": [[None, text] for text in TEXTS], "index": [0, 1]}},
        {"dataframe_records": [{"text": text} for text in TEXTS]},
        {"dataframe_records": [{"text": TEXTS[0], "image": None}, {"text": TEXTS[1]}]},
        {"instances": [{"text": text} for text in TEXTS]},
        {"instances": TEXTS},
        {"inputs": [{"text": text} for text in TEXTS]},
        {"inputs": {"text": TEXTS}},
        {"inputs": TEXTS},
        {"dataframe_records": [{"input_data": text} for text in TEXTS], "params": {"input_type": "text"}},
    ],
)
def test_every_json_form_gives_the_vectors_of_its_rows(
    client: TestClient, predictor: ClipPredictor, body: dict[str, Any]
) -> None:
    answer = send(client, body)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert list(answer.json()) == ["predictions"]
    expected = predictor.embed_rows([Row("text", text) for text in TEXTS])
    np.testing.assert_allclose(np.array(answer.json()["predictions"], np.float32), expected, atol=1e-5)


def test_images_and_texts_are_answered_in_their_order(client: TestClient, predictor: ClipPredictor) -> None:
    body = {"dataframe_records": [{"text": TEXTS[0]}, {"image": encoded(1)}, {"text": TEXTS[1]}, {"image": encoded(2)}]}
    rows = [Row("text", TEXTS[0]), Row("image", encoded(1)), Row("text", TEXTS[1]), Row("image", encoded(2))]
    found = np.array(send(client, body).json()["predictions"])
    np.testing.assert_allclose(found, predictor.embed_rows(rows), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_the_older_contract_takes_images_by_its_parameter(client: TestClient, predictor: ClipPredictor) -> None:
    body = {"dataframe_split": {"columns": ["input_data"], "data": [[encoded(3)]]}, "params": {"input_type": "image"}}
    found = send(client, body).json()["predictions"]
    np.testing.assert_allclose(found, predictor.embed_rows([Row("image", encoded(3))]), atol=1e-5)


def test_csv_is_read_with_quotes_and_empty_fields(client: TestClient, predictor: ClipPredictor) -> None:
    body = f'text,image\n"rust, on ""maize""",\n,{encoded(1)}\n'
    found = send(client, body, "text/csv; charset=utf-8").json()["predictions"]
    rows = [Row("text", 'rust, on "maize"'), Row("image", encoded(1))]
    np.testing.assert_allclose(found, predictor.embed_rows(rows), atol=1e-5)


def test_no_digit_of_a_vector_is_lost_on_the_way(serve: Serve, model_folder: Path) -> None:
    predictor, computed = ClipPredictor(model_folder, config()), []
    real = predictor.embed_rows

    def embed_rows(rows: Sequence[Row], timeout: float | None = None) -> Any:
        computed.append(real(rows, timeout))
        return computed[-1]

    predictor.embed_rows = embed_rows  # type: ignore[method-assign]
    found = send(serve(predictor), {"inputs": TEXTS}).json()["predictions"]
    np.testing.assert_array_equal(np.array(found, np.float32), computed[0])


def bomb() -> str:
    out = BytesIO()
    Image.new("1", (12_000, 12_000)).save(out, "PNG")
    import base64

    return base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"dataframe_records": [{"text": "a"}, {"image": "%%%"}]}, "row 1: `image` is not base64"),
        ({"dataframe_records": [{"text": "a"}, {"image": 3}]}, "row 1: `image` must be a string"),
        ({"dataframe_records": [{"text": "a", "image": "aaaa"}]}, "row 0: give either"),
        ({"dataframe_records": [{"text": "a"}, {}]}, "row 1: give either"),
        ({"dataframe_records": [{"text": "a"}, {"text": None}]}, "row 1: give either"),
        ({"dataframe_records": [{"image": "aGVsbG8gd29ybGQ="}]}, "row 0: `image`: not an image"),
        ({"dataframe_records": [{"image": bomb()}]}, "row 0: `image` has 12000 x 12000 pixels"),
        ({"dataframe_records": [{"text": {"a": 1}}]}, "row 0: `text` must be a string"),
        ({"dataframe_records": [{"text": "\ud800"}]}, "not valid JSON"),
        ({"dataframe_records": [{"words": "a"}]}, "`words`"),
        ({"dataframe_records": {"text": ["a"]}}, "must be a list of objects"),
        ({"dataframe_records": ["a"]}, "must be a list of objects"),
        ({"dataframe_records": []}, "there are no rows"),
        ({"dataframe_split": {"columns": ["text"], "data": [["a", "b"]]}}, "row 0: 2 values for 1 columns"),
        ({"dataframe_split": {"columns": ["text", "text"], "data": [["a", "b"]]}}, "twice"),
        ({"dataframe_split": {"columns": ["text"]}}, "`dataframe_split` must be"),
        ({"dataframe_split": [["a"]]}, "`dataframe_split` must be"),
        ({"inputs": {"text": ["a", "b"], "image": ["c"]}}, "different lengths"),
        ({"inputs": 7}, "int can't be read"),
        ({"inputs": None}, "can't be read"),
        ({"inputs": ["a"], "instances": ["a"]}, "exactly one of"),
        ({"inputs": ["a"], "params": [1]}, "`params` must be an object"),
        ({"inputs": ["a"], "params": {"input_type": 1}}, "must be a string"),
        ({"inputs": ["a"], "params": {"input_type": "sound"}}, "`image` or `text`"),
        ({"messages": [{"role": "user", "content": "a"}]}, "exactly one of"),
        ({}, "it has no fields"),
        ([1], "it is a JSON list"),
        ("", "not valid JSON"),
        ('{"inputs": ["a"]', "not valid JSON"),
        (b'{"inputs": ["\xff"]}', "not valid JSON"),
        ("[" * 50_000, "not valid JSON"),
        ("null", "it is a JSON null"),
    ],
)
def test_what_can_t_be_used_is_refused_with_its_reason(client: TestClient, body: Any, said: str) -> None:
    answer = send(client, body)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.json().keys() == {"error_code", "message"}
    assert answer.json()["error_code"] in ("BAD_REQUEST", "INVALID_PARAMETER_VALUE")
    assert said in answer.json()["message"]
    assert "Traceback" not in answer.text
    assert metric(client, 'curation_rejected_total{reason="input"}') == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("text,image\na\n", "row 0: 1 values for 2 columns"),
        ('text\n"a\n', "not valid CSV"),
        (b"text\n\xff\n", "not valid CSV"),
        ("", "there are no rows"),
        ("text\n", "there are no rows"),
    ],
)
def test_csv_that_can_t_be_read_is_refused_with_its_reason(client: TestClient, body: Any, said: str) -> None:
    answer = send(client, body, "text/csv")
    assert answer.status_code == 400
    assert said in answer.json()["message"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/json; charset=latin-1", "application/json; a=b"])
def test_other_content_types_are_refused(client: TestClient, content_type: str) -> None:
    answer = send(client, {"inputs": ["a"]}, content_type)
    assert (answer.status_code, answer.json()["error_code"]) == (415, "BAD_REQUEST")


def test_a_request_without_a_content_type_counts_as_json(client: TestClient) -> None:
    assert client.post("/invocations", content='{"inputs": ["a"]}').status_code == 200


def test_a_body_over_the_limit_is_refused_whether_its_length_is_announced_or_not(client: TestClient) -> None:
    body = json.dumps({"inputs": ["a" * 200_000]}).encode()
    announced = send(client, body)
    streamed = client.post("/invocations", content=iter([body[:100_000], body[100_000:]]))
    endless = client.post("/invocations", content=(b"a" * 100_000 for _ in range(20)))
    for answer in (announced, streamed, endless):
        assert answer.status_code == 413
        assert "200,000 bytes" in answer.json()["message"]
    assert metric(client, 'curation_rejected_total{reason="body"}') == 3


def test_more_rows_than_allowed_are_refused(client: TestClient) -> None:
    answer = send(client, {"inputs": ["a"] * 9})
    assert answer.status_code == 413
    assert "9 rows" in answer.json()["message"]
    assert send(client, {"inputs": ["a"] * 8}).status_code == 200


def test_an_image_of_too_many_pixels_is_refused_by_its_header(serve: Serve, model_folder: Path) -> None:
    client = serve(ClipPredictor(model_folder, config(max_pixels=1000)))
    answer = send(client, {"dataframe_records": [{"text": "a"}, {"image": encoded()}]})
    assert answer.status_code == 400
    assert "row 1: `image` has 64 x 48 pixels, more than 1,000" in answer.json()["message"]


def test_paths_and_methods_that_are_not_there_are_named(client: TestClient) -> None:
    lost, wrong = client.get("/predict"), client.get("/invocations")
    assert (lost.status_code, lost.json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert metric(client, 'curation_requests_total{path="other",status="404"}') == 1


@pytest.mark.parametrize("path", ["/ping", "/health", "/version"])
def test_head_is_answered_as_get_is(client: TestClient, path: str) -> None:
    head, whole = client.head(path), client.get(path)
    assert head.status_code == 200
    assert dict(head.headers) == dict(whole.headers)


def test_ping_health_and_version_answer_as_mlflow_s_server_does(client: TestClient) -> None:
    import mlflow

    assert [client.get(path).text for path in ("/ping", "/health", "/version")] == ["\n", "\n", mlflow.__version__]


def test_a_token_is_wanted_for_everything_but_health(serve: Serve) -> None:
    client = serve(token="secret")
    assert client.get("/ping").status_code == client.get("/health").status_code == 200
    for path in ("/version", "/metrics", "/nowhere"):
        assert client.get(path).status_code == 401
    for given in (
        {},
        {"Authorization": "Bearer secre"},
        {"Authorization": "Bearer sécret"},
        {"Authorization": "secret"},
    ):
        headers = {name: value.encode("utf-8") for name, value in given.items()}
        answer = client.post("/invocations", content='{"inputs": ["a"]}', headers=headers)
        assert (answer.status_code, answer.json()["error_code"]) == (401, "UNAUTHENTICATED")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert send(client, {"inputs": ["a"]}, Authorization="Bearer secret").status_code == 200


def test_more_requests_than_allowed_at_once_are_sent_away_to_come_back(serve: Serve, model_folder: Path) -> None:
    predictor = Gated(model_folder, config())
    client = serve(predictor, max_requests=2)
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(send, client, {"inputs": ["a"]}) for _ in range(2)]
        for _ in waiting:
            assert predictor.entered.acquire(timeout=20)
        answer = send(client, {"inputs": ["a"]})
        assert metric(client, "curation_requests_in_flight") == 2
        predictor.gate.set()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["error_code"] == "REQUEST_LIMIT_EXCEEDED"
    assert [request.result().status_code for request in waiting] == [200, 200]
    assert send(client, {"inputs": ["a"]}).status_code == 200
    assert metric(client, 'curation_rejected_total{reason="busy"}') == 1


def test_a_full_queue_of_rows_sends_away_too(serve: Serve, model_folder: Path) -> None:
    computed, gate = threading.Event(), threading.Event()

    class Slow(Metrics):
        def observe(self, batch: Batch) -> None:  # on the computing thread, before anyone has an answer
            computed.set()
            assert gate.wait(20)
            super().observe(batch)

    client = serve(ClipPredictor(model_folder, config(max_queue=2)), Slow())
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(send, client, {"inputs": ["a", "b"]})
        assert computed.wait(20)
        answer = send(client, {"inputs": ["c"]})
        gate.set()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert waiting.result().status_code == 200


def test_a_request_that_takes_too_long_is_given_up(serve: Serve, model_folder: Path) -> None:
    predictor = Gated(model_folder, config())
    client = serve(predictor, timeout_seconds=0.2)
    answer = send(client, {"inputs": ["a"]})
    predictor.gate.set()
    assert (answer.status_code, answer.json()["error_code"]) == (504, "DEADLINE_EXCEEDED")


class Stuck(ClipPredictor):
    """Computes when it may, and keeps count."""

    def __init__(self, folder: Path, config: PredictorConfig) -> None:
        super().__init__(folder, config)
        self.gate, self.passes = threading.Event(), list[list[str]]()
        real = self.batcher._compute["text"]

        def compute(texts: list[str]) -> Any:
            self.passes.append(texts)
            assert self.gate.wait(20)
            return real(texts)

        self.batcher._compute["text"] = compute


def test_the_device_does_not_work_for_clients_who_were_told_504(serve: Serve, model_folder: Path) -> None:
    predictor = Stuck(model_folder, config(max_queue=8))
    client = serve(predictor, timeout_seconds=0.3)
    for _ in range(3):  # 12 requests of 2 rows, of which 8 rows may be at work at once
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda i: send(client, {"inputs": [f"a {i}", "b"]}), range(4)))
        assert [answer.status_code for answer in answers] == [504] * 4
        wait_until(lambda: metric(client, "curation_requests_in_flight") == 0)
        assert metric(client, "curation_queue_rows") == metric(client, "curation_rows_in_flight") == 0
    predictor.gate.set()
    wait_until(lambda: send(client, {"inputs": ["last"]}).status_code == 200)
    assert len(predictor.passes[0]) <= 8
    assert {text for texts in predictor.passes[1:] for text in texts} == {"last"}


def test_work_that_goes_on_after_a_504_counts_with_its_bytes_until_it_ends(serve: Serve, model_folder: Path) -> None:
    predictor = Gated(model_folder, config())
    client = serve(predictor, max_requests=4, max_body_bytes=10_000, timeout_seconds=0.3)
    long = {"inputs": ["a" * 9_000]}
    with ThreadPoolExecutor(4) as threads:
        assert [answer.status_code for answer in threads.map(lambda _: send(client, long), range(4))] == [504] * 4
    for _ in range(20):
        assert send(client, {"inputs": ["a"]}).status_code == 429
        assert metric(client, "curation_requests_in_flight") == 4
    predictor.gate.set()
    wait_until(lambda: metric(client, "curation_requests_in_flight") == 0)
    assert [send(client, long).status_code for _ in range(5)] == [200] * 5


def test_bytes_of_abandoned_work_leave_no_room_for_others(serve: Serve, model_folder: Path) -> None:
    predictor = Gated(model_folder, config())
    client = serve(predictor, max_requests=50, max_body_bytes=10_000, timeout_seconds=0.3)
    assert [send(client, {"inputs": ["a" * 9_000]}).status_code for _ in range(4)] == [504] * 4
    refused = send(client, {"inputs": ["a" * 9_000]})
    assert (refused.status_code, refused.json()["message"]) == (
        429,
        "too many bytes are being received; try again later",
    )
    predictor.gate.set()
    wait_until(lambda: metric(client, "curation_requests_in_flight") == 0)
    assert send(client, {"inputs": ["a" * 9_000]}).status_code == 200


def status_of(address: tuple[str, int], body: Any) -> int:
    connection = HTTPConnection(*address, timeout=30)
    try:
        connection.request("POST", "/invocations", json.dumps(body))
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_server_that_stops_answers_everybody_in_time_and_waits_for_one_pass_only(model_folder: Path) -> None:
    predictor = ClipPredictor(model_folder, config(max_batch=1))
    real, passes = predictor.batcher._compute["text"], list[str]()

    def slow(texts: list[str]) -> Any:
        passes.extend(texts)
        time.sleep(3)
        return real(texts)

    predictor.batcher._compute["text"] = slow
    limits = Limits(**(LIMITS.__dict__ | {"timeout_seconds": 1}))
    app = create_app(predictor, limits, Metrics(), access_log=False)
    settings: dict[str, Any] = {"lifespan": "on", "log_config": None, "timeout_graceful_shutdown": 6}
    server = uvicorn.Server(uvicorn.Config(app, **settings))
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(5) as threads:
        running = threads.submit(server.run, [listener])
        address = listener.getsockname()
        asked = [threads.submit(status_of, address, {"inputs": [f"leaf {i}"]}) for i in range(4)]
        wait_until(lambda: predictor.batcher.in_flight == 4)
        server.should_exit = True
        begin = time.monotonic()
        running.result(30)
    assert time.monotonic() - begin < 5.5  # four passes are 12 seconds
    assert [request.result() for request in asked] == [504] * 4
    assert len(passes) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("invocations")]


def test_a_model_that_fails_is_told_to_the_log_and_not_to_the_client(
    serve: Serve, model_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    predictor = ClipPredictor(model_folder, config())

    def broken(rows: Sequence[Row], timeout: float | None = None) -> Any:
        raise RuntimeError("a secret of the server")

    predictor.embed_rows = broken  # type: ignore[method-assign]
    answer = send(serve(predictor), {"inputs": ["a"]})
    assert (answer.status_code, answer.json()["error_code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in answer.text
    assert "a secret of the server" in caplog.text


def test_requests_at_the_same_time_share_forward_passes(serve: Serve) -> None:
    client = serve(max_requests=64)
    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda i: send(client, {"inputs": [f"leaf {i % 4}"]}), range(128)))
    assert {answer.status_code for answer in answers} == {200}
    for index, answer in enumerate(answers):
        same = answers[index % 4].json()["predictions"]
        np.testing.assert_allclose(answer.json()["predictions"], same, atol=1e-5)
    rows, passes = (metric(client, f'curation_batch_rows_{part}{{kind="text"}}') for part in ("sum", "count"))
    assert rows == 128
    assert passes < 128
    assert metric(client, 'curation_request_seconds_count{status="200"}') == 128
    assert metric(client, 'curation_requests_total{path="/invocations",status="200"}') == 128
    assert metric(client, "curation_requests_in_flight") == 0
    assert metric(client, "curation_queue_rows") == 0


def test_the_access_log_is_one_json_object_a_request(client: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    send(client, {"inputs": ["a", "b"]})
    send(client, {"inputs": 3})
    good, bad = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (good["method"], good["path"], good["status"], good["rows"]) == ("POST", "/invocations", 200, 2)
    assert (bad["status"], bad["refused"]) == (400, "input")
    assert good["ms"] > 0
    assert good["time"].startswith(time.strftime("%Y-"))
