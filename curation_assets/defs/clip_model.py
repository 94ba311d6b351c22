"""``clip_model``: the CLIP version that embeddings are made with."""

from typing import Any

import dagster as dg

from curation_assets.defs.metadata import UNTRAINED_NOTE
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.tags import OWNERS
from curation_assets.errors import CurationError

NAME = "clip_model"


@dg.asset(
    name=NAME,
    group_name="model",
    owners=OWNERS,
    kinds={"mlflow", "huggingface"},
    description="CLIP, image and text to one vector space, from `CURATION_MODEL_SOURCE`, registered in MLflow. The "
    "same weights, preprocessing and code register no second version, and leave embeddings fresh.",
)
def clip_model(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Register the model, or find it registered."""
    try:
        model, is_new = curation.pipeline().register_model()
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
        "mlflow run": model.run_id,
        "new version": is_new,
    }
    note = {"note": dg.MetadataValue.md(UNTRAINED_NOTE)} if model.untrained else {}
    return dg.MaterializeResult(data_version=dg.DataVersion(model.fingerprint), metadata=facts | note)
