"""What the tables say of duplicates: groups with their images, for commands, pages and assets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl

from curation_assets.curate.duplicates.comparison import Comparison, is_current, not_compared
from curation_assets.curate.duplicates.grouping import Grouping
from curation_assets.curate.duplicates.groups import KINDS as KINDS
from curation_assets.curate.duplicates.judging import Thresholds
from curation_assets.errors import CurationError
from curation_assets.lake.schemas import GROUPS
from curation_assets.lake.table import LakeTable

MEANING = {
    "exact": "the same bytes under several names",
    "near": "the same photograph: re-encoded, resized, cropped, turned, mirrored, toned, framed or written on",
    "burst": "the same scene, moments apart",
}
ADVICE = {
    "exact": "keep one",
    "near": "keep one; all belong on one side of a split",
    "burst": "keep them on one side of a split; a few of each are enough to train on",
}
_ALL, _SAME_SIZE = 0.97, 0.05  # of a picture, and of its size: less is the rounding of the alignment
_READ = list(GROUPS.arrow_schema.names)


@dataclass
class Duplicates:
    """What bringing duplicates in line did."""

    comparison: Comparison
    grouping: Grouping


@dataclass(frozen=True)
class Group:
    """A group.

    Attributes:
        images: rows of the table of groups, the keeper first, then by similarity.
    """

    kind: str
    group_id: str
    images: pl.DataFrame

    @property
    def keeper(self) -> str:
        """Its relative path."""
        return str(self.images["keeper"][0])


def check_duplicate_kind(kind: str) -> str:
    """A kind of groups.

    Raises:
        CurationError: there is none of that name.
    """
    if kind in KINDS:
        return kind
    raise CurationError(f"no kind {kind!r} of duplicates: choose among {', '.join(KINDS)}")


def group_table(groups: LakeTable) -> pl.DataFrame:
    """All rows.

    Raises:
        CurationError: nothing was compared yet, or the table can't be read.
    """
    if groups.newest_version() < 0:
        raise CurationError(f"no image is compared yet in {groups.path}; `curation curate` does that")
    return groups.latest().read(_READ).drop("_file")


def groups_of(rows: pl.DataFrame, kind: str | None = None) -> Iterator[Group]:
    """Groups, those of most images first; of a kind or all, exact, near, burst.

    Args:
        rows: of the table.
    """
    for each in KINDS if kind is None else (kind,):
        chosen = rows.filter(pl.col("kind") == each).with_columns(_size=pl.len().over("group_id"))
        ordered = chosen.sort(
            ["_size", "group_id", "is_keeper", "similarity", "relative_path"],
            descending=[True, False, True, True, False],
            nulls_last=True,
        )
        for (group_id,), images in ordered.group_by("group_id", maintain_order=True):
            yield Group(each, str(group_id), images.drop("_size"))


def groups_with(groups: LakeTable, pairs: LakeTable, relative_path: str) -> list[Group]:
    """The groups of an image, exact, near, burst, with ``how``; none where nothing was compared.

    Only their own rows, and pairs of their own contents, are read into memory.
    """
    if groups.newest_version() < 1:
        return []
    snapshot = groups.latest()
    mine = snapshot.read(["kind", "group_id"], where=pl.col("relative_path") == relative_path).drop("_file")
    if not len(mine):
        return []
    rows = snapshot.read(_READ, where=pl.col("group_id").is_in(mine["group_id"].implode())).drop("_file")
    whole = rows.join(mine, on=["kind", "group_id"], how="semi", maintain_order="left")
    return list(groups_of(explained(whole, pairs)))


def counts(rows: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Kind → groups, images in them, and images that are not their keepers."""
    found = {}
    for kind in KINDS:
        of_kind = rows.filter(pl.col("kind") == kind)
        found[kind] = {
            "groups": of_kind["group_id"].n_unique(),
            "images": len(of_kind),
            "spare": int((~of_kind["is_keeper"]).sum()),
        }
    return found


def waiting(directory: LakeTable, compared: LakeTable, thresholds: Thresholds) -> int:
    """How many contents are not compared yet; all that can be, where nothing ever was."""
    return len(not_compared(directory.latest(), compared.latest() if compared.exists() else None, thresholds))


def is_compared(compared: LakeTable, content: str, thresholds: Thresholds) -> bool:
    """Whether a content was compared with the others, by this version and with these thresholds."""
    if not compared.exists():
        return False
    where = (pl.col("content_sha256") == content) & is_current(thresholds)
    return len(compared.latest().read(["content_sha256"], where=where)) > 0


def waiting_line(number: int) -> str:
    """The same for a reader, and what to do."""
    return f"{number:,} images are not compared with the others; `curation curate` does that"


def explained(rows: pl.DataFrame, pairs: LakeTable) -> pl.DataFrame:
    """Rows of groups with ``how``: what makes an image another than its keeper, as their pair tells; else null."""
    told = with_transforms(rows, pairs)
    return rows.with_columns(how=pl.Series([how(row) for row in told.iter_rows(named=True)], dtype=pl.String))


def with_transforms(rows: pl.DataFrame, pairs: LakeTable) -> pl.DataFrame:
    """Rows of groups with what :func:`how` is told from: ``kept``, the keeper's content, and ``transform``."""
    members = rows["content_sha256"].unique().implode()
    of_members = pl.col("first").is_in(members) & pl.col("second").is_in(members)
    found = pairs.latest().read(["first", "second", "transform"], where=of_members).drop("_file")
    kept = rows.filter("is_keeper").select("kind", "group_id", kept="content_sha256")
    told = rows.join(kept, on=["kind", "group_id"], how="left", maintain_order="left").with_columns(
        first=pl.min_horizontal("content_sha256", "kept"), second=pl.max_horizontal("content_sha256", "kept")
    )
    told = told.join(
        found.unique(["first", "second"], keep="last"), on=["first", "second"], how="left", maintain_order="left"
    )
    return told.drop("first", "second")


def how(row: dict[str, Any]) -> str | None:
    """What makes an image another than its keeper, in words; null where nothing tells.

    Args:
        row: of :func:`with_transforms`.
    """
    content, kept, transform = row["content_sha256"], row["kept"], row["transform"]
    if content == kept:
        return None if row["is_keeper"] else "the same bytes"
    if kept is None or transform is None or transform["x"] is None:
        return None
    return described(transform, keeper_is_first=kept < content)


def described(transform: dict[str, Any], *, keeper_is_first: bool) -> str:
    """A transform of the pairs table, as what was done to the keeper to get the other."""
    rotation = transform["rotation"]
    # The table says how the second is turned to lie in the first; whoever made it from the first turned it back.
    if keeper_is_first and not transform["mirrored"]:
        rotation = -rotation % 360
    scale = 1 / transform["scale"] if keeper_is_first else transform["scale"]
    wide = min(transform["x"] + transform["width"], 1) - max(transform["x"], 0)
    high = min(transform["y"] + transform["height"], 1) - max(transform["y"], 0)
    of_first, of_second = wide * high, wide * high / (transform["width"] * transform["height"])
    of_keeper, of_other = (of_first, of_second) if keeper_is_first else (of_second, of_first)
    said = []
    if transform["mirrored"]:
        said.append("mirrored")
    if rotation:
        said.append(f"turned by {rotation}°")
    if of_keeper < _ALL:
        said.append(f"shows {of_keeper:.0%} of it")
    if of_other < _ALL:
        said.append(f"{1 - of_other:.0%} of its own around that")
    if abs(scale - 1) > _SAME_SIZE:
        said.append(f"{scale:.2g} × its size")
    return ", ".join(said) or "the same frame"
