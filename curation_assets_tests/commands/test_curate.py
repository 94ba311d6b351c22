"""``curation curate`` and ``problems``, and what ``run``, ``show`` and ``search`` say of quality."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from curation_assets.curate.problems import KINDS
from curation_assets.ingest import run
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.commands.conftest import Curation, copied, pipeline_of
from curation_assets_tests.conftest import jpeg


def photograph(images: Path) -> Path:
    """A folder with a blurred and a dark photograph and two good ones."""
    folder = images / "plot 1"
    folder.mkdir(parents=True)
    colours = np.random.default_rng(1).integers(0, 255, (12, 16, 3), np.uint8)
    blocks = Image.fromarray(colours).resize((400, 300), Image.Resampling.NEAREST)
    for name in ("good", "fine"):
        blocks.save(folder / f"{name}.jpg", quality=95 if name == "good" else 90)
    blocks.filter(ImageFilter.GaussianBlur(8)).save(folder / "blurred.jpg", quality=90)
    blocks.point(lambda value: value // 8).save(folder / "dark.jpg", quality=90)
    return folder


@pytest.fixture
def photographs(images: Path) -> Path:
    return photograph(images)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, registered_model: Path) -> Path:
    """A lake of those four."""
    home = tmp_path_factory.mktemp("measured")
    photograph(home / "images")
    run(pipeline_of(home, registered_model), LogProgress())
    return home


@pytest.fixture
def lake(ready: Pipeline, made: Path) -> Pipeline:
    return copied(ready, made)


def test_a_run_ends_with_quality_unless_it_is_left_out(curation: Curation, ready: Pipeline, photographs: Path) -> None:
    code, text, _ = curation("run", "--no-curate", "--json")
    facts = json.loads(text)
    assert (code, facts["quality"], facts["quality_error"]) == (0, None, None)
    assert not ready.tables.quality.exists()
    code, text, _ = curation("run", "--json")
    quality = json.loads(text)["quality"]
    assert (code, quality["measured"], quality["failed"]) == (0, 4, [])
    code, text, _ = curation("run")
    assert "quality 0 images measured" in text
    (photographs / "new.jpg").write_bytes(jpeg(3))
    assert "quality 1 images measured" in curation("run", "--folders", "plot 1")[1]


def test_curate_brings_in_line_what_a_run_left(curation: Curation, ready: Pipeline, photographs: Path) -> None:
    code, _, error = curation("curate")
    assert (code, "`curation run` creates it" in error) == (2, True)
    curation("run", "--no-curate")
    code, _, error = curation("curate", "--folders", "nowhere")
    assert (code, error) == (
        2,
        f"error: no image folder 'nowhere' in {ready.tables.directory.path}; `curation run` adds it\n",
    )
    code, text, _ = curation("curate", "--folders", "plot 1", "--json")
    assert (code, json.loads(text)["quality"]["measured"]) == (0, 4)
    code, text, _ = curation("curate")
    assert (code, text.splitlines()[0].startswith("quality 0 images measured")) == (0, True)


def test_the_overview_tells_each_kind_with_examples_and_what_to_do(curation: Curation, lake: Pipeline) -> None:
    code, text, _ = curation("problems")
    assert code == 0
    assert text.startswith("4 images measured, 2 with a problem\n")
    assert all(name in text for name in KINDS)
    assert "plot 1/blurred.jpg" in text
    assert "`curation problems blurry`" in text
    facts = json.loads(curation("problems", "--json")[1])
    assert (facts["images"], facts["with_problem"], facts["not_measured"]) == (4, 2, 0)
    kinds = {kind["kind"]: kind for kind in facts["kinds"]}
    assert set(kinds) == set(KINDS)
    assert (kinds["blurry"]["images"], kinds["blurry"]["share"]) == (1, 0.25)
    assert kinds["blurry"]["examples"] == ["plot 1/blurred.jpg"]
    assert kinds["dark"]["examples"] == ["plot 1/dark.jpg"]


def test_a_kind_lists_its_images_the_worst_first(curation: Curation, lake: Pipeline) -> None:
    code, text, _ = curation("problems", "blurry")
    assert (code, text.split("  ")[1]) == (0, "plot 1/blurred.jpg\n")
    facts = json.loads(curation("problems", "blurry", "--json")[1])
    assert (facts["kind"], facts["total"], facts["images"]) == ("blurry", 1, 4)
    assert facts["found"][0]["problems"] == "blurry"
    assert facts["found"][0]["severity"] > 1
    rows = list(csv.DictReader(io.StringIO(curation("problems", "dark", "--csv")[1].removeprefix("\ufeff"))))
    assert [row["relative_path"] for row in rows] == ["plot 1/dark.jpg"]
    assert curation("problems", "bright")[1].startswith("no image is bright: exposure > ")
    most = json.loads(
        curation("problems", "blurry", "--threshold", "blurry=5", "--json", "-k", "2", "--offset", "1")[1]
    )
    assert (most["total"], len(most["found"]), most["threshold"]) == (4, 2, 5.0)


def test_filters_and_conditions_are_those_of_a_search(curation: Curation, lake: Pipeline) -> None:
    def examples(*arguments: str) -> list[str]:
        facts = json.loads(curation("problems", "--json", *arguments)[1])
        return [path for kind in facts["kinds"] for path in kind["examples"]]

    assert examples("--name", "dark") == ["plot 1/dark.jpg"]
    assert examples("--where", "sharpness < 0.3") == ["plot 1/blurred.jpg"]
    assert examples("--camera", "Canon") == []
    found = json.loads(curation("search", "--where", "sharpness < 0.3", "--json")[1])
    assert [image["relative_path"] for image in found["images"]] == ["plot 1/blurred.jpg"]
    found = json.loads(curation("search", "--where", "problems LIKE '%dark%'", "--json")[1])
    assert [image["relative_path"] for image in found["images"]] == ["plot 1/dark.jpg"]
    found = json.loads(curation("search", "--problem", "dark", "--problem", "bright", "--json")[1])
    assert [image["relative_path"] for image in found["images"]] == ["plot 1/dark.jpg"]
    code, text, _ = curation("search", "--sort", "sharpness")
    assert (code, text.splitlines()[0].split("  ")[1]) == (0, "plot 1/blurred.jpg")


def test_a_page_shows_the_images_of_each_kind(curation: Curation, lake: Pipeline, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "problems.html"
    assert curation("problems", "--html", str(page))[0] == 0
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 2
    assert "blurry: 1" in text
    assert "dark: 1" in text
    assert curation("problems", "dark", "--html", str(page))[0] == 0
    assert page.read_text().count("data:image/jpeg;base64,") == 1


def test_an_image_shows_its_scores_and_problems(curation: Curation, lake: Pipeline) -> None:
    quality = json.loads(curation("show", "plot 1/dark.jpg", "--json")[1])["quality"]
    assert quality["problems"] == ["dark"]
    assert 0 < quality["highlights"] < 0.3
    text = curation("show", "plot 1/good.jpg")[1]
    assert "sharpness       0." in text
    assert "problems        none" in text


WRONG: dict[str, tuple[list[str], str]] = {
    "a kind with a slip": (["problems", "blury"], "no kind of problem is called 'blury'; did you mean blurry?"),
    "no number": (["problems", "--threshold", "blurry=soft"], "of blurry is a number above 0, not 'soft'"),
    "not finite": (["problems", "--threshold", "blurry=nan"], "the threshold of blurry is a number above 0, not 'nan'"),
    "no kind": (["problems", "--threshold", "0.4"], "--threshold '0.4': write KIND=NUMBER, for example blurry=0.4"),
    "two ways": (["problems", "dark", "--json", "--csv"], "--json and --csv are two ways to print: choose one"),
    "a table of all": (["problems", "--csv"], "--csv prints the images of one kind: name it"),
    "an unknown kind": (["search", "--problem", "fog"], "no kind of problem is called 'fog'; there are blurry"),
    "a condition": (["problems", "--where", "sharpnes < 1"], "sharpnes"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line(name: str, curation: Curation, lake: Pipeline) -> None:
    arguments, said = WRONG[name]
    code, text, error = curation(*arguments)
    assert (code, text) == (2, "")
    assert error.count("\n") == 1
    assert said in error


def test_without_measures_the_command_says_what_makes_them(curation: Curation, fill: Callable[..., Any]) -> None:
    code, _, error = curation("problems")
    assert code == 2
    assert error.endswith("; `curation curate` does that\n")
