"""A recipe carried out on what was gathered: which images are kept, why others are not, and who lies where."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation_assets.curate.leakage import Leakage, leaks
from curation_assets.datasets import steps
from curation_assets.datasets.gathering import Gathered
from curation_assets.datasets.given import Given
from curation_assets.datasets.recipe import Apart, Recipe
from curation_assets.datasets.recipe import Split as SplitRecipe
from curation_assets.datasets.splits import apart
from curation_assets.datasets.splits.apart import Order
from curation_assets.datasets.splits.groups import sides_of, split_by_groups
from curation_assets.datasets.splits.sides import NONE
from curation_assets.datasets.splits.splitting import Split, chance_of, split
from curation_assets.datasets.splits.together import Links, of_equal, of_pairs
from curation_assets.datasets.subsets.choosing import Measured, choose
from curation_assets.errors import CurationError
from curation_assets.images.listing import directories_of
from curation_assets.images.names import printable
from curation_assets.progress import LogProgress, Progress

Ids = NDArray[np.int64]

_WORTH_A_WORD = 0.02  # of the smallest side: from which on a relation that the recipe doesn't use is told of
_ASKED = Apart(numbering=2, time_s=60, place_m=25)  # what is looked at where a recipe asks for nothing
_PART, _COLUMN = "together_path_", "together_"  # begin the names of columns of what has to be equal on a side
_ROW = ["relative_path", "content_sha256", "kept", "reason", "witness", "similarity", "label", "split"]


@dataclass(frozen=True)
class Relation:
    """An order that images stand in.

    Attributes:
        name: as recipes have it.
        distance: up to which images are near.
        used: whether the recipe keeps such images apart.
        images: that stand in it.
        series: how many orders there are, and names of some.
        left_out: images that it cost.
        across: share of each side's images that have a near one on another side.
    """

    name: str
    distance: float
    used: bool
    images: int
    series: int
    examples: list[str]
    left_out: int
    across: dict[str, float]


@dataclass
class Built:
    """A dataset before it is published.

    Attributes:
        recipe: that it was made by.
        rows: ``relative_path``, ``content_sha256``, ``kept``, ``reason``, ``witness``, ``similarity``, ``label``,
            ``split`` and ``_file``, sorted by path.
        steps: step → images left out by it, in their order.
        split: how the sides came about; None without.
        relations: orders that were looked at.
        leakage: of what is kept, measured anew; None without sides.
        sampled: pairs across sides that were compared anew on their pixels.
        missed: of these the pairs of paths that are the same photograph after all.
        shares: side → class → share of the side's images; and ``whole``.
        worst: points by which the worst class's share of a side is off that of the whole.
        off: points by which the worst side's share of all is off what was asked for.
        flagged: paths of kept images that have a problem, if the gate asks.
        doubted: the same of problems of labels or boxes.
        notes: what a person should know.
        given: the file that says where images lie; None: there is none.
        subset: how well a subset by vectors stands for what it was chosen of; None without one.
    """

    recipe: Recipe
    rows: pl.DataFrame
    steps: dict[str, pl.DataFrame] = field(default_factory=dict)
    split: Split | None = None
    relations: list[Relation] = field(default_factory=list)
    leakage: Leakage | None = None
    sampled: int = 0
    missed: list[tuple[str, str]] = field(default_factory=list)
    shares: dict[str, dict[str, float]] = field(default_factory=dict)
    worst: float = 0.0
    off: float = 0.0
    flagged: list[str] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    given: Given | None = None
    subset: Measured | None = None

    @property
    def kept(self) -> pl.DataFrame:
        """Rows of what is kept."""
        return self.rows.filter("kept")


def build(recipe: Recipe, lake: Gathered, before: pl.DataFrame | None, progress: Progress | None = None) -> Built:
    """Carry out a recipe.

    Args:
        before: images that earlier versions kept: ``relative_path``, ``content_sha256``, ``split``, and ``last``,
            whether the one before did: those stay; the others never come to lie on another side. None: there are none,
            or a new line begins.
        progress: is told of what takes long; None: the log is.

    Raises:
        CurationError: nothing is left, or there is no such split.
    """
    images = lake.images.with_columns(
        reason=pl.lit(None, pl.String), witness=pl.lit(None, pl.String), similarity=pl.lit(None, pl.Float32)
    )
    images = images.with_columns(label=pl.lit(None, pl.String))
    images = images.with_columns(_pins(images, before))
    result = Built(recipe, images, notes=[*lake.notes], given=lake.given)
    out = recipe.leave_out

    left_by: dict[str, pl.Series] = {}

    def step(name: str, after: pl.DataFrame) -> pl.DataFrame:
        left_by[name] = after.filter(pl.col("reason").is_not_null() & images["reason"].is_null())["relative_path"]
        return after

    images = step("decisions", steps.leave_out(images, pl.col("against"), steps.DECIDED))
    if recipe.labels is not None:
        after = steps.leave_out(images, pl.col("unsure"), steps.UNSURE) if "confirmed" in _words(recipe) else images
        images = step("labels", steps.labelled(after, recipe.labels))
    else:
        images = images.drop("values")
    if recipe.split is not None and recipe.split.groups is not None:
        images = step("groups", steps.leave_out(images, pl.col("of_group").is_null(), steps.NO_GROUP))
    images = step("problems", steps.leave_out(images, pl.col("problem").is_not_null(), pl.col("problem")))
    if out.exact or out.near or out.burst or recipe.split is not None:
        images = step("not examined", steps.leave_out(images, ~pl.col("examined"), steps.NOT_EXAMINED))
    # A person's word first, then what the version before kept, then a fixed set that was given.
    fixed = pl.lit(lake.given is not None) & pl.col("given_split").is_not_null()
    held_by = pl.when("pinned").then(2).when(fixed).then(1).otherwise(0).cast(pl.Int32)
    decided = pl.when(pl.col("decided") != 0).then(pl.col("decided") * 3).otherwise(held_by)
    images = images.with_columns(decided=decided)
    order = ("decided", *(name for name in recipe.keep.order if name != "decided"))
    for kind in ("exact", "near", "burst"):
        if getattr(out, kind):
            members = lake.groups.filter(pl.col("kind") == kind).select("relative_path", group="group_id")
            images = step(kind, steps.one_of_each(images, members, kind, order))
    must = images.select(pl.col("pinned") | fixed | pl.col("must_have")).to_series()
    nearest_in: pl.DataFrame | None = None
    if recipe.subset.is_by_vectors:
        may_be = images.with_columns(must=must).filter(pl.col("reason").is_null())
        found = choose(may_be, recipe.subset, lake.segments, progress or LogProgress()) if len(may_be) else None
        if found is not None:
            result.subset, nearest_in = found.measured, found.stands_for
            others = ~pl.col("relative_path").is_in(found.paths.implode())
            images = step("subset", steps.leave_out(images, others, steps.SUBSET))
    else:
        chance = chance_of(images["content_sha256"], recipe.subset.seed)
        images = step("subset", steps.chosen(images, recipe.subset, must, chance))
    if not images["reason"].null_count():
        raise CurationError(f"recipe {recipe.name}: no image is left: {_told(images)}")
    held = int((must & images["reason"].is_null()).sum())
    if recipe.subset.size is not None and held > recipe.subset.size:
        result.notes.append(
            f"{held:,} images are held by the version before{f', by {lake.given.name}' if lake.given else ''} or by a "
            f"person's word, more than the subset's {recipe.subset.size:,}; --fresh lets go of what the version before "
            "kept"
        )
    if recipe.split is not None:
        images = step("split", _on_sides(recipe.split, lake, images, result))
    else:
        images = images.with_columns(split=pl.lit(None, pl.String))
    images = steps.with_similarity(steps.follow_witnesses(images), lake.pairs)
    if nearest_in is not None:
        images = steps.with_nearest(images, nearest_in)
    for name, paths in left_by.items():
        result.steps[name] = steps.counts(images.filter(pl.col("relative_path").is_in(paths.implode())))
    kept = images["reason"].is_null()
    result.flagged, result.doubted = (
        images.filter(kept & images[name])["relative_path"].sort().to_list() for name in ("flagged", "doubted")
    )
    split_of_kept = pl.when(pl.col("reason").is_null()).then("split")
    result.rows = images.with_columns(kept=kept, split=split_of_kept).select(*_ROW, "_file").sort("relative_path")
    _measure(result, lake)
    return result


def _words(recipe: Recipe) -> tuple[str, str]:
    return recipe.leave_out.mislabelled, recipe.leave_out.conflicting


def _pins(images: pl.DataFrame, before: pl.DataFrame | None) -> list[pl.Series]:
    """``pinned`` of each image, whether the version before kept it, and ``pinned_split``, where it ever was.

    It was at this path, or at one where it is no more.
    """
    if before is None or not len(before):
        return [
            pl.Series("pinned", [False]).new_from_index(0, len(images)),
            pl.Series("pinned_split", [None], pl.String).new_from_index(0, len(images)),
        ]
    key = ["relative_path", "content_sha256"]
    told = before.select(*key, _split="split", _was="last")
    found = images.select(key).join(told, on=key, how="left", maintain_order="left")
    gone = told.join(images.select(key), on=key, how="anti")
    moved = found.filter(pl.col("_was").is_null()).join(
        gone.unique("content_sha256", keep="first").select("content_sha256", _new="_split", _came="_was"),
        on="content_sha256",
    )
    # A photograph that lay once lies once again.
    moved = moved.join(found.drop_nulls("_was").select("content_sha256"), on="content_sha256", how="anti")
    moved = moved.sort("relative_path").unique("content_sha256", keep="first").select("relative_path", "_new", "_came")
    found = found.join(moved, on="relative_path", how="left", maintain_order="left")
    return [
        (found["_was"].fill_null(value=False) | found["_came"].fill_null(value=False)).alias("pinned"),
        found.select(pl.coalesce("_split", "_new")).to_series().alias("pinned_split"),
    ]


# ---------------------------------------------------------------------- sides


def _on_sides(recipe: SplitRecipe, lake: Gathered, images: pl.DataFrame, result: Built) -> pl.DataFrame:
    """Give what is kept so far a side, and leave out what lies too near to another."""
    kept = images["reason"].is_null().to_numpy()
    groups = None if recipe.groups is None else images["of_group"]
    sides = recipe.sides if groups is None else sides_of(groups, images["reason"].is_null(), str(recipe.groups))
    number = {name: at for at, name in enumerate(sides.names)}
    pinned = images.select(pl.coalesce("pinned_split", "given_split")).to_series()
    _tell_held(recipe, images.filter(pl.Series(kept)), result)
    _tell_unjoined(recipe, images.filter(pl.Series(kept)), result)
    held = pinned.replace_strict(number, default=NONE, return_dtype=pl.Int64).fill_null(NONE).to_numpy()
    links = _links(recipe, lake, images)
    orders = _orders(recipe.apart, images)
    # Only what somebody said, and what the version before has, is not left out for new images.
    stays = (images["pinned"] | images["pinned_split"].is_null()).to_numpy()
    if groups is None:
        classes = _classes(recipe, images, kept)
        found = split(images["content_sha256"], classes, sides, links, orders, held, recipe.seed, kept, stays)
    else:
        own = groups.replace_strict(number, default=NONE, return_dtype=pl.Int64).fill_null(NONE).to_numpy()
        found = split_by_groups(own, sides, links, orders, held, kept, stays)
    if found.too_large is not None:
        raise CurationError(_too_large(found, images, sides.names, sides.shares, int(kept.sum())))
    result.split = found
    names = [*sides.names, None]
    images = images.with_columns(
        split=pl.Series([names[side] if side >= 0 else None for side in found.side.tolist()], dtype=pl.String)
    )
    paths = images["relative_path"]
    told_of = {image: (steps.BUFFER, other) for image, (_, other) in found.buffered.items()}
    told_of |= {image: (steps.joins(sides.names[side]), other) for image, (side, other) in found.moved.items()}
    reason, witness = images["reason"].to_list(), images["witness"].to_list()
    for image, (why, other) in told_of.items():
        reason[image], witness[image] = why, paths[other] if other >= 0 else None
    images = images.with_columns(reason=pl.Series(reason, dtype=pl.String), witness=pl.Series(witness, dtype=pl.String))
    lacking = np.flatnonzero(np.bincount(found.side[found.side >= 0], minlength=len(sides.names)) == 0)
    if groups is not None:
        _check_groups(recipe, sides.names, lacking, images.filter(pl.Series(kept))["of_group"], result)
    elif len(lacking):
        raise CurationError(
            f"no image is left for {sides.names[lacking[0]]}: {found.units:,} units of {int(kept.sum()):,} images, of "
            "which none can be cut; larger shares, or less that has to be together, would help"
        )
    result.relations = _relations(recipe.apart, orders, images, found, sides.names)
    return images


def _tell_held(recipe: SplitRecipe, kept: pl.DataFrame, result: Built) -> None:
    """Tell of images that stay where they were, though they are given another side."""
    other = kept.filter(pl.col("pinned_split") != pl.col("given_split"))
    if len(other):
        path, before, now = other.select("relative_path", "pinned_split", "given_split").row(0)
        result.notes.append(
            f"{len(other):,} images stay where an earlier version had them, not where {recipe.given} puts them, for "
            f"example {printable(path)}: {before}, not {now}; --fresh lets go of them"
        )


def _tell_unjoined(recipe: SplitRecipe, kept: pl.DataFrame, result: Built) -> None:
    """Tell of images that a pattern or a column of ``[split.together]`` says nothing of: nothing joins them by it."""
    patterns = [name for name in kept.columns if name.startswith(_PART)]
    asked = [(f"match no pattern of [split.together] path ({', '.join(recipe.together.path)})", patterns)]
    asked += [
        (f"have no value of [split.together] column {text}", [f"{_COLUMN}{text}"]) for text in recipe.together.column
    ]
    for told, names in asked:
        loose = kept.filter(pl.all_horizontal(pl.col(names).is_null())) if names else kept.clear()
        if len(loose):
            example = printable(loose["relative_path"][0])
            result.notes.append(
                f"{len(loose):,} of {len(kept):,} images {told}, for example {example}; nothing joins them"
            )


def _classes(recipe: SplitRecipe, images: pl.DataFrame, kept: NDArray[np.bool_]) -> Ids:
    """(images,) a number of each one's class, from 0 on; of what is not kept any."""
    if recipe.stratify is False:
        return np.zeros(len(images), np.int64)
    classes = images["label"].fill_null("").rank("dense").cast(pl.Int64).to_numpy() - 1
    _, classes = np.unique(np.where(kept, classes, classes[kept][0]), return_inverse=True)
    return classes


def _check_groups(recipe: SplitRecipe, names: Sequence[str], lacking: Ids, asked: pl.Series, result: Built) -> None:
    """Tell groups that lost all their images; one that is left alone is an error."""
    emptied = sorted({names[at] for at in lacking}.intersection(asked))
    if len(names) - len(lacking) < 2:
        raise CurationError(
            f"split.groups: {recipe.groups!r}: all images that are left belong together or to one group; to leave one "
            "out there have to be two"
        )
    if emptied:
        result.notes.append(
            f"no image is left of {len(emptied):,} groups, for example {printable(emptied[0])}: all belong to others, "
            "or are too near to them"
        )


def _links(recipe: SplitRecipe, lake: Gathered, images: pl.DataFrame) -> list[Links]:
    together, contents = recipe.together, images["content_sha256"]
    found = [of_equal("exact", contents)]  # the pairs below are of one image of each content
    if together.duplicates:
        words = lake.words
        known = lake.pairs.join(words.different, on=["first", "second"], how="anti")
        same = words.same.with_columns(similarity=pl.lit(None, pl.Float32))
        for kind in ("near", "burst"):
            pairs = known.filter(pl.col("kind") == kind).select("first", "second", "similarity")
            if kind == "near":
                pairs = pl.concat(
                    [pairs, same.select("first", "second", pl.col("similarity").cast(pairs["similarity"].dtype))]
                )
            found.append(of_pairs(kind, contents, pairs))
            group = lake.groups.filter(pl.col("kind") == kind).select("relative_path", "group_id", "similarity")
            of_group = images.select("relative_path").join(group, on="relative_path", how="left", maintain_order="left")
            found.append(of_equal(kind, of_group["group_id"], of_group["similarity"].rename("alike")))
    for name in images.columns:
        if name.startswith("together_"):
            values = images[name].cast(pl.String)
            at = name.removeprefix("together_path_")
            told = f"path {together.path[int(at)]}" if at.isdecimal() else name.removeprefix("together_")
            found.append(of_equal(told, values))
    return found


def _orders(asked: Apart, images: pl.DataFrame) -> list[Order]:
    found = []
    if asked.numbering is not None:
        folders = directories_of(images["relative_path"])
        found.append(apart.numbering(folders, images["file_name"], asked.numbering))
    if asked.time_s is not None:
        found.append(apart.times(images["camera"], images["captured_at"], asked.time_s))
    if asked.place_m is not None:
        found.append(apart.places(images["latitude"], images["longitude"], asked.place_m))
    return [order for order in found if len(order.images)]


def _relations(
    asked: Apart, orders: Sequence[Order], images: pl.DataFrame, found: Split, sides: Sequence[str]
) -> list[Relation]:
    """What orders there are, used or not, and how far they reach across sides."""
    unused = Apart(
        **{
            name: getattr(_ASKED, name) if getattr(asked, name) is None else None
            for name in ("numbering", "time_s", "place_m")
        }
    )
    told = []
    for order in [*orders, *_orders(unused, images)]:
        near = apart.across(order, found.side)
        crossing = near.images[near.distances <= order.distance]
        numbers, near_ones = (
            np.bincount(of[of >= 0], minlength=len(sides)) for of in (found.side, found.side[crossing])
        )
        across = {name: float(near_ones[at] / numbers[at]) for at, name in enumerate(sides) if numbers[at]}
        cost = sum(relation == order.relation for relation, _ in found.buffered.values())
        is_used = getattr(asked, order.relation) is not None
        told.append(
            Relation(
                order.relation,
                order.distance,
                is_used,
                len(order.images),
                len(order.names),
                order.names[:3],
                cost,
                across,
            )
        )
    return told


def _too_large(found: Split, images: pl.DataFrame, sides: Sequence[str], shares: Sequence[float], kept: int) -> str:
    assert found.too_large is not None
    paths = images["relative_path"]
    share, side = max(zip(shares, sides, strict=True))
    weakest = "; ".join(
        f"{name} {similarity:.3f}: {printable(paths[one])} and {printable(paths[other])}"
        for name, one, other, similarity in found.too_large.weakest
    )
    example = printable(paths[int(found.too_large.images[0])])
    return (
        f"{len(found.too_large.images):,} images belong together, for example {example}: no side has room for them "
        f"({side} gets at most {math.ceil(share * kept):,} of {kept:,}). The links that hold least: {weakest}"
    )


# ------------------------------------------------------------------- measured


def _measure(result: Built, lake: Gathered) -> None:
    """Class shares, and leakage by a join of its own over every kind of pair."""
    kept = result.kept
    if result.recipe.split is None:
        return
    whole = dict(kept.group_by("label").agg(pl.len() / len(kept)).iter_rows())
    result.shares["whole"] = {str(label): float(share) for label, share in sorted(whole.items(), key=str)}
    for (side,), rows in kept.sort("split").group_by("split", maintain_order=True):
        shares = dict(rows.group_by("label").agg(pl.len() / len(rows)).iter_rows())
        result.shares[str(side)] = {str(label): float(shares.get(label, 0.0)) for label in sorted(whole, key=str)}
        result.worst = max(
            result.worst, *(100 * abs(shares.get(label, 0.0) - of_whole) for label, of_whole in whole.items())
        )
    if result.recipe.split.groups is None:  # which are as they are
        wanted = result.recipe.split.sides
        numbers = dict(kept["split"].value_counts().iter_rows())
        result.off = max(
            100 * abs(numbers[name] / len(kept) - share)
            for name, share in zip(wanted.names, wanted.shares, strict=True)
        )
    groups = lake.groups.select("kind", "group_id", "content_sha256", "similarity")
    result.leakage = leaks(
        kept.select("relative_path", "content_sha256", "split", "label"), groups, lake.pairs, lake.words
    )
    for relation in result.relations:
        least = max(relation.across.values(), default=0.0)
        if not relation.used and least >= _WORTH_A_WORD:
            side, share = max(relation.across.items(), key=lambda item: item[1])
            result.notes.append(
                f"{_NAMED[relation.name].format(relation.distance)} lie on two sides for {share:.0%} of {side}; "
                f"[split.apart] {relation.name} = {relation.distance:g} keeps them apart"
            )
        elif relation.used and least:
            raise CurationError(f"the split left images within {relation.name} = {relation.distance:g} on two sides")


_NAMED = {
    apart.NUMBERING: "numbers within {:g} of each other",
    apart.TIME: "photographs of one camera within {:g} s",
    apart.PLACE: "photographs within {:g} m",
}


def _told(images: pl.DataFrame) -> str:
    counts = images.group_by("reason").len().sort("len", descending=True)
    return ", ".join(f"{reason} {number:,}" for reason, number in counts.iter_rows())
