"""``clip_model``: the CLIP version that embeddings are made with; ``clip_endpoint``: the same on Databricks."""

from typing import Any

import dagster as dg

from curation_assets.clip.versions import RegisteredModel
from curation_assets.defs import metadata as md
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import failing_for_good, progress
from curation_assets.defs.tags import OWNERS
from curation_assets.pipeline import Pipeline
from curation_assets.serving.databricks import EndpointConfig, deploy

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


register_clip_model = dg.define_asset_job(
    "register_clip_model",
    selection=[clip_model],
    description="Register the CLIP model of CURATION_MODEL_SOURCE.",
)

# Made once by hand, as an endpoint costs money; from then on it follows the champion.
WHEN_PROMOTED = (
    dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed()).since(
        dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    )
    & ~dg.AutomationCondition.missing()
    & ~dg.AutomationCondition.in_progress()
)


@dg.asset(
    deps=[clip_model],
    automation_condition=WHEN_PROMOTED,
    group_name="model",
    owners=OWNERS,
    kinds={"databricks"},
    description="A Databricks serving endpoint that serves the champion: created or updated, and waited for. Serving "
    "it already, it is left alone. After the first materialization it follows promotions by itself.",
)
def clip_endpoint(context: dg.AssetExecutionContext, curation: CurationResource) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Deploy the champion."""
    pipeline = curation.pipeline()
    settings = pipeline.settings
    config = EndpointConfig(
        name=settings.endpoint_name,
        workload_size=settings.endpoint_workload_size,
        workload_type=settings.endpoint_workload_type,
        scale_to_zero=settings.endpoint_scale_to_zero,
        timeout_minutes=settings.endpoint_timeout_minutes,
    )
    with failing_for_good():
        model = pipeline.registry.champion()
        done = deploy(model, config, progress(context))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(model.fingerprint),
        metadata={
            "endpoint": config.name,
            "action": done.action,
            "state": done.state,
            "url": dg.MetadataValue.url(done.url),
            "page": dg.MetadataValue.url(done.page),
            "model": model.uri,
            "version": model.version,
            "mlflow run": md.mlflow_run(pipeline, model),
            "configuration": done.config_version,
        },
    )


endpoint_automation_sensor = dg.AutomationConditionSensorDefinition(
    "endpoint_automation_sensor",
    target=dg.AssetSelection.assets(clip_endpoint),
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Lets an endpoint that was made follow the champion.",
)
