"""The MLflow model, "from code": MLflow runs this file when it logs and when it loads the model.

Input: a frame with a column ``image`` (base64 of an image file, or a data URL of one) or ``text``, or both with one
filled in each row. Output: one unit-length vector of floats a row, in order.
"""

from __future__ import annotations

import binascii
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pybase64
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

MAX_PIXELS = 200_000_000


class ClipPredictor:
    """Images and texts → vectors, with the package's own encoder.

    Apart from ``PythonModel``, which warns of a ``predict`` without annotations in a subclass's own body, and of one
    with annotations that don't make a schema; the signature given at registration says it instead.
    """

    def load_context(self, context: Any) -> None:
        """Load the encoder; ``model_config`` may set ``device`` and ``precision``."""
        from curation_assets.clip.encoder import Encoder

        config = context.model_config or {}
        folder = Path(context.artifacts["clip"])
        self._encoder = Encoder(folder, config.get("device", "auto"), config.get("precision", "auto"))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Embed each row; (n,) rows → n lists of floats. Unannotated, as MLflow takes annotations for a schema.

        Raises:
            MlflowException: a row can't be used; the message names the row and says why. A server answers 400.
        """
        images: dict[int, Any] = {}
        texts: dict[int, str] = {}
        if not len(model_input.columns):  # MLflow drops columns that the signature doesn't name, and their rows
            raise MlflowException("give a column `image` or `text`", error_code=INVALID_PARAMETER_VALUE)
        for row, values in enumerate(model_input.to_dict("records")):
            image, text = _value(values, "image", row), _value(values, "text", row)
            if (image is None) == (text is None):
                raise _bad(row, "give either `image` or `text`")
            if text is not None:
                texts[row] = text
            else:
                images[row] = self._pixels(row, image or "")
        vectors: list[list[float]] = [[] for _ in range(len(images) + len(texts))]
        if images:
            _place(vectors, images, self._encoder.embed_images(np.stack(list(images.values()))))
        if texts:
            _place(vectors, texts, self._encoder.embed_texts(list(texts.values())))
        return vectors

    def _pixels(self, row: int, image: str) -> Any:
        from curation_assets.images.decode import ImageError

        payload = image.partition(",")[2] if image.startswith("data:") else image
        try:
            return self._encoder.preprocessing.load(pybase64.b64decode(payload, validate=True), MAX_PIXELS)
        except (binascii.Error, ValueError):
            raise _bad(row, "`image` is not base64") from None
        except ImageError as error:
            raise _bad(row, str(error)) from None


def _place(vectors: list[list[float]], rows: dict[int, Any], embedded: Any) -> None:
    for row, vector in zip(rows, embedded, strict=True):
        if not np.isfinite(vector).all():
            raise _bad(row, "the model has no vector for it")
        vectors[row] = vector.tolist()


def _value(values: dict[str, Any], column: str, row: int) -> str | None:
    value = values.get(column)
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    if not isinstance(value, str):
        raise _bad(row, f"`{column}` must be a string, not {type(value).__name__}")
    return value


def _bad(row: int, reason: str) -> MlflowException:
    return MlflowException(f"row {row}: {reason}", error_code=INVALID_PARAMETER_VALUE)


class ClipEmbedding(ClipPredictor, mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """What MLflow loads."""


mlflow.models.set_model(ClipEmbedding())
