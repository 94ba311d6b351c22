"""Quality in ``run`` where it fails, in ``status``, in ``show`` of an image that changed, and in exports."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from PIL import Image, ImageFilter

from curation_assets.curate.columns import QUALITY_COLUMNS
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import Curation

Fill = Callable[..., list[Path]]


def said(curation: Curation, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(curation(*arguments, "--json")[1])
    return found


def measured(pipeline: Pipeline) -> list[str]:
    table = Pipeline(pipeline.settings).tables.quality
    return table.snapshot().read(["relative_path"])["relative_path"].sort().to_list() if table.exists() else []


def test_status_tells_how_many_images_are_not_measured(curation: Curation, ready: Pipeline, fill: Fill) -> None:
    fill("a", 3)
    fill("b", 2)
    curation("run", "--no-curate")
    assert said(curation, "status")["unmeasured"] == 5
    assert "quality of 5 images is not measured; `curation curate` does that" in curation("status")[1]
    said(curation, "curate", "--folders", "b")
    assert measured(ready) == [f"b/photo_000{n}.jpg" for n in range(2)]
    assert said(curation, "status")["unmeasured"] == 3
    curation("curate")
    assert "unmeasured" not in said(curation, "status")
    assert "not measured" not in curation("status")[1]


def test_a_run_of_a_folder_measures_that_folder(curation: Curation, ready: Pipeline, fill: Fill) -> None:
    fill("a/inner", 1)
    fill("b", 1)
    assert curation("run", "--folders", "a")[0] == 0
    assert measured(ready) == ["a/inner/photo_0000.jpg"]


def test_quality_that_cannot_be_had_loses_nothing_of_a_run(
    curation: Curation, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise CurationError("the quality table stands on a disk that is full")

    fill("a", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "measure", fail)
        facts = said(curation, "run")
        assert (facts["quality"], facts["quality_error"]) == (None, "the quality table stands on a disk that is full")
        assert facts["index"]["images"] == 2
        fill("a", 1, first=2)
        text = curation("run")[1]
        assert "quality not brought in line: the quality table stands on a disk that is full" in text
    assert said(curation, "run")["quality"]["measured"] == 3


def test_what_cannot_be_measured_is_named_with_its_reason(curation: Curation, ready: Pipeline, fill: Fill) -> None:
    fill("a", 2)
    curation("run", "--no-curate")
    table = DeltaTable(ready.tables.directory.path)
    table.update(updates={"preview": "X'00'"}, predicate="relative_path = 'a/photo_0001.jpg'")
    code, text, _ = curation("curate")
    assert code == 1
    assert "a/photo_0001.jpg  not measured: its preview doesn't decode" in text
    assert said(curation, "curate")["quality"]["failed"] == []


@pytest.fixture
def blurred(ready: Pipeline, images: Path, curation: Curation) -> str:
    """A lake of three drawings with edges all over, of which one is blurred: that one's path."""
    folder = images / "a"
    folder.mkdir()
    for number in range(3):
        rng = random.Random(number)
        picture = Image.new("RGB", (400, 300))
        for _ in range(400):
            x, y, grey = rng.randrange(400), rng.randrange(300), rng.randrange(256)
            picture.paste((grey, grey, grey), (x, y, x + 30, y + 30))
        if number == 1:
            picture = picture.filter(ImageFilter.GaussianBlur(8))
        picture.save(folder / f"{number}.png")
    assert curation("run")[0] == 0
    return "a/1.png"


def test_search_filters_sorts_and_exports_by_quality(blurred: str, curation: Curation, ready: Pipeline) -> None:
    def paths(*arguments: str) -> list[str]:
        return [image["relative_path"] for image in said(curation, "search", *arguments)["images"]]

    scores = ready.tables.quality.snapshot().read(["relative_path", "sharpness"]).sort("sharpness")
    assert scores["relative_path"][0] == blurred
    between = (scores["sharpness"][0] + scores["sharpness"][1]) / 2
    assert paths("--where", f"sharpness < {between}") == [blurred]
    assert len(paths("--where", "aspect_ratio > 1.3 and colourfulness < 1 and entropy > 1")) == 3
    assert paths("--sort", "sharpness:desc") == scores["relative_path"].to_list()[::-1]
    table = csv.DictReader(io.StringIO(curation("search", "--sort", "sharpness", "--csv")[1]))
    found = [(row["relative_path"], float(row["sharpness"])) for row in table]
    assert [path for path, _ in found] == scores["relative_path"].to_list()
    assert [score for _, score in found] == pytest.approx(scores["sharpness"].to_list())
    listed = ready.searcher.search((), 10)
    exported = ready.searcher.further(listed.index, listed.numbers)  # what exports have
    assert set(QUALITY_COLUMNS) <= set(exported.columns)
    assert exported["entropy"].null_count() == 0


def test_show_has_the_measures_of_an_image_and_none_of_its_earlier_content(
    blurred: str, curation: Curation, ready: Pipeline, images: Path
) -> None:
    quality = said(curation, "show", blurred)["quality"]
    row = ready.tables.quality.snapshot().read(list(QUALITY_COLUMNS), where=pl.col("relative_path") == blurred)
    assert {name: quality[name] for name in QUALITY_COLUMNS} == row.drop("_file").row(0, named=True)
    assert "sharpness" in curation("show", blurred)[1]
    shutil.copy(images / "a" / "0.png", images / blurred)
    ready.scan(["a"], LogProgress())
    assert "quality" not in said(curation, "show", blurred)
    assert curation("curate")[0] == 0
    assert said(curation, "show", blurred)["quality"]["sharpness"] > quality["sharpness"]
