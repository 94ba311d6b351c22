"""What goes into the registry with a model: weights, manifest, golden vectors, code, signature, example, words."""

from __future__ import annotations

import base64
import shutil
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from curation_assets.clip import golden, manifest
from curation_assets.clip.predictor import PredictorConfig
from curation_assets.clip.preprocessing import Preprocessing
from curation_assets.clip.source import CODE_REVISION, ModelSource
from curation_assets.errors import CurationError, first_line

_PACKAGE = Path(__file__).resolve().parent.parent
_REQUIREMENTS = (
    *("imagecodecs", "mlflow", "numpy", "pandas", "pillow", "pybase64", "pydantic", "simplejpeg", "tifffile"),
    *("torch", "transformers"),
)


def package(source: ModelSource, scratch: Path) -> dict[str, Any]:
    """Try a model out, and lay everything out that is stored with it.

    Args:
        source: the model.
        scratch: an empty folder, which must stay until the model is logged.

    Returns:
        Arguments of ``mlflow.pyfunc.log_model``.

    Raises:
        CurationError: the model doesn't work, or its files change meanwhile.
    """
    import pandas as pd  # type: ignore[import-untyped,unused-ignore]

    weights = scratch / manifest.WEIGHTS
    weights.mkdir()
    for file in source.files:
        _link(file.resolve(), weights / file.name)
    manifest.write(scratch / manifest.FOLDER, weights, source.fingerprint)
    _try_out(source, scratch / golden.FOLDER)
    example = pd.DataFrame(
        {
            "image": [base64.b64encode(golden.example_image()).decode(), None],
            "text": [None, "a photo of a maize leaf with rust"],
        },
        dtype=object,  # or None becomes NaN, which is no JSON
    )
    return {
        "python_model": str(Path(__file__).with_name("mlflow_model.py")),
        "artifacts": {name: str(scratch / name) for name in (manifest.WEIGHTS, manifest.FOLDER, golden.FOLDER)},
        "code_paths": [str(_package_subset(scratch))],
        "model_config": PredictorConfig().model_dump(),  # only keys named here can be set when loading
        "signature": signature(),
        "input_example": example,
        "pip_requirements": [f"{name}=={_plain_version(name)}" for name in _REQUIREMENTS],
        "metadata": tags(source),
    }


def tags(source: ModelSource) -> dict[str, str]:
    """What a version's tags say of its model, without the prefix."""
    values = {
        "fingerprint": source.fingerprint,
        "dimension": source.dimension,
        "image_size": source.image_size,
        "parameters": source.parameters,
        "source": source.name,
        "revision": source.hub_commit,
        "code_revision": CODE_REVISION,
        "demonstration": source.demonstration,
    }
    return {key: str(value) for key, value in values.items()}


def description(source: ModelSource) -> str:
    """What a version's page says of it."""
    preprocessing = Preprocessing.from_folder(source.folder)
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    return (
        f"CLIP from {source.name}{f' (commit {source.hub_commit})' if source.hub_commit else ''}: an image or a text "
        f"to one unit-length vector of {source.dimension} float32 numbers. Images are turned upright, laid over white, "
        f"resized to a shortest edge of {preprocessing.resize} pixels (bicubic), cropped to {preprocessing.crop} x "
        f"{preprocessing.crop} in the middle, scaled to 0–1 and normalised (mean {mean}; std {std}). Texts are cut "
        "after 77 tokens. Rows have `image` (base64 or data URL) or `text`; or `input_data`, or one column without a "
        "name, with the parameter `input_type`."
        + (" For demonstration, not for decisions." if source.demonstration else "")
    )


def signature() -> Any:
    """Optional string columns for each contract of ``clip/rows.py``, the parameter ``input_type``, a vector a row.

    MLflow drops columns that a signature doesn't name before the model sees them, and a column without a name arrives
    as number 0: so 0 is a name here, which must come first. Strings, as tools everywhere know them; MLflow lets other
    values through in a mixed column, so the model checks every value itself.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    names = (0, "image", "text", "input_data")
    return ModelSignature(
        inputs=Schema([ColSpec("string", name, required=False) for name in names]),
        outputs=Schema([ColSpec(Array(DataType.float))]),
        params=ParamSchema([ParamSpec("input_type", DataType.string, "")]),
    )


def _try_out(source: ModelSource, folder: Path) -> None:
    """Compute the model's golden vectors.

    Raises:
        CurationError: the model can't; the message says why.
    """
    try:
        from curation_assets.clip.encoder import Encoder

        encoder = Encoder(source.folder, "cpu", "float32")
        golden.write(folder, encoder, source.dimension)
    except Exception as error:  # whatever transformers and torch make of files that don't fit each other
        raise CurationError(
            f"CURATION_MODEL_SOURCE={source.name}: {source.folder} holds no working CLIP model: {first_line(error)}; "
            "put its files right, or choose another CURATION_MODEL_SOURCE"
        ) from error


def _link(file: Path, target: Path) -> None:
    """Hard link, or a copy across file systems; MLflow refuses symbolic links, and the hub's cache is made of them."""
    try:
        target.hardlink_to(file)
    except OSError:
        shutil.copy(file, target)


def _package_subset(scratch: Path) -> Path:
    """Copy of the modules that a loaded model needs, so that it runs where this package isn't installed."""
    target = scratch / _PACKAGE.name
    target.mkdir()
    for name in ("__init__.py", "errors.py", "callers.py"):
        shutil.copy(_PACKAGE / name, target)
    for name in ("images", "clip"):
        # without the folder of demo weights, which a model of other weights has no use for
        shutil.copytree(_PACKAGE / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "demo_model"))
    return target


def _plain_version(distribution: str) -> str:
    """Installed version without a local build's mark (``2.13.0+cpu``), which other machines can't install."""
    return installed_version(distribution).split("+")[0]
