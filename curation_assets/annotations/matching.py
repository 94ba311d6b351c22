"""Names in files of annotations → images: each has to mean exactly one."""

from __future__ import annotations

import os
from typing import Any

import polars as pl

from curation_assets.annotations.said import Faults, Said
from curation_assets.images.names import printable
from curation_assets.lake.snapshot import Snapshot

IMAGE_COLUMNS = ("relative_path", "folder", "content_sha256", "width", "height", "orientation")
_CANDIDATES = 3  # that are named where a name means several images
_ENDING = r"\.[^./]+$"


def read_images(directory: Snapshot) -> pl.DataFrame:
    """All images, also those that can't be used: ``IMAGE_COLUMNS``, sorted by path."""
    rows = directory.read(IMAGE_COLUMNS).drop("_file")
    return rows.unique("relative_path", keep="first").sort("relative_path")


def matched(said: Said, images: pl.DataFrame, root: str) -> pl.DataFrame:
    """Rows of what was said, with the image that each is about.

    A name is a path of the lake, else the end of exactly one path: whole parts of it, or the file's name alone. It may
    have backslashes.

    Args:
        images: as :func:`read_images` gives them.
        root: the images root; a path on disk below it is the path of an image.

    Returns:
        ``said.rows`` with ``IMAGE_COLUMNS``; rows that are about no image, or about several, are left out and are
        faults of ``said``.
    """
    keys = images.select("relative_path", key=_stem(pl.col("relative_path")) if said.is_stem else "relative_path")
    named = said.rows.select("name", "other_name").unique()
    found = _meant(named.select("name").drop_nulls().unique(), keys, root)
    others = named.join(found.filter(pl.col("images") > 0), on="name", how="anti").drop_nulls("other_name")
    second = _meant(others.select(name="other_name").unique(), keys, root)
    rows = said.rows.join(found, on="name", how="left", maintain_order="left")
    rows = rows.with_columns(pl.col("images").fill_null(0))  # no name is no image
    by_other = second.rename({"name": "other_name", **{n: f"_{n}" for n in ("relative_path", "images", "examples")}})
    rows = rows.join(by_other, on="other_name", how="left", maintain_order="left", nulls_equal=False)
    is_other = (pl.col("images") == 0) & (pl.col("_images").fill_null(0) > 0)
    rows = rows.with_columns(
        pl.when(is_other).then(pl.col(f"_{name}")).otherwise(pl.col(name)).alias(name)
        for name in ("relative_path", "images", "examples")
    ).drop("_relative_path", "_images", "_examples")
    _tell(said.faults, said, rows.filter(pl.col("images") != 1))
    rows = rows.filter(pl.col("images") == 1).drop("images", "examples")
    return rows.join(images, on="relative_path", how="left", maintain_order="left")


def _meant(names: pl.DataFrame, keys: pl.DataFrame, root: str) -> pl.DataFrame:
    """Of each name: ``relative_path`` of its image, how many ``images`` it may mean, and some of them."""
    plain = names.with_columns(key=_plain(pl.col("name"), root))
    counted = [pl.len().alias("images"), pl.col("relative_path").head(_CANDIDATES).alias("examples")]
    whole = keys.join(plain.select("key").unique(), on="key", how="semi").group_by("key").agg(counted)
    parts = [plain.join(whole, on="key", how="inner")]
    rest = plain.join(whole, on="key", how="anti")
    rest = rest.with_columns(pl.col("key").str.replace_all("\\", "/", literal=True))  # as Windows writes paths
    rest = rest.with_columns(depth=pl.col("key").str.count_matches("/", literal=True))
    if len(rest):
        last = _last(pl.col("key"), 0)
        near = keys.with_columns(_base=last).join(rest.select(_base=last).unique(), on="_base", how="semi")
        for (depth,), group in rest.group_by("depth"):
            ends = near.select("relative_path", end=_last(pl.col("key"), int(str(depth)))).drop_nulls("end")
            ends = ends.join(group.select(end="key").unique(), on="end", how="semi").group_by("end").agg(counted)
            parts.append(group.drop("depth").join(ends, left_on="key", right_on="end", how="left"))
    every = pl.concat([part.select("name", "images", "examples") for part in parts], how="vertical_relaxed")
    images = pl.col("images").fill_null(0).cast(pl.UInt32)
    return every.select("name", "examples", images=images, relative_path=pl.col("examples").list.first())


def _plain(name: pl.Expr, root: str) -> pl.Expr:
    """A name without what is no part of a path in the lake."""
    inside = root.rstrip(os.sep) + "/"
    plain = pl.when(name.str.starts_with(inside)).then(name.str.slice(len(inside))).otherwise(name)
    return plain.str.replace(r"^(?:\./+)+", "").str.replace(r"^/+", "")


def _stem(path: pl.Expr) -> pl.Expr:
    return path.str.replace(_ENDING, "")


def _last(path: pl.Expr, slashes: int) -> pl.Expr:
    """The end of a path that has so many slashes; null where it has fewer."""
    return path.str.extract(rf"((?:[^/]+/){{{slashes}}}[^/]+)$") if slashes else path.str.extract(r"([^/]+)$")


def _tell(faults: Faults, said: Said, rows: pl.DataFrame) -> None:
    def told(row: dict[str, Any]) -> str:
        name, examples = printable(str(row["name"])), row["examples"]
        place = said.place(row["row"])
        if not row["images"]:
            return f"{place}: there is no image '{name}'"
        shown = ", ".join(printable(str(each)) for each in examples)
        more = f" and {row['images'] - _CANDIDATES:,} more" if row["images"] > _CANDIDATES else ""
        return f"{place}: '{name}' may be {shown}{more}; write more of its path"

    faults.extend(rows.filter(pl.col("name").is_not_null()).sort("row"), told)
    faults.extend(
        rows.filter(pl.col("name").is_null()).sort("row"),
        lambda row: f"{said.place(row['row'])}: no name of an image",
    )
