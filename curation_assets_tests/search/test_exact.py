from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from curation_assets.clip.registry import RegisteredModel
from curation_assets.clip.source import DEMO_FOLDER
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.pipeline import run as run_pipeline
from curation_assets.progress import LogProgress
from curation_assets.search.exact import nearest, search

Fill = Callable[..., list[Path]]


def unit(rng: np.random.Generator, rows: int, dimension: int) -> NDArray[np.float32]:
    vectors = rng.normal(size=(rows, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 50), st.integers(0, 10**6))
def test_the_order_is_that_of_comparing_each_pair(rows: int, queries: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, asked = unit(rng, rows, 8), unit(rng, queries, 8)
    found, scores = nearest(vectors, asked, k)
    assert found.shape == scores.shape == (queries, min(k, rows))
    for query, indices, cosines in zip(asked, found, scores, strict=True):
        by_hand = [float(sum(a * b for a, b in zip(vector, query, strict=True))) for vector in vectors]
        assert np.allclose([by_hand[index] for index in indices], cosines, atol=1e-5)
        assert np.allclose(sorted(by_hand, reverse=True)[:k], cosines, atol=1e-5)
        assert len(set(indices)) == len(indices)


def test_of_equal_vectors_the_earlier_comes_first() -> None:
    found, _ = nearest(np.ones((5, 1), np.float32), np.ones((1, 1), np.float32), 3)
    assert found.tolist() == [[0, 1, 2]]


def embedded(ready: Pipeline) -> Pipeline:
    run_pipeline(ready, LogProgress())
    return ready


def test_a_text_finds_the_images_whose_vectors_lie_nearest(ready: Pipeline, fill: Fill) -> None:
    fill("a", 4)
    fill("b/c", 3)
    pipeline = embedded(ready)
    model = pipeline.registry.champion()
    texts = ["rust on a leaf", "an orange"]
    hits = pipeline.search_text(texts, 5)
    rows = pipeline.embeddings.snapshot().read(["relative_path", "embeddings"])
    vectors = np.array(rows["embeddings"].to_list(), np.float32)
    queries = pipeline.load_encoder(model).embed_texts(texts)
    for query, found in zip(queries, hits, strict=True):
        scores = dict(zip(rows["relative_path"], vectors @ query, strict=True))
        expected = sorted(scores, key=lambda path: -scores[path])[:5]
        assert found["relative_path"].to_list() == expected
        assert found["score"].to_list() == pytest.approx([scores[path] for path in expected], abs=1e-6)


def test_asking_for_more_than_there_are_gives_all(ready: Pipeline, fill: Fill) -> None:
    fill("a", 3)
    (hits,) = embedded(ready).search_text(["anything"], 50)
    assert sorted(hits["relative_path"]) == [f"a/photo_{index:04}.jpg" for index in range(3)]


def test_vectors_of_another_version_are_left_out(ready: Pipeline, fill: Fill) -> None:
    fill("a", 3)
    pipeline = embedded(ready)
    champion = pipeline.registry.champion()
    changed = {"version": "2", "fingerprint": "another"}
    other = RegisteredModel(**{**champion.__dict__, **changed})
    query = np.eye(1, champion.dimension, dtype=np.float32)
    snapshot = pipeline.embeddings.snapshot()
    assert len(search(snapshot, champion, query, 9)[0]) == 3
    assert search(snapshot, other, query, 9)[0].is_empty()
    assert search(snapshot, other, query, 9)[0].schema["score"].is_float()


def test_an_image_that_is_gone_is_not_found(ready: Pipeline, fill: Fill) -> None:
    gone = fill("a", 3)[1]
    pipeline = embedded(ready)
    gone.unlink()
    run_pipeline(pipeline, LogProgress())
    (hits,) = pipeline.search_text(["anything"], 9)
    assert gone.name not in "".join(hits["relative_path"])
    assert len(hits) == 2


def test_searching_before_anything_is_embedded_says_what_to_do(ready: Pipeline) -> None:
    with pytest.raises(CurationError, match="curation run"):
        ready.search_text(["anything"], 3)


def test_searching_before_the_champion_has_vectors_says_what_to_do(ready: Pipeline, fill: Fill) -> None:
    fill("a", 2)
    embedded(ready)
    weights = ready.settings.images_root.parent / "other_model"
    shutil.copytree(DEMO_FOLDER, weights)
    whole = bytearray((weights / "model.safetensors").read_bytes())
    whole[-4] ^= 1
    (weights / "model.safetensors").write_bytes(whole)
    other = Pipeline(ready.settings.model_copy(update={"model_source": str(weights)}))
    other.register_model()
    with pytest.raises(CurationError, match=r"no image has a vector of .* version 2, the champion; run `curation run`"):
        other.search_text(["anything"], 3)


def test_searching_without_a_model_is_one_error(pipeline: Pipeline) -> None:
    with pytest.raises(CurationError):
        pipeline.search_text(["anything"], 3)


def test_hits_name_the_file_and_its_folder(ready: Pipeline, fill: Fill) -> None:
    path = fill("b/c", 1)[0]
    (hits,) = embedded(ready).search_text(["anything"], 1)
    assert hits.columns == ["relative_path", "file_path", "folder", "content_sha256", "score"]
    assert hits.row(0)[:3] == ("b/c/photo_0000.jpg", str(path), "b/c")
    assert isinstance(hits, pl.DataFrame)
