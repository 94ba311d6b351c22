"""``lake_maintenance``: what ``curation maintain`` does, as a job that may be scheduled."""

import dagster as dg

from curation_assets.defs.resources import CurationResource
from curation_assets.defs.running import progress, trying_again
from curation_assets.defs.tags import OWNERS
from curation_assets.maintain import maintain

NAME = "lake_maintenance"


class MaintenanceConfig(dg.Config):
    """What may be chosen in the launchpad."""

    retention_hours: int = 168
    dry_run: bool = False


@dg.asset(
    name=NAME,
    group_name="upkeep",
    owners=OWNERS,
    kinds={"deltalake"},
    description="Joins small files of the tables, lets go of vectors and indexes of model versions that nobody uses, "
    "and deletes files that no version of the last week names: what `curation maintain` does. `maintain_lake_weekly` "
    "runs it once it is switched on.",
)
def lake_maintenance(
    context: dg.AssetExecutionContext, curation: CurationResource, config: MaintenanceConfig
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Tidy up the lake."""
    with trying_again(context):
        report = maintain(
            curation.pipeline(), progress(context), retention_hours=config.retention_hours, dry_run=config.dry_run
        )
    facts: dict[str, dg.MetadataValue] = {
        "dry run": dg.MetadataValue.bool(config.dry_run),
        "versions kept": dg.MetadataValue.text(", ".join(report.kept) or "none is registered"),
        "indexes deleted": dg.MetadataValue.json(report.indexes),
        "MB given back": dg.MetadataValue.float(
            round((report.index_bytes + sum(t.vacuumed_bytes + t.unfinished_bytes for t in report.tables)) / 1e6, 3)
        ),
    }
    for table in report.tables:
        facts[f"{table.table}: small files joined"] = dg.MetadataValue.int(table.joined)
        facts[f"{table.table}: files of old versions deleted"] = dg.MetadataValue.int(table.vacuumed)
        facts[f"{table.table}: vectors let go"] = dg.MetadataValue.int(table.dropped_rows)
    return dg.MaterializeResult(metadata=facts)


maintain_lake = dg.define_asset_job(
    "maintain_lake", dg.AssetSelection.assets(lake_maintenance), description="What `curation maintain` does."
)
maintain_lake_weekly = dg.ScheduleDefinition(
    name="maintain_lake_weekly",
    job=maintain_lake,
    cron_schedule="0 3 * * 0",
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Sundays at three, once it is switched on.",
)
