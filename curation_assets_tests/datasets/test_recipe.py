"""Recipes of files: what they mean, and every fault with its line and the nearest word."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation_assets.curate.problems import KINDS
from curation_assets.datasets.reading import read_recipe, recipe_file
from curation_assets.datasets.starting import Lake, written
from curation_assets.errors import CurationError

WHOLE = """
name = "leaves"
description = "leaves of coffee"
automatic = true

[images]
folders = ["coffee"]
where = "width >= 200"

[labels]
field = "class"
predictions = 0.95
merge = { rust = ["3_rust", "rust"] }
drop = ["unclear"]

[leave_out]
exact = true
near = true
burst = true
blurry = true
dark = 0.2
mislabelled = "suspected"

[keep]
order = ["annotated", "pixels"]

[subset]
size = 1000
strategy = "balanced"
per_class_at_least = 20
seed = 3

[split]
train = 0.8
val = 0.1
test = 0.1
stratify = "class"
seed = 7

[split.together]
path = "coffee/{plot}/*"
column = "camera"

[split.apart]
numbering = 2
time_s = 60
place_m = 25

[gate]
leaks = 0
images_per_class = 20
share_flagged = 0.1
undecided_label_issues = 50
missing = 0
"""


def written_to(tmp_path: Path, text: str, name: str = "leaves") -> Path:
    file = tmp_path / f"{name}.toml"
    file.write_text(text)
    return file


def test_a_whole_recipe_is_read(tmp_path: Path) -> None:
    recipe = read_recipe(written_to(tmp_path, WHOLE))
    assert recipe.automatic
    assert recipe.images.folders == ("coffee",)
    assert recipe.labels is not None
    assert recipe.labels.merge == {"rust": ("3_rust", "rust")}
    assert recipe.leave_out.kinds == {"blurry": None, "dark": 0.2}
    assert recipe.keep.order == ("annotated", "pixels", "path")
    assert recipe.split is not None
    assert recipe.split.together.path == ("coffee/{plot}/*",)
    assert recipe.split.sides.names == ["train", "val", "test"]
    assert [recipe.split.sides.names[side] for side in recipe.split.sides.cleanest] == ["test", "val", "train"]


def test_hardly_anything_is_a_recipe_too(tmp_path: Path) -> None:
    recipe = read_recipe(written_to(tmp_path, "[split]\ntrain = 0.5\ntest = 0.5\n", "half"))
    assert (recipe.name, recipe.labels, recipe.leave_out.exact, recipe.gate.leaks) == ("half", None, True, 0)
    assert recipe.split is not None
    assert recipe.split.sides.names == ["train", "test"]
    folds = read_recipe(written_to(tmp_path, "[split]\nfolds = 5\n", "folds"))
    assert folds.split is not None
    assert len(folds.split.sides.names) == 5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[leave_out]\nblury = true", ":2: leave_out.blury: there is no such key; did you mean blurry?"),
        ("[gaet]\nleaks = 0", ":1: gaet: there is no such key; did you mean gate?"),
        ("[split]\ntrain = 0.8\nvall = 0.2", ":3: split.vall: there is no such key; did you mean val?"),
        ("[split]\ntrain = 0.8\nval = 0.1", ":1: split: train, val and test are 0.9 together, not 1"),
        ("[split]\ntrain = 1.0", "all on one side is no split"),
        ("[split]\nfolds = 3\ntrain = 1", "shares or folds"),
        ('[split]\nfolds = 3\ngroups = "camera"', ":1: split: give one of shares or folds or groups"),
        (
            '[split]\ntrain = 0.5\ntest = 0.5\ngiven = "anotations"',
            ":4: split.given: 'anotations' can't be used; did you",
        ),
        ('[split]\ntrain = 0.5\ntest = 0.5\ngiven = "x.txt"', "a file that ends in .csv or .parquet"),
        ('[split]\ntrain = 0.5\ntest = 0.5\ngiven = "/x.csv"', "a path relative to the recipe's file is wanted"),
        ('[split]\ngroup = "{farm}/**"', ":2: split.group: there is no such key; did you mean groups?"),
        ('[split]\ngroups = "coffee/**"', "groups of paths are named in braces"),
        ('[split]\ngroups = "camera"\ngiven = "annotations"', "with groups each lies in its own"),
        ('[labels]\nfield = "a"\n[split]\ngroups = "camera"\nstratify = true', "nothing is stratified"),
        (
            "[split]\ntrain = 0.5\ntest = 0.5\n[split.apart]\ntime = 60",
            "split.apart.time: there is no such key; did you mean time_s",
        ),
        ("[split]\ntrain = 0.5\ntest = 0.5\n[split.apart]\nnumbering = 0", ":5: split.apart.numbering"),
        (
            '[leave_out]\nmislabelled = "confirm"',
            ":2: leave_out.mislabelled: 'confirm' can't be used; did you mean confirmed?",
        ),
        ("[leave_out]\nexact = 1", ":2: leave_out.exact"),
        ("[leave_out]\ndark = -1", "dark: true, false or a threshold above 0"),
        ('[keep]\norder = ["pixel"]', ":2: keep.order: no criterion 'pixel'"),
        ("[labels]\nmerge = {}", "give one of field, path and zero_shot"),
        ('[labels]\nfield = "a"\npath = "{class}/*"', "give one of field, path and zero_shot"),
        ('[labels]\npath = "*/*"', "path names the label as {class}"),
        ('[labels]\nfield = "a"\nmerge = { x = ["a"], y = ["a"] }', "a can become one label only"),
        ("[subset]\nsize = 5", "size goes with strategy"),
        ('[subset]\nsize = 5\nstrategy = "divers"', ":3: subset.strategy: 'divers' can't be used"),
        ('[subset]\nsize = 5\nstrategy = "balanced"', "classes need [labels]"),
        ("[gate]\nimages_per_class = 5", "classes need [labels]"),
        ("[split]\ntrain = 0.5\ntest = 0.5\nstratify = 'kind'", "split.stratify: 'kind' is not the label"),
        ("[gate]\nleaks = -1", ":2: gate.leaks"),
        ('name = "other"', ":1: name is 'other', but the file is called leaves.toml"),
        ('name = "a b"', "letters, digits and _ only"),
        ("a = 1\nb = [\n c", "this is not TOML"),
        ("a = 1\na = 2", "this is not TOML"),
    ],
)
def test_a_fault_is_told_with_its_line_and_the_nearest_word(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CurationError) as error:
        read_recipe(written_to(tmp_path, text))
    assert said in str(error.value)
    assert str(tmp_path / "leaves.toml") in str(error.value)
    assert "\n" not in str(error.value)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(CurationError) as error:
        read_recipe(written_to(tmp_path, "[leave_out]\nblury = true\nnear = 3\n[gaet]\n"))
    assert str(error.value).count("leaves.toml:") == 3


def test_what_is_no_file_or_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(CurationError, match="no text in UTF-8"):
        read_recipe(tmp_path / "bytes.toml")
    with pytest.raises(CurationError, match=r"no recipes in .*dataset init"):
        recipe_file(tmp_path / "none", "leaves")
    written_to(tmp_path, WHOLE)
    with pytest.raises(CurationError, match=r"no recipe 'leavs'.*did you mean leaves"):
        recipe_file(tmp_path, "leavs")
    assert recipe_file(tmp_path, str(tmp_path / "leaves.toml")) == tmp_path / "leaves.toml"


@pytest.mark.parametrize("fields", [{}, {"class": {"rust": 9, 'a "b"': 3}, "plot": {"1": 4, "2": 5}}])
def test_a_first_recipe_can_be_read(tmp_path: Path, fields: dict[str, dict[str, int]]) -> None:
    lake = Lake({"coffee": 9, 'od"d': 1}, fields, ["train", "test"], 8, 3, 0, 10)
    text = written("first", lake)
    recipe = read_recipe(written_to(tmp_path, text, "first"))
    assert (recipe.labels is not None) == bool(fields)
    assert recipe.split is not None
    assert recipe.split.apart.numbering == 2
    # Every line that is only a proposal is one that can be used.
    proposed = "\n".join(
        line.removeprefix("# ") if " = " in line and "docs/" not in line else line for line in text.splitlines()
    )
    if fields:
        proposed = proposed.replace('merge = { new = ["a", "b"] }', "")
        read_recipe(written_to(tmp_path, proposed, "first"))


def test_every_kind_of_problem_can_be_left_out(tmp_path: Path) -> None:
    for kind in KINDS:
        text = f'[labels]\nfield = "class"\n[leave_out]\n{kind} = ' + (
            '"suspected"' if kind in ("mislabelled", "conflicting") else "true"
        )
        read_recipe(written_to(tmp_path, text))
