"""``clip_model``: the CLIP version that embeddings are made with."""

from typing import Any

import dagster as dg

from curation_assets.clip.versions import RegisteredModel
from curation_assets.defs import metadata as md
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import failing_for_good
from curation_assets.defs.tags import OWNERS
from curation_assets.pipeline import Pipeline

NAME = "clip_model"


@dg.asset(
    name=NAME,
    group_name="model",
    owners=OWNERS,
    kinds={"mlflow", "huggingface"},
    description="CLIP, image and text to one vector space, from `CURATION_MODEL_SOURCE`, registered in MLflow; the "
    "version that embeddings and search use is the registry's champion. The same weights, preprocessing and code "
    "register no second version, and leave embeddings fresh.",
)
def clip_model(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Register the model, or find it registered; the result is the champion."""
    pipeline = curation.pipeline()
    with failing_for_good():
        chosen = pipeline.selection.choose()
    model = chosen.model
    context.log.info("%s is %s", model.uri, "a new version" if chosen.is_new else "registered already")
    metadata = model_facts(pipeline, model, chosen.overruled) | {"new version": chosen.is_new}
    if chosen.unavailable is not None:
        context.log.warning("%s was chosen by hand and stays; %s", model.uri, chosen.unavailable)
        metadata["source unavailable"] = chosen.unavailable
    return dg.MaterializeResult(data_version=dg.DataVersion(model.fingerprint), metadata=metadata)


def model_facts(pipeline: Pipeline, model: RegisteredModel, overruled: RegisteredModel | None) -> dict[str, Any]:
    """What the asset's page shows of the champion.

    Args:
        overruled: the version of ``MODEL_SOURCE``, where another is the champion.
    """
    shown: dict[str, Any] = {
        "version": model.version,
        "uri": model.uri,
        "fingerprint": model.fingerprint,
        "dimension": model.dimension,
        "image size": model.image_size,
        "parameters": model.parameters,
        "source": model.source,
        "mlflow run": md.mlflow_run(pipeline, model),
    }
    if model.demonstration:
        shown["note"] = dg.MetadataValue.md(md.DEMONSTRATION_NOTE)
    if overruled is not None:
        shown["promoted"] = (
            f"version {model.version} was promoted and stays; CURATION_MODEL_SOURCE is version {overruled.version}"
        )
    return shown
