"""Faults of boxes: each kind, and that nothing else is one."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import polars as pl
import pytest

from curation_assets.annotations.said import BOXES
from curation_assets.curate.labels.boxes import DOUBLED, EQUAL, OUTSIDE, OVERLAP, TINY, UNLABELLED, box_faults

SCHEMA: dict[str, Any] = {
    "relative_path": pl.String,
    "content_sha256": pl.String,
    "field": pl.String,
    "boxes": BOXES,
    "width": pl.Int32,
    "height": pl.Int32,
}
Box = tuple[str | None, float | None, float | None, float | None, float | None]


def box(label: str | None, x: Any, y: Any, w: Any, h: Any) -> dict[str, Any]:
    return {"label": label, "x": x, "y": y, "width": w, "height": h}


def rows_of(*boxes: Box, width: int | None = 640, height: int | None = 480, path: str = "a") -> pl.DataFrame:
    return pl.DataFrame([(path, "1", "class", [box(*one) for one in boxes], width, height)], SCHEMA, orient="row")


def faults(*boxes: Box, **size: Any) -> dict[str, int]:
    return dict(box_faults(rows_of(*boxes, **size)).select("kind", "number").iter_rows())


FINE = ("rust", 10.0, 20.0, 100.0, 80.0)


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (("rust", -2.0, 0.0, 50.0, 50.0), OUTSIDE),
        (("rust", 600.0, 0.0, 42.0, 50.0), OUTSIDE),
        (("rust", 0.0, 440.0, 50.0, 42.0), OUTSIDE),
        (("rust", 700.0, 500.0, 50.0, 50.0), OUTSIDE),
        (("rust", math.nan, 0.0, 50.0, 50.0), OUTSIDE),
        (("rust", 0.0, None, 50.0, 50.0), OUTSIDE),
        (("rust", 0.0, 0.0, 3.9, 50.0), TINY),
        (("rust", 50.0, 50.0, 50.0, 0.0), TINY),
        (("rust", 50.0, 50.0, -10.0, 5.0), TINY),
        ((None, 10.0, 20.0, 100.0, 80.0), UNLABELLED),
        (("  ", 10.0, 20.0, 100.0, 80.0), UNLABELLED),
    ],
)
def test_each_fault_is_found(one: Box, kind: str) -> None:
    assert faults(one) == {kind: 1}


@pytest.mark.parametrize(
    "boxes",
    [
        [FINE],
        [("rust", -1.0, -0.5, 642.0, 481.0)],  # rounding
        [("rust", 0.0, 0.0, 4.0, 4.0)],
        [FINE, ("rust", 30.0, 20.0, 100.0, 80.0)],  # one beside another
        [FINE, ("miner", 12.0, 20.0, 100.0, 80.0)],  # a leaf, and what is on it
        [FINE, ("rust", 10.0, 20.0, 100.0, 40.0)],
        [],
    ],
)
def test_what_is_as_it_should_be_is_no_fault(boxes: list[Box]) -> None:
    assert faults(*boxes) == {}


def test_a_side_is_tiny_for_its_picture_too() -> None:
    assert faults(("rust", 0.0, 0.0, 7.0, 50.0), width=4000, height=3000) == {TINY: 1}
    assert faults(("rust", 0.0, 0.0, 8.0, 6.0), width=4000, height=3000) == {}


def test_without_a_size_of_the_picture_only_the_box_itself_is_judged() -> None:
    assert faults(("rust", 900.0, 0.0, 50.0, 50.0), width=None, height=None) == {}
    assert faults(("rust", -5.0, 0.0, 50.0, 50.0), width=None, height=None) == {OUTSIDE: 1}


def test_a_box_drawn_twice_and_one_with_two_labels() -> None:
    twice = rows_of(FINE, ("rust", 12.0, 21.0, 100.0, 80.0), ("rust", 300.0, 20.0, 50.0, 50.0))
    assert box_faults(twice).select("kind", "reason").rows() == [
        (DOUBLED, "box 'rust' at 12, 21 of 100 × 80 is there twice")
    ]
    both = box_faults(rows_of(FINE, ("miner", 10.2, 20.0, 100.0, 80.0), FINE))
    assert both["number"].to_list() == [2]
    assert both["reason"].to_list() == ["box 'miner' at 10.2, 20 of 100 × 80 is labelled 'rust' too, and 1 more"]


def test_boxes_of_other_images_and_fields_are_others() -> None:
    one, other = rows_of(FINE), rows_of(FINE, path="b")
    assert not len(box_faults(pl.concat([one, other, one.with_columns(field=pl.lit("pest"))])))


@pytest.mark.parametrize("seed", range(8))
def test_doubled_boxes_are_those_of_brute_force(seed: int) -> None:
    rng = random.Random(seed)
    boxes: list[Any] = []
    for _ in range(60):
        x, y, w, h = (rng.choice([0.0, 0.3, 1.0, 2.0, 4.0, 50.0]) + base for base in (20, 20, 60, 60))
        boxes.append((rng.choice(["rust", "miner"]), x, y, w, h))

    def is_twice(one: Any, two: Any) -> bool:
        (label, *a), (other, *b) = one, two
        edges = [(p[0], p[0] + p[2], p[1], p[1] + p[3]) for p in (a, b)]
        if label != other:
            return all(abs(m - n) <= EQUAL for m, n in zip(*edges, strict=True))
        across = max(0.0, min(edges[0][1], edges[1][1]) - max(edges[0][0], edges[1][0]))
        down = max(0.0, min(edges[0][3], edges[1][3]) - max(edges[0][2], edges[1][2]))
        shared = across * down
        return shared / (a[2] * a[3] + b[2] * b[3] - shared) >= OVERLAP

    later = {n for m, n in itertools.combinations(range(len(boxes)), 2) if is_twice(boxes[m], boxes[n])}
    assert faults(*boxes) == {DOUBLED: len(later)}


def test_thousands_of_boxes_on_one_image_do_no_harm() -> None:
    spread = [("rust", float(20 * (n % 200)), float(20 * (n // 200)), 18.0, 18.0) for n in range(20_000)]
    assert faults(*spread, width=4000, height=2000) == {}
    assert faults(*[FINE] * 20_000) == {DOUBLED: 19_999}
