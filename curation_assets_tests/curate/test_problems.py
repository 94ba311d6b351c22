"""Verdicts: the usual problems are found, the usual false alarms are none, and groups move the thresholds."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest

from curation_assets.curate.problems import (
    DISTANCE,
    GROUP_LEAST,
    KINDS,
    check_kind,
    judged,
    problem_names,
    thresholds,
    turning_points,
)
from curation_assets.errors import CurationError
from curation_assets_tests.curate import drawn

USUAL: dict[str, Any] = {
    "folder": "field",
    "camera": None,
    "width": 1200,
    "height": 900,
    "aspect_ratio": 4 / 3,
    "sharpness": 0.8,
    "brightness": 0.45,
    "contrast": 0.6,
    "shadows": 0.1,
    "highlights": 0.8,
    "exposure": 0.1,
    "clipped": 0.01,
    "entropy": 7.0,
    "colourfulness": 30.0,
}
SCHEMA = {name: pl.Float64 if isinstance(value, float) else None for name, value in USUAL.items()}
SCHEMA |= {"relative_path": pl.String, "folder": pl.String, "camera": pl.String, "width": pl.Int32, "height": pl.Int32}


def lake(*rows: dict[str, Any]) -> pl.DataFrame:
    """Rows that are as usual but for what is given."""
    return pl.DataFrame([USUAL | {"relative_path": f"{n}.jpg"} | row for n, row in enumerate(rows)], schema=SCHEMA)


def problems(rows: pl.DataFrame, **given: float) -> list[str | None]:
    return problem_names(judged(rows, thresholds(given))).to_list()


def problems_of(image: Any) -> str | None:
    return problems(pl.DataFrame([drawn.measured(image)]))[0]


@pytest.mark.parametrize("what", drawn.FALSE_ALARMS)
def test_the_usual_false_alarms_are_none(what: str) -> None:
    expected = "grayscale" if what == "a scanned page" else None
    assert problems_of(drawn.FALSE_ALARMS[what]()) == expected


@pytest.mark.parametrize("paper", [225, 235, 245, 255])
def test_a_page_is_not_bright_whatever_its_paper(paper: int) -> None:
    assert problems_of(drawn.scanned_page(paper)) == "grayscale"


@pytest.mark.parametrize("share", [0.01, 0.02])
@pytest.mark.parametrize("what", ["shallow_depth", "white_background", "moving_subject", "texture"])
def test_what_is_blurred_is_found_on_any_ground(what: str, share: float) -> None:
    assert problems_of(drawn.blurred(getattr(drawn, what)(), share)) == "blurry"


def test_what_the_camera_moved_through_is_blurry() -> None:
    assert problems_of(drawn.moved(drawn.texture(), 24)) == "blurry"


def test_noise_neither_blurs_a_picture_nor_hides_that_it_is_blurred() -> None:
    assert problems_of(drawn.noisy(drawn.texture(), 20)) is None
    assert problems_of(drawn.noisy(drawn.blurred(drawn.texture(), 0.01), 8)) == "blurry"


def test_tones_that_are_wrong_are_found() -> None:
    assert problems_of(drawn.gained(drawn.texture(), 0.25)) == "dark"
    assert problems_of(drawn.gained(drawn.texture(), 3.5)) == "bright", "burnt out"
    assert problems_of(drawn.gained(drawn.texture(), 1, added=110)) == "bright", "behind a veil"


def test_a_covered_lens_is_dark_and_says_nothing() -> None:
    assert problems_of(drawn.black()) == "dark, low_information, grayscale"


def test_in_a_folder_of_close_ups_only_the_softest_is_blurry() -> None:
    soft = [{"sharpness": 0.41 - 0.001 * (n % 10)} for n in range(40)]
    found = problems(lake(*soft, {"sharpness": 0.2}))
    assert found[:-1] == [None] * 40
    assert found[-1] == "blurry"
    assert problems(lake(*soft[:5])) == ["blurry"] * 5, "too few to tell what is usual there"


def test_a_soft_one_stands_out_among_sharp_ones() -> None:
    sharp = [{"sharpness": 0.85 + 0.001 * (n % 10)} for n in range(40)]
    assert problems(lake(*sharp, {"sharpness": 0.45}))[-1] == "blurry"
    assert problems(lake({"sharpness": 0.45})) == [None], "absolutely it isn't"


def test_a_folder_of_blurred_pictures_is_blurry() -> None:
    assert problems(lake(*[{"sharpness": 0.2}] * 40)) == ["blurry"] * 40


def test_a_camera_is_a_group_of_its_own_in_a_folder() -> None:
    soft = [{"sharpness": 0.4, "camera": "Macro"}] * GROUP_LEAST
    sharp = [{"sharpness": 0.85, "camera": "Wide"}] * GROUP_LEAST
    found = problems(lake(*soft, *sharp, {"sharpness": 0.4, "camera": "Wide"}))
    assert found == [None] * 2 * GROUP_LEAST + ["blurry"]


def test_few_pictures_of_a_folder_are_judged_among_those_of_their_camera() -> None:
    elsewhere = [{"sharpness": 0.4, "camera": "Macro", "folder": f"plot_{n}"} for n in range(GROUP_LEAST)]
    assert problems(lake(*elsewhere)) == [None] * GROUP_LEAST
    without = [row | {"camera": None} for row in elsewhere]
    assert problems(lake(*without)) == ["blurry"] * GROUP_LEAST, "no camera is no group"


def test_an_outlier_is_judged_among_all_of_the_lake_and_never_among_few() -> None:
    def found(distances: list[float | None]) -> list[bool]:
        rows = lake(*({} for _ in distances)).with_columns(pl.Series(DISTANCE, distances, pl.Float32))
        return judged(rows, thresholds())["outlier"].to_list()

    usual: list[float | None] = [0.1 + 0.002 * number for number in range(GROUP_LEAST - 1)]
    assert found([*usual, 0.4]) == [False] * (GROUP_LEAST - 1) + [True]
    assert not any(found([*usual[1:], 0.4]))
    assert not any(found([0.0] * 30 + [0.4])), "all the others show the same: there is no spread to judge by"
    assert found([None]) == [False]


def test_odd_sizes_are_odd_among_others_only() -> None:
    found = problems(lake(*[{}] * 30, {"width": 120, "height": 90}, {"width": 9000, "height": 9000}))
    assert found == [None] * 30 + ["odd_size"] * 2
    assert problems(lake({"width": 120, "height": 90})) == [None]


def test_strips_are_odd_lying_and_standing() -> None:
    assert problems(lake({"aspect_ratio": 4.0}, {"aspect_ratio": 0.25}, {})) == ["odd_aspect", "odd_aspect", None]


def test_an_empty_lake_and_one_image() -> None:
    assert problems(lake()) == []
    assert judged(lake(), thresholds())["blurry"].dtype == pl.Boolean
    assert problems(lake({})) == [None]


def test_what_was_not_measured_is_no_problem() -> None:
    measures = dict.fromkeys(name for name, value in USUAL.items() if isinstance(value, float))
    rows = judged(lake(measures, *[{}] * 30), thresholds())
    assert problem_names(rows)[0] is None
    assert rows["blurry_severity"][0] is None
    assert rows.select(list(KINDS)).null_count().sum_horizontal().item() == 0
    assert problems(lake({"sharpness": 0.0, "highlights": 0.0})) == ["blurry, dark"], "nothing is a score as well"


def test_verdicts_are_of_the_set_and_keep_its_order() -> None:
    rng = random.Random(1)
    rows = [
        {"folder": rng.choice("ab"), "camera": rng.choice(["x", "y", None]), "sharpness": rng.uniform(0.2, 0.9)}
        | {"highlights": rng.uniform(0.2, 0.9), "exposure": rng.uniform(0, 1), "width": rng.choice([100, 1000, 5000])}
        for _ in range(200)
    ]
    straight = judged(lake(*rows), thresholds())
    assert straight["relative_path"].to_list() == [f"{n}.jpg" for n in range(200)]
    assert 0 < straight["blurry"].sum() < 200
    mixed = lake(*rows).sample(fraction=1, shuffle=True, seed=5)
    again = judged(mixed, thresholds())
    assert again["relative_path"].to_list() == mixed["relative_path"].to_list()
    assert straight.sort("relative_path").equals(again.sort("relative_path"))


def test_another_threshold_judges_otherwise() -> None:
    rows = lake({"sharpness": 0.5})
    assert problems(rows) == [None]
    assert problems(rows, blurry=0.6) == ["blurry"]
    assert judged(rows, thresholds({"blurry": 0.5}))["blurry_severity"].to_list() == [1.0]


@pytest.mark.parametrize("value", ["much", None, True, float("nan"), float("inf"), 0, -1, [1]])
def test_a_threshold_is_a_number_above_nothing(value: object) -> None:
    with pytest.raises(CurationError, match="the threshold of blurry is a number above 0, not"):
        thresholds({"blurry": value})


def test_a_kind_there_is_not() -> None:
    with pytest.raises(CurationError, match="'blury'; did you mean blurry\\?"):
        thresholds({"blury": 0.4})
    with pytest.raises(CurationError, match="there are blurry, dark, bright"):
        check_kind("tilted")


@pytest.mark.parametrize("kind", KINDS)
def test_a_threshold_finds_what_begins_before_it(kind: str) -> None:
    rng = random.Random(kind)
    rows = []
    for folder, number in (("many", 40), ("few", 5), ("others", 30)):
        for _ in range(number):
            row: dict[str, Any] = {
                name: value * rng.choice((0.1, 0.6, 1.0, 1.1, 2.0)) * rng.uniform(0.8, 1.2)
                for name, value in USUAL.items()
                if isinstance(value, float)
            }
            row |= {"folder": folder, "width": rng.choice((90, 1200, 1250, 9000))}
            rows.append(row)
    table = lake(*rows).with_columns(
        pl.Series(DISTANCE, [rng.lognormvariate(0, 0.4) for _ in rows], pl.Float32),
        pl.Series("least_label_quality", [rng.random() for _ in rows], pl.Float32),
        *(
            pl.Series(name, [rng.randrange(4) for _ in rows], pl.Int64)
            for name in ("labelled_otherwise", "boxes_at_fault", "pairs_across")
        ),
    )
    at = turning_points(table, kind)
    told = KINDS[kind]
    values = [value for value in at.to_list() if value is not None and value > 0]
    for threshold in [told.default, 1.0, 2.0, 3.0, *(rng.choice(values) * rng.uniform(0.9, 1.1) for _ in range(12))]:
        found = judged(table, thresholds({kind: threshold}))[kind]
        begins = at < threshold if told.is_low else at >= threshold if told.is_counted else at > threshold
        assert found.to_list() == begins.fill_null(value=False).to_list()
