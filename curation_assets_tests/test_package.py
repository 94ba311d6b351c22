"""The package as others install it: a wheel that works outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

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


def test_the_installed_packages_demo_runs_and_a_second_time_does_nothing(site: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(site), "CURATION_MODEL_SOURCE": "demo"}
    command = [sys.executable, "-c", TWICE, "--json", "--photographs", "200"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second, told = done.stdout.split("-- done --\n")
    said = json.loads(first)
    assert said["total"]["files"] == 216
    assert said["total"]["embedded"] == said["total"]["ok"] == 213
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
    images = tmp_path / "demo_workspace" / "images"
    files = {str(path.relative_to(images)) for path in images.rglob("*")}
    for search in said["search"]:
        assert search["query"] in page
        scores = [hit["score"] for hit in search["hits"]]
        assert scores == sorted(scores, reverse=True)
        assert {hit["relative_path"] for hit in search["hits"]} <= files
    assert [path.name for path in tmp_path.iterdir()] == ["demo_workspace"]
    wrote = ["wrote" in errors for errors in done.stderr.split("-- done --\n")]
    assert wrote == [True, False, False]
    assert "scan   0 files read (0 new, 0 changed), 0 gone" in second
    assert "embed  0 images, 0 copies" in second
    assert "for demonstration, not for decisions" in second
    assert str(tmp_path / "demo_workspace" / "search.html") in second
    assert "213 images measured, " in second
    assert "leaves@1  unchanged" in second
    assert "What next:" in second
    file, status, assets = told.split()[-3:]
    assert file.startswith(str(site))
    assert status == "200"
    assert int(assets) >= 6
