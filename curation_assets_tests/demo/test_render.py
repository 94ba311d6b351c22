from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from curation_assets.demo.render import SIZES, render
from curation_assets.demo.scenes import SCENES

Pixels = NDArray[np.uint8]


def pixels(scene: str, seed: int, size: tuple[int, int] = (96, 96)) -> Pixels:
    return np.asarray(render(scene, random.Random(seed), size))


def orange_share(image: Pixels) -> float:
    """Share of pixels as orange as rust."""
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    return float(((red > green + 30) & (green > blue + 20) & (red > 110)).mean())


@pytest.mark.parametrize("scene", SCENES)
def test_a_seed_draws_the_same_photograph_and_another_seed_another(scene: str) -> None:
    assert np.array_equal(pixels(scene, 3), pixels(scene, 3))
    assert not np.array_equal(pixels(scene, 3), pixels(scene, 4))


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (200, 17), (8, 150), (451, 201)])
def test_every_scene_is_drawn_in_odd_sizes(scene: str, size: tuple[int, int]) -> None:
    image = render(scene, random.Random(5), size)
    assert (image.mode, image.size) == ("RGB", size)


@pytest.mark.parametrize("scene", SCENES)
def test_no_photograph_is_blank(scene: str) -> None:
    for seed in range(3):
        assert pixels(scene, seed).std() > 8


def test_without_a_size_a_usual_one_is_taken() -> None:
    assert {render("apple", random.Random(seed)).size for seed in range(12)} <= set(SIZES)


def test_drawing_leaves_the_global_random_numbers_alone() -> None:
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    render("row_weeds", random.Random(2), (64, 64))
    assert (random.random(), np.random.random()) == expected


def test_an_unknown_scene_is_refused() -> None:
    with pytest.raises(KeyError):
        render("unicorn", random.Random(1))


@pytest.mark.parametrize("species", ["coffee", "maize", "wheat", "bean"])
def test_leaves_with_rust_are_more_orange_than_healthy_ones(species: str) -> None:
    rusty = np.median([orange_share(pixels(f"{species}_rust", seed)) for seed in range(12)])
    healthy = np.median([orange_share(pixels(f"{species}_healthy", seed)) for seed in range(12)])
    assert rusty > healthy + 0.005


def test_a_photograph_is_about_the_same_in_another_size() -> None:
    """Geometry is relative: the same scene large and small differs in detail, not in what stands where."""
    means = [pixels("sunflower_field", 1, size).mean(axis=(0, 1)) for size in ((120, 90), (480, 360), (1200, 900))]
    for one, other in pairwise(means):
        assert np.abs(one - other).max() < 25
