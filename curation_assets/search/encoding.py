"""Texts and images that are searched for, as vectors of a model version; those of texts are remembered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from curation_assets.clip.versions import RegisteredModel
from curation_assets.errors import CurationError
from curation_assets.images.guard import DecodeOptions
from curation_assets.search.query import Picture

if TYPE_CHECKING:
    from curation_assets.clip.encoder import Encoder

_TEXT_VECTORS = 4096  # kept, as people go on from what they searched for


class QueryEncoder:
    """Makes vectors of what is searched for. Threads may share it: one at a time is at work.

    Args:
        encoder: loads a version's encoder.
    """

    def __init__(self, encoder: Callable[[RegisteredModel], Encoder]) -> None:
        self._encoder = encoder
        self._encoding = threading.Lock()  # held while the encoder works
        self._lock = threading.Lock()  # of the texts' vectors, for moments
        self._texts: LRUCache[tuple[str, str], NDArray[np.float32]] = LRUCache(_TEXT_VECTORS)

    def texts(self, texts: Iterable[str], model: RegisteredModel) -> NDArray[np.float32]:
        """(n, dimension) unit vectors of some texts; those asked for before are remembered.

        Raises:
            CurationError: the model makes no usable vector of one of them.
        """
        texts = list(texts)
        with self._lock:
            known = {text: self._texts.get((model.uri, text)) for text in texts}
        new = [text for text, vector in known.items() if vector is None]
        if new:
            with self._encoding:
                made = self._encoder(model).embed_texts(new)
            if not np.isfinite(made).all():
                bad = new[int(np.argmin(np.isfinite(made).all(axis=1)))]
                raise CurationError(f"{model.name} version {model.version} makes no usable vector of the text {bad!r}")
            known |= dict(zip(new, made, strict=True))
            with self._lock:
                self._texts.update({(model.uri, text): vector for text, vector in zip(new, made, strict=True)})
        found = [vector for text in texts if (vector := known[text]) is not None]
        return np.stack(found) if found else np.empty((0, model.dimension), np.float32)

    def image(self, data: bytes, decode: DecodeOptions, name: str, model: RegisteredModel) -> Picture:
        """An image's bytes → the part of a query that looks for images like it.

        Args:
            decode: how it is decoded.
            name: how the query tells of it.

        Raises:
            CurationError: it can't be used; the message says why.
        """
        from curation_assets.images.errors import ImageError

        with self._encoding:
            encoder = self._encoder(model)
        try:
            pixels = encoder.preprocessing.load(data, decode)
        except ImageError as error:
            why = str(error)
            if error.status == "too_large" and error.size is not None:
                why = (
                    f"{error.size[0]} x {error.size[1]} pixels are more than the {decode.max_pixels:,} that are allowed"
                )
            raise CurationError(f"{name}: {why}") from None
        with self._encoding:
            (vector,) = encoder.embed_images(pixels[None])
        if not np.isfinite(vector).all():
            raise CurationError(f"{name}: the model makes no usable vector of it")
        return Picture(vector, model.fingerprint, name)
