"""``clip_model``: the CLIP version that embeddings are made with."""

from typing import Any

import dagster as dg

from curation_assets.defs import metadata as md
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.tags import OWNERS
from curation_assets.errors import CurationError

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
    try:
        model, is_new = pipeline.register_model()
        overruled = pipeline.registry.overruled()
    except CurationError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    context.log.info("%s is %s", model.uri, "a new version" if is_new else "registered already")
    facts: dict[str, Any] = {
        "version": model.version,
        "uri": model.uri,
        "fingerprint": model.fingerprint,
        "dimension": model.dimension,
        "image size": model.image_size,
        "parameters": model.parameters,
        "source": model.source,
        "mlflow run": md.mlflow_run(pipeline, model),
        "new version": is_new,
    }
    if model.untrained:
        facts["note"] = dg.MetadataValue.md(md.UNTRAINED_NOTE)
    if overruled is not None:
        promoted = (
            f"version {model.version} was promoted and stays; CURATION_MODEL_SOURCE is version {overruled.version}"
        )
        context.log.warning(promoted)
        facts["promoted"] = promoted
    return dg.MaterializeResult(data_version=dg.DataVersion(model.fingerprint), metadata=facts)
