"""Croissant's own reader finds the records of every format, and each image beside its label."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from curation_assets.errors import CurationError
from curation_assets_tests.export.conftest import IMAGES, Export, pipeline_at, publish_rows


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader unpacks what it reads below the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize("to", ["folders", "hf-imagefolder", "hf-parquet", "webdataset", "csv", "jsonl", "parquet"])
def test_the_reader_has_every_record(home: Path, export: Export, to: str) -> None:
    import mlcroissant

    is_list = to in ("csv", "jsonl", "parquet")
    export(to, f"list.{to}" if is_list else "out")
    document = home / (f"list.{to}.croissant.json" if is_list else "out/croissant.json")
    dataset = mlcroissant.Dataset(jsonld=str(document))
    assert not list(dataset.metadata.issues.errors)
    records = list(dataset.records("images"))
    labels = sorted({label for label, _ in IMAGES.values() if label})
    found = {}
    for record in records:
        label = record["images/label"]
        named = labels[int(label)] if to == "hf-parquet" else label.decode()
        found[record["images/relative_path"].decode()] = (named, record["images/split"].decode())
    assert found == IMAGES
    if not is_list:
        images = records if to != "webdataset" else list(dataset.records("samples"))
        of = "samples" if to == "webdataset" else "images"
        assert sorted(record[f"{of}/image"].size for record in images) == [(64, 48)] * len(IMAGES)


@pytest.mark.usefixtures("cached")
def test_a_side_with_a_space_in_its_name_is_read(home: Path, export: Export) -> None:
    import mlcroissant

    publish_rows(pipeline_at(home), dict.fromkeys(IMAGES, ("rust", "farm 3")))
    export("hf-parquet")
    records = list(mlcroissant.Dataset(jsonld=str(home / "out/croissant.json")).records("images"))
    assert [record["images/split"] for record in records] == [b"farm 3"] * len(IMAGES)


def test_a_file_of_the_user_beside_a_list_is_kept(home: Path, export: Export) -> None:
    (home / "list.csv.croissant.json").write_text("mine")
    with pytest.raises(CurationError, match=r"list\.csv\.croissant\.json is there already"):
        export("csv", "list.csv")
    assert (home / "list.csv.croissant.json").read_text() == "mine"
    assert not os.path.lexists(home / "list.csv")
