from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from curation_assets.demo.scenes import SCENES
from training.captions import (
    CLASSES,
    EVALUATION_CAPTION,
    REAL_CLASSES,
    captions,
    queries,
    real_class,
)


def test_every_scene_and_every_real_class_has_words() -> None:
    assert set(CLASSES) == set(SCENES) | set(REAL_CLASSES) == set(EVALUATION_CAPTION)
    assert len(REAL_CLASSES) == 26


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_has_many_captions_without_doubles_and_the_one_for_evaluation_among_them(name: str) -> None:
    texts = captions(name)
    assert len(texts) == len(set(texts)) >= 12
    assert EVALUATION_CAPTION[name] in texts
    assert all(text == text.strip() and "  " not in text and "{" not in text for text in texts)
    assert not any(" a a" in f" {text}" or " a an " in f" {text}" for text in texts)


def test_no_caption_describes_two_classes() -> None:
    said = Counter(text for name in CLASSES for text in captions(name))
    assert [text for text, times in said.items() if times > 1] == []


def test_evaluation_captions_differ() -> None:
    assert len(set(EVALUATION_CAPTION.values())) == len(CLASSES)


def test_an_unknown_class_has_no_captions() -> None:
    with pytest.raises(KeyError):
        captions("unicorn")


def test_a_broad_query_is_asked_once_and_answered_by_known_classes() -> None:
    texts = [text for text, _ in queries()]
    assert len(texts) == len(set(texts))
    assert all(classes and classes <= set(CLASSES) for _, classes in queries())


@pytest.mark.parametrize(
    ("text", "some", "none"),
    [
        ("rust on a leaf", {"coffee_rust", "maize_rust", "wheat_rust", "bean_rust"}, {"coffee_healthy", "apple"}),
        ("a healthy leaf", {"coffee_healthy", "grape_healthy"}, {"coffee_rust", "orange"}),
        ("a fruit", {"apple", "grapes", "orange_tree"}, {"banana_healthy", "maize_rows"}),
        ("weeds", {"row_weeds", "rice_weeds", "cauliflower_weeds"}, {"soil_seedlings"}),
        ("a coffee leaf", {"coffee_healthy", "coffee_phoma"}, {"maize_healthy"}),
        ("a leaf with spots", {"coffee_cercospora", "coffee_rust"}, {"coffee_healthy"}),
        ("an insect on rice", {"rice_armyworm", "rice_thrips"}, {"rice_paddy", "rice_weeds"}),
        ("a caterpillar", {"rice_armyworm", "rice_horned_caterpillar"}, {"rice_spiny_beetle"}),
    ],
)
def test_a_search_for_part_of_a_description_is_answered_by_all_that_it_fits(
    text: str, some: set[str], none: set[str]
) -> None:
    answer = dict(queries())[text]
    assert some <= answer
    assert not none & answer


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("coffee/val/3_rust/12.jpg", "coffee_rust"),
        ("coffee/train/1_health/a b.JPG", "coffee_healthy"),
        ("rice/Weed_test/1.jpg", "rice_weeds"),
        ("rice/Weed_train/1.jpg", "rice_weeds"),
        ("rice/Armyworms/1.jpg", "rice_armyworm"),
        ("cauliflower_weed/400x300/validation/7.jpg", "cauliflower_weeds"),
        ("fruit/train/mixed_3.jpg", "mixed_fruit"),
        ("fruit/train/apple_3.xml", None),
        ("fruit/train/kiwi_3.jpg", None),
        ("coffee/train/9_other/1.jpg", None),
        ("licenses/coffee.txt", None),
        ("README.md", None),
    ],
)
def test_the_class_of_a_real_photograph_follows_from_where_it_lies(path: str, name: str | None) -> None:
    assert real_class(path) == name


def test_every_real_photograph_has_a_class_and_every_class_photographs(crop_photos: Path) -> None:
    found: Counter[str | None] = Counter()
    for directory, _, files in os.walk(crop_photos):
        for file in files:
            if file.lower().endswith((".jpg", ".jpeg", ".png")):
                found[real_class(os.path.relpath(os.path.join(directory, file), crop_photos))] += 1
    assert found.total() == 4236
    assert set(found) == set(REAL_CLASSES)
