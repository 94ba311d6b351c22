"""Boxes lie where a format's reader shows what they are around, however EXIF turns the picture."""

from __future__ import annotations

import json
import tarfile
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image, ImageOps

from curation_assets.errors import CurationError
from curation_assets.export.protocol import IMAGES, Content, Options
from curation_assets.export.yolo import Yolo
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.export.conftest import pipeline_at, publish_rows

SIZE, BOX = (96, 64), (16, 8, 24, 40)  # x, y, width, height of what is red in the upright image
_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
Home = tuple[Path, Pipeline]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An image of each orientation with one box, one of two, and one without any; and ``leaves@1``."""
    home = tmp_path_factory.mktemp("boxes")
    images = home / "images"
    images.mkdir()
    upright = Image.new("RGB", SIZE, "blue")
    upright.paste("red", (BOX[0], BOX[1], BOX[0] + BOX[2], BOX[1] + BOX[3]))
    annotations: list[dict[str, Any]] = []
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        stored = upright.transpose(_BACK[turn]) if turn > 1 else upright
        stored.save(images / f"turn {turn}.jpg", quality=95, subsampling=0, exif=exif.tobytes())
        annotations.append({"image_id": turn, "category_id": 1, "bbox": list(BOX)})
    upright.save(images / "turn 1.png")
    annotations[0] |= {"segmentation": [[16, 8, 40, 8, 40, 48]], "area": 480}
    annotations.append({"image_id": 9, "category_id": 2, "bbox": [0, 0, 96.4, 64]})
    annotations.append({"image_id": 9, "category_id": 1, "bbox": list(BOX)})
    Image.new("RGB", SIZE, "green").save(images / "bare.jpg")
    names = [f"turn {turn}.jpg" for turn in range(1, 9)] + ["turn 1.png", "bare.jpg"]
    document: Any = {
        "images": [{"id": at, "file_name": name} for at, name in enumerate(names, 1)],
        "annotations": [{"id": at, **each} for at, each in enumerate(annotations)],
        "categories": [{"id": 1, "name": 'leaf: "#1" \u00e4'}, {"id": 2, "name": "field/all"}],
    }
    pipeline = pipeline_at(home)
    pipeline.scan(["."], LogProgress())
    take_over(pipeline, home / "truth.json", document)
    sides = {name: ("leaf", "val" if at % 3 == 2 else "train") for at, name in enumerate(names)}
    said = pipeline.tables.annotations.latest()
    tables = {"annotations": {"id": said.table_id, "version": said.version}}
    publish_rows(pipeline, sides, {"recipe": {}, "tables": tables})
    return home, pipeline


def take_over(pipeline: Pipeline, path: Path, document: Any, name: str = "truth") -> None:
    from curation_assets.annotations.sources import Source

    path.write_text(json.dumps(document))
    pipeline.annotate(Source(source=name, format="coco", path=path), LogProgress())


def boxes_of(pipeline: Pipeline, source: str) -> dict[str, list[tuple[float, ...]]]:
    rows = pipeline.tables.annotations.latest().read(["relative_path", "boxes"], where=pl.col("source") == source)
    return {
        path: [tuple(box[name] for name in ("x", "y", "width", "height")) for box in boxes]
        for path, boxes in rows.drop("_file").iter_rows()
    }


def assert_red(image: Image.Image, box: tuple[float, ...]) -> None:
    """The box is around all that is red, to the pixel."""
    red = np.asarray(image.convert("RGB")).astype(int)
    found = np.argwhere(red[:, :, 0] > 128)
    (top, left), (below, right) = found.min(0), found.max(0) + 1
    assert (left, top, right - left, below - top) == pytest.approx(box, abs=1e-3)


def export(home: Home, out: Path, to: str, **options: Any) -> list[str]:
    return home[1].export_dataset("leaves", None, to, out, Options(**options), LogProgress()).notes


@pytest.mark.parametrize("upright", [False, True])
def test_coco_is_of_the_pixels_as_its_reader_has_them(home: Home, tmp_path: Path, upright: bool) -> None:
    from pycocotools.coco import COCO

    out = tmp_path / "coco"
    notes = export(home, out, "coco", upright=upright)
    assert notes == ["10 images have a label that no box there has: coco is of boxes alone",
                     "an image has no box: to who trains on coco, nothing is there"]  # fmt: skip
    seen = {}
    for side, number in (("train", 7), ("val", 3)):
        with redirect_stdout(StringIO()):
            coco = COCO(out / f"annotations/instances_{side}.json")
        assert len(coco.imgs) == number
        assert [each["name"] for each in coco.loadCats(coco.getCatIds())] == ["field/all", 'leaf: "#1" \u00e4']
        for image in coco.imgs.values():
            picture = Image.open(out / "images" / side / image["file_name"])
            assert picture.size == (image["width"], image["height"])
            leaves = coco.loadAnns(coco.getAnnIds(image["id"], catIds=[2]))
            for each in leaves:
                assert_red(picture, tuple(each["bbox"]))
            seen[image["relative_path"]] = leaves
    assert sorted(path for path, leaves in seen.items() if not leaves) == ["bare.jpg"]
    assert len(seen) == 10
    first = seen["turn 1.jpg"][0]
    assert (first["segmentation"], first["area"], first["iscrowd"]) == ([[16, 8, 40, 8, 40, 48]], 480, 0)
    # What is taken over again is what there was.
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    for side in ("train", "val"):
        told = json.loads((out / f"annotations/instances_{side}.json").read_text())
        for name in ("images", "annotations"):
            for each in told[name]:
                each |= {key: f"{side} {each[key]}" for key in ("id", "image_id") if key in each}
                if name == "images":
                    each["file_name"] = each["relative_path"]
            document[name] += told[name]
        document["categories"] = told["categories"]
    if not upright:
        take_over(home[1], tmp_path / "again.json", document, "again")
        assert boxes_of(home[1], "again") == boxes_of(home[1], "truth")


@pytest.mark.parametrize("upright", [False, True])
def test_yolo_is_of_the_upright_image(home: Home, tmp_path: Path, upright: bool) -> None:
    out = tmp_path / "yolo"
    export(home, out, "yolo", upright=upright)
    told = yaml.safe_load((out / "data.yaml").read_text())
    assert told == {
        "train": "images/train", "val": "images/val", "nc": 2, "names": {0: "field/all", 1: 'leaf: "#1" \u00e4'}
    }  # fmt: skip
    images = sorted(path for path in (out / "images").rglob("*") if path.is_file())
    assert len({path.with_suffix("") for path in images}) == len(images) == 10
    for path in images:
        lines = (out / "labels" / path.relative_to(out / "images")).with_suffix(".txt").read_text().splitlines()
        picture = ImageOps.exif_transpose(Image.open(path))
        assert bool(lines) == ("bare" not in path.name)
        for line in lines:
            label, *shares = line.split()
            x, y, width, height = map(float, shares)
            assert min(x - width / 2, y - height / 2) >= -1e-6
            assert max(x + width / 2, y + height / 2) <= 1 + 1e-6
            box = ((x - width / 2) * SIZE[0], (y - height / 2) * SIZE[1], width * SIZE[0], height * SIZE[1])
            if label == "1":
                assert_red(picture, box)
            else:
                assert box == pytest.approx((0, 0, 96, 64), abs=1e-3)  # cut at the edge


@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_what_cannot_be_boxes_is_one_line_before_anything_is_written(home: Home, tmp_path: Path, to: str) -> None:
    pipeline = home[1]
    publish_rows(pipeline, {"bare.jpg": ("leaf", None)})
    try:
        with pytest.raises(CurationError, match=f"{to} is for boxes, and no image of leaves@. has one"):
            export(home, tmp_path / "out", to)
        assert list(tmp_path.iterdir()) == []
    finally:
        from curation_assets.datasets.versions import last_version, withdraw

        withdraw(
            pipeline.tables.datasets, "leaves", last_version(pipeline.tables.datasets, "leaves"), "-", LogProgress()
        )


@pytest.mark.parametrize("side", ["images", "names", "path"])
def test_yolo_takes_no_side_that_its_reader_takes_for_something_else(side: str) -> None:
    rows = pl.DataFrame({"relative_path": ["a.jpg"], "split": [side], "labels": [["leaf"]]}, schema_overrides=IMAGES)
    with pytest.raises(CurationError, match=f"yolo can't hold a side called '{side}'"):
        Yolo().check(Content("leaves", 1, {}, rows, rows))


@pytest.mark.parametrize("upright", [False, True])
def test_formats_that_are_turned_by_some_readers_lie_as_pillow_shows_them(tmp_path: Path, upright: bool) -> None:
    images = tmp_path / "images"
    images.mkdir()
    picture = Image.new("RGB", SIZE, "blue")
    picture.paste("red", (BOX[0], BOX[1], BOX[0] + BOX[2], BOX[1] + BOX[3]))
    exif = Image.Exif()
    exif[0x0112] = 6
    names = ["a.tif", "a.avif"]
    for name in names:
        picture.transpose(_BACK[6]).save(images / name, exif=exif.tobytes())
    pipeline = pipeline_at(tmp_path)
    pipeline.scan(["."], LogProgress())
    document: Any = {
        "images": [{"id": at, "file_name": name} for at, name in enumerate(names)],
        "annotations": [{"id": at, "image_id": at, "category_id": 1, "bbox": list(BOX)} for at in range(len(names))],
        "categories": [{"id": 1, "name": "leaf"}],
    }
    take_over(pipeline, tmp_path / "truth.json", document)
    said = pipeline.tables.annotations.latest()
    tables = {"annotations": {"id": said.table_id, "version": said.version}}
    publish_rows(pipeline, dict.fromkeys(names, ("leaf", None)), {"recipe": {}, "tables": tables})
    home = tmp_path, pipeline
    export(home, tmp_path / "coco", "coco", upright=upright)
    told = json.loads((tmp_path / "coco/annotations/instances.json").read_text())
    for image, box in zip(told["images"], told["annotations"], strict=True):
        shown = Image.open(tmp_path / "coco/images" / image["file_name"])
        assert shown.size == (image["width"], image["height"]) == (SIZE if upright else shown.size)
        around = np.argwhere(np.asarray(shown.convert("RGB"))[:, :, 0] > 128)
        (top, left), (below, right) = around.min(0), around.max(0) + 1
        assert (left, top, right - left, below - top) == pytest.approx(box["bbox"], abs=2)  # AVIF is blurred
    export(home, tmp_path / "tars", "webdataset", upright=upright)
    with tarfile.open(tmp_path / "tars/train-00000-of-00001.tar") as tar:
        facts = [json.load(cast("Any", tar.extractfile(name))) for name in tar.getnames() if name.endswith(".json")]
    turns = {each["relative_path"]: each["orientation"] for each in facts}
    assert turns == {"a.tif": 1, "a.avif": 1 if upright else 6}
