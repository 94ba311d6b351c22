"""``clip_endpoint``: the champion behind a serving endpoint, where the registry is one of a Databricks workspace."""

import dagster as dg

from curation_assets.defs import metadata as md
from curation_assets.defs.clip_model import clip_model
from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import failing_for_good, progress
from curation_assets.defs.tags import OWNERS
from curation_assets.serving.databricks import EndpointConfig, deploy

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
