"""Kinds of problem: which score tells of each, from which threshold on, and how that moves with a picture's own group.

Scores are stored, verdicts are not: other thresholds judge the same rows otherwise at once.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import polars as pl

from curation_assets.errors import CurationError
from curation_assets.search.filters import ANY_PROBLEM

GROUP_LEAST = 20  # pictures of a folder and camera, or of a folder, or of a camera, to judge one by the others
OUTLIER, MISLABELLED, CONFLICTING, BAD_BOX, LEAK = "outlier", "mislabelled", "conflicting", "bad_box", "leak"
OF_PICTURE = ("quality", "scores")  # what tells of a picture itself, not of what is said of it
DISTANCE = "outlier_distance"  # what ``outlier_score`` of the scores is called beside what is judged by it
LABEL_QUALITY, OTHERWISE, BOXES, ACROSS = "least_label_quality", "labelled_otherwise", "boxes_at_fault", "pairs_across"
# What other tables than that of quality tell of an image, beside its columns; null: nothing.
FURTHER: Mapping[str, pl.DataType] = MappingProxyType(
    {
        DISTANCE: pl.Float32(),
        LABEL_QUALITY: pl.Float32(),
        OTHERWISE: pl.Int64(),
        BOXES: pl.Int64(),
        ACROSS: pl.Int64(),
    }
)
# Quality of a label below which it is likely wrong, if another class speaks for itself: `python -m benchmarks.labels`.
LIKELY_WRONG = 0.05
_DEVIATIONS = 3.0  # robust ones of the group, from its median on
_LEAST_DEVIATION = 0.02  # of the logarithm of a score: pictures of one group are never quite alike


@dataclass(frozen=True)
class Kind:
    """A kind of problem.

    Attributes:
        meaning: one sentence.
        advice: what to do about it.
        score: what is compared with the threshold, over columns of the quality table; documented by ``scale``.
        default: the threshold.
        is_low: whether low scores are the bad ones.
        sway: by what share of itself the threshold moves, at most, towards or away from what is usual in the group.
        unless: pictures that it never is.
        is_counted: the score counts what speaks for it: the threshold is the least number that does.
        told_by: what it is told by: ``quality``, ``scores``, ``label_issues`` (tables), or ``splits``.
    """

    name: str
    meaning: str
    advice: str
    score: pl.Expr
    scale: str
    default: float
    is_low: bool = True
    sway: float = 0.0
    unless: pl.Expr | None = None
    is_counted: bool = False
    told_by: str = "quality"

    def limit(self, threshold: float) -> str:
        """From which score on, for a reader."""
        sign = "≥" if self.is_counted else "<" if self.is_low else ">"
        return f"{self.scale} {sign} {shortly(threshold)}"


def shortly(threshold: float) -> str:
    """A threshold in few digits, where those name the same images."""
    short = f"{threshold:g}"
    return short if float(short) == threshold else repr(threshold)


_SIDE = (pl.col("width").cast(pl.Float64) * pl.col("height")).sqrt()
_ELONGATION = pl.max_horizontal(pl.col("aspect_ratio"), 1 / pl.col("aspect_ratio"))

# Print is too thin to be dark on a preview, so that nothing of a page is; what is burnt out lies beyond it.
_IS_PAGE = (pl.col("colourfulness") < 6) & (pl.col("sharpness") > 0.7) & (pl.col("exposure") < 0.8)

# A score of cosines: from one lake to the other they are spread otherwise, so it is judged among all of its own lake.
_OF_LAKE = pl.when(pl.col(DISTANCE) > 0).then(pl.col(DISTANCE).cast(pl.Float64).log())
_SPREAD = pl.max_horizontal((_OF_LAKE - _OF_LAKE.median()).abs().median() * 1.4826, pl.lit(_LEAST_DEVIATION))
_OUTLYING = pl.when(_OF_LAKE.count() >= GROUP_LEAST).then((_OF_LAKE - _OF_LAKE.median()) / _SPREAD)

_KINDS = (
    Kind(
        "blurry",
        "no part of the picture is sharp: out of focus, or the camera moved",
        "look at the softest, and leave out those that show too little for the task",
        pl.col("sharpness"),
        "sharpness",
        0.42,
        sway=0.15,
    ),
    Kind(
        "dark",
        "even the brightest parts are dark: underexposed, at night, or a covered lens",
        "leave them out, or brighten them when training",
        pl.col("highlights"),
        "highlights",
        0.3,
        sway=0.1,
    ),
    Kind(
        "bright",
        "washed out: a large part is burnt out, or nothing on it is dark",
        "leave them out where what matters is burnt out",
        pl.col("exposure"),
        "exposure",
        0.5,
        is_low=False,
        sway=0.1,
        unless=_IS_PAGE,
    ),
    Kind(
        "low_information",
        "there is hardly anything on it: blank, a wall, the sky, a lens cap",
        "leave them out",
        pl.col("entropy"),
        "entropy, in bits",
        3.0,
        sway=0.25,
        unless=pl.col("highlights") - pl.col("shadows") > 0.25,
    ),
    Kind(
        "odd_aspect",
        "far longer than wide, or wider than long, than the others: a strip, a crop, a screenshot",
        "look whether they are photographs of the kind you want",
        _ELONGATION,
        "longer by shorter side",
        3.0,
        is_low=False,
        sway=0.4,
    ),
    Kind(
        "odd_size",
        "far smaller or larger than the others of its folder: a thumbnail, or of another camera",
        "look whether a larger version is to be had",
        _SIDE,
        "times larger or smaller than its group's median side",
        4.0,
        is_low=False,
    ),
    Kind(
        "grayscale",
        "it has no colours",
        "leave them out, or train with colours taken away now and then",
        pl.col("colourfulness"),
        "colourfulness",
        2.0,
    ),
    Kind(
        OUTLIER,
        "far from nearly all others: of another subject, place or camera, or no photograph at all",
        "look at it beside its nearest, and leave it out if it does not belong there",
        _OUTLYING,
        "robust deviations of the outlier score above the lake's median",
        3.0,
        is_low=False,
        told_by="scores",
    ),
    Kind(
        MISLABELLED,
        "its label is likely wrong, says a classifier that was fitted to the others",
        "look at each beside its nearest, and say what it is (`curation decisions add relabel`)",
        pl.col(LABEL_QUALITY),
        "quality of its label",
        LIKELY_WRONG,
        told_by="label_issues",
    ),
    Kind(
        CONFLICTING,
        "another image of the same photograph has another label, or sources disagree about its own",
        "say which label is right (`curation decisions add relabel`), or that the two are different",
        pl.col(OTHERWISE),
        "images and sources that say otherwise",
        1.0,
        is_low=False,
        is_counted=True,
        told_by="label_issues",
    ),
    Kind(
        BAD_BOX,
        "a box lies outside of the picture, is there twice, is tiny or has no label",
        "put the boxes right where they come from, and import them again",
        pl.col(BOXES),
        "boxes at fault",
        1.0,
        is_low=False,
        is_counted=True,
        told_by="label_issues",
    ),
    Kind(
        LEAK,
        "the same photograph or scene is in a cleaner split too, so what is measured there is worth less",
        "leave them out of their split (`curation leakage --give-way` prints the paths)",
        pl.col(ACROSS),
        "images in other splits that are the same",
        1.0,
        is_low=False,
        is_counted=True,
        told_by="splits",
    ),
)
KINDS: Mapping[str, Kind] = MappingProxyType({kind.name: kind for kind in _KINDS})


@dataclass(frozen=True)
class Thresholds:
    """The threshold of every kind, by its name."""

    values: Mapping[str, float]

    def __getitem__(self, kind: str) -> float:
        return self.values[kind]


def thresholds(given: Mapping[str, Any] | None = None) -> Thresholds:
    """The thresholds, those that are given in place of the defaults.

    Raises:
        CurationError: one is of no kind, or no number above 0.
    """
    values = {name: kind.default for name, kind in KINDS.items()}
    for name, value in (given or {}).items():
        values[check_kind(name)] = _number(name, value)
    return Thresholds(MappingProxyType(values))


def check_kind(name: str) -> str:
    """A kind's name.

    Raises:
        CurationError: there is no such kind; it names the nearest.
    """
    if name in KINDS:
        return name
    near = difflib.get_close_matches(name, KINDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(KINDS)}"
    raise CurationError(f"no kind of problem is called {name!r}; {hint}")


def check_filter(names: Iterable[str]) -> tuple[str, ...]:
    """Kinds to look for, of which one may be ``any``.

    Raises:
        CurationError: as :func:`check_kind`.
    """
    return tuple(name if name == ANY_PROBLEM else check_kind(name) for name in names)


def judged(rows: pl.DataFrame, limits: Thresholds) -> pl.DataFrame:
    """Say of every picture which problems it has.

    A threshold moves with the picture's own group, the others of its folder and camera, or if those are few of its
    folder, or of its camera: to three robust deviations beyond the group's median, by at most the kind's sway. So a
    folder of soft close-ups isn't blurred altogether, and one soft picture among sharp ones stands out.

    Args:
        rows: of the quality table, of the whole lake, as groups are made of them; perhaps with columns of ``FURTHER``.

    Returns:
        The rows, in their order, and for each kind ``<kind>`` (whether it is one; never null), ``<kind>_score`` (what
        was compared with the threshold) and ``<kind>_severity`` (1 at the threshold as it moved, more beyond); both
        null where there is nothing to judge by.
    """
    rows = _with_further(rows)
    grouped = rows.with_columns(_group=_group(rows))
    columns: list[pl.Expr] = []
    for kind in KINDS.values():
        columns += _verdict(kind, limits[kind.name])
    return grouped.with_columns(columns).drop("_group")


def problem_names(rows: pl.DataFrame) -> pl.Series:
    """The kinds that :func:`judged` found of each, as ``blurry, dark``; null where there is none."""
    named = [pl.when(pl.col(name)).then(pl.lit(name)) for name in KINDS]
    joined = pl.concat_str(named, separator=", ", ignore_nulls=True)
    return rows.select(problems=pl.when(joined != "").then(joined))["problems"]


def _group(rows: pl.DataFrame) -> pl.Series:
    """A number for the pictures that each is judged among; null where they are too few."""
    by: list[tuple[list[str], pl.Expr]] = [
        (["folder", "camera"], pl.lit(value=True)),
        (["folder"], pl.lit(value=True)),
        (["camera"], pl.col("camera").is_not_null()),
    ]
    chosen = pl.lit(None, pl.UInt32)
    for number, (columns, counts) in reversed(list(enumerate(by))):
        place = pl.struct(columns).rank("dense").cast(pl.UInt32) * len(by) + number
        chosen = pl.when((pl.len().over(columns) >= GROUP_LEAST) & counts).then(place).otherwise(chosen)
    return rows.select(_group=chosen)["_group"]


def turning_points(rows: pl.DataFrame, kind: str) -> pl.Series:
    """Of each picture the threshold at which it begins to have a problem.

    :func:`judged` finds it from there on: with thresholds above it of kinds that are told by low scores, below it of
    those that are told by high ones, and at it too of those that are counted. So a threshold's images are counted by
    one search in what is sorted.

    Args:
        rows: as for :func:`judged`.

    Returns:
        In the rows' order; null: at no threshold.
    """
    rows = _with_further(rows)
    return rows.with_columns(_group=_group(rows)).select(at=_turning_point(KINDS[kind]))["at"]


def _with_further(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.lit(None, of).alias(name) for name, of in FURTHER.items() if name not in rows.columns)


@dataclass(frozen=True)
class _InGroup:
    """How a kind's scores lie in a picture's own group; null where there is none."""

    middle: pl.Expr
    deviation: pl.Expr

    def limit(self, kind: Kind) -> pl.Expr:
        """Three robust deviations beyond what is usual, on the kind's bad side."""
        return (self.middle + (-_DEVIATIONS if kind.is_low else _DEVIATIONS) * self.deviation).exp()


def _in_group(log: pl.Expr) -> _InGroup:
    middle = log.median().over("_group")
    spread = (log - middle).abs().median().over("_group") * 1.4826
    is_in_one = pl.when(pl.col("_group").is_not_null())
    return _InGroup(is_in_one.then(middle), is_in_one.then(pl.max_horizontal(spread, pl.lit(_LEAST_DEVIATION))))


def _verdict(kind: Kind, threshold: float) -> list[pl.Expr]:
    score = kind.score.cast(pl.Float64)
    log = pl.when(score > 0).then(score.log())
    group = _in_group(log)
    if kind.name == "odd_size":
        score = (log - group.middle).abs().exp()
        limit = pl.max_horizontal((_DEVIATIONS * group.deviation).exp(), pl.lit(threshold))
    elif kind.sway:
        own = group.limit(kind).clip(threshold * (1 - kind.sway), threshold * (1 + kind.sway))
        limit = own.fill_null(threshold)
    else:
        limit = pl.lit(threshold)
    severity = 2 - score / limit if kind.is_low else score / limit
    is_one = (severity >= 1 if kind.is_counted else severity > 1).fill_null(value=False)
    if kind.unless is not None:
        is_one &= ~kind.unless.fill_null(value=False)
    return [
        is_one.alias(kind.name),
        score.alias(f"{kind.name}_score"),
        severity.alias(f"{kind.name}_severity"),
    ]


def _turning_point(kind: Kind) -> pl.Expr:
    score = kind.score.cast(pl.Float64)
    log = pl.when(score > 0).then(score.log())
    group, at = _in_group(log), score
    if kind.name == "odd_size":
        times = (log - group.middle).abs().exp()
        at = pl.when(times > (_DEVIATIONS * group.deviation).exp()).then(times)
    elif kind.sway:
        # Beyond what its group is usual for, the threshold may move away from the score by the sway, else towards it.
        own = group.limit(kind)
        is_unusual = score < own if kind.is_low else score > own
        moved = 1 + kind.sway if kind.is_low else 1 - kind.sway
        at = score / pl.when(is_unusual).then(moved).when(own.is_not_null()).then(2 - moved).otherwise(1.0)
    return at if kind.unless is None else pl.when(~kind.unless.fill_null(value=False)).then(at)


def _number(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or number <= 0:
        raise CurationError(f"the threshold of {name} is a number above 0, not {value!r}")
    return number
