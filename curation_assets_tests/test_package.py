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

from curation_assets_tests.conftest import jpeg

pytestmark = pytest.mark.slow
CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that an installed wheel's modules lie in; the checkout isn't on the way."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    shutil.copytree(CHECKOUT / "curation_assets", source / "curation_assets")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,) = out.glob("*.whl")
    target = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run(site: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from curation_assets.cli import main; sys.argv[0] = 'curation'; main()"
    if arguments[:1] == ("-c",):
        code, arguments = arguments[1], arguments[2:]
    environment = os.environ | {"PYTHONPATH": str(site), "CURATION_MODEL_SOURCE": "demo"}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_no_tests_and_all_that_is_not_code(site: Path) -> None:
    names = {path.name for path in site.iterdir()}
    assert "curation_assets_tests" not in names
    in_checkout = {
        path.relative_to(CHECKOUT)
        for path in (CHECKOUT / "curation_assets").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path.relative_to(site) for path in (site / "curation_assets").rglob("*") if path.is_file()} == in_checkout


def test_the_installed_package_runs_searches_and_shows_pages_where_it_is_called(site: Path, tmp_path: Path) -> None:
    (tmp_path / "images" / "maize").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "images" / "maize" / f"{number}.jpg").write_bytes(jpeg(number))
    done = run(site, tmp_path, "run", "--json")
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    assert said["embed"]["encoded"] == 3
    assert said["tables"]["directory"].startswith(str(tmp_path / "lake")), "relative paths start where it is called"
    page = tmp_path / "found.html"
    done = run(site, tmp_path, "search", "a leaf", "--html", str(page))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "maize/" in page.read_text()
    code = (
        "import curation_assets\n"
        "from curation_assets.definitions import defs\n"
        "from curation_assets.gallery.app import create_app\n"
        "from curation_assets.gallery.gallery import Gallery\n"
        "from curation_assets.pipeline import Pipeline\n"
        "from curation_assets.settings import load_settings\n"
        "from starlette.testclient import TestClient\n"
        "page = TestClient(create_app(Gallery(Pipeline(load_settings()))), base_url='http://127.0.0.1:8080').get('/')\n"
        "print(curation_assets.__file__, page.status_code, len(list(defs.resolve_asset_graph().get_all_asset_keys())))"
    )
    done = run(site, tmp_path, "-c", code)
    assert done.returncode == 0, done.stderr[-2000:]
    file, status, assets = done.stdout.split()[-3:]
    assert file.startswith(str(site))
    assert status == "200"
    assert int(assets) >= 6
