"""A lake with datasets to look at: of a recipe, and one whose names, labels and sides are markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from curation_assets.annotations.sources import make_source
from curation_assets.datasets.reading import read_recipe
from curation_assets.datasets.recipe import Recipe
from curation_assets.datasets.versions import publish, read_manifest, read_version, withdraw
from curation_assets.pipeline import Pipeline
from curation_assets.progress import LogProgress

MERGED = "<b>sick</b>"
SIDES = ("<i>kept</i>", "test")  # of the dataset `odd`
RECIPE = """name = "leaves"
description = "Leaves <b>of coffee</b>"

[images]
folders = ["coffee"]

[labels]
field = "class"
{labels}
[leave_out]
burst = {burst}

[split]
train = 0.6
val = 0.2
test = 0.2

[gate]
images_per_class = 10
"""
COPIES = ("kinds/copy.jpg", "rice/photo_000.jpg")
CHANGED, GONE = "rice/photo_001.jpg", "rice/<b>gone<b>.jpg"


def with_datasets(
    made: Pipeline, recipes: Path, hostile: tuple[str, ...], near: tuple[str, str], burst: tuple[str, str]
) -> Pipeline:
    """``leaves`` in two versions, of which a third was taken back; ``odd``, whose recipe is gone; two further recipes.

    Args:
        made: the lake, whose annotations get splits.
        hostile: paths that ``odd`` keeps.
        near: one photograph, on two sides of ``odd`` and of the annotations.
        burst: one scene, of which the second version of ``leaves`` keeps one.
    """
    recipes.mkdir()
    found = Pipeline(made.settings.model_copy(update={"recipes": recipes}))
    splits = recipes / "splits.csv"
    splits.write_text(f"path,split\n{near[0]},test\n{near[1]},train\n")
    found.annotate(make_source(source="splits", format="csv", path=splits), LogProgress())
    found.find_label_issues(LogProgress())
    file = recipes / "leaves.toml"
    file.write_text(RECIPE.format(labels="", burst="false"))
    assert found.build_dataset(read_recipe(file), LogProgress()).published is not None
    file.write_text(RECIPE.format(labels=f'merge = {{ "{MERGED}" = ["rust"] }}\n', burst="true"))
    _publish_second(found, read_recipe(file), burst)
    file.write_text(RECIPE.format(labels="drop = ['healthy']\n", burst="true"))
    (recipes / "broken.toml").write_text("[leave_out]\nblury = true\n")
    (recipes / "fresh.toml").write_text('name = "fresh"\n')
    _publish_odd(found, hostile, near)
    return found


def _publish_second(pipeline: Pipeline, recipe: Recipe, burst: tuple[str, str]) -> None:
    """What a build of the recipe would give, without the seconds that it takes; and a third, which is taken back."""
    table = pipeline.tables.datasets
    rows = read_version(table, "leaves", 1).drop("dataset", "version")
    out = pl.col("relative_path") == burst[1]
    label = pl.when(pl.col("label") == "rust").then(pl.lit(MERGED)).otherwise("label")
    then = {"reason": "burst", "witness": burst[0], "similarity": 0.5, "split": None}
    told = {name: pl.when(out).then(pl.lit(value)).otherwise(name) for name, value in then.items()}
    rows = rows.with_columns(label=label, kept=pl.col("kept") & ~out, **told).cast({"similarity": pl.Float32})
    manifest = read_manifest(table, "leaves", 1) | {"recipe": recipe.model_dump(mode="json"), "parent": 1}
    assert publish(table, "leaves", rows, manifest, 1, LogProgress()).version == 2
    publish(table, "leaves", rows.head(50), manifest, 2, LogProgress())
    withdraw(table, "leaves", 3, f"{MERGED} is no class", LogProgress())


def _publish_odd(pipeline: Pipeline, hostile: tuple[str, ...], near: tuple[str, str]) -> None:
    known = dict(pipeline.tables.directory.latest().read(["relative_path", "content_sha256"]).drop("_file").iter_rows())
    paths = [*hostile, *near, *COPIES, CHANGED, GONE, "rice/photo_002.jpg"]
    on_test = {near[1], COPIES[1]}
    rows: list[dict[str, Any]] = [
        {
            "relative_path": path, "content_sha256": known.get(path, "0" * 64), "kept": True, "reason": None,
            "witness": None, "similarity": None, "label": MERGED, "split": SIDES[path in on_test], "file": "part-0",
        }
        for path in paths
    ]  # fmt: skip
    rows[-3]["content_sha256"] = "1" * 64  # the file has other bytes by now
    rows[-1] |= {"kept": False, "reason": "near", "witness": CHANGED, "similarity": 0.9, "split": None, "label": None}
    types = {"similarity": pl.Float32, "reason": pl.String, "witness": pl.String}
    frame = pl.DataFrame(rows, schema_overrides=types, infer_schema_length=None)
    manifest = {
        "recipe": {"description": "odd <i>ones</i>"},
        "gate": {"leaks": {"passed": False, "told": "2 pairs across sides, at most 0"}},
        "overridden": {"leaks": "a <b>try</b>"},
    }
    publish(pipeline.tables.datasets, "odd", frame, manifest, 0, LogProgress())
