"""The package as others install it: a wheel that works outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from curation_assets.demo import annotated
from curation_assets.pipeline import Pipeline
from curation_assets.settings import load_settings
from curation_assets_tests.gallery.browsing import browser  # noqa: F401  fixture
from curation_assets_tests.gallery.conftest import serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow
CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that an installed wheel's modules lie in; the checkout isn't on the way."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    shutil.copytree(CHECKOUT / "curation_assets", source / "curation_assets")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = out.glob("*.whl")
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


# What the demo does, and a second time, and the pages that are loaded from the package.
TWICE = """
import sys
from curation_assets.cli import main
for arguments in (sys.argv[1:], []):
    sys.argv = ["curation", "demo", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    for stream in (sys.stdout, sys.stderr):
        print("-- done --", file=stream, flush=True)
import curation_assets
from curation_assets.definitions import defs
from curation_assets.gallery.app import create_app
from curation_assets.gallery.gallery import Gallery
from curation_assets.pipeline import Pipeline
from curation_assets.settings import load_settings
from starlette.testclient import TestClient
pipeline = Pipeline(load_settings(images_root="demo_workspace/images", lake_root="demo_workspace/lake"))
page = TestClient(create_app(Gallery(pipeline)), base_url="http://127.0.0.1:8080").get("/")
print(curation_assets.__file__, page.status_code, len(list(defs.resolve_asset_graph().get_all_asset_keys())))
"""


def test_the_wheel_holds_no_tests_and_all_that_is_not_code(site: Path) -> None:
    names = {path.name for path in site.iterdir()}
    assert "curation_assets_tests" not in names
    in_checkout = {
        path.relative_to(CHECKOUT)
        for path in (CHECKOUT / "curation_assets").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path.relative_to(site) for path in (site / "curation_assets").rglob("*") if path.is_file()} == in_checkout


@dataclass(frozen=True)
class Demo:
    """What the demo printed, and where it ran."""

    out: str
    err: str
    folder: Path


@pytest.fixture(scope="module")
def demo(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The installed package's demo, run twice."""
    folder = tmp_path_factory.mktemp("demo")
    environment = os.environ | {"PYTHONPATH": str(site), "CURATION_MODEL_SOURCE": "demo"}
    command = [sys.executable, "-c", TWICE, "--json"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return Demo(done.stdout, done.stderr, folder)


def test_the_installed_packages_demo_runs_and_a_second_time_does_nothing(site: Path, demo: Demo) -> None:
    first, second, told = demo.out.split("-- done --\n")
    said = json.loads(first)
    assert said["total"]["files"] == 316
    assert said["total"]["embedded"] == said["total"]["ok"] == 313
    assert {bad["relative_path"] for bad in said["bad"]} == {
        "coffee/plot_03/healthy/IMG_0399.JPG",
        "coffee/plot_03/healthy/leaf (1).jpg",
        "coffee/plot_03/rust/transfer_broke_off.jpg",
    }
    found = {kind["kind"]: kind for kind in said["problems"]["kinds"]}
    assert found["dark"]["examples"] == ["vegetables/tomato/after sunset.jpg"]
    assert found["blurry"]["images"] > 0
    assert "coffee/plot_03/healthy/DSC_0977.jpg" in found["mislabelled"]["examples"]
    assert "coffee/plot_07/leaf_spots/IMG-20240614-WA0003.jpg" in found["conflicting"]["examples"]
    assert found["leak"]["images"] > 0
    assert (said["dataset"]["published"]["version"], said["dataset"]["leaks"]) == (1, 0)
    assert {name for name, rows in said["dataset"]["left_out"].items() if rows} == {"problems", "near"}
    page = Path(said["contact_sheet"]).read_text()
    images = demo.folder / "demo_workspace" / "images"
    files = {str(path.relative_to(images)) for path in images.rglob("*")}
    for search in said["search"]:
        assert search["query"] in page
        scores = [hit["score"] for hit in search["hits"]]
        assert scores == sorted(scores, reverse=True)
        assert {hit["relative_path"] for hit in search["hits"]} <= files
    assert [path.name for path in demo.folder.iterdir()] == ["demo_workspace"]
    wrote = ["wrote" in errors for errors in demo.err.split("-- done --\n")]
    assert wrote == [True, False, False]
    assert "scan   0 files read (0 new, 0 changed), 0 gone" in second
    assert "embed  0 images, 0 copies" in second
    assert "for demonstration, not for decisions" in second
    assert str(demo.folder / "demo_workspace" / "search.html") in second
    assert "313 images measured, " in second
    assert "leaves@1  unchanged" in second
    assert "What next:" in second
    file, status, assets = told.split()[-3:]
    assert file.startswith(str(site))
    assert status == "200"
    assert int(assets) >= 6


def test_the_walk_of_the_documentation_meets_what_it_says(demo: Demo, browser: Browser) -> None:  # noqa: F811
    from curation_assets_tests.gallery.walking import walk

    home = demo.folder / "demo_workspace"
    places = {"images_root": home / "images", "lake_root": home / "lake", "recipes": home / "recipes"}
    pipeline = Pipeline(
        load_settings(**places, model_source="demo", annotations=annotated.sources(home / "splits.csv"))
    )
    with serving(pipeline) as address:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        walked = walk(page, address, pipeline)
        page.close()
    assert (walked.blurry, walked.labels) == (8, 3)
    for said in ("77 images", "70 images", "7 came, 1 with another label"):
        assert said in walked.compared
