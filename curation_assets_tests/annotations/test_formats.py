"""Formats with boxes: what is read, in which pixels, what is kept apart, and every fault with its place."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from PIL import Image, ImageOps

from curation_assets.annotations.record import Import, read_rows
from curation_assets.annotations.said import FaultyAnnotationsError
from curation_assets.annotations.sources import make_source
from curation_assets.errors import CurationError
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress
from curation_assets_tests.annotations.conftest import Put
from curation_assets_tests.conftest import jpeg

WEED = {"label": "weed", "x": 2.0, "y": 3.0, "width": 10.5, "height": 4.0}


def annotate(pipeline: Pipeline, **given: Any) -> Import:
    return pipeline.annotate(make_source(**given), LogProgress())


def only(pipeline: Pipeline, path: str) -> dict[str, Any]:
    (row,) = read_rows(pipeline.tables.annotations, pl.col("relative_path") == path).to_dicts()
    return row


def turned(orientation: int, size: tuple[int, int] = (40, 30), box: tuple[int, int, int, int] = (4, 6, 10, 5)) -> bytes:
    """A PNG with one white box, at ``box`` as it is stored, that EXIF turns."""
    image = Image.new("L", size)
    x, y, width, height = box
    image.paste(255, (x, y, x + width, y + height))
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = BytesIO()
    image.save(out, "PNG", exif=exif)
    return out.getvalue()


# ------------------------------------------------------------------- coco


@pytest.fixture
def coco() -> dict[str, Any]:
    """Two images of 64 × 48; one with two boxes, a mask and a crowd."""
    return {
        "info": {"year": 2020},
        "images": [
            {"id": 1, "file_name": "a.jpg", "width": 64, "height": 48, "license": 3},
            {"id": 2, "file_name": "x/b.jpg", "width": 64, "height": 48},
        ],
        "categories": [{"id": 7, "name": "weed", "supercategory": "plant"}, {"id": 9, "name": "crop"}],
        "annotations": [
            {"id": 10, "image_id": 1, "category_id": 7, "bbox": [2, 3, 10.5, 4], "area": 42, "iscrowd": 0,
             "segmentation": [[2, 3, 12.5, 3, 12.5, 7]]},
            {"id": 11, "image_id": 1, "category_id": 9, "bbox": [0, 0, 64, 48], "iscrowd": 1,
             "segmentation": {"counts": [1, 2], "size": [48, 64]}},
        ],
    }  # fmt: skip


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document))
    return path


def test_coco_gives_boxes_and_keeps_masks_and_crowds_apart(
    pipeline: Pipeline, put: Put, tmp_path: Path, coco: dict[str, Any]
) -> None:
    put({"d/a.jpg": 1, "d/x/b.jpg": 2})
    done = annotate(pipeline, format="coco", path=write(tmp_path / "c.json", coco), split="train")
    row = only(pipeline, "d/a.jpg")
    assert (row["values"], row["boxes"], row["split"], row["source"]) == (["weed", "crop"], [WEED], "train", "c.json")
    kept = json.loads(row["kept_apart"])
    assert kept["image"] == {"id": 1, "license": 3}
    first = coco["annotations"][0]
    assert kept["boxes"] == [{name: first[name] for name in first if name not in ("image_id", "bbox")}]
    crowd = coco["annotations"][1]
    assert kept["others"] == [{name: crowd[name] for name in crowd if name != "image_id"}]
    empty = only(pipeline, "d/x/b.jpg")
    assert (empty["values"], empty["boxes"]) == ([], []), "it was looked at, and nothing is there"
    assert done.boxes == 1
    assert [note for note in done.notes if "alone" not in note] == [
        "1 annotations are crowds or have no bbox: kept apart, without a box",
        "info of the file are of no image, and not taken over",
        "of the categories only the names and ids are taken over",
    ]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda c: c["images"].append(c["images"][0]), "images[2]: the id 1 is there twice, for a.jpg and a.jpg"),
        (lambda c: c["images"].append(c["images"][0] | {"id": 3}), "image 3: d/a.jpg again, after image 1"),
        (lambda c: c["images"].append({"id": 3, "file_name": "no.jpg"}), "image 3: there is no image 'no.jpg'"),
        (lambda c: c["images"].append({"id": 3}), "images[2]: it needs an id and a file_name"),
        (lambda c: c["images"][0].update(width="64"), "images[0]: width and height of a.jpg are whole numbers"),
        (lambda c: c["images"][0].update(width=640), "image 1: d/a.jpg is 64 × 48, and stated as 640 × 48"),
        (lambda c: c["annotations"].append(c["annotations"][0]), "annotations[2]: the id 10 is there twice"),
        (lambda c: c["annotations"][0].update(image_id=5), "annotation 10: there is no image with the id 5"),
        (lambda c: c["annotations"][0].update(category_id=5), "annotation 10: there is no category with the id 5"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), "annotation 10: bbox [1, 2, 3] is not four numbers"),
        (lambda c: c["annotations"][0].update(bbox=[60, 2, 9, 9]), "box 'weed' at 60, 2 of 9 × 9 lies outside of d/a"),
        (lambda c: c["annotations"][0].update(bbox=[60, 2, 0, 9]), "box 'weed' at 60, 2 of 0 × 9 has no size"),
        (lambda c: c["categories"].append(c["categories"][0]), "categories[2]: the id 7 is there twice"),
        (lambda c: c.pop("categories"), "is no COCO file: it needs the lists images, annotations, categories"),
    ],
)
def test_a_fault_of_a_coco_file_is_one_line_with_its_place(
    pipeline: Pipeline,
    put: Put,
    tmp_path: Path,
    coco: dict[str, Any],
    spoil: Callable[[dict[str, Any]], object],
    said: str,
) -> None:
    put({"d/a.jpg": 1, "d/x/b.jpg": 2})
    coco = copy.deepcopy(coco)
    spoil(coco)
    with pytest.raises(CurationError) as error:
        annotate(pipeline, format="coco", path=write(tmp_path / "c.json", coco))
    assert said in str(error.value)
    assert str(tmp_path / "c.json") in str(error.value)
    assert "\n" not in str(error.value)
    assert not pipeline.tables.annotations.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "\0", '{"images": 3}'])
def test_what_is_no_coco_file_is_one_line(pipeline: Pipeline, put: Put, tmp_path: Path, text: str) -> None:
    put({"a.jpg": 1})
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(CurationError, match=r"c\.json (can't be read as JSON|is no COCO file)"):
        annotate(pipeline, format="coco", path=tmp_path / "c.json")


# ------------------------------------------------------- EXIF's orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_boxes_of_the_stored_picture_are_turned_as_exif_turns_it(
    pipeline: Pipeline, put: Put, tmp_path: Path, orientation: int, kind: str
) -> None:
    stored = turned(orientation)
    put({"a.png": stored})
    if kind == "coco":
        document = {
            "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}],
            "categories": [{"id": 1, "name": "box"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 6, 10, 5]}],
        }
        # 5 to 8 are told by the size that the file states.
        told = {} if orientation >= 5 else {"orientation": "stored"}
        annotate(pipeline, format="coco", path=write(tmp_path / "c.json", document), **told)
    else:
        (tmp_path / "classes.txt").write_text("box\n")
        (tmp_path / "a.txt").write_text(f"0 {9 / 40} {8.5 / 30} {10 / 40} {5 / 30}\n")
        annotate(pipeline, format="yolo", path=tmp_path, orientation="stored")
    upright = ImageOps.exif_transpose(Image.open(BytesIO(stored)))
    assert upright is not None
    left, top, right, bottom = upright.getbbox() or ()
    (box,) = only(pipeline, "a.png")["boxes"]
    assert [box[name] for name in ("x", "y", "width", "height")] == pytest.approx(
        [left, top, right - left, bottom - top], abs=1e-9
    )


def test_boxes_of_the_upright_picture_stay(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a.png": turned(6)})
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 40}],
        "categories": [{"id": 1, "name": "box"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [4, 6, 10, 34]}],
    }
    annotate(pipeline, format="coco", path=write(tmp_path / "c.json", document))
    assert [*only(pipeline, "a.png")["boxes"][0].values()] == ["box", 4, 6, 10, 34]


def test_a_box_on_an_image_that_can_not_be_read_is_a_fault(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a.jpg": 1, "cut.jpg": b""})
    (tmp_path / "classes.txt").write_text("box\n")
    (tmp_path / "cut.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(CurationError, match=r"cut\.txt: a box on cut\.jpg, whose size is not known"):
        annotate(pipeline, format="yolo", path=tmp_path)


# ------------------------------------------------------------------- yolo


def yolo(root: Path, **labels: str) -> Path:
    """A data set as its tools lay it out; label files by ``split__name``."""
    for name, text in labels.items():
        split, _, stem = name.partition("__")
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / split / f"{stem}.txt").write_text(text)
    yaml = "path: /another/machine\ntrain: images/train\nval: [images/val]\nnames:\n  0: weed\n  1: crop\n"
    (root / "data.yaml").write_text(yaml)
    return root / "data.yaml"


def test_yolo_gives_boxes_splits_and_keeps_polygons_apart(
    pipeline: Pipeline, put: Put, images: Path, tmp_path: Path
) -> None:
    put({"set/images/train/a.jpg": 1, "set/images/val/a.jpg": 2, "else/b.png": turned(1, (100, 50))})
    polygon = "1 0.1 0.2 0.3 0.2 0.3 0.6"
    path = yolo(tmp_path / "y", train__a="0 0.5 0.5 0.25 0.5\n", val__a="", val__b=f"{polygon}\n\n0 0.5 0.5 1 1\n")
    done = annotate(pipeline, format="yolo", path=path)
    row = only(pipeline, "set/images/train/a.jpg")
    assert row["boxes"] == [{"label": "weed", "x": 24, "y": 12, "width": 16, "height": 24}]
    assert (row["split"], row["kept_apart"], row["source"]) == ("train", None, "data.yaml")
    empty = only(pipeline, "set/images/val/a.jpg")
    assert (empty["values"], empty["boxes"], empty["split"]) == ([], [], "val")
    other = only(pipeline, "else/b.png")
    assert other["values"] == ["crop", "weed"]
    assert [*other["boxes"][0].values()][1:] == pytest.approx([10, 10, 20, 20])
    assert json.loads(other["kept_apart"])["polygons"] == [[0.1, 0.2, 0.3, 0.2, 0.3, 0.6], None]
    assert done.splits == {"val": 2, "train": 1}
    assert "polygons of 1 files are kept apart, beside the boxes around them" in done.notes
    assert annotate(pipeline, format="yolo", path=path.parent, source="data.yaml").version == done.version


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2 0.5 0.5 0.1 0.1", "labels/train/a.txt, line 1: there is no class 2; the names go to 1"),
        ("\n0.5 0.5 0.5 0.1 0.1", "labels/train/a.txt, line 2: there is no class 0.5"),
        ("0 0.5 0.5 0.1", "line 1: 4 numbers are neither a box (5) nor a polygon"),
        ("0 0.5 0.5 0.1 0.1 0.9", "line 1: six numbers are a prediction with its confidence"),
        ("0 0.5 x 0.1 0.1", "line 1: '0 0.5 x 0.1 0.1' is not numbers"),
        ("0 0.5 nan 0.1 0.1", "line 1: '0 0.5 nan 0.1 0.1' is not numbers"),
        ("0 0.99 0.5 0.1 0.1", "labels/train/a.txt: box 'weed' at 60.16, 21.6 of 6.4 × 4.8 lies outside of a.jpg"),
    ],
)
def test_a_fault_of_a_label_file_is_one_line_with_its_place(
    pipeline: Pipeline, put: Put, tmp_path: Path, text: str, said: str
) -> None:
    put({"a.jpg": 1})
    with pytest.raises(FaultyAnnotationsError) as error:
        annotate(pipeline, format="yolo", path=yolo(tmp_path / "y", train__a=text, val__a=""))
    assert said in str(error.value)
    assert not pipeline.tables.annotations.exists()


def test_two_label_files_of_one_image_are_a_fault(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a.jpg": 1})
    path = yolo(tmp_path / "y", train__a="", val__a="")
    with pytest.raises(CurationError, match=r"labels/val/a\.txt: a\.jpg again, after labels/train/a\.txt"):
        annotate(pipeline, format="yolo", path=path)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("data.yaml", "names: [a\n", "data.yaml, line 2 can't be read as YAML"),
        ("data.yaml", "train: images\n", "names is a list of classes"),
        ("data.yaml", "names: [a]\ntrain: images/no\n", "train is 'images/no', and there is no folder"),
        ("data.yaml", "names: [a]\n", "there are no label files"),
        ("other.txt", "", "no data.yaml and no classes.txt"),
        ("names.txt", "a", "give data.yaml, classes.txt or obj.names, or the folder of one"),
    ],
)
def test_a_data_set_that_is_not_whole_is_one_line(
    pipeline: Pipeline, put: Put, tmp_path: Path, name: str, text: str, said: str
) -> None:
    put({"a.jpg": 1})
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / name).write_text(text)
    with pytest.raises(CurationError) as error:
        annotate(pipeline, format="yolo", path=tmp_path / "y" / (name if name == "names.txt" else ""))
    assert said in str(error.value)


# ----------------------------------------------------------- Label Studio


def task(number: int, image: str, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    said = {"id": number * 10, "completed_by": 1, "was_cancelled": False, "result": list(results)}
    return {"id": number, "data": {"image": image}, "annotations": [said | more]}


def choice(*labels: str, of: str = "quality") -> dict[str, Any]:
    return {"id": "c", "type": "choices", "from_name": of, "to_name": "image", "value": {"choices": list(labels)}}


def rectangle(label: str, **more: Any) -> dict[str, Any]:
    value = {"x": 25, "y": 50, "width": 50, "height": 12.5, "rotation": 0, "rectanglelabels": [label]}
    told = {"id": "r", "type": "rectanglelabels", "from_name": "box", "to_name": "image", "value": value | more}
    return told | {"original_width": 64, "original_height": 48}


def test_label_studio_gives_a_field_for_each_control(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"f/a b.jpg": 1, "f/b.jpg": 2, "f/c.jpg": 3, "f/d.jpg": 4})
    brush = {"type": "brushlabels", "from_name": "box", "value": {"brushlabels": ["soil"], "rle": [1]}}
    tilted = rectangle("crop", rotation=9)
    tasks = [
        task(1, "/data/local-files/?d=f/a%20b.jpg", choice("good", "sharp"), rectangle("weed"), tilted),
        task(2, "/data/upload/3/0a1b2c3d-b.jpg", brush),
        task(3, "s3://bucket/deep/f/c.jpg", was_cancelled=True),
        task(4, "https://host/deep/er/d.jpg?x=1", rectangle("weed")),
    ]
    done = annotate(pipeline, format="label-studio", path=write(tmp_path / "l.json", tasks), source="lab")
    found = read_rows(pipeline.tables.annotations).sort("relative_path", "field")
    assert found.select("relative_path", "field", "values").rows() == [
        ("f/a b.jpg", "box", ["weed", "crop"]),
        ("f/a b.jpg", "quality", ["good", "sharp"]),
        ("f/b.jpg", "box", ["soil"]),
        ("f/b.jpg", "quality", None),
        ("f/d.jpg", "box", ["weed"]),
        ("f/d.jpg", "quality", None),
    ]
    assert found["boxes"].to_list() == [
        [{"label": "weed", "x": 16.0, "y": 24.0, "width": 32.0, "height": 6.0}],
        None,
        [],
        None,
        [{"label": "weed", "x": 16.0, "y": 24.0, "width": 32.0, "height": 6.0}],
        None,
    ]
    apart = [json.loads(text)["results"] for text in found["kept_apart"]]
    assert [one for results in apart for one in results] == [tilted, brush]
    assert "2 results are neither choices nor upright rectangles: kept apart" in done.notes
    assert "1 tasks are not annotated, or skipped" in done.notes


def test_one_control_is_the_field_that_is_asked_for(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a.jpg": 1})
    path = write(tmp_path / "l.json", [task(1, "a.jpg", choice("rust"))])
    annotate(pipeline, format="label-studio", path=path)
    annotate(pipeline, format="label-studio", path=path, field="disease")
    assert sorted(read_rows(pipeline.tables.annotations)["field"]) == ["class", "disease"]


def test_of_several_people_one_is_chosen(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a.jpg": 1})
    both = task(1, "a.jpg", choice("rust"))
    both["annotations"].append(both["annotations"][0] | {"completed_by": 2, "result": [choice("miner")]})
    path = write(tmp_path / "l.json", [both])
    with pytest.raises(CurationError, match=r"task 1: 2 annotations of it count \(by 1, 2\): choose with --annotator"):
        annotate(pipeline, format="label-studio", path=path)
    annotate(pipeline, format="label-studio", path=path, annotator="2")
    assert only(pipeline, "a.jpg")["values"] == ["miner"]
    both["annotations"][0]["ground_truth"] = True
    annotate(pipeline, format="label-studio", path=write(path, [both]))
    assert only(pipeline, "a.jpg")["values"] == ["rust"]


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ({}, "is no JSON export of Label Studio"),
        ([{"id": 1}], "is no JSON export of Label Studio"),
        ([{"id": 1, "data": {"image": "a.jpg"}}], "task 1: it has no list of annotations"),
        ([task(1, "no.jpg", choice("x"))], "task 1: there is no image 'no.jpg'"),
        ([task(1, "a.jpg", choice("x")), task(2, "a.jpg", choice("y"))], "task 2: a.jpg again, after task 1"),
        ([task(1, "a.jpg", rectangle("x", x=60))], "task 1: box 'x' at 38.4, 24 of 32 × 6 lies outside of a.jpg"),
        ([task(1, "a.jpg", rectangle("x", x=None))], "task 1: a rectangle 'x' lacks one of x, y, width, height"),
        ([task(1, "a.jpg", choice("x", of="my control"), rectangle("y"))], "a field can't be called 'my control'"),
    ],
)
def test_a_fault_of_an_export_is_one_line_with_its_place(
    pipeline: Pipeline, put: Put, tmp_path: Path, tasks: Any, said: str
) -> None:
    put({"a.jpg": 1})
    with pytest.raises(CurationError) as error:
        annotate(pipeline, format="label-studio", path=write(tmp_path / "l.json", tasks))
    assert said in str(error.value)
    assert not pipeline.tables.annotations.exists()


# ---------------------------------------------------------------- parquet


def test_the_table_itself_can_be_read_back(pipeline: Pipeline, put: Put, tmp_path: Path, coco: dict[str, Any]) -> None:
    put({"d/a.jpg": 1, "d/x/b.jpg": 2})
    annotate(pipeline, format="coco", path=write(tmp_path / "c.json", coco), split="train")
    before = read_rows(pipeline.tables.annotations).sort("relative_path")
    before.write_parquet(tmp_path / "t.parquet")
    annotate(pipeline, format="parquet", path=tmp_path / "t.parquet", source="again")
    again = read_rows(pipeline.tables.annotations, pl.col("source") == "again").sort("relative_path")
    assert again.drop("source", "annotated_at").equals(before.drop("source", "annotated_at"))


def test_columns_of_a_parquet_file_may_be_lists_and_numbers(pipeline: Pipeline, put: Put, tmp_path: Path) -> None:
    put({"a.jpg": 1, "b.jpg": 2})
    frame = pl.DataFrame({"path": ["a.jpg", "b.jpg"], "tags": [["x", "y"], []], "grade": [3, None]})
    frame.write_parquet(tmp_path / "t.parquet")
    annotate(pipeline, format="parquet", path=tmp_path / "t.parquet")
    found = read_rows(pipeline.tables.annotations).sort("relative_path", "field")
    assert found.select("relative_path", "field", "values").rows() == [
        ("a.jpg", "grade", ["3"]),
        ("a.jpg", "tags", ["x", "y"]),
        ("b.jpg", "tags", []),
    ]


@pytest.mark.parametrize("content", [b"", b"no parquet at all", jpeg(1)])
def test_what_is_no_parquet_file_is_one_line(pipeline: Pipeline, put: Put, tmp_path: Path, content: bytes) -> None:
    put({"a.jpg": 1})
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(CurationError, match=r"t\.parquet can't be read as parquet"):
        annotate(pipeline, format="parquet", path=tmp_path / "t.parquet")
