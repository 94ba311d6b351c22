"""A small lake and a version of it, whose labels and names are hard to hold."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image

from curation_assets.annotations.sources import make_source
from curation_assets.datasets.versions import last_version, publish
from curation_assets.export.exporting import Exported
from curation_assets.export.protocol import Options
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets.settings import load_settings
from curation_assets_tests.commands.conftest import called
from curation_assets_tests.conftest import jpeg

# path → label, side; None: no label
IMAGES = {
    "farm_a/001.jpg": ("leaf/miner", "train"),
    "farm_b/001.JPG": ("leaf/miner", "train"),
    "farm_a/turned.jpg": ("rust", "train"),
    "farm_a/a #ü.jpg": ("rust", "test"),
    "farm_b/x.png": ("Rust", "test"),
    "farm_b/gone.jpg": ("rust", "test"),
}
BOX = [4.0, 8.0, 20.0, 30.0]  # on turned.jpg, in pixels of the upright picture
Export = Callable[..., Exported]
Command = Callable[..., tuple[int, str, str]]


def turned(seed: int = 50) -> bytes:
    """A JPEG, 64 × 48 as stored, that EXIF turns by a quarter, and that says where it was taken."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Canon"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 12.0, 0.0), 3: "E", 4: (11.0, 30.0, 0.0)})
    return jpeg(seed, exif=exif.tobytes(), comment=b"of ana's phone")


def publish_rows(pipeline: Pipeline, labels: dict[str, tuple[str | None, str | None]], manifest: Any = None) -> None:
    """A version that keeps images of the lake, and leaves the others out."""
    table = pipeline.tables
    known = table.directory.latest().read(["relative_path", "content_sha256"]).rename({"_file": "file"})
    wanted = pl.DataFrame(
        [(path, label, split) for path, (label, split) in labels.items()],
        {"relative_path": pl.String, "label": pl.String, "split": pl.String},
        orient="row",
    )
    rows = known.join(wanted, on="relative_path", how="left").with_columns(
        kept=pl.col("relative_path").is_in(list(labels)),
        reason=pl.when(~pl.col("relative_path").is_in(list(labels))).then(pl.lit("blurry")),
        witness=pl.lit(None, pl.String),
        similarity=pl.lit(None, pl.Float32),
    )
    parent = last_version(table.datasets, "leaves")
    publish(table.datasets, "leaves", rows, manifest or {"recipe": {}}, parent, LogProgress(), fresh=True)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lake: scanned, and ``leaves@1``."""
    home = tmp_path_factory.mktemp("exported")
    for number, path in enumerate([*IMAGES, "farm_b/blurry.jpg"]):
        file = home / "images" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(turned() if "turned" in path else jpeg(number))
    png = BytesIO()
    Image.open(BytesIO(jpeg(9))).save(png, "PNG")
    (home / "images/farm_b/x.png").write_bytes(png.getvalue())
    pipeline = pipeline_at(home)
    pipeline.scan(["farm_a", "farm_b"], LogProgress())
    coco = {
        "images": [{"id": 1, "file_name": "farm_a/turned.jpg", "width": 48, "height": 64}],
        "categories": [{"id": 7, "name": "spots"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": BOX}],
    }
    (home / "boxes.json").write_text(json.dumps(coco))
    pipeline.annotate(make_source(format="coco", path=home / "boxes.json"), LogProgress())
    said = pipeline.tables.annotations
    tables = {"annotations": {"id": said.latest().table_id, "version": said.newest_version()}}
    publish_rows(pipeline, dict(IMAGES), {"recipe": {"labels": {"merge": {"spot": ["spots"]}}}, "tables": tables})
    return home


def pipeline_at(home: Path) -> Pipeline:
    return Pipeline(load_settings(images_root=home / "images", lake_root=home / "lake", recipes=home / "recipes"))


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    """That lake, of the test's own; its file ``gone.jpg`` is gone."""
    shutil.copytree(made, tmp_path / "home")
    (tmp_path / "home/images/farm_b/gone.jpg").unlink()
    return tmp_path / "home"


@pytest.fixture
def export(home: Path) -> Export:
    """Export ``leaves`` to a place beside the lake."""

    def call(to: str, out: str = "out", **options: Any) -> Exported:
        return pipeline_at(home).export_dataset("leaves", None, to, home / out, Options(**options), LogProgress())

    return call


@pytest.fixture
def command(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run ``curation dataset export`` in this process; gives exit code, standard output and standard error."""
    for name in ("images", "lake"):
        monkeypatch.setenv(f"CURATION_{name.upper()}_ROOT", str(home / name))
    monkeypatch.setenv("CURATION_RECIPES", str(home / "recipes"))
    monkeypatch.chdir(home)

    return called(monkeypatch, capfd, "dataset", "export")
