"""What is looked for: texts, images and stored images, wanted or not, made into one unit vector.

The vector is the weighted sum of the wanted ones' unit vectors less the weighted sum of the unwanted ones', brought to
unit length: so a score is the cosine of an image with that sum, whatever the query is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curation_assets.errors import CurationError

_SMALLEST = 1e-4  # length of a sum that has no direction worth following


@dataclass(frozen=True)
class Text:
    """A text that images should, or with a negative weight should not, show; of a long one 77 tokens count."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Like:
    """A stored image, by its relative path, that images should resemble."""

    relative_path: str
    weight: float = 1.0


@dataclass(frozen=True)
class Picture:
    """An image that isn't stored.

    Attributes:
        vector: (dimension,) its unit vector.
        model_fingerprint: of the model that made it, and that has to be searched with.
        name: how the query tells of it.
    """

    vector: NDArray[np.float32]
    model_fingerprint: str
    name: str = "an image"
    weight: float = 1.0


@dataclass(frozen=True)
class Query:
    """Parts that together say what is looked for; without any, images come in the order of their paths."""

    parts: tuple[Text | Like | Picture, ...] = ()

    def __post_init__(self) -> None:
        for part in self.parts:
            if not math.isfinite(part.weight) or part.weight == 0:
                raise CurationError(f"weight {part.weight}: give a number other than 0")
            if isinstance(part, Text):
                check_text(part.text)
        if self.parts and all(part.weight < 0 for part in self.parts):
            raise CurationError("say what to look for too, not only what not")

    def __bool__(self) -> bool:
        return bool(self.parts)

    @property
    def likes(self) -> tuple[str, ...]:
        """Keys of the stored images it names."""
        return tuple(part.relative_path for part in self.parts if isinstance(part, Like))

    def facts(self) -> list[dict[str, Any]]:
        """The parts as JSON can hold them."""
        return [
            ({"text": part.text} if isinstance(part, Text) else {})
            | ({"like": part.relative_path} if isinstance(part, Like) else {})
            | ({"image": part.name} if isinstance(part, Picture) else {})
            | {"weight": part.weight}
            for part in self.parts
        ]

    def describe(self) -> str:
        """The query in a line, for people."""
        said = []
        for part in self.parts:
            sign = "not " if part.weight < 0 else ""
            factor = f" × {abs(part.weight):g}" if abs(part.weight) != 1 else ""
            said.append(f"{sign}{_name(part)}{factor}")
        return " + ".join(said) if said else "all images"

    def vector(
        self,
        embed_texts: Callable[[list[str]], NDArray[np.float32]],
        vector_of: Callable[[str], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        """(1, dimension) unit vector.

        Args:
            embed_texts: texts → (n, dimension) unit vectors.
            vector_of: relative path of a stored image → its unit vector.

        Raises:
            CurationError: the parts cancel each other out.
        """
        texts = [part.text for part in self.parts if isinstance(part, Text)]
        of_texts = iter(embed_texts(texts)) if texts else iter(())
        total: Any = 0.0
        for part in self.parts:
            one: NDArray[np.float32]
            if isinstance(part, Text):
                one = next(of_texts)
            elif isinstance(part, Like):
                one = vector_of(part.relative_path)
            else:
                one = part.vector
            total = total + part.weight * one.astype(np.float64)
        with np.errstate(over="ignore"):
            length = float(np.linalg.norm(total))
        if not _SMALLEST < length < math.inf:
            raise CurationError("the parts of this query cancel each other out, or weigh too much")
        return np.asarray(total / length, np.float32)[None, :]


def check_text(text: str) -> None:
    """Refuse a text that a model can make nothing of.

    Raises:
        CurationError: it is empty, or holds bytes that are not UTF-8.
    """
    if not text.strip():
        raise CurationError("a text to search for is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise CurationError(f"the text {text!r} is not valid UTF-8") from None


def _name(part: Text | Like | Picture) -> str:
    if isinstance(part, Text):
        return f"“{part.text}”"
    return f"like {part.relative_path}" if isinstance(part, Like) else part.name
