"""Leaks that are held while people decide are those that would be found anew, and most decisions find nothing anew."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.annotations.sources import make_source
from curation_assets.curate.leakage import Leakage
from curation_assets.curate.leaks import Leaks
from curation_assets.curate.problems import ACROSS
from curation_assets.decisions import record
from curation_assets.lake import hive
from curation_assets.lake.appending import append_rows
from curation_assets.lake.rewrite import rewrite
from curation_assets.lake.schemas import PAIRS
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.conftest import jpeg

SPLITS, CONTENTS = ("train", "val", "test"), 14


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs in three splits, some of them in two."""
    home = tmp_path_factory.mktemp("splits")
    for number in range(CONTENTS):
        for split in {SPLITS[number % 3], SPLITS[(number % 5) % 3]}:
            file = home / "images" / split / "rust" / f"{number:02}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg(number))
    pipeline = pipeline_at(home)
    pipeline.scan(pipeline.source.list_folders().folders, LogProgress())
    pipeline.annotate(make_source(format="folders", pattern="{split}/{class}/*"), LogProgress())
    return home


def pipeline_at(home: Path, lake: str = "lake") -> Pipeline:
    return Pipeline(load_settings(images_root=home / "images", lake_root=home / lake))


@pytest.fixture
def pipeline(scanned: Path, tmp_path: Path) -> Pipeline:
    shutil.copytree(scanned, tmp_path / "home")
    return pipeline_at(tmp_path / "home")


def pair(pipeline: Pipeline, *told: tuple[str, str, str, float]) -> None:
    """Write pairs of contents: the two, kind and similarity; and form the groups."""
    schema = pl.Schema(PAIRS.arrow_schema.remove_metadata())
    rows = [
        {"first": min(one, other), "second": max(one, other), "kind": kind, "similarity": similarity}
        | {"method": "hash", "verification_version": 1, "thresholds": "", "found_at": datetime.now(UTC)}
        for one, other, kind, similarity in told
    ]
    table = pipeline.tables.pairs
    table.create()
    rewrite(table, hive.WHOLE, lambda change: append_rows(change, pl.DataFrame(rows, schema)), info={"job": "test"})
    pipeline.group(LogProgress())


def images_of(pipeline: Pipeline) -> list[tuple[str, str]]:
    rows = pipeline.tables.directory.latest().read(["relative_path", "content_sha256"]).drop("_file")
    return rows.sort("relative_path").rows()


def say(pipeline: Pipeline, **row: Any) -> None:
    record.append(pipeline.tables.decisions, lambda _: [{"decided_by": "ann"} | row])


def anew(pipeline: Pipeline) -> Leakage:
    found = Leaks(pipeline.tables, pipeline.annotation_order, pipeline.settings.keeper_order).found()
    assert found is not None
    return found


def equal(one: Leakage, other: Leakage) -> bool:
    return one.counts.equals(other.counts) and one.images.equals(other.images) and one.nearest.equals(other.nearest)


def test_after_any_decisions_the_leaks_are_those_that_are_found_anew(pipeline: Pipeline) -> None:
    chance, images = random.Random(0), images_of(pipeline)
    contents = sorted({content for _, content in images})
    several = [chance.sample(contents, 2) for _ in range(16)]
    pair(
        pipeline,
        *(
            (*two, chance.choice(["near", "near", "burst"]), round(chance.uniform(0.8, 1), 3))
            for two in {tuple(sorted(each)) for each in several}
        ),
    )
    others = set()
    for _ in range(12):
        path, content = chance.choice(images)
        other = chance.choice([each for each in contents if each != content])
        said = chance.choice(
            [
                {"kind": "keep", "field": "quality"},
                {"kind": "remove", "field": "quality"},
                {"kind": "remove", "field": "duplicate"},
                {"kind": "keeper"},
                {"kind": "keeper"},
                {"kind": "same", "other_sha256": other},
                {"kind": "different", "other_sha256": other},
                {"kind": "relabel", "field": "class", "value": "miner"},
                {"kind": "tag", "value": "hard"},
            ]
        )
        say(pipeline, relative_path=path, content_sha256=content, **said)
        if chance.random() < 0.3:
            record.undo(pipeline.tables.decisions, None, "ann")
        if chance.random() < 0.5:
            pipeline.group(LogProgress())
        held, found = pipeline.leaks.found(), anew(pipeline)
        assert held is not None
        assert equal(held, found)
        others.add(pipeline.leaks.version())
    assert 1 < len(others) <= 12


def test_only_what_leaks_depend_on_finds_them_anew(pipeline: Pipeline) -> None:
    images = images_of(pipeline)
    contents = sorted({content for _, content in images})
    path_of = {content: path for path, content in images}
    near, linked, further, alone = (contents[:2], contents[2:4], contents[4], contents[5])
    pair(pipeline, (*near, "near", 0.95), (*linked, "near", 0.9), (linked[1], further, "burst", 0.85))
    leaks = pipeline.leaks

    def is_other(**row: Any) -> bool:
        before = leaks.version()
        say(pipeline, **row)
        return leaks.version() != before

    def of(content: str, **row: Any) -> bool:
        return is_other(relative_path=path_of[content], content_sha256=content, **row)

    assert not of(alone, kind="remove", field="quality")
    assert not of(alone, kind="tag", value="hard")
    assert not of(near[0], kind="keeper")  # its group is alike to nothing else
    assert of(linked[0], kind="keeper")  # over which a burst is formed
    assert of(further, kind="remove", field="quality")
    assert of(alone, kind="relabel", field="class", value="miner")
    assert of(alone, kind="different", other_sha256=near[0])
    assert of(alone, kind="same", other_sha256=further)
    assert not of(alone, kind="keep", field="quality")


def test_who_cannot_wait_is_told_what_was_last_found(pipeline: Pipeline) -> None:
    images = images_of(pipeline)
    assert len(pipeline.leaks.read_last()) == 0
    pair(pipeline, (images[0][1], images[1][1], "near", 0.9))
    found = pipeline.leaks.read()
    assert len(found) > 0
    say(pipeline, relative_path=images[0][0], content_sha256=images[0][1], kind="different", other_sha256=images[1][1])
    assert pipeline.leaks.read_last().equals(found)
    assert found.columns == ["relative_path", ACROSS, "content_sha256"]
