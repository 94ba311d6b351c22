"""The whole job on real photographs, held against a walk of the tree that shares no code with the project."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from curation_assets.curate.labels.classifier import judge
from curation_assets.curate.labels.overview import LIKELY_WRONG
from curation_assets.curate.neighbours.vectors import NodeVectors
from curation_assets.curate.scores.outliers import outlier_scores
from curation_assets.ingest import RunSummary, run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import REAL_PHOTOS, copy_registry, jpeg

pytestmark = pytest.mark.slow


@dataclass
class Finished:
    """A pipeline after its first run, and what that run said."""

    pipeline: Pipeline
    summary: RunSummary


@pytest.fixture(scope="module")
def whole(registered_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """A part of each source's photographs, a quarter of the fruit's, and of each source a copy of one."""
    if not REAL_PHOTOS.is_dir():
        pytest.skip("the real photographs are not here (../shared/data/crop_photos)")
    home = tmp_path_factory.mktemp("whole")
    each = {"fruit": 4, "cauliflower_weed": 6, "coffee": 20, "rice": 20}
    for source, step in each.items():
        for name in sorted(key for key in walked(REAL_PHOTOS) if key.startswith(f"{source}/"))[::step]:
            (home / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REAL_PHOTOS / name, home / "images" / name)
        copy = Path(name).with_stem(f"{Path(name).stem} copy")
        shutil.copyfile(REAL_PHOTOS / name, home / "images" / copy)
    copy_registry(registered_model, home / "mlflow")
    pipeline = Pipeline(load_settings(images_root=home / "images", lake_root=home / "lake", model_source="demo"))
    yield Finished(pipeline, run(pipeline, LogProgress(), curate=False))
    shutil.rmtree(home)


def walked(root: Path) -> dict[str, str]:
    """Relative path and SHA-256 of every photograph; in this tree they are exactly the .jpg, .jpeg and .png files."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            if name.lower().endswith((".jpg", ".jpeg", ".png")):
                path = Path(folder, name)
                found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


_opened: set[str] | None = None


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str | bytes):
        _opened.add(os.fsdecode(arguments[0]))


sys.addaudithook(_note)  # can't be taken away again


@contextmanager
def opened_below(root: Path) -> Iterator[set[str]]:
    """Files below ``root`` that the interpreter opens, relative to it, filled in when the block ends."""
    global _opened
    below: set[str] = set()
    _opened = set()
    try:
        yield below
    finally:
        below |= {os.path.relpath(path, root) for path in _opened if path.startswith(f"{root}/")}
        _opened = None


def rows(pipeline: Pipeline, *columns: str) -> pl.DataFrame:
    return pipeline.tables.directory.snapshot().read(["relative_path", *columns])


def vectors(pipeline: Pipeline, *columns: str) -> pl.DataFrame:
    return pipeline.tables.embeddings.snapshot().read(["relative_path", *columns])


def versions(pipeline: Pipeline) -> tuple[int, int]:
    return pipeline.tables.directory.snapshot().version, pipeline.tables.embeddings.snapshot().version


def test_every_photograph_is_one_row_with_its_content(whole: Finished) -> None:
    on_disk = walked(whole.pipeline.settings.images_root)
    assert len(on_disk) == 298
    found = rows(whole.pipeline, "content_sha256", "status", "folder")
    assert len(found) == len(on_disk)
    assert dict(found.select("relative_path", "content_sha256").iter_rows()) == on_disk
    assert found["status"].unique().to_list() == ["ok"]
    expected = Counter(os.path.dirname(path) for path in on_disk)
    assert dict(found["folder"].value_counts().iter_rows()) == expected
    assert whole.summary.folders == sorted(expected)
    assert len(expected) == 36


def test_each_distinct_content_is_encoded_once_and_every_row_gets_its_vector(whole: Finished) -> None:
    on_disk = walked(whole.pipeline.settings.images_root)
    encoded = sum(embed.encoded for embed in whole.summary.embeds)
    assert encoded == len(set(on_disk.values())) < len(on_disk)
    assert sum(embed.copied for embed in whole.summary.embeds) == len(on_disk) - encoded
    found = vectors(whole.pipeline, "content_sha256", "embeddings")
    assert dict(found.select("relative_path", "content_sha256").iter_rows()) == on_disk
    assert len(found) == len(on_disk)
    same = found.group_by("content_sha256").agg(pl.col("embeddings").n_unique())
    assert same["embeddings"].max() == 1


def test_a_second_run_reads_no_image_and_commits_nothing(whole: Finished) -> None:
    before, root = versions(whole.pipeline), whole.pipeline.settings.images_root
    with opened_below(root) as opened:
        summary = run(Pipeline(whole.pipeline.settings), LogProgress(), curate=False)
    assert opened == set()
    assert (summary.scans, summary.embeds) == ([], [])
    assert versions(whole.pipeline) == before
    totals = summary.status.drop("folder").sum().row(0, named=True)
    every = len(walked(root))
    assert totals == {"files": every, "ok": every, "bad": 0, "embedded": every, "stale": 0}


@pytest.mark.parametrize("host", ["cauliflower_weed", "coffee", "fruit", "rice"])
def test_foreign_photographs_score_farther_than_those_they_were_put_among(host: str, whole: Finished) -> None:
    """One round of ``python -m benchmarks.outliers``: 1 % of each other source, of which several are much alike."""
    found = whole.pipeline.champion_index()
    assert found is not None
    rows = found[1].rows.filter(pl.col("position").is_not_null()).unique("content_sha256", keep="first")
    rows = rows.with_columns(source=pl.col("relative_path").str.split("/").list.first()).sort("content_sha256")
    own = rows.filter(source=host)
    for other in set(rows["source"]) - {host}:
        foreign = rows.filter(source=other).sample(max(1, round(len(own) / 100)), seed=5)
        both = pl.concat([own, foreign]).sort("content_sha256")
        nodes = NodeVectors(found[1].segments, both["position"].to_numpy().astype(np.int64))
        scores = outlier_scores(nodes, np.arange(len(both), dtype=np.int64), LogProgress())
        farther = scores[(both["source"] == other).to_numpy()][:, None] > scores[(both["source"] == host).to_numpy()]
        assert farther.mean() >= 0.95, other


def test_labels_that_were_flipped_have_the_lowest_quality(whole: Finished) -> None:
    """One round of ``python -m benchmarks.labels`` on the fruit, whose names say what it is; groups aside."""
    from sklearn.metrics import average_precision_score

    found = whole.pipeline.champion_index()
    assert found is not None
    rows = found[1].rows.filter(pl.col("position").is_not_null() & pl.col("relative_path").str.starts_with("fruit/"))
    rows = rows.unique("content_sha256", keep="first").sort("content_sha256")
    names = rows["relative_path"].str.split("/").list.last().str.split("_").list.first().to_numpy().astype(str)
    truth = np.unique(names, return_inverse=True)[1]
    rng = np.random.default_rng(1)
    flipped = np.isin(np.arange(len(truth)), rng.choice(len(truth), len(truth) // 10, replace=False))
    labels = np.where(flipped, (truth + rng.integers(1, 4, len(truth))) % 4, truth)
    nodes = NodeVectors(found[1].segments, rows["position"].to_numpy().astype(np.int64))
    judged = judge(nodes, labels, np.arange(len(truth)), np.ones(len(truth), bool), 4, LogProgress())
    assert average_precision_score(flipped, -judged.quality) >= 0.95
    named = (judged.quality < LIKELY_WRONG) & (judged.suggested >= 0)
    assert flipped[named].mean() >= 0.9
    assert named[flipped].mean() >= 0.6
    assert (judged.predicted == truth).mean() >= 0.9


# From here on photographs are changed: whoever reads the lake as it was stands above.


def test_changing_one_photograph_does_that_one_again(whole: Finished) -> None:
    pipeline, root = whole.pipeline, whole.pipeline.settings.images_root
    kept = vectors(pipeline, "embedded_at")
    (root / "fruit" / "train" / "apple_1.jpg").write_bytes(jpeg(1))
    with opened_below(root) as opened:
        summary = run(pipeline, LogProgress(), curate=False)
    assert opened == {"fruit/train/apple_1.jpg"}
    assert [(scan.folder, scan.read, scan.changed) for scan in summary.scans] == [("fruit/train", 1, 1)]
    assert [(embed.folder, embed.encoded, embed.removed) for embed in summary.embeds] == [("fruit/train", 1, 1)]
    now = vectors(pipeline, "embedded_at").drop("_file")
    assert now.join(kept.drop("_file"), on=now.columns, how="anti")["relative_path"].to_list() == [
        "fruit/train/apple_1.jpg"
    ]


def test_touching_one_photograph_reads_it_again_but_embeds_nothing(whole: Finished) -> None:
    pipeline, root = whole.pipeline, whole.pipeline.settings.images_root
    os.utime(root / "fruit" / "test" / "banana_78.jpg")
    with opened_below(root) as opened:
        summary = run(pipeline, LogProgress(), curate=False)
    assert opened == {"fruit/test/banana_78.jpg"}
    assert sum(embed.encoded for embed in summary.embeds) == 0
    assert run(pipeline, LogProgress(), curate=False).scans == []


def test_deleting_a_folder_removes_its_rows_from_both_tables(whole: Finished) -> None:
    pipeline, root = whole.pipeline, whole.pipeline.settings.images_root
    gone = "cauliflower_weed/400x300/validation"
    assert gone in pipeline.tables.directory.snapshot().folders
    shutil.rmtree(root / gone)
    with opened_below(root) as opened:
        run(pipeline, LogProgress(), curate=False)
    assert opened == set()
    for table in (pipeline.tables.directory, pipeline.tables.embeddings):
        assert gone not in table.snapshot().folders
        assert sorted(table.snapshot().read(["relative_path"])["relative_path"]) == sorted(walked(root))
