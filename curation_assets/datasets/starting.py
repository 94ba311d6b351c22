"""A first recipe that fits a lake, with comments."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from curation_assets.annotations.columns import counting_labels
from curation_assets.datasets.splits.apart import numbering
from curation_assets.embed.vectors import KEY
from curation_assets.images.listing import directories_of
from curation_assets.tables import Tables

_MOST_NAMED = 12
_FOR_THREE = 30  # images, from which on a tenth is something
_MOST_GROUPS = 200  # labels of a field that may be groups


@dataclass(frozen=True)
class Lake:
    """What a recipe can be made of.

    Attributes:
        folders: at the top, with how many images.
        fields: of annotations: field → label → images.
        splits: that annotations name.
        numbered: images in a numbered series, of all.
        cameras: images with camera and time.
        placed: images with a place.
        images: in all.
    """

    folders: dict[str, int]
    fields: dict[str, dict[str, int]]
    splits: Sequence[str]
    numbered: int
    cameras: int
    placed: int
    images: int


def lake_of(tables: Tables, order: Sequence[str]) -> Lake:
    """What a recipe of these tables can be made of.

    Args:
        order: of sources of annotations.

    Raises:
        CurationError: a table can't be read.
    """
    columns = ["file_name", "captured_at", "camera", "latitude", "longitude", "status"]
    rows = tables.directory.latest().read([*KEY, *columns]).drop("_file").filter(pl.col("status") == "ok")
    paths = rows["relative_path"]
    top = rows.select(folder=paths.str.extract(r"^([^/]+)/", 1)).drop_nulls()["folder"].value_counts()
    said = counting_labels(tables.annotations, tables.decisions, tables.pairs, order, rows.select(KEY))
    labels = said.select("field", "values").explode("values").drop_nulls().group_by("field", "values").len()
    fields: dict[str, dict[str, int]] = {}
    for field, label, number in labels.sort("field", "len", "values", descending=[False, True, False]).iter_rows():
        fields.setdefault(field, {})[label] = number
    return Lake(
        folders=dict(top.sort("count", "folder", descending=[True, False]).iter_rows()),
        fields=fields,
        splits=sorted(said["split"].drop_nulls().unique()),
        numbered=len(numbering(directories_of(paths), rows["file_name"], 2).images),
        cameras=len(rows.drop_nulls(["camera", "captured_at"])),
        placed=len(rows.drop_nulls(["latitude", "longitude"])),
        images=len(rows),
    )


def written(name: str, lake: Lake) -> str:
    """The text of a recipe."""
    field = _field(lake)
    parts = [
        f"# How the dataset {name} is made: `curation dataset build {name} --dry-run` shows what each step leaves out.",
        "# Every key: docs/datasets.md",
        f'name = "{name}"',
        "",
        "[images]",
        f"# folders = {_list(list(lake.folders)[:_MOST_NAMED])}   # with all below them; without the line all",
        '# where = "width >= 200"   # a condition as in `curation search --where`',
        "",
    ]
    if field is None:
        parts += [
            "# No image is labelled yet: `curation annotate` reads labels; or take them from the paths:",
            "# [labels]",
            '# path = "*/{class}/*"',
            "",
        ]
    else:
        labels = lake.fields[field]
        told = ", ".join(f"{label} {number:,}" for label, number in list(labels.items())[:_MOST_NAMED])
        more = f" and {len(labels) - _MOST_NAMED:,} more" if len(labels) > _MOST_NAMED else ""
        parts += [
            "[labels]",
            f"field = {json.dumps(field)}   # {told}{more}",
            '# merge = { new = ["a", "b"] }',
            "# drop = []",
        ]
        parts += ["# predictions = 0.95   # where there is no label, take a prediction as sure as that", ""]
    parts += [
        "[leave_out]",
        "exact = true    # of the same bytes,",
        "near = true     # of the same photograph,",
        "burst = false   # or of the same scene all but one",
        "# blurry = true   # a kind of problem: true, or a threshold of its own",
        'mislabelled = "confirmed"   # "never", "confirmed" by a person (unsure), "suspected"',
        "",
        "[subset]   # without a size all",
        "# size = 1000",
        '# strategy = "diverse"   # none is far from one that is chosen; or "representative", "balanced", "random"',
        "# per_class_at_least = 20",
        "",
        "[split]",
        *(["train = 0.8", "val = 0.1", "test = 0.1"] if lake.images >= _FOR_THREE else ["train = 0.5", "test = 0.5"]),
        "seed = 0",
        "# Or in place of the shares folds=5, or sides that are left out in turn, one after the other:",
        f"# {_groups(lake, field)}",
    ]
    if set(lake.splits) & {"train", "val", "test"}:
        parts += [
            f'# given = "annotations"   # {", ".join(lake.splits)}: what these say stays; or a CSV or Parquet file'
        ]
    else:
        parts += [
            '# given = "fixed_test.csv"   # beside this file, relative_path or content_sha256: images that are test'
        ]
    parts += [
        "",
        "[split.together]   # never on two sides",
        "duplicates = true",
        '# path = "{plot}/**"   # what is equal in the named parts: a plot, a farm, a plant',
        '# column = "camera"',
        "",
        "[split.apart]   # what stands in an order is laid out in blocks, and what is too near to a cut left out",
        f"{_on(lake.numbered, lake)}numbering = 2   # {_of(lake.numbered, lake)} are numbered by their names",
        f"{_on(0, lake)}time_s = 60      # {_of(lake.cameras, lake)} have camera and time",
        f"{_on(0, lake)}place_m = 25     # {_of(lake.placed, lake)} have a place",
        "",
        "[gate]",
        "leaks = 0",
        f"{'' if field else '# '}images_per_class = 5",
        "# drift = 0.55   # from the last version: 0.5 none; so much if a tenth are wholly different images",
        "",
        "[card]   # what people say of the data, for the card of versions and exports",
        '# licence = "CC-BY-4.0"',
        '# sources = ["photographs of the trial of 2026"]',
        '# limits = ["leaves in daylight alone"]',
        "",
    ]
    return "\n".join(parts)


def _field(lake: Lake) -> str | None:
    named = [field for field, labels in lake.fields.items() if len(labels) > 1]
    return "class" if "class" in named else next(iter(named), None)


def _groups(lake: Lake, field: str | None) -> str:
    """How groups could be named: by a field beside the label, else by folders."""
    others = [name for name, labels in lake.fields.items() if name != field and 1 < len(labels) <= _MOST_GROUPS]
    if others:
        return f'groups="label_{others[0]}"   # each of its {len(lake.fields[others[0]]):,} values is a side'
    return 'groups="{farm}/**"   # what is equal in the named parts of the path is a side: a farm, a season'


def _list(texts: Sequence[str]) -> str:
    return json.dumps(list(texts), ensure_ascii=False)


def _on(number: int, lake: Lake) -> str:
    return "" if number * 2 > lake.images else "# "


def _of(number: int, lake: Lake) -> str:
    return f"{number:,} of {lake.images:,} images"


def proper_name(text: str) -> str:
    """A name for a recipe of any text."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:100] or "dataset"
