from __future__ import annotations

import base64
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curation_assets.clip.batching import Batch, BusyError, ClosedError
from curation_assets.clip.encoder import Encoder
from curation_assets.clip.predictor import ClipPredictor, PredictorConfig
from curation_assets.clip.rows import Row, RowError
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.errors import CurationError
from curation_assets.images.guard import DecodeOptions
from curation_assets_tests.clip.test_encoder import change_weights
from curation_assets_tests.conftest import jpeg

EXACT = {"device": "cpu", "precision": "float32"}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes whose header claims so many pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def demo() -> Path:
    return DEMO_FOLDER


@pytest.fixture(scope="module")
def encoder(demo: Path) -> Encoder:
    return Encoder(demo, "cpu", "float32")


@pytest.fixture(scope="module")
def predictor(demo: Path) -> Iterator[ClipPredictor]:
    made = ClipPredictor(demo, PredictorConfig.of(EXACT))
    yield made
    made.close()


def limited(demo: Path, **limits: Any) -> ClipPredictor:
    return ClipPredictor(demo, PredictorConfig.of(EXACT | limits))


def expected(encoder: Encoder, rows: list[Row]) -> Any:
    """One forward pass a row."""
    vectors = []
    for row in rows:
        if row.kind == "text":
            vectors.append(encoder.embed_texts([row.value])[0])
        else:
            pixels = encoder.preprocessing.load(base64.b64decode(row.value), DecodeOptions(10**9))
            vectors.append(encoder.embed_images(pixels[None])[0])
    return np.stack(vectors)


def rows_of_caller(caller: int) -> list[Row]:
    """Of every caller others, images and texts mixed, 1 to 5 of them."""
    return [
        Row("image", b64(jpeg(100 * caller + i))) if (caller + i) % 2 else Row("text", f"caller {caller} says {i}")
        for i in range(caller % 5 + 1)
    ]


def test_threads_get_the_vectors_that_they_would_get_alone_with_fewer_passes(demo: Path, encoder: Encoder) -> None:
    predictor = limited(demo)
    seen: list[Batch] = []
    predictor.batcher.observer = seen.append
    requests = [rows_of_caller(caller) for caller in range(48)]
    start = threading.Barrier(16)

    def ask(caller: int) -> Any:
        if caller < 16:
            start.wait(30)
        return predictor.embed_rows(requests[caller])

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(48)))
    for rows, answer in zip(requests, answers, strict=True):
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, expected(encoder, rows), atol=1e-5)
    one_by_one = sum(len({row.kind for row in rows}) for rows in requests)
    assert sum(batch.rows for batch in seen) == sum(map(len, requests))
    assert len(seen) < 0.7 * one_by_one
    predictor.close()


def test_a_bad_row_among_good_requests_fails_only_its_own(predictor: ClipPredictor, encoder: Encoder) -> None:
    def ask(caller: int) -> Any:
        rows = rows_of_caller(caller)
        if caller % 4 == 0:
            rows.append(Row("image", b64(b"no image")))
        try:
            return predictor.embed_rows(rows)
        except RowError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(24)))
    for caller, answer in enumerate(answers):
        if caller % 4 == 0:
            assert str(answer).startswith(f"row {caller % 5 + 1}: `image`: not an image")
        else:
            np.testing.assert_allclose(answer, expected(encoder, rows_of_caller(caller)), atol=1e-5)
    assert predictor.batcher.in_flight == predictor.batcher.queued == 0


@pytest.mark.parametrize(
    "value",
    [
        jpeg(3),
        b64(jpeg(3)),
        f"data:image/jpeg;base64,{b64(jpeg(3))}",
        f"DATA:image/jpeg;name=a.jpg;BASE64,{b64(jpeg(3))}",
        base64.encodebytes(jpeg(3)).decode(),
        f"  {b64(jpeg(3))}\r\n",
    ],
    ids=["bytes", "base64", "data URL", "odd data URL", "in lines", "padded with space"],
)
def test_an_image_may_be_written_in_every_usual_way(value: Any, predictor: ClipPredictor, encoder: Encoder) -> None:
    found = predictor.embed_rows([Row("image", value)])
    np.testing.assert_allclose(found, expected(encoder, [Row("image", b64(jpeg(3)))]), atol=1e-6)


def test_base64_is_read_for_addresses_and_without_padding_too(demo: Path, encoder: Encoder) -> None:
    data = next(data for data in map(jpeg, range(99)) if b64(data).endswith("=") and {"+", "/"} <= set(b64(data)))
    plain = b64(data)
    forms = [
        plain,
        plain.rstrip("="),
        plain.replace("+", "-").replace("/", "_"),
        f"data:image/jpeg;base64,{plain[:-1]}",
    ]
    forms += [
        plain.replace("+", "-").replace("/", "_").rstrip("="),
        "\n".join(plain[at : at + 76] for at in range(0, len(plain), 76)),
    ]
    found = limited(demo).embed_rows([Row("image", form) for form in forms])
    assert np.ptp(found, axis=0).max() < 1e-6


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("not base64 at all!", "`image` is not base64"),
        ("data:image/png;base64,@@@", "`image` is not base64"),
        ("aGVsb", "`image` is not base64"),
        ("aGVsbG", "`image`: not an image: the file begins with b'hell'"),
        ("ümlaut", "`image` is not base64"),
        ("data:image/svg+xml,%3Csvg", "`image` is a data URL that isn't base64"),
        ("data:image/png;base64,", "`image`: the file is empty"),
        (b64(b"<!DOCTYPE html>"), "`image`: not an image"),
        ("1234", "`image`: not an image"),
        (b64(jpeg(1)[:500]), "`image`: broken"),
        (bomb(60_000, 60_000), "`image` has 60000 x 60000 pixels, more than 100,000,000 (`max_pixels`)"),
        (bomb(100, 100), "`image`: broken pixel data"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_image_that_cannot_be_used_is_named_with_its_reason(
    value: Any, reason: str, predictor: ClipPredictor
) -> None:
    rows = [Row("text", "maize"), Row("image", jpeg(1)), Row("image", value), Row("image", jpeg(2))]
    with pytest.raises(RowError) as caught:
        predictor.embed_rows(rows)
    assert str(caught.value).startswith(f"row 2: {reason}")
    assert caught.value.row == 2


def test_of_several_bad_images_the_first_is_named(predictor: ClipPredictor) -> None:
    with pytest.raises(RowError, match="row 1: "):
        predictor.embed_rows([Row("image", jpeg(1)), *[Row("image", b"junk")] * 9])


def test_limits_of_bytes_pixels_and_rows_are_refused_with_the_key_that_sets_them(demo: Path) -> None:
    small, large = jpeg(1, (20, 10)), jpeg(1, (300, 200))
    predictor = limited(demo, max_image_bytes=len(large) - 1, max_rows=3)
    for value in (large, b64(large)):
        with pytest.raises(
            RowError, match=rf"row 1: `image` has .* bytes, more than {len(large) - 1:,}.*max_image_byte"
        ):
            predictor.embed_rows([Row("image", small), Row("image", value)])
    with pytest.raises(RowError, match=r"4 rows are more than the 3 of a request \(`max_rows`\)"):
        predictor.embed_rows([Row("text", "a")] * 4)
    assert predictor.embed_rows([Row("image", small)] * 3).shape == (3, 128)
    with pytest.raises(RowError, match=r"row 0: `image` has 300 x 200 pixels, more than 59,999 \(`max_pixels`\)"):
        limited(demo, max_pixels=59_999).embed_rows([Row("image", large)])
    assert limited(demo, max_pixels=60_000).embed_rows([Row("image", large)]).shape == (1, 128)


def test_base64_that_is_too_long_is_refused_before_it_is_decoded(demo: Path) -> None:
    with pytest.raises(RowError, match=r"bytes, more than 1,000 "):
        limited(demo, max_image_bytes=1000).embed_rows([Row("image", "!" * 2000)])


def test_rows_beyond_the_queue_are_refused_while_others_are_at_work(demo: Path) -> None:
    predictor = limited(demo, max_queue=2)
    with predictor.batcher.admit({"image": 2}), pytest.raises(BusyError):
        predictor.embed_rows([Row("text", "a")])
    assert predictor.embed_rows([Row("text", "a")]).shape == (1, 128)


def test_a_row_that_the_model_has_no_vector_for_fails_and_others_in_the_same_pass_do_not(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = limited(demo, patience_ms=1000)
    encoder = predictor._encoder
    real = encoder.embed_texts
    sizes = []

    def spoiled(texts: list[str]) -> Any:
        sizes.append(len(texts))
        vectors = real(texts)
        vectors[[text == "spoiled" for text in texts]] = np.nan
        return vectors

    predictor.batcher._compute["text"] = spoiled
    with ThreadPoolExecutor(2) as pool, predictor.batcher.admit({"text": 1}):  # held back, so that both are in one pass
        bad = pool.submit(predictor.embed_rows, [Row("text", "fine"), Row("text", "spoiled")])
        good = pool.submit(predictor.embed_rows, [Row("text", "good")])
        assert np.isfinite(good.result(30)).all()
        with pytest.raises(RowError, match="row 1: the model has no vector for it"):
            bad.result(30)
    assert sizes == [3]


def test_a_model_of_infinite_weights_refuses_every_row(demo: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(demo, tmp_path / "model"))
    change_weights(folder, "text_projection.weight", float("inf"))
    with pytest.raises(RowError, match="row 0: the model has no vector for it"):
        ClipPredictor(folder, PredictorConfig.of(EXACT)).embed_rows([Row("text", "a")])


def test_a_very_long_text_is_cut_like_a_long_one_and_in_no_time(predictor: ClipPredictor) -> None:
    start = "rust on maize " * 100
    begin = time.monotonic()
    short, long = predictor.embed_rows([Row("text", start), Row("text", start + "x" * 20_000_000)])
    assert time.monotonic() - begin < 10  # 40 seconds if every character is made a token
    np.testing.assert_allclose(short, long, atol=1e-6)


def test_no_rows_give_no_vectors(predictor: ClipPredictor) -> None:
    assert predictor.embed_rows([]).shape == (0, 128)


def test_predictors_of_one_model_share_its_weights_and_others_do_not(demo: Path, tmp_path: Path) -> None:
    first, second = limited(demo), limited(demo, max_rows=5)
    assert first._encoder is second._encoder
    assert first._encoder is not ClipPredictor(demo, PredictorConfig.of(EXACT | {"precision": "bfloat16"}))._encoder


def test_torch_s_threads_are_left_alone_unless_the_configuration_sets_them(demo: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        limited(demo)
        assert torch.get_num_threads() == 3
        limited(demo, threads=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_request_that_takes_too_long_is_not_computed(demo: Path) -> None:
    predictor = limited(demo)
    seen: list[Batch] = []
    predictor.batcher.observer = seen.append
    with pytest.raises(TimeoutError):
        predictor.embed_rows([Row("image", jpeg(1))], timeout=0)
    assert predictor.batcher.in_flight == predictor.batcher.queued == 0
    assert predictor.embed_rows([Row("text", "a")], timeout=60).shape == (1, 128)
    assert [batch.kind for batch in seen] == ["text"]


def test_a_predictor_closed_without_patience_fails_what_it_has_not_begun_with(demo: Path) -> None:
    predictor = limited(demo, max_batch=1)
    entered, gate = threading.Event(), threading.Event()
    real = predictor.batcher._compute["text"]

    def slow(texts: list[str]) -> Any:
        entered.set()
        assert gate.wait(20)
        return real(texts)

    predictor.batcher._compute["text"] = slow
    with ThreadPoolExecutor(4) as pool:
        begun = pool.submit(predictor.embed_rows, [Row("text", "a")])
        assert entered.wait(20)
        waiting = [pool.submit(predictor.embed_rows, [Row("text", "b"), Row("image", jpeg(1))]) for _ in range(2)]
        closing = pool.submit(predictor.close, 0.2)
        for future in waiting:
            with pytest.raises(ClosedError):
                future.result(20)
        gate.set()
        assert begun.result(20).shape == (1, 128)
        closing.result(20)


def test_warming_up_loads_both_towers(demo: Path, tmp_path: Path) -> None:
    import shutil

    predictor = ClipPredictor(Path(shutil.copytree(demo, tmp_path / "model")), PredictorConfig.of(EXACT))
    assert not {"_vision_tower", "_text_tower"} & predictor._encoder.__dict__.keys()
    predictor.warm_up()
    assert predictor._encoder.__dict__.keys() >= {"_vision_tower", "_text_tower"}


def test_a_closed_predictor_says_so(demo: Path) -> None:
    predictor = limited(demo)
    predictor.embed_rows([Row("image", jpeg(1))])
    predictor.close()
    with pytest.raises(ClosedError, match="shutting down"):
        predictor.embed_rows([Row("text", "a")])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"device": "gpu"}, "model_config device='gpu': "),
        ({"device": "cuda:x"}, "model_config device='cuda:x': "),
        ({"precision": "int8"}, "model_config precision='int8': "),
        ({"max_rows": 0}, "model_config max_rows=0: "),
        ({"max_rows": "many"}, "model_config max_rows='many': "),
        ({"patience_ms": -1}, "model_config patience_ms=-1: "),
        ({"colour": 1}, "model_config colour=1: "),
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_used_is_one_error_that_names_it(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CurationError) as caught:
        PredictorConfig.of(values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_device_or_precision_that_is_not_there_is_one_error_that_names_the_key(demo: Path) -> None:
    with pytest.raises(CurationError, match=r"^model_config device=cuda:99: this machine shows"):
        limited(demo, device="cuda:99")
    with pytest.raises(CurationError, match=r"^model_config precision=float16 needs a CUDA device"):
        limited(demo, precision="float16")


def test_large_pictures_from_many_threads_are_decoded_a_few_at_a_time(predictor: ClipPredictor) -> None:
    out = BytesIO()
    Image.new("RGB", (2000, 1500), (10, 120, 30)).save(out, "PNG")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: predictor.embed_rows([Row("image", out.getvalue())])[0], range(12)))
    assert np.allclose(answers, answers[0], atol=1e-6)
