"""The vocabulary of the renderer: what can be drawn, and in which words its parts are described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["leaf", "fruit", "field"]


@dataclass(frozen=True)
class Scene:
    """One kind of photograph.

    Attributes:
        name: the class, such as ``coffee_rust``.
        group: what it shows.
        species: the plant.
        condition: of a leaf: ``healthy`` or a disease; of a fruit: where it is; of a field: what stands there.
    """

    name: str
    group: Group
    species: str
    condition: str


def _scenes(group: Group, *rows: tuple[str, str]) -> list[Scene]:
    return [
        Scene(f"{species}_{condition}" if condition else species, group, species, condition)
        for species, condition in rows
    ]


SCENES: dict[str, Scene] = {
    scene.name: scene
    for scene in (
        *_scenes(
            "leaf",
            ("coffee", "healthy"),
            ("coffee", "leaf_miner"),
            ("coffee", "rust"),
            ("coffee", "phoma"),
            ("coffee", "cercospora"),
            ("maize", "healthy"),
            ("maize", "rust"),
            ("maize", "blight"),
            ("wheat", "healthy"),
            ("wheat", "rust"),
            ("tomato", "healthy"),
            ("tomato", "blight"),
            ("tomato", "yellowing"),
            ("grape", "healthy"),
            ("grape", "powdery_mildew"),
            ("bean", "healthy"),
            ("bean", "rust"),
            ("banana", "healthy"),
            ("banana", "sigatoka"),
            ("cabbage", "healthy"),
            ("cabbage", "caterpillar_holes"),
        ),
        *_scenes(
            "fruit",
            ("apple", ""),
            ("banana", ""),
            ("orange", ""),
            ("mixed_fruit", ""),
            ("tomato", ""),
            ("grapes", ""),
            ("apple", "tree"),
            ("orange", "tree"),
        ),
        *_scenes(
            "field",
            ("maize", "rows"),
            ("wheat", "field"),
            ("rice", "paddy"),
            ("rice", "weeds"),
            ("row", "weeds"),
            ("soil", "seedlings"),
            ("cauliflower", "weeds"),
            ("sunflower", "field"),
        ),
    )
}
