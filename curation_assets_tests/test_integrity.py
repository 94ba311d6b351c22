from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation_assets.clip.versions import RegisteredModel
from curation_assets.integrity import (
    Outcome,
    bad_file_share,
    every_image_embedded_once,
    key_is_unique,
    vectors_are_unit,
)
from curation_assets.lake.schemas import DIRECTORY, EMBEDDINGS
from curation_assets.lake.table import LakeTable

NOW = datetime(2024, 5, 1, tzinfo=UTC)
MODEL = RegisteredModel("c.s.m", "7", "f", 3, 224, 1, "demo", True, "run")


@pytest.fixture
def directory(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "directory", DIRECTORY)
    table.create()
    return table


@pytest.fixture
def embeddings(tmp_path: Path) -> LakeTable:
    table = LakeTable(tmp_path / "embeddings", EMBEDDINGS)
    table.create()
    return table


def add(table: LakeTable, folder: str, *rows: dict[str, Any]) -> None:
    """Write rows as no engine of ours would; each call makes one more file."""
    with table.writer(folder) as writer:
        with writer.file() as stage:
            for batch in pa.Table.from_pylist(list(rows), table.spec.file_schema).to_batches():
                stage.write(batch)
        assert stage.staged is not None
        table.replace(folder, table.snapshot(), add=[stage.staged], remove=[])


def image(path: str, status: str = "ok", content: str = "") -> dict[str, Any]:
    return {"relative_path": path, "status": status, "content_sha256": content or f"hash of {path}"}


def vector(path: str, values: list[float] | None = None, version: str = "7", content: str = "") -> dict[str, Any]:
    return {
        "relative_path": path,
        "content_sha256": content or f"hash of {path}",
        "model_version": version,
        "model_fingerprint": MODEL.fingerprint,
        "model_name": MODEL.name,
        "embeddings": [0.6, 0.8, 0.0] if values is None else values,
        "embedded_at": NOW,
    }


def test_keys_that_stand_once_pass(directory: LakeTable, embeddings: LakeTable) -> None:
    add(directory, "a", image("a/1"), image("a/2"))
    add(directory, "b", image("b/1"))
    add(embeddings, "a", vector("a/1"), vector("a/1", version="8"))
    assert key_is_unique(directory.snapshot(), ["a", "b"]) == Outcome(
        True, "3 rows, each once", {"rows": 3, "repeated_keys": 0}
    )
    assert key_is_unique(embeddings.snapshot(), ["a"]).passed


def test_a_key_that_stands_twice_fails_and_is_named(directory: LakeTable, embeddings: LakeTable) -> None:
    add(directory, "a", image("a/1"), image("a/2"))
    add(directory, "a", image("a/2"))
    found = key_is_unique(directory.snapshot(), ["a"])
    assert not found.passed
    assert "'a/2'" in found.description
    assert found.numbers == {"rows": 3, "repeated_keys": 1}
    add(embeddings, "a", vector("a/1"), vector("a/1"))
    assert not key_is_unique(embeddings.snapshot(), ["a"]).passed
    assert key_is_unique(directory.snapshot(), ["b"]).passed


@pytest.mark.parametrize(("limit", "passed"), [(0.24, False), (0.25, True), (1.0, True), (0.0, False)])
def test_the_share_of_bad_files_is_held_against_the_limit(limit: float, passed: bool, directory: LakeTable) -> None:
    add(directory, "a", image("a/1"), image("a/2"))
    add(directory, "b", image("b/1"), image("b/2", status="corrupt"))
    add(directory, "c", image("c/1", status="too_large"))
    found = bad_file_share(directory.snapshot(), ["a", "b"], limit)
    assert found.passed == passed
    assert found.numbers == {"files": 4, "bad": 1, "share": 0.25, "limit": limit}
    assert "1 of 4 files can't be used (25.0%" in found.description


def test_a_folder_without_rows_has_no_bad_files(directory: LakeTable) -> None:
    assert bad_file_share(directory.snapshot(), ["nowhere"], 0.0).passed


def test_one_vector_for_each_usable_image_passes(directory: LakeTable, embeddings: LakeTable) -> None:
    add(directory, "a", image("a/1"), image("a/2"), image("a/bad", status="corrupt"))
    add(embeddings, "a", vector("a/1"), vector("a/2"), vector("a/2", version="6"))
    found = every_image_embedded_once(directory.snapshot(), embeddings.snapshot(), ["a"], MODEL)
    assert found.passed
    assert found.numbers == {"images": 2, "missing": 0, "doubled": 0, "without_image": 0}


BROKEN: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "no vector": ("missing", []),
    "a vector of another version only": ("missing", [vector("a/1", version="6")]),
    "a vector of an earlier content": ("missing", [vector("a/1", content="old")]),
    "two vectors": ("doubled", [vector("a/1"), vector("a/1")]),
    "a vector of a bad file": ("without_image", [vector("a/1"), vector("a/bad")]),
    "a vector of no file": ("without_image", [vector("a/1"), vector("a/gone")]),
    "an old vector of no file": ("without_image", [vector("a/1"), vector("a/gone", version="6")]),
}


@pytest.mark.parametrize(("number", "vectors"), BROKEN.values(), ids=BROKEN)
def test_an_image_without_exactly_its_own_vector_fails(
    number: str, vectors: list[dict[str, Any]], directory: LakeTable, embeddings: LakeTable
) -> None:
    add(directory, "a", image("a/1"), image("a/bad", status="corrupt"))
    if vectors:
        add(embeddings, "a", *vectors)
    found = every_image_embedded_once(directory.snapshot(), embeddings.snapshot(), ["a"], MODEL)
    assert not found.passed
    assert found.numbers[number] == 1
    assert every_image_embedded_once(directory.snapshot(), embeddings.snapshot(), ["b"], MODEL).passed


def test_unit_vectors_of_the_models_dimension_pass(embeddings: LakeTable) -> None:
    add(embeddings, "a", vector("a/1"), vector("a/2", [1.0, 0.0, 0.0005]))
    add(embeddings, "a", vector("a/3", [2.0], version="6"))  # another version's affair
    found = vectors_are_unit(embeddings.snapshot(), ["a", "nowhere"], MODEL)
    assert found.passed
    assert (found.numbers["vectors"], found.numbers["largest_error"]) == (2, pytest.approx(0, abs=1e-3))


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ([0.6, 0.9, 0.0], "wrong_length"),
        ([0.0, 0.0, 0.0], "wrong_length"),
        ([math.nan, 0.0, 1.0], "wrong_length"),
        ([math.inf, 0.0, 0.0], "wrong_length"),
        ([1.0, 0.0], "wrong_dimension"),
        ([1.0, 0.0, 0.0, 0.0], "wrong_dimension"),
        ([], "wrong_dimension"),
    ],
    ids=str,
)
def test_a_vector_of_another_length_or_dimension_fails(values: list[float], number: str, embeddings: LakeTable) -> None:
    add(embeddings, "a", vector("a/1"))
    add(embeddings, "b", vector("b/1"), vector("b/2", values))
    found = vectors_are_unit(embeddings.snapshot(), ["a", "b"], MODEL)
    assert not found.passed
    assert found.numbers[number] == 1
    assert found.numbers["vectors"] == 3
    assert vectors_are_unit(embeddings.snapshot(), ["a"], MODEL).passed


def test_a_row_without_a_vector_fails(embeddings: LakeTable) -> None:
    add(embeddings, "a", vector("a/1") | {"embeddings": None})
    assert not vectors_are_unit(embeddings.snapshot(), ["a"], MODEL).passed


def test_a_model_of_another_dimension_fails_every_vector(embeddings: LakeTable) -> None:
    add(embeddings, "a", vector("a/1"), vector("a/2"))
    found = vectors_are_unit(embeddings.snapshot(), ["a"], dataclasses.replace(MODEL, dimension=4))
    assert not found.passed
    assert found.numbers["wrong_dimension"] == 2


@pytest.mark.parametrize("check", [key_is_unique, bad_file_share, vectors_are_unit, every_image_embedded_once])
def test_empty_tables_pass(check: Callable[..., Outcome], directory: LakeTable, embeddings: LakeTable) -> None:
    arguments = {
        key_is_unique: (directory.snapshot(), ["a"]),
        bad_file_share: (directory.snapshot(), ["a"], 0.0),
        vectors_are_unit: (embeddings.snapshot(), ["a"], MODEL),
        every_image_embedded_once: (directory.snapshot(), embeddings.snapshot(), ["a"], MODEL),
    }
    assert check(*arguments[check]).passed
