"""Images that a file puts on sides: what it may say, and every fault with its line."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from curation_assets.datasets.building import build
from curation_assets.datasets.gathering import Gathered
from curation_assets.datasets.given import read_given, sides_given, told_lacking
from curation_assets.errors import CurationError
from curation_assets_tests.datasets.test_building import SPLIT, kept_before, lake, many, reasons, recipe, sha

SIDES = ("train", "val", "test")


def given_in(folder: Path, images: list[dict[str, Any]], text: str) -> Gathered:
    """A lake whose images a file puts on sides."""
    (folder / "fixed.csv").write_text(text)
    given = read_given(folder, "fixed.csv", SIDES)
    rows = lake(images)
    found, _ = sides_given(rows.images, given)
    told = rows.images.drop("given_split").join(found.rename({"split": "given_split"}), on="relative_path", how="left")
    return replace(rows, images=told.sort("relative_path"), given=given)


def test_a_file_names_images_by_path_or_content(tmp_path: Path) -> None:
    images = lake(many(6)).images
    first, second, third = images.head(3).iter_rows(named=True)
    text = f"content_sha256;relative_path;split;note\n{first['content_sha256'].upper()};gone.jpg;val;x\n"
    text += f";./{second['relative_path']};test;\n;nowhere.jpg;test;\n{sha('x')};{third['relative_path']};train;\n"
    (tmp_path / "fixed.csv").write_text(text)
    given = read_given(tmp_path, "fixed.csv", SIDES)
    assert given.sha256 == hashlib.sha256(text.encode()).hexdigest()
    found, lacking = sides_given(images, given)
    assert dict(found.select("relative_path", "split").iter_rows()) == {
        first["relative_path"]: "val",
        second["relative_path"]: "test",
    }
    assert told_lacking(given, lacking).startswith("2 of 4 images of fixed.csv are not among those that are looked at")
    assert "for example nowhere.jpg" in told_lacking(given, lacking)
    images.select("relative_path").head(2).write_parquet(tmp_path / "fixed.parquet")
    found, lacking = sides_given(images, read_given(tmp_path, "fixed.parquet", SIDES))
    assert (set(found["split"]), len(found), len(lacking)) == ({"test"}, 2, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,split\na,test\n", "fixed.csv, line 1: no column names the images, relative_path or content_sha256"),
        (
            "relative_path,split\na,test\nb,tets\n",
            "fixed.csv, line 3: the recipe has no side 'tets'; did you mean test?",
        ),
        ("relative_path,split\na,x\n", "line 2: the recipe has no side 'x'; there are train, val, test"),
        ("relative_path,split\na,\n", "line 2: split is empty"),
        ("relative_path,split\n,test\n", "line 2: it names no image"),
        ("relative_path\n", "it names no image"),
        ("", "the first line has to name the columns"),
        ("relative_path\na,b\n", "line 2: 2 cells below 1 columns"),
        ("content_sha256\nabc\n", "line 2: content_sha256 is 'abc', not 64 hexadecimal digits"),
        ("relative_path,split\na,test\nb,val\na,train\n", "fixed.csv, line 4: a lies on train, and on test by line 2"),
    ],
)
def test_a_fault_of_a_file_is_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "fixed.csv").write_text(text)
    with pytest.raises(CurationError) as error:
        read_given(tmp_path, "fixed.csv", SIDES)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_file_or_fits_nothing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CurationError, match=r"fixed\.csv: No such file"):
        read_given(tmp_path, "fixed.csv", SIDES)
    (tmp_path / "fixed.parquet").write_text("x")
    with pytest.raises(CurationError, match="can't be read as parquet"):
        read_given(tmp_path, "fixed.parquet", SIDES)
    (tmp_path / "fixed.csv").write_text("relative_path\na\n")
    with pytest.raises(CurationError, match="line 1: without a column split all images are test, and the recipe has f"):
        read_given(tmp_path, "fixed.csv", ("fold_1", "fold_2"))
    images = lake(many(6)).images
    with pytest.raises(CurationError, match=r"fixed\.csv names none of the images that are looked at; its first is a"):
        sides_given(images, read_given(tmp_path, "fixed.csv", SIDES))
    path, content = images.select("relative_path", "content_sha256").row(0)
    (tmp_path / "fixed.csv").write_text(f"relative_path,content_sha256,split\n{path},,val\n,{content},test\n")
    with pytest.raises(CurationError, match=f"line 3: {path} lies on test, and on val by line 2"):
        sides_given(images, read_given(tmp_path, "fixed.csv", SIDES))


def test_a_fixed_test_set_is_kept_whole_and_others_get_out_of_its_way(tmp_path: Path) -> None:
    images = many(60, 2)
    fixed = [one["relative_path"] for one in images[:12]]
    text = "relative_path\n" + "\n".join(fixed) + "\n"
    images[20] |= {"pixels": 900}  # better than the one in the set that it is like
    near = {"near": [[fixed[0], images[20]["relative_path"]]]}
    given = given_in(tmp_path, images, text)
    given = replace(given, groups=lake(images, near).groups, pairs=lake(images, near).pairs)
    made = recipe(split=SPLIT | {"given": "fixed.csv"}, subset={"size": 30, "strategy": "random"})
    built = build(made, given, None)
    sides = dict(built.kept.select("relative_path", "split").iter_rows())
    assert {path for path, side in sides.items() if side == "test"} == set(fixed)
    assert (len(sides), reasons(built)[images[20]["relative_path"]]) == (30, "near")
    # What lay elsewhere before stays there, and that is told.
    first = build(recipe(split=SPLIT), lake(images), None)
    built = build(recipe(split=SPLIT | {"given": "fixed.csv"}), given_in(tmp_path, images, text), kept_before(first))
    before = dict(first.kept.select("relative_path", "split").iter_rows())
    lay = [path for path in fixed if before[path] != "test"]
    assert all(side == before[path] for path, side in built.kept.select("relative_path", "split").iter_rows())
    assert any(note.startswith(f"{len(lay)} images stay where an earlier version had them") for note in built.notes)
    assert pl.Series(fixed).is_in(built.kept["relative_path"].implode()).all()
