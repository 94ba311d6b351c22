"""A subset of what a recipe kept so far, by the vectors of the images: who is in it, and how well it stands for all.

Images with a problem come last, whatever the recipe leaves out: an outlier is by its nature what lies farthest from
all others, so it would be chosen first. What has to be in the subset is, problem or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from curation_assets.curate.neighbours.exact_lists import cores
from curation_assets.curate.neighbours.vectors import Floats, Ids, NodeVectors
from curation_assets.datasets.recipe import DIVERSE, Subset
from curation_assets.datasets.splits.splitting import chance_of
from curation_assets.datasets.subsets.facility_location import facility_location
from curation_assets.datasets.subsets.k_centre import farthest_first
from curation_assets.datasets.subsets.nearest import Bools, Nearest, Places
from curation_assets.progress import Progress

NO_VECTOR = "no vector"  # why an image comes last, beside the kinds of problem
DRAWS = 3  # random subsets that a subset is measured beside; the mean of them
_STANDS = {"relative_path": pl.String, "witness": pl.String, "witness_similarity": pl.Float32}


@dataclass(frozen=True)
class Measured:
    """How well a subset stands for what it was chosen of.

    Attributes:
        among: images that it was chosen of, without those that came last.
        chosen: of these.
        largest, mean: cosine distance, 0 to 2, of those to the nearest in the subset.
        largest_at_random, mean_at_random: the same of subsets drawn by chance, of the same size and with the same
            least numbers of the classes, but without must-haves.
        last: why images come last → how many; none of them is among those that it was chosen of.
        last_chosen: of these that are in the subset all the same: there were too few others, or they had to be.
    """

    strategy: str
    among: int
    chosen: int
    largest: float
    mean: float
    largest_at_random: float
    mean_at_random: float
    last: dict[str, int]
    last_chosen: int


@dataclass(frozen=True)
class Chosen:
    """A subset.

    Attributes:
        paths: of the images in it.
        stands_for: ``relative_path`` of each other that it was chosen of, ``witness``, the nearest in it, and
            ``witness_similarity``, their cosine.
        measured: None where all images come last, or none with a vector is in it.
    """

    paths: pl.Series
    stands_for: pl.DataFrame
    measured: Measured | None


def choose(images: pl.DataFrame, subset: Subset, segments: Sequence[Floats], progress: Progress) -> Chosen:
    """Choose by the strategy ``diverse`` or ``representative``. A function of the set of images and their vectors.

    Args:
        images: that may be chosen: ``relative_path``, ``content_sha256``, ``label``, ``position`` of the vector (null:
            it has none), ``last`` (why it comes last; null: it doesn't) and ``must``, whether it has to be in it.
        subset: with a size.
        segments: arrays of vectors of unit length, as an index has them.
    """
    assert subset.size is not None
    images = images.with_columns(
        last=pl.when(pl.col("position").is_null()).then(pl.lit(NO_VECTOR)).otherwise("last"),
        _class=pl.col("label").rank("dense").fill_null(0).cast(pl.Int64),
        _chance=pl.Series(chance_of(images["content_sha256"], subset.seed)),
    ).sort("_chance", "content_sha256", "relative_path")
    paths, classes = images["relative_path"], images["_class"].to_numpy()
    is_last = images["last"].is_not_null().to_numpy()
    is_in = images["must"].to_numpy().copy()
    size = min(max(subset.size, int(is_in.sum())), len(images))
    # A class of which too few others are there gets its least number of what comes last.
    lacking = _lacking(classes, is_in, subset)
    there, more = (np.bincount(classes[~is_in & which], minlength=len(lacking)) for which in (~is_last, is_last))
    short = np.clip(lacking - there, 0, more)
    _take_first(is_in, ~is_in & is_last, classes, short, min(size, int(is_in.sum() + short.sum())))
    stands_for, measured = pl.DataFrame(schema=_STANDS), None
    if not is_last.all():
        stands_for, measured = _with_vectors(images, classes, is_last, is_in, size, subset, segments, progress)
    _take_first(is_in, ~is_in, classes, np.zeros_like(lacking), size)  # of what comes last: there are too few others
    if measured is not None:
        measured = replace(measured, last_chosen=int((is_in & is_last).sum()))
    return Chosen(paths.filter(pl.Series(is_in)), stands_for, measured)


def _with_vectors(
    images: pl.DataFrame,
    classes: Ids,
    is_last: Bools,
    is_in: Bools,
    size: int,
    subset: Subset,
    segments: Sequence[Floats],
    progress: Progress,
) -> tuple[pl.DataFrame, Measured | None]:
    """Put images that don't come last into a subset, as its strategy says.

    Args:
        is_in: (images,) which are in it; changed in place.

    Returns:
        As :class:`Chosen` has them.
    """
    items = np.flatnonzero(~is_last | (is_in & images["position"].is_not_null().to_numpy()))
    vectors = NodeVectors(segments, images["position"].gather(items).to_numpy().astype(np.int64))
    held, of_items = is_in[items], classes[items]
    wanted = min(size - int(is_in.sum()), int((~held).sum()))
    places = Places(~held, of_items, _lacking(classes, is_in, subset))
    with cores() as each:
        nearest = Nearest(vectors, each)
        nearest.add(np.flatnonzero(held))
        if subset.strategy == DIVERSE:
            found = farthest_first(vectors, nearest, wanted, places, progress)
        else:
            found = facility_location(vectors, nearest, wanted, places, each, progress)
        is_in[items[found]] = True
        chosen = is_in[items]
        if not chosen.any():
            return pl.DataFrame(schema=_STANDS), None
        counted, contents = ~is_last[items], images["content_sha256"].gather(items)
        largest, mean = _distances(nearest, counted)
        by_chance = []
        for draw in range(DRAWS):
            order = np.argsort(chance_of(contents, (subset.seed + 1 + draw) % 2**32), kind="stable")
            drawn = np.zeros(len(items), bool)
            least = _lacking(of_items, drawn, subset)
            _take_first(drawn, counted[order], of_items[order], least, int(chosen.sum()))
            other = Nearest(vectors, each)
            other.add(order[drawn])
            by_chance.append(_distances(other, counted))
    largest_at_random, mean_at_random = np.mean(by_chance, axis=0).tolist()
    others, paths = np.flatnonzero(~chosen), images["relative_path"]
    stands_for = {
        "relative_path": paths.gather(items[others]),
        "witness": paths.gather(items[nearest.items[others]]),
        "witness_similarity": (1 - nearest.distances[others]).astype(np.float32),
    }
    measured = Measured(
        strategy=subset.strategy,
        among=int(counted.sum()),
        chosen=int((chosen & counted).sum()),
        largest=largest,
        mean=mean,
        largest_at_random=largest_at_random,
        mean_at_random=mean_at_random,
        last=dict(images["last"].drop_nulls().value_counts().sort("last").iter_rows()),
        last_chosen=0,
    )
    return pl.DataFrame(stands_for, _STANDS), measured


def _lacking(classes: Ids, is_in: Bools, subset: Subset) -> Ids:
    """(classes,) how many of each class its least number lacks yet."""
    counts = np.bincount(classes[is_in], minlength=int(classes.max()) + 1)
    return np.asarray(np.maximum(subset.per_class_at_least - counts, 0), np.int64)


def _take_first(is_in: Bools, free: Bools, classes: Ids, lacking: Ids, size: int) -> None:
    """Put free images into a subset until it has its size: first what classes lack, then any, in their order."""
    ids = np.flatnonzero(free)
    place = pl.Series(classes[ids], dtype=pl.Int64).to_frame("of").select(pl.int_range(pl.len()).over("of"))
    first = place.to_series().to_numpy() < lacking[classes[ids]]
    order = np.concatenate([ids[first], ids[~first]])
    is_in[order[: max(size - int(is_in.sum()), 0)]] = True


def _distances(nearest: Nearest, counted: Bools) -> tuple[float, float]:
    """The largest and the mean one."""
    distances = nearest.distances[counted]
    return float(distances.max()), float(distances.mean())
