"""The MLflow model, "from code": MLflow runs this file when it logs and when it loads the model.

What a request may hold is described in ``clip/rows.py``, what ``model_config`` may set in ``clip/predictor.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, REQUEST_LIMIT_EXCEEDED, TEMPORARILY_UNAVAILABLE

from curation_assets.clip import manifest
from curation_assets.clip.batching import BusyError, ClosedError
from curation_assets.clip.predictor import ClipPredictor, PredictorConfig
from curation_assets.clip.rows import RowError, rows_of


class _Predict:
    """Apart from ``PythonModel``, which warns of a ``predict`` without annotations in a subclass's own body, and of one
    with annotations that don't make a schema; the signature given at registration says it instead.
    """

    predictor: ClipPredictor

    def load_context(self, context: Any) -> None:
        """Check the model's files against its fingerprint and make the predictor.

        Raises:
            CurationError: they don't match, ``model_config`` has an unusable value, or the device isn't there.
        """
        config = PredictorConfig.of(context.model_config)
        folder = Path(context.artifacts[manifest.WEIGHTS])
        found = manifest.check(folder.parent) if config.verify_files else None
        self.predictor = ClipPredictor(folder, config, found.fingerprint if found else None)

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ARG002
        """Embed each row; n rows → (n, dimension) float32. Unannotated, as MLflow takes annotations for a schema.

        Raises:
            MlflowException: a server answers 400 for a row that can't be used (the message names it and says why),
                429 while too many rows are waiting, 503 while it shuts down.
        """
        try:
            return self.predictor.embed_rows(rows_of(model_input, (params or {}).get("input_type")))
        except RowError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        except ClosedError as error:
            raise MlflowException(str(error), error_code=TEMPORARILY_UNAVAILABLE) from None
        except BusyError as error:
            raise MlflowException(str(error), error_code=REQUEST_LIMIT_EXCEEDED) from None
        except Exception as error:  # or MLflow's server answers 400, as if the client were to blame
            raise MlflowException(f"the model failed: {type(error).__name__}: {error}") from error


class ClipEmbedding(_Predict, mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """What MLflow loads."""


mlflow.models.set_model(ClipEmbedding())
